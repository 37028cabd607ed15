"""What a .gguf file states, held against what transformers made of it.

transformers skips tensors and metadata that it does not know, in silence. Here every tensor must
have a place, every number that changes the computation must be in the config that came out, and
the tokenizer must cut text as the file says.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.card import LARGEST, MOST_LAYERS, ModelError
from models.protocol import PlainModel, PretrainedConfig
from models.text import begins_with_bos, read_ids

ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")
"""Metadata under `tokenizer.ggml` that name a token at which a continuation ends."""
ENDS_OF_ROWS = slice(0, 64), slice(-64, None)
"""Rows of an unembedding that are held against the file's."""
UNEMBEDDING = "unembedding.npy"
"""Where these rows stand in the folder that a file was converted to."""
SAME: dict[str, tuple[str, ...]] = {
    "block_count": ("num_hidden_layers",),
    "embedding_length": ("hidden_size",),
    "attention.head_count": ("num_attention_heads",),
    "attention.head_count_kv": ("num_key_value_heads", "num_kv_heads", "num_attention_heads"),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps", "norm_eps", "layer_norm_epsilon"),
    "attention.layer_norm_epsilon": ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"),
    "attention.sliding_window": ("sliding_window",),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
    "logit_scale": ("logit_scale",),
    "expert_count": ("num_experts", "num_local_experts", "n_routed_experts"),
    "expert_used_count": ("num_experts_per_tok",),
    "expert_feed_forward_length": ("moe_intermediate_size", "intermediate_size"),
}
"""Metadata of an architecture, and the names that a config may have for it."""
WIDTHS = ("intermediate_size", "n_inner", "ffn_dim")
"""Names of the width of an MLP; four times that of the stream where a config has none."""
WITHOUT_EFFECT = (
    *("context_length", "vocab_size", "rope.scaling.finetuned", "tensor_data_layout"),
    *("rope.scaling.original_context_length", "use_parallel_residual"),
)
"""Metadata that changes nothing, or nothing unless other metadata here does."""
NEUTRAL = {
    "rope.scaling.type": ("none", ""), "rope.scaling.factor": (0, 1), "rope.scale_linear": (0, 1),
    "rope.scaling.attn_factor": (0, 1), "attention.scale": (0,), "expert_shared_count": (0,),
    "attention.causal": (True,),
}  # fmt: skip
"""Metadata that changes nothing at these values."""


SPLIT_AS_GPT2 = {
    *("gpt-2", "phi-2", "jina-es", "jina-de", "jina-v1-en", "jina-v2-es", "jina-v2-de"),
    *("jina-v2-code", "gigachat", "roberta-bpe", "mpt", "olmo", "jais"),
}
"""Names that llama.cpp has for the way in which GPT-2 cuts text before it merges bytes."""
DIGITS_APART = {"smollm", "starcoder", "refact", "command-r", "codeshell"}
"""Names for the same where every digit stands apart first, so that spaces before one stay whole."""


@dataclass(frozen=True)
class Gguf:
    """A .gguf file, which is read once: its vocabulary takes up to twenty seconds."""

    file: Path

    @cached_property
    def reader(self) -> Any:
        """Metadata (`fields`) and `tensors`, by the gguf package."""
        from gguf import GGUFReader

        return GGUFReader(self.file)


def report_of_gguf(gguf: Gguf, model: PlainModel) -> list[str]:
    """What was read of a .gguf file and what was not, a line each.

    Raises ModelError for a tensor without a place, and for metadata that the config contradicts.
    """
    file, reader = gguf.file, gguf.reader
    kind = reader.fields["general.architecture"].contents()
    lost = sorted({tensor.name for tensor in reader.tensors} - _placed(model, kind))
    if lost:
        raise ModelError(
            f"{file}: transformers has no place for {lost[0]} ({len(lost)} such tensors), so this "
            "would be another model; use the safetensors weights of this model"
        )
    stated = {name.removeprefix(f"{kind}."): field.contents()
              for name, field in reader.fields.items() if name.startswith(f"{kind}.")}  # fmt: skip
    for name, value in stated.items():
        _refuse_other(file, f"{kind}.{name}", value, _reading_of(name, value, model.config))
    ignored = sorted(f"{kind}.{name}" for name in stated if name in WITHOUT_EFFECT)
    return [
        f"read: {len(reader.tensors)} tensors of {file.name}, {kind}, dequantised",
        *(
            f"read: {kind}.{name} = {stated[name]}"
            for name in sorted(stated.keys() - WITHOUT_EFFECT)
        ),
        *(f"ignored: {name}" for name in ignored),
    ]


