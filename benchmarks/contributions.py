"""Time of head contributions: Gram form against results at d_model width.

`python -m benchmarks.contributions` compares, on a GPT-2-sized model with random weights, what the
lens does with building every head's result; and zeroing a slice of z with slicing W_O.
"""

import time
from collections.abc import Callable

import torch
from einops import einsum
from transformers import GPT2Config, GPT2LMHeadModel

from lenses.heads.contributions import contributions
from models.hooked import hook_model

RUNS = 5


def model_of_gpt2_size():
    """GPT-2 small with random weights and a vocabulary of 1,000."""
    plain = GPT2LMHeadModel(GPT2Config(vocab_size=1000, attn_implementation="eager"))
    return hook_model(plain.eval().requires_grad_(False), folded=False)


@torch.inference_mode()
def by_results(model, tokens) -> torch.Tensor:
    """Lengths of all heads' results, each of them built."""
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("hook_z"))
    z = torch.stack(list(cache.values()))
    axes = "layer batch pos head d_head, layer head d_head d_model -> layer batch pos head d_model"
    return einsum(z, model.W_O, axes).norm(dim=-1)


def measured(act: Callable[[], object]) -> str:
    """The median of the seconds of a few runs, after one that is not counted."""
    act()
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - start)
    return f"{sorted(seconds)[RUNS // 2]:.3f} s"


def ablated_by_zeroing(z: torch.Tensor, W_O: torch.Tensor) -> torch.Tensor:
    """What attention writes without head 0, its z set to zero."""
    kept = z.clone()
    kept[:, :, 0] = 0
    return einsum(kept, W_O, "batch pos head d_head, head d_head d_model -> batch pos d_model")


def ablated_by_slicing(z: torch.Tensor, W_O: torch.Tensor) -> torch.Tensor:
    """The same from the other heads alone."""
    rest = z[:, :, 1:], W_O[1:]
    return einsum(*rest, "batch pos head d_head, head d_head d_model -> batch pos d_model")


def main() -> None:
    """Print one line a comparison."""
    model = model_of_gpt2_size()
    tokens = torch.randint(0, 1000, (8, 64), generator=torch.Generator().manual_seed(0))
    group = torch.zeros_like(tokens)
    print("all measures, Gram form:  ", measured(lambda: contributions(model, tokens, group)))
    print("lengths alone, by results:", measured(lambda: by_results(model, tokens)))
    z, W_O = torch.randn(8, 64, 12, 64), model.W_O[0]
    print("head cut by zeroing z:    ", measured(lambda: ablated_by_zeroing(z, W_O)))
    print("head cut by slicing W_O:  ", measured(lambda: ablated_by_slicing(z, W_O)))


if __name__ == "__main__":
    main()
