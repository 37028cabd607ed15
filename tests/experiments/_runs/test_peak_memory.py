"""The peak of memory in a manifest is that of the run, not of the process that started it."""

import subprocess
import sys

PEAK = "from experiments._runs.run import _peak_memory as peak; print(peak('cpu'))"


def test_a_large_process_that_starts_a_run_is_not_counted() -> None:
    held = bytearray(b"x") * 1_500_000_000
    told = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, check=True, text=True)
    assert 50_000_000 < int(told.stdout) < len(held) / 2
