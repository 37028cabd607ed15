"""What a model is trained by: the `[training]` table of its card."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from prompts.additions import (
    AdditionFormat,
)


class Recipe(BaseModel):
    """The fields of a `[training]` table that every model has."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    layers: int = Field(ge=1, le=1_000)
    """Layers."""
    heads: int = Field(ge=1, le=2**14)
    """Attention heads in each layer."""
    width: int = Field(ge=1, le=2**16)
    """d_model; the MLP is four times as wide."""
    steps: int = Field(ge=1, le=10**9)
    """Optimiser steps."""
    warm_up: int = Field(300, ge=0, le=10**9)
    """Steps over which the learning rate rises to its peak, to fall along a cosine to 1 %."""
    learning_rate: float = Field(gt=0, le=10)
    """Peak learning rate of AdamW."""
    batch: int = Field(512, ge=1, le=10**6)
    """Additions, or passages of a text, a step."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Seed of the weights and of what is drawn for each step."""


class Training(Recipe):
    """The `[training]` table of an adder's card."""

    keep_at: tuple[Annotated[int, Field(ge=0, le=10**9)], ...] = ()
    """Steps after which the adder is also stored as it then is; 0 is before the first."""
    exact: bool
    """Whether a single wrong answer in the acceptance test refuses the adder."""
    uniform: int = Field(1_000_000, ge=1, le=10**9)
    """Uniform additions in the acceptance test."""
    per_cell: int = Field(2_000, ge=1, le=10**7)
    """Additions of every cell in the acceptance test."""
    per_pattern: int = Field(100, ge=1, le=10**7)
    """Additions of each of the 3^digits patterns of K, P and G columns in the acceptance test."""


class WordTraining(Recipe):
    """The `[training]` table of the card of a model of a text, word by word."""

    text: Literal["King James Bible"]
    """What it is trained on, but for every tenth chapter."""
    words: int = Field(ge=2, le=2**16)
    """Size of its vocabulary: the most frequent words and marks, `<bos>` and `<unk>`."""
    context: int = Field(ge=2, le=2**16)
    """Tokens that it reads at most."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of each state that is left out at random in training."""


class TrainedCard(BaseModel):
    """What training needs of a model card; the weights need not exist yet."""

    path: Path

    @classmethod
    def read(cls, file: Path) -> Self:
        """The card in `file`; a relative path in it starts from the card's folder.

        Raises ValidationError (pydantic) or TOMLDecodeError for a card of another kind.
        """
        table = tomllib.loads(file.read_text(encoding="utf-8"))
        card = cls.model_validate(table)
        return card.model_copy(update={"path": (file.parent / card.path).resolve()})


class AdderCard(TrainedCard):
    """Of an adder."""

    arithmetic: AdditionFormat
    training: Training


class WordCard(TrainedCard):
    """Of a model of a text."""

    training: WordTraining


def card_to_train(file: Path) -> AdderCard | WordCard:
    """The card in `file`: an adder's unless it has a table `[training]` and no `[arithmetic]`."""
    tables = tomllib.loads(file.read_text(encoding="utf-8")).keys()
    is_of_words = "training" in tables and "arithmetic" not in tables
    return (WordCard if is_of_words else AdderCard).read(file)