def keep_unembedding(gguf: Gguf, folder: Path) -> list[str]:
    """Note in `folder` what a .gguf file that holds its unembedding reads out with.

    Returns which tensors are embedding and unembedding, a line each: a file of a tied model can
    hold the one matrix twice, in two precisions.
    """
    from gguf import dequantize

    tensors = {tensor.name: tensor for tensor in gguf.reader.tensors}
    if "output.weight" not in tensors:
        return []
    own = tensors["output.weight"]
    ends = [dequantize(own.data[rows], own.tensor_type) for rows in ENDS_OF_ROWS]
    np.save(folder / UNEMBEDDING, np.stack(ends))
    names = {"embedding": "token_embd.weight", "unembedding": "output.weight"}
    return [
        f"read: {name} as the {part}, {tensors[name].tensor_type.name}"
        for part, name in names.items()
    ]


def refuse_other_unembedding(folder: Path, model: PlainModel) -> None:
    """Raise ModelError for a model that reads out with something else than its file's own matrix.

    What the file has stands beside its conversion, so that the file need not be read.
    """
    if not (folder / UNEMBEDDING).is_file():
        return
    read = model.get_output_embeddings().weight
    for rows, stated in zip(ENDS_OF_ROWS, np.load(folder / UNEMBEDDING), strict=True):
        if not torch.equal(torch.from_numpy(stated).to(read.dtype), read[rows].cpu()):
            raise ModelError(
                f"{folder}: the unembedding of its .gguf file, output.weight, is not what the "
                "model reads out with; use the safetensors weights of this model"
            )


def refuse_large_gguf(gguf: Gguf) -> None:
    """Raise ModelError for metadata that no model has, before a model is made of it."""
    file = gguf.file
    for name, field in gguf.reader.fields.items():
        most = MOST_LAYERS if name.endswith(".block_count") else LARGEST
        value = field.contents() if len(field.data) == 1 else None
        if isinstance(value, int) and not name.startswith(("tokenizer.", "GGUF.")) and value > most:
            raise ModelError(f"{file}: {name} is {value}, more than {most}; get the file again")


def as_the_file_splits(gguf: Gguf, tokenizer: Any) -> Any:
    """A tokenizer read from a .gguf file, made to cut text as the file says.

    transformers cuts as GPT-2 does wherever it does not know the name. Raises ModelError for a
    name that is not known here either, and for a beginning of texts that is not the stated one.
    """
    file = gguf.file
    stated = {name.removeprefix("tokenizer.ggml."): field.contents()
              for name, field in gguf.reader.fields.items()
              if name.startswith("tokenizer.ggml.") and len(field.data) == 1}  # fmt: skip
    if stated.get("model") == "gpt2":
        _split(file, stated.get("pre"), tokenizer)
    first = tokenizer.convert_ids_to_tokens(read_ids(tokenizer, "a"))[0]
    begins = {"add_bos_token": begins_with_bos(tokenizer)}
    if stated.get("model") == "llama":
        pieces = tokenizer.tokenize("a", add_special_tokens=False)
        begins["add_space_prefix"] = pieces[0].startswith("▁")
    for name, does in begins.items():
        if name in stated and stated[name] != does:
            raise ModelError(
                f"{file}: tokenizer.ggml.{name} is {stated[name]}, but with transformers a text "
                f"begins with {first!r}; use the safetensors weights of this model"
            )
    return tokenizer


