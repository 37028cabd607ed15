"""How a command starts: a line at once, no search for garbage, and no more threads than pay."""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models import Model

FEW_WEIGHTS = 2_000_000
"""Of a model beside its vocabulary: with fewer, as in the adders, one thread does each pass."""


_loaded = False
"""Whether a model was."""


@contextmanager
def importing(what: str, said: bool) -> Iterator[None]:
    """Say at once, before all results, that a command has begun, and let it import.

    That takes seconds, of which a quarter was spent in search of garbage among objects that stay.
    Threads that wait for each other sleep, unless the user says otherwise: awake, beside other
    processes, two of them are 4 to 15 times as slow as one.
    """
    if "torch" in sys.modules:
        yield
        return
    if said:
        print(f"{what}: importing libraries", flush=True)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported
    with _kept():
        yield


@contextmanager
def loading() -> Iterator[None]:
    """Load a model that stays; one that was loaded before is freed first."""
    global _loaded
    if _loaded:
        gc.unfreeze()
        gc.collect()
    _loaded = True
    with _kept():
        yield


@contextmanager
def _kept() -> Iterator[None]:
    """Nothing is searched for garbage meanwhile, nor what is in memory afterwards ever again."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def threads_for(model: "Model | None") -> Iterator[None]:
    """One thread for a small model, or for one that is trained here; OMP_NUM_THREADS wins."""
    import torch  # takes a second

    before = torch.get_num_threads()
    if "OMP_NUM_THREADS" not in os.environ and _weights(model) < FEW_WEIGHTS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _weights(model: "Model | None") -> int:
    """How many weights a pass multiplies with, but for those of the vocabulary."""
    return sum(weight.numel() for weight in model.blocks.parameters()) if model else 0
