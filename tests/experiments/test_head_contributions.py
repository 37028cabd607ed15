import re

import numpy as np
import pandas as pd
import pytest
import torch

from experiments import Results
from experiments.head_contributions import HeadContributions, _verdict
from lenses.heads.contributions import HeadMeasures
from lenses.statistics.intervals import Intervals
from models import ModelError, find_card, load
from models.sources import folder_of, plain_model

MEASURES = [
    "l2_norm",
    "cosine",
    "closeness",
    "projection_share",
    "norm_share",
    "l1_proximity",
    "attention_entropy",
]
COLUMNS = ["prompt", "pos", "token_id", "token", "phase", "layer", "head", *MEASURES]


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_1l")


@pytest.fixture(scope="module")
def results(adder) -> Results:
    return HeadContributions(model="adder_6d_1l", additions=6).measure(adder)


@pytest.fixture(scope="module")
def contributions(results) -> pd.DataFrame:
    return results.tables["contributions"]


def test_every_head_is_measured_at_every_token(contributions, adder) -> None:
    assert set(COLUMNS) <= set(contributions.columns)
    each = contributions.groupby(["prompt", "pos"]).size()
    assert (each == adder.cfg.n_layers * adder.cfg.n_heads).all()
    assert len(each) == 6 * (15 + 7)
    assert set(contributions[contributions.pos >= 15].phase) == {"generated"}
    assert set(contributions[contributions.pos < 15].phase) == {"prompt"}
    shares = contributions.groupby(["prompt", "pos", "layer"]).projection_share.sum()
    assert np.allclose(shares, 1, atol=1e-4)


def test_the_generated_tokens_are_the_models_likeliest(contributions, adder) -> None:
    tokens = contributions.drop_duplicates(["prompt", "pos"]).pivot(
        index="prompt", columns="pos", values="token_id"
    )
    logits = adder(torch.tensor(tokens.to_numpy()))
    assert (logits[:, 14:-1].argmax(-1).numpy() == tokens.to_numpy()[:, 15:]).all()


@pytest.mark.parametrize("measure", ["l2_norm", "attention_entropy_share"])
def test_means_of_heads_weigh_prompts_alike_and_leave_the_first_token_out(
    measure, results, contributions
) -> None:
    found = results.tables["heads"].query("measure == @measure")
    counted = contributions[contributions.pos > 0]
    by = ["phase", "layer", "head"]
    expected = counted.groupby(["prompt", *by])[measure].mean().groupby(by).mean()
    assert np.allclose(found.set_index(by).estimate.sort_index(), expected.sort_index())
    assert (found.low <= found.estimate).all()
    assert (found.estimate <= found.high).all()


@pytest.mark.parametrize("first_token", [True, False])
@pytest.mark.parametrize("phase", ["prompt", "generated", "first_10", "last_10"])
def test_correlations_equal_those_of_pandas_per_prompt(
    phase, first_token, results, contributions
) -> None:
    rows = contributions if first_token else contributions[contributions.pos > 0]
    if phase == "first_10":
        rows = rows[rows.pos < (10 if first_token else 11)]
    elif phase == "last_10":
        rows = rows[rows.pos >= 12]
    else:
        rows = rows[rows.phase == phase]
    pair = ["l2_norm", "cosine"]
    heads = rows.groupby(["prompt", "layer", "head"])[pair].mean().reset_index()
    found = results.tables["correlations"].query("phase == @phase and first_token == @first_token")
    found = found.set_index(["aggregation", "method"])
    for method in ("pearson", "spearman", "kendall"):
        for level, points in (("token", rows), ("layer_head", heads)):
            each = [p[pair].corr(method).iloc[0, 1] for _, p in points.groupby("prompt")]
            assert found.estimate[level, method] == pytest.approx(np.mean(each))
    assert (found.n == 6).all()
    assert np.allclose(found.difference, found.estimate - found.null)


def test_components_sum_to_one_of_each_whole(results) -> None:
    keys = ["whole", "prompt", "pos", "layer"]
    shares = results.tables["components"].groupby(keys)["share"].sum()
    assert np.allclose(shares, 1, atol=1e-5)


def test_spread_of_a_single_layer_by_hand(results, contributions, adder) -> None:
    found = results.tables["head_spread"].set_index(["phase", "layer"])
    rows = contributions[(contributions.pos > 0) & (contributions.phase == "prompt")]
    each = rows.groupby(["prompt", "pos", "layer"]).l2_norm.var(ddof=0)
    assert found.length_variance["prompt", 0] == pytest.approx(each.mean())
    gain = torch.linalg.svdvals(adder.W_O[0].double()).square().mean(-1).sqrt().mean()
    assert found.gain_of_w_o["prompt", 0] == pytest.approx(gain.item())


