"""What is kept of a stream where every prompt has its own number: the unit of resampling."""

import numpy as np
from jaxtyping import Shaped


class PerPrompt:
    """Arrays by name, one row a prompt, in the order in which the prompts came."""

    def __init__(self) -> None:
        self._parts: dict[str, list[np.ndarray]] = {}  # of [prompt *cell]

    def update(self, **values: Shaped[np.ndarray, "prompt *cell"]) -> None:
        """Add the rows of one or more prompts, the same names every time."""
        for name, rows in values.items():
            self._parts.setdefault(name, []).append(np.asarray(rows))

    def merge(self, other: "PerPrompt") -> None:
        """Add the prompts of another, after one's own."""
        for name, parts in other._parts.items():
            self._parts.setdefault(name, []).extend(parts)

    def __getitem__(self, name: str) -> Shaped[np.ndarray, "prompt *cell"]:
        """All rows of that name (KeyError where nothing came)."""
        return np.concatenate(self._parts[name])

    def state(self) -> dict[str, Shaped[np.ndarray, "prompt *cell"]]:
        """Everything it holds, as arrays."""
        return {name: self[name] for name in self._parts}

    def restore(self, state: dict[str, Shaped[np.ndarray, "prompt *cell"]]) -> None:
        """Continue from what `state` returned."""
        self._parts = {name: [rows] for name, rows in state.items()}
