"""What an adder is trained by: the `[training]` table of its card."""

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from prompts.additions import (
    AdditionFormat,
)


class Training(BaseModel):
    """The `[training]` table of a card."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    layers: int = Field(ge=1, le=1_000)
    """Blocks."""
    heads: int = Field(ge=1, le=2**14)
    """Attention heads in each block."""
    width: int = Field(ge=1, le=2**16)
    """d_model; the MLP is four times as wide."""
    steps: int = Field(ge=1, le=10**9)
    """Optimiser steps."""
    warm_up: int = Field(300, ge=0, le=10**9)
    """Steps over which the learning rate rises to its peak, to fall along a cosine to 1 %."""
    learning_rate: float = Field(gt=0, le=10)
    """Peak learning rate of AdamW."""
    batch: int = Field(512, ge=1, le=10**6)
    """Additions a step."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Seed of the weights and of the additions."""
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
