"""Commands run as users run them: as processes, in a folder of their own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

COUNTING = '''"""What do the whole numbers add up to?"""

import time

import numpy as np
import pandas as pd
from pydantic import Field

from experiments import Claim, Experiment, Reading, Results, Table


class Total:
    def __init__(self):
        self.value = 0

    def state(self):
        return {"value": np.array(self.value)}

    def restore(self, state):
        self.value = int(state["value"])


class Counting(Experiment):
    """Numbers are added one by one."""

    needs_model = False

    count: int = Field(5, ge=1)
    """Numbers to add."""
    pause: float = 0.0
    """Seconds for each."""

    tables = {
        "numbers": Table("A number.", columns={"number": "the number"}),
        "total": Table("The sum.", columns={"total": "of all numbers"}),
    }
    reading = Reading("No.", "Nothing.", "Nothing.", "Nothing.")

    def measure(self, model):
        rows, total = self.rows("numbers"), Total()
        for number in self.stream(range(self.count), keep=(rows, total), label="numbers"):
            time.sleep(self.pause)
            rows.append(pd.DataFrame({"number": [number] * 3}))
            total.value += number
        return Results({"numbers": rows, "total": pd.DataFrame({"total": [total.value]})})

    def headline(self, results):
        return f"They add up to {results.tables['total'].total[0]}."

    def claims(self, results):
        value = float(results.tables["total"].total[0])
        expected = self.count * (self.count - 1) / 2
        return [Claim.identity("They add up.", [value - expected], within=0)]

    def figures(self, results):
        return {}
'''


def heed_interrupts() -> None:
    """What a shell starts in the background ignores Ctrl-C, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def counting(tmp_path):
    """The file of an experiment that needs no model, in the folder where commands run."""
    path = tmp_path / "counting.py"
    path.write_text(COUNTING)
    return path


@pytest.fixture
def start(tmp_path):
    """Starts a command and returns its process; it is killed at the end of the test."""
    processes = []

    def popen(*words):
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "experiments", *map(str, words)]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, preexec_fn=heed_interrupts, **streams
        )
        processes.append(process)
        return process

    yield popen
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def command(start):
    """Runs a command to its end: exit code, stdout, stderr."""

    def run(*words):
        process = start(*words)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err

    return run
