import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from experiments import Results
from experiments.head_importance import MAIN, PHASES, HeadImportance, _chosen, _judged
from lenses.heads.importance import MEASURES, SIGNED
from lenses.heads.standings import BASELINES
from lenses.patching.single_heads import MODES
from lenses.texts import ReadText
from models import ModelError, load
from models.text import tokenize

ADDITIONS = 6


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_2l")


@pytest.fixture(scope="module")
def experiment() -> HeadImportance:
    return HeadImportance(model="adder_6d_2l", additions=ADDITIONS)


@pytest.fixture(scope="module")
def results(experiment, adder) -> Results:
    return experiment.measure(adder)


def naive_effects(model, ids: list[list[int]], start: int) -> pd.DataFrame:
    """One head, one mode and one text at a time, by hooks on whole passes of plain tokens."""
    names = [f"blocks.{layer}.attn.hook_z" for layer in range(model.cfg.n_layers)]
    tokens = torch.tensor(ids)[:, :-1]
    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens)
        rows = []
        for layer, name in enumerate(names):
            for head in range(model.cfg.n_heads):
                z = cache[name][:, :, head]
                others = (z.sum(0) - z) / (len(z) - 1)
                values = {"zero": torch.zeros_like(z), "mean": others, "resample": z.roll(-1, 0)}
                for mode, value in values.items():

                    def put(z, hook, head=head, value=value):
                        z = z.clone()
                        z[:, :, head] = value
                        return z

                    after = model.run_with_hooks(tokens, fwd_hooks=[(name, put)])
                    change = outcomes(logits, after, torch.tensor(ids)[:, 1:])[..., start - 1 :]
                    rows.append((layer, head, mode, *change.mean((1, 2)).tolist()))
    return pd.DataFrame(rows, columns=["layer", "head", "mode", "delta_nll", "kl", "delta_logit"])


def outcomes(before, after, true) -> torch.Tensor:
    before, after = before.double().log_softmax(-1), after.double().log_softmax(-1)
    rival = before.scatter(-1, true[..., None], -torch.inf).argmax(-1)
    at = lambda logp, ids: logp.gather(-1, ids[..., None])[..., 0]  # noqa: E731
    gap = (at(after, true) - at(after, rival)) - (at(before, true) - at(before, rival))
    kl = (before.exp() * (before - after)).sum(-1)
    return torch.stack([at(before, true) - at(after, true), kl, gap])


def test_effects_agree_with_a_naive_hook(experiment, results, adder) -> None:
    ids = [text.ids for text in experiment._texts(adder)[0]]
    expected = naive_effects(adder, ids, start=15).set_index(["layer", "head", "mode"])
    found = results.tables["effects"].set_index(["layer", "head", "mode"])
    assert set(found.phase) == {"generated"}
    for name in expected:
        wanted = expected.loc[found.index, name]
        np.testing.assert_allclose(found[name], wanted, rtol=1e-4, atol=1e-4)
    assert (found.low <= found.delta_nll).all()
    assert (found.delta_nll <= found.high).all()


def test_a_text_without_tokens_of_a_phase_is_left_out_of_its_means(experiment, adder) -> None:
    kept = experiment._read(adder, experiment._texts(adder)[0][:5], "reading", MODES)
    effects = kept["effects"].copy()
    effects[2, :, :, PHASES.index("generated")] = np.nan
    matters = {"generated": np.zeros(effects.shape[2:3] + effects.shape[4:], dtype=bool)}
    rows = experiment._effect_rows({"effects": effects}, matters)
    at = PHASES.index("generated")
    expected = np.delete(effects, 2, axis=0)[:, 0, :, at, ..., 0].mean(axis=0)
    np.testing.assert_allclose(rows["delta_nll"], expected.ravel())
    assert (rows["n"] == 4).all()


def test_scores_follow_from_the_tables_of_effects_and_measures(results) -> None:
    effects = results.tables["effects"].query("mode == 'zero'").set_index(["layer", "head"])
    measures = results.tables["measures"].pivot(
        index=["layer", "head"], columns="measure", values="estimate"
    )
    scores = results.tables["scores"].query("mode == 'zero' and scope == 'pooled'")
    for outcome, sign in (("delta_nll", 1), ("delta_logit", -1)):
        effect = (sign * effects[outcome]).div(1e-5).round()
        found = scores.query("outcome == @outcome").set_index("measure")["spearman"]
        for name in measures:
            x, y = measures[name], effect
            if name not in SIGNED:
                x, y = x.abs(), y.abs()
            assert found[name] == pytest.approx(stats.spearmanr(x, y).statistic), name


