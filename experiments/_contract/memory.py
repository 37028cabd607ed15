"""Memory that was freed goes back to the system.

glibc keeps it: what a batch frees lies between small objects that stay, and is seldom used again
whole. Over a thousand batches that is 70 MB that belong to nothing. Arrow has memory of its own,
which it keeps as well.
"""

import ctypes

from pyarrow import default_memory_pool

_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none


def give_back() -> None:
    """Let the system have all pages that hold nothing."""
    default_memory_pool().release_unused()
    if _trim is not None:
        _trim(0)
