"""Adders on their way through training: trained here step by step, or read where they were kept."""

import json
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from jaxtyping import Float

from models.card import ModelError
from models.loading import load
from models.protocol import Model
from models.train.recipe import Training
from models.train.storing import loaded
from models.train.trainer import Trainer
from prompts.additions import AdditionFormat

PARTS = 100
"""A training is gone through in about this many equal parts, and may be examined after each."""

FALLS = 8
"""It is examined whenever the loss has fallen by this part of what it was at first."""


class Course(Protocol):
    """One or several trainings, gone through in order."""

    style: AdditionFormat
    """How the adders write additions."""
    plan: list[tuple[int, int]]
    """(seed, steps done) of each stop."""

    def reach(self, seed: int, step: int) -> pd.DataFrame:
        """Go on to a stop of the plan; the loss by step and place on the way."""

    def is_due(self) -> bool:
        """Whether the adder should be examined at this stop."""

    def adder(self) -> Model:
        """The adder as it is at this stop."""

    def state(self) -> dict[str, np.ndarray]:
        """All that going on from here takes."""

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go back to a state."""


class Trainings:
    """A `Course` of adders that are trained here, one seed after the other.

    They are examined at step 0, at `examined` steps each as many times the one before, and
    whenever the loss has fallen by one of FALLS parts.
    """

    def __init__(
        self, style: AdditionFormat, recipes: list[Training], examined: int, device: str
    ) -> None:
        self.style, self.examined, self.device = style, examined, device
        self.plan = [(recipe.seed, step) for recipe in recipes for step in stops(recipe)]
        self._recipes = {recipe.seed: recipe for recipe in recipes}
        self._trainer: Trainer | None = None
        self._losses = np.zeros(2)  # at first, and when it was last examined
        self._due = False

    def reach(self, seed: int, step: int) -> pd.DataFrame:
        """Train until `step`; the mean loss of each place on the way there, no rows for step 0."""
        if self._trainer is None or self._trainer.training.seed != seed:
            self._trainer = Trainer(self.style, self._recipes[seed], self.device)
        losses = [self._trainer.advance() for _ in range(step - self._trainer.step)]
        self._due = self._is_spaced(step) or self._fell(losses, step)
        if not losses:
            return pd.DataFrame()
        place = np.arange(self.style.digits + 1)
        return pd.DataFrame({"place": place, "loss": np.nanmean(losses, axis=0)})

    def _is_spaced(self, step: int) -> bool:
        return step in spaced(self._trainer.training, self.examined)

    def _fell(self, losses: list[Float[np.ndarray, "answer"]], step: int) -> bool:
        """Whether the loss has fallen enough since the adder was last examined."""
        if not losses:
            return False
        now = float(np.nanmean(losses))
        if step == stops(self._trainer.training)[1]:
            self._losses[:] = now
        fell = self._losses[1] - now >= self._losses[0] / FALLS
        if fell or self._is_spaced(step):
            self._losses[1] = now
        return fell

    def is_due(self) -> bool:
        """Whether the stop is one of the spaced ones, or the loss has fallen enough."""
        return self._due

    def adder(self) -> Model:
        """The adder as it is now; more training leaves it as it is."""
        return loaded(self._trainer.adder, self.style)

    def state(self) -> dict[str, np.ndarray]:
        """The training that is going on, and the losses that say when to examine it."""
        if self._trainer is None:
            return {}
        seed = np.array(self._trainer.training.seed)
        return {"seed": seed, "losses": self._losses.copy(), **self._trainer.state()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go back to a state, from which the training is the same as it was."""
        self._trainer = None
        if state:
            self._losses = state["losses"].copy()
            self._trainer = Trainer(self.style, self._recipes[int(state["seed"])], self.device)
            self._trainer.restore(state)


def stops(recipe: Training) -> list[int]:
    """Steps at which a training may be examined: 0, its end, and equal parts between."""
    part = max(1, recipe.steps // PARTS)
    return [*range(0, recipe.steps, part), recipe.steps]


def spaced(recipe: Training, count: int) -> set[int]:
    """The stops nearest to 0 and to `count` steps that grow by equal factors up to the end."""
    every = np.array(stops(recipe))
    wanted = [0, *np.geomspace(recipe.steps, min(2 * every[1], recipe.steps), count)]
    return {int(every[np.abs(every - step).argmin()]) for step in wanted}


class Kept:
    """A `Course` of adders that `models.train` kept on the way (`keep_at`), one folder a seed."""

    def __init__(self, folders: list[Path], device: str) -> None:
        self.device = device
        logs = [_log(folder) for folder in folders]
        styles = [AdditionFormat.model_validate(log["arithmetic"]) for log in logs]
        seeds = [int(log["training"]["seed"]) for log in logs]
        if len(set(seeds)) < len(seeds) or any(style != styles[0] for style in styles):
            raise ModelError(f"{folders[0]} and others: not one format and a seed of its own each")
        self.style = styles[0]
        self._folders = dict(zip(seeds, folders, strict=True))
        self.plan = [(seed, step) for seed, at in self._folders.items() for step in _steps(at)]
        self._at = self.plan[0]

    def reach(self, seed: int, step: int) -> pd.DataFrame:
        """Go to a kept step; the learning curve since the one before."""
        before = [s for of, s in self.plan if of == seed and s < step]
        self._at = (seed, step)
        curve = pd.read_parquet(self._folders[seed] / "learning_curve.parquet")
        return curve[(curve["step"] > max(before, default=0)) & (curve["step"] <= step)]

    def is_due(self) -> bool:
        """What was kept is examined."""
        return True

    def adder(self) -> Model:
        """The adder as it was kept."""
        seed, step = self._at
        card = self._folders[seed] / "steps" / f"{step:06d}" / "card.toml"
        return load(str(card), device=self.device)

    def state(self) -> dict[str, np.ndarray]:
        """Nothing: every step lies on disk."""
        return {}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Nothing to go back to."""


def _log(folder: Path) -> dict:
    """What `models.train` wrote of a training; raises ModelError where there is no such thing."""
    try:
        return json.loads((folder / "training.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: holds no training of models.train ({error})") from error


def _steps(folder: Path) -> list[int]:
    """The steps kept of a training; raises ModelError where there are none."""
    steps = sorted(int(card.parent.name) for card in folder.glob("steps/*/card.toml"))
    if not steps:
        raise ModelError(
            f"{folder}: no steps were kept; give [training] of its card a keep_at and train again"
        )
    return steps
