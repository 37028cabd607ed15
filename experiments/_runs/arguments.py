"""From the words of a command line and a preset to an experiment's fields."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_origin

from pydantic import ValidationError

from experiments._contract.errors import UsageError
from experiments._contract.experiment import Experiment
from experiments._runs.registry import did_you_mean
from experiments._runs.words import split

Fields = dict[str, Any]


def configure(kind: type[Experiment], preset: Path | None, words: Sequence[str]) -> Experiment:
    """The experiment with a preset's fields, and over them those of the command line.

    Raises:
        UsageError: a field is unknown or its value is refused.
    """
    fields = read_toml(preset) if preset else {}
    build(kind, fields, str(preset))  # so that a fault of the preset is told as such
    return build(kind, {**fields, **_from_words(kind, words)}, "command line")


def build(kind: type[Experiment], fields: Mapping[str, Any], where: str) -> Experiment:
    """The experiment with these fields; a refusal names `where` they came from.

    Raises:
        UsageError: a field is unknown or its value is refused.
    """
    for name in fields:
        if name not in kind.model_fields:
            hint = did_you_mean(name, list(kind.model_fields))
            raise UsageError(f"{where}: {kind.name()} has no field {name!r}{hint}")
    try:
        return kind.model_validate(dict(fields))
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(map(str, first["loc"])) or "fields"
        got = f" (got {first['input']!r})" if first["loc"] else ""
        said = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"{where}: {kind.name()}, field {at}: {said}{got}") from error


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        UsageError: it is missing or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {(error.strerror or 'unreadable').lower()}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not a TOML file: {error}") from None


def _from_words(kind: type[Experiment], words: Sequence[str]) -> Fields:
    return {name: _value(kind, name, values) for name, values in split(words).items()}


def _value(kind: type[Experiment], name: str, values: list[str]) -> Any:
    field = kind.model_fields.get(name)
    if field is not None and not values and field.annotation is not bool:
        option = f"--{name.replace('_', '-')}"
        raise UsageError(
            f"command line: {option} needs a value; one that begins with -- is written "
            f"{option}=VALUE, or stands in a file"
        )
    if field is not None and get_origin(field.annotation) in (list, tuple):
        return values
    if len(values) > 1:
        raise UsageError(f"command line: --{name} takes one value, got {len(values)}: {values}")
    return values[0] if values else True
