import numpy as np
import pandas as pd
import pytest
import torch

from experiments import Results
from experiments.head_redundancy import HeadRedundancy, _Chosen, _chosen, _covering_claim
from models import load
from models.planted.twins import planted_twins

QUICK = {"model": "adder_6d_1l", "additions": 24}


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_1l")


@pytest.fixture(scope="module")
def results(adder) -> Results:
    return HeadRedundancy(**QUICK).measure(adder)


def test_every_pair_of_heads_has_all_measures(results, adder):
    pairs, count = results.tables["pairs"], adder.cfg.n_layers * adder.cfg.n_heads
    assert len(pairs) == count * (count - 1) // 2
    assert pairs[["cka", "cosine", "ov_overlap", "qk_overlap"]].notna().all(axis=None)
    assert len(results.tables["merges"]) == count - 1


def test_costs_are_of_the_answers_digits_alone(results, adder):
    """Head by head with a plain hook: z at every pos is its mean over the other additions."""
    experiment = HeadRedundancy(**QUICK)
    tokens = torch.tensor([text.ids for text in experiment._texts(adder)])
    logits, cache = adder.run_with_cache(tokens[:, :-1])
    z = cache["blocks.0.attn.hook_z"]
    mean = (z.sum(0) - z) / (len(z) - 1)
    single = results.tables["single"].set_index(["layer", "head"])

    def nll(values):
        chosen = values.log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]
        return -chosen[:, 14:].mean(-1)

    for head in range(adder.cfg.n_heads):

        def swap(z, hook, head=head):
            z = z.clone()
            z[:, :, head] = mean[:, :, head]
            return z

        changed = adder.run_with_hooks(tokens[:, :-1], fwd_hooks=[("blocks.0.attn.hook_z", swap)])
        expected = (nll(changed) - nll(logits)).mean().item()
        assert single.cost[0, head] == pytest.approx(expected, abs=1e-4)


def test_interaction_is_both_less_the_sum(results):
    joint = results.tables["joint"]
    expected = joint["both"] - joint["cost"] - joint["other_cost"]
    assert np.allclose(joint["interaction"], expected)
    single = results.tables["single"].set_index(["layer", "head"])["cost"]
    other = single.loc[list(zip(joint["other_layer"], joint["other_head"], strict=True))]
    assert np.allclose(joint["other_cost"], other)


def test_the_most_alike_are_chosen_and_unlike_pairs_share_their_first_head():
    alike = np.eye(6)
    for (one, other), value in {(0, 1): 0.9, (0, 4): 0.6, (2, 3): 0.3, (1, 5): 0.05}.items():
        alike[one, other] = alike[other, one] = value
    chosen = _chosen(alike, 3, 3)
    assert chosen.pairs.tolist() == [[0, 1], [0, 4], [2, 3], [0, 2], [0, 3]]
    assert chosen.kind.tolist() == ["alike", "alike", "less alike", "unlike", "unlike"]
    assert chosen.rival.tolist() == [3, 4, -1, -1, -1]


def test_what_is_alike_is_no_rival():
    alike = np.full((3, 3), 0.8)
    assert _chosen(alike, 3, 1).rival.tolist() == [-1]
    alike[0, 2] = alike[2, 0] = 0.5
    chosen = _chosen(alike, 3, 1)
    assert (chosen.pairs.tolist(), chosen.rival.tolist()) == ([[0, 1], [0, 2]], [1, -1])


def test_two_heads_in_a_layer_have_no_unlike_pair():
    chosen = _chosen(np.array([[1, 0.9], [0.9, 1]]), 2, 5)
    assert chosen.pairs.tolist() == [[0, 1]]
    assert chosen.rival.tolist() == [-1]


def test_the_difference_is_within_alike_pairs_and_their_rivals(adder):
    pairs = np.array([[0, 1], [0, 2], [1, 2]])
    chosen = _Chosen(pairs, np.array(["alike", "less alike", "unlike"]), np.array([2, -1, -1]))
    rng = np.random.default_rng(0)
    costs = {"single": rng.random((8, 3)), "both": rng.random((8, 3))}
    rows, summary = HeadRedundancy(**QUICK)._joint_rows(chosen, costs, np.eye(3), 3)
    summary = summary.set_index("kind")
    by_hand = (costs["both"] - costs["single"][:, pairs].sum(-1)).mean(0)
    assert np.allclose(rows["interaction"], by_hand)
    assert summary.estimate["difference"] == pytest.approx(by_hand[0] - by_hand[2])
    assert summary.pairs.to_dict() == {"alike": 1, "less alike": 1, "unlike": 1, "difference": 1}


def test_twins_are_found_alike_and_cover_for_each_other():
    model, ((layer, one), (_, other)) = planted_twins()
    experiment = HeadRedundancy(**QUICK)
    found = experiment.measure(model)
    first = found.tables["joint"].iloc[0]
    assert (first["layer"], first["other_layer"]) == (layer, layer)
    assert {first["head"], first["other_head"]} == {one, other}
    assert first["cka"] == pytest.approx(1)
    assert first["low"] > 0.2
    learned = [claim for claim in experiment.claims(found) if claim.kind == "learned"]
    assert [claim.verdict for claim in learned] == ["holds"]
    told = experiment.headline(found)
    assert told.startswith("Yes: alike heads cover for each other (11 pairs; the most alike are ")
    assert f"L{layer}H{min(one, other)} and L{layer}H{max(one, other)}, CKA 1.00" in told


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.02, 0.1, "holds"), (-0.1, 0.005, "fails"), (0, 1, "undecided")]
)
def test_a_verdict_follows_the_difference(low, high, verdict):
    rows = [
        ("alike", 3, 0.5, 0.4, 0.6, 20),
        ("unlike", 3, 0.0, 0.0, 0.0, 20),
        ("difference", 3, 0.05, low, high, 20),
    ]
    frame = pd.DataFrame(rows, columns=["kind", "pairs", "estimate", "low", "high", "n"])
    assert _covering_claim(frame.set_index("kind")).verdict == verdict


def test_without_alike_heads_nothing_is_tested():
    rows = [(kind, 0, np.nan, np.nan, np.nan, 0) for kind in ("alike", "unlike", "difference")]
    frame = pd.DataFrame(rows, columns=["kind", "pairs", "estimate", "low", "high", "n"])
    claim = _covering_claim(frame.set_index("kind"))
    assert claim.verdict == "not tested"
    assert (claim.estimate, claim.n, claim.null) == (None, 0, None)
    assert "CKA above 0.5" in claim.needs


def test_the_headline_names_the_most_alike_heads_and_those_that_can_go(results):
    told = HeadRedundancy(**QUICK).headline(results)
    first = results.tables["joint"].iloc[0]
    assert f"L0H{first['head']} and L0H{first['other_head']}" in told
    assert "None of 4 heads can be removed" in told
    freed = results.tables["single"].assign(cost=[0.5, 0.009, 0.5, 0])
    told = HeadRedundancy(**QUICK).headline(Results(dict(results.tables) | {"single": freed}))
    assert "2 of 4 heads (L0H1, L0H3) can be removed" in told


@pytest.mark.real
def test_a_language_model_with_grouped_queries_and_norms_after_attention():
    model = load("gemma3_270m_q4", dtype=torch.float32)
    experiment = HeadRedundancy(model="gemma3_270m_q4")
    rows = experiment._texts(model)[:4]
    alike = experiment._alike(model, rows, "likeness")
    assert np.isfinite(alike["hsic"]).all()
    assert alike["tokens"].sum() == sum(len(text.ids) - 1 for text in rows)
