"""Where a state stands, in words: layers have numbers from 0, a state has passed some of them."""

import pandas as pd

PASSED = "layers passed"
"""The axis of states; 0 is the embedding."""


def after_layers(*passed: float) -> str:
    """`in the embedding` for 0, `after 1 layer`, `after 4 layers`, `after 3 or 6 layers`."""
    beyond = sorted({count for count in passed if count != 0})
    told = ["in the embedding"] if 0 in passed else []
    if beyond:
        told.append(f"after {' or '.join(f'{count:g}' for count in beyond)} {_layers(beyond[-1])}")
    return " or ".join(told)


def after_some_layers(first: float, last: float) -> str:
    """`after 3 to 12 layers`, or `in the embedding and after up to 12 layers`."""
    if first == last:
        return after_layers(first)
    if first == 0:
        return f"in the embedding and after {'up to ' if last > 1 else ''}{last:g} {_layers(last)}"
    return f"after {first:g} {'or' if last == first + 1 else 'to'} {last:g} layers"


def by_passed(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows whose `layer` counts the layers that a state has passed, named so for a figure."""
    return rows.rename(columns={"layer": PASSED})


def _layers(count: float) -> str:
    return "layer" if count == 1 else "layers"
