// The session as the model sees it: a tile a packet, a pixel a byte, attributions in colour.

const SIDE = 16; // bytes
const COLOURS = { for: [240, 98, 28], against: [60, 130, 230], strongest: 0.9, grey: 0.55 };

function sessionPicture(section, data, choose) {
  const figure = section.querySelector(".picture");
  const still = figure.querySelector("img");
  const scale = data.rows > 4 ? 5 : data.rows > 2 ? 6 : 9; // pixels a byte
  const canvas = element("canvas", {
    role: "img", "aria-label": still.alt, width: data.columns * SIDE * scale, height: data.rows * SIDE * scale,
  });
  canvas.style.maxWidth = `${canvas.width}px`;
  still.replaceWith(canvas);
  canvas.addEventListener("click", (event) => {
    const box = canvas.getBoundingClientRect();
    const across = Math.floor(((event.clientX - box.left) / box.width) * data.columns);
    const down = Math.floor(((event.clientY - box.top) / box.height) * data.rows);
    const packet = down * data.columns + across;
    if (packet < data.packets.length) choose(packet);
  });
  const pen = canvas.getContext("2d");

  const drawTile = (packet, method, left, top) => {
    const levels = levelsOf(method, packet);
    for (let at = 0; at < packet.length; at += 1) {
      const way = levels[at] < 0 ? COLOURS.against : COLOURS.for;
      const opacity = (COLOURS.strongest * Math.abs(levels[at])) / FULL;
      // What the mask hides is not the value that the model sees: it stays dark.
      const grey = packet.hidden[at] ? 0 : COLOURS.grey * packet.bytes[at];
      const mixed = way.map((part) => Math.round(grey * (1 - opacity) + part * opacity));
      pen.fillStyle = `rgb(${mixed.join(" ")})`;
      pen.fillRect(left + (at % SIDE) * scale, top + Math.floor(at / SIDE) * scale, scale, scale);
    }
  };

  return (method, chosen) => {
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    const size = SIDE * scale;
    const letters = Math.max(10, 1.4 * scale); // pixels
    pen.font = `bold ${letters}px sans-serif`;
    pen.textBaseline = "top";
    data.packets.slice(0, data.columns * data.rows).forEach((packet, index) => {
      const left = (index % data.columns) * size;
      const top = Math.floor(index / data.columns) * size;
      drawTile(packet, method, left, top);
      pen.strokeStyle = "rgb(255 255 255 / .35)";
      pen.lineWidth = 1;
      pen.strokeRect(left + 0.5, top + 0.5, size, size);
      const label = String(packet.number);
      pen.fillStyle = "rgb(0 0 0 / .65)";
      pen.fillRect(left + 2, top + 2, pen.measureText(label).width + 6, letters + 4);
      pen.fillStyle = packet.direction ? "#ffbd70" : "#8cc8ff";
      pen.fillText(label, left + 5, top + 4);
    });
    if (chosen >= data.columns * data.rows) return;
    pen.strokeStyle = "#fff";
    pen.lineWidth = 3;
    pen.strokeRect((chosen % data.columns) * size + 1.5, Math.floor(chosen / data.columns) * size + 1.5, size - 3, size - 3);
  };
}
