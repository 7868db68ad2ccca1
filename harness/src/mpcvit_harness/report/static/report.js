// Puts the closed parts of a page back, filters and sorts tables, and shows tips of what is pointed at or focused.
"use strict";

const unfold = async () => {
  const packed = Uint8Array.from(atob(folded), (letter) => letter.charCodeAt(0));
  const text = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const parts = (await new Response(text).json())[decodeURIComponent(location.pathname.split("/").pop()) || "index.html"];
  const closed = [...document.querySelectorAll("details:not([open])")];
  closed.forEach((one, i) => one.insertAdjacentHTML("beforeend", parts[i]));
  document.documentElement.dataset.unfolded = "";
};
if (typeof folded === "string") unfold();

for (const box of document.querySelectorAll(".table:has(.controls)")) {
  const body = box.querySelector("tbody");
  const rows = [...body.rows];
  const choices = [...box.querySelectorAll("select")];
  const words = box.querySelector("input");
  const buttons = [...document.querySelectorAll(`button[data-table="${box.id}"]`)];

  const text = (row, column) => row.cells[column].textContent.trim();
  const choice = (column) => choices.find((one) => one.dataset.column === column);

  const filter = () => {
    const wanted = words.value.toLowerCase();
    for (const row of rows) {
      row.hidden = choices.some((one) => one.value && text(row, one.dataset.column) !== one.value)
        || !row.textContent.toLowerCase().includes(wanted);
    }
    box.querySelector("output").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
    for (const one of buttons) {
      one.setAttribute("aria-pressed", choice(one.dataset.column).value === one.dataset.choice);
    }
  };
  for (const one of choices) one.addEventListener("change", filter);
  words.addEventListener("input", filter);
  for (const one of buttons) {
    one.addEventListener("click", () => {
      const of = choice(one.dataset.column);
      of.value = of.value === one.dataset.choice ? "" : one.dataset.choice;
      filter();
    });
  }
  filter();

  const heads = [...box.querySelectorAll("thead th")];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = (row) => row.cells[column].dataset.sort ?? text(row, column).replaceAll(",", "");
    const keys = new Map(rows.map((row) => [row, key(row)]));
    rows.sort((a, b) => {
      const [x, y] = [keys.get(a), keys.get(b)];
      if (x === "" || y === "") return (x === "") - (y === "");  // rows without a value stay last
      const order = isNaN(x) || isNaN(y) ? x.localeCompare(y, "en", { numeric: true }) : x - y;
      return up ? order : -order;
    });
    body.append(...rows);
  }));
}

const tip = document.getElementById("tip");
const tipped = (event) => event.target.closest?.("[data-tip]");
const show = (event) => {
  const of = tipped(event);
  if (!of) return;
  tip.textContent = of.dataset.tip;
  tip.hidden = false;
  const at = of.getBoundingClientRect();
  const left = Math.min(Math.max(4, at.left + at.width / 2 - tip.offsetWidth / 2), innerWidth - tip.offsetWidth - 4);
  const above = at.top - tip.offsetHeight - 6;
  tip.style.left = `${left}px`;
  tip.style.top = `${above > 4 ? above : at.bottom + 6}px`;
};
const hide = (event) => { if (tipped(event)) tip.hidden = true; };
for (const kind of ["mouseover", "focusin"]) document.addEventListener(kind, show);
for (const kind of ["mouseout", "focusout"]) document.addEventListener(kind, hide);
document.addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });
