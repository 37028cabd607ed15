"""A flow diagram: what the page holds, what the browser traces, and what is drawn."""

import base64
import json

import numpy as np
import pandas as pd
import pytest

from tests.viz import samples
from viz import flow_chart
from viz.drawing import texts_of
from viz.page import write_page

LAYERS, RULES = 2, ["projection", "norms"]
TOKENS = ["a", "<b>", "&amp;", " \n", "万", "😀", " x_y", " end"]
LENGTH = len(TOKENS)


def shares(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    rows = rng.random((2, LAYERS, LENGTH, LENGTH + 2))
    rows[..., :LENGTH] *= np.tri(LENGTH)
    rows /= rows.sum(-1, keepdims=True)
    attention = rows[..., :LENGTH]
    loading = np.stack([0.6 * attention, 0.4 * attention], -1)
    return {
        "attention": attention, "bias": rows[..., -2], "residual": rows[..., -1],
        "mlp": rng.random((2, LAYERS, LENGTH)), "loading": loading,
        "head": rng.integers(0, 9, (2, LAYERS, LENGTH, LENGTH, 1)),
        "parallel": np.array([0]), "clipped": np.array([0.2, 0.0]),
    }  # fmt: skip


def cells() -> pd.DataFrame:
    rows = [
        (depth, pos, rank, TOKENS[pos], TOKENS[(depth + pos + rank) % LENGTH], 0.5 / (rank + 1),
         0.1 * (depth + 1))
        for depth in range(LAYERS + 1) for pos in range(LENGTH) for rank in range(2)
    ]  # fmt: skip
    names = ["depth", "pos", "rank", "input", "decoded", "probability", "gradient"]
    return pd.DataFrame(rows, columns=names)


def flow(given: dict[str, np.ndarray], rule: int) -> tuple[np.ndarray, list[tuple]]:
    """Traced naively from the last state; what the sink gets goes to the other tokens."""
    state, links = np.zeros((LAYERS + 1, LENGTH)), []
    state[LAYERS, -1] = 1
    for layer in reversed(range(LAYERS)):
        for q in range(LENGTH):
            weight, mlp = state[layer + 1, q], given["mlp"][rule, layer, q]
            attention = given["attention"][rule, layer, q].copy()
            if q:
                before = attention.sum()
                attention[0] = 0
                attention *= before / attention.sum()
            state[layer] += weight * attention
            state[layer, q] += weight * given["residual"][rule, layer, q]
            links += [("past the mlp", layer, q, q, weight * (1 - mlp)),
                      ("mlp", layer, q, q, weight * mlp),
                      ("residual", layer, q, q, weight * given["residual"][rule, layer, q]),
                      ("bias", layer, q, q, weight * given["bias"][rule, layer, q])]  # fmt: skip
            links += [("attention", layer, q, s, weight * attention[s]) for s in range(q + 1)]
    return state, [link for link in links if link[-1] > 0]


def chart(given=None):
    given = given or shares()
    nodes, links = [], []
    for number, rule in enumerate(RULES):
        state, found = flow(given, number)
        nodes += [(rule, "state", d, p, state[d, p]) for d, p in np.argwhere(state > 0)]
        links += [(rule, *link) for link in found]
    return flow_chart(
        pd.DataFrame(nodes, columns=["rule", "part", "depth", "pos", "weight"]),
        pd.DataFrame(links, columns=["rule", "kind", "layer", "query", "source", "weight"]),
        cells(), given, rules=RULES, rule="projection", threshold=("none", 0.0), traced="<s>",
        caption="A flow.", key=[1],
    )  # fmt: skip


@pytest.fixture(scope="module")
def drawing():
    return chart()


def test_the_page_holds_every_share(drawing):
    stored = drawing.widget.props["rules"]["projection"]
    roots = np.frombuffer(base64.b64decode(stored["attention"]), "<u2")
    below = np.tril_indices(LENGTH)
    wanted = shares()["attention"][0][:, *below].ravel()
    assert np.abs((roots / 65535) ** 2 - wanted).max() < 2e-5
    loading = np.frombuffer(base64.b64decode(stored["loading"]), np.uint8) / 255
    assert np.allclose(loading[wanted > 0], 0.6, atol=0.003)
    json.dumps(drawing.widget.props)


def test_the_still_picture_names_states_and_hides_nothing_it_says(drawing):
    shown = texts_of(drawing)
    for token in ("␣⏎", "<b>", "&amp;", "␣end"):
        assert any(token in text for text in shown), token
    assert "layer" in shown
    assert "at pos" in drawing.alt


def test_what_it_needs_is_named():
    with pytest.raises(ValueError, match="no nodes of the rule"):
        flow_chart(
            pd.DataFrame([("a", "state", 0, 0, 1.0)],
                         columns=["rule", "part", "depth", "pos", "weight"]),
            pd.DataFrame([("a", "residual", 0, 0, 0, 1.0)],
                         columns=["rule", "kind", "layer", "query", "source", "weight"]),
            cells(), shares(), rules=RULES, rule="b", threshold=("none", 0), traced="", caption="",
        )  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory, drawing):
    runs = tmp_path_factory.mktemp("runs")
    drawing.save(runs / "flow", "flow")
    return write_page(*samples.write_run(runs, "one", {"flow": runs / "flow"}, {}))


