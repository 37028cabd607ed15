"""Files written in one step, so that a reader never sees half of one."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save


def write_atomically(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step that survives a power cut: all of it or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def sha256(path: Path) -> str:
    """The hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_safetensors(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays into one file, whole or not at all."""
    # Of an array whose axes were moved, safetensors would write the memory as it lies.
    in_order = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    write_atomically(path, save(in_order))
