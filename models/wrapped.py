"""Models that are in memory already: a transformers model, or one with TransformerLens' hooks."""

from copy import deepcopy
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from pydantic import ValidationError
from torch import Tensor, nn

from models.card import Card, ModelError, NativeConfig
from models.hooked import HAS_BRIDGE, hook_model, open_patterns
from models.kinds import end_tokens_of, longest_of, refuse_without_attention
from models.loading import dress, in_one_line, refuse_unproven
from models.protocol import Model, PlainModel, Tokenizer
from models.sources import first_line, refuse_not_finite
from models.text import refuse_unread_tokens
from models.verification import SHORT, check_tokens, verify
from prompts.additions import AdditionFormat

FORMATS = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}


def wrap(
    model: Any,
    tokenizer: Any = None,
    *,
    name: str = "",
    arithmetic: AdditionFormat | None = None,
) -> Model:
    """A model that is in memory, checked like one that is loaded by name.

    A transformers model is copied and stays as it is. A model with hooks (TransformerLens' bridge
    or HookedTransformer, or one of `load` and `untrained`) is used itself: it goes into evaluation
    mode, without gradients. `tokenizer` is one of transformers or tokenizers; `name` stands on
    pages; `arithmetic` says how an adder writes. Raises ModelError, in one line, for a model that
    cannot be read or fails an identity.
    """
    from transformers import PreTrainedModel  # takes seconds to import

    known = getattr(model, "card", None)
    if _is_wrapped(model) and not (tokenizer or name or arithmetic):
        return model
    tokenizer = _tokenizer(tokenizer) or getattr(model, "tokenizer", None)
    card = _card(model, name, arithmetic, known)
    if isinstance(model, PreTrainedModel):
        return _of_plain(card, model, tokenizer)
    if hasattr(model, "run_with_hooks") and hasattr(model, "cfg"):
        return _of_hooked(card, model, tokenizer)
    raise ModelError(
        f"a {type(model).__name__} is no model that can be wrapped; give a transformers model, a "
        "TransformerBridge or a HookedTransformer"
    )


def _is_wrapped(model: Any) -> bool:
    """Whether it was wrapped, and its weights are still those that were checked."""
    card = getattr(model, "card", None)
    known = isinstance(card, Card) and card.source == "memory" and bool(model.identities)
    return known and digest(model) == card.sha256


def _card(model: Any, name: str, arithmetic: AdditionFormat | None, known: Card | None) -> Card:
    """What is known of a model in memory; its sha256 comes when it has its hooks."""
    config = getattr(model, "config", None) or getattr(model, "cfg", None)
    called = getattr(config, "name_or_path", "") or getattr(config, "model_name", "")
    called = "" if called in ("custom", "native") else Path(str(called)).name
    name = name or (known.name if known else called) or type(model).__name__
    weight = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    if weight is not None and weight.dtype not in FORMATS:
        raise ModelError(f"{name} computes in {weight.dtype}; use model.float() first")
    fields = {
        "source": "memory",
        "sha256": "0" * 64,
        "dtype": FORMATS[weight.dtype] if weight is not None else "float32",
        "arithmetic": arithmetic or (known.arithmetic if known else None),
        "config": known.config if known else None,
        "licence": known.licence if known else "not stated",
        "notes": "Given from Python, as it was in memory.",
    }
    try:
        return Card.of(name, Path.cwd(), fields)
    except ValidationError as error:
        raise ModelError(f"{name}: {error.errors()[0]['msg']}") from error


def _of_plain(card: Card, given: PlainModel, tokenizer: Tokenizer | None) -> Model:
    """A copy of a transformers model with hooks, checked also against the model itself."""
    if given.get_output_embeddings() is None:
        raise ModelError(f"{card.name}: has no unembedding; use AutoModelForCausalLM")
    if given.config.is_encoder_decoder:
        raise ModelError(f"{card.name}: is a pair of encoder and decoder; use a causal model")
    _refuse_spread(card, given)
    with in_one_line(card, given.config.model_type):
        plain = deepcopy(given).eval().requires_grad_(False)
        plain.set_attn_implementation("eager")
        plain.config.architectures = [type(plain).__name__]
        tokens = _tokens(card, tokenizer, plain, longest_of(plain.config)).to(plain.device)
        with torch.no_grad():
            expected = plain(tokens, use_cache=False).logits
        ends, blueprint = end_tokens_of(plain), plain.config
        model = hook_model(plain, folded=False)
        _finish(card, model, tokenizer, blueprint)
        model.end_tokens = ends
        return _proven(model, tokens, expected)


