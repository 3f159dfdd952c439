// The fields of one packet as a tree: layers, and in them fields with value, bytes and share.

const range = (start, end) => (end - start > 1 ? `${start}–${end - 1}` : String(start));

function fieldTree(choose) {
  const tree = element("ul", { role: "tree", class: "tree" });
  let items = []; // of each field its item
  const closed = new Set(); // titles of layers that the reader has closed: they stay so

  const row = (name, value, bytes, share) =>
    element(
      "span", { class: "row" },
      element("span", { class: "name" }, name),
      element("span", { class: "value" }, value),
      element("span", { class: "range", title: "bytes of the tile" }, bytes),
      element("span", { class: "share" }, bar(share), " ", percent(share)),
    );

  const toggle = (item, open) => {
    item.setAttribute("aria-expanded", String(open));
    if (open) closed.delete(item.dataset.title);
    else closed.add(item.dataset.title);
  };
  const shown = () => [...tree.querySelectorAll("[role=treeitem]")].filter((item) => item.offsetParent);
  const focusOn = (item) => {
    for (const other of tree.querySelectorAll("[tabindex='0']")) other.tabIndex = -1;
    item.tabIndex = 0;
    item.focus({ preventScroll: true });
    item.firstElementChild.scrollIntoView({ block: "nearest" });
    if (item.dataset.field) choose(Number(item.dataset.field));
  };

  tree.addEventListener("click", (event) => {
    const item = event.target.closest("[role=treeitem]");
    if (!item) return;
    if (item.hasAttribute("aria-expanded")) toggle(item, item.getAttribute("aria-expanded") !== "true");
    focusOn(item);
  });
  tree.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const item = event.target.closest("[role=treeitem]");
    const visible = shown();
    const at = visible.indexOf(item);
    const open = item.getAttribute("aria-expanded");
    const parent = item.parentElement.closest("[role=treeitem]");
    const moves = {
      ArrowDown: () => focusOn(visible[Math.min(at + 1, visible.length - 1)]),
      ArrowUp: () => focusOn(visible[Math.max(at - 1, 0)]),
      Home: () => focusOn(visible[0]),
      End: () => focusOn(visible[visible.length - 1]),
      ArrowRight: () => (open === "false" ? toggle(item, true) : open && focusOn(visible[at + 1])),
      ArrowLeft: () => (open === "true" ? toggle(item, false) : parent && focusOn(parent)),
      Enter: () => open && toggle(item, open !== "true"),
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    event.stopPropagation();
    moves[event.key]();
  });

  return {
    root: tree,
    draw(packet, shares) {
      tree.setAttribute("aria-label", `fields of ${packetName(packet)}`);
      const largest = Math.max(...shares, 1e-12);
      items = [];
      const layers = packet.layers.map(([title, first, end]) => {
        const group = element("ul", { role: "group" });
        let total = 0;
        for (let index = first; index < end; index += 1) {
          const { name, value, start, end: stop } = packet.fields[index];
          const line = row(name, value, range(start, stop), shares[index]);
          line.querySelector(".bar").replaceWith(bar(shares[index] / largest));
          const item = element(
            "li", { role: "treeitem", tabindex: -1, "data-field": index, "aria-selected": "false" }, line,
          );
          items.push(item);
          group.append(item);
          total += shares[index];
        }
        const bytes = range(packet.fields[first].start, packet.fields[end - 1].end);
        return element(
          "li",
          { role: "treeitem", tabindex: -1, "aria-expanded": String(!closed.has(title)), "data-title": title, class: "layer" },
          row(title, "", bytes, total), group,
        );
      });
      tree.replaceChildren(...layers);
      if (layers.length) layers[0].tabIndex = 0;
    },
    // Mark a field, opening its layer, and bring it into view within the pane.
    show(field) {
      items.forEach((item, index) => item.setAttribute("aria-selected", String(index === field)));
      const item = items[field];
      if (!item) return;
      const layer = item.parentElement.parentElement;
      if (layer.getAttribute("aria-expanded") === "false") toggle(layer, true);
      for (const other of tree.querySelectorAll("[tabindex='0']")) other.tabIndex = -1;
      item.tabIndex = 0;
      const top = item.offsetTop - tree.offsetTop;
      const box = tree.parentElement;
      if (top < box.scrollTop || top + item.offsetHeight > box.scrollTop + box.clientHeight) {
        box.scrollTop = top - box.clientHeight / 2;
      }
    },
  };
}
