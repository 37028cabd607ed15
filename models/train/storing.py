"""A trained adder on disk, with a card of its own, and as a model that is checked."""

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tokenizers import Regex, Tokenizer, pre_tokenizers, processors
from tokenizers import decoders as token_decoders
from tokenizers.models import WordLevel

from models.loading import load
from models.protocol import Model
from models.train.sums import MARK
from prompts.additions import (
    AdditionFormat,
)

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast


def tokenizer_of(style: AdditionFormat) -> "PreTrainedTokenizerFast":
    """A tokenizer that cuts a text into the vocabulary's signs and puts `<bos>` in front."""
    from transformers import PreTrainedTokenizerFast  # heavy: only where an adder is stored

    tokenizer = Tokenizer(WordLevel(style.vocabulary, unk_token=MARK))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = token_decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{MARK} $A", special_tokens=[(MARK, style.vocabulary[MARK])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=MARK, eos_token=MARK, pad_token=MARK
    )


def store(adder: "GPT2LMHeadModel", style: AdditionFormat, folder: Path) -> None:
    """Write weights and tokenizer as plain transformers reads them."""
    from transformers.utils import logging  # heavy: only where an adder is stored

    logging.disable_progress_bar()
    folder.mkdir(parents=True, exist_ok=True)
    adder.save_pretrained(folder)
    tokenizer_of(style).save_pretrained(folder)


def store_with_card(adder: "GPT2LMHeadModel", style: AdditionFormat, folder: Path) -> None:
    """Write an adder and, beside it, the `card.toml` under which it can be loaded."""
    store(adder, style, folder)
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
