"""`python -m benchmarks` measures speed and memory and writes `benchmarks/RESULTS.md`."""

from itertools import chain
from pathlib import Path

import torch

from benchmarks import ablation, head_measures, interchange, whole
from benchmarks.paired import PAIRS, machine

NOTES = Path(__file__).with_name("NOTES.md")
RESULTS = Path(__file__).with_name("RESULTS.md")


def main() -> None:
    """Measure everything, one thread, and write the table and what is to be said of it."""
    torch.set_num_threads(1)
    lines = [
        "# Speed and memory, measured", "",
        f"Written by `make bench`: {machine()}. CPU seconds; ratios are medians of {PAIRS} "
        "interleaved pairs, whole runs are single.", "",
        "| what | found | against | aim |", "|---|---|---|---|",
    ]  # fmt: skip
    for row in chain(interchange.rows(), ablation.rows(), head_measures.rows(), whole.rows()):
        lines.append("| " + " | ".join(row) + " |")
        print(lines[-1], flush=True)
        RESULTS.write_text("\n".join(lines) + "\n\n" + NOTES.read_text())


if __name__ == "__main__":
    main()
