// Every measure of every head on one grid; a head that is chosen shows what it does in a text.
"use strict";
globalThis.Heads = (() => {
  const { element, bytes, unpacked, number, brief, shade, point, same } = carrylens;
  const named = (layer, head) => `L${layer}H${head}`;

  function choice(word, options, then) {
    const list = element("select", {}, ...options.map((option, at) => new Option(option, at)));
    list.addEventListener("change", () => then(Number(list.value)));
    return [element("label", {}, word, list), list];
  }

  function draw(box, given) {
    const { layers, heads, facets, text } = given;
    const measures = given.measures.map((measure) => ({ ...measure, values: unpacked(measure.values) }));
    const pattern = text && bytes(text.pattern);
    const along = text && Object.fromEntries(Object.entries(text.values).map(([name, packed]) => [name, unpacked(packed)]));
    const at = { measure: 0, facets: facets.map(() => 0), layer: null, head: 0 };
    const total = layers * heads;
    const bar = element("div", { class: "choices" });
    const grid = element("div", { class: "boxes head-grid", tabindex: 0, role: "region", "aria-label": "Heads by layer; arrow keys move, Enter opens a head" });
    const told = element("p", { class: "told", "aria-live": "polite" });
    const scale = element("p", { class: "scale" });
    const panel = element("div", { class: "head-panel" });
    const [label, list] = choice("Measure", measures.map((m) => m.title), (value) => { at.measure = value; show(); note(); });
    bar.append(label);
    facets.forEach(({ name, values }, which) => {
      bar.append(choice(name, values, (value) => { at.facets[which] = value; show(); })[0]);
    });
    box.replaceChildren(bar, element("div", { class: "head-sides" }, element("div", {}, grid, scale, told), panel));

    const start = () => at.facets.reduce((place, chosen, which) => place * facets[which].values.length + chosen, 0) * total;
    const valueOf = (measure, layer, head) => measure.values[start() + layer * heads + head];

    // What is below zero somewhere is centred on it; all else shares one scale from zero, so that
    // phases and texts can be compared.
    function ends(measure) {
      const here = measure.values.slice(start(), start() + total).filter((value) => value !== null);
      const most = Math.max(...here.map(Math.abs), 0);
      if (here.some((value) => value < 0)) return { low: -most, high: most };
      return { low: 0, high: Math.max(...measure.values.filter((value) => value !== null), 0) };
    }

    function square(layer, head, scaled) {
      const value = valueOf(measures[at.measure], layer, head);
      const cell = element("td", { tabindex: -1, "data-layer": layer, "data-head": head, title: `${named(layer, head)}: ${number(value)}` });
      if (heads <= 12) cell.textContent = value === null ? "" : brief(value, scaled.high);
      if (layer === at.layer && head === at.head) cell.setAttribute("aria-current", "true");
      shade(cell, value, scaled);
      return cell;
    }

    function show() {
      const scaled = ends(measures[at.measure]);
      const table = element("table", { style: `--wide: ${Math.max(1.35, Math.min(4.4, 28 / heads))}rem; --high: ${Math.max(1.15, Math.min(2.6, 22 / layers))}rem` }, element("tr", {}, element("th", { scope: "col" }, "layer"),
        ...Array.from({ length: heads }, (_, head) => element("th", { scope: "col" }, `H${head}`))));
      for (let layer = 0; layer < layers; layer += 1) {
        table.append(element("tr", {}, element("th", { scope: "row" }, `L${layer}`),
          ...Array.from({ length: heads }, (_, head) => square(layer, head, scaled))));
      }
      grid.replaceChildren(table);
      const { low, high } = scaled;
      const ramp = element("span", { class: low < 0 ? "ramp both" : "ramp" });
      scale.replaceChildren(`${number(low)} `, ramp, ` ${number(high)}: ${measures[at.measure].title}`);
      told.textContent = "Point at a head for its number; click it, or press Enter, for all that is known of it.";
      if (at.layer !== null) inspect();
    }

    function rank(measure, layer, head) {
      const own = valueOf(measure, layer, head);
      if (own === null) return "—";
      const here = measure.values.slice(start(), start() + total).filter((value) => value !== null);
      return `${1 + here.filter((value) => value > own).length} of ${here.length}`;
    }

    function inspect() {
      const { layer, head } = at;
      const rows = measures.map((measure, which) => element("tr", which === at.measure ? { class: "chosen" } : {},
        element("th", { scope: "row" }, measure.title), element("td", {}, number(valueOf(measure, layer, head))), element("td", {}, rank(measure, layer, head))));
      panel.replaceChildren(element("h4", {}, named(layer, head)),
        element("table", { class: "of-head" }, element("tr", {}, ...["Measure", "Value", "Rank"].map((word) => element("th", { scope: "col" }, word))), ...rows));
      if (text) panel.append(...reading(layer, head));
    }

    function reading(layer, head) {
      const found = [element("h5", {}, "Attention in one text: from a token (down) to tokens before it (across)"), square2d(layer, head)];
      const measure = measures[at.measure];
      const values = along[measure.name];
      if (values) found.push(element("h5", {}, `The text, coloured by ${measure.title}`), coloured(values, layer, head));
      return found;
    }

    function coloured(values, layer, head) {
      const count = text.tokens.length;
      const own = values.slice((layer * heads + head) * count, (layer * heads + head + 1) * count);
      const known = own.filter((value) => value !== null);
      const most = Math.max(...known.map(Math.abs), 1e-9);
      const low = Math.min(...known);  // within a text the question is which tokens have more
      const range = low < 0 ? { low: -most, high: most } : { low, high: Math.max(...known) };
      const ramp = element("span", { class: low < 0 ? "ramp both" : "ramp" });
      const legend = element("p", { class: "scale" }, `${number(range.low)} `, ramp, ` ${number(range.high)}`);
      const shown = element("p", { class: "head-text" }, ...text.tokens.map((token, pos) => {
        const made = element("span", { title: `${token}: ${number(own[pos])}` }, token);
        shade(made, own[pos], range);
        return made;
      }));
      return element("div", {}, shown, legend);
    }

    function square2d(layer, head) {
      const count = Math.round(Math.sqrt(pattern.length / total));
      const size = Math.max(4, Math.min(16, Math.floor(352 / count)));
      const from = (layer * heads + head) * count * count;
      const canvas = element("canvas", { width: size * count, height: size * count, role: "img", tabindex: 0, "aria-label": `Attention of ${named(layer, head)}: ${strongest(from, count)}` });
      const pen = canvas.getContext("2d");
      const deep = getComputedStyle(box).getPropertyValue("--deep").trim();
      pen.fillStyle = deep;
      for (let query = 0; query < count; query += 1) {
        for (let key = 0; key <= query; key += 1) {
          pen.globalAlpha = pattern[from + query * count + key] / 255;
          pen.fillRect(key * size, query * size, size, size);
        }
      }
      const line = element("p", { class: "told" }, strongest(from, count));
      canvas.addEventListener("mousemove", (event) => {
        const [key, query] = [event.offsetX, event.offsetY].map((pixel) => Math.min(count - 1, Math.floor(pixel * canvas.width / canvas.clientWidth / size)));
        if (key <= query) line.textContent = `${query} “${text.tokens[query]}” reads ${key} “${text.tokens[key]}”: ${number(pattern[from + query * count + key] / 255)}`;
      });
      return element("div", {}, element("div", { class: "boxes" }, canvas), line);
    }

    // Where the mean attention of all queries after the first goes.
    function strongest(from, count) {
      const mean = Array.from({ length: count }, (_, key) => {
        let sum = 0;
        for (let query = Math.max(key, 1); query < count; query += 1) sum += pattern[from + query * count + key];
        return sum / 255 / Math.max(1, count - Math.max(key, 1));
      });
      const key = mean.indexOf(Math.max(...mean));
      return `Read most by the tokens that see it: ${key} “${text.tokens[key]}”, ${number(mean[key])} on average.`;
    }

    function choose(layer, head) {
      Object.assign(at, { layer, head });
      show();
      note();
      grid.querySelector(`td[data-layer="${layer}"][data-head="${head}"]`)?.focus({ preventScroll: true });
      point({ layer, head }, true);
    }

    function note() {
      if (at.layer !== null) history.replaceState(null, "", `#${named(at.layer, at.head)}/${encodeURIComponent(measures[at.measure].name)}`);
    }

    function restore() {
      const [, layer, head, name] = location.hash.match(/^#L(\d+)H(\d+)(?:\/(.+))?$/) ?? [];
      if (layer === undefined || layer >= layers || head >= heads) return;
      const measure = measures.findIndex((one) => encodeURIComponent(one.name) === name);
      if (measure >= 0) { at.measure = measure; list.value = measure; }
      Object.assign(at, { layer: Number(layer), head: Number(head) });
      show();
    }

    function move(event) {
      const cell = event.target.closest("td");
      if (event.key === "Enter" && cell) return void choose(Number(cell.dataset.layer), Number(cell.dataset.head));
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      const [layer, head] = cell ? [Number(cell.dataset.layer) + step[0], Number(cell.dataset.head) + step[1]] : [0, 0];
      grid.querySelector(`td[data-layer="${layer}"][data-head="${head}"]`)?.focus();
    }

    for (const kind of ["mouseover", "focusin"]) {
      grid.addEventListener(kind, (event) => {
        const cell = event.target.closest("td");
        if (!cell) return;
        told.textContent = cell.title;
        point({ layer: Number(cell.dataset.layer), head: Number(cell.dataset.head) });
      });
    }
    grid.addEventListener("click", (event) => { const cell = event.target.closest("td"); if (cell) choose(Number(cell.dataset.layer), Number(cell.dataset.head)); });
    grid.addEventListener("keydown", move);
    addEventListener("hashchange", restore);
    addEventListener("carrylens-point", ({ detail: { part, chosen } }) => {
      const { layer, head } = part;
      if (chosen && layer < layers && head < heads && (layer !== at.layer || head !== at.head)) {
        Object.assign(at, { layer, head });
        show();
      }
      for (const cell of grid.querySelectorAll("td")) {
        cell.classList.toggle("lit", same({ layer: Number(cell.dataset.layer), head: Number(cell.dataset.head) }, part));
      }
    });
    // It opens with the head that has most of the first measure.
    function begin() {
      const values = measures[0].values.slice(0, total).map((value) => Math.abs(value ?? 0));
      const most = values.indexOf(Math.max(...values));
      Object.assign(at, { layer: Math.floor(most / heads), head: most % heads });
      show();
    }

    begin();
    restore();
  }

  return { draw };
})();
