import itertools

import numpy as np
import pytest

from lenses.statistics.word_scores import (
    advantage,
    class_means,
    max_t,
    one_sided_p,
    other_words_null,
    resampled_advantage,
    scores,
    shuffled_labels_null,
)

RNG = np.random.default_rng(0)
LABEL = RNG.integers(0, 4, 60)
LOGITS = RNG.normal(size=(60, 3, 4))


def test_a_score_is_a_difference_of_log_probabilities_by_hand() -> None:
    found = scores(LOGITS, LABEL)
    logprob = LOGITS - np.log(np.exp(LOGITS).sum(-1, keepdims=True))
    for row in range(60):
        own = LABEL[row]
        others = np.delete(logprob[row], own, axis=1).mean(1)
        assert np.allclose(found[row], logprob[row, :, own] - others)


def test_the_advantage_weighs_classes_alike() -> None:
    score = scores(LOGITS, LABEL)
    expected = np.mean([score[c == LABEL].mean(0) for c in range(4)], axis=0)
    assert np.allclose(advantage(class_means(LOGITS, LABEL, 4)), expected)


def test_a_word_that_is_likely_everywhere_has_no_advantage() -> None:
    liked = LOGITS + np.array([0, 5, 0, -2])
    before, after = (advantage(class_means(x, LABEL, 4)) for x in (LOGITS, liked))
    assert np.allclose(before, after)


def test_other_words_are_every_assignment_of_words_to_classes() -> None:
    means = class_means(RNG.normal(size=(60, 2, 5)), LABEL % 3, 3)
    expected = [
        advantage(means[:, :, list(words)]) for words in itertools.permutations(range(5), 3)
    ]
    found = other_words_null(means, seed=0, draws=4_000)
    assert np.allclose(
        np.unique(found[:, 0].round(9)), np.unique(np.array(expected)[:, 0].round(9))
    )
    assert np.allclose(found.mean(0), np.mean(expected, axis=0), atol=0.02)


def test_labels_trade_within_their_block_only() -> None:
    block = np.repeat([0, 1], 30)
    label = np.where(block == 0, LABEL % 2, LABEL)
    found = shuffled_labels_null(LOGITS, label, block, seed=1, draws=3_000)
    expected = []
    for first in itertools.permutations(range(2)):
        for second in itertools.permutations(range(4)):
            traded = np.where(block == 0, np.array([*first, 0, 0])[label], np.array(second)[label])
            expected.append(advantage(class_means(LOGITS, traded, 4)))
    assert np.allclose(
        np.unique(found[:, 1].round(9)), np.unique(np.array(expected)[:, 1].round(9))
    )


def test_p_values_count_the_observed_and_correct_for_all_sites() -> None:
    null = RNG.normal(size=(999, 20)) * np.arange(1, 21)
    observed = np.zeros(20)
    observed[3] = 100.0
    corrected, single = max_t(observed, null), one_sided_p(observed, null)
    assert corrected[3] == single[3] == 1 / 1000
    assert (corrected >= single).all()
    assert single[0] == pytest.approx(0.5, abs=0.05)
    assert corrected[0] > 0.99


def test_a_site_without_any_spread_cannot_stand_out() -> None:
    null = np.stack([RNG.normal(size=200), np.zeros(200)], axis=1)
    assert max_t(np.array([9.0, 1e-12]), null).tolist() == [1 / 201, 1.0]


def test_max_t_rejects_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    shape = np.linalg.cholesky(0.6 + 0.4 * np.eye(6)).T
    p = []
    for _ in range(400):
        draws = rng.normal(size=(200, 6)) @ shape
        p.append(max_t(draws[0], draws[1:]).min())
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.03)


def test_an_untrained_table_of_words_holds_no_word_for_its_classes() -> None:
    rejected = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        states, words = rng.normal(size=(5, 8)), rng.normal(size=(20, 8))
        means = np.repeat((states @ words.T)[None], 3, axis=0) * np.array([1, 2, 3])[:, None, None]
        null = other_words_null(means, seed=seed, draws=500)
        rejected += max_t(advantage(means[:, :, :5]), null).min() <= 0.05
    assert rejected <= 20


def test_resamples_of_prompts_centre_on_the_advantage_and_spread_as_prompts_do() -> None:
    prompt = np.arange(60) // 3
    score = scores(LOGITS, LABEL)
    drawn = resampled_advantage(score, LABEL, prompt, seed=0)
    whole = advantage(class_means(LOGITS, LABEL, 4))
    assert np.allclose(drawn.mean(0), whole, atol=0.05)
    rng, naive = np.random.default_rng(1), []
    for _ in range(400):
        rows = np.concatenate([np.flatnonzero(prompt == p) for p in rng.integers(0, 20, 20)])
        means = [score[rows][LABEL[rows] == c].mean(0) for c in range(4)]
        naive.append(np.mean(means, axis=0))
    assert np.allclose(drawn.std(0), np.std(naive, axis=0), rtol=0.15)


def test_parts_of_the_states_are_compared_on_the_same_resamples() -> None:
    prompt = np.arange(60) // 6
    score = scores(LOGITS, LABEL)
    half = np.arange(60) % 2 == 0
    first = resampled_advantage(score, LABEL, prompt, 0, half)
    second = resampled_advantage(score + 1, LABEL, prompt, 0, half)
    assert np.allclose(second - first, 1)
