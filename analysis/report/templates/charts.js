"use strict";
// What every chart of the page shares: numbers as text, ticks, and reading a chart by pointer and by keyboard.
const charts = (() => {
  const PREFIXES = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"], [1e-6, "µ"], [1e-9, "n"]];

  const significant = (value, digits = 3) => {
    if (value === 0) return "0";
    const decimals = Math.max(digits - 1 - Math.floor(Math.log10(Math.abs(value))), 0);
    return value.toFixed(Math.min(decimals, 12));
  };
  const scaled = (value, unit, digits = 3) => {
    if (unit === "×") return `${significant(value, digits)}×`;
    const rounded = Math.abs(Number(value.toPrecision(digits)));
    const [size, prefix] = PREFIXES.find(([size]) => rounded >= size) || PREFIXES[PREFIXES.length - 1];
    return `${significant(value / size, digits)}\u00a0${prefix}${unit}`.trim();
  };
  const tick = (value, unit) => {
    const text = scaled(value, unit);
    return text.replace(/(\.\d*?)0+(?=\D|$)/, "$1").replace(/\.(?=\D|$)/, "");
  };
  // Round values, few enough for their labels.
  function ticksOf([low, high], scale, width) {
    if (scale === "linear") return width < 420 ? 4 : 6;
    const decades = Math.log10(high / low), steps = decades > 2.5 ? [1] : decades > 1.2 ? [1, 3] : decades > 0.6 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 7];
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
      for (const step of steps) if (step * 10 ** power >= low && step * 10 ** power <= high) found.push(step * 10 ** power);
    }
    const most = Math.max(2, Math.floor(width / 75)), every = Math.ceil(found.length / most);
    return found.filter((_, place) => place % every === 0);
  }
  const element = (name, values = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(values)) key === "text" ? made.textContent = value : made.setAttribute(key, value);
    made.append(...children);
    return made;
  };

  const tip = document.getElementById("tip"), live = document.getElementById("live");
  // A chart that can be read: at(x, y) is the nearest mark's number or -1, where(number) its place, words(number) what it says;
  // move(number, step, across) is the next one of the keyboard.
  function readable(box, count, at, where, words, move = (number, step) => (number + step + count) % count) {
    let now = -1;
    const hide = () => { tip.hidden = true; now = -1; };
    const point = (index, spoken) => {
      if (index < 0) return hide();
      now = index;
      const bounds = box.getBoundingClientRect(), [x, y] = where(index), said = words(index);
      tip.replaceChildren(...said.map((text, line) => element(line ? "div" : "strong", { text })));
      tip.hidden = false;
      tip.style.left = `${Math.max(8, Math.min(bounds.left + x, innerWidth - tip.offsetWidth - 8))}px`;
      const above = bounds.top + y - tip.offsetHeight - 8;
      tip.style.top = `${above < 8 ? bounds.top + y + 26 : above}px`;
      if (spoken) live.textContent = said.join("; ");
    };
    box.addEventListener("pointermove", (event) => {
      const bounds = box.getBoundingClientRect();
      point(at(event.clientX - bounds.left, event.clientY - bounds.top));
    });
    box.addEventListener("pointerleave", hide);
    box.addEventListener("blur", hide);
    box.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
      if (step && count) {
        event.preventDefault();
        point(now < 0 ? (step > 0 ? 0 : count - 1) : move(now, step, event.key === "ArrowLeft" || event.key === "ArrowRight"), true);
      }
      if (event.key === "Escape") hide();
    });
  }
  // Symbols that Observable Plot does not have.
  const drawnAs = (draw) => ({ draw: (context, size) => draw(context, Math.sqrt(size)) });
  const OWN = {
    tick: drawnAs((context, r) => { context.moveTo(0, -r); context.lineTo(0, r); }),
    dash: drawnAs((context, r) => { context.moveTo(-r / 2, 0); context.lineTo(r / 2, 0); }),
    left: drawnAs((context, r) => { context.moveTo(r / 2, -r / 2); context.lineTo(-r / 2, 0); context.lineTo(r / 2, r / 2); context.closePath(); }),
    right: drawnAs((context, r) => { context.moveTo(-r / 2, -r / 2); context.lineTo(r / 2, 0); context.lineTo(-r / 2, r / 2); context.closePath(); }),
  };
  const symbol = (name) => OWN[name] || name;
  return { significant, scaled, tick, ticksOf, element, readable, symbol };
})();

