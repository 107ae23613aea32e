"use strict";
// Sorting and filtering; without it the page shows the same rows, the leakiest first.
const tables = [...document.querySelectorAll("table.board")];

function key(row, place) {
  const cell = row.cells[place];
  const sort = cell.dataset.sort;
  return sort === undefined ? cell.textContent.trim() : Number(sort);
}

function order(one, other) {
  // what was not measured comes last, whichever way
  if (typeof one === "number" && typeof other === "number") return one - other;
  if (typeof one === "number") return -1;
  if (typeof other === "number") return 1;
  return one.localeCompare(other, "en", { numeric: true });
}

function sortBy(table, place) {
  const heads = [...table.tHead.rows[0].cells];
  const up = heads[place].getAttribute("aria-sort") !== "ascending";
  heads.forEach((head) => head.removeAttribute("aria-sort"));
  heads[place].setAttribute("aria-sort", up ? "ascending" : "descending");
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => ({ row, value: key(row, place) }));
  const empty = rows.filter((one) => one.value === "");
  const full = rows.filter((one) => one.value !== "");
  full.sort((a, b) => (up ? 1 : -1) * order(a.value, b.value));
  body.append(...[...full, ...empty].map((one) => one.row));
}

for (const table of tables) {
  [...table.tHead.rows[0].cells].forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sortBy(table, place));
    head.append(button);
  });
}

const input = document.getElementById("filter-text");
const count = document.getElementById("filter-count");

function filter() {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = tables.flatMap((table) => [...table.tBodies[0].rows]);
  let shown = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
    shown += row.hidden ? 0 : 1;
  }
  count.textContent = words.length ? `${shown} of ${rows.length} rows` : "";
}

document.getElementById("filter").hidden = false;
input.addEventListener("input", filter);
