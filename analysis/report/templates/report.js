"use strict";
(() => {
  const root = document.documentElement;
  const theme = document.getElementById("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const now = () => root.dataset.theme || (dark.matches ? "dark" : "light");
  const name = () => { theme.textContent = now() === "dark" ? "Light" : "Dark"; };
  theme.hidden = false;
  theme.addEventListener("click", () => { root.dataset.theme = now() === "dark" ? "light" : "dark"; name(); });
  dark.addEventListener("change", name);
  name();

  const natural = new Intl.Collator("en", { numeric: true });
  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.sort === undefined ? cell.textContent : Number(cell.dataset.sort);
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a === "number") return -1; // what was not measured comes last
    if (typeof b === "number") return 1;
    return natural.compare(a, b);
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const headers = [...table.tHead.rows[0].cells];
    headers.forEach((header, column) => header.querySelector("button").addEventListener("click", () => {
      const down = header.getAttribute("aria-sort") === "ascending";
      for (const other of headers) other.setAttribute("aria-sort", "none");
      header.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => {
        const [x, y] = [value(a, column), value(b, column)];
        const order = compare(x, y);
        return down && typeof x === typeof y ? -order : order;
      });
      table.tBodies[0].append(...rows);
    }));
  }
  for (const box of document.querySelectorAll(".filter input")) {
    const table = document.getElementById(box.dataset.table);
    const shown = document.getElementById(box.getAttribute("aria-describedby"));
    const rows = [...table.tBodies[0].rows].map((row) => [row, [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase()]);
    const filter = () => {
      const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
      let count = 0;
      for (const [row, text] of rows) {
        row.hidden = !words.every((word) => text.includes(word));
        count += row.hidden ? 0 : 1;
      }
      shown.textContent = `${count} of ${rows.length} rows`;
    };
    box.addEventListener("input", filter);
    box.closest(".filter").hidden = false;
    filter();
  }
})();
