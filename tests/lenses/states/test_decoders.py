from dataclasses import replace

import pytest
import torch

from lenses.states.bake_off import PARTS, states_of
from lenses.states.decoders import (
    AXES,
    DECODERS,
    NORMS,
    arrays_of,
    lenses_of,
    second_decoder,
)
from lenses.states.decoding import Site, sites
from lenses.states.jacobian import text_jacobians
from lenses.states.ridge import SecondMoments
from models import load
from models.effective import effective_embedding
from models.readout import unembedding
from models.text import tokenize
from tests.models.tiny import LLAMA, save, tiny

TEXT = [1, 17, 5, 42, 8, 99, 23, 64, 7, 31]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(str(save(tmp_path_factory.mktemp("tiny"), tiny("llama", **LLAMA))))


@pytest.fixture(scope="module")
def lenses(model):
    where = sites(model, PARTS)
    streams = [site for site in where if site.part in ("embedding", "resid_mid", "resid_post")]
    random, moments, means = torch.Generator().manual_seed(0), SecondMoments(), []
    for _ in range(30):
        ids = torch.randint(0, 256, (12,), generator=random).tolist()
        states = states_of(model, ids, where)
        means.append(states.mean(1))
        moments.update(states[[where.index(site) for site in streams]], states[-1])
    jacobian = dict(zip(streams, text_jacobians(model, TEXT, streams, 48), strict=True))
    mean = torch.stack(means).mean(0)
    _, W_E = second_decoder(model)
    return lenses_of(model, where, mean, moments, streams, jacobian, W_E, [where[-1], where[0]])


@pytest.fixture(scope="module")
def states(model, lenses):
    return states_of(model, TEXT, lenses.where)


def read(lenses, site: int, states: torch.Tensor) -> dict[tuple[str, str], torch.Tensor]:
    return {(decoder, norm): x for decoder, norm, x in lenses.logits(site, states[site])}


def test_every_decoder_reads_after_every_norm(lenses, states) -> None:
    decoders = [decoder for decoder in DECODERS if decoder != "surer"]
    for site in (0, len(lenses.where) - 1):
        assert set(read(lenses, site, states)) == {(d, n) for d in decoders for n in NORMS}
    within = set(read(lenses, 2, states))
    assert within == {(d, n) for d in decoders for n in NORMS[:5]}


def test_at_the_last_layer_they_are_the_models_own_output(model, lenses, states) -> None:
    own = model(torch.tensor([TEXT]))[0]
    found = read(lenses, len(lenses.where) - 1, states)
    for decoder in ("U", "linear", "quadratic", "ridge", "jacobian"):
        assert torch.allclose(found[decoder, "final"], own, atol=1e-4), decoder
    assert not torch.allclose(found["E", "final"], own, atol=0.1)
    assert not torch.allclose(found["U", "centred"], own, atol=0.1)


def test_each_reading_is_what_it_is_called(model, lenses, states) -> None:
    site = lenses.where.index(Site(1, "resid_mid"))
    x, mean, depth = states[site], lenses.mean[site], 1.5 / 3
    found = read(lenses, site, states)
    gain, U, E = lenses.own.norm.gain, model.W_U, model.W_E

    def rms(y: torch.Tensor) -> torch.Tensor:
        return y / (y.pow(2).mean(-1, keepdim=True) + lenses.own.norm.eps).sqrt()

    ridge, last = lenses.ridge[Site(1, "resid_mid")], lenses.last_mean
    carried = {
        "ridge": last + (x - mean) @ ridge, "jacobian": x @ lenses.jacobian[lenses.where[site]].mT,
    }  # fmt: skip
    expected = {
        ("U", "none"): x @ U, ("E", "unit"): x / x.norm(dim=-1, keepdim=True) @ E.mT,
        ("U", "plain"): rms(x) @ U, ("E", "final"): rms(x) * gain @ E.mT,
        ("U", "centred"): rms(x - mean) * gain @ U,
        ("linear", "none"): (1 - depth) * x @ E.mT + depth * x @ U,
        ("quadratic", "none"): (1 - depth**2) * x @ E.mT + depth**2 * x @ U,
        ("ridge", "final"): rms(carried["ridge"]) * gain @ U,
        ("ridge", "centred"): rms((x - mean) @ ridge) * gain @ U,
        ("jacobian", "none"): carried["jacobian"] @ U,
    }  # fmt: skip
    for name, logits in expected.items():
        assert torch.allclose(found[name], logits, atol=1e-4), name


