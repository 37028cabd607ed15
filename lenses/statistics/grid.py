"""Arrays as tables with one row a value."""

from collections.abc import Sequence

import numpy as np
import pandas as pd


def grid(axes: dict[str, int | Sequence], **values: np.ndarray) -> pd.DataFrame:
    """Tidy rows of arrays whose axes are named, in order, with their labels or lengths."""
    labels = [_labels(axis) for axis in axes.values()]
    frame = pd.MultiIndex.from_product(labels, names=list(axes)).to_frame(index=False)
    return frame.assign(**{name: np.ravel(value) for name, value in values.items()})


def crossed(
    frame: pd.DataFrame, axes: dict[str, int | Sequence], **values: np.ndarray
) -> pd.DataFrame:
    """`grid` for each row of a frame, in order: `values` are of all of them."""
    sizes = [len(_labels(axis)) for axis in axes.values()]
    cells = np.indices(sizes).reshape(len(sizes), -1)
    columns = {name: np.repeat(frame[name].to_numpy(), cells.shape[1]) for name in frame}
    for (name, axis), at in zip(axes.items(), cells, strict=True):
        columns[name] = np.tile(np.asarray(_labels(axis))[at], len(frame))
    return pd.DataFrame(columns | {name: np.ravel(value) for name, value in values.items()})


def in_order(frame: pd.DataFrame, column: str, order: Sequence) -> pd.DataFrame:
    """The rows as the values of one column come in `order`; rows of one value stay as they are.

    Raises ValueError where a value is not in it.
    """
    place = list(order).index
    return frame.sort_values(column, key=lambda values: values.map(place), kind="stable")


def _labels(axis: int | Sequence) -> Sequence:
    return range(axis) if isinstance(axis, int) else axis
