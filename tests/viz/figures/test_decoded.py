"""The table of decoded states: what is packed, what is drawn, and that a page switches at once."""

import base64

import numpy as np
import pandas as pd
import pytest

from tests.viz import samples
from viz import View, decoded_table, texts_of, write_page

FIRST = View("after the layer", "ridge lens", "final norm")
PROMPTS = {0: ["The", " capital", " of"], 1: ["2", "+"]}
WORDS = [" of", " the", "<b>x</b>", "\n", " Lisbon", "nan"]


def table(prompts: dict[int, list[str]] = PROMPTS, layers: int = 3) -> pd.DataFrame:
    """A box for every choice, with two tokens in each; in no order."""
    rows = [
        (prompt, state, layer, pos, norm, decoder)
        for prompt, tokens in prompts.items()
        for state in ("after the layer", "embedding")
        for layer in (range(1, layers + 1) if state != "embedding" else [0.0])
        for pos in range(len(tokens))
        for norm in ("none", "final norm")
        for decoder in ("unembedding", "ridge lens")
    ]
    data = pd.DataFrame(rows, columns=["prompt", "state", "layer", "pos", "norm", "decoder"])
    random = np.random.default_rng(0)
    data["token"] = random.choice(WORDS, len(data))
    data["token_2"] = random.choice(WORDS, len(data))
    data["probability"] = random.uniform(0.5, 1, len(data))
    data["probability_2"] = 1 - data["probability"]
    data["entropy"] = random.uniform(0, 9, len(data))
    return data.sample(frac=1, random_state=0)


def unpacked(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype=kind)


def test_every_box_lies_where_the_page_looks_for_it():
    data = table()
    props = decoded_table(data, PROMPTS, FIRST, caption="").widget.props
    ids, p = unpacked(props["ids"], "<u2").reshape(-1, 2), unpacked(props["p"], "<u2")
    entropy = unpacked(props["entropy"], "<u2") / 65535 * props["most"]
    assert (props["count"], props["wide"]) == (2, False)
    keys = ["prompt", "state", "layer", "pos", "norm", "decoder"]
    known = data.set_index(keys)
    seen = 0
    for number, prompt in enumerate(props["prompts"]):
        for state, view in zip(props["states"], prompt["states"], strict=True):
            for row, layer in enumerate(view["layers"]):
                for pos in range(len(prompt["tokens"])):
                    for n, norm in enumerate(props["norms"]):
                        for d, decoder in enumerate(props["decoders"]):
                            cell = row * len(prompt["tokens"]) + pos
                            at = view["start"] + (cell * 2 + n) * 2 + d
                            box = known.loc[number, state, layer, pos, norm, decoder]
                            shown = [props["vocabulary"][i] for i in ids[at]]
                            assert (
                                shown[0].replace("\u2060", "").strip("␣⏎") == box["token"].strip()
                            )
                            assert p[2 * at] / 65535 == pytest.approx(box["probability"], abs=1e-4)
                            assert entropy[at] == pytest.approx(box["entropy"], abs=1e-3)
                            seen += 1
    assert seen == len(data)
    first = [
        props[axis][i]
        for axis, i in zip(("states", "decoders", "norms"), props["first"], strict=True)
    ]
    assert first == [FIRST.state, FIRST.decoder, FIRST.norm]


def test_the_still_picture_is_of_the_first_view():
    data = table()
    drawn = decoded_table(data, PROMPTS, FIRST, caption="")
    assert len(drawn.data) == 9
    assert set(drawn.data["decoder"]) == {"ridge lens"}
    shown = texts_of(drawn)
    assert {"The", "␣capital", "␣of"} <= set(shown)
    last = drawn.data[drawn.data["layer"] == 3].sort_values("pos")
    assert all(word.strip()[:3] in " ".join(shown) for word in last["token"])


def test_a_missing_or_doubled_box_is_refused():
    data = table()
    with pytest.raises(ValueError, match="boxes"):
        decoded_table(data.iloc[1:], PROMPTS, FIRST, caption="")
    with pytest.raises(ValueError, match="boxes"):
        decoded_table(pd.concat([data, data.iloc[:1]]), PROMPTS, FIRST, caption="")


def test_long_vocabularies_take_wider_numbers():
    tokens = [str(number) for number in range(70_000)]
    data = pd.DataFrame(
        {
            "prompt": 0, "state": FIRST.state, "layer": 1, "pos": range(70_000),
            "norm": FIRST.norm, "decoder": FIRST.decoder, "token": tokens, "probability": 0.5,
            "entropy": 1.0,
        }
    )  # fmt: skip
    props = decoded_table(data, {0: tokens}, FIRST, caption="").widget.props
    assert props["wide"]
    assert unpacked(props["ids"], "<u4")[-1] == 69_999


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page with a table as large as one of 64 tokens."""
    prompts = {0: [f" w{n}" for n in range(64)], 1: [" a", "<b>x</b>", " nan"]}
    drawn = decoded_table(table(prompts, 12), prompts, FIRST, caption="Boxes.")
    runs = tmp_path_factory.mktemp("runs")
    return write_page(*samples.write_run(runs, "boxes", {"Boxes": drawn}, {}))


def test_a_choice_is_shown_within_a_fifth_of_a_second(tab, page):
    shown = tab(1280).open(page).scroll()
    before = shown.page.locator(".boxes td").first.inner_text()
    took = shown.page.evaluate(
        """() => {
            const list = [...document.querySelectorAll(".choices select")][2];
            list.value = "0";
            const start = performance.now();
            list.dispatchEvent(new Event("change"));
            document.querySelector(".boxes").getBoundingClientRect();
            return performance.now() - start;
        }"""
    )
    assert took < 200
    cells = shown.page.locator(".boxes td")
    assert cells.count() == 64 * 12
    assert cells.first.inner_text() != before or cells.nth(1).inner_text()
    assert shown.complaints() == []


@pytest.mark.parametrize("width", [1280, 390])
def test_boxes_are_told_by_pointer_and_keyboard(tab, page, width):
    shown = tab(width).open(page).scroll()
    box, told = shown.page.locator(".boxes td"), shown.page.locator(".told")
    box.nth(1).hover()
    assert "entropy" in told.inner_text()
    assert "w1" in told.inner_text()
    box.nth(1).focus()
    shown.page.keyboard.press("ArrowRight")
    assert "w2" in told.inner_text()
    shown.page.locator(".choices select").first.select_option("1")
    assert box.count() == 3 * 12
    assert shown.page.locator(".boxes b, .boxes script").count() == 0
    shown.page.locator(".choices select").nth(4).select_option("1")
    assert box.first.locator("small").count() == 1
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= width
    assert shown.complaints() == []
