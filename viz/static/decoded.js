// The table of decoded states: layers x positions, the token in its box, certainty as its colour.
// All views lie packed in the page; a choice unpacks one of them, without a server.
"use strict";
globalThis.Decoded = (() => {
  const unpacked = (text, Kind) =>
    new Kind(Uint8Array.from(atob(text), (char) => char.charCodeAt(0)).buffer);

  const percent = (p) => {
    const shown = 100 * p;
    return p > 0 && shown < 0.1 ? "< 0.1 %" : `${shown < 10 ? shown.toFixed(1) : shown.toFixed(0)} %`;
  };

  function node(kind, text = "", more = {}) {
    const made = document.createElement(kind);
    made.textContent = text;
    return Object.assign(made, more);
  }

  function choice(name, options, chosen, change) {
    const box = node("label", name);
    const list = node("select");
    options.forEach((option, index) => list.append(new Option(option, index, false, index === chosen)));
    list.addEventListener("change", () => change(Number(list.value)));
    box.append(list);
    return box;
  }

  function draw(box, given) {
    const data = {
      ids: unpacked(given.ids, given.wide ? Uint32Array : Uint16Array),
      p: unpacked(given.p, Uint16Array), entropy: unpacked(given.entropy, Uint16Array),
    };
    const [state, decoder, norm] = given.first;
    const at = { prompt: 0, state, decoder, norm, count: 0, colour: 0 };
    const bar = node("div", "", { className: "choices" });
    const grid = node("div", "", { className: "boxes", tabIndex: 0 });
    grid.setAttribute("role", "region");
    grid.setAttribute("aria-label", "Decoded tokens; arrow keys move from box to box");
    const told = node("p", "", { className: "told" });
    told.setAttribute("aria-live", "polite");
    const names = given.prompts.map(({ tokens }) => tokens.join("").replaceAll("␣", " ").slice(0, 48));
    const menu = (name, key, options) => choice(name, options, at[key], (value) => { at[key] = value; show(); });
    if (names.length > 1) bar.append(menu("Prompt", "prompt", names));
    bar.append(
      menu("State", "state", given.states), menu("Decoder", "decoder", given.decoders),
      menu("Norm", "norm", given.norms),
      menu("In a box", "count", Array.from({ length: given.count }, (_, k) => (k ? `${k + 1} tokens` : "1 token"))),
      menu("Colour", "colour", ["probability", "entropy"]),
    );
    const scale = node("p", "", { className: "scale" });
    box.replaceChildren(bar, grid, scale, told);

    // Where a box's numbers begin: the order is layer, pos, norm, decoder.
    function place(view, row, pos) {
      const { tokens } = given.prompts[at.prompt];
      const cell = row * tokens.length + pos;
      return view.start + (cell * given.norms.length + at.norm) * given.decoders.length + at.decoder;
    }

    const token = (index, k) => given.vocabulary[data.ids[index * given.count + k]];
    const chance = (index, k) => data.p[index * given.count + k] / 65535;
    const nats = (index) => (data.entropy[index] / 65535) * given.most;

    function tell(cell) {
      const { tokens, states } = given.prompts[at.prompt];
      const [row, pos, index] = [cell.dataset.row, cell.dataset.pos, cell.dataset.index].map(Number);
      const rest = Array.from({ length: given.count }, (_, k) => `${token(index, k)} ${percent(chance(index, k))}`);
      const layers = states[at.state].layers[row];
      told.textContent = `${layers === 0 ? "In the embedding" : `After ${layers} ${layers === 1 ? "layer" : "layers"}`}, at “${tokens[pos]}”: ${rest.join(" · ")} — entropy ${nats(index).toFixed(2)} nats`;
    }

    function filled(view, row, pos) {
      const index = place(view, row, pos);
      const shade = at.colour ? 1 - nats(index) / given.most : chance(index, 0);
      const cell = node("td", "", { tabIndex: -1 });
      Object.assign(cell.dataset, { row, pos, index });
      cell.style.setProperty("--shade", `${Math.round(100 * shade)}%`);
      cell.classList.toggle("half", shade >= 0.555);  // dark ink on a dark page's light boxes
      cell.classList.toggle("deep", shade > 0.73);
      for (let k = 0; k <= at.count; k += 1) cell.append(node(k ? "small" : "span", token(index, k)));
      return cell;
    }

    function show() {
      const { tokens, states } = given.prompts[at.prompt];
      const view = states[at.state];
      const table = node("table");
      const head = node("tr");
      head.append(node("th", "layers", { scope: "col" }), ...tokens.map((name) => node("th", name, { scope: "col" })));
      const body = view.layers.map((layer, row) => {
        const line = node("tr");
        line.append(node("th", layer, { scope: "row" }), ...tokens.map((_, pos) => filled(view, row, pos)));
        return line;
      });
      table.append(head, ...body.reverse());  // the last layer on top
      grid.replaceChildren(table);
      scale.replaceChildren(
        at.colour ? `${given.most.toFixed(1)} nats ` : "0 ", node("span", "", { className: "ramp" }),
        at.colour ? " 0 nats: entropy" : " 1: probability of the likeliest token",
      );
      told.textContent = "Point at a box, or move with the arrow keys, to see its other tokens.";
    }

    function move(event) {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      const from = document.activeElement.closest("td");
      const rows = [...grid.querySelectorAll("tr")].slice(1);
      const row = from ? rows.indexOf(from.parentElement) + step[0] : 0;
      const pos = from ? Number(from.dataset.pos) + step[1] : given.prompts[at.prompt].tokens.length - 1;
      rows[row]?.querySelectorAll("td")[pos]?.focus();
    }

    for (const kind of ["mouseover", "focusin", "click"]) {
      grid.addEventListener(kind, (event) => {
        const cell = event.target.closest("td");
        if (cell) tell(cell);
      });
    }
    grid.addEventListener("keydown", move);
    show();
  }

  return { draw };
})();
