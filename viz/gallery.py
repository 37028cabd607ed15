"""The gallery: every run with its question, answer and picture on one page."""

from pathlib import Path


def write_gallery(runs: Path) -> Path:
    """Write `index.html` of a folder of runs from their manifests alone; returns its path."""
    raise NotImplementedError
