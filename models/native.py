"""Models in TransformerLens' own format: a config and tensors, in either of its two namings."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from einops import rearrange
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Regex, decoders, pre_tokenizers
from tokenizers import Tokenizer as FastTokenizer
from tokenizers.models import WordLevel
from torch import Tensor

from models.card import Card, ModelError, NativeConfig
from models.fetch import tokenizer_folder, weights_files
from models.protocol import Tokenizer
from models.sources import plain_tokenizer, refuse_not_finite


class Names(NamedTuple):
    """One parameter in both namings: HookedTransformer's, and the bridge's."""

    hooked: str
    axes: str
    bridge: str
    bridge_axes: str


PER_BLOCK = (
    Names("attn.W_Q", "head d_model d_head", "attn.q.weight", "(head d_head) d_model"),
    Names("attn.W_K", "kv d_model d_head", "attn.k.weight", "(kv d_head) d_model"),
    Names("attn.W_V", "kv d_model d_head", "attn.v.weight", "(kv d_head) d_model"),
    Names("attn.W_O", "head d_head d_model", "attn.o.weight", "d_model (head d_head)"),
    Names("attn.b_Q", "head d_head", "attn.q.bias", "(head d_head)"),
    Names("attn.b_K", "kv d_head", "attn.k.bias", "(kv d_head)"),
    Names("attn.b_V", "kv d_head", "attn.v.bias", "(kv d_head)"),
    Names("attn.b_O", "d_model", "attn.o.bias", "d_model"),
)
MLP = (
    Names("mlp.W_in", "d_model d_mlp", "mlp.in.weight", "d_mlp d_model"),
    Names("mlp.W_out", "d_mlp d_model", "mlp.out.weight", "d_model d_mlp"),
    Names("mlp.b_in", "d_mlp", "mlp.in.bias", "d_mlp"),
    Names("mlp.b_out", "d_model", "mlp.out.bias", "d_model"),
)
GATE = (Names("mlp.W_gate", "d_model d_mlp", "mlp.gate.weight", "d_mlp d_model"),)
EMBED = (Names("embed.W_E", "d_vocab d_model", "embed.weight", "d_vocab d_model"),)
POSITION = (Names("pos_embed.W_pos", "n_ctx d_model", "pos_embed.weight", "n_ctx d_model"),)
UNEMBED = (
    Names("unembed.W_U", "d_model d_vocab_out", "unembed.weight", "d_vocab_out d_model"),
    Names("unembed.b_U", "d_vocab_out", "unembed.bias", "d_vocab_out"),
)
# What HookedTransformer saves beside its parameters: masks and tables that follow from the config.
BUFFERS = (".mask", ".IGNORE", ".rotary_sin", ".rotary_cos")


def parameters_of(config: NativeConfig) -> list[Names]:
    """Every parameter that a model of this shape has, by its full name."""
    with_scale = config.normalization_type in ("LN", "RMS")
    gate = GATE if config.gated_mlp else ()
    block = PER_BLOCK if config.attn_only else PER_BLOCK + MLP + gate
    norms = ("ln1",) if config.attn_only else ("ln1", "ln2")
    block += sum((_norm(norm, config, last=False) for norm in norms if with_scale), ())
    rotary = config.positional_embedding_type == "rotary"
    outer = EMBED + (() if rotary else POSITION) + UNEMBED
    outer += _norm("ln_final", config, last=True) if with_scale else ()
    prefixes = [f"blocks.{layer}." for layer in range(config.n_layers)]
    return [*outer, *(_prefixed(prefix, names) for prefix in prefixes for names in block)]


def _norm(name: str, config: NativeConfig, *, last: bool) -> tuple[Names, ...]:
    """Scale and, for a layer norm, shift."""
    scale = Names(f"{name}.w", "d_model", f"{name}.weight", "d_model")
    shift = Names(f"{name}.b", "d_model", f"{name}.bias", "d_model")
    rms = config.normalization_type == "RMS" or (last and config.final_rms)
    return (scale,) if rms else (scale, shift)


def _prefixed(prefix: str, names: Names) -> Names:
    return names._replace(hooked=prefix + names.hooked, bridge=prefix + names.bridge)


def sizes_of(config: NativeConfig) -> dict[str, int]:
    """The length of each axis that `Names` speaks of."""
    return {
        "head": config.n_heads,
        "kv": config.n_key_value_heads or config.n_heads,
        "d_model": config.d_model,
        "d_head": config.d_head,
        "d_mlp": config.d_mlp or 4 * config.d_model,
        "d_vocab": config.d_vocab,
        "d_vocab_out": config.d_vocab_out or config.d_vocab,
        "n_ctx": config.n_ctx,
    }


def native_weights(card: Card, config: NativeConfig) -> dict[str, Tensor]:
    """The weights of a native card in the bridge's names and shapes; missing biases are zeros.

    Raises ModelError for a file that is damaged or does not fit the card's `[config]`.
    """
    file = weights_files(card)[0]
    try:
        found = load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(
            f"{card.name}: cannot read {file} ({error}); damaged, cut short or no safetensors "
            "file: save the weights again"
        ) from error
    refuse_not_finite(card, file, found.items())
    try:
        return in_bridge_names(found, config)
    except ValueError as error:
        raise ModelError(
            f"{card.name}: {file}: {error}; correct [config] in the card or save the weights again"
        ) from error


def in_bridge_names(found: Mapping[str, Tensor], config: NativeConfig) -> dict[str, Tensor]:
    """Tensors in either naming, in the bridge's; raises ValueError for one that does not fit."""
    # HookedTransformer writes the keys and values of grouped queries with an underscore.
    left = {
        name.replace("._W_", ".W_").replace("._b_", ".b_"): tensor
        for name, tensor in found.items()
        if not name.endswith(BUFFERS)
    }
    sizes = sizes_of(config)
    named = {names.bridge: _take(left, names, sizes) for names in parameters_of(config)}
    if left:
        raise ValueError(f"{sorted(left)[0]} has no place in a model of this [config]")
    return named


