"""The contract of an experiment: its fields are its configuration, its claims are its answer."""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from experiments._contract.claims import Claim
from experiments._contract.rows import Rows
from experiments._contract.stream import Keep, current_session

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from models import Model
    from viz import Drawing

Batch = TypeVar("Batch")


class UsageError(Exception):
    """A request that cannot be met, in one line: what, where, and the remedy."""


@dataclass(frozen=True)
class Results:
    """The numbers of a run: tidy tables (one observation a row) and arrays, by name.

    A table is a DataFrame or, while it is being measured, `Rows` that stream to disk. Read back
    from a run folder, a table is a DataFrame again, loaded when it is first asked for.
    """

    tables: Mapping[str, pd.DataFrame | Rows]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


class Experiment(BaseModel):
    """A question asked of a model; subclass it in a file of its own, whose stem is its name."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    needs_model: ClassVar[bool] = True
    """False for an experiment without a model, or one that trains its own."""
    quick: ClassVar[Mapping[str, Any]] = {}
    """Fields of a run of a few seconds, for the generic tests, where the defaults take longer."""

    model: str = "adder_6d_2l"
    """Model: a card's name, a path to a card, folder or .gguf file, or a hub id."""
    device: str = Field("cpu", pattern=r"^(cpu|mps|cuda(:\d+)?)$")
    """Where the model runs: cpu, cuda, cuda:1, mps."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of weights and activations; statistics are kept in float64."""
    processing: Literal["none", "folded"] = "none"
    """Weights as they are, or with norms folded in and centred as TransformerLens can do."""
    batch_size: int = Field(32, ge=1)
    """Prompts in one forward pass."""
    seed: int = Field(0, ge=0)
    """Seed of every random choice."""

    @classmethod
    def name(cls) -> str:
        """The stem of the file the experiment is written in."""
        return cls.__module__.rsplit(".", 1)[-1]

    @classmethod
    def question(cls) -> str:
        """The first line of that file's docstring."""
        lines = (sys.modules[cls.__module__].__doc__ or "").strip().splitlines()
        return lines[0] if lines else ""

    @abstractmethod
    def measure(self, model: Model) -> Results:
        """Run the model and return numbers: the only slow part; it sees no paths and no figures."""

    @abstractmethod
    def figures(self, results: Results) -> dict[str, Drawing]:
        """Drawings by title, from stored numbers alone."""

    @abstractmethod
    def claims(self, results: Results) -> list[Claim]:
        """The answer, computed from stored numbers alone."""

    def planted(self) -> Model:
        """A model in which every learned claim holds by construction.

        Raises:
            NotImplementedError: the experiment makes no learned claim.
        """
        raise NotImplementedError(f"{self.name()} makes no learned claim, so it plants no model")

    def stream(
        self, batches: Iterable[Batch], keep: Keep | Iterable[Keep] = (), label: str = "batches"
    ) -> Iterator[Batch]:
        """The batches, with progress shown, `keep` checkpointed, and exact resume.

        Everything that a later step needs must be in `keep`: when a run resumes, batches already
        done are not yielded again and `keep` is restored to what it was after them.
        """
        return current_session().stream(batches, keep, label)

    def rows(self, name: str) -> Rows:
        """An empty table that streams to Parquet; append to it, keep it, and return it."""
        return current_session().rows(name)

    def changed(self) -> dict[str, Any]:
        """The fields that differ from their defaults."""
        fields = type(self).model_fields
        return {k: v for k, v in self.model_dump().items() if v != fields[k].get_default()}
