import numpy as np
import pandas as pd
import pytest

from lenses.flow.edge_patching import EdgeReading
from lenses.flow.noun_tables import NounTables, by_distance, edge_table, kept_of
from lenses.kept import PerPrompt

FRAMES = ["b", "b", "a", "c"]


def reading(rng: np.random.Generator) -> EdgeReading:
    attention = rng.random((3, 2, 4))
    attention[0, 1, 2] += 1
    return EdgeReading(attention, rng.normal(size=(4, 2)), rng.random((4, 2)) + 0.1)


@pytest.fixture(scope="module")
def readings():
    rng = np.random.default_rng(0)
    return [reading(rng) for _ in FRAMES]


@pytest.fixture(scope="module")
def tables(readings):
    kept = PerPrompt()
    for one in readings:
        kept.update(**kept_of(one))
    return NounTables(kept, FRAMES, 0)


def by_frame(values: list) -> np.ndarray:
    frame = pd.DataFrame(np.stack(values).reshape(len(values), -1))
    return frame.groupby(FRAMES, sort=False).mean().to_numpy()


def test_attention_is_own_less_the_mean_of_controls(tables, readings):
    rows = tables.attention()
    wanted = by_frame([one.attention[0] - one.attention[1:].mean(0) for one in readings])
    assert np.allclose(rows["estimate"], wanted.mean(0))
    assert np.allclose(rows["own"] - rows["control"], rows["estimate"])
    assert rows["n"].eq(3).all()
    assert (rows["q"] >= rows["p"]).all()
    assert (rows["p_any"] >= rows["p"] - 0.02).all()


def test_the_best_head_is_the_one_that_stands_out(tables):
    best = tables.best()
    assert best["frame"].tolist() == ["b", "a", "c"]
    assert best[["layer", "head"]].to_numpy().tolist() == [[1, 2]] * 3


def test_movement_has_a_row_for_each_way_and_layer(tables, readings):
    rows = tables.movement().set_index(["statistic", "patched", "layer"])["estimate"]
    wanted = by_frame([one.length for one in readings]).mean(0).reshape(4, 2)
    assert rows["length", "control edge", 1] == pytest.approx(wanted[3, 1])
    assert len(rows) == 2 * 4 * 2


def test_what_is_compared_is_worked_out_by_hand(tables, readings):
    rows = tables.compared("own").pivot(index="frame", columns="statistic", values="value")
    length = by_frame([one.length for one in readings]).reshape(3, 4, 2)
    along = by_frame([one.along for one in readings]).reshape(3, 4, 2)
    order = ["b", "a", "c"]
    log = np.log(length)
    assert np.allclose(rows["all"][order], (log[:, 0] - log[:, 2]).mean(-1))
    assert np.allclose(rows["edge"][order], (log[:, 1] - log[:, 3]).mean(-1))
    assert np.allclose(rows["other ways"][order], 1 - along[:, 1].mean(-1))


def test_layers_in_which_nothing_moves_are_left_out(readings):
    still = EdgeReading(
        readings[0].attention,
        np.full((4, 2), np.nan),
        np.array([[0.0, 2.0], [0.0, 2.0], [0.0, 1.0], [0.0, 1.0]]),
    )
    kept = PerPrompt()
    for _ in range(2):
        kept.update(**kept_of(still))
    rows = NounTables(kept, ["a", "b"], 0).compared("own").groupby("statistic")["value"].first()
    assert rows["all"] == pytest.approx(np.log(2))
    assert "other ways" not in rows


def test_distances_are_means_over_frames():
    values = np.array([[1.0, 0.0], [3.0, 0.0], [6.0, 1.0], [9.0, 9.0]])
    rows = by_distance(values, [1, 1, 1, 2], FRAMES, 0).set_index(["distance", "adjective"])
    assert rows["estimate"][1, "own"] == 4  # frames b (2) and a (6)
    assert rows["n"][1, "own"] == 2
    assert rows["estimate"][2, "control"] == 9


def test_the_edge_of_all_heads_has_no_head():
    rows = edge_table(np.arange(12.0).reshape(2, 2, 3), 0)
    assert rows["head"].isna().tolist() == [False, False, True] * 2
    assert rows["estimate"].tolist() == [3, 4, 5, 6, 7, 8]
