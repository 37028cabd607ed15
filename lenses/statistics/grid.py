"""Arrays as tables with one row a value."""

from collections.abc import Sequence

import numpy as np
import pandas as pd


def grid(axes: dict[str, int | Sequence], **values: np.ndarray) -> pd.DataFrame:
    """Tidy rows of arrays whose axes are named, in order, with their labels or lengths."""
    labels = [range(v) if isinstance(v, int) else v for v in axes.values()]
    frame = pd.MultiIndex.from_product(labels, names=list(axes)).to_frame(index=False)
    return frame.assign(**{name: np.ravel(value) for name, value in values.items()})
