"""What an experiment answers, asked for piece by piece; what is none is refused in one line."""

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from experiments._contract.claims import Claim, with_minus
from experiments._contract.errors import UsageError
from experiments._contract.experiment import Experiment, Results


def headline(experiment: Experiment, results: Results) -> str:
    """The answer in a sentence (raises UsageError where it is none)."""
    said = experiment.headline(results)
    if not isinstance(said, str):
        raise UsageError(f"{experiment.name()}: headline gave {_kind(said)}; return a sentence")
    return with_minus(said)


def claims(experiment: Experiment, results: Results) -> list[Claim]:
    """The evidence (raises UsageError for what is no claim, with the line that made it)."""
    with _told(experiment):
        made = experiment.claims(results)
    listed = list(made) if isinstance(made, list | tuple) else [made]
    for claim in listed:
        if not isinstance(claim, Claim):
            raise UsageError(
                f"{experiment.name()}: claims gave {_kind(claim)}; return a list of Claims"
            )
    return listed


def figures(experiment: Experiment, results: Results) -> Mapping[str, Any]:
    """Figures by title (raises UsageError where they have none)."""
    drawn = experiment.figures(results)
    if not isinstance(drawn, Mapping):
        raise UsageError(
            f"{experiment.name()}: figures gave {_kind(drawn)}; return a dict of figures by title"
        )
    return drawn


def _kind(thing: Any) -> str:
    return "nothing" if thing is None else f"a {type(thing).__name__}"


@contextmanager
def _told(experiment: Experiment) -> Iterator[None]:
    """Turn a claim that pydantic refuses into one line that names the file, line and field."""
    try:
        yield
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(map(str, fault["loc"])) or "claim"
        said = fault["msg"].removeprefix("Value error, ")
        got = f" (got {fault['input']!r})" if fault["loc"] else ""
        where = _where(experiment, error)
        raise UsageError(f"{where}: {error.title}, {field}: {said}{got}") from error


def _where(experiment: Experiment, error: Exception) -> str:
    """The line of the experiment's own file that an error comes from."""
    own = [f for f in traceback.extract_tb(error.__traceback__) if _is_own(experiment, f.filename)]
    return f"{Path(own[-1].filename).name}, line {own[-1].lineno}" if own else experiment.name()


def _is_own(experiment: Experiment, file: str) -> bool:
    return Path(file).stem == experiment.name()
