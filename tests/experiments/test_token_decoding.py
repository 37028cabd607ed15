"""Decoded states of an adder, of a planted model, and of a small model of texts."""

import numpy as np
import pytest
import torch

from experiments import Results, UsageError
from experiments.token_decoding import (
    CLAIMED,
    JACOBIAN_TOKENS,
    PUSHED_TEXTS,
    SHOWN,
    TokenDecoding,
)
from lenses.states.bake_off import POSITIONS
from lenses.statistics.intervals import benjamini_hochberg, sign_flip
from models import load, untrained
from tests.models.tiny import LLAMA, save, tiny


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_1l")


@pytest.fixture(scope="module")
def experiment():
    return TokenDecoding(model="adder_6d_1l", count=6, reference_texts=10, cells=60)


@pytest.fixture(scope="module")
def results(experiment, adder) -> Results:
    return experiment.measure(adder)


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A model of texts with random weights, E and U tied."""
    folder = tmp_path_factory.mktemp("tiny")
    return load(str(save(folder, tiny("llama", **LLAMA, tie_word_embeddings=True))))


@pytest.fixture(scope="module")
def of_texts(reader) -> Results:
    asked = TokenDecoding(
        prompts=("A tide", "An oak tree"), count=5, reference_texts=4, jacobian_texts=1, cells=30
    )
    return asked.measure(reader)


def test_additions_that_are_read_were_not_fitted_on(experiment, adder):
    texts = experiment._texts(adder)
    read = {tuple(text.ids) for text in [*texts.shown, *texts.scored]}
    assert len(texts.fitted) >= experiment.reference_texts
    assert not read & {tuple(ids) for ids in texts.fitted}
    assert len(texts.shown) == SHOWN
    assert [len(text.ids) > JACOBIAN_TOKENS for text in texts.scored] == [True] * 6


def test_at_the_last_layer_a_box_holds_what_the_model_says(results, experiment, adder):
    boxes = results.tables["boxes"]
    last = boxes[(boxes["layer"] == 1) & (boxes["state"] == "after the layer")]
    last = last[(last["norm"] == "final norm") & (last["prompt"] == 1)]
    ids = experiment._texts(adder).shown[1].ids
    p, said = adder(torch.tensor([ids]))[0].softmax(-1).max(-1)
    names = "0123456789+=:"
    for decoder in ("unembedding", "linear mix", "ridge lens", "Jacobian lens"):
        rows = last[last["decoder"] == decoder].sort_values("pos")
        assert np.allclose(rows["probability"], p.detach().numpy(), atol=1e-4), decoder
        digits = [int(i) for i in said]
        assert [t for t, i in zip(rows["token"], digits, strict=True) if i < 10] == [
            names[i] for i in digits if i < 10
        ]


def test_controls_are_read_beside_the_states(results):
    rows = results.tables["bake_off"].set_index(["source", "decoder", "norm"])
    assert set(rows.index.get_level_values(0)) == {
        "states", "embedding alone", "random vectors", "shuffled vocabulary",
    }  # fmt: skip
    final = rows.xs("final norm", level="norm")["kl"]
    for control in ("embedding alone", "random vectors", "shuffled vocabulary"):
        assert final["states", "ridge lens"] < final[control, "ridge lens"], control
    assert (rows["n"] == 6).all()


def test_the_best_decoder_is_chosen_on_other_texts(results):
    best, layers = results.tables["best"], results.tables["by_layer"]
    assert len(best) == 6
    middle = layers[layers["layer"] == 0.5].groupby(["decoder", "norm"])["kl"].mean()
    chosen = best[["decoder", "norm"]].value_counts().index[0]
    assert middle[chosen] <= middle.nsmallest(3).iloc[-1]
    logit = best["logit_lens_kl"].mean()
    assert logit == pytest.approx(middle["unembedding", "final norm"])


def test_degeneracy_is_a_share_for_every_state_decoder_and_norm(results):
    rows = results.tables["degeneracy"]
    after = rows[rows["state"] == "after the layer"]
    assert after.groupby("decoder")["norm"].nunique().eq(7).all()
    assert set(rows["state"]) == {
        "after the layer", "after attention", "what attention adds", "what the MLP adds",
        "embedding",
    }  # fmt: skip
    assert rows["share"].between(1 / rows["n"].max(), 1).all()
    assert (after["n"] == 6 * POSITIONS).all()
    assert (rows["highest"] >= rows["share"] - 1e-9).all()


def test_parts_sum_to_the_state_and_ranks_end_with_the_model(results):
    parts = results.tables["parts"].groupby(["prompt", "layer", "pos"])["share"].sum()
    assert np.allclose(parts, 1)
    ranks = results.tables["ranks"]
    last = ranks[(ranks["layer"] == 1) & (ranks["decoder"] == "unembedding")]
    assert {1, 2, 3} <= set(last[last["prompt"] == 0]["rank"])


def test_pushes_are_of_few_texts_and_have_their_noise(results):
    rows = results.tables["pushes"]
    assert (rows["n"] == min(PUSHED_TEXTS, 6)).all()
    assert rows["noise"].notna().all()
    assert set(rows["decoder"]) >= {"embedding", "unembedding", "ridge lens", "Jacobian lens"}


def test_the_claim_about_what_comes_holds_where_it_is_planted(adder):
    found = TokenDecoding(model="adder_6d_1l", reference_texts=10, jacobian_texts=0, cells=10)
    claims = found.claims(found.measure(found.planted()))
    assert [c.verdict for c in claims if c.kind == "learned"] == ["holds"]
    claims = found.claims(found.measure(untrained(adder, 100)))
    assert [c.verdict for c in claims if c.kind == "learned"] != ["holds"]


def test_claims_tell_states_from_random_vectors(experiment, results):
    claims = {c.label: c for c in experiment.claims(results) if c.family.startswith("A lens names")}
    assert set(claims) == {"logit lens", "ridge lens", "Jacobian lens"}
    rows = results.tables["bake_off"].set_index(["source", "decoder", "norm"])["agreement"]
    difference = rows["states", "ridge lens", "final norm"]
    difference -= rows["random vectors", "ridge lens", "final norm"]
    assert claims["ridge lens"].estimate == pytest.approx(difference)
    assert claims["ridge lens"].null is not None
    assert claims["Jacobian lens"].null is None


def test_p_of_lenses_and_pushes_is_corrected_for_all_of_them(experiment, results):
    claims = [c for c in experiment.claims(results) if c.kind == "mechanical"]
    rows = results.tables["against_random"].query("weights == 'own'")
    alone = [
        sign_flip(rows[rows["statistic"] == name]["value"].dropna().to_numpy()).item()
        for name in CLAIMED
        if name in set(rows["statistic"])
    ]
    assert len(claims) == len(alone) > 5
    assert [claim.p for claim in claims] == pytest.approx(benjamini_hochberg(np.array(alone)))


def test_the_headline_names_the_lens_its_share_and_degeneracy(experiment, results):
    said = experiment.headline(results)
    best = results.tables["best"]
    decoder = best["decoder"].value_counts().index[0]
    assert f"by the {decoder}" in said
    assert f"{100 * best['agreement'].mean():.0f} %" in said
    assert said.endswith("of a layer's positions the logit lens reads one and the same token.")
    assert "95 % interval" in said


@pytest.mark.parametrize("lead", [0.0, 0.2])
def test_the_headline_says_where_the_best_lens_is_not_shown_to_be_ahead(experiment, results, lead):
    best = results.tables["best"].assign(agreement=0.4, decoder="ridge lens", norm="final norm")
    noise = np.resize([-0.05, 0.05], len(best))
    best = best.assign(logit_lens_agreement=0.4 - lead + noise)
    said = experiment.headline(Results({**results.tables, "best": best}))
    assert ("Not shown to differ" in said) is (lead == 0.0)


def test_of_few_texts_the_headline_gives_no_interval(experiment, results):
    few = Results({**results.tables, "best": results.tables["best"].head(3)})
    said = experiment.headline(few)
    assert "interval" not in said
    assert "nan" not in said


def test_texts_are_read_and_e_is_the_effective_embedding(of_texts):
    assert {len(part) for _, part in of_texts.tables["read"].groupby("prompt")} == {6, 11}
    assert "effective E" in set(of_texts.tables["bake_off"]["decoder"])
    assert (of_texts.tables["checks"]["error"] < 1e-5).all()
    assert any(name.startswith("jacobian_resid_mid") for name in of_texts.arrays)


def test_without_the_jacobian_lens_it_is_left_out(experiment, adder):
    asked = experiment.model_copy(update={"jacobian_texts": 0})
    found = asked.measure(adder)
    assert "Jacobian lens" not in set(found.tables["bake_off"]["decoder"])
    assert not any(c.label == "Jacobian lens" for c in asked.claims(found))
    assert not any(name.startswith("jacobian") for name in found.arrays)
    assert len(asked.figures(found)) > 5


def test_an_adder_reads_no_prompts(adder):
    with pytest.raises(UsageError, match="reads no text"):
        TokenDecoding(model="adder_6d_1l", prompts=("1+1=",)).measure(adder)
