"""The contract of an experiment: its fields are its configuration, its claims are its answer."""

import re
import sys
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar, overload

import numpy as np
import pandas as pd
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from experiments._contract.claims import Claim
from experiments._contract.memory import give_back
from experiments._contract.reading import Reading
from experiments._contract.rows import Rows
from experiments._contract.stream import Keep, current_session
from experiments._contract.tables import Table
from prompts.given import file_and_column

if TYPE_CHECKING:
    from models import Model
    from viz import Figure

Item = TypeVar("Item")
LARGEST = 2**31 - 1
"""Of a whole number in a field; counts beyond are slips of the hand."""


class Frames(Mapping[str, pd.DataFrame]):
    """Tables by name, each a DataFrame when asked for, also while it still streams to disk."""

    def __init__(self, tables: Mapping[str, pd.DataFrame | Rows]) -> None:
        self.stored = dict(tables)
        """As they were given: tables that stream stay on disk."""

    def __getitem__(self, name: str) -> pd.DataFrame:
        table = self.stored[name]
        return table.frame() if isinstance(table, Rows) else table

    def pieces(self, name: str, columns: list[str] | None = None) -> Iterator[pd.DataFrame]:
        """See `Results.pieces`."""
        table = self.stored[name]
        if isinstance(table, Rows):
            yield from table.pieces(columns)
        else:
            yield table if columns is None else table[columns]

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)


@dataclass(frozen=True)
class Results:
    """The numbers of a run: tidy tables (one observation a row) and arrays, by name.

    Given as DataFrames, or `Rows` that stream to disk; read as DataFrames in any case.
    """

    tables: Mapping[str, pd.DataFrame]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.tables, dict):
            object.__setattr__(self, "tables", Frames(self.tables))

    def pieces(self, name: str, columns: list[str] | None = None) -> Iterator[pd.DataFrame]:
        """A long table, or some columns of it, in groups of rows: numbered as in the whole."""
        return self.tables.pieces(name, columns)


