"use strict";
// The explorer: any metric of any case against any baseline. State lives in the address: #explore?metric=time&H=64.
(() => {
  const { significant, scaled, tick, ticksOf, element, readable, symbol } = charts;
  // An interval of times, as one of rates: the shortest time is the highest rate.
  const rate = (value, [time, low, high]) => value === null ? null : [value, high && value * time / high, low && value * time / low];
  const PAGE = 24; // panels at once
  const ALL = "all";
  const METRICS = {
    speedup: { label: "Speedup", unit: "×", of: (case_, own, base) => own.speedup[base] },
    time: { label: "Time a call", unit: "s", of: (case_, own) => own.time },
    tokens: { label: "Tokens/s", unit: "", of: (case_, own) => rate(own.tokens, own.time) },
    flops: { label: "FLOP/s", unit: "", of: (case_, own) => rate(own.flops, own.time) },
    latency: { label: "p50 of a call, p5 to p95", unit: "s", of: (case_, own) => [own.quantiles[1], own.quantiles[0], own.quantiles[2]] },
  };
  const FILTERS = { phase: "Phase", device: "Device", launch: "Launch", dtype: "Data type", cell: "Cell", study: "Study", B: "B", H: "H", T: "T" };
  function start(root) {
    const name = "explore", data = JSON.parse(document.getElementById("data").textContent);
    const initial = { metric: "speedup", base: data.baseline, scale: "log", with: "", hide: "", shown: String(PAGE), case: "" };
    const choices = {};
    for (const key of Object.keys(FILTERS)) {
      const values = [...new Set(data.cases.map((case_) => case_[key]))].filter((value) => value !== null && value !== "");
      if (values.length > 1) {
        choices[key] = values.sort((a, b) => typeof a === "number" ? a - b : String(a).localeCompare(b)).map(String);
        initial[key] = ALL;
      }
    }
    const state = { ...initial };
    const controls = root.querySelector(".controls"), chips = root.querySelector(".chips");
    const grid = root.querySelector(".panels"), count = root.querySelector(".count"), more = root.querySelector(".more");
    const detail = root.querySelector(".detail");
    const selects = {};

    function select(key, label, options) {
      const box = element("select", { "aria-label": label });
      for (const [value, text] of options) box.append(element("option", { value, text }));
      box.addEventListener("change", () => set({ [key]: box.value, shown: initial.shown }));
      selects[key] = box;
      controls.append(element("label", {}, `${label} `, box));
    }
    select("metric", "Metric", Object.entries(METRICS).map(([key, metric]) => [key, metric.label]));
    select("base", "Baseline", data.baselines.map((base) => [base, base]));
    select("scale", "Scale", [["log", "logarithmic"], ["linear", "linear"]]);
    for (const [key, values] of Object.entries(choices)) {
      select(key, FILTERS[key], [[ALL, "all"], ...values.map((value) => [value, value])]);
    }
    if (data.older.length) select("with", "Compare with", [["", "no other run"], ...data.older.map((run) => [run.run, run.label])]);
    for (const backend of data.backends) {
      const chip = element("button", { type: "button", class: "chip backend", style: `--own: ${backend.colour}`, text: backend.name });
      chip.addEventListener("click", () => {
        const hidden = new Set(state.hide.split(",").filter(Boolean));
        hidden.has(backend.name) ? hidden.delete(backend.name) : hidden.add(backend.name);
        set({ hide: [...hidden].join(",") });
      });
      chips.append(chip);
    }
    more.addEventListener("click", () => set({ shown: String(Number(state.shown) + PAGE) }));

    function read() {
      const [where, query = ""] = location.hash.slice(1).split("?");
      Object.assign(state, initial);
      if (where !== name) return;
      const known = { metric: Object.keys(METRICS), base: data.baselines, scale: ["log", "linear"], with: data.older.map((run) => run.run) };
      for (const [key, value] of new URLSearchParams(query)) {
        const allowed = known[key] || (choices[key] && [ALL, ...choices[key]]);
        if (key in state && (!allowed || allowed.includes(value))) state[key] = value; // what is unknown is left as it was
      }
      if (!(Number(state.shown) > 0)) state.shown = initial.shown;
    }
    function set(changes) {
      Object.assign(state, changes);
      const query = new URLSearchParams(Object.entries(state).filter(([key, value]) => value !== initial[key]));
      history.replaceState(null, "", `#${name}${String(query) && "?"}${query}`);
      draw();
    }

    const title = (case_) => [case_.phase, ...["device", "launch", "dtype", "cell", "study"].filter((key) => choices[key]).map((key) => case_[key]),
      ...["H", "B", "T"].filter((key) => case_[key] !== null).map((key) => `${key}\u00a0${case_[key]}`)].filter(Boolean).join(" · ");

    function draw() {
      for (const [key, box] of Object.entries(selects)) box.value = state[key];
      const hidden = new Set(state.hide.split(","));
      [...chips.children].forEach((chip, place) => chip.setAttribute("aria-pressed", String(!hidden.has(data.backends[place].name))));
      const backends = data.backends.filter((backend) => !hidden.has(backend.name));
      const metric = METRICS[state.metric];
      const found = data.cases.filter((case_) => Object.keys(choices).every((key) => state[key] === ALL || String(case_[key]) === state[key]));
      const panels = found.slice(0, Number(state.shown)).map((case_) => [case_, backends.map((backend) => {
        const own = case_.of[backend.name], value = own && metric.of(case_, own, state.base);
        return { backend, own, value: value ? value[0] : null, low: value ? value[1] : null, high: value ? value[2] : null, before: before(case_, backend.name) };
      })]);
      const values = panels.flatMap(([, rows]) => rows.filter((row) => row.value !== null).map((row) => row.value));
      count.textContent = `${Math.min(found.length, Number(state.shown))} of ${found.length} cases`
        + (found.length < data.cases.length ? ` that match, of ${data.cases.length}` : "") + (values.length ? "" : ": no backend measured this here");
      more.hidden = found.length <= Number(state.shown);
      const least = Math.min(...values), most = Math.max(...values);
      const domain = state.scale === "log" ? [least / 1.4, most * 1.4] : [0, most * 1.1];
      grid.replaceChildren(...(values.length ? panels : []).map(([case_, rows]) => panel(case_, rows, domain, metric)));
      show(data.cases.find((case_) => case_.id === state.case));
    }

    // The same metric of the older run: its speedup is the quotient of two of its times, its rates follow from its time.
    function before(case_, backend) {
      const run = data.older.find((run) => run.run === state.with), times = run && run.cases[case_.id];
      const [time, low, high] = (times && times[backend]) || [], own = case_.of[backend];
      if (!time) return null;
      if (state.metric === "time") return [time, low, high];
      if (state.metric === "speedup") return times[state.base] ? [times[state.base][0] / time, null, null] : null;
      const amount = { tokens: own && own.tokens, flops: own && own.flops }[state.metric];
      return amount ? rate(amount * own.time[0] / time, [time, low, high]) : null;
    }

    function panel(case_, every, domain, metric) {
      const rows = every.filter((row) => row.value !== null), missing = every.filter((row) => row.value === null);
      const columns = getComputedStyle(grid).gridTemplateColumns.split(" ").length, gap = 32;
      const width = Math.max(260, Math.floor((grid.clientWidth - gap * (columns - 1)) / columns));
      const inside = (value) => Math.min(Math.max(value, domain[0]), domain[1]);
      const left = 8 + 7 * Math.max(...rows.map((row) => row.backend.name.length)), height = 50 + 22 * rows.length;
      const speedup = metric === METRICS.speedup, isBaseline = (row) => speedup && row.backend.name === state.base;
      const ticks = ticksOf(domain, state.scale, width);
      const svg = Plot.plot({
        width, height, marginLeft: left, marginRight: 62, marginTop: 6, marginBottom: 42,
        style: { fontSize: "12.5px", background: "transparent", color: "inherit", fontFamily: "inherit", overflow: "visible" },
        x: { type: state.scale, domain, label: speedup ? `speedup over ${state.base}` : metric.label.toLowerCase().replace("flop", "FLOP"),
          labelAnchor: "center", labelArrow: "none", labelOffset: 38, tickSize: 0, ticks, tickFormat: (value) => tick(value, metric.unit) },
        y: { type: "band", domain: rows.map((row) => row.backend.name), label: null, tickSize: 0 },
        color: { type: "identity" }, symbol: { type: "identity" },
        marks: [
          Plot.gridX({ ticks }),
          ...(speedup && domain[0] <= 1 && domain[1] >= 1 ? [Plot.ruleX([1])] : []),
          Plot.ruleY(rows.filter((row) => row.low !== null && row.high !== null), {
            x1: (row) => inside(row.low), x2: (row) => inside(row.high), y: (row) => row.backend.name, stroke: (row) => row.backend.colour, strokeWidth: 2 }),
          Plot.dot(rows.filter((row) => row.before), { x: (row) => inside(row.before[0]), y: (row) => row.backend.name, symbol: "circle", r: 6.5, stroke: "var(--ink)", strokeWidth: 1.2 }),
          Plot.dot(rows, { x: "value", y: (row) => row.backend.name, symbol: (row) => symbol(row.backend.symbol), r: 4.5,
            fill: (row) => isBaseline(row) ? "var(--paper)" : row.backend.colour, stroke: (row) => row.backend.colour }),
          Plot.text(rows, { frameAnchor: "right", dx: 58, textAnchor: "end", y: (row) => row.backend.name, text: (row) => isBaseline(row) ? "1" : scaled(row.value, metric.unit),
            fontWeight: (row) => speedup && (row.low > 1 || (row.high !== null && row.high < 1)) ? 700 : 400 }),
        ],
      });
      const link = element("a", { href: `#${name}?case=${encodeURIComponent(case_.id)}`, text: title(case_) });
      link.addEventListener("click", (event) => { event.preventDefault(); set({ case: case_.id }); detail.scrollIntoView({ block: "nearest" }); });
      const box = element("div", { class: "chart", tabindex: "0", role: "group", "aria-roledescription": "chart",
        "aria-label": `${metric.label}, ${title(case_)}. ${rows.length} backends; the arrow keys read them one by one.` }, svg);
      const place = svg.scale("y");
      const rowAt = (y) => rows.findIndex((row) => y >= place.apply(row.backend.name) && y < place.apply(row.backend.name) + place.bandwidth);
      readable(box, rows.length, (_, y) => rowAt(y), (index) => [width / 2, place.apply(rows[index].backend.name)], (index) => words(case_, rows[index], metric));
      const rest = missing.length ? [element("p", { class: "soft unit", text: `Not measured: ${missing.map((row) => row.backend.name).join(", ")}.` })] : [];
      return element("div", { class: "panel" }, element("h4", {}, link), ...(rows.length ? [box] : []), ...rest);
    }

    function words(case_, row, metric) {
      const bounds = row.low === null || row.high === null ? "no interval" : `${scaled(row.low, metric.unit)} to ${scaled(row.high, metric.unit)}`;
      const what = metric === METRICS.latency ? "p5 to p95" : "95 % CI";
      const lines = [row.backend.name, `${metric.label}: ${scaled(row.value, metric.unit)}`, `${what}: ${bounds}`];
      if (row.before) lines.push(`older run (circle): ${scaled(row.before[0], metric.unit)}`);
      return row.own.notes.length ? [...lines, row.own.notes.join(", ")] : lines;
    }

    function show(case_) {
      detail.hidden = !case_;
      if (!case_) return;
      const head = ["Backend", "Time", "95 % CI", "p5", "p50", "p95", "p99", `Speedup over ${state.base}`, "Notes"];
      const rows = data.backends.filter((backend) => case_.of[backend.name]).map((backend) => {
        const own = case_.of[backend.name], [time, low, high] = own.time, ratio = own.speedup[state.base];
        const cells = [scaled(time, "s"), low === null || high === null ? "–" : `${scaled(low, "s")} to ${scaled(high, "s")}`,
          ...own.quantiles.map((value) => scaled(value, "s")),
          !ratio ? "–" : scaled(ratio[0], "×") + (ratio[1] === null || backend.name === state.base ? "" : ` [${significant(ratio[1])}, ${significant(ratio[2])}]`),
          own.notes.join(", ")];
        return element("tr", {}, element("th", { scope: "row", class: "backend", style: `--own: ${backend.colour}`, text: backend.name }),
          ...cells.map((text) => element("td", { text })));
      });
      const close = element("button", { type: "button", class: "plain", text: "Close" });
      close.addEventListener("click", () => set({ case: "" }));
      detail.replaceChildren(element("h4", { text: `${title(case_)} ` }, close), element("p", { class: "soft", text: `Case ${case_.id}` }),
        element("div", { class: "scroll", tabindex: "0" }, element("table", {}, element("thead", {}, element("tr", {}, ...head.map((text) => element("th", { scope: "col", text })))), element("tbody", {}, ...rows))));
    }

    root.hidden = false;
    read();
    draw();
    addEventListener("hashchange", () => { read(); draw(); });
    let width = innerWidth;
    addEventListener("resize", () => { if (innerWidth !== width && !matchMedia("print").matches) { width = innerWidth; draw(); } });
  }
  const root = document.querySelector("[data-explore]");
  if (root) start(root);
})();
