"""Which folder a run is: by its path, the beginning of its hash, or its label."""

from pathlib import Path

from experiments._contract.errors import UsageError

RUNS = Path("runs")
"""Where runs go: below the current folder."""


def slug(title: str) -> str:
    """A figure's title as the name of its folder."""
    return "".join(c if c.isalnum() else "-" for c in title.lower()).strip("-")


def folder_of(run: str | Path) -> Path:
    """The folder of a run that is named by its folder or page, hash prefix or label.

    Of several runs of one hash, or of one label, it is the newest.

    Raises:
        UsageError: there is none, or different ones begin so.
    """
    path = Path(run)
    path = path.parent if path.name in ("manifest.json", "index.html") else path
    if path.is_dir() or len(path.parts) > 1:
        return path
    known = sorted(RUNS.glob("*/*/manifest.json"), key=lambda manifest: manifest.parent.name)
    folders = [manifest.parent for manifest in known]
    if labelled := [folder for folder in folders if _label(folder) == str(run)]:
        return labelled[-1]
    found = [folder for folder in folders if hash_of(folder).startswith(str(run))]
    if not found:
        raise UsageError(
            f"no run {str(run)!r} in {RUNS}/: give a folder, the beginning of a hash, or a label"
        )
    if len(hashes := {hash_of(folder) for folder in found}) > 1:
        raise UsageError(f"{str(run)!r} begins several hashes: {', '.join(sorted(hashes))}")
    return found[-1]


def hash_of(folder: Path) -> str:
    """The hash in a run folder's name."""
    return folder.name.rpartition("-")[2]


def _label(folder: Path) -> str:
    from viz.manifests import ManifestError, read_manifest  # takes a moment to import

    try:
        return read_manifest(folder).get("label", "")
    except ManifestError:
        return ""  # a damaged manifest is told by the command that reads it
