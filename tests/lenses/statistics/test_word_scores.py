import itertools

import numpy as np
import pytest

from lenses.statistics.word_scores import (
    advantage,
    advantage_by_prompt,
    class_means,
    max_t,
    one_sided_p,
    other_words_null,
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


def test_numbers_by_prompt_are_the_advantage_less_that_without_each() -> None:
    prompt = np.arange(60) // 3
    score = scores(LOGITS, LABEL)
    found = advantage_by_prompt(score, LABEL, prompt)
    whole = advantage(class_means(LOGITS, LABEL, 4))
    for number in (0, 11, 19):
        rest = prompt != number
        without = np.mean([score[rest & (c == LABEL)].mean(0) for c in range(4)], axis=0)
        assert np.allclose(found[number], 20 * whole - 19 * without)


def test_prompts_without_a_chosen_state_have_none_and_parts_are_compared_by_prompt() -> None:
    prompt = np.arange(60) // 6
    score = scores(LOGITS, LABEL)
    half = (np.arange(60) % 2 == 0) & (prompt != 4)
    first = advantage_by_prompt(score, LABEL, prompt, half)
    second = advantage_by_prompt(score + 1, LABEL, prompt, half)
    assert np.isnan(first[4]).all()
    assert np.allclose(np.delete(second - first, 4, axis=0), 1)


def test_a_class_of_one_prompt_has_no_part_in_the_mean_without_it() -> None:
    score = np.array([[1.0], [3.0], [8.0]])
    found = advantage_by_prompt(score, np.array([0, 0, 1]), np.array([0, 1, 2]))
    whole = (2 + 8) / 2
    assert found[:, 0].tolist() == [3 * whole - 2 * 5.5, 3 * whole - 2 * 4.5, 3 * whole - 2 * 2]
