"""A run from Python: started, or opened again from disk, with its answer, numbers and figures."""

import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments._contract.claims import Claim
from experiments._contract.errors import UsageError
from experiments._contract.experiment import Experiment, Results
from experiments._contract.progress import say
from experiments._runs import answers
from experiments._runs import run as runs
from experiments._runs.arguments import build
from experiments._runs.finding import registered
from experiments._runs.folders import RUNS, folder_of, slug
from experiments._runs.manifest import manifest_of, run_hash, verify
from experiments._runs.registry import did_you_mean
from experiments._runs.run import Loader, find_run, load_model
from experiments._runs.store import Arrays, Tables, write_manifest
from viz import as_drawing, moment, run_html, write_gallery

if TYPE_CHECKING:
    from viz import Drawing


class Run:
    """A run on disk: its answer, its numbers, its figures. It shows itself in a notebook."""

    def __init__(self, folder: Path, experiment: Experiment | None = None) -> None:
        self.folder, self._known = folder.resolve(), experiment
        self.manifest = manifest_of(folder)
        """All that the run says of itself."""

    @property
    def headline(self) -> str:
        """The answer in a sentence or two."""
        return self.manifest["headline"]

    @property
    def page(self) -> Path:
        """The page, which opens from disk."""
        return self.folder / "index.html"

    @cached_property
    def claims(self) -> list[Claim]:
        """The evidence, claim by claim."""
        return [Claim.model_validate(claim) for claim in self.manifest["claims"]]

    @cached_property
    def tables(self) -> Tables:
        """Every table by name as a DataFrame, read when it is asked for."""
        return Tables(self.folder, self._files)

    @cached_property
    def arrays(self) -> Mapping[str, np.ndarray]:
        """Every array by name, read when it is asked for."""
        return Arrays(self.folder, self._files)

    @cached_property
    def experiment(self) -> Experiment:
        """What was asked, with every field.

        Raises:
            UsageError: it is in a file that is not registered and was not imported.
        """
        if self._known is not None:
            return self._known
        where = f"{self.folder}/manifest.json"
        return build(registered(self.manifest["source"], where), self.manifest["fields"], where)

    @cached_property
    def figures(self) -> "Mapping[str, Drawing]":
        """Figures by title, drawn from the stored numbers by the experiment as it is now.

        A figure has `data`, a `caption`, a `widget` where it is interactive, and `figure()`, a
        matplotlib figure to change and save.
        """
        drawn = answers.figures(self.experiment, Results(self.tables, self.arrays))
        return {title: as_drawing(title, figure) for title, figure in drawn.items()}

    @property
    def shown(self) -> Path:
        """The folder as it is printed: from the current one on where it lies below."""
        here = Path.cwd()
        return self.folder.relative_to(here) if self.folder.is_relative_to(here) else self.folder

    def figure(self, title: str | None = None) -> "tuple[str, Drawing]":
        """Title and drawing of the figure of this title, or the first one.

        Raises:
            UsageError: there is none, with the nearest that there is.
        """
        titles = list(self.figures)
        for known in titles:
            if title is None or title.casefold() in (known.casefold(), slug(known)):
                return known, self.figures[known]
        listed = "; ".join(titles)
        raise UsageError(f"no figure {title!r}{did_you_mean(title, titles)}; there are: {listed}")

    def _repr_html_(self) -> str:
        """The headline, the evidence and the first figure, without scripts or network."""
        return run_html(self.folder, self.manifest)

    def __repr__(self) -> str:
        about = " on ".join(filter(None, [self.manifest["experiment"], self._model]))
        return f"<Run of {about}: {self.headline or self.manifest['status']} {self.folder}>"

    @property
    def _files(self) -> Mapping[str, Any]:
        """The hash of each file; numbers with another one are refused."""
        return self.manifest.get("files", {})

    @property
    def _model(self) -> str:
        return self.manifest["model"]["name"]


def run(experiment: Experiment, *, model: Any = None, fresh: bool = False, label: str = "") -> Run:
    """Run an experiment and open the run; one that was broken off goes on.

    `model` is a name as for `--model`, or any model in memory (`models.wrap` checks it). Where an
    identical run is on disk, that one is opened, unless `fresh`. `label` names the run.

    Raises:
        UsageError, ModelError: the request cannot be met; one line says why.
    """
    if not isinstance(experiment, Experiment):
        raise UsageError(
            f"run: takes an experiment, not {experiment!r:.60}; call its class, as in "
            "run(HeadContributions(model='adder_6d_1l'))"
        )
    if not hasattr(sys.modules[type(experiment).__module__], "__file__"):
        raise UsageError(
            f"{type(experiment).__name__} is in no file, so its run could not be told from others: "
            "write it to one (in a notebook %%writefile mine.py) and import it from there"
        )
    if model is None or isinstance(model, str | Path):
        named = experiment if model is None else _with(experiment, model=str(model))
        return started(named, fresh=fresh, label=label)
    from models import wrap  # imports torch's own libraries, as loading does

    ours = wrap(model)
    asked = _with(
        experiment,
        model=ours.card.name,
        device=str(ours.cfg.device),
        dtype=ours.card.dtype,
        processing=ours.processing,
    )
    return started(asked, fresh=fresh, label=label, loader=lambda _: ours, card=ours.card)


def _with(experiment: Experiment, **fields: str) -> Experiment:
    kind = type(experiment)
    # Not dict(experiment): a field may be called `keys`.
    known = {name: getattr(experiment, name) for name in kind.model_fields}
    return kind.model_validate(known | fields)


def started(
    experiment: Experiment,
    *,
    fresh: bool = False,
    label: str = "",
    loader: Loader = load_model,
    **memory: Any,
) -> Run:
    """The run of an experiment: an identical one that is on disk and whole, or a new one."""
    digest = run_hash(experiment, *memory.values())
    done = None if fresh else find_run(experiment, digest, finished=True)
    if done is not None and (faults := verify(done)):
        say(f"{faults[0]}; running again")
        done = None
    if done is None:
        options = {"fresh": fresh, "label": label, "loader": loader}
        folder = runs.run(experiment, **options, **memory)
    else:
        folder = done
        say(f"An identical run of {moment(manifest_of(done)['started'])} exists: {done}")
        if label:
            write_manifest(done, manifest_of(done) | {"label": label})
    write_gallery(RUNS)
    return Run(folder, experiment)


def open_run(run: str | Path) -> Run:
    """A run on disk: by its folder, by the beginning of its hash, or by its label.

    Raises:
        UsageError: there is none, or different ones begin so.
    """
    return Run(folder_of(run))
