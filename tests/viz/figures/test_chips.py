"""Tokens in cells, one below the other."""

import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from matplotlib.patches import FancyBboxPatch

from viz import token_chips

ROWS = pd.DataFrame(
    [(0, 3, " of", 1, " Paris", 0.4), (0, 3, " of", 2, "</s>", 0.1), (2, 3, " of", 1, "$x", 0.0),
     (2, 4, " a_b", 1, " the longest token of all", 0.5)],
    columns=["depth", "pos", "heading", "step", "token", "gain"],
)  # fmt: skip


def test_the_last_row_is_on_top_and_the_first_token_too():
    axis = (
        token_chips(ROWS.sample(frac=1, random_state=0), "depth", "gain", caption="")
        .figure()
        .axes[0]
    )
    text = {t.get_text(): t.get_position() for t in axis.texts}
    assert list(text)
    assert len(axis.texts) == len(ROWS)
    assert text["␣Paris"][1] < next(v[1] for k, v in text.items() if "/s" in k)
    assert text["␣Paris"][1] > next(v[1] for k, v in text.items() if "x" in k)
    assert [t.get_text() for t in axis.get_yticklabels()] == ["2", "0"]
    assert len(axis.get_xticklabels()) == 2


def test_more_is_deeper():
    axis = token_chips(ROWS, "depth", "gain", caption="").figure().axes[0]
    chips = [patch for patch in axis.patches if isinstance(patch, FancyBboxPatch)]
    bright = [sum(to_rgba(chip.get_facecolor())[:3]) for chip in chips]
    assert bright[0] < bright[1] < bright[2]
    assert bright[3] < bright[0]


def test_what_it_needs_is_named():
    with pytest.raises(ValueError, match="heading"):
        token_chips(ROWS.drop(columns="heading"), "depth", "gain", caption="")