def test_tables_are_as_declared(results) -> None:
    assert set(results.tables) == set(HeadContributions.tables)
    for name, table in HeadContributions.tables.items():
        table.check(name, results.tables[name])


def test_the_headline_names_the_head_with_the_longest_vectors(results, contributions) -> None:
    counted = contributions[contributions.pos > 0]
    means = counted.groupby(["prompt", "phase", "layer", "head"]).l2_norm.mean()
    by_phase = means.groupby(["phase", "layer", "head"]).mean()
    layer, head = by_phase.groupby(["layer", "head"]).mean().idxmax()
    said = HeadContributions(model="adder_6d_1l").headline(results)
    assert said.startswith(f"L{layer}H{head} writes the longest vectors, of a mean L2 norm of ")
    for phase in ("prompt", "generated"):
        assert f"{by_phase[phase, layer, head]:.3g} on {phase} tokens" in said
    assert "Heads of a layer are not shown to cancel each other more than random ones." in said
    empty = Results(tables={"heads": results.tables["heads"].iloc[:0]})
    assert HeadContributions().headline(empty).startswith("Nothing can be said")


def test_figures_begin_with_the_headline_and_are_labelled_in_words(results) -> None:
    figures = HeadContributions(model="adder_6d_1l").figures(results)
    assert next(iter(figures)) == "Heads by every measure"
    assert not [title for title in figures if "_" in title]
    levels = figures["Agreement of cosine and L2 norm"].data.level
    assert {"token by token, prompt", "head by head, last 10"} <= set(levels)
    parts = figures["What a layer's output is made of"].data.component
    assert set(parts) == {"heads", "output bias", "MLP", "what came in"}


def test_claims_are_two_identities_and_differences_from_random_weights(results) -> None:
    claims = HeadContributions(model="adder_6d_1l", additions=6).claims(results)
    assert [c.kind for c in claims] == ["identity"] * 2 + ["mechanical"] * 8
    assert [c.verdict for c in claims[:2]] == ["holds"] * 2
    assert [c.check for c in claims] == [True] * 2 + [False] * 8
    assert all(c.null is not None and c.low <= c.estimate <= c.high for c in claims[2:])
    assert len({c.family for c in claims[2:8]}) == 1
    assert len({c.label for c in claims[2:8]}) == 6


def found(*ends: tuple[float, float, float, float]) -> tuple[Intervals, np.ndarray]:
    """Estimates with low, high and p as `_verdict` takes them: own, above, below."""
    estimate, low, high, p = np.array(ends).T
    return Intervals(estimate, low, high, np.full(3, 20)), p


def test_the_verdict_asks_for_more_than_the_null_and_than_every_random_model() -> None:
    yes, no, open_ = (2, 1, 3, 0.01), (-2, -3, -1, 0.01), (0.5, -1, 2, 0.5)
    assert _verdict(*found(yes, yes, yes)) == "holds"
    assert _verdict(*found(no, yes, yes)) == "fails"
    assert _verdict(*found(yes, no, no)) == "fails"
    assert _verdict(*found(yes, no, yes)) == "undecided"
    assert _verdict(*found(open_, open_, yes)) == "undecided"
    unknown = (1, np.nan, np.nan, 1)
    assert _verdict(*found(unknown, unknown, unknown)) == "not tested"


def test_an_interval_clear_of_zero_needs_a_p_that_agrees() -> None:
    yes = (2, 1, 3, 0.01)
    assert _verdict(*found((1, 0.1, 2, 0.03), yes, yes)) == "holds"
    assert _verdict(*found((1, 0.1, 2, 0.07), yes, yes)) == "undecided"
    assert _verdict(*found((-1, -2, -0.1, 0.05), yes, yes)) == "fails"
    assert _verdict(*found((-1, -2, -0.1, 0.07), yes, yes)) == "undecided"


def test_one_prompt_has_estimates_and_leaves_the_claims_untested(adder) -> None:
    experiment = HeadContributions(model="adder_6d_1l", additions=1)
    results = experiment.measure(adder)
    claims = experiment.claims(results)
    assert {c.verdict for c in claims[2:]} == {"not tested"}
    assert all(c.needs.startswith("5 prompts or more") and c.p is None for c in claims[2:])
    assert results.tables["heads"].low.isna().all()
    assert results.tables["heads"].estimate.notna().all()


