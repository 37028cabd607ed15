"""From a name to a model that was checked, and to its untrained twin."""

from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PretrainedConfig
from transformers import PreTrainedTokenizerBase as Tokenizer

from models.card import Card, ModelError, NativeConfig, find_card
from models.hooked import hook_model, hook_native
from models.native import fresh_weights, native_tokenizer, native_weights
from models.protocol import Identity, Model, Processing
from models.sources import folder_of, plain_model, plain_tokenizer
from models.verification import check_tokens, verify


def load(
    name: str,
    *,
    device: str = "cpu",
    dtype: torch.dtype | str | None = None,
    processing: Processing = "none",
) -> Model:
    """The model called `name` (a card, a path or a hub id), in evaluation mode, without gradients.

    Computes in the card's dtype unless `dtype` says otherwise. `processing="folded"` folds norms
    and value biases into neighbouring weights and centres what writes to the residual stream.
    Raises ModelError, in one line, for a model that cannot be read or fails an identity.
    """
    model = _assemble(find_card(name), device, dtype, processing)
    for identity in model.identities:
        if not identity.ok:
            raise ModelError(
                f"{model.card.name}: {identity.name}: off by {identity.error:.2g}, at most "
                f"{identity.tolerance:g} is allowed; these weights are not what the card says "
                "or this kind of model is not read correctly: use other weights"
            )
    return model


def check(name: str, *, device: str = "cpu") -> list[Identity]:
    """Everything a model is checked for when it is loaded, failures included.

    Raises ModelError for a model that cannot be read at all.
    """
    return _assemble(find_card(name), device, None, "none").identities


def untrained(model: Model, seed: int) -> Model:
    """A twin of a model with fresh weights: same shape, card and tokenizer; nothing learned."""
    dtype, device = model.cfg.dtype, torch.device(model.cfg.device)
    folded = model.processing == "folded"
    if isinstance(model.blueprint, NativeConfig):
        weights = _moved(fresh_weights(model.blueprint, seed), device, dtype)
        twin = hook_native(model.blueprint, weights, folded=folded)
    else:
        twin = hook_model(_fresh_plain(model.blueprint, seed, device, dtype), folded=folded)
    _dress(twin, model.card, model.tokenizer, model.blueprint, model.processing)
    return twin


def _fresh_plain(
    config: PretrainedConfig, seed: int, device: torch.device, dtype: torch.dtype
) -> Any:
    """A transformers model as its own library initialises it, without touching other randomness."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        plain = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="eager")
    return plain.to(device).eval().requires_grad_(False)


def _assemble(
    card: Card, device: str, dtype: torch.dtype | str | None, processing: Processing
) -> Model:
    """Read, hook and check a model, whatever the checks say."""
    kind = dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype or card.dtype)
    if card.config is not None:
        return _assemble_native(card, card.config, torch.device(device), kind, processing)
    folder = folder_of(card)
    tokenizer = plain_tokenizer(card, folder)
    plain: Any = plain_model(card, folder, kind)
    plain = plain.to(device)
    blueprint = plain.config
    tokens = check_tokens(card, tokenizer, blueprint.max_position_embeddings).to(device)
    with torch.no_grad():
        expected = plain(tokens).logits
    model = hook_model(plain, folded=processing == "folded")
    _dress(model, card, tokenizer, blueprint, processing)
    model.identities = verify(model, tokens, expected)
    return model


def _assemble_native(
    card: Card,
    config: NativeConfig,
    device: torch.device,
    dtype: torch.dtype,
    processing: Processing,
) -> Model:
    """Read, hook and check a model in TransformerLens' own format."""
    weights = _moved(native_weights(card, config), device, dtype)
    return native_model(card, config, weights, processing=processing)


def native_model(
    card: Card,
    config: NativeConfig,
    weights: dict[str, Tensor],
    *,
    processing: Processing = "none",
) -> Model:
    """A checked model of a native shape from weights in memory, in the bridge's names."""
    model = hook_native(config, weights, folded=processing == "folded")
    tokenizer = native_tokenizer(card)
    _dress(model, card, tokenizer, config, processing)
    tokens = check_tokens(card, tokenizer, config.n_ctx).to(model.cfg.device)
    model.identities = verify(model, tokens, None)
    return model


def _moved(
    weights: dict[str, Tensor], device: torch.device, dtype: torch.dtype
) -> dict[str, Tensor]:
    return {name: weight.to(device, dtype) for name, weight in weights.items()}


def _dress(
    model: Any,
    card: Card,
    tokenizer: Tokenizer | None,
    blueprint: PretrainedConfig | NativeConfig,
    processing: Processing,
) -> None:
    """Give a hooked model what `Model` adds, and make `to_tokens` do what the tokenizer does."""
    model.card, model.blueprint, model.processing = card, blueprint, processing
    model.identities = []
    model.eval().requires_grad_(False)
    if tokenizer is None:
        return
    prepends = tokenizer("1")["input_ids"][0] == tokenizer.bos_token_id
    model.cfg.default_prepend_bos = model.cfg.tokenizer_prepends_bos = prepends
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.tokenizer = tokenizer
