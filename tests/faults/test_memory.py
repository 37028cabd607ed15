"""Out of memory: half the batch, noted on the page, and advice where one prompt is too much."""

from pathlib import Path

import pytest

from experiments._contract.errors import MachineFault
from experiments._runs.finding import find
from experiments._runs.manifest import manifest_of, verify
from experiments._runs.run import run


@pytest.fixture
def kind(home, monkeypatch):
    """The experiment, which lacks memory for batches above `fits`."""
    kind = find("counting.py")
    real = kind.measure

    def measure(self, model):
        if self.batch_size > kind.fits:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 99 bytes")
        return real(self, model)

    monkeypatch.setattr(kind, "measure", measure)
    return kind


def test_half_the_batch_is_tried_and_told(kind):
    kind.fits = 8
    folder = run(kind(batch_size=64))
    told = manifest_of(folder)
    assert told["notes"] == ["Memory did not suffice for batches of 64: these are of 8."]
    assert told["fields"]["batch_size"] == 64
    assert verify(folder) == []
    assert not (folder / "unfinished").exists()


def test_too_little_for_one_prompt_is_a_fault_with_advice(kind):
    kind.fits = 0
    with pytest.raises(MachineFault, match="out of memory with one prompt at a time: use shorter"):
        run(kind(batch_size=4))
    assert len(list(Path("runs/counting").iterdir())) == 1  # the finished one that was there
