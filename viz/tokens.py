"""Text with its tokens coloured, and what each token attends to."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from viz.drawing import Drawing


def colored_tokens(
    data: "pd.DataFrame", value: str, *, caption: str, token: str = "token", label: str = ""
) -> "Drawing":
    """Text whose tokens are coloured by a column; one row of `data` a token, in reading order."""
    raise NotImplementedError


def attention_patterns(data: "pd.DataFrame", tokens: Sequence[str], *, caption: str) -> "Drawing":
    """Attention of one or several heads, from each query (row) to each key (column).

    `data` has the columns layer, head, query, key, attention; `tokens` are by position.
    """
    raise NotImplementedError
