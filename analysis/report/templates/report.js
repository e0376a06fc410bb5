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
      table.dispatchEvent(new Event("sorted"));
    }));
  }
  // Of a long list the first few that match are shown, until all are asked for. items() is in the order of the page.
  function shorten(items, few, more, matches, status) {
    let all = false;
    const show = () => {
      const every = items(), found = every.filter(matches), shown = new Set(all ? found : found.slice(0, few));
      for (const item of every) item.hidden = !shown.has(item);
      more.hidden = shown.size === found.length;
      status.textContent = `${found.length} of ${every.length}`;
    };
    const showAll = () => { all = true; show(); };
    more.addEventListener("click", showAll);
    show();
    return { show, showAll };
  }
  const contains = (text, words) => words.toLowerCase().split(/\s+/).filter(Boolean).every((word) => text.includes(word));

  for (const box of document.querySelectorAll("input[data-table]")) {
    const table = document.getElementById(box.dataset.table), body = table.tBodies[0];
    const texts = new Map([...body.rows].map((row) => [row, [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase()]));
    const more = document.querySelector(`button[data-table=${box.dataset.table}]`);
    const status = document.getElementById(box.getAttribute("aria-describedby"));
    const list = shorten(() => [...body.rows], 14, more, (row) => contains(texts.get(row), box.value), status);
    box.addEventListener("input", list.show);
    table.addEventListener("sorted", list.show);
    box.closest(".filter").hidden = false;
  }

  const board = document.querySelector(".claims");
  if (board) {
    const verdict = document.getElementById("claims-verdict"), search = document.getElementById("claims-search");
    const texts = new Map([...board.querySelectorAll(".board > li")].map((card) => [card, card.textContent.toLowerCase()]));
    const matches = (card) => (!verdict.value || card.dataset.verdict === verdict.value) && contains(texts.get(card), search.value);
    const list = shorten(() => [...texts.keys()], 6, board.querySelector(".more"), matches, document.getElementById("claims-shown"));
    verdict.addEventListener("change", list.show);
    search.addEventListener("input", list.show);
    board.querySelector(".filter").hidden = false;
    // A link to a claim shows it, whatever was searched for before.
    const open = () => {
      const card = texts.has(document.getElementById(location.hash.slice(1))) && document.getElementById(location.hash.slice(1));
      if (!card) return;
      verdict.value = search.value = "";
      list.showAll();
      card.scrollIntoView();
    };
    addEventListener("hashchange", open);
    open();
  }

  // On a phone each row is a list of its cells with the names of their columns; menus are closed where they would push the page down.
  const phone = matchMedia("(max-width: 40rem)");
  for (const table of document.querySelectorAll("table")) {
    const labels = [...table.tHead.rows[0].cells].map((cell) => (cell.querySelector("button") || cell.firstChild).textContent);
    for (const row of table.tBodies[0].rows) if (row.cells.length === labels.length) [...row.cells].forEach((cell, place) => { cell.dataset.label = labels[place]; });
    table.classList.add("stacked");
  }
  for (const [menu, narrow] of [["#sections", matchMedia("(max-width: 64rem)")], [".settings", phone]]) {
    const box = document.querySelector(menu), fold = () => { if (box) box.open = !narrow.matches; };
    narrow.addEventListener("change", fold);
    fold();
  }

  const download = document.getElementById("download");
  if (download) {
    const data = document.getElementById("data").textContent;
    const quoted = (value) => /[",\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
    const csv = () => {
      const { cases, baseline } = JSON.parse(data);
      const keys = ["id", "study", "phase", "launch", "device", "dtype", "cell", "T", "B", "H"];
      const head = [...keys, "backend", "seconds", "low", "high", "p5", "p50", "p95", "p99", "tokens_per_second", "flops_per_second", `speedup_over_${baseline}`, "speedup_low", "speedup_high", "notes"];
      const rows = cases.flatMap((case_) => Object.entries(case_.of).map(([backend, own]) => [
        ...keys.map((key) => case_[key]), backend, ...own.time, ...own.quantiles, own.tokens, own.flops, ...(own.speedup[baseline] || [null, null, null]), own.notes.join("; ")]));
      return [head, ...rows].map((row) => row.map((value) => quoted(String(value ?? ""))).join(",")).join("\n") + "\n";
    };
    for (const button of download.querySelectorAll("button")) {
      button.addEventListener("click", () => {
        const [text, type] = button.dataset.as === "csv" ? [csv(), "text/csv"] : [data, "application/json"];
        const link = document.createElement("a");
        link.href = URL.createObjectURL(new Blob([text], { type }));
        link.download = `results.${button.dataset.as}`;
        link.click();
        URL.revokeObjectURL(link.href);
      });
    }
    download.hidden = false;
  }
})();
