import numpy as np
import pandas as pd
import pytest
import torch

from lenses.flow.descriptions import added_sentences
from lenses.flow.edge_patching import EdgeReading, each_edge, read_edges
from lenses.flow.noun_tables import (
    NounTables,
    attending_and_moving,
    by_distance,
    chosen_most,
    edge_table,
    example_rows,
    first_of_frames,
    kept_of,
    read_noun,
    read_single_edges,
    sentence_rows,
)
from lenses.heads.contributions import attention_patterns
from lenses.kept import PerPrompt
from models import load
from models.text import token_strings

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


def test_the_head_chosen_in_most_frames_is_named():
    best = pd.DataFrame({"layer": [1, 0, 1], "head": [2, 2, 2]})
    assert chosen_most(best) == (1, 2)


def test_attending_and_moving_are_of_single_heads():
    share = np.array([[[0.1, 0.4, 9.0], [0.3, 0.2, 9.0]]] * 2)
    edges = edge_table(share, 0)
    attention = edges[["layer", "head"]].dropna().assign(estimate=[1.0, 4.0, 3.0, 2.0])
    single, both, rank = attending_and_moving(attention, edges)
    assert single["movement_share"].tolist() == [0.1, 0.4, 0.3, 0.2]
    assert both["attention_difference"].tolist() == [1, 4, 3, 2]
    assert rank["estimate"].tolist() == pytest.approx([1])
    flat = edges.assign(estimate=0.5)
    assert attending_and_moving(attention, flat)[2].empty


def test_sentences_and_the_example_are_those_of_the_cases():
    model = load("adder_6d_1l")
    read = added_sentences(model, 5, 0)
    cases = [one.case for one in read]
    assert first_of_frames([*cases[:2], cases[0], cases[2]]) == cases[:3]
    attention = np.arange(10.0).reshape(5, 2)
    rows = sentence_rows(read, attention, [{"frame": "x", "text": "y", "skipped": "why"}])
    assert rows["own_attention"].tolist()[:5] == [0, 2, 4, 6, 8]
    assert rows["distance"].tolist()[:5] == [case.distance for case in cases]
    assert rows["skipped"].tolist() == [""] * 5 + ["why"]
    assert rows["tokens"].isna().tolist() == [False] * 5 + [True]
    example = example_rows(model, read[1], 0, 2)
    for number, name in enumerate(("own", "control")):
        rows = example[example["adjective"] == name]
        pattern = attention_patterns(model, torch.from_numpy(cases[1].clean[number])).numpy()
        assert rows["attention"].tolist() == pattern[0, 2, cases[1].at[number]].tolist()
        assert "".join(rows["token"]) == "".join(token_strings(model, cases[1].clean[number]))
    assert np.allclose(
        read_noun(model, cases[0])["own"], kept_of(read_edges(model, cases[0]))["own"]
    )
    assert np.allclose(read_single_edges(model, cases[0])["share"][0], each_edge(model, cases[0]))


def test_sentences_of_additions_are_told_in_words():
    model = load("adder_6d_1l")
    one = added_sentences(model, 1, 0)[0]
    assert one.told["frame"] == "addition 0"
    first, second = one.told["adjective"].split(" ")
    digits = one.told["text"].split("+")
    place = 1 + 0 % 4  # places take turns, from the tens on
    assert digits[0].removeprefix("<bos>")[-1 - place] == first
    assert digits[1].split("=")[0][-1 - place] == second
    assert one.told["instead"].split(" ")[0] != first
