"""What experiments take on a GPU, and whether they give the same numbers there.

`python -m benchmarks.gpu` prints one line a figure: all head measures at the shape of Mistral-7B
(random weights, bfloat16) against a bare forward pass, and experiments on a shipped adder on the
GPU against the same on this machine's CPU.
"""

import time
from collections.abc import Callable

import numpy as np
import torch
from transformers import AutoModelForCausalLM, MistralConfig

from experiments._runs.finding import find
from lenses.heads.contributions import HeadMeasures
from models import load
from models.hooked import hook_model

RUNS = 3
SHAPE = (8, 512)
ADDER = {
    "head_contributions": {},
    "digit_geometry": {"contexts": 8, "edits": 8},
    "carry_localisation": {},
}


def seconds(act: Callable[[], object]) -> float:
    """The median of a few runs, after one that is not counted."""
    act()
    found = []
    for _ in range(RUNS):
        torch.cuda.synchronize()
        start = time.perf_counter()
        act()
        torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return sorted(found)[RUNS // 2]


def head_measures() -> None:
    """All measures of all heads at Mistral-7B's shape against a forward pass with logits."""
    with torch.device("cuda"):
        plain = AutoModelForCausalLM.from_config(
            MistralConfig(), dtype=torch.bfloat16, attn_implementation="eager"
        )
        tokens = torch.randint(0, 32_000, SHAPE)
    model = hook_model(plain.eval().requires_grad_(False), folded=False)
    groups, measures = torch.zeros_like(tokens), HeadMeasures(model)
    with torch.inference_mode():
        torch.cuda.reset_peak_memory_stats()
        bare = seconds(lambda: model(tokens, return_type="logits"))
        held = torch.cuda.max_memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        whole = seconds(lambda: measures(tokens, groups))
        most = torch.cuda.max_memory_allocated()
    print(f"forward pass with logits, {SHAPE}: {bare:.3f} s, {held / 2**30:.1f} GiB")
    print(
        f"all head measures, {SHAPE}: {whole:.3f} s = {whole / bare:.2f}x, {most / 2**30:.1f} GiB"
    )


def experiment(name: str, fields: dict) -> None:
    """Seconds on both devices, and the largest difference of any number of any table."""
    tables, took = {}, {}
    for device in ("cpu", "cuda"):
        asked = find(name)(model="adder_6d_2l", device=device, **fields)
        model, start = load("adder_6d_2l", device=device), time.perf_counter()
        tables[device] = asked.measure(model).tables
        took[device] = time.perf_counter() - start
    worst, where = 0.0, ""
    for table in tables["cpu"]:
        one, other = (tables[device][table].select_dtypes("number") for device in ("cpu", "cuda"))
        if len(one) != len(other):
            print(f"  {table}: {len(one)} rows on the CPU, {len(other)} on the GPU")
        elif one.size:
            apart = np.abs(one.to_numpy(float) - other.to_numpy(float))
            if np.nanmax(apart, initial=0) > worst:
                worst, where = float(np.nanmax(apart)), table
    print(f"{name}: CPU {took['cpu']:.1f} s, GPU {took['cuda']:.1f} s; largest difference "
          f"{worst:.2g} {where}")  # fmt: skip


def main() -> None:
    """Print one line a figure."""
    print(torch.cuda.get_device_name(), "torch", torch.__version__)
    for name, fields in ADDER.items():
        experiment(name, fields)
    head_measures()


if __name__ == "__main__":
    main()
