"""Knock-outs and relevances of prompts against arithmetic, pandas, and a planted model."""

import numpy as np
import pandas as pd
import pytest

from experiments import Results
from experiments.prompt_relevance import PromptRelevance, _complete, _in_most
from lenses.flow.dropped_tokens import ORDERS
from lenses.flow.keyed_texts import positions
from lenses.flow.scores import first_less_best, labels
from models import ModelError, load, untrained
from models.planted.copy import planted_copy
from models.text import tokenize
from prompts.relevance import keyed_prompts


def measured(experiment: PromptRelevance, model) -> Results:
    found = experiment.measure(model)
    tables = {k: t if isinstance(t, pd.DataFrame) else t.frame() for k, t in found.tables.items()}
    return Results(tables=tables)


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_2l")


@pytest.fixture(scope="module")
def results(adder) -> Results:
    return measured(PromptRelevance(additions=5), adder)


@pytest.fixture(scope="module")
def planted():
    experiment = PromptRelevance()
    model = experiment.planted()
    return experiment, model, measured(experiment, model)


def verdicts(experiment, results) -> dict[str, str]:
    claims = experiment.claims(results)
    return {claim.label or claim.sentence[:30]: claim.verdict for claim in claims}


def test_what_the_units_digit_depends_on_is_its_column(results):
    """Nothing is carried into it: its two digits are what it loses most by, and it loses much."""
    pairs = results.tables["pairs"].query("row == 6")
    for _, row in pairs.groupby("prompt"):
        assert set(row.nlargest(2, "drop_edges")["pos"]) == {6, 13}
        assert row["drop_edges"].max() > 2


def test_every_digit_of_the_answer_depends_on_its_column(results):
    """Place by place the mean loss is largest for the two digits of the column."""
    loss = results.tables["pairs"].groupby(["row", "pos"])["drop_edges"].mean().unstack()
    for row in range(1, 7):
        assert set(loss.loc[row].nlargest(2).index) == {row, row + 7}


def test_drops_of_the_answer_are_sums_over_its_tokens(results):
    relevance, pairs = results.tables["relevance"], results.tables["pairs"]
    total = pairs.groupby(["prompt", "pos"])["drop_edges"].sum()
    found = relevance.query("measure == 'drop_edges'").set_index(["prompt", "pos"])["value"]
    assert np.allclose(found.sort_index(), total.sort_index())


def test_scores_are_the_rank_correlations_of_the_stored_relevances(results):
    relevance = results.tables["relevance"].query("phase == 'prompt' and 0 < pos < 14")
    scores = results.tables["scores"].query(
        "scope == 'answer' and truth == 'edges' and target == 'magnitude' and not first_token"
    )
    drops = relevance[relevance["measure"] == "drop_edges"].set_index(["prompt", "pos"])["value"]
    for measure, layers in (("attention", "first"), ("gradient_x_input", "all")):
        part = relevance[(relevance["measure"] == measure) & (relevance["layers"] == layers)]
        pair = part.set_index(["prompt", "pos"])[["value"]].join(drops.rename("drop")).abs()
        each = [p.corr("spearman").iloc[0, 1] for _, p in pair.groupby("prompt")]
        row = scores[(scores["measure"] == measure) & (scores["layers"] == layers)]
        assert row["estimate"].item() == pytest.approx(np.mean(each))


def test_relevance_is_the_mean_of_the_rows_that_answer(results):
    first = results.tables["relevance"].query(
        "measure == 'attention' and layers == 'first' and phase == 'prompt'"
    )
    rows = results.tables["pairs"].groupby(["prompt", "pos"])["attention_first"].mean()
    assert np.allclose(first.set_index(["prompt", "pos"])["value"].sort_index(), rows.sort_index())
    generated = results.tables["relevance"].query("phase == 'generated'")
    assert set(generated["pos"]) == set(range(15, 21))  # the last answer digit has no relevance


def test_a_random_ranking_tells_nothing(results):
    random = results.tables["scores"].query("measure == 'random'")
    assert (random["low"] < 0).all()
    assert (random["high"] > 0).all()
    assert (random["estimate"].abs() < 0.05).all()


def test_every_learned_claim_holds_where_a_copying_head_is_planted(planted):
    experiment, _, results = planted
    claims = [c for c in experiment.claims(results) if c.kind == "learned"]
    assert [claim.verdict for claim in claims] == ["holds"] * 5
    assert [claim.estimate for claim in claims] == [1.0] * 5
    assert results.tables["prompts"]["depends"].all()


def test_prompts_whose_key_is_not_said_tell_nothing(planted):
    experiment, _, results = planted
    ranks = results.tables["ranks"].copy()
    unsaid = ranks["prompt"] < 3
    ranks.loc[unsaid, ["rank", "depends"]] = [9.0, False]
    claims = experiment.claims(Results(tables={**results.tables, "ranks": ranks}))
    found = next(claim for claim in claims if claim.label == "knocking out")
    assert (found.estimate, found.n) == (1.0, 36 - 3)


@pytest.mark.parametrize("seed", range(3))
def test_random_weights_learn_nothing_when_every_prompt_counts(planted, seed):
    experiment = PromptRelevance(said=False, new_tokens=1)
    claims = experiment.claims(measured(experiment, untrained(planted[1], seed)))
    learned = [claim for claim in claims if claim.kind == "learned"]
    assert [claim.n for claim in learned] == [36, 36, 36, 6, 6]
    assert all(claim.verdict != "holds" for claim in learned)