def test_first_axes_are_gone_and_whitened_states_vary_alike(lenses, states) -> None:
    last = len(lenses.where) - 1
    x = states[last] - lenses.mean[last]
    first = lenses.axes[last].first
    assert first.shape == (AXES, x.shape[-1])
    left = x - (x @ first.mT) @ first
    assert (left @ first.mT).abs().max() < 1e-4
    found = read(lenses, last, states)
    assert torch.allclose(found["U", "without axes"], lenses.own(left), atol=1e-4)
    white = lenses.own(x @ lenses.axes[last].whitening)
    assert torch.allclose(found["U", "whitened"], white, atol=1e-4)


def test_what_a_block_adds_is_read_by_the_lens_of_the_stream(lenses, states) -> None:
    for part, stream in (("attn_out", "resid_mid"), ("mlp_out", "resid_post")):
        site, at = (lenses.where.index(Site(1, p)) for p in (part, stream))
        found = read(lenses, site, states)
        carried = (
            lenses.last_mean + (states[site] - lenses.mean[site]) @ lenses.ridge[Site(1, stream)]
        )
        assert torch.allclose(found["ridge", "final"], lenses.own(carried), atol=1e-4)
        assert not torch.allclose(
            found["ridge", "final"], read(lenses, at, states)["ridge", "final"]
        )


@pytest.mark.parametrize("decoder", ["E", "U", "linear", "ridge", "jacobian"])
def test_a_direction_is_the_gradient_of_the_logit(lenses, states, decoder) -> None:
    """Up to a factor, where the norm is frozen: no norm stands between here."""
    frozen = replace(lenses, own=replace(lenses.own, norm=replace(lenses.own.norm, kind=None)))
    site, ids = lenses.where.index(Site(0, "resid_post")), torch.tensor([5, 60])
    state = states[site][3:4].clone().requires_grad_(True)
    logits = next(x for d, n, x in frozen.logits(site, state) if (d, n) == (decoder, "final"))
    slopes = torch.stack(
        [torch.autograd.grad(logits[0, i], state, retain_graph=True)[0][0] for i in ids]
    )
    found = frozen.direction(site, decoder, ids)
    assert torch.allclose(torch.cosine_similarity(found, slopes), torch.ones(2), atol=1e-4)


def test_where_e_and_u_are_tied_e_is_what_comes_out_of_the_first_mlp(tmp_path) -> None:
    tied = load(str(save(tmp_path, tiny("llama", **LLAMA, tie_word_embeddings=True))))
    name, W_E = second_decoder(tied)
    assert name == "effective E"
    assert torch.equal(W_E, effective_embedding(tied, torch.arange(len(tied.W_E))))
    assert not torch.allclose(W_E, tied.W_E, atol=0.1)


def test_decoders_that_were_left_out_are_not_read(model, lenses, states) -> None:
    bare = replace(lenses, W_E=None, jacobian={})
    assert {d for d, _ in read(bare, 2, states)} == {"U", "ridge"}
    assert [bare.reads(d) for d in ("U", "E", "ridge", "jacobian")] == [True, False, True, False]
    assert [lenses.reads(d) for d in DECODERS] == [True] * len(DECODERS)


def test_what_was_fitted_is_kept(lenses) -> None:
    kept = arrays_of(lenses)
    assert kept["ridge_resid_mid_1"].dtype == "float16"
    assert len(kept) == 2 * len(lenses.ridge)


def differences(model, ids: list[int]) -> tuple[float, bool]:
    """From TransformerLens' own logit lens: the largest of log-probabilities, the same tokens.

    In nats; of a state whose log-probabilities lie beyond 100, in hundredths of the largest: where
    SmolLM2's embedding reads -280, float32 goes by steps of 3e-5.
    """
    theirs = pytest.importorskip("transformer_lens.tools.analysis.logit_lens")
    tokens = torch.tensor([ids])
    found = theirs.logit_lens(model, tokens, positions=None, return_type="logits")
    where = sites(model, ("embedding", "resid_post"))
    states, own = states_of(model, ids, where), unembedding(model)
    ours = torch.stack([own(state) for state in states])
    expected = found.values[:, 0].float()
    known = expected.log_softmax(-1)
    apart = (ours.log_softmax(-1) - known).abs().amax((1, 2))
    apart = (apart / (known.abs().amax((1, 2)) / 100).clamp(min=1)).max().item()
    return apart, bool((ours.argmax(-1) == expected.argmax(-1)).all())


def test_the_logit_lens_is_that_of_transformer_lens(model) -> None:
    apart, same = differences(model, TEXT)
    assert same
    assert apart < 1e-4


@pytest.mark.real
def test_the_logit_lens_of_smollm2_is_that_of_transformer_lens() -> None:
    smollm2 = load("smollm2")
    apart, same = differences(smollm2, tokenize(smollm2, "The capital of Portugal is Lisbon, and"))
    assert same
    assert apart < 1e-4
