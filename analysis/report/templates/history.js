"use strict";
// The series of the history: a panel each, a point a commit. State lives in the address: #history?backend=numpy&show=changed.
(() => {
  const { element, readable, symbol } = charts;
  const PAGE = 12; // panels at once
  const root = document.querySelector("[data-history]");
  const data = JSON.parse(document.getElementById("history-data").textContent);
  const FILTERS = { backend: "Backend", machine: "Machine", fingerprint: "Environment", study: "Study", case: "Case" };
  const SHOWN = { all: "all series", changed: "series with changes", confirmed: "with confirmed changes", open: "with changes to confirm" };
  const initial = { show: "all", scale: "shared", count: String(PAGE) };
  const choices = {};
  for (const key of Object.keys(FILTERS)) {
    const values = [...new Set(data.series.map((series) => series[key]))].sort();
    if (values.length > 1) { choices[key] = values; initial[key] = "all"; }
  }
  const state = { ...initial };
  const controls = root.querySelector(".controls"), grid = root.querySelector(".panels");
  const count = root.querySelector(".count"), more = root.querySelector(".more");
  const selects = {};
  const times = (value) => `${value.toPrecision(4).replace(/0+$/, "").replace(/\.$/, "")}×`;

  function select(key, label, options) {
    const box = element("select", { "aria-label": label });
    for (const [value, text] of options) box.append(element("option", { value, text }));
    box.addEventListener("change", () => set({ [key]: box.value, count: initial.count }));
    selects[key] = box;
    controls.append(element("label", {}, `${label} `, box));
  }
  select("show", "Show", Object.entries(SHOWN));
  for (const [key, values] of Object.entries(choices)) select(key, FILTERS[key], [["all", "all"], ...values.map((value) => [value, value])]);
  select("scale", "Scale", [["shared", "one for all"], ["own", "each its own"]]);
  more.addEventListener("click", () => set({ count: String(Number(state.count) + PAGE) }));

  function read() {
    const [where, query = ""] = location.hash.slice(1).split("?");
    Object.assign(state, initial);
    if (where !== "history") return;
    const known = { show: Object.keys(SHOWN), scale: ["shared", "own"] };
    for (const [key, value] of new URLSearchParams(query)) {
      const allowed = known[key] || (choices[key] && ["all", ...choices[key]]);
      if (key in state && (!allowed || allowed.includes(value))) state[key] = value; // what is unknown is left as it was
    }
    if (!(Number(state.count) > 0)) state.count = initial.count;
  }
  function set(changes) {
    Object.assign(state, changes);
    const query = new URLSearchParams(Object.entries(state).filter(([key, value]) => value !== initial[key]));
    history.replaceState(null, "", `#history${String(query) && "?"}${query}`);
    draw();
  }
  const lasting = (series) => series.changes.filter((change) => change.mark !== "grey");
  const wanted = (series) => {
    if (state.show === "changed") return lasting(series).length > 0;
    if (state.show === "confirmed") return lasting(series).some((change) => change.outcome === "confirmed");
    if (state.show === "open") return lasting(series).some((change) => ["not compared", "undecided"].includes(change.outcome));
    return true;
  };

  function draw() {
    for (const [key, box] of Object.entries(selects)) box.value = state[key];
    const found = data.series.filter((series) => wanted(series) && Object.keys(choices).every((key) => state[key] === "all" || series[key] === state[key]));
    found.sort((a, b) => lasting(b).length - lasting(a).length);
    const shown = found.slice(0, Number(state.count));
    count.textContent = `${shown.length} of ${found.length} series${found.length < data.series.length ? ` that match, of ${data.series.length}` : ""}`;
    more.hidden = found.length <= shown.length;
    const all = shown.flatMap(values);
    grid.replaceChildren(...shown.map((series) => panel(series, domain(state.scale === "shared" ? all : values(series)))));
  }
  const values = (series) => [1, ...series.points.flatMap(([, value]) => [value])];
  const domain = (numbers) => {
    const [low, high] = [Math.min(...numbers), Math.max(...numbers)], room = Math.max((high - low) * 0.12, 0.01);
    return [low - room, high + room];
  };
  const colour = (change) => change.mark === "grey" ? "var(--soft)" : change.outcome !== "confirmed" ? "var(--tied)"
    : change.change.startsWith("−") ? "var(--good)" : "var(--bad)";

  function panel(series, [low, high]) {
    const columns = getComputedStyle(grid).gridTemplateColumns.split(" ").length;
    const width = Math.max(260, Math.floor((grid.clientWidth - 32 * (columns - 1)) / columns)), height = 210;
    const inside = (value) => Math.min(Math.max(value, low), high);
    const rows = series.points.map(([at, value, from, to], index) => ({ at, value, from, to, index, commit: data.commits[at] }));
    const spans = rows.filter((row) => row.from !== null && row.to !== null);
    const changes = series.changes.map((change) => ({ ...change, place: rows.findIndex((row) => row.at === change.at) }));
    const ticks = Math.max(2, Math.min(6, Math.floor(width / 90), rows.length));
    const svg = Plot.plot({
      width, height, marginLeft: 58, marginRight: 14, marginTop: 22, marginBottom: 40,
      style: { fontSize: "12.5px", background: "transparent", color: "inherit", fontFamily: "inherit", overflow: "visible" },
      x: { domain: [0.5, rows.length + 0.5], label: "commit, oldest first", labelAnchor: "center", labelArrow: "none", labelOffset: 36, tickSize: 0, ticks,
        tickFormat: (value) => Number.isInteger(value) && value > 0 ? String(value) : "" },
      y: { domain: [low, high], grid: true, label: null, tickSize: 0, ticks: 5, tickFormat: (value) => times(value) },
      marks: [
        Plot.ruleY([inside(1)], { stroke: "var(--faint)" }),
        Plot.ruleX(changes, { x: (change) => change.place + 0.5, stroke: colour, strokeDasharray: "4,3" }),
        Plot.text(spread(changes.filter((change) => change.mark !== "grey"), width / rows.length), { x: (change) => change.place + 0.5, frameAnchor: "top", dy: -12, text: "change", fill: colour, fontWeight: 600,
          textAnchor: (change) => change.place > rows.length * 0.85 ? "end" : change.place < rows.length * 0.15 ? "start" : "middle" }),
        Plot.ruleX(spans, { x: (row) => row.index + 1, y1: (row) => inside(row.from), y2: (row) => inside(row.to), stroke: series.colour, strokeOpacity: 0.55 }),
        Plot.dot(rows, { x: (row) => row.index + 1, y: (row) => inside(row.value), r: rows.length > 60 ? 2 : 3, symbol: symbol(series.symbol), fill: series.colour, stroke: series.colour }),
      ],
    });
    const box = element("div", { class: "chart", tabindex: "0", role: "group", "aria-roledescription": "chart",
      "aria-label": `${series.case}, ${series.backend}: ${rows.length} commits, ${changes.length} changes; the arrow keys read them one by one.` }, svg);
    const place = svg.scale("x");
    const nearest = (x) => { const index = Math.round(place.invert(x)) - 1; return index >= 0 && index < rows.length ? index : -1; };
    readable(box, rows.length, nearest, (index) => [place.apply(index + 1), 10], (index) => words(rows[index], changes.filter((change) => change.place === index)));
    const title = element("h4", { text: `${series.case} ` }, element("span", { class: "backend", style: `--own: ${series.colour}`, text: series.backend }));
    const said = lasting(series).map((change) => `${change.change} at ${data.commits[change.at].short}: ${change.compared}`);
    return element("div", { class: "panel" }, title, box, ...said.map((text) => element("p", { class: "soft said", text })));
  }
  // Labels of changes that lie too close give way to the earlier one; the tip and the line below have them all.
  function spread(changes, step) {
    const kept = [];
    for (const change of changes) if (!kept.length || (change.place - kept[kept.length - 1].place) * step > 90) kept.push(change);
    return kept;
  }
  function words(row, changes) {
    const bounds = row.from === null ? "one replicate, no interval" : `95 % CI: ${times(row.from)} to ${times(row.to)}`;
    const { short, author, date, subject } = row.commit;
    return [`${short} ${subject}`, `${author}, ${date.slice(0, 10)}`, `${times(row.value)} the first commit's time`, bounds,
      ...changes.map((change) => `Change ${change.change}: ${change.compared}`)];
  }

  root.hidden = false;
  document.getElementById("static-history").classList.add("drawn");
  read();
  draw();
  addEventListener("hashchange", () => { read(); draw(); });
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width && !matchMedia("print").matches) { width = innerWidth; draw(); } });
})();
