"""What must hold in any transformer, checked whenever a model is loaded (SCIENCE, section 0)."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor
from torch.linalg import vector_norm
from torch.nn.functional import cross_entropy

from models.card import Card, ModelError
from models.parts import AttentionOut, attention_out, sinks
from models.protocol import Identity, Model, Tokenizer
from models.readout import unembedding
from models.text import read_ids
from prompts.additions import Addition

CHECK_TEXT = Path(__file__).with_name("check_text.txt")
ADDITIONS = 16
TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-2, "float16": 1e-2}
AGREEMENT = 2
"""So many times as much between two computations of a whole model, in which rounding adds up."""
NLL_TOLERANCE = 0.02
NEEDED = (
    *("hook_resid_pre", "hook_attn_out", "hook_resid_post"),
    *("attn.hook_q", "attn.hook_k", "attn.hook_v", "attn.hook_pattern", "attn.hook_z"),
)
"""Hooks of every block that lenses use; beside these `hook_resid_mid` and `hook_mlp_out`."""
SCORES = "attn.hook_attn_scores"
SEEN_ONLY = ("hook_resid_mid", "attn.hook_q", "attn.hook_k", "ln1_post.hook_scale", SCORES)
"""Hooks that no lens edits; what is put at hook_resid_mid reaches the MLP alone under 4.x."""
CHECKED = (*NEEDED, "hook_resid_mid", "hook_mlp_out", "ln1_post.hook_scale")
EMBED = "hook_embed"
EDIT = 0.75
"""What is multiplied with at every hook when edits are checked."""
SHORT = 16
"""Tokens on which edits and the readout are checked."""
MOVED = 1e-3
"""How much a state that an edit reached has changed at least."""
Cache = Mapping[str, Tensor]
Edit = Callable[[Tensor, str], Tensor]


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
    run = run_checked(model, tokens)
    called = hooks_identity(model, run)
    if not called.ok:
        return [called]
    _refuse_two_widths(model, run)
    found = [*inner_identities(model, run.came), readout_identity(model, run)]
    found += [*row_identities(model, run), called, *edit_identities(model, tokens)]
    if expected is not None:
        found.append(agreement_identity(model, run.logits, expected))
    if model.card.nll is not None:
        found.append(likelihood_identity(model.card.nll, tokens, run.logits))
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
    ids = read_ids(tokenizer, CHECK_TEXT.read_text("utf-8").strip())
    if len(ids) < 2:
        raise ModelError(
            f"{card.name}: its tokenizer reads nothing of {CHECK_TEXT.name}; use a model that "
            "reads English, or a tokenizer.json that fits the weights"
        )
    return torch.tensor([ids[:n_ctx]])


@dataclass(frozen=True)
class Run:
    """A forward pass: logits, what came to each hook, and what went on from there."""

    logits: Float[Tensor, "batch pos d_vocab_out"]
    came: Cache
    went: Cache


@torch.no_grad()
def run_checked(model: Model, tokens: Int[Tensor, "batch pos"], edit: Edit | None = None) -> Run:
    """A pass over tokens that keeps all that an identity speaks of, edited where asked."""
    came: dict[str, Tensor] = {}
    went: dict[str, Tensor] = {}

    def see(value: Tensor, hook: object, name: str) -> Tensor | None:
        came[name] = value
        went[name] = value if edit is None or name.endswith(SEEN_ONLY) else edit(value, name)
        return None if edit is None else went[name]

    ends = CHECKED if sinks(model.blocks) is None else (*CHECKED, SCORES)
    names = [
        name
        for name in model.hook_dict
        if name == EMBED or (name.startswith("blocks.") and name.endswith(ends))
    ]
    hooks = [(name, partial(see, name=name)) for name in names]
    return Run(model.run_with_hooks(tokens, return_type="logits", fwd_hooks=hooks), came, went)


def hooks_identity(model: Model, run: Run) -> Identity:
    """Every hook that a lens uses was called: a hook that never is leaves a lens silent."""
    names = [*NEEDED, *(() if model.cfg.attn_only else ("hook_mlp_out",))]
    wanted = [f"blocks.{layer}.{name}" for layer in range(model.cfg.n_layers) for name in names]
    missing = [name for name in (EMBED, *wanted) if name not in run.came]
    name = f"every hook that a lens uses is called{f' ({missing[0]} is not)' if missing else ''}"
    return Identity(name=name, error=float(len(missing)), tolerance=0, ok=not missing)


def _refuse_two_widths(model: Model, run: Run) -> None:
    """Raise ModelError where a head's values are not as wide as its z should be (DeepSeek)."""
    width = run.came["blocks.0.attn.hook_v"].shape[-1]
    if width != model.cfg.d_head:
        raise ModelError(
            f"{model.card.name}: heads have values {width} wide and keys of another width, which "
            "is not measured here; use a model whose heads have one width"
        )


