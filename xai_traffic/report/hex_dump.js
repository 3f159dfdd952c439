// The bytes of one packet in hex and ASCII, on the colours of their attributions.

const ACROSS = 16;
const TILE = 256;

function hexDump(choose) {
  const dump = element("pre", { class: "hex", tabindex: 0, role: "group" });
  let fieldOf = []; // of each byte the field that it lies in
  let chosen = null;
  let drawn = null;

  const fieldAt = (target) => {
    const byte = target.closest("[data-i]");
    return byte ? fieldOf[Number(byte.dataset.i)] : null;
  };
  dump.addEventListener("click", (event) => {
    const field = fieldAt(event.target);
    if (field !== null) choose(field);
  });
  dump.addEventListener("mouseover", (event) => {
    const byte = event.target.closest("[data-i]");
    if (!byte) return;
    const at = Number(byte.dataset.i);
    const { packet, method, levels } = drawn;
    const share = percent(byteShare(method, levels[at]));
    const way = levels[at] < 0 ? " against the verdict" : "";
    const masked = packet.hidden[at] ? ", hidden from the model" : "";
    byte.title = `byte ${at}: ${packet.fields[fieldOf[at]].name}, share ${share}${way}${masked}`;
  });
  dump.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const last = drawn.packet.fields.length - 1;
    choose(Math.min(Math.max((chosen ?? -1) + steps[event.key], 0), last));
  });

  const bytesOf = (start, end, letters) => {
    const { packet, levels } = drawn;
    const parts = [];
    for (let at = start; at < end; at += 1) {
      const value = packet.bytes[at];
      const shown = letters
        ? value >= 32 && value < 127 ? String.fromCharCode(value) : "."
        : value.toString(16).padStart(2, "0");
      const names = ["b", heatClass(levels[at]), packet.hidden[at] ? "masked" : ""].filter(Boolean);
      parts.push(element("span", { class: names.join(" "), "data-i": at }, shown));
      if (!letters && at + 1 < end) parts.push(" ");
    }
    return parts;
  };

  return {
    root: dump,
    draw(packet, method) {
      drawn = { packet, method, levels: levelsOf(method, packet) };
      chosen = null;
      fieldOf = packet.fields.flatMap(({ start, end }, index) => Array(end - start).fill(index));
      dump.setAttribute("aria-label", `bytes of ${packetName(packet)}, arrow keys go from field to field`);
      const lines = [];
      for (let start = 0; start < packet.length; start += ACROSS) {
        const end = Math.min(start + ACROSS, packet.length);
        const offset = element("span", { class: "offset" }, start.toString(16).padStart(4, "0"));
        const fill = " ".repeat(3 * (start + ACROSS - end));
        lines.push(offset, "  ", ...bytesOf(start, end, false), `${fill}  `, ...bytesOf(start, end, true), "\n");
      }
      if (packet.length < TILE) {
        const first = packet.length.toString(16).padStart(4, "0");
        lines.push(element("span", { class: "padding" }, `${first}  `, `${TILE - packet.length} zero bytes of padding to 00ff`));
      }
      dump.replaceChildren(...lines);
    },
    show(field) {
      chosen = field;
      for (const byte of dump.querySelectorAll("[data-i]")) {
        byte.classList.toggle("chosen", fieldOf[Number(byte.dataset.i)] === field);
      }
    },
  };
}
