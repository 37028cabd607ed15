"""How many cases are right, as tables: shares with Wilson's interval."""

from collections.abc import Sequence

import pandas as pd

from lenses.statistics.intervals import wilson


def with_accuracy(table: pd.DataFrame) -> pd.DataFrame:
    """The share `correct` of `n` as `accuracy` with its Wilson interval; every n is 1 or more."""
    correct, n = table["correct"].to_numpy(), table["n"].to_numpy()
    low, high = wilson(correct, n)
    return table.assign(accuracy=correct / n, low=low, high=high)


def accuracy_of(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """The share of `right` rows in each group, with its Wilson interval: n, correct, accuracy."""
    grouped = frame.groupby(list(by))["right"]
    return with_accuracy(grouped.agg(n="size", correct="sum").reset_index())
