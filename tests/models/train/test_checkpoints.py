"""Trainings gone through step by step, stopped and taken up, and read where they were kept."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from models import ModelError
from models.train.__main__ import main
from models.train.checkpoints import FALLS, Kept, Trainings, spaced, stops
from models.train.recipe import Training
from models.train.trainer import Trainer
from prompts.additions import AdditionFormat

VOCABULARY = {**{str(digit): digit for digit in range(10)}, "+": 10, "=": 11, "<bos>": 12}
STYLE = AdditionFormat(digits=2, layout=("<bos>", *"a+b=c"), vocabulary=VOCABULARY)
RECIPE = Training(
    layers=1, heads=2, width=16, steps=12, warm_up=2, learning_rate=1e-2, batch=32, exact=False
)

CARD = """
source = "transformers"
path = "SEED"
[arithmetic]
digits = 2
layout = ["<bos>", "a", "+", "b", "=", "c"]
vocabulary = {0=0, 1=1, 2=2, 3=3, 4=4, 5=5, 6=6, 7=7, 8=8, 9=9, "+"=10, "="=11, "<bos>"=12}
[training]
layers = 1
heads = 2
width = 16
steps = 12
warm_up = 2
learning_rate = 1e-2
batch = 32
seed = SEED
keep_at = [0, 5, 12]
exact = false
uniform = 10
per_cell = 2
per_pattern = 1
"""


def recipes(*seeds: int) -> list[Training]:
    return [RECIPE.model_copy(update={"seed": seed}) for seed in seeds]


def test_stops_go_from_nothing_to_the_end() -> None:
    assert stops(RECIPE) == [*range(13)]
    long = RECIPE.model_copy(update={"steps": 1050})
    assert stops(long)[:3] == [0, 10, 20]
    assert stops(long)[-2:] == [1040, 1050]
    assert spaced(long, 1) == {0, 1050}
    found = sorted(spaced(long, 5))
    assert found[0] == 0
    assert found[-1] == 1050
    ratios = np.diff(np.log(found[1:]))
    assert np.allclose(ratios, np.log(1050 / 20) / 4, atol=0.2)


def test_seeds_are_trained_one_after_the_other_as_each_alone() -> None:
    course = Trainings(STYLE, recipes(0, 3), examined=2, device="cpu")
    ends = {}
    for seed, step in course.plan:
        losses = course.reach(seed, step)
        assert len(losses) == (3 if step else 0)
        if step == 12:
            ends[seed] = course.adder().W_E
    assert [seed for seed, _ in course.plan] == [0] * 13 + [3] * 13
    alone = Trainer(STYLE, recipes(3)[0])
    for _ in range(12):
        alone.advance()
    assert torch.equal(ends[3], alone.adder.transformer.wte.weight)
    assert not torch.equal(ends[0], ends[3])


@pytest.mark.parametrize("stop", [1, 7, 15])
def test_a_course_goes_on_exactly_from_a_state(stop: int) -> None:
    straight = Trainings(STYLE, recipes(0, 1), examined=2, device="cpu")
    told = [(straight.reach(*at), straight.is_due()) for at in straight.plan]
    first = Trainings(STYLE, recipes(0, 1), examined=2, device="cpu")
    for at in first.plan[:stop]:
        first.reach(*at)
    second = Trainings(STYLE, recipes(0, 1), examined=2, device="cpu")
    second.restore({name: array.copy() for name, array in first.state().items()})
    for at, (losses, due) in zip(second.plan[stop:], told[stop:], strict=True):
        pd.testing.assert_frame_equal(second.reach(*at), losses, check_exact=True)
        assert second.is_due() == due


def test_it_is_examined_where_the_loss_falls() -> None:
    course = Trainings(STYLE, recipes(0), examined=1, device="cpu")
    due, losses = [], []
    for at in course.plan:
        found = course.reach(*at)
        losses.append(found["loss"].mean() if len(found) else np.nan)
        due.append(course.is_due())
    assert due[0]
    assert due[12]
    last = losses[1]
    for step in range(1, 12):
        fell = last - losses[step] >= losses[1] / FALLS
        assert due[step] == fell
        last = losses[step] if fell else last
    assert sum(due) > 3  # it did fall


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The folders of two trainings by `models.train`, some steps of which were kept."""
    folder, threads = tmp_path_factory.mktemp("kept"), torch.get_num_threads()
    for seed in (0, 4):
        (folder / f"{seed}.toml").write_text(CARD.replace("SEED", str(seed)))
        assert main([str(folder / f"{seed}.toml")]) == 0
    torch.set_num_threads(threads)
    return [folder / "0", folder / "4"]


def test_kept_steps_are_read_as_they_were(kept: list[Path]) -> None:
    course = Kept(kept, "cpu")
    assert course.plan == [(0, 0), (0, 5), (0, 12), (4, 0), (4, 5), (4, 12)]
    assert course.style == STYLE
    straight = Trainer(STYLE, recipes(4)[0])
    for seed, step in course.plan:
        losses = course.reach(seed, step)
        assert course.is_due()
        # models.train reports its losses at the end of these few steps.
        assert losses["step"].unique().tolist() == ([12] if step == 12 else [])
        if seed == 4:
            while straight.step < step:
                straight.advance()
            assert torch.equal(course.adder().W_E, straight.adder.transformer.wte.weight)


def test_folders_that_hold_no_training_are_one_line(kept: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no training"):
        Kept([tmp_path], "cpu")
    (tmp_path / "training.json").write_bytes((kept[0] / "training.json").read_bytes())
    with pytest.raises(ModelError, match="no steps were kept"):
        Kept([tmp_path], "cpu")
    with pytest.raises(ModelError, match="a seed of its own"):
        Kept([kept[0], kept[0]], "cpu")
