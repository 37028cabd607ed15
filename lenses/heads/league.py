"""Measures of heads in a league: how each ranks what the removal of heads does.

Magnitudes are held against absolute effects. Measures of both signs are held against effects of
both signs, where there are some, and their absolute values against KL, which has one. All numbers
are of means over prompts, and prompts are resampled.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from einops import rearrange
from jaxtyping import Bool, Float, Shaped

from lenses.patching.single_heads import OUTCOMES
from lenses.statistics.intervals import RESAMPLES, luck_as_far
from lenses.statistics.ranking import (
    area_under_curve,
    grouped,
    means,
    rank_correlation,
    rank_correlation_tau,
    rank_of,
    rank_vectors,
    resampled_means,
    top_overlap,
)

SCOPES = ("within layers", "pooled")
"""Heads ranked in each layer apart, and all heads together."""

NULL_MEANS = 20
"""Means of effects in random directions that an effect must exceed to matter."""

RESOLUTION = 1e-5
"""Effects are rounded to this before they are ranked: less is what float32 leaves, no head."""

ONE_SIGN = OUTCOMES.index("kl")
HELPING = np.array([[[1.0]], [[1.0]], [[-1.0]]])
"""A head that helps has a removal that raises nll and KL, and lowers the logit difference."""


@dataclass(frozen=True)
class League:
    """Measures and effects of the heads of one model, prompt by prompt, in one phase."""

    names: tuple[str, ...]
    """Of the measures."""
    measures: Float[np.ndarray, "prompt measure layer head"]
    effects: Float[np.ndarray, "prompt mode layer head outcome"]
    signed: Bool[np.ndarray, "measure"]
    seed: int = 0

    @property
    def prompts(self) -> int:
        """How many have such tokens; others have NaN, and are left out of every mean."""
        return int((~np.isnan(self.effects).all(axis=(1, 2, 3, 4))).sum())

    @cached_property
    def draws(self) -> Float[np.ndarray, "draw scope measure mode outcome"]:
        """`resampled` as often as intervals take."""
        return self.resampled(RESAMPLES)

    def resampled(self, resamples: int) -> Float[np.ndarray, "draw scope measure mode outcome"]:
        """Spearman's correlation in every resample of prompts."""
        some = resampled_means([self.measures, self.effects], self.seed, resamples)
        return np.concatenate([self._spearman(x, ranked_by(y)) for x, y in some])

    def scores(
        self, matters: Bool[np.ndarray, "mode layer head outcome"]
    ) -> dict[str, Float[np.ndarray, "scope measure mode outcome"]]:
        """Of means over all prompts: spearman, kendall, auc of "matters", and top_k_overlap."""
        x, y = self._means()
        both = _opposed(x, y, self.signed)
        size, is_in = _opposed(x, np.moveaxis(matters, -1, 1)[None], np.zeros_like(self.signed))
        apart = {scope: [grouped(v, scope) for v in (*both, size, is_in)] for scope in SCOPES}
        found = {
            "spearman": [rank_correlation(g[0], g[1]) for g in apart.values()],
            "kendall": [rank_correlation_tau(g[0], g[1]) for g in apart.values()],
            "auc": [area_under_curve(g[2], g[3] > 0) for g in apart.values()],
            "top_k_overlap": [top_overlap(g[0], g[1]) for g in apart.values()],
        }
        return {name: np.stack(values, axis=1)[0] for name, values in found.items()}

    def point(self) -> Float[np.ndarray, "1 scope measure mode outcome"]:
        """Spearman's correlation of means over all prompts."""
        return self._spearman(*self._means())

    def by_lot(
        self, found: Float[np.ndarray, "scope measure mode outcome"], draws: int = RESAMPLES
    ) -> Float[np.ndarray, "scope measure mode outcome"]:
        """How often a score drawn by lot ranks effects as well as a measure was found to do.

        One-sided p-values of "it ranks nothing"; a model of few heads cannot make them small.
        """
        lots = np.random.default_rng(self.seed).random((1, draws, *self.measures.shape[2:]))
        y = self._means()[1]
        p = np.empty(found.shape)
        for s, scope in enumerate(SCOPES):
            by_size, by_sign = (_products(lots, values, scope)[0] for values in (np.abs(y), y))
            for m, signed in enumerate(self.signed):
                lot = by_sign if signed else by_size
                p[s, m] = luck_as_far(found[s, m], lot)
        return np.where(np.isnan(found), np.nan, p)

    def agreement(self) -> Float[np.ndarray, "scope mode mode outcome"]:
        """Spearman's correlation of the effects of two modes, means over all prompts."""
        y = np.moveaxis(self._means()[1], 1, 2)[0]
        each = [[_products(o[None], o[None, :, None], scope)[0, ..., 0] for o in y]
                for scope in SCOPES]  # fmt: skip
        return np.moveaxis(np.array(each), 1, -1)

    def part(self, prompts: slice, mode: int) -> "League":
        """The same of some prompts, and one mode."""
        effects = self.effects[prompts, mode : mode + 1]
        return replace(self, measures=self.measures[prompts], effects=effects)

    def matters(
        self, null: Float[np.ndarray, "prompt mode layer head outcome"]
    ) -> Bool[np.ndarray, "mode layer head outcome"]:
        """Whether an effect exceeds NULL_MEANS means of the same change turned at random.

        Each prompt has one draw; a mean is taken over as many prompts as there are, drawn with
        replacement, and so spreads by prompts as well as by directions.
        """
        drawn = next(iter(resampled_means([null], self.seed, NULL_MEANS)))[0]
        return np.abs(_mean(self.effects)) > np.abs(drawn).max(axis=0) + RESOLUTION

    def ranks_of(self, layer: int, head: int) -> dict[str, Float[np.ndarray, "*row"]]:
        """The rank, from 1, of one head among all: by each measure's size, by each effect's.

        What differs by less than RESOLUTION of the largest shares a rank.
        """
        x, y = (np.abs(v[0]) for v in self._means())
        largest = x.max(axis=(-2, -1), keepdims=True)
        x = np.round(x / np.where(largest > 0, largest, 1) / RESOLUTION)
        member = layer * x.shape[-1] + head
        return {
            "measure": rank_of(grouped(x, "pooled")[..., 0, :], member),
            "effect": rank_of(grouped(y, "pooled")[..., 0, :], member),
        }

    def _means(self) -> tuple[np.ndarray, np.ndarray]:
        """Measures [1 measure layer head], effects [1 mode outcome layer head] to be ranked."""
        return _mean(self.measures)[None], ranked_by(_mean(self.effects)[None])

    def _spearman(
        self,
        x: Float[np.ndarray, "draw measure layer head"],
        y: Float[np.ndarray, "draw mode outcome layer head"],
    ) -> Float[np.ndarray, "draw scope measure mode outcome"]:
        """Every measure against every effect: ranks are taken once for each."""
        both_signs = np.delete(np.arange(y.shape[2]), ONE_SIGN)
        found = []
        for scope in SCOPES:
            products = _products(np.abs(x), np.abs(y), scope)
            if self.signed.any():
                at = np.ix_(range(len(x)), self.signed.nonzero()[0], range(y.shape[1]), both_signs)
                products[at] = _products(x[:, self.signed], y[:, :, both_signs], scope)
            found.append(products)
        return np.stack(found, axis=1)


