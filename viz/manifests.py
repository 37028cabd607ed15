"""A run's manifest on disk: sealed with a hash of itself, and read as if anyone had written it."""

import json
import os
import stat
from collections.abc import Mapping
from datetime import datetime
from fcntl import LOCK_NB, LOCK_SH, flock
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

SEAL = "manifest_sha256"
"""The last entry of a manifest: the SHA-256 of all that stands before it."""
LOCK = ".lock"
"""A file in the folder of a run, locked by the process that is at it."""
MOST_BYTES = 2**26

Name = Annotated[str, Field(pattern=r"^[^/.\\\x00][^/\\\x00]*$", max_length=255)]
"""Of a file: not a path, so that a manifest cannot point out of its folder."""


class ManifestError(ValueError):
    """A manifest that cannot be used: one line that names the file and what is wrong."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", allow_inf_nan=False)


class _Claim(_Part):
    kind: str
    sentence: str
    verdict: str | None
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    check: bool = False
    reported: tuple[float, str] | None = None


class _Table(_Part):
    name: Name
    rows: int
    columns: list[str]
    parquet: str = Field(pattern=r"^tables/[^/\\\x00]+\.parquet$")
    csv: str | None = Field(pattern=r"^tables/[^/\\\x00]+\.csv$")


class _Model(_Part):
    name: str
    sha256: str
    identities: list[dict[str, Any]]


class _File(_Part):
    sha256: str
    bytes: int


class _Git(_Part):
    commit: str | None = None
    dirty: bool = False


class _Manifest(_Part):
    """What pages and commands ask of a manifest."""

    status: str
    experiment: Name
    question: str
    source: str = ""
    headline: str = ""
    label: str = ""
    hash: str = ""
    claims: list[_Claim]
    figures: list[Name]
    tables: list[_Table]
    fields: dict[str, Any]
    defaults: dict[str, Any]
    field_help: dict[str, str]
    model: _Model
    started: datetime
    seconds: float = 0
    files: dict[str, _File] = {}
    notes: list[str] = []
    git: _Git = _Git()
    versions: dict[str, str] = {}
    seeds: list[int] = []
    reading: dict[str, str] = {}
    method: str = ""
    command: str = ""
    device: str = ""
    finished: datetime | None = None
    peak_memory_bytes: int | None = None
    related: list[Name] = []


def sealed(manifest: Mapping[str, Any]) -> str:
    """A manifest as text, with a hash of itself."""
    bare = {name: value for name, value in manifest.items() if name != SEAL}
    text = json.dumps(bare, indent=1, ensure_ascii=False, allow_nan=False)
    seal = {SEAL: sha256(text.encode()).hexdigest()}
    return json.dumps(bare | seal, indent=1, ensure_ascii=False, allow_nan=False)


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a run says of itself (raises ManifestError).

    Text that is not what its own hash says is damaged; manifests of older versions have no hash.
    """
    path = folder / "manifest.json"
    try:
        text = _text(path)
        manifest = json.loads(text)
        _Manifest.model_validate(manifest)
        whole = SEAL not in manifest or sealed(manifest) == text
    except FileNotFoundError:
        raise ManifestError(f"{folder}: no run here (no manifest.json)") from None
    except ValidationError as error:
        at = ".".join(map(str, error.errors()[0]["loc"]))
        said = f"field {at}: {error.errors()[0]['msg']}"
        raise ManifestError(f"{path}: damaged, or no manifest: {said}") from None
    except (OSError, ValueError, RecursionError) as error:
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ManifestError(f"{path}: damaged: {said[:200]}") from None
    if not whole:
        raise ManifestError(f"{path}: damaged: it is not what its own hash says")
    return manifest


def _text(path: Path) -> str:
    """The text of a plain file; a link, a pipe or a huge file is a ValueError."""
    about = path.lstat()
    if not stat.S_ISREG(about.st_mode):
        raise ValueError("a link, a pipe or a folder, not a plain file")
    if about.st_size > MOST_BYTES:
        raise ValueError(f"{about.st_size:,} bytes long")
    return path.read_text("utf-8")


def checked_bytes(folder: Path, name: str, files: Mapping[str, Mapping[str, Any]]) -> bytes:
    """The bytes of a file of a run (raises ManifestError unless they are as the manifest says)."""
    path = folder / name
    content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
    _refuse_other(path, sha256(content).hexdigest(), files.get(name))
    return content


def refuse_changed(folder: Path, name: str, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise ManifestError unless a file of a run, read piece by piece, is as the manifest says."""
    path, digest = folder / name, ""
    if path.is_file() and not path.is_symlink():
        with path.open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
    _refuse_other(path, digest, files.get(name))


def _refuse_other(path: Path, digest: str, told: Mapping[str, Any] | None) -> None:
    if told is None or digest != told["sha256"]:
        raise ManifestError(
            f"{path}: damaged or changed since it was written, so it is not read; run it again"
        )


def changed_fields(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that differ from their defaults; the model has a place of its own."""
    defaults, fields = manifest["defaults"], manifest["fields"].items()
    return {k: value for k, value in fields if value != defaults.get(k) and k != "model"}


def status_of(folder: Path, manifest: Mapping[str, Any]) -> str:
    """How a run stands: one that calls itself running, while no process is at it, is stopped."""
    gone = manifest["status"] == "running" and not is_held(folder / LOCK)
    return "stopped" if gone else manifest["status"]


def is_held(lock: Path) -> bool:
    """Whether a process holds a lock; the lock of a process that was killed is free."""
    try:
        file = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        flock(file, LOCK_SH | LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False