class Experiment(BaseModel):
    """A question asked of a model; subclass it in a file of its own, whose stem is its name.

    The first line of the file's docstring is the question; the docstring of the class says how it
    is answered, in plain words.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    needs_model: ClassVar[bool] = True
    """False for an experiment without a model, or one that trains its own."""
    takes_model: ClassVar[bool] = False
    """True where no model is needed, and one that `model` names (other than none) is read too."""
    quick: ClassVar[Mapping[str, Any]] = {}
    """Fields of a run of a few seconds, for the generic tests, where the defaults take longer."""
    in_one_piece: ClassVar[str] = ""
    """Why a run cannot be shared by several processes, where that is so."""
    runs_on: ClassVar[str] = ""
    """For `list`: models it is for and the time it takes on two cores, such as "adder 5 s"."""
    related: ClassVar[tuple[str, ...]] = ()
    """Experiments whose answers belong beside this one's; the page leads to their newest run."""
    tables: ClassVar[Mapping[str, Table]]
    """Every table that `measure` gives: what a row is, and what the columns are."""
    reading: ClassVar[Reading]
    """How the answer may be read: causal or not, what it assumes, what it does not show."""

    model: str = "adder_6d_2l"
    """Model: a card's name, a path to a card, folder or .gguf file, or a hub id."""
    device: str = "cpu"
    """Where the model runs: cpu, cuda, cuda:1, mps."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of weights and activations; statistics are kept in float64."""
    processing: Literal["none", "folded"] = "none"
    """Weights as they are, or with norms folded in and centred as TransformerLens can do."""
    batch_size: int = Field(32, ge=1, le=10**6)
    """Prompts in one forward pass."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Seed of every random choice."""

    @field_validator("*")
    @classmethod
    def _within_bounds(cls, value: Any) -> Any:
        """Refuse whole numbers that nothing can count to, also in lists."""
        for number in value if isinstance(value, list | tuple) else [value]:
            if isinstance(number, int) and abs(number) > LARGEST:
                raise ValueError(f"at most {LARGEST:,}, please")
        return value

    @field_validator("device")
    @classmethod
    def _one_device(cls, value: str) -> str:
        """Refuse what names no device, or several."""
        if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", value):
            raise ValueError("give cpu, mps, cuda or, of several, one such as cuda:1")
        return value

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
    def measure(self, model: "Model") -> Results | dict[str, pd.DataFrame]:
        """Run the model and return numbers: the only slow part; it sees no paths and no figures."""

    @abstractmethod
    def headline(self, results: Results) -> str:
        """The answer in one or two plain sentences, from stored numbers alone.

        It names heads, layers and numbers, and says so where nothing can be answered.
        """

    @abstractmethod
    def claims(self, results: Results) -> list[Claim]:
        """The evidence, claim by claim, from stored numbers alone."""

    @abstractmethod
    def figures(self, results: Results) -> "dict[str, Figure]":
        """Figures by title, from stored numbers alone; the first one shows the headline.

        A figure is a drawing of `viz`, a matplotlib figure, a seaborn grid, a plotly figure, a
        circuitsvis object or a DataFrame.
        """

    def planted(self) -> "Model":
        """A model in which every learned claim holds by construction.

        Raises:
            NotImplementedError: the experiment makes no learned claim.
        """
        raise NotImplementedError(f"{self.name()} makes no learned claim, so it plants no model")

    @overload
    def stream(
        self, items: Iterable[Item], keep: Keep | Iterable[Keep] = ..., label: str = ...
    ) -> Iterator[Item]: ...

    @overload
    def stream(
        self, items: Sequence[Item], keep: Keep | Iterable[Keep], label: str, size: int
    ) -> Iterator[Sequence[Item]]: ...

    def stream(
        self,
        items: Any,
        keep: Keep | Iterable[Keep] = (),
        label: str = "batches",
        size: int | None = None,
    ) -> Iterator[Any]:
        """The items, or batches of `size` of them, with progress shown and exact resume.

        Everything that a later step needs must be in `keep`: it is checkpointed, and when a run
        resumes, items already done are not yielded again and `keep` is restored to what it was
        after them.
        """
        if size is not None:
            items = [items[start : start + size] for start in range(0, len(items), size)]
        return current_session().stream(items, keep, label)

    @property
    def has_model(self) -> bool:
        """Whether a model is loaded and given to `measure`."""
        return self.needs_model or (self.takes_model and self.model != "none")

    def rows(self, name: str) -> Rows:
        """An empty table that streams to Parquet; append to it, keep it, and return it."""
        return current_session().rows(name, type(self).tables.get(name))

    def twins(self, model: "Model", count: int) -> "Iterator[Model]":
        """Models of the same shape with random weights, one at a time.

        A twin's weights are freed when the next one is asked for: keep numbers, not the twin.
        """
        from models import untrained  # heavy, and only where twins are made

        for number in range(count):
            give_back()
            twin = untrained(model, self.seed + number)
            yield twin
            for weight in twin.parameters():
                weight.data = weight.data.new_empty(0)

    def changed(self) -> dict[str, Any]:
        """The fields that differ from their defaults."""
        fields = type(self).model_fields
        return {k: v for k, v in self.model_dump().items() if v != fields[k].get_default()}


def _there(path: Path) -> Path:
    file, _ = file_and_column(path)
    if not file.is_file():
        raise ValueError(f"no file {file}; correct the path")
    return path


TextFile = Annotated[Path, AfterValidator(_there)]
"""A file of texts, or `file.csv:column`."""


class TextStudy(Experiment):
    """A question asked of texts, which a user may bring."""

    prompts: tuple[str, ...] = ()
    """Texts to read; without any, those that come along (adders: sampled additions)."""
    prompts_file: TextFile | None = None
    """A file with more texts: .txt, one a line; .csv, .tsv or .jsonl, with file.csv:column."""