def _split(file: Path, name: str | None, tokenizer: Any) -> None:
    """Set how a byte-level tokenizer cuts text before it merges bytes."""
    from tokenizers import pre_tokenizers
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    if name in DIGITS_APART:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ])  # fmt: skip
    elif name not in SPLIT_AS_GPT2 | GGUF_PRE_TOKENIZER_SPLITS.keys():
        said = "not stated" if name is None else name
        raise ModelError(
            f"{file}: how its tokenizer cuts text (tokenizer.ggml.pre) is {said}, which "
            "transformers reads as GPT-2's way; use the safetensors weights of this model"
        )


def _placed(model: PlainModel, kind: str) -> set[str]:
    """The names of tensors of a .gguf file that transformers puts somewhere in this model."""
    from transformers.integrations.gguf import GGUF_CONFIG_ARCHS
    from transformers.modeling_gguf_pytorch_utils import (
        TENSOR_PROCESSORS,
        TensorProcessor,
        get_gguf_hf_weights_map,
    )

    if kind in GGUF_CONFIG_ARCHS:
        raise ModelError(f"{kind} models in .gguf files are not read; use the safetensors weights")
    processor = TENSOR_PROCESSORS.get(kind, TensorProcessor)(config=model.config.to_dict())
    return set(get_gguf_hf_weights_map(model, processor))


def _refuse_other(file: Path, name: str, stated: Any, read: Any) -> None:
    """Raise ModelError where the config that came out says otherwise than the file."""
    if read is _SAME or read == stated or _close(read, stated):
        return
    said = "ignores it" if read is None else f"reads {read}"
    raise ModelError(
        f"{file}: {name} is {stated}, but transformers {said}, so this would be another model; "
        "use the safetensors weights of this model"
    )


_SAME = object()


def _close(one: Any, other: Any) -> bool:
    numbers = (int, float)
    both = isinstance(one, numbers) and isinstance(other, numbers)
    return both and abs(one - other) <= 1e-4 * max(abs(one), abs(other))


def _reading_of(name: str, value: Any, config: PretrainedConfig) -> Any:
    """What the config has for a piece of metadata; `_SAME` where it changes nothing."""
    if name in WITHOUT_EFFECT or value in NEUTRAL.get(name, ()):
        return _SAME
    if name in DERIVED:
        return DERIVED[name](config)
    found = [getattr(config, own, None) for own in SAME.get(name, ())]
    return next((number for number in found if number is not None), None)


def _head_width(config: PretrainedConfig) -> int:
    own = getattr(config, "head_dim", None)
    return own or config.hidden_size // config.num_attention_heads


def _rope(config: PretrainedConfig, layers: str) -> dict[str, Any]:
    """The rotation of layers of a kind, or of all."""
    rope = getattr(config, "rope_parameters", None) or {}
    return rope.get(layers, rope)


DERIVED: dict[str, Callable[[PretrainedConfig], Any]] = {
    "feed_forward_length": lambda config: next(
        (n for n in (getattr(config, name, None) for name in WIDTHS) if n), 4 * config.hidden_size
    ),
    "attention.key_length": _head_width,
    "attention.value_length": _head_width,
    "rope.dimension_count": lambda config: round(
        _head_width(config) * _rope(config, "full_attention").get("partial_rotary_factor", 1.0)
    ),
    "rope.freq_base": lambda config: _rope(config, "full_attention").get("rope_theta"),
    "rope.freq_base_swa": lambda config: _rope(config, "sliding_attention").get("rope_theta"),
}
"""Metadata that a config has under no name of its own."""


def ends_of_gguf(gguf: Gguf) -> list[int]:
    """Every token at which a continuation ends, as a .gguf file names them."""
    fields = gguf.reader.fields
    stated = [fields.get(f"tokenizer.ggml.{name}") for name in ENDS]
    return sorted({int(field.contents()) for field in stated if field is not None})
