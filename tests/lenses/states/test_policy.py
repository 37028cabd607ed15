"""States at the tokens after a prompt, against the lens of contributions and by hand."""

import warnings

import numpy as np
import pytest
import torch

from lenses.heads import contributions as oracle
from lenses.states import policy
from lenses.states.policy import STATISTICS, generate, largest_differences, overlap, read
from models import load, untrained
from tests.lenses.blocks import CONFIGS, tiny


@pytest.fixture(scope="module", params=["gpt2", "grouped queries", "post-norm"])
def model(request):
    return tiny(CONFIGS[request.param])


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_1l")


TOKENS = torch.randint(0, 50, (3, 11), generator=torch.Generator().manual_seed(1))


def test_statistics_are_means_of_contributions(model) -> None:
    found = read(model, TOKENS, start=7, first=5).statistics
    one = oracle.contributions(model, TOKENS, torch.zeros_like(TOKENS)).cpu()
    share = one.norm_share
    expected = [
        one.l2_norm.mean(-1).log(),
        one.cosine.mean(-1),
        -(share * share.log()).sum(-1),
        one.attention_entropy.mean(-1),
    ]
    for number, values in enumerate(expected):
        np.testing.assert_allclose(found[:, :, number], values[:, 5:], atol=1e-4)


def test_attention_and_residual_norm_are_what_the_hooks_say(model) -> None:
    found = read(model, TOKENS, start=7, first=5)
    logits, cache = model.run_with_cache(TOKENS)
    for layer in range(2):
        rows = cache[f"blocks.{layer}.attn.hook_pattern"][:, :, 5:].mean(dim=1)
        resid = cache[f"blocks.{layer}.hook_resid_post"][:, 5:]
        expected = [rows[..., 0], rows[..., 7:].sum(-1), resid.norm(dim=-1).log()]
        got = found.statistics[..., layer]
        for name, values in zip(STATISTICS[4:], expected, strict=True):
            np.testing.assert_allclose(got[..., STATISTICS.index(name)], values, atol=1e-5)
    torch.testing.assert_close(found.log_p, logits[:, 4:].log_softmax(-1))


def test_surprisals_are_of_the_tokens_that_were_read(model) -> None:
    nats = policy.surprisals(read(model, TOKENS, 7, 5), TOKENS[:, 5:].numpy())
    _, expected = oracle.HeadMeasures(model).with_surprisal(TOKENS, torch.zeros_like(TOKENS))
    expected = expected[:, 5:]
    np.testing.assert_allclose(nats, expected, atol=1e-5)
    strange = policy.surprisals(read(model, TOKENS, 7, 5), np.full((3, 6), 99))
    assert np.isnan(strange).all()


def test_written_tokens_are_the_likeliest_and_states_those_of_one_pass(model) -> None:
    prompt = TOKENS[0].tolist()
    written = generate(model, prompt, 5, ends=())
    ids = list(prompt)
    for token in written.tokens:
        assert token == model(torch.tensor([ids]))[0, -1].argmax()
        ids.append(token)
    whole = read(model, torch.tensor([ids]), 11, 11)
    shares, nats, same = largest_differences(written, whole)
    assert shares.max() < 1e-4
    assert nats < 1e-4
    assert same == 1


def test_a_state_that_is_not_the_same_is_told(model) -> None:
    written = generate(model, TOKENS[0].tolist(), 3, ends=())
    other = [*TOKENS[1].tolist(), *written.tokens]
    shares, nats, _ = largest_differences(written, read(model, torch.tensor([other]), 11, 11))
    assert shares.max() > 0.01
    assert nats > 0.1


def test_writing_stops_before_the_end_token(model) -> None:
    prompt = TOKENS[0].tolist()
    first = generate(model, prompt, 1, ends=()).tokens[0]
    ended = generate(model, prompt, 5, ends=[first])
    assert ended.tokens == []
    assert ended.read.statistics.shape == (1, 0, len(STATISTICS), 2)
    whole = read(model, torch.tensor([prompt]), 11, 11)
    assert largest_differences(ended, whole)[1] < 1e-4


def test_an_adder_writes_its_answer(adder) -> None:
    prompt = adder.tokenizer("123456+123456=")["input_ids"]
    written = generate(adder, prompt, 7, [adder.tokenizer.eos_token_id])
    assert adder.tokenizer.decode(written.tokens) == "0246912"


def test_sampled_tokens_come_as_often_as_they_are_likely(adder) -> None:
    twin = untrained(adder, 0)
    said = [generate(twin, [12], 1, (), seed).tokens[0] for seed in range(300)]
    p = read(twin, torch.tensor([[12]]), 1, 0).log_p[0, -1].exp().numpy()
    counts = np.bincount(said, minlength=len(p)) / 300
    assert np.abs(counts - p).max() < 0.07
    assert (counts > 0).sum() > 3


def test_history_is_of_the_filler_before() -> None:
    surprisal = np.array([[1.0, 3.0, 5.0], [2.0, np.nan, 4.0]])
    tokens = np.array([[7, 8, 8], [9, 7, 9]])
    found = policy.history(surprisal, tokens, prompt=[7])
    assert found[..., 0].tolist() == [[0, 1, 2], [0, 2, 1]]
    assert found[..., 1].tolist() == [[1, 0, 1], [0, 1, 1]]


def test_standardised_is_within_the_place_and_over_known_tokens() -> None:
    values = np.zeros((1, 2, 3, 3))
    values[0, :, :, 0] = [[1, 10, 99], [3, 14, 0]]
    values[0, 0, 1, 1] = -np.inf
    known = np.array([[True, True, False]])
    found = policy.standardised(values, known)
    spread = np.sqrt((1 + 1 + 4 + 4) / 4)
    expected = np.array([[-1, -2, 0], [1, 2, 0]]) / spread
    np.testing.assert_allclose(found[0, :, :, 0], expected)
    assert np.isnan(found[..., 1:]).all()  # undefined somewhere, and the same everywhere


def test_over_layers_leaves_out_layers_without_variation() -> None:
    rng = np.random.default_rng(0)
    layers = rng.normal(size=(4, 3, 5, 2, 3))
    layers[..., 0, 1] = np.nan
    layers[..., 1, :] = np.nan
    known = np.ones((4, 5), dtype=bool)
    found = policy.over_layers(layers, known)
    mean = layers[..., 0, [0, 2]].mean(-1)
    mean = mean - mean.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(found[..., 0], mean / mean.std())
    assert np.isnan(found[..., 1]).all()


def test_overlap_is_1_for_the_same_and_0_for_apart() -> None:
    one = np.arange(10.0)
    assert policy.overlap(one, one) == 1
    assert policy.overlap(one, one + 20) == 0
    assert policy.overlap(one, one + 5) == pytest.approx(0.5)


def test_overlap_is_one_less_the_distance_also_where_ties_make_it_hard() -> None:
    """No warning reaches a user, whatever is compared: only the distance is asked for."""
    rng = np.random.default_rng(0)
    one, other = np.zeros(3_000), np.r_[np.zeros(2_990), rng.random(10)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert overlap(one, other) == pytest.approx(1 - 10 / 3_000)
        assert overlap(one, one) == 1