def ranked_by(
    effects: Float[np.ndarray, "draw mode layer head outcome"],
) -> Float[np.ndarray, "draw mode outcome layer head"]:
    """Effects by how much the head helps, rounded to RESOLUTION."""
    helping = np.moveaxis(effects, -1, 2) * HELPING
    return np.round(helping / RESOLUTION) + 0.0


def _mean(values: Float[np.ndarray, "prompt *cell"]) -> Float[np.ndarray, "*cell"]:
    return means(values, np.ones((1, len(values))))[0]


def _opposed(
    x: Float[np.ndarray, "draw measure layer head"],
    y: Shaped[np.ndarray, "draw mode outcome layer head"],
    signed: Bool[np.ndarray, "measure"],
) -> tuple[np.ndarray, np.ndarray]:
    """What is held against what [draw measure mode outcome layer head]."""
    x, y = np.broadcast_arrays(x[:, :, None, None], y[:, None])
    keeps = np.broadcast_to(signed[:, None, None, None, None], x.shape[1:]).copy()
    keeps[:, :, ONE_SIGN] = False
    return np.where(keeps, x, np.abs(x)), np.where(keeps, y, np.abs(y))


def _products(
    x: Float[np.ndarray, "draw measure layer head"],
    y: Float[np.ndarray, "draw mode outcome layer head"],
    scope: str,
) -> Float[np.ndarray, "draw measure mode outcome"]:
    """Spearman's correlation of every x with every y, a mean over groups where y differs."""
    x, y = rank_vectors(grouped(x, scope)), rank_vectors(grouped(y, scope))
    varies = (y != 0).any(axis=-1).sum(axis=-1)[:, None]
    left = rearrange(x, "draw measure group member -> draw measure (group member)")
    right = rearrange(y, "draw mode outcome group member -> draw (group member) (mode outcome)")
    total = rearrange(left @ right, "draw m (mode outcome) -> draw m mode outcome", mode=y.shape[1])
    found = np.divide(total, varies, out=np.full_like(total, np.nan), where=varies > 0)
    return np.round(found, 12) + 0.0  # sums of ranks that cancel leave 1e-18, which is no lead
