"""Files written in one step and read with their hash, so that half of one or another is noticed."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import load, save

from experiments._contract.errors import UsageError
from viz.files import write_atomically

DIGEST = hashlib.sha256().digest_size


def sha256(path: Path) -> str:
    """The hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_safetensors(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays into one file, whole or not at all."""
    write_atomically(path, save(_in_order(arrays)))


def write_checkpoint(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays into one file that begins with the hash of the rest."""
    content = save(_in_order(arrays))
    write_atomically(path, hashlib.sha256(content).digest() + content)


def read_checkpoint(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint.

    Raises:
        UsageError: the file is not as it was written.
    """
    stored = path.read_bytes()
    digest, content = stored[:DIGEST], stored[DIGEST:]
    if hashlib.sha256(content).digest() != digest:
        raise damaged(path)
    return load(content)


def damaged(path: Path) -> UsageError:
    """The refusal of a file of an unfinished run that is not as it was written."""
    return UsageError(f"{path}: damaged; nothing of it was used, begin anew with --fresh")


def _in_order(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    # Of an array whose axes were moved, safetensors would write the memory as it lies.
    return {name: np.asarray(array, order="C") for name, array in arrays.items()}
