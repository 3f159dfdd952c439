"use strict";
// The page is whole without this: it adds a search, sorting, and names of fields under the pointer.

for (const dump of document.querySelectorAll(".dump")) {
  const hex = dump.querySelector(".hex");
  const names = hex.dataset.names.split("|");
  const light = (field) => {
    for (const lit of hex.querySelectorAll(".lit")) lit.classList.remove("lit");
    if (field === null) return;
    for (const bytes of hex.querySelectorAll(`[data-f="${field}"]`)) bytes.classList.add("lit");
  };
  hex.addEventListener("mouseover", (event) => {
    const bytes = event.target.closest("[data-f]");
    if (bytes) bytes.title = names[Number(bytes.dataset.f)];
  });
  for (const row of dump.querySelectorAll("tr[data-f]")) {
    const field = Number(row.dataset.f);
    for (const begin of ["mouseenter", "focus"]) row.addEventListener(begin, () => light(field));
    for (const end of ["mouseleave", "blur"]) row.addEventListener(end, () => light(null));
  }
}

const openLinked = () => {
  if (!/^#[-a-z0-9]+$/.test(location.hash)) return;
  const target = document.querySelector(location.hash);
  if (target && target.matches("details")) {
    target.open = true;
    target.querySelector("summary").focus({ preventScroll: true });
    target.scrollIntoView();
  }
};
addEventListener("hashchange", openLinked);
openLinked();

const table = document.querySelector(".sessions");
const rows = [...table.tBodies[0].rows];
const filter = document.querySelector(".filter");
if (rows.length > 1) {
  filter.hidden = false;
  const status = filter.querySelector("[role=status]");
  filter.querySelector("input").addEventListener("input", (event) => {
    const wanted = event.target.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
      shown += !row.hidden;
    }
    status.textContent = wanted ? `${shown} of ${rows.length}` : "";
  });
  for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const rising = head.getAttribute("aria-sort") !== "ascending";
      for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", rising ? "ascending" : "descending");
      const key = (row) => row.cells[column].textContent.trim();
      const number = (value) => Number(value.replace(/[,%\u00a0<\s]/g, ""));
      const numeric = rows.every((row) => !Number.isNaN(number(key(row))));
      rows.sort((a, b) => {
        const order = numeric ? number(key(a)) - number(key(b)) : key(a).localeCompare(key(b));
        return rising ? order : -order;
      });
      table.tBodies[0].append(...rows);
    });
  }
}
