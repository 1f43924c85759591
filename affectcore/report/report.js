// The page of a report: fills tables and draws charts from the data that the page carries. Text enters the document by
// textContent only.
"use strict";
(async () => {
  const $ = (id) => document.getElementById(id);
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const MARKS = ["●", "■", "▲", "◆", "✚", "▼", "▶", "◀"]; // as the shapes of figures.py
  const LABELS = {
    n: "n", mean: "mean", turn: "turn", rate: "share", survival: "share without", at_risk: "at risk", share: "share", cost: "cost",
    low: "from", high: "to", bucket: "context length", ci_low: "interval from", ci_high: "interval to",
  };
  const EXTRA = { d_to_best: "Cohen's d", delta_to_best: "Cliff's δ", p_to_best: "p", p_holm_to_best: "p (Holm)" };
  const SHARES = new Set(["rate", "survival", "share"]);

  async function load() {
    const bytes = Uint8Array.from(atob($("data").textContent), (c) => c.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
  }

  const data = await load();
  const state = { metric: data.metrics[0], models: null, threshold: {}, dark: matchMedia("(prefers-color-scheme: dark)").matches };
  const theme = () => (state.dark ? "dark" : "light");
  const say = (text) => { $("status").textContent = text; };

  // Rows of a table of one metric as objects; `by`, `a` and `b` as names.
  function rows(kind, metric = state.metric) {
    const columns = kind === "emotions" ? data.emotions : Object.hasOwn(data[kind], metric.key) && data[kind][metric.key];
    if (!columns) return [];
    const names = Object.keys(columns);
    return columns[names[0]].map((_, i) => Object.fromEntries(
      names.map((name) => [name, ["by", "a", "b"].includes(name) ? data.models[columns[name][i]] : columns[name][i]])));
  }

  const whole = (x) => (x == null ? "" : x.toLocaleString("en"));
  const fixed = (x, digits) => (x == null ? "" : x.toFixed(digits).replace(/^-(0\.?0*)$/, "$1").replace("-", "−"));
  const percent = (x) => (x == null ? "" : `${(100 * x).toFixed(1)}%`);
  const range = (low, high, digits) => (low == null ? "" : `${fixed(low, digits)} to ${fixed(high, digits)}`);
  // Decimals such that the narrowest interval still shows two digits of its half width.
  function decimals(list) {
    const halves = list.map((r) => (r.ci_high - r.ci_low) / 2).filter((h) => h > 1e-9);
    return halves.length ? Math.min(6, Math.max(0, 1 - Math.floor(Math.log10(Math.min(...halves))))) : 3;
  }

  // A table with sortable columns and, where it is long, a filter on its names.
  // Columns: name, value(row) to sort by, text(row) or fill(cell, row), and number, head or style where they differ.
  function grid(host, caption, columns, list, { sort = null, kind = "", word = "models" } = {}) {
    const heads = columns.map((column, i) => {
      const arrow = make("i", { ariaHidden: "true" });
      const button = make("button", { type: "button" }, column.name, arrow);
      const head = make("th", { scope: "col", className: `${column.style ?? ""}${column.number ? " number" : ""}` }, button);
      if (column.head) head.append(column.head);
      button.addEventListener("click", () => {
        order = { at: i, down: order.at === i ? !order.down : Boolean(column.down) };
        fill();
        say(`Sorted by ${column.name}, ${order.down ? "descending" : "ascending"}`);
      });
      return head;
    });
    let order = { at: sort ?? -1, down: false };
    const body = make("tbody");
    const table = make("table", {}, make("caption", {}, caption), make("thead", {}, make("tr", {}, ...heads)), body);
    const scroll = make("div", { className: `scroll ${kind}`, tabIndex: 0, role: "region", ariaLabel: caption }, table);
    const input = make("input", { type: "search", autocomplete: "off", value: host.querySelector("input")?.value ?? "" });
    const shown = make("span");
    const lines = list.map((row) => {
      const cells = columns.map((column) => {
        const cell = make(column.style === "name" ? "th" : "td", { className: column.style ?? (column.number ? "number" : "") });
        if (column.style === "name") Object.assign(cell, { scope: "row", title: column.text(row) });
        if (column.fill) column.fill(cell, row); else cell.textContent = column.text(row);
        return cell;
      });
      const names = columns.filter((c) => !c.number && c.text).map((c) => c.text(row));
      return { row, line: make("tr", {}, ...cells), words: names.join(" ").toLowerCase() };
    });
    function fill() {
      const wanted = input.value.trim().toLowerCase();
      const kept = lines.filter((l) => l.words.includes(wanted));
      if (order.at >= 0) {
        const value = columns[order.at].value;
        const sign = order.down ? -1 : 1;
        kept.sort((a, b) => {
          const x = value(a.row), y = value(b.row);
          if (x == null || y == null) return (x == null) - (y == null);
          return sign * (typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y);
        });
      }
      heads.forEach((head, i) => {
        head.ariaSort = i === order.at ? (order.down ? "descending" : "ascending") : "none";
        head.querySelector("i").textContent = i !== order.at ? "" : order.down ? "▾" : "▴";
      });
      body.replaceChildren(...kept.map((l) => l.line));
      shown.textContent = wanted ? `${kept.length} of ${lines.length} ${word}` : "";
    }
    input.addEventListener("input", () => { fill(); say(shown.textContent); });
    fill();
    const filter = make("div", { className: "filter" }, make("label", {}, `Filter ${word} `, input), shown);
    host.replaceChildren(...(list.length > 5 ? [filter] : []), scroll);
  }

  const named = { name: data.by, style: "name", value: (r) => r.by, text: (r) => r.by };

  function leaderboard() {
    const list = rows("table");
    const digits = decimals(list);
    const ends = list.flatMap((r) => [r.mean, r.ci_low, r.ci_high]).filter((x) => x != null);
    const [low, high] = ends.length ? [Math.min(...ends), Math.max(...ends)] : [0, 1];
    const rough = (high - low || Math.abs(high) || 1) / 4;
    const ten = 10 ** Math.floor(Math.log10(rough));
    const step = ten * [1, 2, 5, 10].find((k) => k * ten >= rough * 0.999);
    const ticks = []; // multiples of the step, one beyond each end
    for (let i = Math.floor(low / step + 1e-9); ticks.length < 2 || ticks.at(-1) < high - 1e-9 * step; i++) ticks.push(i * step);
    const scale = (x) => (100 * (x - ticks[0])) / (ticks.at(-1) - ticks[0]);
    const place = (element, x) => { element.style.left = `${scale(x)}%`; return element; };
    const axis = make("div", { className: "ticks", ariaHidden: "true" }, ...ticks.map((t) => place(make("span", {}, fixed(t, Math.max(0, -Math.floor(Math.log10(step) + 1e-9)))), t)));
    const level = `${+(100 * data.confidence).toFixed(6)}% interval`;
    const known = ["by", "n", "n_clusters", "mean", "ci_low", "ci_high", "rank", "rank_low", "rank_high", "diff_to_best", "diff_low", "diff_high", "n_null"];
    const extra = Object.keys(list[0] ?? {}).filter((c) => !known.includes(c) && list.some((r) => typeof r[c] === "number"));
    const number = (name, value, text) => ({ name, number: true, value, text: text ?? ((r) => whole(value(r))) });
    grid($("board"), `Leaderboard of ${state.metric.name}`, [
      { ...number("rank", (r) => r.rank, (r) => (r.rank == null ? "" : r.rank_low == null || r.rank_low === r.rank_high ? `${r.rank}` : `${r.rank} (${r.rank_low}–${r.rank_high})`)), style: "rank number" },
      named,
      number("mean", (r) => r.mean, (r) => fixed(r.mean, digits)),
      {
        name: level, style: "plot", head: axis, value: (r) => r.ci_low, fill: (cell, r) => {
          const strip = make("div", { className: "strip", ariaHidden: "true" });
          for (const t of ticks) strip.append(place(make("span", { className: t === 0 ? "tick zero" : "tick" }), t));
          if (r.ci_low != null) {
            const line = place(make("span", { className: "line" }), r.ci_low);
            line.style.width = `${scale(r.ci_high) - scale(r.ci_low)}%`;
            strip.append(line);
          }
          if (r.mean != null) strip.append(place(make("span", { className: "dot" }), r.mean));
          cell.append(strip);
        },
      },
      number("from, to", (r) => r.ci_low, (r) => range(r.ci_low, r.ci_high, digits)),
      number("to first", (r) => r.diff_to_best, (r) => (r.diff_low == null ? "" : `${r.diff_to_best > 0 ? "+" : ""}${fixed(r.diff_to_best, digits)} (${range(r.diff_low, r.diff_high, digits)})`)),
      number("n", (r) => r.n),
      ...(list.some((r) => r.n_null) ? [number("null", (r) => r.n_null)] : []),
      ...extra.map((c) => number(EXTRA[c] ?? c.replaceAll("_", " "), (r) => r[c], (r) => (Number.isInteger(r[c]) ? whole(r[c]) : r[c] == null ? "" : String(+r[c].toPrecision(3)).replace("-", "−")))),
    ], list, { sort: 0, kind: "wide" });

    const [first, ...others] = list.filter((r) => r.mean != null);
    const compared = others.filter((r) => r.diff_low != null);
    const near = compared.filter((r) => r.diff_low <= 0 && r.diff_high >= 0);
    $("summary").textContent = !first ? "No model has values of this metric." :
      `${first.by} has the ${state.metric.first} mean, ${fixed(first.mean, digits)}` +
      (first.ci_low == null ? "." : ` (${level} ${range(first.ci_low, first.ci_high, digits)}).`) +
      (!compared.length ? "" : near.length ?
        ` ${whole(near.length)} of the ${whole(compared.length)} others cannot be told from it: the interval of the difference includes zero.` :
        ` ${compared.length === 1 ? "The other differs" : compared.length === 2 ? "Both others differ" : `All ${whole(compared.length)} others differ`} from it: no interval of a difference includes zero.`);
  }

  function chosen() {
    return state.models ?? state.metric.pick;
  }

  // Draws the chart of a section for the metric, models and threshold of the page.
  async function draw(section) {
    const kind = section.dataset.kind;
    const part = (name) => section.querySelector(name);
    const host = part(".chart");
    const all = rows(kind);
    for (const name of [".choice", ".legend", ".after", ".caption"]) part(name).replaceChildren();
    part(".data").hidden = host.hidden = !all.length;
    if (!all.length) {
      part(".choice").append("Not computed for this metric. There is: ", ...data.metrics.filter((m) => Object.hasOwn(data[kind], m.key)).map((m) => {
        const button = make("button", { type: "button" }, m.name);
        button.addEventListener("click", () => { state.metric = m; $("metric").value = data.metrics.indexOf(m); update(); });
        return button;
      }));
      return;
    }
    const metric = state.metric;
    let list = all;
    let event = "";
    if ("threshold" in all[0]) {
      const there = [...new Set(all.map((r) => r.threshold))].sort((a, b) => a - b);
      const key = metric.key;
      if (!there.includes(state.threshold[key])) state.threshold[key] = there[Math.floor(there.length / 2)];
      event = `${metric.name} of ${state.threshold[key]} or more`;
      if (there.length > 1) {
        const select = make("select", {}, ...there.map((t) => make("option", { value: t, selected: t === state.threshold[key] }, String(t))));
        select.addEventListener("change", async () => {
          state.threshold[key] = Number(select.value);
          await charts();
          part("select").focus();
        });
        part(".choice").append(make("label", {}, "Threshold ", select));
      }
      list = all.filter((r) => r.threshold === state.threshold[key]);
    }
    const there = new Set(list.map((r) => r.by));
    const models = kind === "frontier" ? [] : chosen().filter((m) => there.has(m));
    const slot = new Map(chosen().map((m, i) => [m, i]));
    let name = kind;
    if (kind === "frontier") {
      list = list.filter((r) => r.cost != null).sort((a, b) => a.cost - b.cost || b.on_frontier - a.on_frontier);
      let n = 0;
      for (const r of list) r.number = r.on_frontier ? String(++n) : "";
      const costs = list.map((r) => r.cost);
      if (Math.min(...costs) > 0 && Math.max(...costs) > 20 * Math.min(...costs)) name = "frontier_log";
      part(".after").append(make("ol", {}, ...list.filter((r) => r.on_frontier).map((r) => make("li", {}, r.by))));
    } else {
      list = list.filter((r) => slot.has(r.by)).sort((a, b) => slot.get(a.by) - slot.get(b.by));
      if (kind !== "rates" && kind !== "distributions") part(".legend").append(...models.map((m) => {
        const mark = make("span", { ariaHidden: "true" }, MARKS[slot.get(m)]);
        mark.style.color = data.themes[theme()].models[slot.get(m)];
        return make("li", {}, mark, m);
      }));
    }
    const title = part("h2").textContent.trim();
    const y = ["survival", "rate", "mean"].find((f) => f in list[0]) ?? "";
    const show = (x) => (SHARES.has(y) ? percent(x) : String(+(x ?? NaN).toPrecision(3)));
    const ends = !y || kind === "frontier" ? "" : models.map((m) => {
      const own = list.filter((r) => r.by === m && r[y] != null);
      if (!own.length) return "";
      return own.length === 1 ? `${m} ${show(own[0][y])}` : `${m} from ${show(own[0][y])} to ${show(own.at(-1)[y])}`;
    }).filter(Boolean).join("; ");
    const front = list.filter((r) => r.on_frontier).map((r) => r.by).join(", ");
    host.ariaLabel = `Chart. ${title}. ${ends || (kind === "frontier" ? `On the frontier, from the cheapest: ${front}` : models.join("; "))}. The numbers are in the table below.`;

    const width = host.clientWidth;
    const labels = { axis: metric.axis, metric: metric.name, event, cost: data.cost };
    const spec = JSON.parse(JSON.stringify(data.specs[name]), (_, v) =>
      typeof v === "string" ? v.replace(/@(axis|metric|event|cost)/g, (_, key) => labels[key]) : Array.isArray(v) && v[0] === "@models" ? chosen() : v);
    part(".caption").textContent = [...spec.title.subtitle, data.thinned[kind]].filter(Boolean).join(" ");
    delete spec.title;
    spec.config = structuredClone(data.configs[theme()]);
    spec.config.legend = { disable: true };
    if (width < 500) spec.config.axisY.labelLimit = 130;
    spec.datasets = { rows: list };
    // Numbers stand outside the frontier: below it where the lowest mean is first, else above.
    if (kind === "frontier") spec.layer.at(-1).mark.dy = metric.first === "lowest" ? 10 : -10;
    // Faceted charts cannot fit themselves into a width.
    if (kind === "distributions") spec.width = Math.min(width, 900) - 16;
    else Object.assign(spec, kind === "rates" ? { height: 22 * models.length } : {}, { width: Math.min(width, 900), autosize: { type: "fit-x", contains: "padding" } });
    const inside = make("div"); // Vega gives the element that it draws in a label of its own
    host.replaceChildren(inside);
    await vegaEmbed(inside, spec, {
      mode: "vega-lite", ast: true, renderer: "svg", actions: false, defaultStyle: false, tooltip: { disableDefaultStyle: true },
    });
    const numbers = part(".data");
    const fill = () => grid(numbers.lastElementChild, title, [
      named,
      ...Object.keys(list[0]).filter((c) => LABELS[c] && !("bucket" in list[0] && (c === "low" || c === "high"))).map((c) => ({
        name: LABELS[c], number: true, value: (r) => (c === "bucket" ? r.low : r[c]),
        text: (r) => (typeof r[c] === "string" ? r[c] : Number.isInteger(r[c]) && !SHARES.has(c) ? whole(r[c]) : SHARES.has(y || c) && c !== "low" && c !== "high" && c !== "cost" ? percent(r[c]) : r[c] == null ? "" : String(+r[c].toPrecision(4)).replace("-", "−")),
      })),
    ], list, { word: "rows" });
    numbers.ontoggle = () => { if (numbers.open) fill(); };
    if (numbers.open) fill();
  }

  let drawn = Promise.resolve();
  const charts = () => (drawn = drawn.then(async () => { // one after the other, so that the latest choice stays
    for (const section of document.querySelectorAll(".chart-section")) await draw(section);
  }));

  function heat() {
    if (!data.emotions) return;
    const cells = new Map();
    const total = new Map();
    for (const r of rows("emotions")) {
      if (!cells.has(r.by)) cells.set(r.by, { by: r.by });
      cells.get(r.by)[r.emotion] = r.mean;
      total.set(r.emotion, (total.get(r.emotion) ?? 0) + (r.mean ?? 0));
    }
    const names = [...total.keys()].sort((a, b) => total.get(b) - total.get(a));
    const place = new Map(rows("table").map((r, i) => [r.by, i]));
    const list = [...cells.values()].sort((a, b) => (place.get(a.by) ?? 1e9) - (place.get(b.by) ?? 1e9));
    const top = Math.max(1e-9, ...rows("emotions").map((r) => r.mean ?? 0));
    const { heat: colours, text, paper } = data.themes[theme()];
    const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
    const mix = (share) => {
      const at = Math.min(share, 0.9999) * (colours.length - 1);
      const [from, to] = [rgb(colours[Math.floor(at)]), rgb(colours[Math.floor(at) + 1])];
      return from.map((v, i) => Math.round(v + (to[i] - v) * (at % 1)));
    };
    const light = (colour) => colour.map((v) => { const c = v / 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; })
      .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const contrast = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    grid($("heat"), "Mean probability of each emotion", [
      named,
      ...names.map((name) => ({
        name, number: true, down: true, value: (r) => r[name], fill: (cell, r) => {
          const x = r[name];
          if (x == null) return;
          cell.textContent = Math.round(100 * x) || "·";
          cell.title = `${r.by}, ${name}: ${x}`;
          const colour = mix(Math.sqrt(Math.max(0, x) / top));
          const back = light(colour);
          cell.style.background = `rgb(${colour})`;
          cell.style.color = contrast(back, light(rgb(text))) >= contrast(back, light(rgb(paper))) ? text : paper;
        },
      })),
    ], list, { kind: "heat" });
  }

  function pairs() {
    if (!data.pairs) return;
    const list = rows("pairs");
    const digits = decimals(list.map((r) => ({ ci_low: r.diff_low, ci_high: r.diff_high })));
    grid($("pair-table"), "Differences between models", [
      { name: "first", style: "name", value: (r) => r.a, text: (r) => r.a },
      { name: "second", value: (r) => r.b, text: (r) => r.b },
      { name: "difference", number: true, value: (r) => r.diff, text: (r) => fixed(r.diff, digits) },
      { name: "from, to", number: true, value: (r) => r.diff_low, text: (r) => range(r.diff_low, r.diff_high, digits) },
      { name: "includes zero", value: (r) => (r.diff_low == null ? "" : r.diff_low <= 0 && r.diff_high >= 0 ? "yes" : "no"), text: (r) => (r.diff_low == null ? "" : r.diff_low <= 0 && r.diff_high >= 0 ? "yes" : "no") },
    ], list, { word: "pairs" });
  }

  function picker() {
    const host = $("picker");
    if (!host) return;
    $("count").textContent = `: ${chosen().length} of ${data.models.length}`;
    const names = rows("table").map((r) => r.by);
    const input = make("input", { type: "search", placeholder: "Filter models", ariaLabel: "Filter models", autocomplete: "off" });
    const list = make("div", { className: "list" }, ...names.map((m) => {
      const box = make("input", { type: "checkbox", checked: chosen().includes(m) });
      box.addEventListener("change", () => {
        const now = chosen().filter((other) => other !== m);
        if (box.checked && now.length >= data.most) {
          box.checked = false;
          limit.textContent = `A chart shows up to ${data.most} models: take one out first.`;
          return;
        }
        if (!box.checked && !now.length) { box.checked = true; return; }
        limit.textContent = "";
        state.models = names.filter((other) => (other === m ? box.checked : now.includes(other)));
        $("count").textContent = `: ${state.models.length} of ${data.models.length}`;
        charts();
      });
      return make("label", {}, box, m);
    }));
    input.addEventListener("input", () => {
      for (const label of list.children) label.hidden = !label.textContent.toLowerCase().includes(input.value.trim().toLowerCase());
    });
    const limit = make("p", { className: "note", role: "status" });
    const reset = make("button", { type: "button" }, "Best, worst and others between");
    reset.addEventListener("click", () => { state.models = null; picker(); charts(); $("models").firstElementChild.focus(); });
    host.replaceChildren(input, list, limit, reset);
  }

  async function update() {
    for (const span of document.querySelectorAll("h2 .metric")) span.textContent = state.metric.name;
    leaderboard();
    picker();
    heat();
    pairs();
    let any = false;
    for (const article of document.querySelectorAll(".text")) {
      article.hidden = data.metrics[article.dataset.metric] !== state.metric;
      any ||= !article.hidden;
    }
    if ($("no-texts")) $("no-texts").hidden = any;
    await charts();
  }

  async function paint() {
    document.documentElement.dataset.theme = theme();
    $("theme").textContent = state.dark ? "Light" : "Dark";
    heat();
    await charts();
  }

  $("metric").addEventListener("change", () => { state.metric = data.metrics[$("metric").value]; update(); });
  $("theme").addEventListener("click", () => { state.dark = !state.dark; paint(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (e) => { state.dark = e.matches; paint(); });
  document.addEventListener("keydown", (e) => {
    if (e.key === "Escape" && $("models")?.open) { $("models").open = false; $("models").firstElementChild.focus(); }
  });
  document.addEventListener("click", (e) => { if ($("models")?.open && !$("models").contains(e.target)) $("models").open = false; });
  let width = innerWidth;
  let wait;
  addEventListener("resize", () => {
    clearTimeout(wait);
    wait = setTimeout(() => { if (width !== innerWidth) { width = innerWidth; charts(); } }, 150);
  });
  document.documentElement.dataset.theme = theme();
  $("theme").textContent = state.dark ? "Light" : "Dark";
  await update();
  document.documentElement.dataset.ready = "yes";
})().catch((error) => {
  const message = document.getElementById("failure");
  message.textContent = `The page could not be drawn (${error.message}). It needs a browser of 2023 or later.`;
  message.hidden = false;
  throw error;
});
