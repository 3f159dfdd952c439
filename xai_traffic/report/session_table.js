// The table of all sessions: sorted by any column, filtered by words and by chips.

// Addresses sort by their numbers: 10.0.0.9 before 10.0.0.10, IPv4 before IPv6, then ports.
function addressKey(text) {
  const [, bracketed, plain, port] = /^(?:\[([^\]]*)\]|([^\s→]*?))(?::(\d+))?(?:\s|$)/.exec(text.trim()) ?? [];
  let address = bracketed ?? plain ?? "";
  // Without brackets the last group of an IPv6 address is no port.
  if (bracketed === undefined && address.includes(":")) address = text.trim().split(/\s/)[0];
  const behind = (port ?? "0").padStart(5, "0");
  if (/^\d+(\.\d+){3}$/.test(address)) {
    return `4 ${address.split(".").map((part) => part.padStart(3, "0")).join(".")} ${behind}`;
  }
  const [left, right = ""] = address.split("::");
  const groups = (side) => (side ? side.split(":").map((group) => group.padStart(4, "0")) : []);
  const missing = Math.max(0, 8 - groups(left).length - groups(right).length);
  return `6 ${[...groups(left), ...Array(missing).fill("0000"), ...groups(right)].join(":")} ${behind}`;
}

const ADDRESSES = /^(\[?[0-9a-f:.]+\]?(:\d+)?) → /i;

// Return what cells of a column are compared by: numbers, addresses or words.
function sortKeys(cells) {
  const texts = cells.map((cell) => cell.textContent.trim());
  if (texts.every((text) => ADDRESSES.test(text))) {
    return texts.map((text) => text.split(" → ").map(addressKey).join(" "));
  }
  const numbers = texts.map((text) => Number(text.replace(/[,%\u00a0<\s]/g, "")));
  return numbers.some(Number.isNaN) || texts.every((text) => !text) ? texts : numbers;
}

const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: false }));

function sessionTable() {
  const table = document.querySelector(".sessions");
  const filter = document.querySelector(".filter");
  const rows = [...table.tBodies[0].rows];
  const status = filter.querySelector("[role=status]");
  const input = filter.querySelector("input");
  const chips = [...filter.querySelectorAll(".chip")];
  const grades = new Map(); // of each row that is explained
  for (const row of rows) grades.set(row, row.lastElementChild.textContent.trim());

  const holds = {
    verdict: (row, value) => row.dataset.verdict === value,
    card: (row, value) => grades.get(row) === value,
    only: (row, value) => (value === "wrong" ? "wrong" in row.dataset : "key" in row.dataset),
  };
  function apply() {
    const wanted = input.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const pressed = chips.filter((chip) => chip.getAttribute("aria-pressed") === "true");
    // Chips of a kind add up, kinds narrow down; of the last kind each narrows by itself.
    const kinds = ["verdict", "card"].map((kind) => pressed.filter((chip) => chip.dataset.kind === kind));
    const only = pressed.filter((chip) => chip.dataset.kind === "only");
    let count = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const fits = (chip) => holds[chip.dataset.kind](row, chip.dataset.value);
      row.hidden = !(
        wanted.every((word) => text.includes(word)) &&
        kinds.every((kind) => !kind.length || kind.some(fits)) && only.every(fits)
      );
      count += !row.hidden;
    }
    status.textContent = wanted.length || pressed.length ? `${count} of ${rows.length} sessions` : "";
  }

  if (rows.length > 1) {
    filter.hidden = false;
    input.addEventListener("input", apply);
    for (const chip of chips) {
      chip.addEventListener("click", () => {
        chip.setAttribute("aria-pressed", String(chip.getAttribute("aria-pressed") !== "true"));
        apply();
      });
    }
    for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
      const button = element("button", { type: "button" }, head.textContent);
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const rising = head.getAttribute("aria-sort") !== "ascending";
        for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", rising ? "ascending" : "descending");
        const keys = sortKeys(rows.map((row) => row.cells[column]));
        const pairs = rows.map((row, at) => [keys[at], row]);
        // A sort is stable: rows of equal keys keep the order of the sort before.
        pairs.sort(([a], [b]) => (rising ? compare(a, b) : compare(b, a)));
        pairs.forEach(([, row], at) => { rows[at] = row; });
        table.tBodies[0].append(...rows);
      });
    }
  }
  return {
    focus: () => input.focus(),
    // Show the grades of the cards of another method.
    setGrades(views, name) {
      for (const row of rows) {
        const found = views.get(row.dataset.key)?.grade(name);
        if (!found) continue;
        grades.set(row, found);
        row.lastElementChild.replaceChildren(grade(found));
      }
      const counts = [...grades.values()];
      for (const chip of chips.filter((one) => one.dataset.kind === "card")) {
        chip.lastElementChild.textContent = counts.filter((one) => one === chip.dataset.value).length;
      }
      apply();
    },
  };
}
