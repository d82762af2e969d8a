"use strict";
// The page's only script. Documents reach the page through textContent and attributes set one by one, never as markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const whole = new Intl.NumberFormat("en");
  const SVG = "http://www.w3.org/2000/svg";
  const STEP = 20, NEAR = 4;

  function el(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) if (value != null) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }
  function svg(tag, attributes, ...children) {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }
  const short = (x) => (Number.isInteger(x) ? whole.format(x) : String(Number(x.toPrecision(3)))).replace("-", "\u2212");
  const percent = (part, all) => (all ? ` (${((100 * part) / all).toFixed(1)} %)` : "");
  const documents = (n) => `${whole.format(n)} ${n === 1 ? "document" : "documents"}`;
  const label = (doc) => (doc.reason ? `${doc.stage}/${doc.reason}` : doc.set === "kept" ? "kept" : `kept in ${doc.set}`);

  // ---- a document

  function marked(text, query) {
    const out = document.createDocumentFragment();
    if (!query) { out.append(text); return out; }
    const low = text.toLowerCase();
    // Lower case may be longer than the text (one letter of Turkish): then nothing is marked, rather than the wrong place.
    let at = 0, found = low.length === text.length ? low.indexOf(query) : -1;
    while (found >= 0) {
      out.append(text.slice(at, found), el("mark", {}, text.slice(found, found + query.length)));
      at = found + query.length;
      found = low.indexOf(query, at);
    }
    out.append(text.slice(at));
    return out;
  }

  function card(doc, query, compact) {
    const facts = el("p", { class: "facts" }, el("span", { class: "outcome" }, label(doc)));
    if (doc.value != null) facts.append(el("span", {}, `value ${short(doc.value)}`));
    for (const [name, value] of Object.entries(doc.scores)) if (!(doc.reason && value === doc.value)) facts.append(el("span", {}, `${name} ${short(value)}`));
    if (doc.host) facts.append(el("span", {}, marked(doc.host, query)));
    if (!compact) facts.append(el("span", {}, doc.chars ? `${whole.format(doc.chars)} characters` : ""), el("span", { class: "id" }, marked(doc.id || `key:${doc.key}`, query)));
    const node = el("article", { class: (doc.reason ? "dropped-doc" : "kept-doc") + (compact ? "" : " short") }, facts);
    if (doc.text == null) { node.append(el("p", { class: "no-text" }, "The text was not kept.")); return node; }
    node.append(el("p", { class: "text" }, marked(doc.text, query)));
    if (!compact && (doc.text.length > 560 || doc.text.split("\n").length > 7)) {
      const more = el("button", { type: "button", class: "link", "aria-expanded": "false" }, "Show the whole excerpt");
      more.addEventListener("click", () => {
        const open = node.classList.toggle("short") === false;
        more.textContent = open ? "Show less" : "Show the whole excerpt";
        more.setAttribute("aria-expanded", String(open));
      });
      node.append(more);
    }
    return node;
  }

  // ---- distributions and limits

  const measures = data.measures;
  const valueOf = (doc, m) => (m.kind === "score" ? doc.scores[m.name] : doc.reason && `${doc.stage}/${doc.reason}` === m.name ? doc.value : undefined);

  // Documents of bins that pass at a limit; inside a bin they are taken to lie evenly.
  function passing(m, limit) {
    let n = 0;
    m.counts.forEach((k, i) => {
      const low = m.edges[i], high = m.edges[i + 1];
      if (m.whole) n += (m.least ? low >= limit : low <= limit) ? k : 0;
      else n += k * (m.least ? Math.min(1, Math.max(0, (high - limit) / (high - low))) : Math.min(1, Math.max(0, (limit - low) / (high - low))));
    });
    return Math.round(n);
  }

  function draw(m, limit) {
    const height = 176, top = 18, bottom = 132, low = m.edges[0], high = m.edges[m.edges.length - 1];
    const x = (v) => `${(100 * (v - low)) / (high - low)}%`;
    const positive = m.counts.filter((n) => n > 0).sort((a, b) => a - b);
    const most = positive[positive.length - 1] || 1, log = most > 50 * (positive[positive.length >> 1] || 1);
    const y = (n) => (log ? Math.log10(n / 0.5) / Math.log10((most * 1.6) / 0.5) : n / (most * 1.08)) * (bottom - top);
    const frame = svg("svg", { class: "plot m-left", width: "100%", height, role: "img", "aria-label": `Distribution of ${m.name}` });
    for (const tick of log ? [1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8].filter((t) => t <= most * 1.6) : ticks(0, most * 1.08, 3)) {
      if (log || tick) frame.append(svg("line", { class: "rule", x1: 0, x2: "100%", y1: bottom - y(tick), y2: bottom - y(tick) }));
      frame.append(svg("text", { class: "tick", x: -8, y: bottom - (tick ? y(tick) : 0) + 4, "text-anchor": "end" }, whole.format(tick)));
    }
    const shown = ticks(low, high, 5);
    for (const tick of shown) {
      const at = (tick - low) / (high - low);
      frame.append(svg("text", { class: "tick", x: x(tick), y: bottom + 16, "text-anchor": at < 0.04 ? "start" : at > 0.96 ? "end" : "middle" }, short(tick)));
    }
    frame.append(svg("text", { class: "axis", x: "100%", y: bottom + 34, "text-anchor": "end" }, (m.kind === "score" ? m.name : `value of ${m.name}`) + (log ? " · counts on a log scale" : "")));
    m.counts.forEach((n, i) => {
      if (!n) return;
      const a = m.edges[i], b = m.edges[i + 1], middle = m.whole ? a : (a + b) / 2;
      const passes = m.least == null ? null : m.least ? middle >= limit : middle <= limit;
      const size = Math.max(1.5, y(n));
      const bar = svg("rect", { class: `bin ${passes === false ? "fails" : "passes"}`, x: x(a), y: bottom - size, width: `${(100 * (b - a)) / (high - low)}%`, height: size });
      bar.append(svg("title", {}, `${m.whole ? short(a) : `${short(a)} to ${short(b)}`}: ${whole.format(n)}`));
      frame.append(bar);
    });
    m.bounds.forEach(([name, value], i) => {
      if (value < low || value > high) return;
      const at = (value - low) / (high - low);
      frame.append(svg("line", { class: "threshold", x1: x(value), x2: x(value), y1: top - 4, y2: bottom }));
      if (i === 0) frame.append(svg("text", { class: "tick strong", x: x(value), y: top - 8, "text-anchor": at < 0.3 ? "start" : at > 0.7 ? "end" : "middle" }, `${name} ${short(value)}`));
    });
    if (m.least != null) frame.append(svg("line", { class: "at", x1: x(limit), x2: x(limit), y1: top, y2: bottom + 4 }));
    return frame;
  }

  function ticks(low, high, n) {
    const rough = (high - low) / n, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].map((k) => k * power).find((s) => s >= rough * (1 - 1e-9));
    const out = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high * (1 + 1e-9); i++) out.push(Number((i * step).toPrecision(12)));
    return out;
  }

  function showMeasure(m, limit) {
    byId("plot").replaceChildren(draw(m, limit));
    const all = m.counts.reduce((a, b) => a + b, 0), n = passing(m, limit), line = byId("passing"), command = byId("command");
    if (m.least == null) line.textContent = `${documents(all)}; which parameter is behind this value is not known.`;
    else if (m.kind === "score") line.replaceChildren(`At ${short(limit)}, `, el("strong", {}, whole.format(n)), ` of ${documents(all)} pass${percent(n, all)}.`);
    else line.replaceChildren(`At ${m.least ? "least" : "most"} ${short(limit)}, `, el("strong", {}, whole.format(n)), ` of the ${documents(all)} dropped for this would pass it${percent(n, all)}, and go on to the rules after it.`);
    command.replaceChildren(...(m.parameter && m.least != null && limit !== m.start ? ["Try it on a sample, later rules included: ", el("code", {}, `definemed inspect ARTIFACT --what-if ${m.parameter}=${Number(limit.toPrecision(6))}`)] : [""]));
    byId("plot-note").textContent = (m.kind === "score" ? "All documents that got this score. " : "All documents dropped for this reason. ") + (m.tail ? "The outermost bins hold what lies beyond. " : "") + (m.bounds.length > 1 ? `Dashed: ${m.bounds.map(([name, v]) => `${name} ${short(v)}`).join(", ")}.` : m.bounds.length ? "Dashed: the limit of this run." : "");
    const known = data.docs.map((doc) => [doc, valueOf(doc, m)]).filter(([doc, v]) => v != null && doc.text != null);
    const side = (test, order) => known.filter(([, v]) => test(v)).sort(order).slice(0, NEAR).map(([doc]) => card(doc, "", true));
    const below = side((v) => v < limit, (a, b) => b[1] - a[1]), above = side((v) => v >= limit, (a, b) => a[1] - b[1]);
    const column = (title, cards) => el("div", {}, el("h3", {}, title), ...(cards.length ? cards : [el("p", { class: "no-text" }, "None on this page.")]));
    byId("near").replaceChildren(column(`Just below ${short(limit)}`, below), column(`${short(limit)} and above`, above));
  }

  function startMeasures() {
    const select = byId("measure"), slider = byId("limit");
    if (!select) return;
    for (const [kind, title] of [["score", "Scores"], ["rule", "Rules"]]) {
      const group = el("optgroup", { label: title });
      measures.forEach((m, i) => m.kind === kind && group.append(el("option", { value: i }, kind === "rule" ? `${m.name} (${whole.format(m.counts.reduce((a, b) => a + b, 0))})` : m.name)));
      if (group.children.length) select.append(group);
    }
    const choose = () => {
      const m = measures[select.value], low = m.edges[0], high = m.edges[m.edges.length - 1];
      slider.min = low; slider.max = high;
      slider.step = m.whole ? 1 : m.kind === "score" ? 0.01 : (high - low) / 200;
      slider.value = m.start ?? (low + high) / 2;
      slider.disabled = m.least == null;
      showMeasure(m, m.start ?? Number(slider.value));
    };
    select.addEventListener("change", choose);
    slider.addEventListener("input", () => {
      const m = measures[select.value], value = Number(slider.value);
      showMeasure(m, m.whole ? value : Number(value.toPrecision(3)));
    });
    choose();
  }

  // ---- the list

  const form = byId("filter"), field = (name) => form.elements[name];
  let shown = STEP;

  function fillFilter() {
    const sets = Object.entries(data.sets);
    field("outcome").append(el("option", { value: "" }, "all"), el("option", { value: "dropped" }, "dropped"));
    if (sets.length > 1) field("outcome").append(el("option", { value: "kept" }, "kept"));
    for (const [name, n] of sets) field("outcome").append(el("option", { value: `set:${name}` }, name === "kept" ? "kept" : `kept in ${name} (${whole.format(n)})`));
    field("reason").append(el("option", { value: "" }, "all"));
    for (const stage of new Set(data.reasons.map((r) => r.stage))) {
      const group = el("optgroup", { label: stage }), mine = data.reasons.filter((r) => r.stage === stage);
      if (mine.length > 1) group.append(el("option", { value: `${stage}/` }, `${stage}: all (${whole.format(mine.reduce((n, r) => n + r.n, 0))})`));
      for (const r of mine) group.append(el("option", { value: `${stage}/${r.reason}` }, `${r.reason} (${whole.format(r.n)})`));
      field("reason").append(group);
    }
    field("order").append(el("option", { value: "" }, "as drawn"), el("option", { value: "near" }, "nearest to the limit"));
    for (const m of measures.filter((m) => m.kind === "score")) {
      field("order").append(el("option", { value: `>${m.name}` }, `${m.name}, highest first`), el("option", { value: `<${m.name}` }, `${m.name}, lowest first`));
    }
  }

  const limits = new Map(data.reasons.filter((r) => r.limit != null).map((r) => [`${r.stage}/${r.reason}`, r.limit]));
  function distance(doc) {
    const limit = limits.get(label(doc));
    return doc.value == null || limit == null ? Infinity : Math.abs(doc.value - limit) / (Math.abs(limit) || 1);
  }
  function sorted(docs, order) {
    const score = (doc) => doc.scores[order.slice(1)] ?? NaN;
    const rank = order === "near" ? distance : order ? (doc) => (Number.isNaN(score(doc)) ? Infinity : order[0] === ">" ? -score(doc) : score(doc)) : () => 0;
    return docs.map((doc, i) => [rank(doc), i, doc]).sort((a, b) => (a[0] === b[0] ? a[1] - b[1] : a[0] - b[0])).map((t) => t[2]);
  }
  function fits(doc, outcome, reason, query) {
    if (outcome === "dropped" && !doc.reason) return false;
    if (outcome === "kept" && doc.reason) return false;
    if (outcome.startsWith("set:") && (doc.reason || doc.set !== outcome.slice(4))) return false;
    if (reason && (!doc.reason || (reason.endsWith("/") ? doc.stage !== reason.slice(0, -1) : label(doc) !== reason))) return false;
    return !query || [doc.text, doc.id, doc.host].some((t) => t && t.toLowerCase().includes(query));
  }
  function inCorpus(outcome, reason) {
    const dropped = data.reasons.filter((r) => !reason || (reason.endsWith("/") ? r.stage === reason.slice(0, -1) : `${r.stage}/${r.reason}` === reason)).reduce((n, r) => n + r.n, 0);
    const kept = reason ? 0 : Object.entries(data.sets).filter(([name]) => !outcome.startsWith("set:") || outcome === `set:${name}`).reduce((n, [, k]) => n + k, 0);
    return outcome === "dropped" ? dropped : outcome ? kept : dropped + kept;
  }
  function showList() {
    const outcome = field("outcome").value, reason = field("reason").value, query = field("search").value.trim().toLowerCase();
    const found = sorted(data.docs.filter((doc) => fits(doc, outcome, reason, query)), field("order").value);
    byId("list").replaceChildren(...found.slice(0, shown).map((doc) => card(doc, query, false)));
    byId("found").textContent = `${documents(found.length)} on this page` + (query ? "" : `, of ${documents(inCorpus(outcome, reason))} in the artifact`) + ".";
    byId("more").hidden = found.length <= shown;
  }
  function restart() { shown = STEP; showList(); }

  fillFilter();
  startMeasures();
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => {
    // A reason is one of dropped documents: choosing the one clears what excludes it.
    if (event.target === field("reason") && field("reason").value && field("outcome").value !== "dropped") field("outcome").value = "";
    if (event.target === field("outcome") && field("outcome").value && field("outcome").value !== "dropped") field("reason").value = "";
    restart();
  });
  form.addEventListener("reset", () => setTimeout(restart));
  byId("more").addEventListener("click", () => { shown += STEP; showList(); });
  for (const button of document.querySelectorAll("button[data-reason]")) {
    button.addEventListener("click", () => {
      form.reset();
      field("reason").value = `${button.dataset.stage}/${button.dataset.reason}`;
      restart();
      byId("documents").scrollIntoView();
    });
  }
  showList();
})();
