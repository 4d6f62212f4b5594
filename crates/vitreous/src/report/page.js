"use strict";
// Curves that can be zoomed, and the choice of the theme. Without scripts, the page has all but these.
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const changes = [];

  const button = document.getElementById("theme");
  const name = () => { button.textContent = isDark() ? "Light theme" : "Dark theme"; };
  const changed = () => { name(); changes.forEach((change) => change()); };
  button.hidden = false;
  button.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; changed(); });
  system.addEventListener("change", changed);
  name();

  const make = (tag, parent, properties) => parent.appendChild(Object.assign(document.createElement(tag), properties));

  // As TensorBoard: an exponential moving average whose start is corrected. Gaps stay gaps.
  const smoothed = (values, weight) => {
    let last = 0, count = 0;
    return values.map((value) => {
      if (value === null) return null;
      last = last * weight + (1 - weight) * value;
      count += 1;
      return last / (1 - Math.pow(weight, count));
    });
  };

  // Epochs and steps are whole, unless the view is narrower than one.
  const decades = (from, to) => Array.from({ length: to - from }, (_, i) => [1, 2, 5].map((digit) => Number(`${digit}e${from + i}`))).flat();
  const distances = (_, axis, min, max) => decades(max - min >= 1 ? 0 : -9, 19);

  const written = (value) => {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    return size !== 0 && (size < 1e-3 || size >= 1e6) ? value.toExponential(3).replace(/\.?0+e/, "e").replace("e+", "e") : String(Number(value.toPrecision(5)));
  };

  // On paper nothing can be unfolded.
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((details) => { details.open = true; }));

  document.querySelectorAll(".curves").forEach((place) => {
    const { charts, looks } = JSON.parse(place.querySelector(".data").textContent);
    let plots = [], isBusy = false;
    const controls = make("div", place, { className: "controls" });
    controls.setAttribute("role", "group");
    controls.setAttribute("aria-label", "How the curves are shown");

    const smooth = make("label", controls, { textContent: "Smoothing " });
    const weight = make("input", smooth, { type: "range", min: 0, max: 0.99, step: 0.01, value: 0 });
    const shown = make("output", smooth, { textContent: "0" });
    const isLog = make("input", make("label", controls), { type: "checkbox" });
    isLog.parentNode.append("Logarithmic loss");
    isLog.parentNode.hidden = !charts.some((chart) => chart.may_be_log);
    const move = (text, label, change) => {
      const one = make("button", controls, { type: "button", textContent: text });
      one.setAttribute("aria-label", label);
      one.title = label;
      one.addEventListener("click", () => {
        const { min, max } = plots[0].scales.x;
        const next = change(min, max);
        if (next.max - next.min > (end - first) * 1e-4) plots[0].setScale("x", next);
      });
    };
    const ends = () => {
      const all = charts.flatMap((chart) => chart.series.flatMap((series) => series.x));
      const [low, high] = all.reduce(([low, high], x) => [Math.min(low, x), Math.max(high, x)], [Infinity, -Infinity]);
      // One place has room around it: an axis without a length has no numbers.
      return low === high ? [low - 0.5, high + 0.5] : [low, high];
    };
    const [first, end] = ends();
    move("+", "Zoom in", (min, max) => ({ min: min + (max - min) / 4, max: max - (max - min) / 4 }));
    move("−", "Zoom out", (min, max) => ({ min: Math.max(first, min - (max - min) / 2), max: Math.min(end, max + (max - min) / 2) }));
    move("←", "Earlier", (min, max) => { const by = Math.min((max - min) / 4, min - first); return { min: min - by, max: max - by }; });
    move("→", "Later", (min, max) => { const by = Math.min((max - min) / 4, end - max); return { min: min + by, max: max + by }; });
    move("Reset", "Show everything", () => ({ min: first, max: end }));
    const everything = () => { plots[0].setScale("x", { min: first, max: end }); return null; };
    make("p", place, { className: "what", textContent: "Point at a curve to read its values; drag across to zoom, double-click to see everything." });
    const boxes = charts.map((chart) => {
      make("h3", place, { textContent: chart.title });
      const box = make("div", place);
      box.setAttribute("role", "img");
      const values = place.closest("section").querySelector("table") ? "; the table below has the values" : "";
      box.setAttribute("aria-label", `${chart.title} of ${chart.series.map((series) => series.name).join(", ")}${values}`);
      return box;
    });

    const draw = () => {
      const range = plots.length ? plots[0].scales.x : { min: first, max: end };
      plots.forEach((plot) => plot.destroy());
      const colors = isDark() ? looks.dark : looks.light;
      plots = charts.map((chart, at) => {
        const factor = Number(weight.value);
        const useLog = chart.may_be_log && isLog.checked;
        const tables = [], lines = [];
        const add = (series, values, label, alpha) => {
          tables.push([series.x, useLog ? values.map((value) => (value > 0 ? value : null)) : values]);
          const hasLook = series.look !== null;
          const dash = hasLook ? looks.dashes[series.look].split(" ").filter(Boolean).map(Number) : [];
          lines.push({
            label, stroke: (hasLook ? colors.series[series.look] : colors.soft) + alpha, width: alpha ? 1 : 2, dash,
            points: { show: !alpha && series.x.length <= 60, size: 6 }, value: (_, value) => written(value),
          });
        };
        chart.series.forEach((series) => {
          const isSmooth = factor > 0 && series.is_noisy;
          if (isSmooth) add(series, series.y, `${series.name}, as recorded`, "50");
          add(series, isSmooth ? smoothed(series.y, factor) : series.y, series.name, series.is_pale && !isSmooth ? "80" : "");
        });
        const axis = { stroke: colors.soft, grid: { stroke: colors.grid }, ticks: { stroke: colors.grid } };
        const plot = new uPlot({
          width: boxes[at].clientWidth || 600, height: 240,
          // Charts start at different places: each by itself would show another range.
          cursor: { sync: { key: "curves" }, drag: { x: true, y: false }, bind: { dblclick: () => () => everything() } },
          scales: { x: { time: false }, y: { distr: useLog ? 3 : 1 } },
          axes: [{ ...axis, label: chart.across, labelSize: 24, incrs: distances }, { ...axis, size: 64, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : written(tick))) }],
          series: [{ label: chart.across === "epoch" ? "epochs trained" : chart.across, value: (_, value) => written(value) }, ...lines],
          // Without a pointer, the legend has names alone.
          hooks: { setCursor: [(one) => one.root.classList.toggle("idle", one.cursor.idx == null)], setScale: [(one, key) => {
            if (key !== "x" || isBusy) return;
            isBusy = true;
            plots.filter((other) => other !== one).forEach((other) => other.setScale("x", { min: one.scales.x.min, max: one.scales.x.max }));
            isBusy = false;
          }] },
        }, uPlot.join(tables, tables.map((table) => table.map(() => 2))), boxes[at]);
        plot.root.classList.add("idle");
        return plot;
      });
      if (plots.length && range.min !== null) plots[0].setScale("x", { min: range.min, max: range.max });
    };
    weight.addEventListener("input", () => { shown.textContent = weight.value; draw(); });
    isLog.addEventListener("change", draw);
    changes.push(draw);
    draw();
    new ResizeObserver(() => plots.forEach((plot, at) => {
      const width = boxes[at].clientWidth;
      if (width && width !== plot.width) plot.setSize({ width, height: 240 });
    })).observe(place);
  });
})();
