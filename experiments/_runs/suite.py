"""Several runs from one TOML file, in one process, each model loaded once."""

from pathlib import Path
from typing import TYPE_CHECKING

from experiments._contract.errors import UsageError
from experiments._contract.experiment import Experiment
from experiments._contract.progress import say
from experiments._runs.arguments import build, read_toml
from experiments._runs.finding import find
from experiments._runs.manifest import run_hash
from experiments._runs.run import RUNS, find_run, load_model, run
from viz import write_gallery

if TYPE_CHECKING:
    from models import Model


def read_suite(path: Path) -> list[Experiment]:
    """The runs of a suite, every one of them validated.

    A suite is a list of tables `[[run]]`, each with `experiment = "NAME"` and that experiment's
    fields.

    Raises:
        UsageError: the file, an experiment's name or a field is wrong.
    """
    content = read_toml(path)
    if set(content) != {"run"} or not isinstance(content["run"], list):
        raise UsageError(f"{path}: a suite is a list of [[run]] tables and nothing else")
    return [_point(f"{path}, run {i}", dict(t)) for i, t in enumerate(content["run"], start=1)]


def run_suite(points: list[Experiment]) -> int:
    """Run every point that is not finished, printing each folder; then rebuild the gallery."""
    loader = _LastModel()
    for number, point in enumerate(points, start=1):
        say(f"[{number}/{len(points)}] {point.name()} on {point.model}")
        done = find_run(point, run_hash(point), finished=True)
        print(done or run(point, loader=loader), flush=True)
    print(write_gallery(RUNS).resolve(), flush=True)
    return 0


class _LastModel:
    """Loads a model unless the run before used the same one."""

    def __init__(self) -> None:
        self._key: tuple[str, ...] = ()
        self._model: Model | None = None

    def __call__(self, experiment: Experiment) -> "Model | None":
        key = (experiment.model, experiment.device, experiment.dtype, experiment.processing)
        if key != self._key:
            self._model = None  # frees its memory before the next one is loaded
            self._model, self._key = load_model(experiment), key
        return self._model


def _point(where: str, table: dict) -> Experiment:
    if not isinstance(table.get("experiment"), str):
        raise UsageError(f'{where}: needs experiment = "NAME"')
    return build(find(table.pop("experiment")), table, where)
