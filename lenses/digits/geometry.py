"""How the states of ten digits lie to each other: on a line, a circle, or as a cloud (SCIENCE 5).

Let M be the mean states of the values (rows, centred). With B an orthonormal basis of patterns over
the values, norm(B^T M)^2 / norm(M)^2 is the share of their variation that lies in these patterns:
the numbers themselves (a line) or a Fourier pair of frequency k (k = 1: a circle). Nine directions
hold ten points whatever they are, so everything is compared with permuted labels, and since a line
looks much like a circle (its share of k = 1 is .64) each is also taken beyond the other.

Only products of different contexts enter, M_c M_e^T with c unlike e, so that noise adds nothing to
any share on average: the mean over all ways to split the contexts (a U-statistic).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy import special

from lenses.statistics.grid import grid
from lenses.statistics.intervals import bootstrap, luck_as_far
from lenses.statistics.resampled import leave_one_out, pseudo_values

PERIODS = (2, 5, 10, 100)
"""Of the helix on which language models were found to keep numbers (Kantamneni & Tegmark 2025)."""

NOTHING = 0.05
"""Where less than this share of the variation is left, nothing of it is explained."""

PERMUTATIONS = 5_000
PERMUTED_AT_ONCE = 500

Basis = Float[np.ndarray, "value rank"]


def orthonormal(columns: Float[np.ndarray, "value column"]) -> Basis:
    """A basis of what patterns over the values span, constants left out."""
    centred = columns - columns.mean(0)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    return left[:, size > 1e-9 * max(size.max(initial=0), 1e-300)]


def linear(values: int) -> Basis:
    """The pattern of points on a line, evenly spaced."""
    return orthonormal(np.arange(values, dtype=float)[:, None])


def fourier(values: int, period: float) -> Basis:
    """The patterns of points on a circle with this period (one pattern where it is 2)."""
    angle = 2 * np.pi * np.arange(values) / period
    return orthonormal(np.stack([np.cos(angle), np.sin(angle)], axis=1))


def joined(*bases: Basis) -> Basis:
    """A basis of all of them together."""
    return orthonormal(np.concatenate(bases, axis=1))


def helix(values: int, periods: Sequence[float] = PERIODS) -> Basis:
    """A line and circles of several periods (Kantamneni & Tegmark 2025, section 4)."""
    return joined(linear(values), *(fourier(values, period) for period in periods))


def best(means: Float[np.ndarray, "value d"], rank: int) -> Basis:
    """The patterns of the first principal components: none of equal rank holds more."""
    centred = means - means.mean(0)
    return np.linalg.svd(centred, full_matrices=False)[0][:, :rank]


def projector(basis: Basis) -> Float[np.ndarray, "value value"]:
    """B B^T: applied to the means of the values, it gives what a fit makes of them."""
    return basis @ basis.T


def products(
    states: Float[np.ndarray, "context value d"], basis: Basis
) -> Float[np.ndarray, "context context"]:
    """Inner products of contexts along the patterns, of which shares and intervals are made."""
    along = np.einsum("vr,cvd->crd", basis, states.astype(float)).reshape(len(states), -1)
    return along @ along.T


def gram(states: Float[np.ndarray, "context value d"]) -> Float[np.ndarray, "value value"]:
    """Inner products of the values' mean states, centred, without what noise adds to them.

    Raises ValueError for a single context, in which signal and noise cannot be told apart.
    """
    contexts = len(states)
    if contexts < 2:
        raise ValueError("noise is told from signal by comparing contexts: two at least")
    centred = states.astype(float) - states.mean(1, keepdims=True, dtype=float)
    total = centred.sum(0)
    own = np.einsum("cvd,cwd->vw", centred, centred)
    return (total @ total.T - own) / (contexts * (contexts - 1))


def share(
    gram: Float[np.ndarray, "*site value value"], basis: Float[np.ndarray, "*draw value rank"]
) -> Float[np.ndarray, "*draw_and_site"]:
    """Share of the values' variation along the patterns; NaN where the values do not differ.

    Of noise alone it may come out below 0 or above 1.
    """
    flat = gram.reshape(-1, *gram.shape[-2:])
    total = np.trace(flat, axis1=1, axis2=2)
    held = np.einsum("...vr,...wr,svw->...s", basis, basis, flat, optimize=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.where(total > 0, held / total, np.nan)
    return found.reshape((*basis.shape[:-2], *gram.shape[:-2]))


def beyond(
    both: Float[np.ndarray, "*cell"], given: Float[np.ndarray, "*cell"]
) -> Float[np.ndarray, "*cell"]:
    """Of what `given` leaves, the share that both together explain (a squared partial correlation).

    0 where no more than NOTHING is left to explain.
    """
    left = 1 - given
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(left > NOTHING, (both - given) / left, np.where(np.isnan(left), left, 0.0))


DIGITS = 10

PARTIAL = {
    "line beyond circle": ("line and circle", "circle"),
    "circle beyond line": ("line and circle", "line"),
    "circle beyond arch": ("arch and circle", "arch"),
}
"""What one pattern explains of what another leaves: the share of both, and what is given."""


def bases() -> dict[str, Basis]:
    """The patterns over ten digits whose shares are taken, by name.

    Those of the circle and k = 2 to 5 sum to 1. An arch is a line that is bent into a parabola:
    whatever is ordered and not straight has some of the circle's pattern (the horseshoe of
    Diaconis, Goel & Holmes 2008), but only on a circle 9 lies beside 0.
    """
    line, circle = linear(DIGITS), fourier(DIGITS, DIGITS)
    arch = joined(line, orthonormal((np.arange(DIGITS)[:, None] - 4.5) ** 2))
    found = {"line": line, "circle": circle}
    found |= {f"k = {k}": fourier(DIGITS, DIGITS / k) for k in range(2, 6)}
    found |= {"arch": arch, "line and circle": joined(line, circle)}
    return found | {"arch and circle": joined(arch, circle)}


COMPONENTS = (*bases(), *PARTIAL)
"""What is reported of ten digits, in this order."""


def components(
    gram: Float[np.ndarray, "*site value value"], order: Int[np.ndarray, "*draw value"]
) -> Float[np.ndarray, "*draw_component_site"]:
    """Every one of COMPONENTS, the digits being labelled `order` (as they are: 0 to 9)."""
    shares = [share(gram, basis[order]) for basis in bases().values()]
    return _with_partial(np.stack(shares, axis=order.ndim - 1), order.ndim - 1)


def _with_partial(
    shares: Float[np.ndarray, "*cell"], axis: int
) -> Float[np.ndarray, "*cell_and_partial"]:
    """The shares of `bases`, and after them those of PARTIAL."""
    at = {name: shares.take(number, axis) for number, name in enumerate(bases())}
    partial = [beyond(at[both], at[given]) for both, given in PARTIAL.values()]
    return np.concatenate([shares, np.stack(partial, axis)], axis)


def participation_ratio(
    gram: Float[np.ndarray, "*site value value"],
) -> Float[np.ndarray, "*site"]:
    """(sum of eigenvalues)^2 / sum of squares: 1 for a line, 2 for a circle, 9 for ten equidistant.

    Only eigenvalues above zero count; NaN where there is none.
    """
    size = np.clip(np.linalg.eigvalsh(gram), 0, None)
    with np.errstate(invalid="ignore"):
        return size.sum(-1) ** 2 / (size**2).sum(-1)


def without_each(
    states: Float[np.ndarray, "site context value d"],
) -> Float[np.ndarray, "context pattern site"]:
    """Variation along all patterns, then along each of `bases`, without each of the contexts.

    In units of a site's whole variation in all contexts. As in `gram`, noise stays out: a context
    is no pair with itself.
    """
    sites, contexts = states.shape[:2]
    weight = leave_one_out(contexts)
    pairs = weight.sum(1) ** 2 - (weight**2).sum(1)
    patterns = [orthonormal(np.eye(DIGITS)), *bases().values()]
    found = np.empty((contexts, len(patterns), sites))
    for site, one in enumerate(states):
        parts = np.stack([products(one, basis) for basis in patterns])
        parts *= 1 - np.eye(contexts)
        with np.errstate(invalid="ignore"):  # two contexts less one make no pair
            sums = np.einsum("nc,pce,ne->np", weight, parts, weight, optimize=True) / pairs[:, None]
        whole = parts[0].sum() / (contexts * (contexts - 1))
        found[:, :, site] = sums / whole if whole > 0 else np.nan
    return found


def shares_of(
    variation: Float[np.ndarray, "context pattern *cell"],
) -> Float[np.ndarray, "context component *cell"]:
    """COMPONENTS of what `without_each` returns, or of its mean over sites."""
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = variation[:, 1:] / variation[:, :1]
    return _with_partial(shares, 1)


def mean_gram(
    grams: Float[np.ndarray, "slot *site value value"],
) -> Float[np.ndarray, "*site value value"]:
    """The mean over slots of Gram matrices, in each of which values vary by 1 in all.

    A slot whose values do not differ is left out; NaN where none does.
    """
    total = np.trace(grams, axis1=-2, axis2=-1)[..., None, None]
    known = total > 0
    scaled = np.where(known, grams / np.where(known, total, 1), 0)
    count = known.sum(0)
    return scaled.sum(0) / np.where(count > 0, count, np.nan)


def permuted(
    gram: Float[np.ndarray, "site value value"], seed: int = 0, permutations: int = PERMUTATIONS
) -> Float[np.ndarray, "draw component site"]:
    """COMPONENTS with the digits' labels permuted, those of every site by the same permutations."""
    orders = np.random.default_rng(seed).permuted(
        np.tile(np.arange(DIGITS), (permutations, 1)), axis=1
    )
    parts = np.array_split(orders, -(-permutations // PERMUTED_AT_ONCE))
    return np.concatenate([components(gram, part) for part in parts])


def max_t(
    found: Float[np.ndarray, "site"], null: Float[np.ndarray, "draw site"]
) -> Float[np.ndarray, "site"]:
    """p of each site, corrected for all: how often the largest of the null lies as far out.

    Each site is measured in standard deviations of its own null, since some vary more than others
    (Westfall & Young 1993). The labels as they are count as one permutation. A site that is NaN,
    or at which labels change nothing, has p = 1.
    """
    mean, spread = null.mean(0), null.std(0)
    known = spread > 1e-12
    scale = np.where(known, spread, 1.0)
    height = np.where(known, (found - mean) / scale, -np.inf)
    highest = np.where(known, (null - mean) / scale, -np.inf).max(1, initial=-np.inf)
    # Permutations that leave the statistic as it is differ by rounding, and must count as reached.
    return np.where(known, luck_as_far(height - 1e-9, highest[:, None]), 1.0)


def grams(
    states: Float[np.ndarray, "slot layer context value d"],
) -> Float[np.ndarray, "slot layer value value"]:
    """`gram` of every site."""
    return np.stack([[gram(site) for site in slot] for slot in states])


def shape_tables(
    slots: Sequence[tuple[str, int]],
    states: Float[np.ndarray, "slot layer context value d"],
    twins: Float[np.ndarray, "twin slot layer value value"],
    seed: int = 0,
) -> dict[str, pd.DataFrame]:
    """Where the ten digits lie, by whose digit it is, decimal place and layer.

    `shares` of each site, `by_layer` those of all places, `dimensions`, and `points`; beside them
    permuted labels, and `twins`, the grams of models with random weights.
    """
    own = grams(states)
    rows = [(*slot, layer) for slot in slots for layer in range(own.shape[1])]
    sites = pd.DataFrame(rows, columns=["operand", "place", "layer"])
    without = without_each(np.concatenate(states))
    pooled = np.nanmean(without.reshape(*without.shape[:2], *own.shape[:2]), axis=2)
    ratio, random = participation_ratio(own), participation_ratio(twins).mean(0)
    ratios = {"participation_ratio": ratio.ravel(), "random_weights": random.ravel()}
    return {
        "shares": _share_rows(sites, np.concatenate(own), without, seed).assign(n=states.shape[2]),
        "by_layer": _layer_rows(mean_gram(own), pooled, twins, seed),
        "dimensions": sites.assign(**ratios),
        "points": points(sites, np.concatenate(states.mean(2))),
    }


def _share_rows(
    sites: pd.DataFrame,
    own: Float[np.ndarray, "site value value"],
    without: Float[np.ndarray, "context pattern site"],
    seed: int,
) -> pd.DataFrame:
    """Each component at each site with its interval, and what permuted labels give."""
    found, null = components(own, np.arange(DIGITS)), permuted(own, seed)
    (low, high), (null_low, null_high) = _covering(found, without, seed), _middle(null)
    p = np.stack([max_t(one, null[:, at]) for at, one in enumerate(found)])
    values = {"share": found, "low": low, "high": high, "null": null.mean(0)}
    values |= {"null_low": null_low, "null_high": null_high, "p": p}
    named = [sites.assign(component=name) for name in COMPONENTS]
    table = pd.concat(named, ignore_index=True)
    return table.assign(**{name: value.ravel() for name, value in values.items()})


def _layer_rows(
    whole: Float[np.ndarray, "layer value value"],
    without: Float[np.ndarray, "context pattern layer"],
    twins: Float[np.ndarray, "twin slot layer value value"],
    seed: int,
) -> pd.DataFrame:
    """Each component by layer: of the model, of permuted labels, of random weights."""
    order, null = np.arange(DIGITS), permuted(whole, seed)
    random = np.stack([components(mean_gram(twin), order) for twin in twins])
    found = components(whole, order)
    own = found, *_covering(found, without, seed)
    each = own, (null.mean(0), *_middle(null)), (random.mean(0), random.min(0), random.max(0))
    share, low, high = (np.stack(values) for values in zip(*each, strict=True))
    weights = ["this model", "permuted labels", "random weights"]
    axes = {"weights": weights, "component": list(COMPONENTS), "layer": len(whole)}
    return grid(axes, share=share, low=low, high=high)


def _covering(
    found: Float[np.ndarray, "component cell"],
    without: Float[np.ndarray, "context pattern cell"],
    seed: int,
) -> tuple[Float[np.ndarray, "component cell"], Float[np.ndarray, "component cell"]]:
    """Ends of the intervals over contexts."""
    ends = (
        bootstrap(pseudo_values(found, shares_of(without)), seed).either_side().within(-np.inf, 1)
    )
    return ends.low, ends.high


def _middle(draws: Float[np.ndarray, "draw *cell"]) -> Float[np.ndarray, "end *cell"]:
    """Where 95 % of the draws lie."""
    return np.nanquantile(draws, [0.025, 0.975], axis=0)


def points(sites: pd.DataFrame, means: Float[np.ndarray, "site value d"]) -> pd.DataFrame:
    """The ten digits of each site along their two first principal components.

    Signs, which are arbitrary, are such that 9 lies to the right of 0 and, in sum, the middle
    digits above.
    """
    parts = []
    for site, states in zip(sites.to_dict("records"), means, strict=True):
        left, size, _ = np.linalg.svd(states - states.mean(0), full_matrices=False)
        sign = np.sign([left[9, 0] - left[0, 0], left[3:7, 1].sum()])
        x, y = (left[:, :2] * size[:2] * np.where(sign == 0, 1, sign)).T
        first, second, *_ = size**2 / (size**2).sum()
        site |= {"digit": range(10), "first_component": x, "second_component": y}
        parts.append(pd.DataFrame(site | {"first_share": first, "second_share": second}))
    return pd.concat(parts, ignore_index=True)


def beyond_controls(value: float, controls: Float[np.ndarray, "control"]) -> float:
    """One-sided p that a value is one more of few controls, were they normal.

    (Crawford & Howell 1998, Clin. Neuropsychol. 12: a t-test of one case against a small sample.)
    Controls that are all equal have no spread: then its rank among them.
    """
    count, spread = len(controls), controls.std(ddof=1)
    if spread < 1e-12:
        return float(luck_as_far(value, controls))
    t = (value - controls.mean()) / (spread * np.sqrt((count + 1) / count))
    return float(special.stdtr(count - 1, -t))


def clearest_layer(fits: pd.DataFrame) -> tuple[int, float]:
    """Where the fit exceeds permuted fits most clearly; p, corrected for the layers.

    `fits` has the columns layer, fit (`fit`, or another name for permuted ones) and success.
    """
    p = {}
    for layer, some in fits.groupby("layer"):
        is_fit, success = (some["fit"] == "fit").to_numpy(), some["success"].to_numpy()
        p[layer] = beyond_controls(success[is_fit].item(), success[~is_fit])
    layer = min(p, key=p.get)
    return layer, min(1.0, len(p) * p[layer])


def held_most(by_layer: pd.DataFrame) -> pd.Series:
    """The layer where line and circle together hold most; the first where none is known."""
    own = by_layer.query("weights == 'this model' and component == 'line and circle'")
    return own.iloc[own["share"].fillna(-np.inf).to_numpy().argmax()]


def fits(
    means: Float[np.ndarray, "slot value d"], patterns: Basis, rng: np.random.Generator, count: int
) -> dict[str, Float[np.ndarray, "slot value value"]]:
    """What turns the means of values into what is left of them in a fit, by the fit's name.

    `fit` is that along the patterns; `best` along as many principal components, the most that
    a fit of this rank can do; `all` keeps everything; `permuted 0` and on have the values' labels
    permuted, the same in all slots.
    """
    slots, values = means.shape[:2]
    found = {"fit": projector(patterns), "all": projector(orthonormal(np.eye(values)))}
    for number in range(count):
        found[f"permuted {number}"] = projector(patterns[rng.permutation(values)])
    same = {name: np.broadcast_to(fit, (slots, values, values)) for name, fit in found.items()}
    rank = patterns.shape[1]
    return same | {"best": np.stack([projector(best(slot, rank)) for slot in means])}


def moved(
    means: Float[np.ndarray, "slot value d"],
    fit: Float[np.ndarray, "slot value value"],
    slot: Int[np.ndarray, "n"],
    value: Int[np.ndarray, "n"],
    target: Int[np.ndarray, "n"],
) -> Float[np.ndarray, "n d"]:
    """From where a fit puts a value to where it puts another: what is to be added to a state."""
    step = fit[slot, target] - fit[slot, value]
    return np.einsum("nv,nvd->nd", step, means[slot], optimize=True)


def as_long(steps: Float[np.ndarray, "n d"], rng: np.random.Generator) -> Float[np.ndarray, "n d"]:
    """Steps of the same lengths in random directions."""
    found = rng.standard_normal(steps.shape)
    length = np.linalg.norm(steps, axis=1, keepdims=True)
    return found * length / np.linalg.norm(found, axis=1, keepdims=True)
