// Runs side by side. What is shown comes from scripts that the gallery wrote as data.
"use strict";
const carrylens = (() => {
  const nonce = document.currentScript.nonce;
  const base = document.currentScript.src.replace(/[^/]*$/, "");
  const SHAPES = ["●", "○", "◆", "◇", "■", "□"];
  const ROOM = 4;  // percent of an axis left free at each end
  const loaded = new Map();
  const by = (id) => document.getElementById(id);

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  function number(value) {
    if (value === null || value === undefined) return "—";
    return String(Number(value.toPrecision(3))).replaceAll("-", "−");
  }

  const load = (file) => new Promise((resolve, reject) => {
    const script = document.createElement("script");
    Object.assign(script, { nonce, src: `${base}runs/${file}`, onload: resolve, onerror: reject });
    document.head.append(script);
  });

  const name = (run) => [run.experiment, run.model, run.label].filter(Boolean).join(" · ");
  const page = (run, claim = "") => `${encodeURI(run.where)}/index.html${claim && `#${claim}`}`;

  function side(run, at) {
    return element("article", { class: "side" },
      element("p", { class: "eyebrow" }, element("span", { class: "mark" }, SHAPES[at]), ` ${name(run)} · ${run.when}`),
      element("p", { class: "headline" }, element("a", { href: page(run) }, run.headline || run.question)));
  }

  function table(head, rows) {
    const made = element("table", {}, element("thead", {}, element("tr", {},
      ...head.map((word) => element("th", { scope: "col" }, word)))));
    made.append(element("tbody", {}, ...rows.map(([first, ...rest]) => element("tr", {},
      element("th", { scope: "row" }, first), ...rest.map((cell) => element("td", {}, cell))))));
    return made;
  }

  function differs(runs) {
    const names = [...new Set(runs.flatMap((run) => ["experiment", ...Object.keys(run.fields)]))];
    const value = (run, field) => (field === "experiment" ? run.experiment : run.fields[field] ?? "—");
    const rows = names.map((field) => [field, ...runs.map((run) => value(run, field))])
      .filter(([, ...values]) => new Set(values).size > 1);
    if (!rows.length) return element("p", {}, "No field differs.");
    return table(["Field", ...runs.map((run, at) => `${SHAPES[at]} ${run.model}`)], rows);
  }

  const ends = (claims) => {
    const all = claims.flatMap((c) => [c.estimate, c.low, c.high, c.null]).filter((v) => v !== null && v !== undefined);
    const low = Math.min(0, ...all), high = Math.max(0, ...all);
    return low >= 0 && high > 0.2 && high <= 1 ? [0, 1] : [low, high > low ? high : low + 1];
  };

  function svg(tag, attributes, ...children) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  function plot(cells) {
    const known = cells.filter((cell) => cell && cell.estimate !== null);
    const [low, high] = ends(known);
    const at = (value) => `${ROOM + (100 - 2 * ROOM) * (value - low) / (high - low)}%`;
    const box = svg("svg", { width: "100%", height: 16 * cells.length + 6, "aria-hidden": "true" });
    box.append(svg("line", { class: "zero", x1: at(0), x2: at(0), y1: 0, y2: "100%" }));
    cells.forEach((cell, row) => {
      if (!cell || cell.estimate === null) return;
      const y = 16 * row + 11;
      if (cell.null !== null) box.append(svg("line", { class: "null", x1: at(cell.null), x2: at(cell.null), y1: y - 6, y2: y + 6 }));
      if (cell.low !== null && cell.high !== null) box.append(svg("line", { class: "whisker", x1: at(cell.low), x2: at(cell.high), y1: y, y2: y }));
      box.append(svg("text", { class: "mark", x: at(cell.estimate), y, "text-anchor": "middle" }, SHAPES[row]));
    });
    const scale = element("span", { class: "ends", "aria-hidden": "true" }, element("span", {}, number(low)), element("span", {}, number(high)));
    return element("div", { class: "plot" }, box, known.length ? scale : "");
  }

  function cell(run, at, claim) {
    if (!claim) return element("p", { class: "cell note" }, `${SHAPES[at]} makes no such claim`);
    const between = claim.low === null ? "" : ` [${number(claim.low)}, ${number(claim.high)}]`;
    const verdict = claim.verdict ?? "finding";
    return element("p", { class: "cell" }, `${SHAPES[at]} `,
      element("a", { class: `badge ${verdict.replace(" ", "-")}`, href: page(run, claim.id) }, verdict),
      ` ${number(claim.estimate)}${between}, n = ${claim.n.toLocaleString("en")}`);
  }

  function forest(runs) {
    const keys = [...new Set(runs.flatMap((run) => run.claims.map((claim) => claim.key)))];
    return keys.map((key) => {
      const cells = runs.map((run) => run.claims.find((claim) => claim.key === key));
      const first = cells.find(Boolean);
      const apart = new Set(cells.map((claim) => claim?.verdict)).size > 1;
      return element("div", { class: apart ? "row apart" : "row" },
        element("div", { class: "what" }, element("strong", {}, key.includes("#") ? first.sentence : key),
          first.unit ? element("small", {}, ` ${first.unit}`) : ""),
        plot(cells), element("div", {}, ...runs.map((run, at) => cell(run, at, cells[at]))));
    });
  }

  function pairs(one, other) {
    const places = new Map(other.rows.map((row, at) => [row.join("\u0000"), at]));
    return one.rows.map((row, at) => [row, at, places.get(row.join("\u0000"))]).filter(([, , there]) => there !== undefined);
  }

  // Columns are the key with most values, rows all others; colour says how far and which way.
  function map(one, other, column) {
    const found = pairs(one, other).map(([row, a, b]) => [row, one.values[column][a], other.values[column][b]])
      .filter(([, a, b]) => a !== null && b !== null);
    const most = Math.max(...found.map(([, a, b]) => Math.abs(b - a)), 0);
    const values = one.key.map((_, at) => new Set(found.map(([row]) => row[at])).size);
    const wide = values.indexOf(Math.max(...values));
    const rest = (row) => row.filter((_, at) => at !== wide).join(" · ");
    const across = [...new Set(found.map(([row]) => row[wide]))];
    const down = [...new Set(found.map(([row]) => rest(row)))];
    const cells = new Map(found.map(([row, a, b]) => [`${rest(row)}\u0000${row[wide]}`, [a, b]]));
    const made = element("table", { class: "difference" },
      element("thead", {}, element("tr", {}, element("td", {}), ...across.map((word) => element("th", { scope: "col" }, word)))));
    for (const row of down) {
      const line = element("tr", {}, element("th", { scope: "row" }, row || "difference"));
      for (const word of across) line.append(square(cells.get(`${row}\u0000${word}`), most));
      made.append(line);
    }
    return element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Differences of ${column}` },
      element("p", { class: "note" }, `Columns: ${one.key[wide]}. Rows: ${rest(one.key) || "all"}.`), made,
      element("p", { class: "note" }, `The later named run less the first: blue is more, orange is less; the largest difference is ${number(most)}. ${found.length} rows are in both.`));
  }

  function square(values, most) {
    if (!values) return element("td", { class: "absent" }, "");
    const change = values[1] - values[0];
    const made = element("td", { title: `${number(values[0])} → ${number(values[1])}` }, number(change));
    made.style.setProperty("--much", `${most ? Math.round(70 * Math.abs(change) / most) : 0}%`);
    made.className = change < 0 ? "less" : "more";
    return made;
  }

  function choice(word, options, then) {
    const list = element("select", {}, ...options.map((option) => element("option", {}, option)));
    list.addEventListener("input", () => then(list.value));
    return element("label", {}, `${word} `, list);
  }

  function maps([one, other], box) {
    const shared = Object.keys(one.tables).filter((key) => other.tables[key]
      && one.tables[key].key.join() === other.tables[key].key.join() && pairs(one.tables[key], other.tables[key]).length);
    if (!shared.length) return box.append(element("p", { class: "note" }, "No short table has rows of the same name in both runs."));
    const place = element("div"), controls = element("div", { class: "filters" }), columns = element("span");
    const show = (key, column) => place.replaceChildren(map(one.tables[key], other.tables[key], column));
    const choose = (key) => {
      const names = Object.keys(one.tables[key].values).filter((column) => other.tables[key].values[column]);
      const apart = names.findIndex((column) => pairs(one.tables[key], other.tables[key])
        .some(([, a, b]) => one.tables[key].values[column][a] !== other.tables[key].values[column][b]));
      columns.replaceChildren(choice("Number", names, (column) => show(key, column)));
      columns.querySelector("select").selectedIndex = Math.max(apart, 0);
      show(key, names[Math.max(apart, 0)]);
    };
    controls.append(choice("Table", shared, choose), columns);
    box.append(controls, place);
    choose(shared[0]);
  }

  function pictures(runs) {
    const titles = [...new Set(runs.flatMap((run) => run.figures.map((figure) => figure.title)))];
    const common = titles.filter((title) => runs.filter((run) => run.figures.some((figure) => figure.title === title)).length > 1);
    if (!common.length) return [element("p", { class: "note" }, "These runs share no figure.")];
    return common.map((title) => element("figure", {}, element("h3", {}, title), element("div", { class: "sides" },
      ...runs.map((run, at) => picture(run, at, run.figures.find((figure) => figure.title === title))))));
  }

  function picture(run, at, figure) {
    const caption = element("p", { class: "eyebrow" }, `${SHAPES[at]} ${name(run)}`);
    if (!figure) return element("div", {}, caption, element("p", { class: "note" }, "not drawn in this run"));
    const from = `${encodeURI(run.where)}/figures/${encodeURIComponent(figure.slug)}`;
    const size = { width: figure.width, height: figure.height, loading: "lazy" };
    const image = (file, theme) => element("img", { ...size, class: `${theme}-only`, src: `${from}/${file}`, alt: `${figure.title} of ${name(run)}` });
    return element("div", {}, caption, image("figure.svg", "light"), image("figure-dark.svg", "dark"));
  }

  async function show() {
    const files = JSON.parse(by("files").textContent);
    const wanted = new URLSearchParams(location.hash.slice(1)).getAll("run").slice(0, SHAPES.length);
    const known = wanted.filter((where) => files[where]);
    by("comparison").hidden = known.length < 2;
    by("hint").hidden = known.length > 1;
    if (known.length < 2) return;
    await Promise.all(known.filter((where) => !loaded.has(where)).map((where) => load(files[where])));
    const runs = known.map((where) => loaded.get(where));
    by("sides").replaceChildren(...runs.map(side));
    by("differs").replaceChildren(differs(runs));
    by("marks").textContent = runs.map((run, at) => `${SHAPES[at]} ${name(run)}`).join("   ") + "; whiskers are 95 % intervals, short ticks what is compared with. Rows whose verdicts differ are marked.";
    by("forest").replaceChildren(...forest(runs));
    by("maps").replaceChildren();
    maps(runs, by("maps"));
    by("figures").replaceChildren(...pictures(runs));
  }

  addEventListener("DOMContentLoaded", show);
  addEventListener("hashchange", show);
  return { run: (told) => loaded.set(told.where, told) };
})();
