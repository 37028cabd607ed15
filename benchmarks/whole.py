"""Whole runs of experiments, each in a process of its own: CPU seconds and memory."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT

from experiments import open_run

GALLERY = Path(__file__).parents[1] / "configs" / "suites" / "gallery.toml"
TICKS = os.sysconf("SC_CLK_TCK")


def run(*arguments: str, folder: str) -> float:
    """CPU seconds of `python -m experiments` with these arguments, in a folder."""
    command = [sys.executable, "-m", "experiments", *arguments]
    child = subprocess.Popen(command, cwd=folder, stdout=DEVNULL, stderr=DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = status  # it is waited for; Popen need not look again
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return used.ru_utime + used.ru_stime


def measured(*arguments: str) -> tuple[float, float]:
    """CPU seconds of an experiment, and its peak memory in MB while it measured."""
    with tempfile.TemporaryDirectory() as folder:
        took = run("run", *arguments, folder=folder)
        (manifest,) = Path(folder, "runs").glob("*/*/manifest.json")
        return took, json.loads(manifest.read_text())["peak_memory_bytes"] / 1e6


def lines(*arguments: str, folder: str) -> Iterator[float]:
    """CPU seconds that the process had used when each of its lines came."""
    command = [sys.executable, "-m", "experiments", *arguments]
    child = subprocess.Popen(command, cwd=folder, stdout=PIPE, stderr=STDOUT)
    for _ in child.stdout or ():
        used = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        yield (int(used[11]) + int(used[12])) / TICKS
    child.wait()


def rows() -> Iterator[tuple[str, str, str, str]]:
    """What, found, against, aim."""
    took, held = measured("carry_localisation", "--model", "adder_6d_2l")
    yield "carry_localisation, 2-layer adder", f"{took:.0f} CPU s", f"{held:.0f} MB", "<= 60 s"
    few, many = (
        measured("head_contributions", "--model", "adder_6d_2l", "--additions", count)
        for count in ("100", "1000")
    )
    yield (
        "memory of head_contributions, 1,000 additions", f"{many[1] / few[1] - 1:+.0%}",
        f"100 additions, {few[1]:.0f} MB", "< 5 %",
    )  # fmt: skip
    yield (
        "time of head_contributions, each addition",
        f"{1000 * (many[0] - few[0]) / 900:.0f} CPU ms", f"{few[0]:.0f} CPU s for 100", "",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        yield from _started_and_drawn(folder)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        took = run("suite", str(GALLERY), "--jobs", "2", folder=folder)
        passed = time.perf_counter() - start
    yield "the gallery, two processes", f"{passed:.0f} s", f"{took:.0f} CPU s", "<= 90 s"


def _started_and_drawn(folder: str) -> Iterator[tuple[str, str, str, str]]:
    """When a run of head_selection says its first line and measures, and what its figures take."""
    first, measuring, *_ = lines("run", "head_selection", folder=folder)
    yield "first line of a run", f"{first:.1f} CPU s", "", "< 1 s"
    yield "measuring begins", f"{measuring:.1f} CPU s", "the model is loaded by then", "< 4 s"
    (manifest,) = Path(folder, "runs").glob("*/*/manifest.json")
    took, count = drawing(manifest.parent)
    yield "drawing, each figure", f"{took / count:.2f} CPU s", f"{count} figures", "<= .35 s"


def drawing(run_folder: Path) -> tuple[float, int]:
    """CPU seconds in which the figures of a run are drawn and stored, and how many they are."""
    drawn = open_run(run_folder).figures
    for _ in range(2):  # the first time, modules are imported
        start = time.process_time()
        for title, figure in drawn.items():
            figure.save(run_folder / "drawn" / title, title)
    return time.process_time() - start, len(drawn)
