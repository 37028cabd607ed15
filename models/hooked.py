"""Plain models made readable: TransformerLens 4's bridge, or 3.9's HookedTransformer."""

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from models.card import NativeConfig
from models.native import sizes_of
from models.protocol import PlainModel

HAS_BRIDGE = int(version("transformer-lens").split(".")[0]) >= 4
SOFTMAXES = {torch.softmax, torch.nn.functional.softmax, Tensor.softmax}
# Where the bridge's own native module keeps what the bridge calls by another name.
NATIVE_HOMES = {"embed": "tok_embed", "pos_embed": "pos", "ln_final": "ln_out", "unembed": "head"}


def hook_model(plain: PlainModel, *, folded: bool) -> Any:
    """A transformers model with hooks; under 4.x it is the model itself, wrapped in place."""
    if not HAS_BRIDGE:
        from models.hooked_v3 import hooked_transformer

        return hooked_transformer(plain, folded=folded)
    return _bridge(plain, type(plain).__name__, folded, hf_config=plain.config)


def hook_native(config: NativeConfig, weights: dict[str, Tensor], *, folded: bool) -> Any:
    """A model of a native shape with the given weights (in the bridge's names)."""
    if not HAS_BRIDGE:
        from models.hooked_v3 import hooked_native

        return hooked_native(config, weights, folded=folded)
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge.sources.native import NativeModel

    stated: dict[str, Any] = config.model_dump(exclude={"d_vocab_out", "d_mlp", "act_fn"})
    sizes = sizes_of(config)
    known: dict[str, Any] = {"d_mlp": sizes["d_mlp"], "d_vocab_out": sizes["d_vocab_out"]}
    known["act_fn"] = config.act_fn or "relu"
    settings = TransformerBridgeConfig(**stated, **known, architecture="TransformerLensNative")
    module = NativeModel(settings)
    for name, weight in _with_late_bias(config, _as_adjacent_pairs(config, weights)).items():
        _place(module, _native_home(name, config), weight)
    # Masks and rotation tables are no weights, and still where they were made.
    module.to(weights["embed.weight"].device)
    return _bridge(module, "TransformerLensNative", folded, tl_config=settings)


def _bridge(module: nn.Module, architecture: str, folded: bool, **config: Any) -> Any:
    """The bridge around a module, without a tokenizer: the bridge would add a BOS to it."""
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

    bridge = build_bridge_from_module(module, architecture, **config)
    open_patterns(bridge)
    if folded:
        bridge.enable_compatibility_mode(disable_warnings=True)
    return bridge


def open_patterns(model: Any) -> None:
    """Let an edited pattern reach the values in every block of a bridge."""
    if HAS_BRIDGE:
        for block in getattr(model, "blocks", ()):
            _open_pattern(dict(block.named_children()).get("attn"))


class _AfterSoftmax(TorchFunctionMode):
    """While it lasts, what a softmax gives passes through a function."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.change = change

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        return self.change(found) if func in SOFTMAXES else found


def _open_pattern(attention: Any) -> None:
    """Let an edited pattern reach the values where the bridge only shows it (GPT-J, OPT).

    There the bridge calls `hook_pattern` on a copy, after the values were mixed, unless the module
    that it wraps takes the hook as `pattern_fn`: what a module's softmax gives is the pattern.
    """
    from transformer_lens.model_bridge.generalized_components import AttentionBridge

    inner = getattr(attention, "original_component", None)
    is_shown = getattr(type(attention), "forward", None) is AttentionBridge.forward
    if not is_shown or getattr(inner, "accepts_pattern_fn", False):
        return
    forward, heads = inner.forward, attention.config.n_heads

    def with_pattern(*args: Any, pattern_fn: Callable[[Tensor], Tensor], **kwargs: Any) -> Any:
        def change(found: Tensor) -> Tensor:
            if found.dim() == 4:
                return pattern_fn(found)
            # Batch and heads are one axis where torch.bmm mixes the values (XGLM).
            return pattern_fn(found.unflatten(0, (-1, heads))).flatten(0, 1)

        with _AfterSoftmax(change):
            return forward(*args, **kwargs)

    inner.forward, inner.accepts_pattern_fn = with_pattern, True


def _native_home(name: str, config: NativeConfig) -> str:
    """Where the native module keeps the parameter that the bridge calls `name`."""
    first, rest = name.split(".", 1)
    if first != "blocks":
        return f"{NATIVE_HOMES[first]}.{rest}"
    if not config.gated_mlp:
        rest = rest.replace("mlp.in.", "mlp.fc_in.").replace("mlp.out.", "mlp.fc_out.")
    return f"layers.{rest}"


def _place(module: nn.Module, name: str, weight: Tensor) -> None:
    """Set one parameter, also a bias that the native module was built without."""
    home, leaf = name.rsplit(".", 1)
    if leaf == "bias" and not weight.any() and module.get_submodule(home).bias is None:
        return
    setattr(module.get_submodule(home), leaf, nn.Parameter(weight.clone(), requires_grad=False))


def _as_adjacent_pairs(config: NativeConfig, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Queries and keys reordered so that rotating neighbours does what rotating halves did.

    The bridge's native rotary embedding pairs neighbouring dimensions of a head. Scores are a sum
    over dimensions, so the same reordering of queries and keys leaves them as they were.
    """
    if config.positional_embedding_type != "rotary" or config.rotary_adjacent_pairs:
        return weights
    rotary = config.rotary_dim or config.d_head
    order = torch.arange(config.d_head)
    order[:rotary] = rearrange(torch.arange(rotary), "(half pair) -> (pair half)", half=2)
    return {
        name: _reordered(weight, order) if ".attn.q." in name or ".attn.k." in name else weight
        for name, weight in weights.items()
    }


def _reordered(weight: Tensor, order: Tensor) -> Tensor:
    """A query or key projection, or its bias, with each head's dimensions in another order."""
    heads = weight.reshape(-1, len(order), *weight.shape[1:])
    return heads[:, order].reshape(weight.shape)


def _with_late_bias(config: NativeConfig, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights whose gated MLPs do with a bias after W_out what they did with b_in before it.

    HookedTransformer adds b_in of a gated MLP to the product of gate and input; the bridge adds a
    bias to the input alone.
    """
    if not config.gated_mlp:
        return weights
    late = dict(weights)
    for layer in range(config.n_layers):
        mlp = f"blocks.{layer}.mlp"
        late[f"{mlp}.in.bias"] = torch.zeros_like(weights[f"{mlp}.in.bias"])
        moved = weights[f"{mlp}.out.weight"] @ weights[f"{mlp}.in.bias"]
        late[f"{mlp}.out.bias"] = weights[f"{mlp}.out.bias"] + moved
    return late