def _take(left: dict[str, Tensor], names: Names, sizes: dict[str, int]) -> Tensor:
    """Move one parameter out of `left`, in the bridge's shape."""
    if names.bridge in left:
        axes, tensor = names.bridge_axes, left.pop(names.bridge)
    elif names.hooked in left:
        axes, tensor = names.axes, left.pop(names.hooked)
    elif names.bridge.endswith(".bias"):
        axes, tensor = names.bridge_axes, torch.zeros(_shape(names.bridge_axes, sizes))
    else:
        raise ValueError(f"no {names.hooked} (nor {names.bridge})")
    if tuple(tensor.shape) != _shape(axes, sizes):
        raise ValueError(
            f"{names.hooked} has shape {tuple(tensor.shape)}, not {_shape(axes, sizes)}"
        )
    return reshaped(tensor, axes, names.bridge_axes, sizes)


def reshaped(tensor: Tensor, axes: str, into: str, sizes: dict[str, int]) -> Tensor:
    """The same numbers under other axes."""
    within = {axis: sizes[axis] for axis in axes.replace("(", "").replace(")", "").split()}
    return rearrange(tensor, f"{axes} -> {into}", **within).contiguous()


def _shape(axes: str, sizes: dict[str, int]) -> tuple[int, ...]:
    """The shape that the axes of a parameter have."""
    shape, inside = [], False
    for axis in axes.replace("(", "( ").replace(")", " )").split():
        if axis in "()":
            inside = axis == "("
            shape += [1] if inside else []
        elif inside:
            shape[-1] *= sizes[axis]
        else:
            shape.append(sizes[axis])
    return tuple(shape)


def vocabulary_tokenizer(vocabulary: Mapping[str, int]) -> Tokenizer:
    """A tokenizer whose tokens are the keys of a vocabulary, the longest that fits first."""
    from transformers import PreTrainedTokenizerFast  # takes seconds to import

    keys = sorted(vocabulary, key=len, reverse=True)
    spelled = "|".join(key.translate({ord(c): f"\\{c}" for c in r"\.+*?()[]{}|^$"}) for key in keys)
    # No unknown token: other characters are an error, not a wrong number.
    tokenizer = FastTokenizer(WordLevel(dict(vocabulary)))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(spelled), "isolated")
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    # Batches need something to be filled up with; a causal model does not see it.
    fast.pad_token = "<bos>" if "<bos>" in vocabulary else keys[0]
    return fast


def native_tokenizer(card: Card) -> Tokenizer | None:
    """The tokenizer that a card names, or that of its vocabulary."""
    if card.tokenizer:
        return plain_tokenizer(card, tokenizer_folder(card))
    return vocabulary_tokenizer(card.arithmetic.vocabulary) if card.arithmetic else None


def fresh_weights(config: NativeConfig, seed: int) -> dict[str, Tensor]:
    """Weights as TransformerLens initialises them: N(0, spread), no biases, scales of one."""
    spread = config.initializer_range if config.initializer_range > 0 else 0.8 / config.d_model**0.5
    generator, sizes, weights = torch.Generator().manual_seed(seed), sizes_of(config), {}
    for names in parameters_of(config):
        shape = _shape(names.bridge_axes, sizes)
        if len(shape) == 2:
            weights[names.bridge] = torch.randn(shape, generator=generator) * spread
        else:
            is_bias = names.bridge.endswith(".bias")
            weights[names.bridge] = torch.zeros(shape) if is_bias else torch.ones(shape)
    return weights
