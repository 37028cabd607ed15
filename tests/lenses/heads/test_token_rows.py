"""Long tables that are read in pieces, against the same tables read whole."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from lenses.heads.token_rows import means_by, of_first_prompts, sample_of_phases

ROWS = 1_000


@pytest.fixture
def whole():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "prompt": np.sort(rng.integers(9, size=ROWS)),
            "pos": rng.integers(4, size=ROWS),
            "phase": rng.choice(["generated", "prompt"], size=ROWS, p=[0.8, 0.2]),
            "layer": rng.integers(3, size=ROWS),
            "value": np.where(rng.random(ROWS) < 0.1, np.nan, rng.normal(size=ROWS)),
        }
    )


def pieces(whole, columns=None):
    for start in range(0, ROWS, 130):
        part = whole.iloc[start : start + 130]
        yield part if columns is None else part[columns]


def test_first_prompts_are_those_of_the_whole(whole):
    pd.testing.assert_frame_equal(of_first_prompts(pieces(whole), 4), whole.query("prompt < 4"))


@pytest.mark.parametrize("first", [0, 1])
def test_a_sample_is_as_drawn_from_the_whole(whole, first):
    columns = ["phase", "pos", "value"]
    expected = pd.concat(
        rows.sample(min(len(rows), 300), random_state=5)
        for _, rows in whole.query("pos >= @first").groupby("phase", sort=False)
    )[columns]
    found = sample_of_phases(partial(pieces, whole), columns, first, 300, 5)
    pd.testing.assert_frame_equal(found, expected)
    assert found["phase"].value_counts()["generated"] == 300


def test_means_are_those_of_the_whole(whole):
    keys = ["phase", "layer"]
    expected = whole.groupby(keys, as_index=False)["value"].mean()
    pd.testing.assert_frame_equal(means_by(pieces(whole), keys, "value"), expected)
