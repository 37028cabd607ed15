"""What states are read, and how they are told in tables."""

import numpy as np
import pandas as pd
import pytest
import torch

from lenses.states.concept_reading import TextStates
from lenses.states.concept_tables import (
    BEYOND,
    BY_MIXED,
    SHARES,
    beside_twins,
    by_third,
    compared,
    in_words,
    recovered,
    share_rows,
    shares_of,
    taken_apart,
)
from lenses.states.concepts import (
    OF_TOKENS,
    TRANSPORTED,
    States,
    added_at,
    atom_set,
    depth_of,
    depths_of,
    evenly,
    last,
    normed,
    random_like,
    spread,
    token_atoms,
    token_rows,
)
from lenses.states.decoding import Site
from lenses.states.jacobian import text_jacobians
from lenses.states.pursuits import Atoms, pursue
from lenses.texts import ReadText
from models import load, untrained
from models.readout import unembedding

TEXTS = ([12, 3, 4, 10, 5, 6, 11], [12, 1, 2, 10, 9, 9, 11], [12, 7, 10, 8, 11])


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_1l")


@pytest.fixture(scope="module")
def read(adder):
    found = States([*depths_of(adder, 7), *added_at(adder, depths_of(adder, 7))])
    for number, ids in enumerate(TEXTS):
        found.update(adder, number, ids, spread(len(ids), 2))
    return found


def test_positions_are_spread_and_never_the_first():
    assert spread(9, 1).tolist() == [8]
    assert spread(9, 2).tolist() == [4, 8]
    assert spread(3, 5).tolist() == [1, 2]
    assert spread(2, 3).tolist() == [1]
    assert last(9, 3).tolist() == [6, 7, 8]
    assert last(3, 6).tolist() == [1, 2]
    assert evenly(31, 7) == [0, 5, 10, 15, 20, 25, 30]
    assert evenly(2, 4) == [0, 1]


def test_sites_are_the_stream_and_what_is_added_to_it(adder, read):
    assert read.where == [
        Site(0, "embedding"), Site(0, "resid_post"), Site(0, "attn_out"), Site(0, "mlp_out")
    ]  # fmt: skip
    assert [depth_of(site) for site in read.where] == [0, 1, 1, 1]
    assert read.depths == [0, 1]
    start, end, attention, mlp = (read.at(site, "cpu") for site in range(4))
    assert torch.allclose(start + attention + mlp, end, atol=1e-4)
    own = torch.from_numpy(read.kept["own"])
    expected = adder.W_E[own] + adder.W_pos[torch.from_numpy(read.kept["pos"])]
    assert torch.allclose(start, expected, atol=1e-5)


def test_the_mean_is_over_all_positions_but_the_first(adder, read):
    tokens = [token for ids in TEXTS for token in ids[1:]]
    pos = [at for ids in TEXTS for at in range(1, len(ids))]
    expected = (adder.W_E[torch.tensor(tokens)] + adder.W_pos[torch.tensor(pos)]).mean(0)
    assert torch.allclose(read.mean_at(0, "cpu"), expected, atol=1e-5)


def test_norms(adder, read):
    states, centre, final = read.at(1, "cpu"), read.mean_at(1, "cpu"), unembedding(adder).norm
    assert torch.equal(normed(states, "none", centre, final), states)
    assert normed(states, "unit", centre, final).norm(dim=1).numpy() == pytest.approx(1)
    assert torch.equal(normed(states, "final", centre, final), final(states))
    assert torch.equal(normed(states, "centred", centre, final), states - centre)
    random = random_like(states, 0)
    assert torch.allclose(random.norm(dim=1), states.norm(dim=1))
    assert not torch.allclose(random, random_like(states, 1))


def test_every_vector_has_a_row_with_its_own_numbers(adder, read):
    atoms = token_atoms(adder, "E", len(read.depths), 0)
    assert len(atoms.mixed) == 4  # 13 tokens are few
    frames = list(taken_apart(adder, atoms, read, 0))
    kinds = [(f["vectors"].iloc[0], f["state"].iloc[0], f["depth"].iloc[0]) for f in frames]
    stream = [(v, "residual stream", d) for d in (0, 1)
              for v in ("states", "random vectors", BEYOND, BY_MIXED)]  # fmt: skip
    assert kinds == [*stream, ("states", "attention", 1), ("states", "MLP", 1)]
    found = pursue(read.at(1, "cpu"), Atoms.unit(adder.W_E.detach()))
    assert frames[4][SHARES].to_numpy() == pytest.approx(found.explained.numpy())
    here = frames[4].iloc[0]
    assert here["token"] == "1" if TEXTS[0][here["pos"]] == 1 else True
    aside = torch.stack(
        [adder.W_E[torch.from_numpy(read.kept["own"])], read.mean_at(1, "cpu").expand(6, -1)], 1
    )
    beyond = pursue(read.at(1, "cpu"), Atoms.unit(adder.W_E.detach()), aside=aside)
    assert frames[6][SHARES].to_numpy() == pytest.approx(beyond.explained.numpy(), abs=1e-6)
    drawn = [pursue(read.at(1, "cpu"), one, aside=aside).explained for one in atoms.mixed]
    assert frames[7][SHARES].to_numpy() == pytest.approx(torch.stack(drawn).mean(0).numpy())


def test_effective_rows_are_those_after_the_first_mlp(adder):
    assert torch.equal(token_rows(adder, "E"), adder.W_E)
    assert not torch.allclose(token_rows(adder, "effective E"), adder.W_E)


