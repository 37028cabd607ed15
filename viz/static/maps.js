// Heat maps as tables: a cell tells its number, its row and column stand out, and what is of the
// same layer, head or token lights up in every figure of the page.
"use strict";
globalThis.Maps = (() => {
  const { element, unpacked, number, brief, shade, point, same } = carrylens;

  function draw(box, given) {
    const { panels, down, across, scale } = given;
    const { low, high, centred, title } = scale;
    const width = across.names.length;
    const longest = Math.max(...panels.flatMap(({ text }) => (text ?? [""]).flatMap((word) => word.split("\n").map((line) => line.length))));
    const written = panels[0].text ? 0.43 * longest + 0.5 : width <= 12 ? 2.4 : 1.05;
    const names = 0.5 * Math.max(...down.names.map((name) => name.length), 3) + 0.5, labels = Math.min(names, 9) + 0.5;
    const slack = 0.01 * (high - low); // less than this beyond the scale, no colour could show
    const most = Math.max(-low, high);
    const least = labels + (written + 0.25) * width, room = (box.clientWidth || 900) / 16;
    const abreast = Math.min(panels.length, Math.max(1, Math.floor(room / (least + 1.4))));
    const turned = 0.46 * Math.max(...across.names.map((name) => name.length)) > (room / abreast - labels) / width - 0.4;
    const told = element("p", { class: "told", "aria-live": "polite" }, "Point at a cell for its number; arrow keys move.");
    const grids = element("div", { class: "maps" });
    grids.style.setProperty("--least", `${least}rem`);
    for (const panel of panels) grids.append(drawn(panel));
    const ramp = element("span", { class: centred ? "ramp both" : "ramp" });
    box.replaceChildren(grids, element("p", { class: "scale" }, `${number(low)} `, ramp, ` ${number(high)}: ${title}${grids.querySelector(".beyond") ? "; underlined: beyond this scale" : ""}`), told);

    function drawn(panel) {
      const values = unpacked(panel.values);
      const table = element("table", { class: turned ? "turned" : "" });
      table.style.setProperty("--cell", `${written}rem`);
      table.style.setProperty("--names", `${names}rem`);
      table.append(element("tr", {}, element("th", { scope: "col" }), ...across.names.map((name, column) =>
        element("th", { scope: "col", "data-column": column }, element("span", {}, name)))));
      down.names.forEach((name, row) => {
        table.append(element("tr", {}, element("th", { scope: "row" }, name),
          ...across.names.map((_, column) => cell(panel, values[row * width + column], row, column))));
      });
      const frame = element("div", { class: "boxes map", tabindex: 0, role: "region", "aria-label": `${panel.title || title}: ${down.words} by ${across.words}` }, table);
      const axes = element("p", { class: "axes" }, `${down.words} ↓   ${across.words} →`);
      return element("div", { class: "panel" }, ...(panel.title ? [element("h4", {}, panel.title)] : []), axes, frame);
    }

    function cell(panel, value, row, column) {
      const made = element("td", { tabindex: -1 });
      if (panel.text) made.textContent = panel.text[row * width + column];
      else if (width <= 12 && value !== null) made.textContent = brief(value, most);
      made.classList.toggle("beyond", value !== null && (value < low - slack || value > high + slack));
      shade(made, value, scale);
      const names = [`${down.words}: ${down.names[row]}`, `${across.words}: ${across.names[column]}`, panel.title].filter(Boolean);
      const about = { ...panel.part, ...down.parts[row], ...across.parts[column] };
      made.about = { row, column, component: about, words: `${names.join(" · ")} → ${value === null ? "not defined" : number(value)}${panel.text ? ` (${made.textContent})` : ""}` };
      return made;
    }

    function tell(target) {
      const here = target.closest("td");
      if (!here) return;
      told.textContent = here.about.words;
      const table = here.closest("table");
      for (const old of table.querySelectorAll(".crossed")) old.classList.remove("crossed");
      here.parentElement.classList.add("crossed");
      for (const line of table.rows) line.cells[here.about.column + 1].classList.add("crossed");
      point(here.about.component);
    }

    function move(event) {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      const table = event.target.closest(".map")?.querySelector("table");
      if (!step || !table) return;
      event.preventDefault();
      const at = event.target.about ?? { row: -step[0], column: -step[1] };
      table.rows[at.row + step[0] + 1]?.querySelectorAll("td")[at.column + step[1]]?.focus();
    }

    for (const kind of ["mouseover", "focusin", "click"]) grids.addEventListener(kind, (event) => tell(event.target));
    grids.addEventListener("click", (event) => { const made = event.target.closest("td"); if (made) point(made.about.component, true); });
    grids.addEventListener("keydown", move);
    addEventListener("carrylens-point", ({ detail }) => {
      for (const made of grids.querySelectorAll("td")) made.classList.toggle("lit", same(made.about.component, detail.part));
    });
  }

  return { draw };
})();
