"""From a card to weights in memory: what transformers reads, strictly, without the network."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer as FileTokenizer

from models.card import Card, ModelError
from models.fetch import plain_folder, read_from, snapshot, weights_files
from models.gguf_files import (
    Gguf,
    as_the_file_splits,
    ends_of_gguf,
    keep_unembedding,
    refuse_large_gguf,
    refuse_other_unembedding,
    report_of_gguf,
)
from models.kinds import ignored_fields, refuse_unreadable_folder
from models.memory import refuse_large_folder
from models.protocol import PlainModel, Tokenizer
from models.stored_buffers import BUFFER, refuse_other_buffers

FURTHER = re.compile(r"^(mtp|model\.(language_model\.)?layers\.\d+\.)")
"""Layers that predict several tokens ahead, where transformers has a rule to leave them out."""
FLOATS = {"F64", "F32", "F16", "BF16"}
"""Formats of weights that are the numbers that they stand for."""
REPORT = "read_report.txt"
MARKED = "Né12"
"""What a tokenizer changes that writes small letters or takes accents off."""
TRUSTED: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""How everything is read: nothing from the network, and no code of a model's folder is run."""


def folder_of(card: Card) -> Path:
    """The folder in Hugging Face format that holds a card's model (raises ModelError)."""
    files = weights_files(card)
    if card.source == "transformers":
        folder = snapshot(card)
        refuse_unreadable_folder(card, folder)
        return folder
    try:
        return plain_folder(card, files[0], _convert)
    except ModelError:
        raise
    except Exception as error:
        raise _unreadable(card, files[0], error) from error


def plain_model(card: Card, folder: Path, dtype: torch.dtype) -> tuple[PlainModel, tuple[str, ...]]:
    """The model that plain transformers loads, on the CPU, with attention that can be read.

    Also a report, line by line, of what was read and what was not. Raises ModelError unless every
    weight is there, has its shape and is finite, and every tensor of the files was read.
    """
    from transformers import AutoModelForCausalLM  # takes seconds to import

    with _quiet():
        try:
            refuse_large_folder(card, folder, **TRUSTED)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=dtype,
                attn_implementation="eager",
                **TRUSTED,
                use_safetensors=True,
                # Shapes are compared below, where the message can name the weight.
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        except ModelError:
            raise
        except Exception as error:
            raise _unreadable(card, folder, error) from error
    model, said = loaded
    _refuse_lacking(card, folder, said)
    report = _read_of(card, folder, model, said["unexpected_keys"])
    refuse_not_finite(card, folder, _as_stored(card, folder, model))
    if card.source in ("gguf", "wheel"):
        refuse_other_unembedding(folder, model)
    model.config.architectures = [type(model).__name__]
    return model.eval().requires_grad_(False), report


def _refuse_lacking(card: Card, folder: Path, said: dict[str, Any]) -> None:
    """Raise ModelError for weights that are missing or have another shape than the config asks."""
    faults = [*said["missing_keys"], *(fault[0] for fault in said["mismatched_keys"])]
    if faults:
        raise ModelError(
            f"{card.name}: {folder} lacks {sorted(faults)[0]} in the shape its config.json asks "
            f"for ({len(faults)} such weights); get the folder again"
        )


def _read_of(card: Card, folder: Path, model: PlainModel, unread: set[str]) -> tuple[str, ...]:
    """What was read of a folder and what was not; raises ModelError for weights that were not."""
    files = _shards(card, folder)
    names = _names_in(card, files, packed=hasattr(model.config, "quantization_config"))
    rules = model._keys_to_ignore_on_load_unexpected or ()
    own = model.state_dict().keys()
    places = {
        name for key in own for name in (key, key.removeprefix(f"{model.base_model_prefix}."))
    }
    by_rule = {name for name in {*names} - places for rule in rules if re.search(rule, name)}
    known = {name for name in {*names, *unread} - places if BUFFER.search(name)}
    lost = sorted({*unread, *by_rule} - known - {name for name in by_rule if FURTHER.search(name)})
    if lost:
        raise ModelError(
            f"{card.name}: nothing reads {lost[0]} of {folder} ({len(lost)} such tensors), so this "
            "would be another model; correct config.json (biases, layers, kind) or the weights"
        )
    _refuse_untied(card, folder, model)
    refuse_other_buffers(card, files, known, model)
    ignored = sorted(known | by_rule)
    unknown = ignored_fields(card, folder, model.config)
    other = sorted({*folder.glob("*.safetensors")} - {*files})
    return (
        f"read: {len(names) - len(ignored)} tensors of {folder} as {type(model).__name__}",
        *(f"ignored: {name}" for name in ignored),
        *(f"ignored: {name} of config.json" for name in unknown),
        *(f"ignored: the file {file.name}" for file in other),
        *_report_of_conversion(folder),
    )


def _shards(card: Card, folder: Path) -> list[Path]:
    """The files that hold weights, without their index."""
    return [file for file in read_from(card, folder) if file.suffix == ".safetensors"]


def _names_in(card: Card, files: list[Path], *, packed: bool) -> list[str]:
    """The names of all tensors of some files.

    Raises ModelError for a name that stands in two of them, and for weights stored as integers,
    which transformers reads as if they were the numbers that they stand for.
    """
    home: dict[str, Path] = {}
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - no dict
                if name in home:
                    raise ModelError(
                        f"{card.name}: {name} stands in {home[name].name} and in {file}; get the "
                        "folder again"
                    )
                home[name] = file
                stored = tensors.get_slice(name).get_dtype()
                if stored not in FLOATS and not packed and not BUFFER.search(name):
                    raise ModelError(
                        f"{card.name}: {name} in {file} is stored as {stored}, which is no weight "
                        "by itself; dequantise the weights and save them as float"
                    )
    return list(home)


