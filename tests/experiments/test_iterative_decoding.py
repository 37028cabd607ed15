"""States as sums of tokens: on an adder, on a planted model, and with random weights."""

import numpy as np
import pytest

from experiments import Results, UsageError, iterative_decoding
from experiments.iterative_decoding import IterativeDecoding
from lenses.states import concept_tables
from lenses.statistics.intervals import mean_with_p
from lenses.texts import ReadText
from models import load, untrained

SMALL = {"model": "adder_6d_1l", "additions": 8}


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_1l")


@pytest.fixture(scope="module")
def results(adder) -> Results:
    return IterativeDecoding(**SMALL).measure(adder)


@pytest.fixture(scope="module")
def planted() -> Results:
    experiment = IterativeDecoding(**SMALL)
    return experiment.measure(experiment.planted())


def verdicts(results) -> dict[str, str]:
    claims = IterativeDecoding(**SMALL).claims(results)
    return {c.label or c.sentence: c.verdict for c in claims if c.verdict}


def test_explained_is_the_mean_over_prompts(results):
    states, rows = results.tables["states"], results.tables["explained"]
    keys = ["atoms", "vectors", "state", "depth"]
    for key, part in states.groupby(keys):
        by_prompt = part.groupby("prompt")["explained_3"].mean()
        mine = rows[(rows[keys] == list(key)).all(axis=1) & (rows["tokens"] == 3)].iloc[0]
        assert mine["estimate"] == pytest.approx(by_prompt.mean(), nan_ok=True)
        assert mine["n"] == by_prompt.notna().sum()


def test_what_claims_compare_is_states_less_random_vectors(results):
    states, rows = results.tables["states"], results.tables["against_random"]
    part = states.query("state == 'residual stream' and depth > 0 and atoms == 'E' and prompt == 2")
    mean = part.groupby("vectors")["explained_5"].mean()
    row = rows.query("weights == 'own' and atoms == 'E' and prompt == 2")
    assert row["value"].item() == pytest.approx(mean["states"] - mean["random vectors"])
    assert set(rows["weights"]) == {"own", *(f"random {i}" for i in range(4))}


def test_in_the_planted_model_states_are_sums_of_three_tokens(planted):
    states = planted.tables["states"]
    part = states.query("vectors == 'states' and atoms == 'E' and depth == 1")
    assert (part[part["state"] == "residual stream"]["explained_5"] > 0.9).all()
    experiment = IterativeDecoding(**SMALL)
    assert experiment.headline(planted).startswith(
        "Yes: of what is left of a state without the token that is read"
    )
    assert set(verdicts(planted).values()) == {"holds"}


def test_p_of_each_depth_counts_the_others(results):
    """A lead over random vectors that luck may explain among as many depths is undecided."""
    states = results.tables["states"].copy()
    of_states = states["vectors"] == concept_tables.BEYOND
    rng = np.random.default_rng(0)
    by_prompt = {number: rng.normal(0.1, 0.08) for number in states["prompt"].unique()}
    near = states["prompt"].map(by_prompt)
    mixed = states["vectors"] == concept_tables.BY_MIXED
    states.loc[mixed, "explained_5"] = 0.0
    states.loc[of_states, "explained_5"] = near[of_states]
    found = IterativeDecoding(**SMALL).claims(Results({**results.tables, "states": states}))
    learned = [claim for claim in found if claim.kind == "learned"]
    assert len(learned) > 1
    alone = mean_with_p(np.array(list(by_prompt.values())), 0.02, 0).p
    assert [claim.p for claim in learned] == pytest.approx([alone] * len(learned))
    assert {claim.verdict for claim in learned} == {"holds" if alone <= 0.05 else "undecided"}


def test_with_random_weights_tokens_tell_no_more_than_mixed_vectors(adder):
    experiment = IterativeDecoding(**SMALL)
    found = experiment.measure(untrained(adder, 5))
    learned = [c for c in experiment.claims(found) if c.kind == "learned"]
    assert [c.verdict for c in learned] == ["fails", "fails"]
    assert experiment.headline(found).startswith("Hardly:")


def test_without_jacobians_there_is_no_transported_set(adder):
    given = {"prompts": ("000012+000034=",), "jacobian_texts": 0}
    experiment = IterativeDecoding(model="adder_6d_1l", **given)
    found = experiment.measure(adder)
    assert set(found.tables["states"]["atoms"]) == {"E", "effective E"}
    assert {c.verdict for c in experiment.claims(found) if c.kind == "learned"} == {"not tested"}
    assert len(experiment.figures(found)) == 8


def test_a_text_of_one_token_is_refused(adder, monkeypatch):
    alone = [ReadText(0, "given", [3])]
    monkeypatch.setattr(iterative_decoding, "texts_or_additions", lambda *_: alone)
    with pytest.raises(UsageError, match="no text has a second token"):
        IterativeDecoding(model="adder_6d_1l", prompts=("1",)).measure(adder)


@pytest.mark.real
def test_smollm2_holds_its_own_token_and_little_else_of_few_tokens():
    experiment = IterativeDecoding(depths=4, positions=1, jacobian_texts=0)
    results = experiment.measure(load("smollm2"))
    claims = {c.label: c.verdict for c in experiment.claims(results) if c.kind == "learned"}
    assert claims["E, lower third"] == claims["effective E, upper third"] == "fails"
    states = results.tables["states"].query("vectors == 'states' and state == 'residual stream'")
    part = states[(states["atoms"] == "effective E") & states["depth"].between(1, 15)]
    assert (part["first"] == part["token"]).mean() > 0.5
    triples = results.tables["triples"].set_index(["rows", "pursuit"])["estimate"]
    assert triples["as they are", "orthogonal"] >= 0.95 > triples["as they are", "published"]