def test_every_measure_is_scored_in_every_way(results) -> None:
    scores = results.tables["scores"]
    assert set(scores.measure) == set(MEASURES)
    assert len(scores) == len(MEASURES) * len(MODES) * 2 * 3
    inside = scores.dropna(subset="spearman")
    assert inside.spearman.between(-1, 1).all()
    within = scores.query("measure == 'layer_index' and scope == 'within layers'")
    assert (within.spearman.dropna() == 0).all()


def test_leads_are_differences_of_scores(results) -> None:
    leads, scores = (results.tables[name] for name in ("leads", "scores"))
    keys = ["mode", "phase", "scope", "outcome"]
    by_key = scores.set_index(["measure", *keys])["spearman"]
    own = leads[leads.weights == "own"]
    for row in own[own.against != "the better"].itertuples():
        at = tuple(getattr(row, key) for key in keys)
        expected = by_key[(row.measure, *at)] - by_key[(row.against, *at)]
        assert row.difference == pytest.approx(expected, nan_ok=True)
    both = own.pivot_table(index=["measure", *keys], columns="against", values="difference")
    both = both.dropna()
    assert np.allclose(both["the better"], both[list(BASELINES)].min(axis=1))
    assert set(leads.weights) == {"own"} | {
        f"{name}random {i}" for i in range(4) for name in ("", "own less ")
    }


def test_gate_0_is_zero_ablation_and_gate_1_changes_nothing(results) -> None:
    effects = results.tables["effects"].query("mode == 'zero'").set_index(["layer", "head"])
    gates = results.tables["gates"].set_index(["layer", "head", "gate"])
    assert len(gates) == 6 * 9
    for layer, head in {key[:2] for key in gates.index}:
        for name in ("delta_nll", "kl", "delta_logit"):
            expected = effects.loc[(layer, head), name]
            assert gates.loc[(layer, head, 0.0), name] == pytest.approx(expected, abs=1e-4)
            assert gates.loc[(layer, head, 1.0), name] == pytest.approx(0, abs=1e-4)
    least = effects.delta_nll.abs().sort_values().index[0]
    assert least not in {key[:2] for key in gates.index}


def test_the_planted_head_is_found_by_removing_and_missed_by_lengths(results, experiment) -> None:
    control = results.tables["control"]
    effects = control[control.kind == "effect"]
    assert len(effects) == 2 * 3 * 3
    assert (effects["rank"] == 1).all()
    measures = control.query("kind == 'measure'").set_index(["scored_by", "phase"])["rank"]
    for name in ("l2_norm", "norm_share", "value_weighted"):
        assert (measures[name] > 2).all()
    for name in ("direct_logit", "gradient_x_result", "gradient_x_deviation"):
        assert (measures[name] == 1).all()
    claim = experiment.claims(results)[0]
    assert claim.verdict == "holds"
    assert claim.check
    assert "share of length (rank " in claim.null_note
    assert "direct effect" not in claim.null_note


def test_additions_are_of_many_cells_and_the_answer_is_the_models(experiment, results, adder):
    prompts = results.tables["prompts"]
    assert len(prompts) == ADDITIONS
    assert (prompts.right == "yes").all()  # an exact adder
    assert (prompts.generated_tokens == 7).all()
    text = experiment._texts(adder)[0][0]
    assert len(text.given) == 15
    said = adder(torch.tensor([text.ids])).argmax(-1)[0, 14:-1].tolist()
    assert said == text.new


def test_a_pos_belongs_to_the_phase_of_what_it_predicts() -> None:
    prompt, generated = _chosen(ReadText(0, "", [1, 2, 3, 4], [5, 6]))
    assert prompt.tolist() == [False, True, True, False, False]
    assert generated.tolist() == [False, False, False, True, True]


