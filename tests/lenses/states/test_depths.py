"""Depths in words: the embedding, one layer, several."""

import numpy as np
import pandas as pd
import pytest

from lenses.states.depths import PASSED, after_layers, after_some_layers, by_passed


@pytest.mark.parametrize(
    ("passed", "words"),
    [
        ((0,), "in the embedding"),
        ((1,), "after 1 layer"),
        ((4.0,), "after 4 layers"),
        ((6, 3, 6), "after 3 or 6 layers"),
        ((0, 1), "in the embedding or after 1 layer"),
    ],
)
def test_a_state_is_told_by_the_layers_it_has_passed(passed, words):
    assert after_layers(*passed) == words


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [
        (3, 12, "after 3 to 12 layers"),
        (1, 2, "after 1 or 2 layers"),
        (2, 2, "after 2 layers"),
        (0, 0, "in the embedding"),
        (0, 1, "in the embedding and after 1 layer"),
        (0, 18, "in the embedding and after up to 18 layers"),
    ],
)
def test_several_depths_are_told_from_the_first_to_the_last(first, last, words):
    assert after_some_layers(first, last) == words
    assert after_some_layers(np.int64(first), np.int64(last)) == words


def test_an_axis_says_that_it_counts_layers_passed():
    assert by_passed(pd.DataFrame({"layer": [0], "share": [1.0]})).columns.tolist() == [
        PASSED, "share",
    ]  # fmt: skip
