"""Tokens and names that would be markup, commands or nonsense are text in every part of a page."""

from dataclasses import replace
from itertools import chain, islice, product

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from lenses.statistics.grid import grid
from tests.viz import samples
from tests.viz.figures.test_flow import cells as flow_cells
from tests.viz.figures.test_flow import chart as flow_of
from viz import (
    HeadText,
    View,
    along_text,
    decoded_table,
    flow_texts,
    head_explorer,
    heat_map,
    step_by_step,
    write_gallery,
    write_page,
)
from viz.drawing import storable
from viz.labels import label

RUN = "window.ran=(window.ran||0)+1"
PAYLOADS = [
    f"<script>{RUN}</script>", f"</script><script>{RUN}</script>", f"<img src=x onerror={RUN}>",
    f"<svg/onload={RUN}>", f"<svg><script>{RUN}</script></svg>", f"javascript:{RUN}",
    f"<iframe srcdoc='<script>{RUN}</script>'>",
    f"<a href=javascript:{RUN}>x</a>",
    f"<body onload={RUN}>", f"<details open ontoggle={RUN}>", f"\" onmouseover=\"{RUN}\" x=\"",
    f"' onfocus='{RUN}' autofocus x='", f"`${{{RUN}}}`",
    f"{{{{constructor.constructor('{RUN}')()}}}}",
    f"<math><mtext><style><img src=x onerror={RUN}>", f"<!--><script>{RUN}</script>-->",
    f"]]><script>{RUN}</script>", f"<style>@import 'javascript:{RUN}'</style>",
    "</textarea><b>x",
    "</title><b>x", "</select><b>x", "</td></tr></table><h1>x", 
    "&lt;script&gt;", "&#x3c;b&#x3e;",
    "&amp;amp;", "&nbsp", "%3Cscript%3E", "\\u003cscript\\u003e",
    "\u202e\u2066rtl\u2069", "\u061c\u200f",
    r"$\frac$", r"$\frac{1}{", "$x_{", "\\", "\x00", "\ud83d", "\udc00", "\ufeff\u2028\u2029",
    "__proto__",
    "constructor", "nan", "null", "", " ", "\n\r\t", "😀" * 9,
     "a\u0301" * 50, "万", "{%raw%}{{7*7}}",
    "../../../etc/passwd", "#L0H0/x", "100 kB " + "<b>" * 34_000,
]  # fmt: skip
AROUND = ["{}", " {}", "{}\n", "\"{}\"", "'{}'", "<b>{}", "</b>{}", "&{};", "{}{}", "$x${}",
          "\x00{}", "{}\ud800", "\u202e{}", "<!--{}", "{}-->", "${{{}}}", "\\{}", "x{}", "{}>",
          "={}", "{} {}", "/{}/", "`{}`", "[{}]", "({})", ";{}//", "*/{}/*", "%{}", "@{}", "~{}",
          "^{}", "|{}", "?{}", "!{}", "_{}_", "0{}", "<{}", "{}<", "&#60;{}", "\t{}", "\u200b{}",
          "\u2066{}", "<p {}", "<p x='{}", "<p x=\"{}", "<p x={}", "</script>{}", "<![CDATA[{}",
          "<script>{}", "<style>{}", "<title>{}", "<noscript>{}", "<xmp>{}", "<template>{}",
          "<select>{}", "<svg>{}", "<math>{}", "<table>{}"]  # fmt: skip


def odd(count: int) -> list[str]:
    """As many different strings; the plain payloads come first, then these in one and in two."""
    short = [payload for payload in PAYLOADS if len(payload) < 1_000]
    once = (around.replace("{}", payload) for around, payload in product(AROUND, PAYLOADS))
    twice = (
        outer.replace("{}", inner.replace("{}", payload))
        for outer, inner, payload in product(AROUND, AROUND[1:], short)
    )
    found = list(dict.fromkeys(islice(chain(once, twice), 2 * count)))
    assert len(found) >= count
    return found[:count]


