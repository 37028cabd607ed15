"""Interleaved pairs: what runs in turn meets the same noise, and ratios hold on a busy machine."""

import ctypes
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

PAIRS = 5


def seconds(acts: dict[str, Callable[[], object]], pairs: int = PAIRS) -> dict[str, list[float]]:
    """CPU seconds of each act, in turn, after a run of each that is not counted."""
    found: dict[str, list[float]] = {name: [] for name in acts}
    for act in acts.values():
        act()
    for _ in range(pairs):
        for name, act in acts.items():
            start = time.process_time()
            act()
            found[name].append(time.process_time() - start)
    return found


def ratio(found: dict[str, list[float]], name: str, to: str) -> float:
    """The median over pairs of one act's seconds over another's."""
    return statistics.median(one / other for one, other in zip(found[name], found[to], strict=True))


def median(values: list[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def extra_mb(act: Callable[[], object]) -> float:
    """By how much the memory of this process rises while an act runs, in MB (Linux)."""
    act()
    ctypes.CDLL(None).malloc_trim(0)  # else what was freed is taken again, and nothing rises
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _status("VmRSS")
    act()
    return (_status("VmHWM") - before) / 1024


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


def machine() -> str:
    """What this ran on, in general words, and what it ran."""
    names = ("torch", "transformers", "transformer-lens", "numpy")
    told = ", ".join(f"{name} {version(name)}" for name in names)
    python = platform.python_version()
    return f"{os.cpu_count()} {platform.machine()} CPU cores, one thread; Python {python}, {told}"
