"""What must hold in any transformer, checked whenever a model is loaded (SCIENCE, section 0)."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor
from torch.linalg import vector_norm
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerBase as Tokenizer

from models.card import Card
from models.parts import AttentionOut, attention_out
from models.protocol import Identity, Model
from prompts.additions import Addition

CHECK_TEXT = Path(__file__).with_name("check_text.txt")
ADDITIONS = 16
TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-2, "float16": 1e-2}
NLL_TOLERANCE = 0.02
CHECKED = (
    *("hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_attn_out", "hook_mlp_out"),
    *("attn.hook_z", "attn.hook_v", "attn.hook_pattern", "ln1_post.hook_scale"),
)
Cache = Mapping[str, Tensor]


def identities(model: Model) -> list[Identity]:
    """Check a loaded model on the shipped text, or on additions where it is an adder."""
    tokens = check_tokens(model.card, model.tokenizer, model.cfg.n_ctx).to(model.cfg.device)
    return verify(model, tokens, None)


def verify(
    model: Model,
    tokens: Int[Tensor, "batch pos"],
    expected: Float[Tensor, "batch pos d_vocab_out"] | None,
) -> list[Identity]:
    """Check a model on tokens, also against the logits of plain transformers where it has such."""
    logits, cache = run_checked(model, tokens)
    found = inner_identities(model, cache)
    if expected is not None:
        found.append(agreement_identity(model, logits, expected))
    if model.card.nll is not None:
        found.append(likelihood_identity(model.card.nll, tokens, logits))
    return found


def check_tokens(card: Card, tokenizer: Tokenizer | None, n_ctx: int) -> Int[Tensor, "batch pos"]:
    """Token ids to check a model on: additions in its own format, or the shipped text.

    A model that reads neither is checked on the token 0.
    """
    if card.arithmetic is not None:
        style = card.arithmetic
        sums = Addition(style.digits, ADDITIONS, seed=0, padded=style.pad).sums
        return torch.from_numpy(np.ascontiguousarray(style.write(sums).tokens))
    if tokenizer is None:
        return torch.zeros(1, n_ctx, dtype=torch.long)
    return torch.tensor([tokenizer(CHECK_TEXT.read_text("utf-8").strip())["input_ids"][:n_ctx]])


@torch.no_grad()
def run_checked(
    model: Model, tokens: Int[Tensor, "batch pos"]
) -> tuple[Float[Tensor, "batch pos d_vocab_out"], Cache]:
    """Logits and every activation that an identity speaks of."""
    logits, cache = model.run_with_cache(
        tokens, names_filter=lambda name: name.startswith("blocks.") and name.endswith(CHECKED)
    )
    return logits, dict(cache.items())


def inner_identities(model: Model, cache: Cache) -> list[Identity]:
    """The residual stream adds up, heads add up to attention, queries read their own keys."""
    out, errors = attention_out(model), defaultdict(list)
    for layer in range(model.cfg.n_layers):
        acts = {name.split(".", 2)[2]: act for name, act in _of_layer(cache, layer).items()}
        for name, found, expected in (*_sums(acts), _heads(acts, out, layer), _groups(acts)):
            errors[name].append(relative_error(found, expected))
    return [_identity(model, name, float(np.max(found))) for name, found in errors.items()]


def likelihood_identity(
    stated: float, tokens: Int[Tensor, "batch pos"], logits: Float[Tensor, "batch pos d_vocab_out"]
) -> Identity:
    """The likelihood of the shipped text, in nats per token, against the card's figure.

    Weights in a wrong order give fluent-looking garbage that no other check sees.
    """
    nll = cross_entropy(logits[:, :-1].flatten(0, 1).float(), tokens[:, 1:].flatten()).item()
    error = abs(nll - stated) / stated
    name = f"likelihood of the check text: {nll:.4g} nats a token, card {stated:.4g}"
    return Identity(name=name, error=error, tolerance=NLL_TOLERANCE, ok=error <= NLL_TOLERANCE)


def agreement_identity(
    model: Model,
    logits: Float[Tensor, "batch pos d_vocab_out"],
    expected: Float[Tensor, "batch pos d_vocab_out"],
) -> Identity:
    """Log-probabilities against those of plain transformers on the same tokens."""
    found, plain = (said.float().log_softmax(-1) for said in (logits, expected))
    name = "log-probabilities are those of plain transformers"
    return _identity(model, name, relative_error(found, plain))


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm of what is expected, summed in float64."""
    difference = vector_norm(found.float() - expected.float(), dtype=torch.float64)
    return float(difference / vector_norm(expected.float(), dtype=torch.float64).clamp(min=1e-30))


def _identity(model: Model, name: str, error: float) -> Identity:
    tolerance = TOLERANCE[str(model.cfg.dtype).removeprefix("torch.")]
    return Identity(name=name, error=error, tolerance=tolerance, ok=error <= tolerance)


def _of_layer(cache: Cache, layer: int) -> Cache:
    return {name: act for name, act in cache.items() if name.startswith(f"blocks.{layer}.")}


def _sums(acts: Cache) -> list[tuple[str, Tensor, Tensor]]:
    """What attention and MLP write, added to the residual stream."""
    before, after = acts["hook_resid_pre"], acts["hook_resid_post"]
    attention, mlp = acts["hook_attn_out"], acts.get("hook_mlp_out")
    if mlp is None:
        return [("resid_pre + attn_out = resid_post", before + attention, after)]
    if "hook_resid_mid" not in acts:
        summed = before + attention + mlp
        return [("resid_pre + attn_out + mlp_out = resid_post", summed, after)]
    middle = acts["hook_resid_mid"]
    return [
        ("resid_pre + attn_out = resid_mid", before + attention, middle),
        ("resid_mid + mlp_out = resid_post", middle + mlp, after),
    ]


def _heads(acts: Cache, out: AttentionOut, layer: int) -> tuple[str, Tensor, Tensor]:
    """What heads and bias write one by one, through the frozen scale of a norm after attention."""
    z, W_O = acts["attn.hook_z"], out.W_O[layer]
    result = einsum(z, W_O, "batch pos head d_head, head d_head d_model -> batch pos head d_model")
    if out.post_gain is None:
        summed = result.sum(2) + out.b_O[layer]
        return "sum of heads + b_O = attn_out", summed, acts["hook_attn_out"]
    frozen = out.post_gain[layer] / acts["ln1_post.hook_scale"]
    summed = (result * frozen[:, :, None]).sum(2) + out.b_O[layer] * frozen
    return "sum of heads + b_O, at a frozen norm, = attn_out", summed, acts["hook_attn_out"]


def _groups(acts: Cache) -> tuple[str, Tensor, Tensor]:
    """Each query head mixes the values of the key-value head that is its own."""
    pattern, values = acts["attn.hook_pattern"], acts["attn.hook_v"]
    shared = pattern.shape[1] // values.shape[2]
    own = values.repeat_interleave(shared, dim=2)
    mixed = einsum(
        pattern, own, "batch head pos key, batch key head d_head -> batch pos head d_head"
    )
    return f"query head h reads key-value head h // {shared}", mixed, acts["attn.hook_z"]
