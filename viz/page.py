"""The page of one run: its question, the answer, the figures, and how to repeat it."""

from pathlib import Path


def write_page(folder: Path) -> Path:
    """Write `index.html` of a run folder from its manifest and figures; returns its path."""
    raise NotImplementedError