@pytest.fixture
def shown(tab, page):
    made = tab(1280).open(page)
    made.page.locator(".flow svg .cell").first.wait_for(timeout=20_000)
    return made


def test_the_browser_traces_what_python_traces(shown, drawing):
    found = shown.page.evaluate(
        """() => {
            const props = JSON.parse(document.getElementById(
                document.querySelector(".flow").id + "-props").textContent);
            const data = new FlowChart.Shares(props);
            return Object.keys(props.rules).map((rule) => FlowChart.trace(
                data, rule, props.layers, props.tokens.length - 1, { kind: "none" }, true
            ).state.map((row) => Array.from(row)));
        }"""
    )
    for number in range(len(RULES)):
        assert np.abs(np.array(found[number]) - flow(shares(), number)[0]).max() < 1e-3


def test_a_click_traces_back_from_that_cell(shown):
    ask = shown.page.locator(".flow-question")
    assert "Why “<\u2060s>”" in ask.inner_text()
    shown.page.set_viewport_size({"width": 1280, "height": 400})
    shown.page.locator('.flow [data-cell="1 5"]').click()
    assert "after 1 layer" in ask.inner_text()
    assert "😀" in ask.inner_text()
    told = shown.page.locator(".flow-why").bounding_box()
    assert 0 <= told["y"] <= 400 - told["height"] + 1, "the answer is in sight of the click"
    assert shown.page.locator(".flow .cell.traced").get_attribute("data-cell") == "1 5"
    shown.page.keyboard.press("Home")
    shown.page.locator(".flow svg").press("Home")
    assert "Why “<\u2060s>”" in ask.inner_text()
    assert shown.complaints() == []


def test_rule_threshold_view_and_colour_change_the_picture(shown):
    svg = shown.page.locator(".flow svg")
    before = svg.inner_html()
    for name, value in (("Rule of dividing a state", "norms"),
                        ("Threshold", "top-k"), ("Colour", "layers passed"),
                        ("View", "cells")):  # fmt: skip
        shown.page.get_by_label(name, exact=True).select_option(value)
        after = svg.inner_html()
        assert after != before, name
        before = after
    assert "dropped by the threshold" in shown.page.locator(".flow-legend").inner_text()
    shown.page.locator('.flow [data-cell="2 7"]').hover()
    assert "of the traced state passes here" in shown.page.locator(".flow-tip").inner_text()
    assert shown.complaints() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(tab, page, scheme):
    made = tab(390, color_scheme=scheme).open(page).scroll()
    assert made.complaints() == []
    assert made.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_hostile_tokens_are_text(shown):
    words = " ".join(shown.page.locator(".flow svg text").all_text_contents())
    for token in ("<\u2060b>", "&\u2060amp;", "␣⏎", "万", "😀"):
        assert token in words