def inner_identities(model: Model, came: Cache, went: Cache | None = None) -> list[Identity]:
    """The residual stream adds up, heads add up to attention, queries read their own keys.

    What goes on from each hook must give what comes to the next ones.
    """
    out, errors = attention_out(model), defaultdict(list)
    for layer in range(model.cfg.n_layers):
        new, old = (_of_layer(cache, layer) for cache in (came, came if went is None else went))
        for name, found, expected in (*_sums(new, old), *_heads(new, old, out, layer)):
            errors[name].append(relative_error(found, expected))
    return [_identity(model, name, float(np.max(found))) for name, found in errors.items()]


def readout_identity(model: Model, run: Run) -> Identity:
    """The last state, by the readout that every lens shares, gives the model's own logits."""
    last = run.went[f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"][:, :SHORT]
    name = "last state, read by our own readout, gives the logits"
    return _identity(model, name, relative_error(unembedding(model)(last), run.logits[:, :SHORT]))


def row_identities(model: Model, run: Run) -> list[Identity]:
    """Attention is a distribution over what came before, or one less a learned sink's share."""
    later, off, sink = [], [], sinks(model.blocks)
    for layer in range(model.cfg.n_layers):
        pattern = run.came[f"blocks.{layer}.attn.hook_pattern"].float()
        rows = pattern.sum(-1)
        whole = torch.ones_like(rows)
        if sink is not None:
            scores = run.came[f"blocks.{layer}.{SCORES}"].float()
            whole = (scores.logsumexp(-1) - sink[layer].to(scores)[:, None]).sigmoid()
        later.append(pattern.triu(1).abs().max().item())
        off.append(relative_error(rows, whole))
    seen, less = float(np.max(later)), "" if sink is None else " less a learned sink"
    name = "no token attends to a later one"
    return [
        Identity(name=name, error=seen, tolerance=0, ok=seen == 0),
        _identity(model, f"attention rows sum to 1{less}", float(np.max(off))),
    ]


def _edit(value: Tensor, name: str) -> Tensor:
    """Another value of the same kind; a norm would undo a factor on the embedding."""
    return value.flip(-1) if name == EMBED else EDIT * value


def edit_identities(model: Model, tokens: Int[Tensor, "batch pos"]) -> list[Identity]:
    """What is put at a hook is what goes on, and putting there what came changes nothing."""
    tokens = tokens[:1, :SHORT]
    run = run_checked(model, tokens)
    same = run_checked(model, tokens, lambda value, name: value.clone())
    edited = run_checked(model, tokens, _edit)
    parts = [*inner_identities(model, edited.came, edited.went), readout_identity(model, edited)]
    first = "blocks.0.hook_resid_pre"
    reached = relative_error(edited.came[first], run.came[first]) > MOVED
    worst = max(parts, key=lambda part: np.nan_to_num(part.error, nan=np.inf))
    said = "" if worst.ok else f" ({worst.name})"
    return [
        _identity(
            model, "components patched with themselves change nothing",
            relative_error(same.logits, run.logits),
        ),
        _identity(model, f"what is put at a hook goes on{said}", worst.error),
        Identity(name="what is put at hook_embed goes on", error=float(not reached), tolerance=0,
                 ok=reached),
    ]  # fmt: skip


def likelihood_identity(
    stated: float, tokens: Int[Tensor, "batch pos"], logits: Float[Tensor, "batch pos d_vocab_out"]
) -> Identity:
    """The likelihood of the shipped text, in nats per token, against the card's figure.

    Weights in a wrong order give fluent-looking garbage that no other check sees.
    """
    told = zip(logits[:, :-1].split(SHORT, 1), tokens[:, 1:].split(SHORT, 1), strict=True)
    lost = [
        cross_entropy(some.flatten(0, 1).float(), ids.flatten(), reduction="sum").double()
        for some, ids in told
    ]
    nll = (sum(lost) / tokens[:, 1:].numel()).item()
    error = abs(nll - stated) / stated
    name = f"likelihood of the check text: {nll:.4g} nats a token, card {stated:.4g}"
    return Identity(name=name, error=error, tolerance=NLL_TOLERANCE, ok=error <= NLL_TOLERANCE)


def agreement_identity(
    model: Model,
    logits: Float[Tensor, "batch pos d_vocab_out"],
    expected: Float[Tensor, "batch pos d_vocab_out"],
) -> Identity:
    """Log-probabilities against those of plain transformers, some tokens at a time.

    The difference counts against what plain transformers says beyond "all tokens are as likely":
    next to whole log-probabilities, a small fault would vanish in the size of the vocabulary.
    """
    off, size = [], []
    for pair in zip(logits.split(SHORT, 1), expected.split(SHORT, 1), strict=True):
        found, plain = (said.float().log_softmax(-1) for said in pair)
        off.append(vector_norm(found - plain, dtype=torch.float64))
        size.append(vector_norm(plain - plain.mean(-1, keepdim=True), dtype=torch.float64))
    error = vector_norm(torch.stack(off)) / vector_norm(torch.stack(size)).clamp(min=1e-30)
    name = "log-probabilities are those of plain transformers"
    return _identity(model, name, float(error), AGREEMENT)


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm of what is expected, summed in float64."""
    difference = vector_norm(found.float() - expected.float(), dtype=torch.float64)
    return float(difference / vector_norm(expected.float(), dtype=torch.float64).clamp(min=1e-30))


def _identity(model: Model, name: str, error: float, times: float = 1) -> Identity:
    tolerance = times * TOLERANCE[str(model.cfg.dtype).removeprefix("torch.")]
    return Identity(name=name, error=error, tolerance=tolerance, ok=error <= tolerance)


def _of_layer(cache: Cache, layer: int) -> Cache:
    """What a cache holds of one layer, by the names of its hooks."""
    start = f"blocks.{layer}."
    return {name.removeprefix(start): act for name, act in cache.items() if name.startswith(start)}


def _sums(came: Cache, went: Cache) -> list[tuple[str, Tensor, Tensor]]:
    """What attention and MLP write, added to the residual stream."""
    before, after = went["hook_resid_pre"], came["hook_resid_post"]
    attention, mlp = went["hook_attn_out"], went.get("hook_mlp_out")
    if mlp is None:
        return [("resid_pre + attn_out = resid_post", before + attention, after)]
    if "hook_resid_mid" not in came:
        summed = before + attention + mlp
        return [("resid_pre + attn_out + mlp_out = resid_post", summed, after)]
    return [
        ("resid_pre + attn_out = resid_mid", before + attention, came["hook_resid_mid"]),
        ("resid_mid + mlp_out = resid_post", came["hook_resid_mid"] + mlp, after),
    ]


def _heads(
    came: Cache, went: Cache, out: AttentionOut, layer: int
) -> list[tuple[str, Tensor, Tensor]]:
    """Each head mixes the values of its own key-value head; together they write attn_out."""
    return [_written(came, went, out, layer), _groups(came, went)]


def _written(came: Cache, went: Cache, out: AttentionOut, layer: int) -> tuple[str, Tensor, Tensor]:
    """What heads and bias write one by one, through the frozen scale of a norm after attention."""
    z, W_O, attn_out = went["attn.hook_z"], out.W_O[layer], came["hook_attn_out"]
    result = einsum(z, W_O, "batch pos head d_head, head d_head d_model -> batch pos head d_model")
    if out.post_gain is None:
        return "sum of heads + b_O = attn_out", result.sum(2) + out.b_O[layer], attn_out
    frozen = out.post_gain[layer] / came["ln1_post.hook_scale"]
    summed = (result * frozen[:, :, None]).sum(2) + out.b_O[layer] * frozen
    return "sum of heads + b_O, at a frozen norm, = attn_out", summed, attn_out


def _groups(came: Cache, went: Cache) -> tuple[str, Tensor, Tensor]:
    """Each query head mixes the values of the key-value head that is its own."""
    pattern, values = went["attn.hook_pattern"], went["attn.hook_v"]
    shared = pattern.shape[1] // values.shape[2]
    own = values.repeat_interleave(shared, dim=2)
    mixed = einsum(
        pattern, own, "batch head pos key, batch key head d_head -> batch pos head d_head"
    )
    return f"query head h reads key-value head h // {shared}", mixed, came["attn.hook_z"]
