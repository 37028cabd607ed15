"""The direction-randomised null: heads keep their lengths and point anywhere."""

import numpy as np
from jaxtyping import Float


def random_direction_cosines(
    l2_norm: Float[np.ndarray, "*token head"], d_model: int, draws: int, rng: np.random.Generator
) -> Float[np.ndarray, "draw *token head"]:
    """Cosine of each head with the sum over heads, had every head a random direction.

    The directions are independent and uniform on the sphere in d_model dimensions. Cosines depend
    on their Gram matrix alone, and that of n Gaussian vectors is A A^T with A lower triangular,
    chi variables with d_model - i degrees of freedom on its diagonal and normals below it: head^2
    numbers instead of head x d_model, and no approximation. (Bartlett 1933; Odell & Feiveson 1966.)
    Raises ValueError where there are more heads than dimensions.
    """
    heads = l2_norm.shape[-1]
    if heads > d_model:
        raise ValueError(f"{heads} heads need at least as many dimensions, not {d_model}")
    shape = (draws, *l2_norm.shape)
    factor = np.tril(rng.standard_normal((*shape, heads)), -1)
    freedom = d_model - np.arange(heads)
    factor[..., np.arange(heads), np.arange(heads)] = np.sqrt(rng.chisquare(freedom, size=shape))
    direction = factor / np.linalg.norm(factor, axis=-1, keepdims=True)
    whole = np.einsum("...h,d...hm->d...m", l2_norm, direction)
    product = np.einsum("...hm,...m->...h", direction, whole)
    length = np.linalg.norm(whole, axis=-1, keepdims=True)
    return np.divide(product, length, out=np.zeros(shape), where=length > 0)
