// One session: list, tree, bytes and picture on the same packet, field and method.

const WORDED = 5;
const WAYS = ["client to server", "server to client"];

function sessionView(section, data) {
  const state = { packet: 0, field: null, method: null };
  const methods = new Map(data.methods.map((method) => [method.name, method]));
  const list = packetList(section, choosePacket);
  const tree = fieldTree(chooseField);
  const dump = hexDump(chooseField);
  const picture = sessionPicture(section, data, choosePacket);
  const head = element("p", { class: "chosen-packet" });
  const panes = section.querySelector(".panes");
  panes.append(
    head,
    element("div", { class: "pane" }, tree.root),
    element("div", { class: "pane" }, dump.root, legend()),
  );
  panes.hidden = false;
  section.classList.add("live");

  function legend() {
    const parts = [element("span", { class: "key p6" }), "for the verdict "];
    const against = element("span", { class: "against" }, element("span", { class: "key n6" }), "against it ");
    const masked = [element("span", { class: "key masked" }), "hidden from the model by the mask"];
    return element("p", { class: "legend" }, ...parts, against, ...(data.hidden.length ? masked : []));
  }

  function drawPacket() {
    const packet = data.packets[state.packet];
    const cut = packet.start + packet.length < packet.captured;
    const notes = [packet.read ? "" : "not read by the model", cut ? `first ${packet.length} of ${packet.captured} bytes` : ""];
    head.replaceChildren(
      element("b", {}, packetName(packet)), ` ${percent(state.method.packets[state.packet])} `,
      element("span", { class: `way d${packet.direction}` }, `${WAYS[packet.direction]}, ${packet.words}`), " ",
      element("span", { class: "quiet" }, [`frame ${packet.frame}`, ...notes].filter(Boolean).join(" · ")),
    );
    tree.draw(packet, state.method.fields[state.packet]);
    dump.draw(packet, state.method);
    panes.querySelector(".against").hidden = !state.method.signed;
    if (state.field !== null) chooseField(state.field);
  }

  function choosePacket(index, focus = false) {
    state.packet = index;
    // The field that weighs most is where a reader looks first.
    const shares = state.method.fields[index];
    const largest = shares.indexOf(Math.max(...shares));
    state.field = shares[largest] > 0 ? largest : null;
    list.show(index, focus);
    drawPacket();
    picture(state.method, index);
  }

  function chooseField(field) {
    state.field = field;
    tree.show(field);
    dump.show(field);
  }

  function words() {
    const { packets, fields } = state.method;
    const ranked = packets.map((share, row) => row).filter((row) => packets[row] > 0);
    ranked.sort((a, b) => packets[b] - packets[a] || a - b);
    const items = ranked.slice(0, WORDED).map((row) => {
      const packet = data.packets[row];
      const order = fields[row].map((share, at) => at).filter((at) => fields[row][at] > 0);
      order.sort((a, b) => fields[row][b] - fields[row][a] || a - b);
      const named = order.slice(0, 3).flatMap((at, place) => [
        place ? ", " : "", element("code", {}, packet.fields[at].name), `\u00a0${percent(fields[row][at])}`,
      ]);
      return element(
        "li", {},
        element("a", { href: `#${section.id}-p${row}` }, packetName(packet)), " ",
        element("b", {}, percent(packets[row])), " ",
        element("span", { class: `way d${packet.direction}` }, `${WAYS[packet.direction]}, ${packet.words}`),
        element("br"),
        element("span", { class: "quiet" }, `frame ${packet.frame}; `, ...named),
      );
    });
    const nothing = element("li", {}, "Nothing: no byte of this session moves the verdict.");
    section.querySelector(".words").replaceChildren(...(items.length ? items : [nothing]));
    const notes = state.method.notes.flatMap((note) => [element("br"), note]).slice(1);
    section.querySelector(".notes").replaceChildren(...notes);
  }

  function sessionFields() {
    const { session, rest } = state.method;
    const rows = session.map(([name, share]) =>
      element(
        "tr", {},
        element("th", { scope: "row" }, element("code", {}, name)),
        element("td", {}, bar(share / session[0][1])), element("td", {}, percent(share)),
      ),
    );
    if (rest[0] > 0) {
      const others = `${rest[1]}\u00a0other field${rest[1] === 1 ? "" : "s"}`;
      rows.push(element("tr", { class: "quiet" }, element("th", { scope: "row" }, others), element("td"), element("td", {}, percent(rest[0]))));
    }
    if (!rows.length) rows.push(element("tr", {}, element("td", {}, "None.")));
    section.querySelector(".columns .fields tbody").replaceChildren(...rows);
  }

  function card() {
    const says = state.method.says;
    const shown = element("p", {}, grade(state.method.grade), " ", says[0].toUpperCase() + says.slice(1));
    section.querySelector(".believe").replaceChildren(shown);
    for (const row of section.querySelectorAll(".cards tr[data-method]")) {
      row.classList.toggle("chosen", row.dataset.method === state.method.name);
    }
    for (const chart of section.querySelectorAll(".curves")) {
      chart.hidden = chart.dataset.method !== state.method.name;
    }
  }

  return {
    section,
    data,
    state,
    choosePacket,
    grade: (name) => methods.get(name)?.grade,
    setMethod(name) {
      const method = methods.get(name);
      if (!method) return;
      const first = state.method === null;
      state.method = method;
      for (const input of section.querySelectorAll(".switch input")) input.checked = input.value === name;
      words();
      sessionFields();
      card();
      list.update(method);
      if (first) choosePacket(method.packets.indexOf(Math.max(...method.packets)));
      else {
        drawPacket();
        picture(method, state.packet);
      }
    },
  };
}
