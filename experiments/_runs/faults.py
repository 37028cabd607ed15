"""Faults of the machine, told in one line: what happened and what to do."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from experiments._contract.errors import MachineFault, UsageError
from models import ModelError

REMEDIES = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "the quota of this disk is used up: free some space",
    errno.EROFS: "the disk is read-only: work in a folder that can be written",
    errno.EACCES: "no permission: work in a folder of yours, or change its permissions",
    errno.EPERM: "not permitted: work in a folder of yours, or change its permissions",
    errno.EMFILE: "too many open files: raise the limit (ulimit -n)",
    errno.ENFILE: "too many open files on this machine: close some programs",
    errno.EFBIG: "a file would be larger than is allowed: raise the limit (ulimit -f)",
    errno.EIO: "the disk cannot be read or written: look at the disk",
    errno.EEXIST: "is a file, or a link to nothing, where a folder is needed: move it away",
    errno.ENOTDIR: "is a file, or a link to nothing, where a folder is needed: move it away",
    errno.ELOOP: "is a link, and links are not followed here: put the file itself there",
    errno.ENOMEM: "out of memory: close other programs",
    errno.ENAMETOOLONG: "the name is too long: use shorter names",
}
MEMORY = "out of memory: use shorter texts, a smaller --batch-size or model, or --dtype bfloat16"
_NUMBER = re.compile(r"(?:errno|os error) (\d+)", re.IGNORECASE)
_NO_MEMORY = ("not enough memory", "can't allocate memory", "cannot allocate memory",
              "out of memory", "failed to map segment", "can't start new thread",
              "failed to launch worker thread")  # fmt: skip


def told(error: BaseException) -> str | None:
    """A fault of the machine in one line; None for what is none."""
    if is_out_of_memory(error):
        return MEMORY
    number = _number(error)
    if number not in REMEDIES:
        return None
    where = getattr(error, "filename", None)
    return f"{where}: {REMEDIES[number]}" if where else REMEDIES[number]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory did not suffice, on the CPU or on a GPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    said = "" if isinstance(error, UsageError) else str(error).lower()
    return any(words in said for words in _NO_MEMORY)


def _number(error: BaseException) -> int | None:
    """The number of a system error, also where a library has put it into words."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    is_library = isinstance(error, OSError) or type(error).__name__ == "SafetensorError"
    found = _NUMBER.search(str(error)) if is_library else None
    return int(found[1]) if found else None


@contextmanager
def in_one_line(kept: str) -> Iterator[None]:
    """Turn faults of the machine into a MachineFault that says what was kept."""
    try:
        yield
    except (UsageError, ModelError):
        raise
    except Exception as error:
        line = told(error)
        if line is None:
            raise
        raise MachineFault(f"{line}; {kept}") from error
