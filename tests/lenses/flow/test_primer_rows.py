"""What is drawn of the primer's tables, against the tables it is taken from."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from lenses.flow import primer_rows
from lenses.flow.examples import NETWORKS, TRAINED, example_cells, in_numpy, trained, training
from lenses.flow.primer import (
    CASES,
    HEADS,
    LONG,
    agreement,
    growth_table,
    powers_of_time,
    timed,
    torch_error,
)
from lenses.flow.spelled import WALKED
from prompts.walkthrough import SENTENCES, words

AGREED = ["case", "precision", "draw", "error"]


@pytest.fixture(scope="module")
def found():
    """Tables of one short training."""
    return training(6, 3, seed=4, steps=5, rate=0.03, drawn=True)


@pytest.fixture(scope="module")
def cells(found):
    return example_cells(0, found["trained"])


def test_a_training_is_drawn_where_that_is_asked(found):
    assert list(found) == list(TRAINED)
    head = trained(6, 3, True, 4, 5, 0.03)
    by_sentence = pd.concat([in_numpy(head, name) for name in SENTENCES])
    pd.testing.assert_frame_equal(found["trained"], by_sentence)
    assert list(training(6, 3, 4, 5, 0.03, drawn=False)) == list(TRAINED[:3])


def test_all_examples_are_cells_of_one_table(found, cells):
    sides = [f"{name} {side}" for name in SENTENCES for side in ("published", "corrected")]
    random = ["notes", "mask", "cross", "heads"]
    heads = [f"{what} {name}" for name in SENTENCES for what in ("trained", "meets")]
    assert cells["example"].unique().tolist() == [*sides, *random, *heads]
    assert cells.index.tolist() == list(range(len(cells)))


def test_every_network_says_what_comes_next(found):
    said = found["next_words"]
    assert said["network"].unique().tolist() == list(NETWORKS)
    assert (said["seed"] == 4).all()
    right = primer_rows.right_words(said).set_index("network")
    for name in NETWORKS:
        mine = said[said["network"] == name]["right"]
        assert right.loc[name, ["right", "count"]].tolist() == [mine.sum(), len(mine)]
        assert right.loc[name, "share"] == mine.mean()
    assert (found["agreement"]["error"] < 1e-6).all()
    assert (found["looks"]["seed"] == 4).all()


def test_shares_right_go_from_the_lowest_seed_to_the_highest():
    right = {"corrected": [0, 0], "untrained": [0, 1], "alone": [1, 1], "attention": [1, 1]}
    said = pd.DataFrame(
        [(name, seed, bool(hit), pos) for name, hits in right.items()
         for seed, hit in enumerate(hits) for pos in range(2)],
        columns=["network", "seed", "right", "pos"],
    )  # fmt: skip
    first = (said["network"] == "alone") & (said["seed"] == 0) & (said["pos"] == 0)
    said.loc[first, "right"] = False
    rows = primer_rows.shares_right(said).set_index("network")
    assert rows.index.tolist() == list(NETWORKS.values())
    columns = ["low", "right (share)", "high"]
    assert rows.loc[NETWORKS["untrained"], columns].tolist() == [0, 0.5, 1]
    assert rows.loc[NETWORKS["alone"], columns].tolist() == [0.5, 0.75, 1]


def test_a_training_is_a_head_of_one_layer(found):
    name = next(iter(SENTENCES))
    rows = primer_rows.by_training(found["looks"], name)
    length = len(words(name))
    assert len(rows) == length * (length + 1) // 2
    assert (rows["head"] == 4).all()
    assert (rows["layer"] == 0).all()
    np.testing.assert_allclose(rows.groupby("query")["attention"].sum(), 1)


def test_walks_stand_side_by_side_in_the_order_of_their_steps(cells):
    name = next(iter(SENTENCES))
    rows = primer_rows.both_walks(cells, name)
    place = rows["step"].map(list(WALKED).index)
    assert place.is_monotonic_increasing
    corrected = cells[cells["example"] == f"{name} corrected"]
    last = corrected[corrected["step"] == list(WALKED)[-1]]["value"]
    shown = rows[(rows["side"] == "corrected") & (rows["step"] == list(WALKED)[-1])]["value"]
    assert sorted(shown) == sorted(last)[-primer_rows.MOST_NAMED :]


def test_rows_of_weights_sum_to_1_and_all_columns_to_as_many_words(cells):
    sums = primer_rows.sums_of_weights(cells)
    rows, columns = (
        sums[sums["sum"] == f"its {axis}"]["sum of the weights"] for axis in ("row", "column")
    )
    np.testing.assert_allclose(rows, 1)
    assert columns.sum() == pytest.approx(len(rows))
    assert columns.std() > 0.01
    np.testing.assert_allclose(primer_rows.sums_of_rows(cells), 1, atol=1e-6)


def test_a_mask_hides_the_scores_of_later_words_alone(cells):
    rows = primer_rows.with_and_without_mask(cells)
    assert rows["step"].unique().tolist() == ["Scores", "Weights", "Mixed values"]
    scores = rows[rows["step"] == "Scores"]
    hidden = scores.groupby("side")["value"].apply(lambda values: int(values.isna().sum()))
    count = len(scores["row"].unique())
    assert hidden.to_dict() == {"with a mask": count * (count - 1) // 2, "without a mask": 0}


def test_proposals_are_written_with_a_minus_sign_and_no_negative_zero(cells):
    changed = cells.copy()
    at = changed.index[changed["example"] == "heads"][:2]
    changed.loc[at, "value"] = [-0.001, -1.236]
    assert primer_rows.written_proposals(changed)["written"].tolist()[:2] == ["0.00", "−1.24"]


def test_the_middle_half_of_times_is_told_in_milliseconds():
    seconds = np.stack([np.arange(5.0), np.arange(5.0) * 10], axis=1)[:, None] / 1000
    rows = primer_rows.middle_half(seconds, [4]).set_index("way")
    assert rows.loc["one after another", ["low", "time (milliseconds)", "high"]].tolist() == [
        1,
        2,
        3,
    ]
    assert rows.loc["all in one product", ["low", "time (milliseconds)", "high"]].tolist() == [
        10,
        20,
        30,
    ]
    assert (rows["heads"] == 4).all()


def test_chances_are_of_words_that_another_follows(cells):
    rows = primer_rows.chances(cells)
    pairs = [f"{a}→{b}" for name in SENTENCES for a, b in pairwise(words(name))]
    assert rows["word → its next"].unique().tolist() == list(dict.fromkeys(pairs))
    np.testing.assert_allclose(rows.groupby("word → its next")["value"].sum(), 1)


def test_agreement_is_of_every_case_precision_and_draw():
    others = pd.DataFrame([("trained head", "float64", 0, 0.5)], columns=AGREED)
    rows = agreement(2, 3, others)
    assert rows.iloc[-1].tolist() == others.iloc[0].tolist()
    assert len(rows) == len(CASES) * 2 * 2 + 1
    case = next(iter(CASES))
    row = rows[(rows["case"] == case) & (rows["precision"] == "float64") & (rows["draw"] == 4)]
    assert row["error"].tolist() == [torch_error(case, "float64", np.random.default_rng(4))]


def test_a_repeat_times_every_number_of_heads_and_every_length():
    found = timed(256, seed=0)
    shapes = {name: values.shape for name, values in found.items()}
    assert shapes == {
        "heads_seconds": (1, len(HEADS), 2),
        "pattern_seconds": (1, 3),
        "bytes": (1, 3),
    }
    assert (found["heads_seconds"] > 0).all()
    assert found["bytes"][0].tolist() == [4 * length**2 for length in (64, 128, 256)]


def test_the_power_of_a_time_that_grows_with_the_square_is_2():
    lengths = np.array([64, 128, LONG, 512, 1024])
    seconds = np.stack([lengths**2.0, 3 * lengths**1.5]) * 1e-9
    seconds[:, :2] = 1
    np.testing.assert_allclose(powers_of_time(seconds), [2, 1.5])
    assert len(powers_of_time(seconds[:, :3])) == 0


def test_growth_counts_a_weight_for_each_pair_of_words():
    rows = growth_table(np.array([7, 8]))
    assert rows.to_dict("list") == {"words": [64, 128], "weights": [4096, 16384], "bytes": [7, 8]}
