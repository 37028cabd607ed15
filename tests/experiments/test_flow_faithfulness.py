"""Which diagrams are true, in a model that copies and in an adder."""

import numpy as np
import pandas as pd
import pytest
import torch

from experiments import Results
from experiments.flow_faithfulness import FIRST_PUBLISHED, FlowFaithfulness
from experiments.information_flow import CARRY_TRUEST, CHANCE, InformationFlow
from lenses.flow.faithfulness import Absent, Pieces, read_clean, with_only
from lenses.flow.kept_curves import ORDERS, RANDOM_ORDER, RANDOM_SHARES, areas_between, best_rule
from lenses.flow.splits import BY_GRADIENT, RULES, splits
from lenses.flow.trace import trace
from lenses.statistics.intervals import mean_with_p, share
from models import load, untrained
from models.planted.carry import planted_carry
from prompts.additions import Addition


@pytest.fixture(scope="module")
def experiment():
    return FlowFaithfulness(model="adder_6d_1l", count=7)


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_1l")


@pytest.fixture(scope="module")
def results(experiment, adder) -> Results:
    return experiment.measure(adder)


def claims_of(experiment, results) -> dict[str, object]:
    return {claim.label or claim.sentence: claim for claim in experiment.claims(results)}


def test_an_adder_explains_another_digit_of_each_answer(results, adder):
    prompts, form = results.tables["prompts"], adder.card.arithmetic
    lengths = prompts["given_tokens"] - prompts["given_tokens"].min()
    assert lengths.tolist() == list(range(form.digits + 1))
    assert prompts["explained"].str.isdigit().all()
    assert (prompts["probability"] > 0.9).all()


@pytest.mark.real
@pytest.mark.slow
def test_information_flow_opens_with_the_rule_and_threshold_that_are_best_on_smollm2():
    tables = FlowFaithfulness().measure(load("smollm2")).tables
    scores, worth = tables["scores"], tables["thresholds"].set_index("threshold")["worth"]
    areas = scores.query("ablation == 'both'").set_index("order")["estimate"]
    opens = InformationFlow.model_fields["rule"].default
    assert areas[list(RULES)].idxmax() == opens
    fields = InformationFlow.model_fields
    cut = f"{fields['threshold'].default} {fields['threshold_value'].default:g}"
    assert worth.idxmax() == cut


def test_scores_are_means_of_the_areas(results):
    areas = results.tables["areas"].query("measure == 'between'")
    expected = areas.groupby(["order", "ablation"])["area"].mean()
    scores = results.tables["scores"].set_index(["order", "ablation"])["estimate"]
    for order, ablation in expected.index:
        assert scores[order, ablation] == pytest.approx(expected[order, ablation])
    assert scores["norms", "both"] == pytest.approx(expected["norms"].mean())


def test_areas_are_those_under_the_curves(results):
    curves, areas = results.tables["curves"], results.tables["areas"]
    for order, ablation in (("projection", "zero"), (RANDOM_ORDER, "mean")):
        at = {"order": order, "ablation": ablation}
        both = []
        for way, measure in (("inserted", "kept first"), ("deleted", "removed first")):
            mine = curves[(curves["way"] == way) & same(curves, at)].sort_values("share")
            both.append(np.trapezoid(mine["estimate"], mine["share"]))
            stored = areas[(areas["measure"] == measure) & same(areas, at)]["area"].mean()
            assert both[-1] == pytest.approx(stored)
    assert set(curves["order"]) == set(ORDERS)


def same(frame: pd.DataFrame, wanted: dict[str, str]) -> pd.Series:
    return np.logical_and.reduce([frame[name] == value for name, value in wanted.items()])


def test_the_best_rule_is_measured_where_it_was_not_chosen(results):
    areas = results.tables["areas"].query("measure == 'between'")
    wide = areas.pivot_table(index="prompt", columns="order", values="area")
    for row in results.tables["best"].itertuples():
        others = wide.drop(index=row.prompt)[list(RULES)].mean()
        assert others[row.rule] == pytest.approx(others.max())
        assert row.area == pytest.approx(wide.loc[row.prompt, row.rule])
        assert row.random == pytest.approx(wide.loc[row.prompt, RANDOM_SHARES])


def test_of_one_layer_any_diagram_is_as_true(experiment, results):
    """One layer has no way but from the token that is read: shares by chance know that, too."""
    claims = experiment.claims(results)
    assert [claim.verdict for claim in claims[:2]] == ["holds", "holds"]
    assert claims[2].kind == "learned"
    assert claims[2].verdict != "holds"
    assert "no better than a diagram with random shares" in experiment.headline(results) or (
        "Not decided" in experiment.headline(results)
    )


def test_random_weights_tell_no_rule_from_chance(adder):
    experiment = FlowFaithfulness(model="adder_6d_1l", count=6)
    claim = experiment.claims(experiment.measure(untrained(adder, 100)))[2]
    assert claim.verdict != "holds"
    assert abs(claim.estimate) < 0.05


def test_a_copied_word_is_found_by_true_diagrams():
    experiment = FlowFaithfulness(count=5)
    results = experiment.measure(experiment.planted())
    claims = claims_of(experiment, results)
    assert claims["projection"].estimate > 0.1
    assert experiment.claims(results)[2].estimate > 0.1
    left = results.tables["curves"].set_index(["way", "order", "ablation", "share"])["estimate"]
    assert left["inserted", "projection", "zero", 0.05] == pytest.approx(1, abs=1e-3)
    assert left["inserted", RANDOM_SHARES, "zero", 0.05] < 0.9


