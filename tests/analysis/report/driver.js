// Drives the page inside a real browser and leaves what it saw in the title: widths, sorting, filtering, themes, errors.
(() => {
  const seen = { errors: window.errors, overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth, width: window.innerWidth };
  const table = document.querySelector("table.sortable");
  const headers = [...table.tHead.rows[0].cells];
  const column = headers.findIndex((header) => header.textContent.startsWith("Time a call"));
  const values = () => [...table.tBodies[0].rows].map((row) => Number(row.cells[column].dataset.sort));
  const ordered = (sign) => values().every((value, place, all) => !place || sign * (value - all[place - 1]) >= 0);
  const button = headers[column].querySelector("button");
  button.click();
  seen.ascending = ordered(1) && headers[column].getAttribute("aria-sort");
  button.click();
  seen.descending = ordered(-1) && headers[column].getAttribute("aria-sort");
  seen.others = headers.filter((header) => header.getAttribute("aria-sort") !== "none").length;
  button.focus();
  seen.focusable = document.activeElement === button;
  const box = document.querySelector(".filter input");
  box.value = "training JAX";
  box.dispatchEvent(new Event("input"));
  const shown = [...table.tBodies[0].rows].filter((row) => !row.hidden);
  seen.filtered = shown.length && shown.every((row) => /training/.test(row.textContent) && /jax/.test(row.textContent));
  seen.status = document.querySelector(".filter [role=status]").textContent;
  const paper = () => getComputedStyle(document.body).backgroundColor;
  const before = paper();
  document.getElementById("theme").click();
  seen.theme = before !== paper();
  document.title = JSON.stringify(seen);
})();
