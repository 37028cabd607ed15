"""Whole runs of experiments, each in a process of its own: CPU seconds and most memory."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from subprocess import DEVNULL


def run(*arguments: str) -> tuple[float, float]:
    """CPU seconds and peak memory in MB of `python -m experiments run` with these arguments."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "experiments", "run", *arguments]
        child = subprocess.Popen(command, cwd=folder, stdout=DEVNULL, stderr=DEVNULL)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = status  # it is waited for; Popen need not look again
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def rows() -> Iterator[tuple[str, str, str, str]]:
    """What, found, against, aim."""
    took, held = run("carry_localisation", "--model", "adder_6d_2l")
    yield "carry_localisation, 2-layer adder", f"{took:.0f} CPU s", f"{held:.0f} MB", "<= 60 s"
    few, many = (
        run("head_contributions", "--model", "adder_6d_2l", "--additions", count)
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
