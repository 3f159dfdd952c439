// Small pieces of the page, built of elements and text.

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

function svg(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// A bar of a share of 1, as charts.py draws it.
function bar(share) {
  const picture = svg("svg", { class: "bar", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" });
  const width = (100 * Math.min(Math.max(share, 0), 1)).toFixed(2);
  picture.append(
    svg("rect", { class: "back", width: 100, height: 8, rx: 1 }),
    svg("rect", { class: "plain", width, height: 8, rx: 1 }),
  );
  return picture;
}

function percent(share) {
  if (share > 0 && share < 0.001) return "<\u00a00.1\u00a0%";
  return (100 * share).toFixed(1) + "\u00a0%";
}

const grade = (name) => element("span", { class: `grade ${name}` }, name);

const packetName = (packet) => `packet ${packet.number}`;