def _of_hooked(card: Card, model: Any, tokenizer: Tokenizer | None) -> Model:
    """A model with hooks, dressed and checked."""
    _refuse_spread(card, model)
    blueprint = _blueprint(model)
    with in_one_line(card, getattr(blueprint, "model_type", type(model).__name__)):
        ends = getattr(model, "end_tokens", ()) or _ends(model)
        processing = getattr(model, "processing", None) or _processing(model)
        if not hasattr(model, "card"):
            open_patterns(model)
        tokens = _tokens(card, tokenizer, model, model.cfg.n_ctx).to(model.cfg.device)
        _finish(card, model, tokenizer, blueprint, processing)
        model.end_tokens = ends
        return _proven(model, tokens, None)


def _refuse_spread(card: Card, model: nn.Module) -> None:
    """Raise ModelError for weights that are on several devices, or not in memory.

    Lenses put layers side by side, and read weights outside of the forward pass.
    """
    places = {str(weight.device) for weight in model.parameters()}
    named = sorted("disk" if place == "meta" else place for place in places)
    if len(named) > 1 or "disk" in named:
        raise ModelError(
            f"{card.name}: its weights are on {', '.join(named)}; here a model stands on one "
            "device: load it without device_map, or with one that names a single device"
        )


def _finish(
    card: Card, model: Any, tokenizer: Tokenizer | None, blueprint: Any, processing: Any = "none"
) -> None:
    """Dress a hooked model; its card says the digest of what is in memory."""
    refuse_without_attention(card, model)
    refuse_not_finite(card, Path("memory"), model.named_parameters())
    own = deepcopy(tokenizer) if tokenizer is not getattr(model, "tokenizer", None) else tokenizer
    dress(model, card, own, blueprint, processing)
    if HAS_BRIDGE and hasattr(blueprint, "get_text_config"):
        model.cfg.n_ctx = longest_of(blueprint)
    config = blueprint if isinstance(blueprint, NativeConfig) else None
    model.card = card.model_copy(update={"sha256": digest(model), "config": config})
    model.read_report = (f"read: {type(model).__name__} from memory",)


def _proven(model: Model, tokens: Int[Tensor, "batch pos"], expected: Tensor | None) -> Model:
    model.identities = verify(model, tokens, expected)
    refuse_unproven(model)
    return model


def digest(model: Model) -> str:
    """One sha256 of what decides a model's numbers: weights and buffers, shape and tokenizer."""
    found = sha256(_shape(model.blueprint).encode())
    for name, tensor in sorted(model.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    if model.tokenizer is not None:
        backend = getattr(model.tokenizer, "backend_tokenizer", None)
        spelled = backend.to_str() if backend else repr(sorted(model.tokenizer.get_vocab().items()))
        found.update(spelled.encode())
    return found.hexdigest()


def _shape(blueprint: Any) -> str:
    if isinstance(blueprint, NativeConfig):
        return blueprint.model_dump_json()
    return repr(sorted((name, repr(value)) for name, value in blueprint.to_dict().items()))


def _tokens(
    card: Card, tokenizer: Tokenizer | None, model: Any, longest: int
) -> Int[Tensor, "batch pos"]:
    """Token ids to check a model on; the first ones where its tokenizer reads no English."""
    rows = model.W_E if hasattr(model, "W_E") else model.get_input_embeddings().weight
    first = (torch.arange(min(longest, SHORT)) % len(rows))[None]
    if tokenizer is None and card.arithmetic is None:
        return first
    try:
        tokens = check_tokens(card, tokenizer, longest)
    except ModelError:
        return first
    refuse_unread_tokens(card, tokens, len(rows), tokenizer)
    return tokens


def _blueprint(model: Any) -> Any:
    """The shape from which an untrained twin of a model with hooks is made."""
    if hasattr(model, "blueprint"):
        return model.blueprint
    plain = getattr(model, "original_model", None)
    if hasattr(plain, "config") and hasattr(plain, "generation_config"):
        return plain.config
    if plain is None:
        return model.cfg
    known = {name: getattr(model.cfg, name, None) for name in NativeConfig.model_fields}
    stated = {name: value for name, value in known.items() if value is not None}
    try:
        return NativeConfig(**stated)
    except ValidationError as error:
        field = ".".join(map(str, error.errors()[0]["loc"]))
        raise ModelError(f"its {field} is not known here ({first_line(error)})") from error


def _ends(model: Any) -> tuple[int, ...]:
    plain = getattr(model, "original_model", None)
    return end_tokens_of(plain) if hasattr(plain, "generation_config") else ()


def _processing(model: Any) -> str:
    """Folded where TransformerLens' compatibility mode, or its loading, has folded norms."""
    return "folded" if getattr(model, "compatibility_mode", False) else "none"


def _tokenizer(given: Any) -> Tokenizer | None:
    """A tokenizer as transformers has it."""
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

    if given is None or isinstance(given, PreTrainedTokenizerBase):
        return given
    if hasattr(given, "to_str") and hasattr(given, "get_vocab"):
        return PreTrainedTokenizerFast(tokenizer_object=given)
    raise ModelError(
        f"a {type(given).__name__} is no tokenizer; give one of transformers or tokenizers"
    )
