"""Logistic regression on small tables, refitted without each prompt at once."""

import numpy as np
from jaxtyping import Bool, Float

from lenses.statistics.resampled import leave_one_out, pseudo_values

STEPS = 40


def logistic(
    features: Float[np.ndarray, "n feature"],
    outcome: Bool[np.ndarray, "n"],
    weight: Float[np.ndarray, "fit n"],
    strength: float = 1.0,
) -> Float[np.ndarray, "fit feature_and_one"]:
    """Coefficients of the log-odds of the outcome, the intercept last, one fit per row of weights.

    A weight says how often an observation counts. `strength` / 2 times the squared coefficients is
    added to the loss, the intercept being free, so that outcomes which the features separate
    completely have finite coefficients (scikit-learn's C = 1 / strength). Newton's method.
    """
    x = np.column_stack([features, np.ones(len(outcome))])
    penalty = np.full(x.shape[1], strength)
    penalty[-1] = 1e-9
    products = (x[:, :, None] * x[:, None, :]).reshape(len(x), -1)
    found = np.zeros((len(weight), x.shape[1]))
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-np.clip(found @ x.T, -500, 500)))
        gradient = (weight * (p - outcome)) @ x + penalty * found
        hessian = (weight * p * (1 - p)) @ products
        hessian = hessian.reshape(len(weight), *x.shape[1:] * 2) + np.diag(penalty + 1e-9)
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        # A full step may overshoot where p is nearly 0 or 1.
        found = found - step / np.maximum(1, np.abs(step).max(1, keepdims=True) / 3)
        if np.abs(step).max() < 1e-8:
            break
    return found


def logistic_by_prompt(
    features: Float[np.ndarray, "n feature"],
    outcome: Bool[np.ndarray, "n"],
    prompt: np.ndarray,
) -> tuple[Float[np.ndarray, "feature"], Float[np.ndarray, "prompt feature"]]:
    """Coefficients on standardised features, and each prompt's own numbers of them.

    A feature that does not vary has coefficient 0.
    """
    spread = features.std(axis=0)
    scaled = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1)
    names, row = np.unique(prompt, return_inverse=True)
    weight = np.concatenate([np.ones((1, len(names))), leave_one_out(len(names))])[:, row]
    parts = np.array_split(weight, max(1, weight.size // 2**20))
    found = np.concatenate([logistic(scaled, outcome, part) for part in parts])[:, :-1]
    return found[0], pseudo_values(found[0], found[1:])