def test_pursuits_are_compared_on_one_position_of_each_text(adder, read):
    rows = compared(adder, token_atoms(adder, "E", 2, 0), read, 0)
    assert (rows["n"] == len(TEXTS)).all()
    assert len(rows) == 2 * 4 * 4  # vectors, pursuits and norms, at the only depth above 0
    one = rows.query("pursuit == 'orthogonal' and norm == 'unit' and depth == 1")
    states = read.at(1, "cpu")[[0, 2, 4]]
    found = pursue(states, Atoms.unit(adder.W_E.detach()))
    row = one[one["vectors"] == "states"].iloc[0]
    assert row["explained_5"] == pytest.approx(float(found.explained[:, -1].mean()))
    counts = np.unique(found.tokens[:, 0].numpy(), return_counts=True)[1]
    assert row["commonest"] == counts.max() / 3


def test_twins_have_the_rows_of_states(adder, read):
    stream = States(depths_of(adder, 7))
    for number, ids in enumerate(TEXTS):
        stream.update(adder, number, ids, spread(len(ids), 2))
    shares = shares_of(adder, stream, 0)
    rows = share_rows(shares, stream.kept["prompt"], stream.depths)
    frame = next(iter(taken_apart(adder, token_atoms(adder, "effective E", 2, 0), read, 0)))
    same = rows.query("atoms == 'effective E' and vectors == 'states' and depth == 0")
    assert same[SHARES].to_numpy() == pytest.approx(frame[SHARES].to_numpy())


def test_known_sums_come_back_and_are_counted():
    rows = recovered(torch.eye(8) * torch.linspace(1, 3, 8)[:, None], 30, 0)
    found = rows.set_index(["rows", "pursuit"])["estimate"]
    assert found["as they are", "orthogonal"] == found["as they are", "published"] == 1
    assert found["of length 1", "published"] < 1  # too long a token is taken off
    assert (rows["n"] == 30).all()


def test_of_tokens_that_share_a_vector_either_one_is_right():
    rows = torch.eye(6).repeat(2, 1)
    told = recovered(rows, 30, 0).set_index(["rows", "pursuit"])["estimate"]
    assert told["as they are", "orthogonal"] == 1


def test_words_have_signs():
    assert in_words([" Paris", "city", "\n", ""], [2.0, -1.0, 0.5, 0.0]) == "Paris − city + '\\n'"
    assert in_words(["a"], [-1.0]) == "− a"


def test_thirds_are_of_all_depths_above_the_embedding():
    states = pd.DataFrame({"depth": [0, 1, 2, 3, 4, 5, 6], "state": "residual stream"})
    assert by_third(states)["third"].tolist() == [
        "lower third", "lower third", "middle third", "middle third", "upper third", "upper third"
    ]  # fmt: skip


@pytest.fixture(scope="module")
def study(adder):
    texts = [ReadText(number, "given", ids) for number, ids in enumerate([*TEXTS, [12, 3]])]
    return TextStates(texts, depths_of(adder, 7), positions=2, seed=4, stream=unkept)


def unkept(items, keep, label):
    """A stream that keeps nothing."""
    return iter(items)


def test_texts_are_read_where_they_should_be(adder, read, study):
    found, example = study.read(adder)
    assert found.where == read.where
    assert found.kept["prompt"].tolist() == [*read.kept["prompt"], 3]
    assert np.array_equal(found.kept["states"][:-1], read.kept["states"])
    assert example.where == study.where
    assert example.kept["pos"].tolist() == last(7, 6).tolist()
    assert set(example.kept["prompt"]) == {0}


def test_jacobians_are_means_over_texts_that_have_one(adder, study):
    mean = study.jacobians(adder, 2)
    each = [text_jacobians(adder, ids, study.where) for ids in TEXTS[:2]]
    assert torch.allclose(mean.float(), torch.stack(each).mean(0).float(), atol=1e-5)
    assert study.jacobians(adder, 0).shape == (0, 0, 0)


def test_every_set_is_taken_apart_and_twins_by_their_own_atoms(adder, study):
    rows = {name: [] for name in ("states", "pursuits", "example")}
    read, example = study.read(adder)
    study.take_apart(adder, read, example, torch.zeros(0, 0, 0), rows)
    own = pd.concat(rows["states"], ignore_index=True)
    assert own["atoms"].unique().tolist() == list(OF_TOKENS)
    atoms = token_atoms(adder, "effective E", 2, 4)
    assert rows["pursuits"][1].equals(compared(adder, atoms, read, 4))
    twins = [untrained(adder, seed) for seed in (4, 5)]
    random = study.of_twins(twins, 2)
    part = random.query("weights == 'random 1' and atoms == 'E' and vectors == 'states'")
    by_hand = study.shares(twins[1], 5)["shares"][:, 0, :2, -1]
    assert part[SHARES[-1]].tolist() == by_hand.T.ravel().tolist()
    tables = beside_twins(own, random, 4)
    assert set(tables["against_random"]["weights"]) == {"own", "random 0", "random 1"}
    row = tables["explained"].query("vectors == 'random weights' and atoms == 'E' and depth == 1")
    wanted = random.query("vectors == 'states' and atoms == 'E' and depth == 1")
    mean = wanted.groupby("prompt")["explained_2"].mean().mean()
    assert row.query("tokens == 2")["estimate"].item() == pytest.approx(mean)


def test_a_set_is_found_by_its_name(adder):
    jacobians = torch.eye(adder.cfg.d_model)[None]
    moved = atom_set(adder, TRANSPORTED, jacobians, 1, 0)
    assert (moved.name, len(moved.at), moved.mixed) == (TRANSPORTED, 1, [])
    assert len(atom_set(adder, "E", jacobians, 3, 0).at) == 3
