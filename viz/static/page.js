// What a page does by itself: theme, copying, tables, and interactive figures drawn when they
// come into view. A classic script: pages opened from disk can load no modules.
"use strict";
(() => {
  const root = document.documentElement;
  const nonce = document.currentScript.nonce;
  const base = document.currentScript.src.replace(/[^/]*$/, "");
  const darkOutside = matchMedia("(prefers-color-scheme: dark)");

  const HEAVY = ["circuitsvis", "plotly"];  // libraries that come when they are needed

  // A browser may refuse storage to pages from disk; the theme then lasts as long as the page.
  const stored = () => { try { return localStorage.getItem("carrylens-theme"); } catch { return null; } };
  const store = (name) => { try { localStorage.setItem("carrylens-theme", name); } catch { /* as above */ } };
  const isDark = () => (root.dataset.theme || (darkOutside.matches ? "dark" : "light")) === "dark";

  if (["light", "dark"].includes(stored())) root.dataset.theme = stored();

  function changeTheme() {
    root.dataset.theme = isDark() ? "light" : "dark";
    store(root.dataset.theme);
    restyle();
  }

  function restyle() {
    for (const box of document.querySelectorAll(".js-plotly-plot")) Plotly.relayout(box, inks());
  }

  async function copy(button) {
    const source = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(source.textContent);
    } catch {
      getSelection().selectAllChildren(source);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  }

  const loading = {};
  function load(name, from = base) {
    loading[name] ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      Object.assign(script, { nonce, src: from + name, onload: resolve, onerror: reject });
      document.head.append(script);
    });
    return loading[name];
  }

  const props = (box) => JSON.parse(document.getElementById(`${box.id}-props`).textContent);

  function inks() {
    const style = getComputedStyle(root);
    const ink = style.getPropertyValue("--pico-color").trim();
    const line = style.getPropertyValue("--pico-muted-border-color").trim();
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", "font.color": ink,
      "xaxis.gridcolor": line, "yaxis.gridcolor": line,
    };
  }

  // circuitsvis mixes colours from white at zero; these span the range of the values.
  function paint(box, colors) {
    const tokens = box.querySelectorAll(".colored-tokens > span > span");
    if (tokens.length !== colors.length) return void requestAnimationFrame(() => paint(box, colors));
    tokens.forEach((token, index) => {
      const [r, g, b] = colors[index].match(/\w\w/g).map((part) => parseInt(part, 16));
      token.style.backgroundColor = colors[index];
      token.style.color = 0.299 * r + 0.587 * g + 0.114 * b < 140 ? "#fff" : "#101318";
    });
  }

  const draw = {
    circuitsvis(box) {
      const given = props(box);
      CircuitsVis.render(box.id, CircuitsVis[box.dataset.component], given);
      if (given.colors) requestAnimationFrame(() => paint(box, given.colors));
    },
    decoded(box) {
      Decoded.draw(box, props(box));
    },
    heads(box) {
      Heads.draw(box, props(box));
    },
    maps(box) {
      Maps.draw(box, props(box));
    },
    flow(box) {
      FlowChart.draw(box, props(box));
    },
    async plotly(box) {
      const { data, layout } = props(box);
      // Words between two $ are no formula: they are shown as they are.
      const config = { responsive: true, displaylogo: false, typesetMath: false };
      await Plotly.newPlot(box, data, layout, config);
      await Plotly.relayout(box, inks());
    },
  };

  async function show(box) {
    const figure = box.closest("figure");
    const still = figure.querySelector(".still");
    if (HEAVY.includes(box.dataset.library)) {
      await load(`${box.dataset.library}.js`);
      box.style.minHeight = `${still.offsetHeight}px`;
    }
    box.hidden = false;
    still.hidden = true;
    await draw[box.dataset.library](box);
    still.style.height = "";
    figure.querySelector(".swap").hidden = false;
    showLegend(figure, true);
  }

  function showLegend(figure, shown) {
    const legend = figure.querySelector(".legend");
    if (legend) legend.hidden = !shown;
  }

  function swap(button) {
    const figure = button.closest("figure");
    const still = figure.querySelector(".still");
    still.hidden = !still.hidden;
    figure.querySelector(".widget").hidden = !still.hidden;
    showLegend(figure, still.hidden);
    button.textContent = still.hidden ? "Still picture" : "Interactive";
  }

  // Our own figures are drawn at once, from the top of the page, before anyone scrolls to them;
  // those of heavy libraries, when they come near. A figure keeps at least its still's height, and
  // the still of a plotly figure has, until then, the height of what takes its place.
  async function watch() {
    const boxes = [...document.querySelectorAll(".widget")];
    const heavy = boxes.filter((box) => HEAVY.includes(box.dataset.library));
    const seen = new IntersectionObserver((entries) => {
      for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
        seen.unobserve(target);
        show(target.querySelector(".widget"));
      }
    }, { rootMargin: "1200px" });
    for (const box of heavy) {
      const still = box.closest("figure").querySelector(".still");
      if (box.dataset.library === "plotly") {
        still.style.height = `${props(box).layout.height ?? 450}px`;
      }
      seen.observe(box.closest("figure"));
    }
    for (const box of boxes.filter((one) => !heavy.includes(one))) {
      await show(box);
      await new Promise((done) => setTimeout(done));  // a long page answers meanwhile
    }
  }

  // Three significant digits and a true minus; the whole number is told on hover.
  function written(value, float) {
    if (value === null) return "—";
    if (typeof value !== "number") return value;
    const text = float ? String(Number(value.toPrecision(3))) : String(value);
    return text.replaceAll("-", "−");
  }

  function formatted(cell, float) {
    const value = cell.getValue();
    if (float && value !== null) cell.getElement().title = String(value).replaceAll("-", "−");
    return document.createTextNode(written(value, float));
  }

  // ">0.5", "<= 2" and "3" for numbers, parts of words for text.
  function passes(wanted, value, _row, { number }) {
    if (!number) return String(value ?? "—").toLowerCase().includes(wanted.toLowerCase());
    const [, sign, bound] = wanted.replaceAll("−", "-").match(/^\s*(>=|<=|>|<|=)?\s*(\S*)\s*$/) ?? [];
    if (!bound || Number.isNaN(Number(bound))) return true;
    if (value === null) return false;
    const there = Number(bound);
    return { ">": value > there, "<": value < there, ">=": value >= there, "<=": value <= there }[sign] ?? value === there;
  }

  function heading({ name, words }) {
    const box = document.createElement("span");
    box.append(words || name);
    if (words) {
      const raw = document.createElement("small");
      raw.textContent = name;
      box.append(raw);
    }
    return box;
  }

  function column(what, index) {
    const { name, about, number, float } = what;
    return {
      title: name, field: `c${index}`, headerTooltip: about || name,
      titleFormatter: () => heading(what), sorter: number ? "number" : "string",
      hozAlign: number ? "right" : "left", headerHozAlign: number ? "right" : "left",
      formatter: (cell) => formatted(cell, float),
      headerFilter: "input", headerFilterFunc: passes, headerFilterFuncParams: { number },
      headerFilterPlaceholder: number ? "> 0.5" : "contains",
    };
  }

  // What figures share: making elements, numbers, shades, and which component is pointed at.
  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  const bytes = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  const unpacked = (text) =>
    Array.from(new Float32Array(bytes(text).buffer), (value) => (Number.isNaN(value) ? null : value));
  const number = (value, digits = 3) => (value === null ? "—" : String(Number(value.toPrecision(digits))).replaceAll("-", "−"));

  // As many decimals as tell the end of a scale in two digits: all that colours can show.
  function brief(value, most) {
    const decimals = Math.max(0, 2 - Math.ceil(Math.log10(most || 1)));
    return most >= 1000 ? number(value, 2) : number(Number(value.toFixed(decimals)) || 0, 4);
  }

  function shade(cell, value, { low, high }) {
    if (value === null) return void cell.classList.add("undefined");
    const share = low < 0 ? Math.abs(value) / (Math.max(-low, high) || 1) : (value - low) / (high - low || 1);
    const shown = Math.round(100 * Math.min(1, Math.max(0, share))) / 100;
    cell.style.setProperty("--shade", `${100 * shown}%`);
    cell.classList.toggle("less", value < 0);
    cell.classList.toggle("half", shown >= 0.56);  // where ink and paper change places: a contrast of 4.5
    cell.classList.toggle("deep", share > (value < 0 ? 0.78 : 0.73));
  }

  // Two things are of one component if they name the same head of a layer, or the same token.
  function same(one, other) {
    const agree = ["layer", "head", "pos", "token"].every((name) => one[name] === undefined || other[name] === undefined || one[name] === other[name]);
    const both = (...names) => names.every((name) => one[name] !== undefined && other[name] !== undefined);
    return agree && (both("layer", "head") || both("pos"));
  }

  let pointed = {};
  function point(part, chosen = false) {
    if (!chosen && JSON.stringify(part) === JSON.stringify(pointed)) return;
    pointed = part;
    dispatchEvent(new CustomEvent("carrylens-point", { detail: { part, chosen } }));
  }

  const objects = (rows) => rows.map((row) => Object.fromEntries(row.map((cell, i) => [`c${i}`, cell])));
  const whole = {};
  globalThis.carrylens = { ...globalThis.carrylens, element, bytes, unpacked, number, brief, shade, same, point, rows: (name, rows) => { whole[name] = objects(rows); } };

  // The component that a row of a table is about, by its columns.
  function partOf(columns, row) {
    const known = columns.map(({ name }, at) => [name, row[`c${at}`]]).filter(([name, value]) => ["layer", "head", "pos"].includes(name) && typeof value === "number");
    return Object.fromEntries(known);
  }

  function table(box) {
    const { columns, rows } = JSON.parse(document.getElementById(`${box.id}-data`).textContent);
    const grid = new Tabulator(box, {
      data: objects(rows), columns: columns.map(column), layout: "fitDataFill", maxHeight: "26rem", columnDefaults: { maxWidth: 340 },
      rowFormatter: (row) => lit(row),
    });
    const lit = (row) => row.getElement().classList.toggle("lit", same(partOf(columns, row.getData()), pointed));
    addEventListener("carrylens-point", () => grid.getRows("visible").forEach(lit));
    grid.on("tableBuilt", () => { sortByKeyboard(box); nameFilters(box, columns); complete(box, grid); });
  }

  // A grid may own groups of rows, not the box that scrolls them.
  function nameFilters(box, columns) {
    const holder = box.querySelector(".tabulator-tableholder");
    holder.setAttribute("role", "rowgroup");
    holder.setAttribute("aria-label", "Rows");
    holder.firstElementChild?.setAttribute("role", "presentation");
    box.querySelectorAll(".tabulator-header-filter input").forEach((input, at) => {
      input.setAttribute("aria-label", `Filter by ${columns[at].words || columns[at].name}`);
    });
  }

  // The other rows come from a script beside the page, when someone sorts, filters or asks.
  function complete(box, grid) {
    const button = box.closest("details").querySelector(".all-rows");
    if (!button) return;
    const { script, table: name } = button.dataset;
    const all = async () => {
      if (button.disabled) return;
      button.disabled = true;
      await load(script, "");
      await grid.replaceData(whole[name]);
      button.closest(".rows-note").textContent = `All ${whole[name].length.toLocaleString("en")} rows.`;
    };
    button.addEventListener("click", all);
    for (const kind of ["pointerdown", "focusin"]) box.querySelector(".tabulator-header").addEventListener(kind, all);
  }

  function sortByKeyboard(box) {
    for (const head of box.querySelectorAll(".tabulator-col.tabulator-sortable")) {
      head.tabIndex = 0;
      head.addEventListener("keydown", (event) => {
        if (event.target !== head || !["Enter", " "].includes(event.key)) return;
        event.preventDefault();
        head.click();
      });
    }
  }

  // A table in a closed <details> has no width to be laid out in: it is built when opened.
  function tables() {
    for (const details of document.querySelectorAll("details.table")) {
      const box = details.querySelector(".grid-table");
      if (!box) continue;  // a table without columns
      const build = () => { if (details.open && !box.childElementCount) table(box); };
      details.addEventListener("toggle", build);
      build();
    }
  }

  // A figure alone on the screen; Escape or the same button puts it back.
  function enlarge(figure) {
    const large = figure.classList.toggle("large");
    document.body.classList.toggle("behind", large);
    figure.querySelector(".enlarge").textContent = large ? "✕" : "⤢";
    dispatchEvent(new Event("resize"));
  }

  function shrink(event) {
    const large = document.querySelector("figure.large");
    if (event.key === "Escape" && large) enlarge(large);
  }

  // What an address points at is opened, with all that it is folded in.
  function reveal() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let box = target; box; box = box.parentElement) if (box.tagName === "DETAILS") box.open = true;
    target.scrollIntoView();
  }

  addEventListener("DOMContentLoaded", () => {
    reveal();
    addEventListener("hashchange", reveal);
    document.querySelector(".theme").addEventListener("click", changeTheme);
    darkOutside.addEventListener("change", restyle);
    for (const b of document.querySelectorAll(".copy")) b.addEventListener("click", () => copy(b));
    for (const b of document.querySelectorAll(".swap")) b.addEventListener("click", () => swap(b));
    for (const b of document.querySelectorAll(".enlarge")) b.addEventListener("click", () => enlarge(b.closest("figure")));
    addEventListener("keydown", shrink);
    tables();
    watch();
  });
})();