def test_results_do_not_depend_on_the_batch_size(results, adder) -> None:
    other = HeadImportance(model="adder_6d_2l", additions=ADDITIONS, batch_size=4).measure(adder)
    for name, table in results.tables.items():
        pd.testing.assert_frame_equal(other.tables[name], table, check_exact=True)


def test_too_many_tokens_are_refused() -> None:
    model = load("adder_6d_1l")
    model.cfg.n_ctx = 10
    with pytest.raises(ModelError, match="new_tokens: the longest prompt"):
        HeadImportance(model="adder_6d_1l")._texts(model)


def test_tables_are_as_declared(results) -> None:
    assert set(results.tables) == set(HeadImportance.tables)
    for name, table in HeadImportance.tables.items():
        table.check(name, results.tables[name])


def test_the_headline_is_that_of_the_best_measure_and_the_first_figure_shows_it(
    results, experiment
) -> None:
    found = _judged(results, "generated")
    assert found["difference"].is_monotonic_decreasing
    assert (found["verdict"] != "holds").all()  # of four heads a layer, a random ranking does well
    said = experiment.headline(results)
    assert said.startswith("Not tested, ")
    scores = results.tables["scores"].query("mode == 'mean' and scope == 'within layers'")
    score = scores.query("outcome == 'delta_nll'").set_index("measure")["spearman"]
    assert f"with a correlation of {score[found.index[0]]:.2f} " in said
    figures = experiment.figures(results)
    assert next(iter(figures)) == "The 8 measures that lead most"
    first = figures["The 8 measures that lead most"].data
    leads = first["lead in rank correlation over the better baseline"]
    assert leads.tolist() == found["difference"].tolist()[:8]
    assert first["band_low"].tolist() == [min(row) for row in found["random"]][:8]
    assert first["band_high"].tolist() == [max(row) for row in found["random"]][:8]
    assert not [name for name in first["measure"] if "_" in name]


def test_the_heads_whose_removal_costs_most_are_named_in_order(results, experiment) -> None:
    effects = results.tables["effects"].query("mode == 'mean' and phase == 'generated'")
    worst = effects.loc[effects["delta_nll"].idxmax()]
    name = f"L{worst['layer']:.0f}H{worst['head']:.0f}"
    costs = f"Removing {name} costs most: {worst['delta_nll']:.3g} nats of loss."
    assert experiment.headline(results).endswith(costs)
    shown = experiment.figures(results)["The heads whose removal costs most"].data
    assert shown["head"].iloc[0] == name
    assert shown["change of loss (nats)"].is_monotonic_decreasing
    random = shown["band_high"] + shown["band_low"]
    assert random.tolist() == shown["null_delta_nll"].tolist()


def test_each_measure_has_a_claim_of_one_family(results, experiment) -> None:
    claims = [claim for claim in experiment.claims(results) if claim.family]
    assert len(claims) == len(MEASURES) - 3  # two baselines and a random score
    assert len({claim.family for claim in claims}) == 1
    found = _judged(results, "generated")
    assert [claim.verdict for claim in claims] == list(found["verdict"])
    np.testing.assert_allclose([claim.estimate for claim in claims], found["difference"])


def leads(own: float, random: float, q: float = 1e-4, by_lot: float = 1e-4) -> Results:
    """Leads of one measure with these estimates and intervals."""
    values = {"own": own, "random 0": random, "random 1": random - 0.1}
    values |= {f"own less random {i}": own - values[f"random {i}"] for i in range(2)}
    at = {**MAIN, "phase": "generated"}
    rows = [
        {"weights": w, "measure": "m", "against": "the better", "difference": v, "n": 20, **at}
        | {"low": v - 0.1, "high": v + 0.1, "p_by_lot": by_lot, "q": q}
        | {"p": 1e-4 if v > 0 else 1 - 1e-4}  # one-sided
        for w, v in values.items()
    ]
    scores = [{"measure": m, "spearman": 0.0, **at} for m in ("m", *BASELINES)]
    control = [{"kind": "effect", "phase": "prompt", "scored_by": "zero", "rank": 1.0, "n": 12}]
    effects = [{"layer": 0, "head": 1, "delta_nll": 0.5, **at}]
    tables = {"leads": rows, "scores": scores, "control": control, "measures": [at]}
    tables["effects"] = effects
    return Results(tables={name: pd.DataFrame(rows) for name, rows in tables.items()})


