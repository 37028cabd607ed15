import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from lenses.statistics.intervals import bootstrap
from lenses.statistics.logistic import logistic, logistic_by_prompt

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 3))
Y = RNG.random(300) < 1 / (1 + np.exp(-(X @ np.array([1.5, -0.7, 0.0]) + 0.3)))


def reference(x, y, weight, strength):
    fit = LogisticRegression(C=1 / strength, tol=1e-10, max_iter=10_000)
    fit.fit(x, y, sample_weight=weight)
    return [*fit.coef_[0], fit.intercept_[0]]


@pytest.mark.parametrize("strength", [0.01, 1.0, 30.0])
def test_it_agrees_with_scikit_learn_for_every_row_of_weights(strength) -> None:
    weight = np.stack([np.ones(300), RNG.integers(0, 4, 300)]).astype(float)
    found = logistic(X, Y, weight, strength)
    for coefficients, row in zip(found, weight, strict=True):
        assert np.allclose(coefficients, reference(X, Y, row, strength), atol=1e-4)


def test_outcomes_that_are_separated_have_finite_coefficients() -> None:
    apart = X[:, 0] > 0
    found = logistic(X, apart, np.ones((1, 300)))
    assert np.allclose(found[0], reference(X, apart, np.ones(300), 1.0), atol=1e-4)


def test_intervals_of_prompts_hold_the_truth_and_rows_twice_are_no_more_evidence() -> None:
    prompt = np.arange(300) // 10
    twice = np.concatenate([X, X]), np.concatenate([Y, Y]), np.concatenate([prompt, prompt])
    estimate, by_prompt = logistic_by_prompt(X, Y, prompt)
    again, more = logistic_by_prompt(*twice)
    found = bootstrap(by_prompt)
    assert ((found.low < estimate) & (estimate < found.high)).all()
    assert found.low[0] > 0
    assert found.high[1] < 0
    assert found.low[2] < 0 < found.high[2]
    assert np.allclose(more.std(0), by_prompt.std(0), rtol=0.1)
    assert np.allclose(again, estimate, atol=0.05)


def test_a_prompts_own_number_is_n_fits_less_those_without_it() -> None:
    prompt = np.arange(300) // 60
    scaled = (X - X.mean(0)) / X.std(0)
    estimate, by_prompt = logistic_by_prompt(X, Y, prompt)
    for number in range(5):
        fit = reference(scaled, Y, (prompt != number).astype(float), 1.0)[:3]
        expected = 5 * estimate - 4 * np.array(fit)
        assert np.allclose(by_prompt[number], expected, atol=1e-3)


def test_a_feature_that_does_not_vary_counts_for_nothing() -> None:
    flat = np.column_stack([X, np.ones(300)])
    estimate, by_prompt = logistic_by_prompt(flat, Y, np.arange(300) // 15)
    assert estimate[3] == 0
    assert not by_prompt[:, 3].any()
