// A flow diagram that is traced in the browser: shares of every state come with the page, so that
// any cell can be traced back, by any rule and threshold, without a server.
"use strict";
window.FlowChart = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  const KINDS = { attention: "attention", mlp: "MLP", residual: "residual stream" };
  const percent = (share) => (share >= 0.0995 || share === 0 ? `${Math.round(100 * share)} %` : `${(100 * share).toFixed(1)} %`);
  const passed = (depth) => `${depth} ${depth === 1 ? "layer" : "layers"}`;

  // --- numbers ---

  function bytes(text) {
    const raw = atob(text);
    return Uint8Array.from({ length: raw.length }, (_, i) => raw.charCodeAt(i));
  }

  // Shares are stored as 16-bit square roots, low byte first.
  function shares(text) {
    const raw = bytes(text);
    return Float64Array.from({ length: raw.length / 2 }, (_, i) => ((raw[2 * i] + 256 * raw[2 * i + 1]) / 65535) ** 2);
  }

  class Shares {
    constructor(props) {
      Object.assign(this, { T: props.tokens.length, L: props.layers, parallel: props.parallel, top: props.top, stored: props.rules, kept: {} });
    }

    // The shares of one rule, with or without the sink; every joint's sum to 1.
    of(rule, hideSink) {
      return (this.kept[`${rule} ${hideSink}`] ??= this.ready(this.stored[rule], hideSink));
    }

    ready(stored, hideSink) {
      const { T, L } = this;
      const packed = shares(stored.attention), attention = [], bias = shares(stored.bias), mlp = shares(stored.mlp);
      const residual = shares(stored.residual);
      for (let layer = 0, at = 0; layer < L; layer++) {
        const rows = new Float64Array(T * T);
        for (let q = 0; q < T; q++) {
          for (let s = 0; s <= q; s++) rows[q * T + s] = packed[at++];
          this.normalise(rows, q, bias, residual, layer * T + q, hideSink);
        }
        attention.push(rows);
      }
      return { attention, bias, mlp, residual, head: bytes(stored.head), loading: bytes(stored.loading) };
    }

    normalise(rows, q, bias, residual, joint, hideSink) {
      const { T } = this;
      const sum = () => { let all = 0; for (let s = 0; s <= q; s++) all += rows[q * T + s]; return all; };
      const before = sum();
      if (hideSink && q > 0) rows[q * T] = 0;
      const left = sum(), factor = left > 0 ? before / left : 0;
      if (left === 0) residual[joint] += before;
      const whole = before + bias[joint] + residual[joint] - (left === 0 ? before : 0);
      for (let s = 0; s <= q; s++) rows[q * T + s] *= factor / whole;
      bias[joint] /= whole;
      residual[joint] /= whole;
    }

    // The heads of a link of attention: [head, share of the link], the others last as [-1, share].
    heads(rule, layer, q, s) {
      const { T, top } = this;
      const one = this.of(rule, true), at = (layer * T * (T + 1)) / 2 + (q * (q + 1)) / 2 + s;
      const found = Array.from({ length: top }, (_, k) => [one.head[at * top + k], one.loading[at * top + k] / 255]);
      const rest = 1 - found.reduce((sum, [, share]) => sum + share, 0);
      return [...found.filter(([, share]) => share > 0), ...(rest > 0.005 ? [[-1, rest]] : [])];
    }
  }

  // Weights of links of one joint that the threshold lets pass; `links` are changed in place.
  function follow(links, whole, { kind, value }) {
    if (kind === "none" || whole === 0) return;
    const limit = kind === "minimum weight" ? value : 0;
    const order = Array.from(links.keys()).sort((a, b) => links[b] - links[a] || a - b);
    let before = 0;
    order.forEach((at, rank) => {
      const share = links[at] / whole;
      const kept = kind === "top-k" ? rank < value : kind === "top-p" ? before < value : links[at] >= limit;
      before += share;
      if (!kept) links[at] = 0;
    });
  }

  function trace(data, rule, depth, pos, threshold, hideSink) {
    const { T, L, parallel } = data, split = data.of(rule, hideSink);
    const flow = { state: Array.from({ length: L + 1 }, () => new Float64Array(T)), links: [], joint: [], dropped: 0, bias: 0 };
    flow.state[depth][pos] = 1;
    for (let layer = depth - 1; layer >= 0; layer--) {
      flow.joint[layer] = new Float64Array(T);
      for (let q = 0; q < T; q++) step(flow, split, layer, q, flow.state[layer + 1][q], threshold, T, parallel);
    }
    return flow;
  }

  function step(flow, split, layer, q, weight, threshold, T, parallel) {
    if (weight === 0) return;
    const at = layer * T + q, below = flow.state[layer];
    const after = [weight * (1 - split.mlp[at]), weight * split.mlp[at]];
    follow(after, weight, threshold);
    const mid = after[0] + (parallel ? 0 : after[1]);
    const parts = Float64Array.from({ length: q + 3 }, (_, s) =>
      mid * (s <= q ? split.attention[layer][q * T + s] : s === q + 1 ? split.bias[at] : split.residual[at]));
    follow(parts, mid, threshold);
    flow.joint[layer][q] = mid;
    if (after[0]) flow.links.push({ kind: "past the mlp", layer, query: q, source: q, weight: after[0] });
    if (after[1]) flow.links.push({ kind: "mlp", layer, query: q, source: q, weight: after[1] });
    if (parallel) below[q] += after[1];
    let kept = 0;
    parts.forEach((part, s) => {
      if (!part) return;
      kept += part;
      if (s === q + 1) return void (flow.bias += part);
      const source = Math.min(s, q), kind = s <= q ? "attention" : "residual";
      below[source] += part;
      flow.links.push({ kind, layer, query: q, source, weight: part });
    });
    flow.dropped += weight - after[0] - after[1] + mid - kept;
  }

  // --- page ---

  const element = (name, fields = {}, parent = null, space = null) => {
    const made = space ? document.createElementNS(space, name) : document.createElement(name);
    for (const [key, value] of Object.entries(fields)) key === "text" ? (made.textContent = value) : made.setAttribute(key, value);
    parent?.append(made);
    return made;
  };

  class Chart {
    constructor(box, props) {
      Object.assign(this, { box, props, data: new Shares(props), T: props.tokens.length, L: props.layers });
      this.index = new Uint32Array(props.cells.index);
      this.at = { depth: this.L, pos: this.T - 1 };
      box.replaceChildren();
      box.classList.add("flow");
      this.controls();
      this.stage = element("div", { class: "flow-stage" }, box);
      this.tip = element("div", { class: "flow-tip", hidden: "" }, box);
      this.why = element("div", { class: "flow-why", "aria-live": "polite" }, box);
      this.legend();
      this.svg = element("svg", { tabindex: 0, role: "application", "aria-label": "Flow diagram. Arrow keys move to another state, Home goes back to the answer." }, this.stage, SVG);
      this.listen();
      this.update();
      new ResizeObserver(() => this.width !== this.stage.clientWidth && this.draw()).observe(this.stage);
    }

    controls() {
      const first = element("div", { class: "flow-bar" }, this.box), { opens } = this.props;
      let bar = first;
      const select = (name, choices, value) => {
        const input = element("select", { "aria-label": name }, element("label", { text: name }, bar));
        for (const choice of choices) element("option", { text: choice }, input);
        input.value = value;
        return input;
      };
      const check = (name, on) => {
        const label = element("label", { class: "check" }, bar), input = element("input", { type: "checkbox" }, label);
        label.append(` ${name}`);
        input.checked = on;
        return input;
      };
      const range = (name, value, most) => {
        const input = element("input", { type: "range", min: 0, max: most, step: most / 100 }, element("label", { text: name }, bar));
        input.value = value;
        return input;
      };
      this.ui = {
        rule: select("Rule of dividing a state", Object.keys(this.props.rules), opens.rule),
        view: select("View", ["flow", "cells"], "flow"),
        kind: select("Threshold", ["none", "top-k", "top-p", "minimum weight"], opens.threshold[0]),
        value: element("input", { type: "number", step: "any", min: 0, value: opens.threshold[1] }, element("label", { text: "Its value" }, bar)),
        colour: select("Colour", ["certainty", "layers passed", "position", "weight", "gradient"], "certainty"),
      };
      const buttons = element("span", { class: "flow-buttons" }, bar);
      element("button", { type: "button", class: "link", text: "Back to the answer" }, buttons).onclick = () => this.go(this.L, this.T - 1);
      element("button", { type: "button", class: "link", text: "JSON" }, buttons).onclick = () => this.save();
      const more = element("details", { class: "flow-more" }, first);
      element("summary", { text: "More settings" }, more);
      bar = element("div", { class: "flow-bar" }, more);
      Object.assign(this.ui, {
        hide: element("input", { type: "number", step: 0.005, min: 0, value: this.T > 20 ? 0.02 : 0.01 }, element("label", { text: "Draw from", title: "Links and states with less weight are followed, but not drawn" }, bar)),
        least: range("Least width", 0.6, 4),
        most: range("Most width", 22, 44),
        sink: check("leave out the first token (sink)", true),
        apart: check("heads apart", false),
        compact: check("compact", true),
      });
      const usual = { none: 0, "top-k": 2, "top-p": 0.9, "minimum weight": opens.threshold[0] === "minimum weight" ? opens.threshold[1] : 0.01 };
      this.ui.kind.addEventListener("change", () => { this.ui.value.value = usual[this.ui.kind.value]; });
      for (const input of Object.values(this.ui)) input.addEventListener(input.type === "range" ? "input" : "change", () => this.update());
    }

    legend() {
      const line = element("p", { class: "flow-legend" }, this.box);
      for (const kind of ["attention", "mlp", "residual"]) {
        element("span", { class: `swatch ${kind}` }, line);
        line.append(`${KINDS[kind]} `);
      }
      element("span", { class: "swatch joint" }, line);
      line.append("joint: attention gathers here ");
      this.note = element("span", {}, line);
    }

    go(depth, pos) {
      if (depth < 0 || depth > this.L || pos < 0 || pos >= this.T) return;
      this.at = { depth, pos };
      this.why.classList.toggle("asked", depth < this.L || pos < this.T - 1);
      this.update();
    }

    update() {
      const { rule, kind, value, sink } = this.ui;
      this.threshold = { kind: kind.value, value: Number(value.value) || 0 };
      this.least = Math.max(1e-6, Number(this.ui.hide.value) || 0);
      value.disabled = kind.value === "none";
      this.flow = trace(this.data, rule.value, this.at.depth, this.at.pos, this.threshold, sink.checked);
      this.told();
      this.draw();
      const column = this.columns[this.at.pos];
      if (column.mid < this.stage.scrollLeft || column.mid > this.stage.scrollLeft + this.stage.clientWidth) this.stage.scrollLeft = column.mid - this.stage.clientWidth / 2;
    }

    // The token that a state decodes to, and its rivals: [label, probability].
    decoded(depth, pos) {
      const { words, cells } = this.props, k = cells.count, first = (depth * this.T + pos) * k;
      return Array.from({ length: k }, (_, rank) => [words[this.index[first + rank]], cells.probability[first + rank] / 1000]);
    }

    label(depth, pos) { return depth === 0 ? this.props.tokens[pos] : this.decoded(depth, pos)[0][0]; }

    name(pos) { return `“${this.props.tokens[pos]}” (pos ${pos})`; }

    // --- layout ---

    layout() {
      const { T, L } = this, compact = this.ui.compact.checked, blocks = this.ui.view.value === "cells";
      this.width = this.stage.clientWidth || 900;
      const least = blocks ? 32 : 44, gutter = 44, state = this.flow.state;
      const wide = Array.from({ length: T }, (_, pos) => blocks || !compact || pos === this.at.pos || state.some((row) => row[pos] >= Math.max(0.01, this.least)));
      const narrow = wide.filter((on) => !on).length;
      const room = Math.max((this.width - gutter - 24 - 15 * narrow) / Math.max(1, T - narrow), least);
      const column = Math.min(room, 160);
      let x = gutter;
      this.stage.classList.toggle("wide", column * (T - narrow) + 15 * narrow + gutter > this.box.clientWidth);
      this.columns = wide.map((on) => { const left = x; x += on ? column : 15; return { left, width: on ? column : 15, mid: (left + x) / 2, on }; });
      this.total = x + 22;
      const busy = Array.from({ length: L }, (_, layer) => this.flow.links.some((l) => l.kind === "attention" && l.layer === layer && l.weight >= Math.max(0.01, this.least)));
      const tall = Array.from({ length: L + 1 }, (_, d) => !compact || blocks || d === 0 || d === this.at.depth || busy[d] || busy[d - 1]);
      const gather = Math.min(130, Math.max(52, 420 / Math.max(1, busy.filter(Boolean).length)));
      let y = 22;
      this.rows = [];
      for (let depth = L; depth >= 0; depth--) {
        const height = tall[depth] ? 20 : 5;
        this.rows[depth] = { top: y, height, tall: tall[depth] };
        const gap = blocks ? 15 : depth > 0 && busy[depth - 1] ? gather : !compact ? 26 : 4;
        y += height + (depth > 0 ? gap : 0);
      }
      this.bottom = y;
    }

    draw() {
      this.layout();
      const { svg } = this, drawing = document.createDocumentFragment();
      this.marks = [];
      const group = (name) => element("g", { class: name }, drawing, SVG);
      this.names(group("names"));
      const skipped = this.links(group("links"));
      this.cells(group("cells"));
      const height = this.bottom + this.below;
      svg.replaceChildren(drawing);
      for (const [key, value] of Object.entries({ width: this.total, height, viewBox: `0 0 ${this.total} ${height}` })) svg.setAttribute(key, value);
      const { dropped, bias } = this.flow;
      const clipped = this.props.clipped[this.ui.rule.value];
      this.note.textContent = `· ${percent(dropped)} dropped by the threshold${bias > 0.0005 ? `, ${percent(bias)} from biases of attention` : ""}${skipped ? `; ${skipped} links below ${percent(this.least)} are followed, but not drawn` : ""}${clipped > 0.005 ? `; by this rule ${percent(clipped)} of all scores lie below zero and are cut off` : ""}`;
    }

    names(into) {
      const text = (x, y, words, fields = {}) => element("text", { x, y, text: words, ...fields }, into, SVG);
      text(4, 12, "layer");
      for (let depth = this.L, last = 0; depth > 0; depth--) {
        const here = this.rows[depth], below = this.rows[depth - 1], y = (here.top + here.height + below.top) / 2 + 4;
        if (y - last < 11) continue;
        text(4, y, depth - 1);
        text(this.total - 2, y, depth - 1, { class: "end" });
        last = y;
      }
      const longest = Math.max(...this.columns.map((c, pos) => (c.on ? 0 : Math.min(this.props.tokens[pos].length, 12))));
      this.below = 34 + 6 * Math.max(0, longest - 4);
      this.columns.forEach((column, pos) => {
        const key = this.props.key.includes(pos) ? "key" : "";
        if (column.on) text(column.mid, 12, this.short(this.props.tokens[pos], column), { class: `middle ${key}` });
        if (column.on) {
          text(column.mid, this.bottom + 13, pos, { class: `middle ${key}` });
          text(column.mid, this.bottom + 25, percent(this.flow.state[0][pos]), { class: `middle ${key}` });
        } else text(0, 0, this.props.tokens[pos].slice(0, 12), { class: `turned ${key}`, transform: `translate(${column.mid + 3} ${this.bottom + 4}) rotate(90)` });
      });
    }

    fill(depth, pos) {
      const { cells, gradient } = this.props;
      const share = {
        certainty: () => this.decoded(depth, pos)[0][1],
        "layers passed": () => 0.08 + (0.8 * depth) / this.L,
        position: () => 0.08 + (0.8 * pos) / Math.max(1, this.T - 1),
        weight: () => Math.sqrt(this.flow.state[depth][pos]),
        gradient: () => gradient[depth * this.T + pos] / 1000,
      }[this.ui.colour.value]();
      return Math.round(100 * Math.min(1, share));
    }

    cells(into) {
      const blocks = this.ui.view.value === "cells";
      for (let depth = 0; depth <= this.L; depth++) {
        for (let pos = 0; pos < this.T; pos++) {
          const weight = this.flow.state[depth][pos];
          if (blocks || depth === 0 || weight >= this.least || !this.rows[depth].tall) this.cell(into, depth, pos, weight, blocks);
          else this.ghost(into, depth, pos);
        }
      }
    }

    // A state that nothing passes: a dot that can still be clicked.
    ghost(into, depth, pos) {
      const row = this.rows[depth], column = this.columns[pos];
      element("circle", { cx: column.mid, cy: row.top + row.height / 2, r: 2.2, class: "ghost", "data-cell": `${depth} ${pos}` }, into, SVG);
    }

    cell(into, depth, pos, weight, blocks) {
      const row = this.rows[depth], column = this.columns[pos];
      if (!row.tall && weight < this.least) return;
      const here = depth === this.at.depth && pos === this.at.pos, share = this.fill(depth, pos);
      const inset = column.on ? 4 : 2, fields = { "data-cell": `${depth} ${pos}` };
      const names = ["cell", here && "traced", depth === 0 && "input", this.props.key.includes(pos) && depth === 0 && "key", share > 55 && "deep", weight < this.least && depth > 0 && "idle"].filter(Boolean).join(" ");
      const box = element("g", { class: names, ...fields }, into, SVG);
      element("rect", { x: column.left + inset, y: row.top, width: column.width - 2 * inset, height: row.height, rx: row.tall ? 4 : 2, style: `--share: ${share}%` }, box, SVG);
      if (!row.tall || !column.on) return;
      if (!blocks && weight > 0) element("rect", { class: "weight", x: column.left + inset + 3, y: row.top + row.height - 3.5, width: Math.max(1, weight * (column.width - 2 * inset - 6)), height: 2.5, rx: 1 }, box, SVG);
      element("text", { x: column.mid, y: row.top + row.height / 2 + 3.2, class: "middle", text: this.short(this.label(depth, pos), column) }, box, SVG);
    }

    // A word cut to what fits a column; characters of full width take two places.
    short(word, column) {
      const letters = [...word], room = (column.width - 10) / 5.9;
      let wide = 0, fits = 0;
      for (const letter of letters) if ((wide += letter.codePointAt(0) > 0x2e80 ? 2 : 1) <= room) fits++;
      return fits === letters.length ? word : `${letters.slice(0, Math.max(1, fits - 1)).join("")}…`;
    }

    // Links from the widest to the thinnest; returns how many are too thin to be drawn.
    links(into) {
      const blocks = this.ui.view.value === "cells", least = Number(this.ui.least.value), most = Number(this.ui.most.value);
      const line = (d, width, kind, number) => element("path", { d, class: `link ${kind}`, "stroke-width": width.toFixed(2), "data-link": number }, into, SVG);
      let skipped = 0;
      this.flow.links.forEach((link, number) => {
        if (link.weight < this.least) return void skipped++;
        const width = blocks ? Math.min(3, Math.max(0.8, 6 * link.weight)) : Math.min(most, Math.max(least, link.weight * most));
        for (const [d, share, kind] of this.paths(link, width, blocks)) line(d, Math.max(0.4, width * share), kind, number);
        if (link.kind === "attention" && !blocks) this.joint(into, link);
      });
      return skipped;
    }

    joint(into, { layer, query }) {
      const at = `${layer} ${query}`;
      if (this.marks.includes(at)) return;
      this.marks.push(at);
      const y = this.middle(layer);
      element("circle", { cx: this.columns[query].mid, cy: y, r: 4, class: "joint", "data-joint": at }, into, SVG);
    }

    middle(layer) {
      const above = this.rows[layer + 1], below = this.rows[layer];
      return above.top + above.height + (below.top - above.top - above.height) * 0.32;
    }

    // How a link runs: [path, share of its width, class]; heads apart lie side by side.
    paths({ kind, layer, query, source }, width, blocks) {
      const above = this.rows[layer + 1], below = this.rows[layer];
      const from = above.top + above.height, to = below.top, mid = this.middle(layer);
      const x = this.columns[query].mid, end = this.columns[source].mid;
      if (kind === "past the mlp") return [[`M${x} ${from}V${mid}`, 1, "residual"]];
      if (kind === "residual") return [[`M${x} ${mid}V${to}`, 1, "residual"]];
      if (kind === "mlp") {
        const out = x + Math.min(20, this.columns[query].width / 3), stop = this.data.parallel ? to : mid;
        return [[`M${x + 3} ${from}C${out} ${from + 3} ${out} ${stop - 3} ${x + 3} ${stop}`, 1, "mlp"]];
      }
      const turn = source === query ? -Math.min(26, this.columns[query].width / 2.4) : 0;
      const curve = (shift) => turn
        ? `M${x + shift} ${mid}C${x + turn + shift} ${mid + 4} ${x + turn + shift} ${to - 4} ${end + shift} ${to}`
        : `M${x + shift} ${blocks ? from : mid}C${x + shift} ${(mid + to) / 2 + 8} ${end + shift} ${(mid + to) / 2 - 8} ${end + shift} ${to}`;
      if (!this.ui.apart.checked || blocks) return [[curve(0), 1, "attention"]];
      const heads = this.data.heads(this.ui.rule.value, layer, query, source);
      let at = -width / 2;
      return heads.map(([head, share], rank) => {
        const shift = at + (width * share) / 2;
        at += width * share;
        return [curve(shift), share, head < 0 ? "attention other" : `attention head${rank % 3}`];
      });
    }

    // --- words ---

    told() {
      const { depth, pos } = this.at, word = this.label(depth, pos), answer = depth === this.L && pos === this.T - 1;
      this.why.replaceChildren();
      const head = answer ? `Why ${`“${this.props.traced}”`} after ${this.name(pos)}?` : depth === 0 ? `${this.name(pos)} is an input: nothing comes before it.` : `Why does the state at ${this.name(pos)} after ${passed(depth)} read “${word}”?`;
      element("p", { class: "flow-question", text: head }, this.why);
      const list = element("ol", {}, this.why);
      for (const line of depth === 0 ? [] : this.chain(pos)) element("li", { text: line }, list);
    }

    // From which tokens a column fetched weight, most first: [source, weight, links].
    fetched(pos) {
      const found = new Map();
      for (const link of this.flow.links) {
        if (link.kind !== "attention" || link.query !== pos || link.source === pos) continue;
        const one = found.get(link.source) ?? [link.source, 0, []];
        one[1] += link.weight;
        one[2].push(link);
        found.set(link.source, one);
      }
      return [...found.values()].sort((a, b) => b[1] - a[1]);
    }

    where(links) {
      const best = links.toSorted((a, b) => b.weight - a.weight).slice(0, 2);
      return best.map(({ layer, query, source, weight }) => {
        const heads = this.data.top ? this.data.heads(this.ui.rule.value, layer, query, source) : [];
        const [head, share] = heads[0] ?? [-1, 0];
        return `layer ${layer}${head >= 0 && share > 0.3 ? ` (head L${layer}H${head} holds ${percent(share)} of it)` : ""}: ${percent(weight)}`;
      }).join("; ");
    }

    chain(pos) {
      const fetched = this.fetched(pos), all = fetched.reduce((sum, [, weight]) => sum + weight, 0);
      const stayed = this.flow.state[0][pos], mlp = this.flow.links.filter((l) => l.kind === "mlp" && l.query === pos);
      const most = mlp.toSorted((a, b) => b.weight - a.weight)[0];
      const lines = [`${percent(all)} of it was fetched from other tokens; ${percent(stayed)} comes down this column to its own embedding${this.flow.dropped > 0.0005 ? `; further down ${percent(this.flow.dropped)} of all was dropped by the threshold` : ""}.`];
      for (const [source, weight, links] of fetched.slice(0, 3)) lines.push(`From ${this.name(source)}: ${percent(weight)}. The largest part: ${this.where(links)}.`);
      if (fetched.length) lines.push(...this.further(fetched[0][0]));
      if (most) lines.push(`The MLP that adds most in this column is that of layer ${most.layer}: ${percent(most.weight)} passes through it.`);
      return lines;
    }

    further(source) {
      const [next] = this.fetched(source);
      return next && next[1] > 0.02 ? [`${this.name(source)} in turn fetched most from ${this.name(next[0])}: ${percent(next[1])}, in ${this.where(next[2])}.`] : [];
    }

    describe(target) {
      const cell = target.closest("[data-cell]"), link = target.closest("[data-link]"), joint = target.closest("[data-joint]");
      if (cell) return this.ofCell(...cell.dataset.cell.split(" ").map(Number));
      if (joint) return this.ofJoint(...joint.dataset.joint.split(" ").map(Number));
      return link ? this.ofLink(this.flow.links[Number(link.dataset.link)]) : null;
    }

    ofCell(depth, pos) {
      const split = this.data.of(this.ui.rule.value, this.ui.sink.checked), at = (depth - 1) * this.T + pos;
      const lines = [`${this.name(pos)}${depth ? `, after ${passed(depth)}` : ", embedding"}`, `${percent(this.flow.state[depth][pos])} of the traced state passes here`];
      if (depth) {
        const past = 1 - split.mlp[at], attention = 1 - split.bias[at] - split.residual[at];
        lines.push(`this state: MLP ${percent(split.mlp[at])}, attention ${percent(past * attention)}, residual stream ${percent(past * split.residual[at])} (the joint: attention ${percent(attention)})`);
        const by = this.props.vocabulary?.slice(3 * at, 3 * at + 3);
        if (by) lines.push(`what it decodes to is decided by (KL): MLP ${by[2]} %, attention ${by[1]} %, residual stream ${by[0]} %`);
      }
      return { lines, top: this.decoded(depth, pos) };
    }

    ofJoint(layer, query) {
      const links = this.flow.links.filter((l) => l.kind === "attention" && l.layer === layer && l.query === query).sort((a, b) => b.weight - a.weight);
      return { lines: [`Joint of layer ${layer} at ${this.name(query)}: attention brings`, ...links.slice(0, 6).map((l) => `${percent(l.weight)} from ${this.name(l.source)}`)] };
    }

    ofLink({ kind, layer, query, source, weight }) {
      const lines = [`${kind === "past the mlp" ? "past the MLP" : KINDS[kind]}, layer ${layer}: ${percent(weight)} of the traced state`];
      if (kind !== "attention") return { lines: [...lines, `at ${this.name(query)}`] };
      lines.push(`from ${this.name(source)} to ${this.name(query)}`);
      if (this.data.top) lines.push(this.data.heads(this.ui.rule.value, layer, query, source).map(([head, share]) => `${head < 0 ? "other heads" : `L${layer}H${head}`} ${percent(share)}`).join(", "));
      return { lines };
    }

    listen() {
      const { svg, tip } = this;
      svg.addEventListener("pointermove", (event) => this.hover(event));
      svg.addEventListener("pointerleave", () => { tip.hidden = true; });
      svg.addEventListener("click", (event) => {
        const cell = event.target.closest("[data-cell]");
        if (cell) this.go(...cell.dataset.cell.split(" ").map(Number));
      });
      const moves = { ArrowUp: [1, 0], ArrowDown: [-1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
      svg.addEventListener("keydown", (event) => {
        if (event.key === "Home") this.go(this.L, this.T - 1);
        else if (moves[event.key]) this.go(this.at.depth + moves[event.key][0], this.at.pos + moves[event.key][1]);
        else return;
        event.preventDefault();
      });
    }

    hover(event) {
      const found = this.describe(event.target), { tip, box } = this;
      tip.hidden = !found;
      if (!found) return;
      tip.replaceChildren();
      for (const line of found.lines) element("p", { text: line }, tip);
      if (found.top) {
        const rows = element("table", {}, tip);
        for (const [word, share] of found.top) {
          const row = element("tr", {}, rows);
          element("td", { text: word }, row);
          element("td", { text: percent(share) }, row);
        }
      }
      const around = box.getBoundingClientRect();
      tip.style.left = `${Math.max(0, Math.min(event.clientX - around.left + 14, around.width - 260))}px`;
      tip.style.top = `${event.clientY - around.top + 16}px`;
    }

    // The drawn flow as plain data: the schema of lenses.flow.tables.Diagram.
    save() {
      const { flow, T, L } = this, nodes = [];
      for (let depth = L; depth >= 0; depth--) {
        for (let pos = 0; pos < T; pos++) {
          const state = { part: "state", depth, pos, weight: flow.state[depth][pos], label: this.label(depth, pos), certainty: this.decoded(depth, pos)[0][1] };
          if (state.weight) nodes.push(state);
          if (flow.joint[depth]?.[pos]) nodes.push({ part: "joint", depth: depth + 0.5, pos, weight: flow.joint[depth][pos] });
        }
      }
      const limit = `${this.threshold.kind} ${this.threshold.value}`;
      const told = { tokens: this.props.tokens, traced: this.label(this.at.depth, this.at.pos), rule: this.ui.rule.value, threshold: limit, nodes, links: flow.links };
      const url = URL.createObjectURL(new Blob([JSON.stringify(told)], { type: "application/json" }));
      element("a", { href: url, download: "flow.json" }).click();
      setTimeout(() => URL.revokeObjectURL(url), 1000);
    }
  }

  // One text, or a choice among several: its charts are made when they are asked for.
  function draw(box, props) {
    if (!props.texts || props.texts.length === 1) return void new Chart(box, props.texts?.[0] ?? props);
    const line = element("p", { class: "flow-texts" }), place = element("div", {});
    const list = element("select", { "aria-label": "Text" }, element("label", { text: "Text " }, line));
    for (const { name } of props.texts) element("option", { text: name }, list);
    const show = () => {
      const made = element("div", {});
      place.replaceChildren(made);
      new Chart(made, props.texts[list.selectedIndex]);
    };
    list.addEventListener("change", show);
    box.replaceChildren(line, place);
    show();
  }

  return { draw, trace, Shares };
})();
