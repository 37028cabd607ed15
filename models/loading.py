"""From a name to a model that was checked, and to its untrained twin."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from models.card import Card, ModelError, NativeConfig, find_card
from models.fetch import weights_sha256
from models.finite import watch
from models.hooked import HAS_BRIDGE, hook_model, hook_native
from models.kinds import end_tokens_of, longest_of, refuse_without_attention
from models.memory import refuse_large_config
from models.native import fresh_weights, native_tokenizer, native_weights
from models.parts import sinks
from models.protocol import Identity, Model, PretrainedConfig, Processing, Tokenizer
from models.sources import (
    first_line,
    folder_of,
    plain_model,
    plain_tokenizer,
    unlike_its_file,
)
from models.text import begins_with_bos, refuse_unread_tokens
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
    refuse_unproven(model)
    return model


def refuse_unproven(model: Model) -> None:
    """Raise ModelError for a model that failed one of its identities."""
    for identity in model.identities:
        if not identity.ok:
            off = f"off by {identity.error:.2g}, at most {identity.tolerance:g} is allowed"
            raise ModelError(
                f"{model.card.name}: {identity.name}: {off if identity.tolerance else 'not so'}; "
                "these weights are not what the card says or this kind of model is not read "
                "correctly: use other weights"
            )


def examined(name: str, *, device: str = "cpu") -> Model:
    """A model whatever its checks say: see its `identities` and `read_report`.

    Raises ModelError for a model that cannot be read at all.
    """
    return _assemble(find_card(name), device, None, "none")


def check(name: str, *, device: str = "cpu") -> list[Identity]:
    """Everything a model is checked for when it is loaded, failures included."""
    return examined(name, device=device).identities


_FAR = 2**31
"""From a seed to the one that takes its place: further than any number of twins."""
_FIRST = 64
"""Embeddings that are compared: all would be read from the file, and stay in memory."""


def untrained(model: Model, seed: int) -> Model:
    """A twin of a model with fresh weights: same shape, card and tokenizer; nothing learned.

    Another seed takes the place of one that gives the model's own weights, as it does where the
    model is itself untrained and was made from that seed; the first tokens' embeddings tell.
    """
    twin = _fresh(model, seed)
    same = torch.equal(twin.W_E[:_FIRST], model.W_E[:_FIRST])
    return _fresh(model, seed + _FAR) if same else twin


def _fresh(model: Model, seed: int) -> Model:
    dtype, device = model.cfg.dtype, torch.device(model.cfg.device)
    folded = model.processing == "folded"
    if isinstance(model.blueprint, NativeConfig):
        weights = _moved(fresh_weights(model.blueprint, seed), device, dtype)
        twin = hook_native(model.blueprint, weights, folded=folded)
    elif not hasattr(model.blueprint, "get_text_config"):
        from models.hooked_v3 import fresh_hooked  # needs TransformerLens 3.9

        twin = fresh_hooked(model.blueprint, seed)
    else:
        twin = hook_model(_fresh_plain(model.blueprint, seed, device, dtype), folded=folded)
    dress(twin, model.card, model.tokenizer, model.blueprint, model.processing)
    twin.cfg.n_ctx, twin.end_tokens = model.cfg.n_ctx, model.end_tokens
    return twin


def _fresh_plain(
    config: PretrainedConfig, seed: int, device: torch.device, dtype: torch.dtype
) -> Any:
    """A transformers model as its own library initialises it, without touching other randomness."""
    from transformers import AutoModelForCausalLM  # takes seconds to import

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        how = {"attn_implementation": "eager", "trust_remote_code": False}
        plain = AutoModelForCausalLM.from_config(config, dtype=dtype, **how)
    return plain.to(device).eval().requires_grad_(False)


def _assemble(
    card: Card, device: str, dtype: torch.dtype | str | None, processing: Processing
) -> Model:
    """Read, hook and check a model, whatever the checks say; note which bytes were read."""
    before = weights_sha256(card)
    model = _read(card, device, dtype, processing)
    if weights_sha256(card) != before:
        raise ModelError(f"{card.name}: its weights changed while they were read; load it again")
    model.weights_sha256 = before
    return model


def _read(
    card: Card, device: str, dtype: torch.dtype | str | None, processing: Processing
) -> Model:
    """Read, hook and check a model."""
    kind = dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype or card.dtype)
    if card.config is not None:
        return _assemble_native(card, card.config, torch.device(device), kind, processing)
    folder = folder_of(card)
    tokenizer = plain_tokenizer(card, folder)
    plain, report = plain_model(card, folder, kind)
    plain, blueprint = plain.to(device), plain.config
    tokens = check_tokens(card, tokenizer, longest_of(blueprint)).to(device)
    refuse_unread_tokens(card, tokens, len(plain.get_input_embeddings().weight))
    with in_one_line(card, blueprint.model_type):
        with torch.no_grad():
            expected = plain(tokens, use_cache=False).logits
        ends = end_tokens_of(plain)
        model = hook_model(plain, folded=processing == "folded")
        refuse_without_attention(card, model)
        dress(model, card, tokenizer, blueprint, processing)
        model.end_tokens = ends
        model.read_report = (*report, *unlike_its_file(folder, tokenizer))
        if HAS_BRIDGE:  # HookedTransformer has made masks of its own length
            model.cfg.n_ctx = longest_of(blueprint)
        model.identities = verify(model, tokens, expected)
    return model


@contextmanager
def in_one_line(card: Card, kind: str) -> Iterator[None]:
    """Whatever the libraries raise on a kind of model that they cannot take apart, as one line."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        why = f"cannot be taken apart into heads here ({type(error).__name__}: {first_line(error)})"
        if "Unsupported architecture" in str(error):
            why = f"are not known to TransformerLens {version('transformer-lens')}"
        raise ModelError(
            f"{card.name}: {kind} models {why}; use another kind of model (docs/architectures.md "
            "lists those that were tried)"
        ) from error


def _assemble_native(
    card: Card,
    config: NativeConfig,
    device: torch.device,
    dtype: torch.dtype,
    processing: Processing,
) -> Model:
    """Read, hook and check a model in TransformerLens' own format."""
    refuse_large_config(card, config)
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
    dress(model, card, tokenizer, config, processing)
    tokens = check_tokens(card, tokenizer, config.n_ctx).to(model.cfg.device)
    refuse_unread_tokens(card, tokens, config.d_vocab, tokenizer)
    model.identities = verify(model, tokens, None)
    return model


def _moved(
    weights: dict[str, Tensor], device: torch.device, dtype: torch.dtype
) -> dict[str, Tensor]:
    return {name: weight.to(device, dtype) for name, weight in weights.items()}


def dress(
    model: Any,
    card: Card,
    tokenizer: Tokenizer | None,
    blueprint: PretrainedConfig | NativeConfig,
    processing: Processing,
) -> None:
    """Give a hooked model what `Model` adds, and make `to_tokens` do what the tokenizer does."""
    model.card, model.blueprint, model.processing = card, blueprint, processing
    model.identities, model.end_tokens, model.read_report = [], (), ()
    model.attention_sinks = sinks(model.blocks) is not None
    model.eval().requires_grad_(False)
    watch(model)
    if tokenizer is None:
        return
    prepends = begins_with_bos(tokenizer)
    model.cfg.default_prepend_bos = model.cfg.tokenizer_prepends_bos = prepends
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if model.tokenizer is not tokenizer:
        sizes = model.cfg.d_vocab, model.cfg.d_vocab_out
        model.tokenizer = tokenizer  # a bridge that had another one takes its size for the model's
        model.cfg.d_vocab, model.cfg.d_vocab_out = sizes