def test_a_head_of_the_second_layer_is_not_found_in_the_first():
    shipped = [prompt for prompt in keyed_prompts() if prompt.kind == "planted"]
    model, _ = planted_copy([p.text for p in keyed_prompts()], [p.key for p in shipped], layer=1)
    experiment = PromptRelevance(new_tokens=1)
    results = measured(experiment, model)
    told = verdicts(experiment, results)
    assert told["knocking out"] == "holds"
    assert told["layer 0's attention"] == "fails"
    assert told["layer 0, value-weighted"] == "fails"
    assert told["No other layer's attention has"] == "fails"


def test_dropping_what_does_not_matter_leaves_the_answer(planted):
    tweaking = planted[2].tables["tweaking"].query("statistic == 'next_token_stays'")
    kept = tweaking.set_index(["order", "share_dropped"])["estimate"]
    for order in set(ORDERS) - {"random"}:
        assert kept[order].min() == 1, order
    assert kept["random", 0.75] < 0.6


def test_one_token_prompts_and_one_token_answers_divide_by_nothing(planted):
    experiment = PromptRelevance(prompts=("Our", "Our dog", "Our dog is Max and"), new_tokens=1)
    results = measured(experiment, planted[1])
    for name in ("relevance", "pairs", "prompts", "sink"):
        numbers = (
            results.tables[name]
            .select_dtypes("number")
            .drop(columns=["layer", "window", "integrated"], errors="ignore")
        )
        known = numbers.drop(columns=[c for c in numbers if c.endswith(("_low", "_high"))])
        assert np.isfinite(known.to_numpy(float)).all(), name
    assert experiment.claims(results)[0].verdict == "holds"
    assert len(experiment.figures(results))


def test_a_single_one_token_prompt_can_be_asked_about(planted):
    experiment = PromptRelevance(prompts=("Our",), new_tokens=1)
    results = measured(experiment, planted[1])
    claims = [claim for claim in experiment.claims(results) if not claim.check]
    assert {claim.verdict for claim in claims} == {"not tested"}
    assert all(claim.needs for claim in claims)
    assert "too few tokens" in experiment.headline(results)
    assert len(experiment.figures(results))


def test_a_prompt_of_ones_own_is_answered_with_its_tokens_and_no_key_is_tested(planted):
    """The planted model answers with its key word: that is what the answer loses most without."""
    text = "Our dog Max likes long walks. Every evening I walk with our dog"
    experiment = PromptRelevance(prompts=(text,), new_tokens=1)
    results = measured(experiment, planted[1])
    assert "loses most without “Max”" in experiment.headline(results)
    gains = results.tables["pairs"].assign(drop_edges=-1.0)
    gaining = Results({**results.tables, "pairs": gains}, results.arrays)
    assert "loses nothing without any one token." in experiment.headline(gaining)
    learned = [claim for claim in experiment.claims(results) if claim.kind == "learned"]
    assert {(c.verdict, c.estimate, c.n) for c in learned} == {("not tested", None, 0)}
    assert all("--prompts" in claim.needs for claim in learned)


def test_the_headline_names_what_decides_and_how_well_layer_0_ranks(results):
    headline = PromptRelevance(additions=5).headline(results)
    rho = results.tables["scores"].query(
        "measure == 'attention' and layers == 'first' and scope == 'answer' and truth == 'edges' "
        "and target == 'magnitude' and not first_token"
    )["estimate"]
    assert "loses most without the two units digits in" in headline
    assert f"its rank correlation with knocking out is {rho.item():.2f}" in headline


def test_a_prompt_that_is_too_long_is_refused(planted):
    with pytest.raises(ModelError, match="at most 64"):
        PromptRelevance(prompts=("Our" + " dog" * 80,)).measure(planted[1])


def test_a_word_is_found_in_its_tokens(planted):
    text = "Our dog is called Max and likes long walks. The name of our dog is"
    given = tokenize(planted[1], text)
    assert positions(planted[1], given, text, "Max") == [[4]]
    assert positions(planted[1], given, text, "") == []


def test_the_best_other_layer_is_chosen_on_other_prompts():
    curve = np.array([[0.5, 0.9, 0.1], [0.5, 0.2, 0.8], [0.5, 0.3, 0.7]])
    # Best of the others' means: prompt 0 -> layer 2; 1 -> layer 1 (.6 against .4); 2 -> layer 1.
    assert first_less_best(curve).tolist() == pytest.approx([0.4, 0.3, 0.2])
    assert np.isnan(first_less_best(curve[:, :1])).all()


def test_shares_are_judged_by_their_interval():
    def judged(right: list[bool]) -> str:
        return _in_most("It is so.", pd.Series(right, dtype=bool), "prompts").verdict

    assert judged([True] * 6) == "holds"
    assert judged([True, False] * 3) == "undecided"
    assert judged([False] * 6) == "fails"
    assert judged([]) == "not tested"


def test_every_relevance_has_a_label(results):
    told = labels(2)
    assert len(set(told)) == len(told)
    stored = results.tables["scores"].query("measure != 'random'")
    assert set(stored["measure"]) == {label.measure for label in told}


def test_a_measure_that_is_refused_for_a_prompt_is_left_out_of_its_picture(results):
    rows = results.tables["relevance"]
    refused = rows[rows["measure"] != "integrated_gradients"]
    figures = PromptRelevance(additions=5).figures(
        Results({**results.tables, "relevance": refused}, results.arrays)
    )
    shown = figures["One prompt, token by token"].data["measure"].unique()
    assert len(shown) > 2
    assert "gradients" not in shown


def test_where_no_path_has_points_enough_it_is_said_that_no_text_is_missing():
    prompts = pd.DataFrame({"integrated": [np.nan] * 3, "whole": [1.0] * 3})
    claim = _complete(prompts)
    assert claim.verdict == "not tested"
    assert claim.needs == "a prompt for which 192 points on the path are enough"
    assert "refused in 3 of 3 prompts" in claim.unit