def test_too_few_prompts_for_random_models_are_said_to_be_that(results, experiment) -> None:
    """Six prompts have an interval, the three of them that random models read have none."""
    said = experiment.headline(results)
    assert said.startswith("Not tested, ")
    assert "for want of 9 prompts or more (" in said
    for claim in experiment.claims(results):
        if not claim.check:
            assert claim.verdict == "not tested"
            assert claim.needs.startswith("9 prompts (--count or --additions) or more")


def test_one_more_random_model_must_not_lead_as_far() -> None:
    """Beyond 0.0 and -0.1 by more than prompts explain, but no further than a third may lie."""
    assert told(leads(0.3, 0.0))[0] == "undecided"
    note = HeadImportance().claims(leads(0.3, 0.0))[-1].null_note
    p = stats.ttest_ind([0.3], [0.0, -0.1], alternative="greater").pvalue
    assert note.endswith(f"one more would lead as far with p = {p:.2g}")
    assert p > 0.05


def told(results: Results) -> tuple[str, str]:
    """The verdict on the one measure, which is also that on any, and what would decide it."""
    control, some, one = HeadImportance().claims(results)
    assert control.verdict == "holds"
    assert (some.verdict, some.decide, some.estimate) == (one.verdict, one.decide, one.estimate)
    return one.verdict, one.decide


def test_a_verdict_follows_the_baselines_and_random_weights() -> None:
    assert told(leads(0.5, 0.0)) == ("holds", "")
    assert told(leads(-0.5, -1.0))[0] == "fails"
    assert told(leads(0.5, 0.8))[0] == "fails"
    verdict, why = told(leads(0.5, 0.5))
    assert verdict == "undecided"
    assert why.endswith("random weights may lead as far")
    verdict, why = told(leads(0.5, 0.0, q=0.1))
    assert (verdict, why.split(":")[0]) == ("undecided", "more prompts")
    # An interval of half-width .1 must shrink to the lead, .08: (.1 / .08)^2 times 20 prompts.
    assert "about 32 prompts" in told(leads(0.08, -1.0, q=0.2))[1]
    assert "too small an effect" in told(leads(0.01, -1.0, q=0.9))[1]
    assert "more data will not" in told(leads(0.0, -1.0, q=0.9))[1]
    assert "more heads" in told(leads(0.5, 0.0, q=0.2, by_lot=0.1))[1]


def test_without_a_difference_among_heads_nothing_is_tested() -> None:
    few = leads(0.5, 0.0).tables["leads"].assign(difference=np.nan, low=np.nan, high=np.nan)
    results = Results(tables={**leads(0.5, 0.0).tables, "leads": few.assign(q=np.nan)})
    claims = HeadImportance().claims(results)[1:]
    assert [claim.verdict for claim in claims] == ["not tested"] * 2
    assert "removing one head of a layer or another" in claims[0].needs
    assert HeadImportance().headline(results).startswith("Nothing can be said")


def test_the_headline_tells_what_holds_from_what_random_weights_show_too() -> None:
    held = HeadImportance().headline(leads(0.5, 0.0))
    assert held.startswith("These predict what removing a head does better than ")
    assert ", beyond random weights: m. The first ranks " in held
    for random in (0.5, 0.8):
        said = HeadImportance().headline(leads(0.5, random))
        assert said.startswith("The best predictor of what removing a head does, m, ranks")
        assert "with random weights its lead may be as large" in said
    assert HeadImportance().headline(leads(0.5, 0.0, q=0.1)).startswith("No measure is shown")


@pytest.mark.real
@pytest.mark.parametrize("name", ["smollm2", "gemma3_270m_q4"])
def test_language_models_read_three_kinds_of_prompts(name) -> None:
    model = load(name, dtype=torch.float32)
    texts, answers = HeadImportance(model=name, count=6, new_tokens=2)._texts(model)
    assert [text.kind for text in texts] == ["text", "fact", "addition"] * 2
    assert texts[1].given == tokenize(model, "The capital of France is the city of")
    assert all(len(text.new) <= 2 for text in texts)
    assert [bool(answer) for answer in answers] == [False, True, True] * 2
    assert max(len(text.ids) for text in texts) <= 40
