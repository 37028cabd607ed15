import re

import numpy as np
import pandas as pd
import pytest
import torch

from experiments import Results, UsageError, corrected
from experiments.head_selection import THERE_IS, HeadSelection, _mean_shares
from models import load
from models.planted.selection import planted_selection

QUICK = {"model": "adder_6d_1l", "count": 5, "repeats": 16}


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_1l")


@pytest.fixture(scope="module")
def results(adder) -> Results:
    return HeadSelection(**QUICK).measure(adder)


def test_every_head_has_one_row_with_all_that_was_found(results, adder):
    heads = results.tables["heads"]
    assert len(heads) == adder.cfg.n_layers * adder.cfg.n_heads
    sums = heads[["content", "position", "both", "context"]].sum(axis=1)
    assert np.allclose(sums, 1)
    kinds = results.tables["kinds"].query("tokens == 'repeated' and kind == 'sink'")
    assert np.allclose(heads["sink"], kinds["estimate"])
    assert heads["attends_pairs"].str.count(r"\|").eq(3).all()


def test_intervals_of_shares_end_where_shares_do(results):
    shares = np.array([[0.9], [1.0], [0.97], [1.0], [0.8]]).reshape(5, 1, 1, 1)
    row = HeadSelection(**QUICK)._estimates(shares, component=["position"]).iloc[0]
    assert 0.5 < row["low"] < row["estimate"] < row["high"] == 1
    for table in ("shares", "kinds", "best"):
        ends = results.tables[table][["low", "high"]].stack()
        assert ends.between(0, 1).all()


def test_the_headline_of_an_adder_names_the_nearest_and_no_kind(results):
    experiment, best = HeadSelection(**QUICK), results.tables["best"]
    nearest = best.loc[best["estimate"].idxmax()]
    told = experiment.headline(results)
    assert "No head gives most" in told
    assert f"nearest is L0H{nearest['head']} (" in told
    assert f" % to {THERE_IS[nearest['kind']]})" in told


def test_the_identity_is_a_check_and_is_not_tested_without_shares(results):
    experiment, shares = HeadSelection(**QUICK), results.tables["shares"]
    claim = experiment._identity(shares)
    assert (claim.kind, claim.check, claim.verdict, claim.n) == ("identity", True, "holds", 4)
    wrong = shares.assign(estimate=np.nan)
    assert experiment._identity(wrong).verdict == "fails"
    assert experiment._identity(shares[:0]).verdict == "not tested"


def test_only_slots_between_the_addends_digits_are_refilled(adder):
    experiment = HeadSelection(**QUICK)
    for one in experiment._exchanges(adder, experiment._texts(adder)):
        assert len(set(one.slots)) == len(set(one.tokens)) == 7
        assert set(one.slots) <= {*range(1, 7), *range(8, 14)}
        assert one.queries.tolist() == list(range(14, 21))


def test_repetitions_repeat_different_digits_after_the_first_token(adder):
    rows, first = HeadSelection(**QUICK)._repeated(adder, np.arange(13))
    assert rows.shape == (16, 21)
    assert first == 11
    assert (rows[:, 1:11] == rows[:, 11:]).all()
    assert (np.sort(rows[:, 1:11]) == np.arange(10)).all()
    assert (rows[:, 0] == 12).all()


def test_the_best_head_is_judged_where_it_was_not_chosen(adder):
    experiment, rng = HeadSelection(**QUICK), np.random.default_rng(0)
    attention = rng.random((8, 4, 2, 3))
    attention[::2, :, 1, 2] += 5
    attention[1::2, :, 0, 0] += 5
    best = experiment._best_rows({"attention": attention, "even": np.full((8, 4), 0.1)})
    assert (best[["layer", "head"]].to_numpy() == [1, 2]).all()
    assert np.allclose(best["estimate"], attention[1::2, :, 1, 2].mean(0))


def test_planted_heads_are_found_and_claimed():
    planted = planted_selection()
    experiment = HeadSelection(**QUICK)
    found = experiment.measure(planted.model)
    best = found.tables["best"].set_index("kind")
    for kind in best.index:
        assert (best.layer[kind], best["head"][kind]) == planted.heads[kind]
    claims = experiment.claims(found)
    learned = [claim for claim in claims if claim.kind == "learned"]
    assert len(learned) == 5
    assert {claim.verdict for claim in learned} == {"holds"}
    (induction,) = (claim for claim in learned if "induction heads" in claim.sentence)
    assert "L{}H{}".format(*planted.heads["induction"]) in induction.null_note
    told = experiment.headline(found)
    assert told.startswith("Most of their attention to one kind of token give L")
    for kind, what in THERE_IS.items():
        name = "L{}H{}".format(*planted.heads[kind])
        assert re.search(rf"{name} \(\d+ % to {re.escape(what)}\)", told)
    heads = found.tables["heads"].set_index(["layer", "head"])
    assert heads["copies"][planted.heads["induction"]] == 1
    assert heads["content"][planted.heads["content"]] == pytest.approx(1)
    assert pd.isna(heads["content"][planted.heads["sink"]])


def told(own: float, random: float) -> dict[str, str]:
    """Verdicts of the mechanical claims where texts scatter around these means."""
    rng, rows = np.random.default_rng(0), []
    for weights in ("own", *(f"random {i}" for i in range(4))):
        mean = own if weights == "own" else random
        for component in ("content", "position"):
            values = rng.normal(mean, 0.05, 24)
            rows += [(weights, component, i, value) for i, value in enumerate(values)]
    frame = pd.DataFrame(rows, columns=["weights", "component", "prompt", "value"])
    return {claim.verdict for claim in corrected(HeadSelection()._mechanical(frame))}


def test_what_moves_scores_is_held_against_random_weights():
    assert told(0.6, 0.3) == {"holds"}
    assert told(0.2, 0.5) == {"fails"}
    assert told(0.4, 0.4) == {"undecided"}


def test_means_over_heads_leave_out_heads_without_shares():
    shares = np.full((1, 4, 1, 2), np.nan)
    shares[0, :, 0, 1] = [0.1, 0.2, 0.3, 0.4]
    assert np.allclose(_mean_shares("own", shares)["value"], [0.1, 0.2, 0.3, 0.4])


def test_more_keys_than_digits_are_refused(adder):
    with pytest.raises(UsageError, match="keys: no text of adder_6d_1l has 11"):
        HeadSelection(model="adder_6d_1l", count=2, keys=11).measure(adder)


@pytest.mark.real
@pytest.mark.parametrize("name", ["smollm2", "gemma3_270m_q4"])
def test_a_language_model_is_read_with_words(name):
    model = load(name, dtype=torch.float32)
    experiment = HeadSelection(model=name, count=2, repeats=4, vocabulary=60, length=8)
    texts = experiment._texts(model)
    tokens = experiment._words(model, texts)
    assert len(set(tokens.tolist())) == 60
    shares = experiment._shares(model, experiment._exchanges(model, texts), "exchanging")["shares"]
    assert np.nanmax(np.abs(shares[:, 3, 0])) < 1e-3
    pairs, own = experiment._circuits(model, tokens)
    assert np.isfinite(own).all()
    assert pairs.groupby(["layer", "head", "circuit"]).size().eq(13).all()
