// Search, filters and order of the gallery, all kept in the address; without it the list is whole.
"use strict";
(() => {
  const form = document.querySelector(".filters");
  if (!form) return;
  const search = document.getElementById("search");
  const sort = document.getElementById("sort");
  const rows = [...document.querySelectorAll(".chip-row")];
  const AT_ONCE = 100;  // cards of a question: a browser lays out thousands slowly, at every key
  const lists = new Map([...document.querySelectorAll(".runs")].map((list) => [list, listed(list)]));
  let runs = [...document.querySelectorAll(".run")].map((item) => ({ item, list: item.parentElement, ...item.dataset }));
  const chosen = () => [...document.querySelectorAll(".choose input:checked")];
  const pressed = (row) => row.querySelector("[aria-pressed=true]")?.dataset.value ?? "";

  function matches(run, words, wanted) {
    return words.every((word) => run.text.includes(word))
      && wanted.every(([name, value]) => run[name].split("|").includes(value));
  }

  // A list, how many of its cards are shown at most, and the button that shows more of them.
  function listed(list) {
    const more = document.createElement("button");
    Object.assign(more, { type: "button", className: "link more", hidden: true });
    more.addEventListener("click", () => { lists.get(list).most += AT_ONCE; filter(); });
    list.after(more);
    return { more, most: AT_ONCE, found: 0, section: list.closest(".question, .unfinished") };
  }

  function show({ more, most, found, section }) {
    section.hidden = !found;
    more.hidden = found <= most;
    more.textContent = `Show more: ${most} of ${found} runs are shown`;
  }

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = rows.map((row) => [row.dataset.name, pressed(row)]).filter(([, value]) => value);
    let shown = 0;
    for (const told of lists.values()) told.found = 0;
    for (const run of runs) {
      const told = lists.get(run.list), found = matches(run, words, wanted);
      told.found += found;
      shown += found;
      const seen = found && told.found <= told.most;
      if (run.hidden === seen || run.hidden === undefined) run.item.hidden = run.hidden = !seen;
    }
    lists.forEach(show);
    const few = shown < runs.length;
    if (few) for (const fold of document.querySelectorAll(".unfinished")) fold.open = !fold.hidden;
    document.getElementById("count").textContent =
      few ? `${shown} of ${runs.length} shown` : `${shown} shown`;
    document.getElementById("clear").hidden = !few;
  }

  function compare(a, b) {
    const down = sort.value.startsWith("-");
    const key = sort.value.replace("-", "");
    const order = ["holds", "seconds"].includes(key) ? a[key] - b[key] : a[key].localeCompare(b[key]);
    return (down ? -order : order) || b.started.localeCompare(a.started);
  }

  // Only when the order changes: runs within their question, questions by their first run.
  function arrange() {
    runs = [...runs].sort(compare);
    for (const list of new Set(runs.map((run) => run.list))) {
      list.append(...runs.filter((run) => run.list === list).map((run) => run.item));
      const section = list.closest(".question");
      if (section) section.parentElement.append(section);
    }
  }

  function state() {
    const parts = new URLSearchParams();
    if (search.value) parts.set("search", search.value);
    if (sort.selectedIndex) parts.set("sort", sort.value);
    for (const row of rows) if (pressed(row)) parts.set(row.dataset.name, pressed(row));
    return parts.toString();
  }

  // A page asks for the run before or after its own; where there is none, the list is shown.
  const link = (run) => run?.item.querySelector("h3 a");
  function go(step, from) {
    const ordered = runs.filter(link).sort((a, b) => a.started.localeCompare(b.started));
    const at = ordered.findIndex((run) => run.started === from);
    const to = at >= 0 && link(ordered[at + step]);
    if (to) location.replace(to.href);
  }

  function newest(experiment) {
    const last = runs.filter((run) => run.experiment === experiment && link(run)).sort((a, b) => b.started.localeCompare(a.started))[0];
    if (last) location.replace(link(last).href);
    else document.getElementById("count").textContent = `There is no run of ${experiment} here yet: python -m experiments run ${experiment}`;
  }

  function restore() {
    const parts = new URLSearchParams(location.hash.slice(1));
    if (parts.has("from")) go(Number(parts.get("step")), parts.get("from"));
    search.value = parts.get("search") ?? "";
    sort.value = parts.get("sort") ?? "-started";
    if (sort.selectedIndex < 0) sort.selectedIndex = 0;
    for (const row of rows) {
      for (const chip of row.querySelectorAll(".chip")) {
        chip.setAttribute("aria-pressed", String(chip.dataset.value === parts.get(row.dataset.name)));
      }
    }
    arrange();
    filter();
    offer();
    if (parts.has("newest")) newest(parts.get("experiment"));
  }

  function changed() {
    const said = state();
    history.replaceState(null, "", said ? `#${said}` : location.pathname);
    filter();
  }

  function press(chip) {
    const on = chip.getAttribute("aria-pressed") !== "true";
    for (const other of chip.parentElement.querySelectorAll(".chip")) other.setAttribute("aria-pressed", "false");
    chip.setAttribute("aria-pressed", String(on));
    changed();
  }

  function offer() {
    const wanted = chosen().map((box) => ["run", box.value]);
    const link = document.getElementById("compare");
    link.hidden = wanted.length < 2;
    link.textContent = `Compare ${wanted.length} runs →`;
    link.href = `compare.html#${new URLSearchParams(wanted)}`;
  }

  function clear() {
    history.replaceState(null, "", location.pathname);
    restore();
    search.focus();
  }

  search.addEventListener("input", changed);
  sort.addEventListener("input", () => { arrange(); changed(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("clear").addEventListener("click", clear);
  for (const chip of document.querySelectorAll("button.chip")) chip.addEventListener("click", () => press(chip));
  for (const box of document.querySelectorAll(".choose input")) box.addEventListener("input", offer);
  addEventListener("hashchange", restore);
  addEventListener("pageshow", restore);  // a browser that goes back fills in forms by itself
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target.closest("input, textarea, select")) return;
    event.preventDefault();
    search.focus();
  });
  // On a phone the filters are folded by the style from the start; the first press shows them.
  document.querySelector(".chips > summary").addEventListener("click", (event) => {
    const chips = event.target.closest(".chips");
    if (innerWidth < 700 && !chips.classList.contains("asked")) event.preventDefault();
    chips.classList.add("asked");
  });
})();
