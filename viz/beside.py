"""What related experiments have found on the same model, in runs that lie beside a run."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from viz.manifests import ManifestError, read_manifest


def beside(folder: Path, manifest: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The newest finished run of each related experiment on the same weights: its path from
    `runs/`, and its manifest. A run that lies elsewhere has none beside it.
    """
    if folder.parent.name != manifest["experiment"]:
        return []
    runs = (_newest_first(folder.parents[1], name) for name in manifest.get("related", []))
    found = (next((run for run in some if _is_same(run[1], manifest)), None) for some in runs)
    return [run for run in found if run]


def _newest_first(home: Path, experiment: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Runs of an experiment that can be read; a run's folder is named by when it began."""
    for path in sorted((home / experiment).glob("*/manifest.json"), reverse=True):
        try:
            yield f"{experiment}/{path.parent.name}", read_manifest(path.parent)
        except ManifestError:
            continue  # `verify` tells what is damaged


def _is_same(run: Mapping[str, Any], manifest: Mapping[str, Any]) -> bool:
    """Whether a run is finished, and read a model of the same name and weights."""
    mine, other = manifest["model"], run["model"]
    same = all(mine.get(fact) == other.get(fact) for fact in ("name", "sha256"))
    return bool(mine.get("name")) and run["status"] == "finished" and same
