"""Regression on what fills the same positions after the same prompt, fillers compared in place.

All numbers are taken as differences from the mean over fillers at the same prompt and position
(fixed effects), so that position is held fixed whatever it does. Slopes of the covariates are
shared by all prompts; intervals are over prompts, each left out in turn. The null of each filler
(Freedman & Lane 1983, J. Business & Economic Statistics 1): what a fit without that filler leaves
over is exchanged between it and the reference in random prompts, whole texts at a time, and fitted
again.
"""

from dataclasses import dataclass

import numpy as np
from einops import einsum
from jaxtyping import Bool, Float

from lenses.statistics.intervals import FEWEST, bootstrap, luck_as_far
from lenses.statistics.resampled import leave_one_out, pseudo_values

DRAWS = 5_000
"""Random exchanges of labels."""
RIDGE = 1e-12
"""Share of the design's own size by which a covariate that does not vary gets slope 0."""
FOUND = 0.8
"""A detectable effect is found in this share of cases."""


@dataclass(frozen=True)
class Effects:
    """How each filler but the reference differs from it, the covariates held fixed."""

    estimate: Float[np.ndarray, "filler cell"]
    low: Float[np.ndarray, "filler cell"]
    high: Float[np.ndarray, "filler cell"]
    p: Float[np.ndarray, "filler cell"]
    """Two-sided, labels exchanged."""
    p_any: Float[np.ndarray, "filler cell"]
    """The same, of the largest of all cells in each exchange (max-T, in standard deviations)."""
    detectable: Float[np.ndarray, "filler cell"]
    """The smallest effect whose p_any would be at most .05 in four of five cases."""


def filler_effects(
    values: Float[np.ndarray, "prompt filler pos cell"],
    covariates: Float[np.ndarray, "prompt filler pos covariate"],
    known: Bool[np.ndarray, "prompt pos"],
    seed: int = 0,
) -> Effects:
    """Effects of fillers 1, 2, ... against filler 0, the reference, on every cell.

    Positions that are not `known` are left out, for all fillers of the prompt. Cells with a NaN
    come out as NaN. Below FEWEST prompts there is no interval.
    """
    defined = ~np.isnan(values).any(axis=(0, 1, 2))
    fit = _Fit.of(values[..., defined], covariates, known)
    estimate, without = fit.effects()
    found = bootstrap(pseudo_values(estimate, without), seed)
    p, p_any, detectable = _exchanged(fit, estimate, np.random.default_rng(seed))
    parts = (estimate, found.low, found.high, p, p_any, detectable)
    return Effects(*(_with_undefined(part, defined) for part in parts))


def filler_slopes(
    values: Float[np.ndarray, "prompt filler pos cell"],
    covariates: Float[np.ndarray, "prompt filler pos covariate"],
    known: Bool[np.ndarray, "prompt pos"],
) -> tuple[Float[np.ndarray, "filler cell"], Float[np.ndarray, "prompt filler cell"]]:
    """The estimates of `filler_effects`, and these without each of the prompts."""
    defined = ~np.isnan(values).any(axis=(0, 1, 2))
    estimate, without = _Fit.of(values[..., defined], covariates, known).effects()
    return _with_undefined(estimate, defined), _with_undefined(without, defined)


@dataclass(frozen=True)
class _Fit:
    """A regression whose numbers are less the mean over fillers at their prompt and position."""

    x: Float[np.ndarray, "prompt filler pos regressor"]
    """Fillers other than the reference, then covariates."""
    y: Float[np.ndarray, "prompt filler pos cell"]
    fillers: int
    """Regressors that are fillers."""

    @classmethod
    def of(cls, values: np.ndarray, covariates: np.ndarray, known: np.ndarray) -> "_Fit":
        """From numbers as they are; covariates in their standard deviations."""
        fillers = values.shape[1] - 1
        dummies = np.broadcast_to(np.eye(fillers + 1)[:, None, 1:], (*values.shape[:3], fillers))
        kept = known[:, None, :, None]
        centred = [_centred(part) * kept for part in (dummies, covariates, values)]
        spread = np.sqrt((centred[1] ** 2).sum(axis=(0, 1, 2)) / kept.sum())
        centred[1] = centred[1] / np.where(spread > 0, spread, 1)
        return cls(np.concatenate(centred[:2], axis=-1), centred[2], fillers)

    def effects(self) -> tuple[np.ndarray, np.ndarray]:
        """Slopes of the fillers; then without each prompt, NaN below FEWEST of them."""
        prompts = len(self.y)
        estimate = self.slopes(np.ones((1, prompts)))[0]
        if prompts < FEWEST:
            return estimate, np.full((prompts, *estimate.shape), np.nan)
        return estimate, self.slopes(leave_one_out(prompts))

    def slopes(self, weight: Float[np.ndarray, "draw prompt"]) -> np.ndarray:
        """The fillers' [draw filler cell], each prompt counting as often as its weight says."""
        xx = einsum(self.x, self.x, "prompt f pos a, prompt f pos b -> prompt a b")
        xy = einsum(self.x, self.y, "prompt f pos a, prompt f pos c -> prompt a c")
        left, right = (np.tensordot(weight, part, axes=1) for part in (xx, xy))
        return _solved(left, right)[:, : self.fillers]

    def left_over(self, but: int | None = None) -> Float[np.ndarray, "prompt filler pos cell"]:
        """What a fit of all regressors, or of all but one, leaves of the values."""
        flat = self.x.reshape(-1, self.x.shape[-1])
        values = self.y.reshape(len(flat), -1)
        used = flat if but is None else np.delete(flat, but, axis=1)
        return (values - used @ _solved(used.T @ used, used.T @ values)).reshape(self.y.shape)

    def reads(self, filler: int) -> Float[np.ndarray, "prompt filler pos"]:
        """What values are multiplied with and summed to give that filler's slope."""
        flat = self.x.reshape(-1, self.x.shape[-1])
        return _solved(flat.T @ flat, flat.T)[filler].reshape(self.y.shape[:3])