def test_without_generated_tokens_nothing_is_said_about_them(adder) -> None:
    experiment = HeadContributions(model="adder_6d_1l", additions=3, new_tokens=0)
    results = experiment.measure(adder)
    assert set(results.tables["heads"].phase) == {"prompt"}
    agree = [c for c in experiment.claims(results) if c.family]
    assert [(c.verdict, c.n, c.estimate) for c in agree] == [("not tested", 0, None)] * 6
    assert "--new-tokens" in agree[0].needs
    assert experiment.figures(results)


def test_given_prompts_and_files_are_read_in_order(adder, tmp_path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("000001+000002=\n")
    experiment = HeadContributions(
        model="adder_6d_1l", prompts=("123456+654321=",), prompts_file=path
    )
    given = [adder.tokenizer.decode(text.given) for text in experiment._texts(adder)]
    assert [text.removeprefix("<bos>") for text in given] == ["123456+654321=", "000001+000002="]


def test_prompts_that_do_not_fit_are_refused() -> None:
    model = load("adder_6d_1l")
    model.cfg.n_ctx = 20
    experiment = HeadContributions(model="adder_6d_1l", prompts=("123456+654321=",))
    with pytest.raises(ModelError, match="prompt 0 with its continuation is 22 tokens long"):
        experiment._texts(model)


def direct(name: str, ids: list[int]) -> dict[str, np.ndarray]:
    """The measures [pos layer head] from the plain transformers model alone, head by head."""
    card = find_card(name)
    plain, _ = plain_model(card, folder_of(card), torch.float32)
    is_gpt2 = hasattr(plain, "transformer")
    blocks = plain.transformer.h if is_gpt2 else plain.model.layers
    outs = [block.attn.c_proj if is_gpt2 else block.self_attn.o_proj for block in blocks]
    seen: dict[int, torch.Tensor] = {}
    for layer, out in enumerate(outs):
        out.register_forward_pre_hook(lambda _, x, layer=layer: seen.update({layer: x[0][0]}))
    with torch.no_grad():
        plain(torch.tensor([ids]))
    config = plain.config.get_text_config()
    found: dict[str, list] = {name: [] for name in MEASURES[:-1]}
    for layer, (block, out) in enumerate(zip(blocks, outs, strict=True)):
        weight = (out.weight if is_gpt2 else out.weight.T).detach().double()
        z = seen[layer].double().unflatten(-1, (config.num_attention_heads, -1))
        parts = weight.unflatten(0, (config.num_attention_heads, -1))
        result = torch.stack([z[:, h] @ parts[h] for h in range(len(parts))], dim=1)
        if hasattr(block, "pre_feedforward_layernorm"):
            gain = 1 + block.post_attention_layernorm.weight.detach().double()
            power = result.sum(1).square().mean(-1) + config.rms_norm_eps
            result = result * gain / power.sqrt()[:, None, None]
        for measure, value in measures(result).items():
            found[measure].append(value)
    return {measure: torch.stack(v, dim=1).numpy() for measure, v in found.items()}


def measures(result: torch.Tensor) -> dict[str, torch.Tensor]:
    """From the heads' vectors [pos head d_model], by the formulas as they are written."""
    o = result.sum(dim=1, keepdim=True)
    nearer = (o.abs().sum(-1) - (o - result).abs().sum(-1)).clamp(min=0)
    norm, whole = result.norm(dim=-1), o.norm(dim=-1)
    return {
        "l2_norm": norm,
        "cosine": (result * o).sum(-1) / (norm * whole),
        "closeness": 1 - (o - result).norm(dim=-1) / whole,
        "projection_share": (result * o).sum(-1) / whole**2,
        "norm_share": norm / norm.sum(-1, keepdim=True),
        "l1_proximity": nearer / nearer.sum(-1, keepdim=True).clamp(min=1e-300),
    }


@pytest.mark.parametrize(
    "name",
    [
        "adder_6d_2l",
        pytest.param("smollm2", marks=pytest.mark.real),
        pytest.param("gemma3_270m_q4", marks=pytest.mark.real),
    ],
)
def test_contributions_equal_a_direct_computation_from_plain_transformers(name) -> None:
    model = load(name, dtype=torch.float32)
    given = () if model.card.arithmetic else ("The capital of Portugal is Lisbon, and",)
    experiment = HeadContributions(model=name, prompts=given, new_tokens=12, additions=1)
    text = experiment._texts(model)[0]
    _, one, _ = experiment._read(HeadMeasures(model), [text])[0]
    expected = direct(name, text.ids)
    for measure, value in expected.items():
        found = getattr(one, measure)[0].numpy()
        if measure == "l2_norm":
            assert np.allclose(found, value, rtol=1e-4, atol=0)
        else:
            assert np.abs(found - value).max() < 1e-4, measure
    sums = one.projection_share[0].sum(-1).numpy()
    assert np.allclose(sums, 1, atol=1e-4)


KEYS = [
    ("agreement_rise", level, control)
    for control in ("none", "adjusted")
    for level in ("token", "layer_head", "head")
] + [("unevenness", "layer", "none"), ("log_variance_ratio", "layer", "none")]


def told(own: float, random: float, key: tuple, null: float = 0.0, error: float = 1e-7):
    """The claim about `key` where prompts scatter around these means and others show nothing."""
    rng, rows = np.random.default_rng(0), []
    for statistic, aggregation, control in KEYS:
        mine = (statistic, aggregation, control) == key
        for weights in ("own", *(f"random {i}" for i in range(4))):
            mean = (own if weights == "own" else random) if mine else 0.0
            rows += [
                (statistic, aggregation, control, weights, prompt, value, null if mine else 0.0)
                for prompt, value in enumerate(rng.normal(mean, 0.1, 40))
            ]
    names = ["statistic", "aggregation", "control", "weights", "prompt", "value", "null"]
    prompts = pd.DataFrame({"output_error": [0.0, error], "attention_error": [0.0, 0.0]})
    tables = {"prompts": prompts, "against_random": pd.DataFrame(rows, columns=names)}
    claims = HeadContributions().claims(Results(tables=tables))
    return claims[2 + KEYS.index(key)], claims


@pytest.mark.parametrize("key", KEYS)
def test_a_verdict_follows_the_model_its_null_and_random_weights(key) -> None:
    sign = -1 if key[0] == "log_variance_ratio" else 1
    assert told(sign * 1.0, 0.0, key)[0].verdict == "holds"
    assert told(sign * -1.0, 0.0, key)[0].verdict == "fails"
    among = told(sign * 1.0, sign * 1.0, key)[0]
    assert among.verdict == "undecided"
    assert re.match("about [0-9]+ prompts|more data will not|too small an effect", among.decide)
    assert told(sign * 1.0, 0.0, key, null=sign * 2.0)[0].verdict == "fails"


def test_p_is_large_for_a_claim_in_the_wrong_direction_and_corrected_over_all() -> None:
    right, claims = told(1.0, 0.0, KEYS[0])
    wrong, _ = told(-1.0, 0.0, KEYS[0])
    assert right.p < 1e-3 < 0.9 < wrong.p
    assert right.p == pytest.approx(8 * 0.5 / 10_001, rel=1e-6)
    assert [c.verdict for c in claims[3:]].count("holds") == 0


def test_an_identity_that_is_off_fails() -> None:
    assert told(0, 0, KEYS[0])[1][0].verdict == "holds"
    assert told(0, 0, KEYS[0], error=1e-3)[1][0].verdict == "fails"


def test_the_random_twins_are_other_models_than_the_one_measured(results) -> None:
    wide = results.tables["against_random"].pivot_table(
        index=["statistic", "aggregation", "control", "prompt"], columns="weights", values="value"
    )
    assert list(wide.columns) == ["own", "random 0", "random 1", "random 2", "random 3"]
    assert (wide.corr().to_numpy()[~np.eye(5, dtype=bool)] < 0.9999).all()
    assert (wide.nunique(axis=1) > 1).mean() > 0.9


def test_a_claim_is_judged_against_its_null_and_the_highest_random_model() -> None:
    claim, _ = told(1.0, 2.0, KEYS[0])
    assert claim.threshold == pytest.approx(2, abs=0.1)
    assert told(1.0, -2.0, KEYS[0])[0].threshold == 0
    ratio, _ = told(-1.0, 0.5, KEYS[-1])
    assert ratio.threshold == 1
    assert ratio.estimate == pytest.approx(np.exp(-1), abs=0.05)
    assert "the smallest possible p is 0.2" in claim.null_note


def test_activations_that_are_no_numbers_are_refused(adder) -> None:
    overflow = adder.hooks([("blocks.0.hook_attn_out", lambda x, hook: x * float("inf"))])
    with overflow, pytest.raises(ModelError, match="NaN or infinite in float32"):
        HeadContributions(model="adder_6d_1l", additions=2).measure(adder)
