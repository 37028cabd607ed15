// Search, filters and order of the gallery; without it the list is whole and newest first.
"use strict";
(() => {
  const list = document.querySelector(".runs");
  if (!list) return;
  const runs = [...list.children];
  const field = (id) => document.getElementById(id).value;

  function matches(run) {
    const words = field("search").toLowerCase().split(/\s+/);
    return words.every((word) => run.dataset.text.includes(word))
      && ["experiment", "model"].every((name) => !field(name) || run.dataset[name] === field(name))
      && (!field("verdict") || run.dataset.verdict.split("|").includes(field("verdict")));
  }

  function compare(a, b) {
    const down = field("sort").startsWith("-");
    const key = field("sort").replace("-", "");
    const order = ["holds", "seconds"].includes(key)
      ? a.dataset[key] - b.dataset[key]
      : a.dataset[key].localeCompare(b.dataset[key]);
    return (down ? -order : order) || b.dataset.started.localeCompare(a.dataset.started);
  }

  function update() {
    for (const run of runs) run.hidden = !matches(run);
    list.append(...runs.sort(compare));
    const shown = runs.filter((run) => !run.hidden).length;
    document.getElementById("count").textContent =
      shown === runs.length ? `${shown} shown` : `${shown} of ${runs.length} shown`;
  }

  const form = document.querySelector(".filters");
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  update();
})();