def _centred(values: Float[np.ndarray, "prompt filler pos x"]) -> np.ndarray:
    return values - values.mean(axis=1, keepdims=True)


def _solved(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """left^-1 right, with a trace of a ridge for regressors that do not vary."""
    size = np.trace(left, axis1=-2, axis2=-1)[..., None, None] + 1e-300
    return np.linalg.solve(left + RIDGE * size * np.eye(left.shape[-1]), right)


def _exchanged(
    fit: _Fit, estimate: Float[np.ndarray, "filler cell"], rng: np.random.Generator
) -> list[np.ndarray]:
    """p, p_any and detectable effects [filler cell] from random exchanges of labels."""
    bits = rng.integers(0, 2, size=(DRAWS, len(fit.x))).astype(float)
    noise, found = fit.left_over(), []
    for filler, reached in enumerate(np.abs(estimate)):
        reads = fit.reads(filler)
        by_luck = _slopes_exchanged(reads, noise, filler + 1, bits)
        drawn = _slopes_exchanged(reads, fit.left_over(but=filler), filler + 1, bits)
        found.append([*_luck(drawn, reached), _detectable(by_luck)])
    return [np.stack(part) for part in zip(*found, strict=True)]


def _slopes_exchanged(
    reads: Float[np.ndarray, "prompt filler pos"],
    rest: Float[np.ndarray, "prompt filler pos cell"],
    filler: int,
    bits: Float[np.ndarray, "draw prompt"],
) -> Float[np.ndarray, "draw cell"]:
    """A filler's slope where its texts and the reference's change places in prompts with bit 1."""
    swapped = rest.copy()
    swapped[:, [0, filler]] = rest[:, [filler, 0]]
    kept, moved = (
        einsum(reads, part, "prompt f pos, prompt f pos c -> prompt c") for part in (rest, swapped)
    )
    return kept.sum(axis=0) + bits @ (moved - kept)


def _in_spreads(drawn: Float[np.ndarray, "draw cell"]) -> tuple[np.ndarray, np.ndarray]:
    """The largest of all cells in each draw, in standard deviations, and these."""
    spread = drawn.std(axis=0)
    spread = np.where(spread > 0, spread, 1)
    return (np.abs(drawn) / spread).max(axis=1, initial=0), spread


def _luck(
    drawn: Float[np.ndarray, "draw cell"], reached: Float[np.ndarray, "cell"]
) -> tuple[Float[np.ndarray, "cell"], Float[np.ndarray, "cell"]]:
    """p and p_any of estimates of this size; what is equal up to rounding counts as reached."""
    largest, spread = _in_spreads(drawn)
    least = reached * (1 - 1e-6)
    return luck_as_far(least, np.abs(drawn)), luck_as_far(least / spread, largest[:, None])


def _detectable(drawn: Float[np.ndarray, "draw cell"]) -> Float[np.ndarray, "cell"]:
    """What must be added to draws without any effect for FOUND of them to have p_any <= .05."""
    largest, spread = _in_spreads(drawn)
    return np.quantile(largest, 0.95) * spread - np.quantile(drawn, 1 - FOUND, axis=0)


def _with_undefined(part: Float[np.ndarray, "... cell"], defined: Bool[np.ndarray, "cell"]):
    """The same with NaN for the cells that were left out."""
    whole = np.full((*part.shape[:-1], len(defined)), np.nan)
    whole[..., defined] = part
    return whole
