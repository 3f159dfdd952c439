// Start: bring the static page to life, session by session.

async function start() {
  const views = new Map(); // by the id of the section
  const table = sessionTable();
  // Browsers that cannot unpack (before 2023) keep the static page.
  if (typeof DecompressionStream === "undefined") return;
  const sections = [...document.querySelectorAll(".session")];
  const blocks = sections.map((section) => unpack(section.querySelector(".data")));
  const all = await Promise.all(blocks);
  sections.forEach((section, at) => views.set(section.id, sessionView(section, all[at])));

  const names = all.length ? all[0].methods.map((method) => method.name) : [];
  let chosen = all[0]?.leading;
  const setMethod = (name) => {
    chosen = name;
    for (const view of views.values()) view.setMethod(name);
    table.setGrades(views, name);
  };
  for (const section of sections) {
    const box = section.querySelector(".switch");
    box.hidden = names.length < 2;
    box.addEventListener("change", (event) => setMethod(event.target.value));
  }
  if (chosen) setMethod(chosen);
  listenForKeys(views, table, () => setMethod(names[(names.indexOf(chosen) + 1) % names.length]));

  // Links to packets choose them.
  const follow = () => {
    const [, key, packet] = /^#(s\d+)-p(\d+)$/.exec(location.hash) ?? [];
    const view = views.get(key);
    if (view && Number(packet) < view.data.packets.length) view.choosePacket(Number(packet), true);
  };
  addEventListener("hashchange", follow);
  follow();
  document.documentElement.dataset.ready = "";
}

start();
