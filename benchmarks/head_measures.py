"""All head measures against a bare forward pass with logits, at SmolLM2's shape, random weights.

The bare pass is plain transformers (eager attention, which makes the patterns that are measured).
"""

from collections.abc import Iterator

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from benchmarks.paired import extra_mb, median, ratio, seconds
from lenses.heads.contributions import HeadMeasures
from models.hooked import hook_model

SHAPE = LlamaConfig(
    vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
    num_attention_heads=9, num_key_value_heads=3, max_position_embeddings=8192,
    tie_word_embeddings=True,
)  # fmt: skip
SIZES = ((8, 19), (4, 128), (1, 512), (1, 1024))
"""Texts and tokens of each."""


def plain_model(config: LlamaConfig = SHAPE):
    """With random weights, the same ones each time."""
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    return made.eval().requires_grad_(False)


def rows() -> Iterator[tuple[str, str, str, str]]:
    """What, found, against, aim."""
    plain, model = plain_model(), hook_model(plain_model(), folded=False)
    measures = HeadMeasures(model)
    for size in SIZES:
        tokens = torch.randint(0, 40_000, size, generator=torch.Generator().manual_seed(0))
        group = torch.zeros_like(tokens)

        @torch.inference_mode()
        def bare(tokens=tokens):
            return plain(tokens, use_cache=False).logits

        acts = {
            "bare": bare,
            "all": lambda tokens=tokens, group=group: measures(tokens, group),
            "surprisal": lambda t=tokens, group=group: measures.with_surprisal(t, group),
        }
        found = seconds(acts)
        what = f"{size[0]} x {size[1]} tokens"
        told = f"bare pass with logits, {median(found['bare']):.2f} s"
        yield f"all head measures, {what}", f"{ratio(found, 'all', 'bare'):.2f}x", told, "<= 1.1x"
        beside = ratio(found, "surprisal", "bare")
        yield f"the same and each token's surprisal, {what}", f"{beside:.2f}x", told, ""
        extra = {name: extra_mb(acts[name]) for name in ("all", "bare")}
        yield (
            f"extra memory of all head measures, {what}", f"{extra['all']:.0f} MB",
            f"bare pass with logits, {extra['bare']:.0f} MB", "<= bare",
        )  # fmt: skip