// The figures, drawn again at the width of the window; without scripts and in print the static ones are seen.
(() => {
  const { significant, scaled, element, readable, symbol } = charts;
  const PANEL = 340, GAP = 32; // pixels: the least width of a panel beside another, and what lies between
  const RAISED = { "-": "\u207b", ...Object.fromEntries([..."\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"].map((digit, place) => [place, digit])) };
  function written(value, axis) {
    if (axis.as === "percent") return `${significant(100 * value)}\u00a0%`;
    if (axis.as === "name") return (axis.ticks.find(([at]) => Math.abs(at - value) < 0.5) || ["", significant(value)])[1];
    if (axis.as === "power") {
      const exponent = Math.floor(value);
      return `${significant(10 ** (value - exponent), 2)} × 10${[...String(exponent)].map((digit) => RAISED[digit]).join("")}`;
    }
    return Math.abs(value) >= 1e5 || (value !== 0 && Math.abs(value) < 1e-3) ? scaled(value, "") : String(Number(value.toPrecision(3)));
  }
  const key = ({ name, stroke, dash, symbol: mark }) => element("span", { class: `key${dash ? " dashed" : ""}${mark ? " marked" : ""}`, style: `--own: ${stroke}`, text: name });
  const keys = (found) => element("p", { class: "keys" }, ...found.map(key));

  function panel(data, width) {
    const { x, y } = data, longest = Math.max(0, ...y.ticks.map(([, text]) => text.length));
    const outside = data.texts.filter((text) => text.anchor === "start" && text.x > Math.max(...x.domain));
    const right = 14 + Math.min(130, 7 * Math.max(0, ...outside.map((text) => text.text.length)));
    // Names of rows that would leave the rows no room lie above them.
    const beside = 10 + 7.2 * longest, above = y.as === "name" && beside > width / 2, left = above ? 10 : beside;
    const every = Math.ceil(x.ticks.reduce((sum, [, text]) => sum + 7.5 * text.length + 14, 0) / (width - left - right));
    const ticks = x.ticks.filter((_, place) => place % every === 0);
    const named = (axis, shown) => ({ type: axis.type, domain: axis.domain, label: null, ticks: shown.map(([at]) => at), tickSize: 0,
      tickFormat: (at) => (shown.find(([value]) => value === at) || ["", ""])[1] });
    const point = { x: (at) => at[0], y: (at) => at[1] };
    const height = Math.max(data.height, above ? 48 * y.ticks.length : 120) + 46;
    const svg = Plot.plot({
      width, height, marginLeft: left, marginRight: right, marginTop: 8, marginBottom: 40, clip: false,
      style: { fontSize: "12.5px", background: "transparent", color: "inherit", fontFamily: "inherit", overflow: "visible" },
      x: { ...named(x, ticks), label: x.label, labelAnchor: "center", labelArrow: "none", labelOffset: 36 }, y: named(y, above ? [] : y.ticks),
      marks: [
        !x.grid ? null : Plot.gridX({ ticks: ticks.map(([at]) => at) }), !y.grid ? null : Plot.gridY({ ticks: y.ticks.map(([at]) => at) }),
        ...data.areas.map((area) => Plot.line(area.points, { ...point, curve: "linear-closed", fill: area.fill, fillOpacity: area.opacity, stroke: area.edge, strokeWidth: 2, clip: true })),
        ...data.lines.filter((line) => line.width).map((line) => Plot.line(line.points, { ...point, stroke: line.stroke, strokeWidth: line.width * 1.25,
          strokeOpacity: line.opacity, strokeDasharray: line.dash || null, clip: true })),
        ...data.lines.filter((line) => line.symbol).map((line) => Plot.dot(line.points, { ...point, symbol: symbol(line.symbol), r: line.size * 0.62,
          fill: ["plus", "times", "tick", "dash"].includes(line.symbol) ? "none" : line.fill, stroke: /paper/.test(line.edge) ? line.fill : line.edge, opacity: line.opacity,
          clip: ["tick", "dash"].includes(line.symbol) })),
        ...data.texts.map((text) => Plot.text([text], { x: "x", y: "y", text: "text", textAnchor: text.anchor, fill: text.fill === "currentColor" ? "var(--ink)" : text.fill,
          fillOpacity: text.opacity, fontWeight: text.bold ? 700 : 400 })),
        !above ? null : Plot.text(y.ticks, { x: () => x.domain[0], y: ([at]) => at, text: ([, name]) => name, textAnchor: "start", lineAnchor: "bottom", dy: -9,
          lineWidth: (width - left - right) / 12.5 }),
      ],
    });
    // Where a row is named by the axis, its marks have the row's name.
    const row = (at) => y.as === "name" ? (y.ticks.find(([value]) => Math.abs(value - at[1]) < 0.2) || [0, ""])[1] : "";
    const found = data.lines.flatMap((line) => line.points.map((at) => ({ line, at, name: line.name || (line.symbol ? row(at) : ""),
      place: [svg.scale("x").apply(at[0]), svg.scale("y").apply(at[1])] }))).filter((mark) => mark.name);
    // A bar of the same colour through a point is its interval.
    const bars = data.lines.filter((line) => !line.name && !line.symbol && line.points.length === 2);
    const words = ({ line, at, name }) => {
      const along = y.as === "name" ? 0 : 1, axis = along ? y : x;
      const bar = bars.find(({ stroke, points: ends }) => [line.stroke, line.edge, line.fill].includes(stroke) && ends.every((end) => end[1 - along] === at[1 - along])
        && Math.min(...ends.map((end) => end[along])) <= at[along] && at[along] <= Math.max(...ends.map((end) => end[along])));
      const said = [name, `${x.label || "value"}: ${written(at[0], x)}`, ...(along ? [`${y.label || "value"}: ${written(at[1], y)}`] : [])];
      return bar ? [...said, `interval: ${bar.points.map((end) => end[along]).sort((a, b) => a - b).map((end) => written(end, axis)).join(" to ")}`] : said;
    };
    const distance = ({ place }, at) => Math.hypot(place[0] - at[0], place[1] - at[1]);
    const nearest = (from, at) => from.reduce((best, mark) => !best || distance(mark, at) < distance(best, at) ? mark : best, null);
    const series = [...new Set(found.map((mark) => mark.line))];
    const move = (number, step, across) => {
      const now = found[number];
      if (across) return Math.min(Math.max(number + step, 0), found.length - 1);
      const other = series[(series.indexOf(now.line) + step + series.length) % series.length];
      return found.indexOf(nearest(found.filter((mark) => mark.line === other), now.place));
    };
    const box = element("div", { class: "chart", tabindex: "0", role: "group", "aria-roledescription": "chart",
      "aria-label": `${data.title || "Chart"}: ${y.label} over ${x.label}. Left and right follow a line, up and down change it.` }, svg);
    readable(box, found.length, (...at) => { const mark = nearest(found, at); return mark && distance(mark, at) < 40 ? found.indexOf(mark) : -1; },
      (number) => found[number].place, (number) => words(found[number]), move);
    const heading = element("h4", { text: data.title }), unit = element("span", { class: "soft unit", text: y.label });
    return element("div", { class: "panel" }, ...(data.title ? [heading] : []), ...(y.label ? [unit] : []), box, ...(data.keys.length ? [keys(data.keys)] : []));
  }

  const figures = [...document.querySelectorAll("figure .chart-data")].map((held) => {
    const figure = held.closest("figure"), grid = element("div", { class: "live" });
    figure.querySelector(".static").after(grid);
    return { figure, grid, data: JSON.parse(held.textContent) };
  });
  function draw({ figure, grid, data }) {
    figure.classList.add("redrawn");
    const width = grid.clientWidth, columns = Math.max(1, Math.min(data.panels.length, Math.floor((width + GAP) / (PANEL + GAP))));
    const own = Math.floor((width - GAP * (columns - 1)) / columns);
    grid.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
    grid.replaceChildren(...(data.keys.length ? [keys(data.keys)] : []), ...data.panels.map((one) => panel(one, Math.min(own, 760))));
  }
  // The first at once, the others one by one: a page has some fifty panels.
  let pending;
  function drawAll() {
    clearTimeout(pending);
    const rest = [...figures];
    const next = () => {
      if (!rest.length) return;
      draw(rest.shift());
      pending = setTimeout(next);
    };
    next();
  }
  drawAll();
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width && !matchMedia("print").matches) { width = innerWidth; drawAll(); } });
})();
