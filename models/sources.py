"""From a card to weights in memory: what transformers reads, strictly, without the network."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer
from transformers.utils import logging as transformers_logging

from models.card import Card, ModelError
from models.fetch import plain_folder, snapshot, weights_files


def folder_of(card: Card) -> Path:
    """The folder in Hugging Face format that holds a card's model (raises ModelError)."""
    files = weights_files(card)
    if card.source == "transformers":
        return snapshot(card)
    try:
        return plain_folder(card, files[0], _convert)
    except Exception as error:
        raise _unreadable(card, files[0], error) from error


def plain_model(card: Card, folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """The model that plain transformers loads, on the CPU, with attention that can be read.

    Raises ModelError unless every weight is there, has its shape and is finite.
    """
    with _quiet():
        try:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=dtype,
                attn_implementation="eager",
                local_files_only=True,
                # Shapes are compared below, where the message can name the weight.
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        except Exception as error:
            raise _unreadable(card, folder, error) from error
    model, said = loaded
    faults = [*said["missing_keys"], *(fault[0] for fault in said["mismatched_keys"])]
    if faults:
        raise ModelError(
            f"{card.name}: {folder} lacks {sorted(faults)[0]} in the shape its config.json asks "
            f"for ({len(faults)} such weights); get the folder again"
        )
    refuse_not_finite(card, folder, dict(model.named_parameters()))
    model.config.architectures = [type(model).__name__]
    return model.eval().requires_grad_(False)


def plain_tokenizer(card: Card, folder: Path) -> Tokenizer:
    """The tokenizer of a folder (raises ModelError)."""
    with _quiet():
        try:
            return AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:
            raise ModelError(
                f"{card.name}: no readable tokenizer in {folder} ({_line(error)}); "
                "put tokenizer.json beside the weights"
            ) from error


def refuse_not_finite(card: Card, where: Path, weights: dict[str, torch.Tensor]) -> None:
    """Raise ModelError for weights that are NaN or infinite."""
    for name, weight in weights.items():
        if not torch.isfinite(weight).all():
            raise ModelError(
                f"{card.name}: {name} in {where} is NaN or infinite; get or train the weights again"
            )


def _convert(gguf: Path, folder: Path) -> None:
    """Write a .gguf file's model, dequantised, and its tokenizer as a transformers folder."""
    with _quiet():
        place = {"gguf_file": gguf.name, "local_files_only": True}
        AutoTokenizer.from_pretrained(gguf.parent, **place).save_pretrained(folder)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            gguf.parent, dtype=torch.float32, output_loading_info=True, **place
        )
    model, said = loaded
    if said["missing_keys"]:
        raise ValueError(f"{len(said['missing_keys'])} weights are missing")
    # transformers refuses to save what was read from a .gguf file, so it is written here, and
    # without the note that it was quantised, which would be taken for the state of the new file.
    del model.config.quantization_config
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    tied = set(model.all_tied_weights_keys)
    weights = {name: w.contiguous() for name, w in model.state_dict().items() if name not in tied}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def _unreadable(card: Card, where: Path, error: Exception) -> ModelError:
    """The error for weights that transformers cannot read."""
    return ModelError(
        f"{card.name}: cannot read {where} ({_line(error)}); damaged, cut short or of an unknown "
        "kind: get it again"
    )


def _line(error: Exception) -> str:
    """The first line of an error, shortened."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from reporting what is checked here anyway."""
    level = transformers_logging.get_verbosity()
    bar = transformers_logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)
        if bar:
            transformers_logging.enable_progress_bar()
