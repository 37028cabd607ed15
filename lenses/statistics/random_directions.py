"""The direction-randomised null: heads keep their lengths and point anywhere."""

import numpy as np
from jaxtyping import Float


def random_direction_cosines(
    l2_norm: Float[np.ndarray, "pos layer head"], d_model: int, draws: int, rng: np.random.Generator
) -> Float[np.ndarray, "draw pos layer head"]:
    """Cosine of each head with the sum over heads, had every head a random direction in a text.

    The directions are independent and uniform on the sphere in d_model dimensions. A head keeps its
    direction over the tokens of a text: were it drawn anew at each, means over many tokens would
    agree with lengths better than means over few, and a long phase better than a short one.

    Cosines depend on their Gram matrix alone, and that of n Gaussian vectors is A A^T with A lower
    triangular, chi variables with d_model - i degrees of freedom on its diagonal and normals below
    it: head^2 numbers instead of head x d_model, and no approximation. (Bartlett 1933; Odell &
    Feiveson 1966.)
    Raises ValueError where there are more heads than dimensions.
    """
    heads = l2_norm.shape[-1]
    if heads > d_model:
        raise ValueError(f"{heads} heads need at least as many dimensions, not {d_model}")
    shape = (draws, *l2_norm.shape[1:])
    factor = np.tril(rng.standard_normal((*shape, heads)), -1)
    freedom = d_model - np.arange(heads)
    factor[..., np.arange(heads), np.arange(heads)] = np.sqrt(rng.chisquare(freedom, size=shape))
    direction = factor / np.linalg.norm(factor, axis=-1, keepdims=True)
    whole = np.einsum("plh,dlhm->dplm", l2_norm, direction)
    product = np.einsum("dlhm,dplm->dplh", direction, whole)
    length = np.linalg.norm(whole, axis=-1, keepdims=True)
    return np.divide(product, length, out=np.zeros_like(product), where=length > 0)
