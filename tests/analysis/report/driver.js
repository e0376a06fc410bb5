// Drives the page inside a real browser and leaves what it saw in the title: widths, sorting, filtering, themes, errors.
const drive = () => {
  if ([...document.querySelectorAll("figure")].some((figure) => !figure.classList.contains("redrawn"))) return setTimeout(drive, 20);
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
  // The explorer: every control changes the drawing and the address; the address alone gives the same drawing again.
  const explore = document.querySelector("[data-explore]");
  const labels = () => [...explore.querySelectorAll(".panel")].map((panel) => panel.querySelector(".chart").getAttribute("aria-label"));
  const control = (label) => [...explore.querySelectorAll("select")].find((box) => box.getAttribute("aria-label") === label);
  const choose = (label, value) => { control(label).value = value; control(label).dispatchEvent(new Event("change")); };
  const drawn = () => explore.querySelector(".panels").textContent;
  seen.panels = [labels().length, explore.querySelector(".count").textContent];
  choose("Metric", "time");
  choose("Phase", "training");
  choose("H", "64");
  seen.matching = labels().length > 0 && labels().every((label) => /^Time a call, training/.test(label) && /H\u00a064/.test(label));
  const before_hiding = drawn();
  explore.querySelector(".chip").click();
  seen.hidden = explore.querySelector(".chip").getAttribute("aria-pressed") === "false" && drawn() !== before_hiding;
  const address = location.hash, there = drawn();
  seen.address = address.startsWith("#explore?");
  location.hash = "";
  dispatchEvent(new Event("hashchange"));
  const reset = drawn() !== there;
  location.hash = address;
  dispatchEvent(new Event("hashchange"));
  seen.deeplink = reset && drawn() === there;
  location.hash = "#explore?metric=nonsense&H=12345&case=nowhere";
  dispatchEvent(new Event("hashchange"));
  seen.unknown = control("Metric").value === "speedup" && control("H").value === "all" && explore.querySelector(".detail").hidden;
  const link = explore.querySelector(".panel a");
  link.click();
  seen.detail = !explore.querySelector(".detail").hidden && explore.querySelector(".detail").textContent.includes(link.textContent);
  const chart = explore.querySelector(".chart");
  chart.focus();
  const key = (name) => chart.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true }));
  key("ArrowDown");
  key("ArrowDown");
  const tip = document.getElementById("tip"), spoken = document.getElementById("live").textContent;
  seen.keyboard = !tip.hidden && /95 % CI|not measured/.test(spoken) && tip.textContent.length > 0;
  key("Escape");
  seen.escape = tip.hidden;
  // Labels of one chart do not lie on each other, and none leaves the window.
  const boxes = (svg) => [...svg.querySelectorAll("text")].filter((text) => text.textContent).map((text) => text.getBoundingClientRect());
  const apart = (a, b) => a.right <= b.left + 1 || b.right <= a.left + 1 || a.bottom <= b.top + 2 || b.bottom <= a.top + 2;
  seen.overlaps = [...explore.querySelectorAll(".panel svg")].filter((svg) => {
    const found = boxes(svg);
    return found.some((a, i) => found.slice(i + 1).some((b) => !apart(a, b)));
  }).length;
  seen.outside = [...explore.querySelectorAll(".panel svg text")].filter((text) => text.textContent && text.getBoundingClientRect().right > innerWidth + 1).length;
  // The figures are drawn again for this width, and read by pointer and keyboard.
  seen.redrawn = document.querySelectorAll("figure.redrawn").length === document.querySelectorAll("figure").length;
  const live = document.querySelector("figure.redrawn .chart");
  live.focus();
  for (const key of ["ArrowRight", "ArrowRight"]) live.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  seen.figure = !tip.hidden && /speedup over torch: /.test(document.getElementById("live").textContent);
  seen.static = [...document.querySelectorAll(".static")].every((each) => getComputedStyle(each).display === "none");
  const sideways = [...document.querySelectorAll(".live svg text")].filter((text) => {
    const { left, right } = text.getBoundingClientRect();
    return text.textContent && (left < -1 || right > innerWidth + 1);
  });
  seen.clipped = sideways.map((text) => text.textContent);
  // Every text stands out from what is behind it, light and dark.
  const channel = (value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const parsed = (colour) => (colour.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const luminance = (colour) => { const [r, g, b] = parsed(colour).map((value) => channel(value / 255)); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const opaque = (colour) => colour !== "transparent" && (parsed(colour)[3] ?? 1) > 0.5;
  const behind = (node) => { while (node && !opaque(getComputedStyle(node).backgroundColor)) node = node.parentElement; return getComputedStyle(node || document.body).backgroundColor; };
  const faint = () => [...document.querySelectorAll("main *, header *")].filter((node) => {
    if (node.closest("svg") || ![...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim()) || !node.getClientRects().length) return false;
    if (node.closest("[aria-pressed=false], script, option")) return false;
    const [a, b] = [luminance(getComputedStyle(node).color), luminance(behind(node))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05) < 4.5;
  }).map((node) => `${node.tagName} ${node.className} ${node.textContent.trim().slice(0, 40)}`);
  seen.faint = [...new Set(faint())];
  document.getElementById("theme").click();
  seen.faint.push(...new Set(faint()));
  // The numbers that are seen are those of the data: of the cards, and of every row of the table.
  const data = JSON.parse(document.getElementById("data").textContent);
  const rounded = (value) => Number(value.toPrecision(3));
  const cards = [...document.querySelectorAll("h1 ~ .cards > li")];
  seen.cards = [cards.length, cards.filter((card) => {
    const rank = data.ranks.find((each) => card.querySelector("h3").textContent.startsWith(`${each.of} ·`));
    const leader = card.querySelector(".leader").textContent.split(" or ")[0], shown = parseFloat(card.querySelector(".value").textContent);
    return shown !== rounded(rank.speedup[leader][0]) && leader !== data.baseline;
  }).length];
  const known = data.cases.flatMap((case_) => Object.values(case_.of).map((own) => own.time[0])).sort((a, b) => a - b);
  const listed = values().sort((a, b) => a - b);
  seen.rows = listed.length === known.length && listed.every((value, place) => Math.abs(value / known[place] - 1) < 1e-3);
  // What is downloaded has a row for each row of the table.
  let csv = "";
  URL.createObjectURL = (blob) => { csv = blob; return "blob:none"; };
  HTMLAnchorElement.prototype.click = () => {};
  document.querySelector("#download [data-as=csv]").click();
  seen.csv = csv.type === "text/csv" && csv.size > 1000;
  seen.requests = performance.getEntriesByType("resource").length;
  let evaluated = false;
  try { evaluated = new Function("return true")(); } catch (error) { evaluated = error.name; }
  seen.eval = evaluated;
  const first = document.querySelector("figure.redrawn .live svg").getBoundingClientRect().top + scrollY;
  seen.first = first <= 700 || Math.round(first);
  document.title = JSON.stringify(seen);
};
drive();
