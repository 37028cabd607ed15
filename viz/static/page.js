// What a page does by itself: theme, copying, tables, and interactive figures drawn when they
// come into view. A classic script: pages opened from disk can load no modules.
"use strict";
(() => {
  const root = document.documentElement;
  const nonce = document.currentScript.nonce;
  const base = document.currentScript.src.replace(/[^/]*$/, "");
  const darkOutside = matchMedia("(prefers-color-scheme: dark)");

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
  function load(name) {
    loading[name] ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      Object.assign(script, { nonce, src: base + name, onload: resolve, onerror: reject });
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

  const draw = {
    circuitsvis(box) {
      CircuitsVis.render(box.id, CircuitsVis[box.dataset.component], props(box));
    },
    async plotly(box) {
      const { data, layout } = props(box);
      const config = { responsive: true, displaylogo: false };
      await Plotly.newPlot(box, data, layout, config);
      await Plotly.relayout(box, inks());
    },
  };

  async function show(box) {
    const figure = box.closest("figure");
    await load(`${box.dataset.library}.js`);
    box.hidden = false;
    await draw[box.dataset.library](box);
    figure.querySelector(".still").hidden = true;
    figure.querySelector(".swap").hidden = false;
  }

  function swap(button) {
    const figure = button.closest("figure");
    const still = figure.querySelector(".still");
    still.hidden = !still.hidden;
    figure.querySelector(".widget").hidden = !still.hidden;
    button.textContent = still.hidden ? "Still picture" : "Interactive";
  }

  function watch() {
    const seen = new IntersectionObserver((entries) => {
      for (const entry of entries.filter((e) => e.isIntersecting)) {
        seen.unobserve(entry.target);
        show(entry.target.querySelector(".widget"));
      }
    }, { rootMargin: "200px" });
    for (const box of document.querySelectorAll(".widget")) seen.observe(box.closest("figure"));
  }

  function column({ name, number }, index) {
    return {
      title: name, field: `c${index}`, headerTooltip: name, sorter: number ? "number" : "string",
      hozAlign: number ? "right" : "left",
      formatter: (cell) => cell.getValue() === null ? "—" : document.createTextNode(cell.getValue()),
    };
  }

  function table(box) {
    const { columns, rows } = JSON.parse(document.getElementById(`${box.id}-data`).textContent);
    const data = rows.map((row) => Object.fromEntries(row.map((cell, i) => [`c${i}`, cell])));
    const grid = new Tabulator(box, {
      data, columns: columns.map(column), layout: "fitDataFill", maxHeight: "24rem",
    });
    grid.on("tableBuilt", () => sortByKeyboard(box));
  }

  function sortByKeyboard(box) {
    for (const head of box.querySelectorAll(".tabulator-col.tabulator-sortable")) {
      head.tabIndex = 0;
      head.addEventListener("keydown", (event) => {
        if (!["Enter", " "].includes(event.key)) return;
        event.preventDefault();
        head.click();
      });
    }
  }

  // A table in a closed <details> has no width to be laid out in: it is built when opened.
  function tables() {
    for (const details of document.querySelectorAll("details.table")) {
      const box = details.querySelector(".grid-table");
      const build = () => { if (details.open && !box.childElementCount) table(box); };
      details.addEventListener("toggle", build);
      build();
    }
  }

  addEventListener("DOMContentLoaded", () => {
    document.querySelector(".theme").addEventListener("click", changeTheme);
    darkOutside.addEventListener("change", restyle);
    for (const b of document.querySelectorAll(".copy")) b.addEventListener("click", () => copy(b));
    for (const b of document.querySelectorAll(".swap")) b.addEventListener("click", () => swap(b));
    tables();
    watch();
  });
})();