def _refuse_untied(card: Card, folder: Path, model: PlainModel) -> None:
    """Raise ModelError where config.json ties two weights that differ in the files."""
    # transformers drops a tie from this list when it finds two different weights.
    wanted = model.get_expanded_tied_weights_keys(all_submodels=True)
    if wanted.keys() - model.all_tied_weights_keys.keys():
        raise ModelError(
            f"{card.name}: config.json in {folder} ties embedding and unembedding, but the weights "
            'hold two that differ; set "tie_word_embeddings": false'
        )


def plain_tokenizer(card: Card, folder: Path) -> Tokenizer:
    """The tokenizer of a folder (raises ModelError)."""
    from transformers import AutoTokenizer  # takes seconds to import

    with _quiet():
        try:
            return AutoTokenizer.from_pretrained(folder, **TRUSTED)
        except Exception as error:
            raise ModelError(
                f"{card.name}: no readable tokenizer in {folder} ({first_line(error)}); "
                "put tokenizer.json beside the weights"
            ) from error


def unlike_its_file(folder: Path, tokenizer: Tokenizer) -> tuple[str, ...]:
    """A line for a report where transformers normalises text otherwise than tokenizer.json says."""
    file = folder / "tokenizer.json"
    if not file.is_file() or not hasattr(tokenizer, "backend_tokenizer"):
        return ()
    steps = FileTokenizer.from_file(str(file)).normalizer, tokenizer.backend_tokenizer.normalizer
    stated, used = (one.normalize_str(MARKED) if one else MARKED for one in steps)
    if stated.strip("▁ ") == used.strip("▁ "):  # the space that some put first is no change of text
        return ()
    name = type(tokenizer).__name__
    return (
        f"ignored: the normalizer of tokenizer.json; transformers reads it as {name}, which makes "
        f"{used!r} of {MARKED!r} where the file says {stated!r}",
    )


def _as_stored(card: Card, folder: Path, model: PlainModel) -> Iterator[tuple[str, torch.Tensor]]:
    """Every weight of the files in the model's precision, one at a time.

    The model's own are pages of the same files, which would stay in memory once they were read:
    of an embedding only the rows of tokens that occur are needed.
    """
    kinds = {name: weight.dtype for name, weight in model.named_parameters()}
    for file in _shards(card, folder):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - no dict
                if not BUFFER.search(name):
                    yield name, tensors.get_tensor(name).to(kinds.get(name, model.dtype))


def refuse_not_finite(card: Card, where: Path, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Raise ModelError for weights that are NaN or infinite."""
    for name, weight in weights:
        if not torch.isfinite(weight).all():
            advice = "get or train the weights again"
            if weight.dtype == torch.float16:
                advice = f"or too large for float16: use --dtype float32 or bfloat16, or {advice}"
            raise ModelError(f"{card.name}: {name} in {where} is NaN or infinite; {advice}")


def _convert(file: Path, folder: Path) -> None:
    """Write a .gguf file's model, dequantised, and its tokenizer as a transformers folder.

    Raises ModelError for a file that transformers reads as another model than it is.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer  # takes seconds to import

    gguf = Gguf(file)
    with _quiet():
        place = {"gguf_file": file.name, **TRUSTED}
        refuse_large_gguf(gguf)
        card = Card.of(file.stem, file.parent, {"source": "gguf", "path": file})
        refuse_large_folder(card, file.parent, **place)
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **place)
        as_the_file_splits(gguf, tokenizer).save_pretrained(folder)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            file.parent, dtype=torch.float32, output_loading_info=True, **place
        )
    model, said = loaded
    if said["missing_keys"]:
        raise ValueError(f"{len(said['missing_keys'])} weights are missing")
    report = [*report_of_gguf(gguf, model), *keep_unembedding(gguf, folder)]
    # transformers refuses to save what was read from a .gguf file, so it is written here, and
    # without the note that it was quantised, which would be taken for the state of the new file.
    del model.config.quantization_config
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    model.generation_config.eos_token_id = ends_of_gguf(gguf)
    model.generation_config.save_pretrained(folder)
    (folder / REPORT).write_text("".join(f"{line}\n" for line in report), "utf-8")
    tied = set(model.all_tied_weights_keys)
    weights = {name: w.contiguous() for name, w in model.state_dict().items() if name not in tied}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def _report_of_conversion(folder: Path) -> tuple[str, ...]:
    """What was said when a .gguf file was converted into this folder."""
    report = folder / REPORT
    return tuple(report.read_text("utf-8").splitlines()) if report.is_file() else ()


def _unreadable(card: Card, where: Path, error: Exception) -> ModelError:
    """The error for weights that transformers cannot read."""
    if "trust_remote_code" in str(error):
        return ModelError(
            f"{card.name}: {where} brings code of its own (auto_map in config.json), and that is "
            "never run; use a model of a kind that transformers knows by itself"
        )
    return ModelError(
        f"{card.name}: cannot read {where} ({first_line(error)}); damaged, cut short or of an "
        "unknown kind: get it again"
    )


def first_line(error: Exception) -> str:
    """The first line of an error, shortened."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from reporting what is checked here anyway."""
    from transformers.utils import logging  # takes seconds to import

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
