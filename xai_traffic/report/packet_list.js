// The list of packets: one row chosen, bars of their shares by the chosen method.

function packetList(section, choose) {
  const table = section.querySelector(".packet-list");
  const rows = [...table.tBodies[0].rows];
  const box = table.closest(".scroll");
  table.setAttribute("role", "grid");
  for (const row of table.rows) row.setAttribute("role", "row");
  for (const cell of table.querySelectorAll("td")) cell.setAttribute("role", "gridcell");
  rows.forEach((row, index) => {
    row.tabIndex = index ? -1 : 0;
    row.setAttribute("aria-selected", "false");
    row.addEventListener("click", () => choose(index));
  });
  table.addEventListener("keydown", (event) => {
    const at = rows.indexOf(event.target);
    if (at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const last = rows.length - 1;
    const steps = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: last, PageDown: at + 10, PageUp: at - 10 };
    if (!(event.key in steps)) return;
    event.preventDefault();
    choose(Math.min(Math.max(steps[event.key], 0), last), true);
  });

  // Keep the chosen row within the list's own box: the page itself must not jump.
  const reveal = (row) => {
    const top = row.offsetTop - table.tHead.offsetHeight;
    const bottom = row.offsetTop + row.offsetHeight;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (bottom > box.scrollTop + box.clientHeight) box.scrollTop = bottom - box.clientHeight;
  };
  return {
    show(index, focus) {
      rows.forEach((row, place) => {
        row.tabIndex = place === index ? 0 : -1;
        row.setAttribute("aria-selected", String(place === index));
      });
      reveal(rows[index]);
      if (focus) rows[index].focus({ preventScroll: true });
    },
    update(method) {
      const largest = Math.max(...method.packets, 1e-12);
      rows.forEach((row, index) => {
        const share = method.packets[index];
        row.lastElementChild.replaceChildren(bar(share / largest), " ", percent(share));
      });
    },
  };
}
