"""A trained model on disk, and an adder with a card of its own, loaded and checked."""

import json
import platform
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch
from tokenizers import Regex, Tokenizer, pre_tokenizers, processors
from tokenizers import decoders as token_decoders
from tokenizers.models import WordLevel

from models.loading import load
from models.protocol import Model
from models.train.recipe import TrainedCard
from models.train.sums import MARK
from prompts.additions import (
    AdditionFormat,
)

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast


def tokenizer_of(style: AdditionFormat) -> "PreTrainedTokenizerFast":
    """A tokenizer that cuts a text into the vocabulary's signs and puts `<bos>` in front."""
    tokenizer = Tokenizer(WordLevel(style.vocabulary, unk_token=MARK))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    return begun(tokenizer)


def begun(tokenizer: Tokenizer) -> "PreTrainedTokenizerFast":
    """A tokenizer as transformers takes it, which puts `<bos>` in front of a text."""
    from transformers import PreTrainedTokenizerFast  # heavy: only where a model is stored

    tokenizer.decoder = token_decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{MARK} $A", special_tokens=[(MARK, tokenizer.token_to_id(MARK))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=MARK, eos_token=MARK, pad_token=MARK
    )


def store(net: "GPT2LMHeadModel", tokenizer: "PreTrainedTokenizerFast", folder: Path) -> None:
    """Write weights and tokenizer as plain transformers reads them."""
    from transformers.utils import logging  # heavy: only where a model is stored

    logging.disable_progress_bar()
    folder.mkdir(parents=True, exist_ok=True)
    net.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def log_training(card: TrainedCard, seconds: float, accepted: bool) -> str:
    """Write `training.json`: what was trained, with what and for how long; the weights' sha256."""
    from transformers import __version__  # heavy: only where a model is stored

    digest = sha256((card.path / "model.safetensors").read_bytes()).hexdigest()
    used = {"python": platform.python_version(), "torch": torch.__version__}
    log = card.model_dump(exclude={"path"}) | {
        "seconds": round(seconds, 1),
        "machine": platform.machine(),
        "versions": used | {"transformers": __version__},
        "accepted": accepted,
        "sha256": digest,
    }
    (card.path / "training.json").write_text(json.dumps(log, indent=2) + "\n", encoding="utf-8")
    return digest


def store_with_card(adder: "GPT2LMHeadModel", style: AdditionFormat, folder: Path) -> None:
    """Write an adder and, beside it, the `card.toml` under which it can be loaded."""
    store(adder, tokenizer_of(style), folder)
    described = style.model_dump()
    vocabulary = described.pop("vocabulary")
    text = f"""source = "transformers"\npath = "."\n\n[arithmetic]\n{toml_lines(described)}
[arithmetic.vocabulary]\n{toml_lines(vocabulary)}"""
    (folder / "card.toml").write_text(text, encoding="utf-8")


def toml_lines(table: Mapping[str, object]) -> str:
    """A table of strings, numbers, truth values and lists of them as TOML writes it."""
    return "".join(f"{json.dumps(k)} = {json.dumps(v)}\n" for k, v in table.items())


def loaded(adder: "GPT2LMHeadModel", style: AdditionFormat) -> Model:
    """The adder as it is now, checked as any model is; more training leaves it as it is.

    On the device the adder is on.
    """
    with TemporaryDirectory(prefix="carrylens-") as folder:
        store_with_card(adder, style, Path(folder))
        return load(str(Path(folder) / "card.toml"), device=str(adder.device))
