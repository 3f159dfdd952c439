// Keys of the whole page, and the dialog that lists them.

const KEYS = [
  ["j  k", "next and previous packet of the session"],
  ["n  p", "next and previous explained session"],
  ["m", "next method"],
  ["/", "filter the table of sessions"],
  ["?", "this list"],
  ["↑ ↓ Home End", "in the packet list and the field tree: go"],
  ["← →", "in the field tree: close and open a layer; in the bytes: go from field to field"],
];

// The session that holds the focus, else the one in the middle of the window.
function currentView(views) {
  const held = document.activeElement?.closest?.(".session");
  if (held && views.has(held.id)) return views.get(held.id);
  const middle = innerHeight / 2;
  const all = [...views.values()];
  return all.find(({ section }) => section.getBoundingClientRect().bottom > middle) ?? all.at(-1);
}

function listenForKeys(views, table, nextMethod) {
  const dialog = document.querySelector("#keys");
  for (const [key, says] of KEYS) {
    const names = key.split(/ +/).flatMap((name, at) => [at ? " " : "", element("kbd", {}, name)]);
    dialog.querySelector("dl").append(element("dt", {}, ...names), element("dd", {}, says));
  }
  const help = document.querySelector(".help");
  help.hidden = false;
  help.addEventListener("click", () => dialog.showModal());
  dialog.querySelector("button").addEventListener("click", () => dialog.close());

  const goPacket = (step) => {
    const view = currentView(views);
    if (!view) return;
    const last = view.data.packets.length - 1;
    view.choosePacket(Math.min(Math.max(view.state.packet + step, 0), last), true);
    const box = view.section.querySelector(".scroll.packets").getBoundingClientRect();
    if (box.top < 0 || box.bottom > innerHeight) {
      view.section.querySelector(".scroll.packets").scrollIntoView({ block: "center" });
    }
  };
  const goSession = (step) => {
    const all = [...views.values()];
    const at = all.indexOf(currentView(views));
    const { section } = all[Math.min(Math.max(at + step, 0), all.length - 1)] ?? {};
    if (!section) return;
    const title = section.querySelector("h2");
    title.tabIndex = -1;
    title.focus({ preventScroll: true });
    section.scrollIntoView();
  };
  const actions = {
    j: () => goPacket(1), k: () => goPacket(-1), n: () => goSession(1), p: () => goSession(-1),
    m: nextMethod, "/": table.focus, "?": () => dialog.showModal(),
  };
  addEventListener("keydown", (event) => {
    const typing = event.target.matches?.("input[type=search]") || dialog.open;
    if (typing || event.ctrlKey || event.metaKey || event.altKey || !(event.key in actions)) return;
    event.preventDefault();
    actions[event.key]();
  });
}
