"""What an adder is trained by: the `[training]` table of its card."""

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from prompts.additions import (
    AdditionFormat,
)


class Training(BaseModel):
    """The `[training]` table of a card."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    layers: int = Field(ge=1)
    """Blocks."""
    heads: int = Field(ge=1)
    """Attention heads in each block."""
    width: int = Field(ge=1)
    """d_model; the MLP is four times as wide."""
    steps: int = Field(ge=1)
    """Optimiser steps."""
    warm_up: int = 300
    """Steps over which the learning rate rises to its peak, to fall along a cosine to 1 %."""
    learning_rate: float = Field(gt=0)
    """Peak learning rate of AdamW."""
    batch: int = 512
    """Additions a step."""
    seed: int = 0
    """Seed of the weights and of the additions."""
    keep_at: tuple[int, ...] = ()
    """Steps after which the adder is also stored as it then is; 0 is before the first."""
    exact: bool
    """Whether a single wrong answer in the acceptance test refuses the adder."""
    uniform: int = 1_000_000
    """Uniform additions in the acceptance test."""
    per_cell: int = 2_000
    """Additions of every cell in the acceptance test."""
    per_pattern: int = 100
    """Additions of each of the 3^digits patterns of K, P and G columns in the acceptance test."""


class AdderCard(BaseModel):
    """What training needs of a model card; the weights need not exist yet."""

    path: Path
    arithmetic: AdditionFormat
    training: Training

    @classmethod
    def read(cls, file: Path) -> "AdderCard":
        """The card in `file`; a relative path in it starts from the card's folder.

        Raises ValidationError (pydantic) or TOMLDecodeError for a card that is no adder's.
        """
        table = tomllib.loads(file.read_text(encoding="utf-8"))
        card = cls.model_validate(table)
        return card.model_copy(update={"path": (file.parent / card.path).resolve()})