@pytest.fixture(scope="module")
def carrying():
    """A planted adder and its areas on 64 sums; neither its seed nor its sums chose anything."""
    planted = planted_carry(seed=5)
    return planted, FlowFaithfulness(count=64, seed=5).measure(planted.model)


def test_of_a_planted_adder_the_truest_rule_is_named(carrying):
    """Chosen on every other sum and held against other rules on the rest."""
    wide = areas_between(carrying[1].tables["areas"])
    chosen = wide[::2][list(RULES)].mean().idxmax()
    assert chosen == CARRY_TRUEST == best_rule(carrying[1].tables["best"])
    for other in ("projection", *BY_GRADIENT, RANDOM_ORDER):
        assert mean_with_p((wide[chosen] - wide[other])[1::2].to_numpy()).low > 0


def test_the_headline_says_of_which_rules_the_best_is_not_shown_to_be_ahead():
    """Of one that is as good on average, not of one that is worse in every prompt."""
    noise = np.random.default_rng(0).normal(0, 0.1, 40)
    areas = {rule: np.full(40, 0.2) for rule in RULES}
    areas |= {"norms": 0.5 + noise, "projection": 0.5 - noise}
    rows = [
        {"prompt": prompt, "order": rule, "measure": "between", "area": area}
        for rule, each in areas.items()
        for prompt, area in enumerate(each)
    ]
    results = Results({"areas": pd.DataFrame(rows)})
    said = "The rule “norms” comes out best, but is not shown to be ahead of “projection”"
    assert FlowFaithfulness()._truest(results, "norms") == said
    alone = {**areas, "projection": np.full(40, 0.2)}
    rows = [row | {"area": alone[row["order"]][row["prompt"]]} for row in rows]
    results = Results({"areas": pd.DataFrame(rows)})
    assert (
        FlowFaithfulness()._truest(results, "norms")
        == "The rule “norms” draws the truest diagram, ahead "
        "of every other rule (each lead's 95% interval is above 0)"
    )


def test_under_it_the_path_of_the_carry_is_the_thickest_of_its_block(carrying):
    """In more than half of the sums, of adders and sums that it was not chosen on."""
    rule = best_rule(carrying[1].tables["best"])
    found = []
    for seed in range(40, 44):
        planted = planted_carry(seed=seed)
        form = planted.model.card.arithmetic
        for place in planted.heads:
            below = [form.operand_at(addend, place - 1) for addend in "ab"]
            sources = thickest_sources(planted.model, place, rule, seed)
            found += [source in below for source in sources]
    assert len(found) == 4 * 3 * 12
    assert share(sum(found), len(found)).low > 0.5 > CHANCE


def thickest_sources(model, place, rule, seed):
    """From where block 0 draws most into a digit that gets a carry, in 12 sums."""
    sums = Addition(3, 256, seed).sums
    told = model.card.arithmetic.write(sums[np.flatnonzero(sums.carry[:, place])[:12]])
    for ids, at in zip(told.tokens, told.at[:, place], strict=True):
        split = splits(model, torch.from_numpy(ids[:at].copy()), [rule])[rule]
        yield int(trace(split, 2, -1).attention[0, -1].argmax())


def test_the_planted_pieces_alone_keep_the_digit_of_a_planted_adder(carrying):
    """The measure could tell: a tenth of the mass keeps all, where it is the right tenth."""
    model, form = carrying[0].model, carrying[0].model.card.arithmetic
    sums = Addition(form.digits, 8, seed=7).sums
    for ids in torch.from_numpy(form.write(sums).tokens):
        clean = read_clean(model, ids[: form.read_at(1) + 1])
        kept = Pieces(*(torch.zeros(1, *x.shape, dtype=torch.bool)
                        for x in (clean.mass.attention, clean.mass.mlp)))  # fmt: skip
        units, tens = ([form.operand_at(addend, place) for addend in "ab"] for place in (0, 1))
        kept.mlp[0, :, -1] = kept.attention[0, 0, -1, [0, *units]] = True
        kept.attention[0, 1, -1, tens] = True
        assert (kept.flat()[0] * clean.mass.flat()).sum() < 0.1 * clean.mass.flat().sum()
        left = with_only(model, clean, kept, Absent.zero(clean)).log_probability[0]
        assert left == pytest.approx(float(clean.log_p.max()), abs=1e-3)


def test_the_best_rule_is_not_held_against_itself(experiment, results):
    labels = [claim.label for claim in experiment.claims(results) if "other orders" in claim.family]
    rule = results.tables["best"]["rule"].mode()[0]
    assert rule not in labels
    assert FIRST_PUBLISHED in [*labels, rule]


def test_links_can_be_kept_in_equal_number(adder):
    counted = FlowFaithfulness(model="adder_6d_1l", count=2, equal="links").measure(adder)
    assert counted.tables["thresholds"]["mass"].between(0, 1).all()
    assert counted.tables["best"]["prompt"].tolist() == [0, 1]
    assert "not tested" in {claim.verdict for claim in FlowFaithfulness().claims(counted)}