def drawn(words: list[str]) -> dict:
    """One of every part that shows words, with these in it."""
    names = [word.encode("utf-8", "backslashreplace").decode() for word in words]
    few = [names[i % len(words)] for i in range(12)]  # a column of text holds no half characters
    told = pd.Series(words, dtype=object)
    heads = grid({"measure": few[:4], "phase": few[4:6], "layer": 2, "head": 2},
                 estimate=np.arange(32.0).reshape(4, 2, 2, 2))  # fmt: skip
    count = min(len(words), 60)
    pattern = np.tile(np.tril(np.ones((count, count))), (2, 2, 1, 1))
    along = {few[0]: np.tile(np.arange(count, dtype=float), (2, 2, 1))}
    row = pd.DataFrame({"layer": 0, "pos": range(len(words)), "token": told,
                        "share": np.linspace(0, 1, len(words))})  # fmt: skip
    boxes = pd.DataFrame({"prompt": 0, "state": few[1], "layer": 0.0, "pos": range(len(words)),
                          "norm": few[2], "decoder": few[3], "token": told,
                          "token_2": pd.Series(words[::-1], dtype=object),
                          "probability": 0.5, "probability_2": 0.1, "entropy": 1.0})  # fmt: skip
    cell = pd.DataFrame({"row": range(len(words)), "column": 0, "value": 1.0, "word": told})
    steps = grid({"step": few[:2], "row": few[4:7], "column": few[7:9]}, value=np.ones((2, 3, 2)))
    made = {
        "Explorer": head_explorer(heads, caption=few[3], facets=("phase",),
                                  text=HeadText(words[:count], pattern, along)),
        "Along": along_text(row, "share", caption=few[4]),
        "Map": heat_map(cell, "row", "column", "value", text="word", caption=few[5]),
        "Decoded": decoded_table(boxes, {0: words}, View(few[1], few[3], few[2]), caption=few[6]),
        "Steps": step_by_step(steps, caption=few[7], about=dict.fromkeys(few[:2], few[8])),
        "Flow": flow_texts({few[0]: flow_of(), few[1]: _flow(words)}),
    }  # fmt: skip
    return {name: replace(one, static=Figure) for name, one in made.items()}


def _flow(words: list[str]):
    """The flow of another test, in which states decode to these words."""
    chart = flow_of()
    names = [words[i % len(words)] for i in range(len(flow_cells()))]
    props = dict(chart.widget.props)
    props["words"] = [label(name) for name in names]
    props["cells"] = props["cells"] | {"index": list(range(len(names)))}
    return replace(chart, widget=replace(chart.widget, props=props))


def written(runs, words: list[str]) -> list[str]:
    """Two runs with hostile names in all that a manifest says, and the gallery; the pages."""
    rows = storable(pd.DataFrame({"token": pd.Series([*words, *["x"] * 400], dtype=object)}))
    told = samples.redrawn() | {"method": words[1], "headline": f"{words[0]}. {words[2]}"}
    told["claims"] = [
        samples.claim(family=words[3], label=word, sentence=word, unit=word, null_note=word)
        for word in words[:40]
    ] + [samples.untested(word, word) for word in words[:10]]
    model = samples.manifest()["model"] | {"name": words[4], "notes": words[5]}
    told |= {"model": model, "label": words[6], "notes": words[:20], "question": words[7]}
    fields = {"seed": 0, "prompts": words[:30]}
    told |= {
        "fields": fields,
        "defaults": {"seed": 0},
        "field_help": dict.fromkeys(fields, words[8]),
    }
    pages = []
    for number in range(2):
        more = {"started": f"2026-03-0{number + 1}T10:00:00+00:00"}
        folder, said = samples.write_run(runs, f"run{number}", drawn(words), {"words": rows},
                                         **told | more)  # fmt: skip
        pages.append(str(write_page(folder, said)))
    write_gallery(runs)
    both = "&".join(f"run=head_contributions/run{number}" for number in range(2))
    return [pages[0], f"{runs}/index.html", f"{runs}/matrix.html", f"{runs}/compare.html#{both}"]


def tried(tab, pages: list[str]) -> None:
    """Everything on the pages is pressed, pointed at and chosen; nothing may run or complain."""
    for address in pages:
        path, mark, rest = address.partition("#")
        shown = tab()
        heard = []
        shown.page.on("console", lambda message, heard=heard: heard.append(message.text))
        shown.page.goto(f"file://{path}{mark}{rest}")
        shown.page.wait_for_timeout(500)
        shown.page.evaluate(
            """async () => {
                for (const fold of document.querySelectorAll("details")) fold.open = true;
                for (const list of document.querySelectorAll(".widget select")) {
                    for (let at = 0; at < Math.min(list.options.length, 3); at++) {
                        list.selectedIndex = at;
                        list.dispatchEvent(new Event("change", { bubbles: true }));
                    }
                }
                const cells = [...document.querySelectorAll(".widget td, .widget [data-cell]")];
                for (const cell of cells.filter((_, at) => at % 7 === 0).slice(0, 120)) {
                    for (const kind of ["mouseover", "pointermove", "click"])
                        cell.dispatchEvent(new MouseEvent(kind, { bubbles: true }));
                }
                for (const button of document.querySelectorAll(".all-rows, .swap, .enlarge")) {
                    button.click();
                    await new Promise((done) => setTimeout(done, 30));
                }
            }"""
        )
        shown.page.wait_for_timeout(300)
        assert shown.page.evaluate("window.ran") is None
        assert shown.complaints() == []
        assert heard == []
        foreign = "main :is(script:not([type='application/json']), iframe, body, title, textarea)"
        assert shown.page.locator(foreign).count() == 0
        assert shown.page.locator("main :is(math, noscript, xmp, template)").count() == 0


def test_hostile_words_are_text_everywhere(tab, tmp_path):
    tried(tab, written(tmp_path, odd(len(PAYLOADS))))


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, 10_000, 500))
def test_ten_thousand_hostile_words_are_text_everywhere(start, tab, tmp_path):
    tried(tab, written(tmp_path, odd(10_000)[start : start + 500]))
