"""What is drawn of the primer's tables, against the tables it is taken from."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from lenses.flow import primer_rows
from lenses.flow.examples import NETWORKS, in_numpy, training, untrained, walks
from lenses.flow.primer import CASES, agreement, powers_of_time, timed, torch_error
from lenses.flow.spelled import WALKED
from prompts.walkthrough import SENTENCES, words


@pytest.fixture(scope="module")
def found():
    """Tables of one short training, and the head that was trained."""
    return training(6, 3, seed=4, steps=5, rate=0.03)


@pytest.fixture(scope="module")
def matrices(found):
    drawn = [walks(0), untrained(0), *(in_numpy(found[1], name) for name in SENTENCES)]
    return pd.concat(drawn, ignore_index=True)


def test_every_network_says_what_comes_next(found):
    said = found[0]["next_words"]
    assert said["network"].unique().tolist() == list(NETWORKS)
    assert (said["seed"] == 4).all()
    right = primer_rows.right_words(said).set_index("network")
    for name in NETWORKS:
        mine = said[said["network"] == name]["right"]
        assert right.loc[name, ["right", "count"]].tolist() == [mine.sum(), len(mine)]
        assert right.loc[name, "share"] == mine.mean()
    assert (found[0]["agreement"]["error"] < 1e-6).all()
    assert (found[0]["looks"]["seed"] == 4).all()


def test_walks_stand_side_by_side_in_the_order_of_their_steps(matrices):
    name = next(iter(SENTENCES))
    rows = primer_rows.both_walks(matrices, name)
    place = rows["step"].map(list(WALKED).index)
    assert place.is_monotonic_increasing
    corrected = matrices[matrices["example"] == f"{name} corrected"]
    last = corrected[corrected["step"] == list(WALKED)[-1]]["value"]
    shown = rows[(rows["side"] == "corrected") & (rows["step"] == list(WALKED)[-1])]["value"]
    assert sorted(shown) == sorted(last)[-primer_rows.MOST_NAMED :]


def test_rows_of_weights_sum_to_1_and_all_columns_to_as_many_words(matrices):
    sums = primer_rows.sums_of_weights(matrices)
    rows, columns = (sums[sums["sum"] == f"its {axis}"]["value"] for axis in ("row", "column"))
    np.testing.assert_allclose(rows, 1)
    assert columns.sum() == pytest.approx(len(rows))
    assert columns.std() > 0.01
    np.testing.assert_allclose(primer_rows.sums_of_rows(matrices), 1, atol=1e-6)


def test_a_mask_hides_the_scores_of_later_words_alone(matrices):
    rows = primer_rows.with_and_without_mask(matrices)
    assert rows["step"].unique().tolist() == ["Scores", "Weights", "Mixed values"]
    scores = rows[rows["step"] == "Scores"]
    hidden = scores.groupby("side")["value"].apply(lambda values: int(values.isna().sum()))
    count = len(scores["row"].unique())
    assert hidden.to_dict() == {"with a mask": count * (count - 1) // 2, "without a mask": 0}


def test_proposals_are_written_with_a_minus_sign_and_no_negative_zero(matrices):
    changed = matrices.copy()
    at = changed.index[changed["example"] == "heads"][:2]
    changed.loc[at, "value"] = [-0.001, -1.236]
    assert primer_rows.written_proposals(changed)["written"].tolist()[:2] == ["0.00", "−1.24"]


def test_the_middle_half_of_times_is_told_in_milliseconds():
    seconds = np.stack([np.arange(5.0), np.arange(5.0) * 10], axis=1)[:, None] / 1000
    rows = primer_rows.middle_half(seconds, [4]).set_index("way")
    assert rows.loc["one after another", ["low", "milliseconds", "high"]].tolist() == [1, 2, 3]
    assert rows.loc["all in one product", ["low", "milliseconds", "high"]].tolist() == [10, 20, 30]
    assert (rows["heads"] == 4).all()


def test_chances_are_of_words_that_another_follows(matrices):
    rows = primer_rows.chances(matrices)
    pairs = [f"{a}→{b}" for name in SENTENCES for a, b in pairwise(words(name))]
    assert rows["row"].unique().tolist() == list(dict.fromkeys(pairs))
    np.testing.assert_allclose(rows.groupby("row")["value"].sum(), 1)


def test_agreement_is_of_every_case_precision_and_draw():
    rows = agreement(2, seed=3)
    assert len(rows) == len(CASES) * 2 * 2
    case = next(iter(CASES))
    row = rows[(rows["case"] == case) & (rows["precision"] == "float64") & (rows["draw"] == 4)]
    assert row["error"].tolist() == [torch_error(case, "float64", np.random.default_rng(4))]


def test_a_repeat_times_every_number_of_heads_and_every_length():
    found = timed([1, 3], [64, 128, 256], seed=0)
    shapes = {name: values.shape for name, values in found.items()}
    assert shapes == {"heads_seconds": (1, 2, 2), "pattern_seconds": (1, 3), "bytes": (1, 3)}
    assert (found["heads_seconds"] > 0).all()
    assert found["bytes"][0].tolist() == [4 * length**2 for length in (64, 128, 256)]


def test_the_power_of_a_time_that_grows_with_the_square_is_2():
    lengths = np.array([64, 256, 512, 1024])
    seconds = np.stack([lengths**2.0, 3 * lengths**1.5]) * 1e-9
    seconds[:, 0] = 1
    np.testing.assert_allclose(powers_of_time(seconds, lengths, 256), [2, 1.5])
    assert len(powers_of_time(seconds, lengths, 1024)) == 0
