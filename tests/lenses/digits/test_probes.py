import numpy as np
import pandas as pd
import pytest
import torch

from lenses.digits.probes import (
    _without_states,
    answers_by_probe,
    digits_told,
    places_told,
    probe_tables,
    transfer_tables,
)
from lenses.states.probes import balanced_accuracy, cross_validated
from tests.lenses.digits.readings import TEXTS, reading

DIGITS = TEXTS.digits
PLACE, DIGIT = DIGITS["place"].to_numpy(), DIGITS["digit"].to_numpy()

RANDOM = [reading(seed=seed) for seed in (1, 2, 3, 4)]
PLACES = [places_told(one, 300, seed=0) for one in RANDOM]
DIGITS_TOLD = [digits_told(one, seed=0) for one in RANDOM]


def states(code: np.ndarray) -> np.ndarray:
    """Noise at the outer sites, a code with a little noise at the middle one."""
    rng = np.random.default_rng(0)
    found = rng.normal(size=(len(DIGITS), 3, code.shape[1]))
    found[:, 1] = code + 0.05 * found[:, 1]
    return found


@pytest.fixture(scope="module")
def placed():
    return probe_tables(reading(states=states(np.eye(12)[PLACE])), PLACES, 300, seed=0)


def test_a_place_that_is_there_is_found_and_nothing_else(placed) -> None:
    table = placed[0].set_index(["sample", "read", "layer"])["balanced"]
    for sample in ("announced", "generated"):
        assert table[sample, "states", 1] > 0.95
        assert table[sample, "states", 2] < 0.3
        assert table[sample, "random weights", 1] < 0.3
        assert table[sample, "position and digit", 2] < 0.7
        assert table[sample, "control task", 1] < 0.7


def test_contrasts_are_differences_of_accuracy_with_a_corrected_p(placed) -> None:
    contrasts = placed[1].set_index(["sample", "statistic", "layer"])
    for name in ("position and digit", "random weights", "control task"):
        row = contrasts.loc[("announced", f"place beyond {name}", 1)]
        assert row["low"] > 0.2
        assert row["p"] < 0.001
        noise = contrasts.loc[("announced", f"place beyond {name}", 2)]
        assert noise["p"] > 0.05


def test_what_pos_and_digit_tell_is_not_beyond_them() -> None:
    index = DIGITS["index"].to_numpy()
    own = reading(states=states(np.eye(12)[index]))
    contrasts = probe_tables(own, PLACES, 300, seed=0)[1]
    rows = contrasts.query("statistic == 'place beyond position and digit' and layer == 1")
    assert (rows["p"] > 0.05).all()


def test_a_place_that_follows_from_pos_and_index_is_told_without_states() -> None:
    rng = np.random.default_rng(0)
    index, shift = rng.integers(0, 6, 800), rng.integers(0, 8, 800)
    digits = pd.DataFrame({"index": index, "pos": 10 + index + shift})
    digits["digit"] = rng.integers(0, 10, 800)
    place = torch.from_numpy((3 * index + 5 * shift) % 7)
    said = cross_validated(_without_states(digits), place, torch.arange(800) // 4)
    assert balanced_accuracy(said, place).item() > 0.95


def test_answers_have_what_a_probe_tells_of_the_digit_before() -> None:
    lost = np.random.default_rng(1).random(len(DIGITS)) < 0.3
    own = reading(states=states(np.where(lost[:, None], 0, np.eye(12)[PLACE])))
    found = answers_by_probe(own, 400, seed=0)
    assert set(found["part"]) == {"c"}
    assert found["index"].min() == 1
    assert set(found["layer"]) == {1}
    assert not found["wrong"].any()
    before = DIGITS.assign(lost=lost).query("part == 'c'").set_index(["prompt", "index"])["lost"]
    at = pd.MultiIndex.from_arrays([found["prompt"], found["index"] - 1])
    told = found["score"].to_numpy() == 1
    assert told[~before.loc[at].to_numpy()].mean() > 0.9
    assert told[before.loc[at].to_numpy()].mean() < 0.4


def test_digits_coded_alike_transfer_between_places() -> None:
    own = reading(states=states(np.eye(12)[DIGIT]))
    table, contrast = transfer_tables(own, DIGITS_TOLD, seed=0)
    assert table.query("weights == 'own'")["accuracy"].min() > 0.7
    assert table.query("weights == 'random'")["accuracy"].max() < 0.5
    assert contrast["low"].item() > 0.6
    assert contrast["layer"].item() == 1


def test_digits_coded_by_place_do_not() -> None:
    turned = np.eye(12)[(DIGIT + 3 * PLACE) % 10]
    table, contrast = transfer_tables(reading(states=states(turned)), DIGITS_TOLD, seed=0)
    own = table.query("weights == 'own'")
    same = own["train_place"] == own["test_place"]
    assert own[same]["accuracy"].min() > 0.7
    assert own[~same]["accuracy"].max() < 0.3
    assert contrast["high"].item() < 0.05


def test_places_with_few_digits_are_left_out() -> None:
    table, _ = transfer_tables(reading(), DIGITS_TOLD, seed=0)
    given = DIGITS[(DIGITS["part"] == "a") & (DIGITS["twin"] < 0) & (DIGITS["pos"] > 0)]
    counts = given["place"].value_counts()
    assert set(table["train_place"]) == set(counts[counts >= 30].index)
