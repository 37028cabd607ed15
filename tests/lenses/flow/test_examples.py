"""The primer's examples: networks that know the sentences, and tables that say what they are."""

import numpy as np
import pytest
import torch

from lenses.flow.examples import (
    HEADS,
    in_numpy,
    looks,
    predictions,
    trained,
    training_errors,
    untrained,
    walked_predictions,
    walks,
)
from lenses.flow.walkthrough import corrected, embeddings
from prompts.walkthrough import SENTENCES, numbered, words


@pytest.fixture(scope="module")
def net():
    return trained(6, 3, True, 0, 120, 0.03)


def test_a_trained_head_says_every_next_word(net):
    said = predictions(net)
    assert len(said) == 20
    assert said["right"].all()
    assert (said["probability"] > 0.5).all()
    for name, part in said.groupby("sentence"):
        assert part["next"].tolist() == words(name)[1:]
        assert part["word"].tolist() == words(name)[:-1]


def test_without_attention_one_of_two_is_wrong():
    said = predictions(trained(6, 3, False, 0, 120, 0.03))
    assert said[~said["right"]]["word"].tolist() == ["the"]


def test_without_steps_nothing_is_known():
    right = [predictions(trained(6, 3, True, seed, 0, 0.03))["right"].mean() for seed in range(20)]
    assert max(right) < 0.3


def test_the_corrected_walkthrough_says_what_it_gives_most():
    said = walked_predictions(4)
    row = said[(said["sentence"] == "fox") & (said["word"] == "over")].iloc[0]
    walk = corrected("fox", embeddings(4), current="over")
    assert row["said"] == walk.names[walk.probabilities.argmax()]
    assert row["probability"] == walk.probabilities[walk.names.index("the")]


def test_matrices_in_numpy_end_where_torch_ends(net):
    for name in SENTENCES:
        table = in_numpy(net, name)
        last = table[(table["step"] == "Next word") & (table["example"] == f"trained {name}")]
        chances = last["value"].to_numpy(float).reshape(len(words(name)), -1)
        with torch.no_grad():
            own = net(torch.tensor(numbered(name))).softmax(-1).numpy()
        assert np.allclose(chances, own, atol=1e-5)


def test_rows_of_looking_sum_to_one(net):
    seen = looks(net)
    assert seen.groupby(["sentence", "query"])["attention"].sum().to_numpy() == pytest.approx(1)
    assert (seen["key"] <= seen["query"]).all()


def test_other_ways_to_compute_agree_and_a_missing_mask_is_seen(net, monkeypatch):
    errors = training_errors(net)
    assert max(errors.values()) < 1e-12
    assert net.readout.dtype == torch.float32
    monkeypatch.setattr(torch, "ones_like", lambda x, **_: torch.zeros(x.shape, dtype=torch.bool))
    unmasked = training_errors(net)
    assert unmasked["every beginning by itself"] > 1e-3
    assert unmasked["trained head"] > 1e-3


def test_walks_and_examples_have_one_row_a_cell():
    for table in (walks(0), untrained(0)):
        assert not table.duplicated(["example", "step", "row", "column"]).any()
    assert set(walks(0)["example"]) == {
        f"{name} {code}" for name in SENTENCES for code in ("published", "corrected")
    }


def test_proposals_add_up():
    table = untrained(0)
    heads = table[table["example"] == "heads"]
    wide = heads.pivot(index="row", columns="column", values="value").astype(float)
    proposed = wide[wide.index.str.startswith("head ")]
    assert len(proposed) == HEADS
    assert np.allclose(proposed.sum(), wide.loc["heads together"])
    assert np.allclose(wide.loc["“the” before"] + proposed.sum(), wide.loc["“the” after"])
