"""What is fitted to states in closed form: the ridge lens, principal axes, whitening.

The ridge lens is an affine map for each site that predicts the last state from the one there, as
the tuned lens does (Belrose et al. 2023, 2303.08112, section 3), but by ridge regression on second
moments that were streamed. As there, what is shrunk is the change of the state: with an endless
penalty the map is the identity, but for the means.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from lenses.kept import Sums


class SecondMoments(Sums):
    """Running sums of states, of their products, and of their products with the last states.

    In float64; memory does not grow with the number of states.
    """

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}

    def update(self, states: Float[Tensor, "site n d"], last: Float[Tensor, "n d"]) -> None:
        """Take in n states of each site, and the last ones of the same tokens."""
        x, y = states.double().cpu(), last.double().cpu()
        sums = {
            "count": torch.tensor(float(len(y)), dtype=torch.float64),
            "x": x.sum(1),
            "y": y.sum(0),
            "xx": torch.stack([site.mT @ site for site in x]),
            "xy": torch.stack([site.mT @ y for site in x]),
        }
        self._step(**sums)

    def _combine(self, **sums: Float[Tensor, "..."]) -> None:
        held = self._held or {name: torch.zeros_like(value) for name, value in sums.items()}
        self._held = {name: held[name].add_(value) for name, value in sums.items()}

    @property
    def count(self) -> int:
        """States seen at each site."""
        return int(self._held["count"]) if self._held else 0

    @property
    def mean(self) -> Float[Tensor, "site d"]:
        """Mean state of each site."""
        return self._held["x"] / self.count

    @property
    def last_mean(self) -> Float[Tensor, "d"]:
        """Mean of the last states."""
        return self._held["y"] / self.count

    def covariance(self, site: int) -> Float[Tensor, "d d"]:
        """Covariance of the states of a site."""
        mean = self.mean[site]
        return self._held["xx"][site] / self.count - torch.outer(mean, mean)

    def covariance_with_last(self, site: int) -> Float[Tensor, "d d"]:
        """Covariance of the states of a site (down) with the last states."""
        return self._held["xy"][site] / self.count - torch.outer(self.mean[site], self.last_mean)

    def state(self) -> dict[str, Shaped[np.ndarray, "..."]]:
        """Everything it holds, as arrays."""
        return {name: value.numpy() for name, value in self._held.items()}

    def restore(self, state: dict[str, Shaped[np.ndarray, "..."]]) -> None:
        """Continue from what `state` returned."""
        self._held = {name: torch.as_tensor(value) for name, value in state.items()}


def ridge(moments: SecondMoments, site: int, penalty: float) -> Float[Tensor, "d d"]:
    """W, of which `last_mean + (state - mean) @ W` predicts the last state.

    It minimises the mean squared error plus `penalty` times the mean variance of the site's axes
    times the squares of W - 1.
    """
    own = moments.covariance(site)
    change = torch.cholesky_solve(
        moments.covariance_with_last(site) - own, torch.linalg.cholesky(_damped(own, penalty))
    )
    return (torch.eye(len(own)) + change).float()


@dataclass(frozen=True)
class RidgeLens:
    """The ridge lens of some sites, each with a map of its own."""

    mean: Float[Tensor, "site d"]
    maps: Float[Tensor, "site d d"]
    last_mean: Float[Tensor, "d"]

    @classmethod
    def of(cls, moments: SecondMoments, penalty: float, device: torch.device | str) -> "RidgeLens":
        """Fitted to all the sites of the moments."""
        mean, last = moments.mean.float().to(device), moments.last_mean.float().to(device)
        maps = [ridge(moments, site, penalty).to(device) for site in range(len(mean))]
        return cls(mean, torch.stack(maps), last)

    def at(self, site: int) -> "RidgeLens":
        """That of one site alone."""
        one = slice(site, site + 1)
        return RidgeLens(self.mean[one], self.maps[one], self.last_mean)

    def __call__(self, states: Float[Tensor, "site n d"]) -> Float[Tensor, "site n d"]:
        """The last states that it predicts."""
        return self.last_mean + (states - self.mean[:, None]) @ self.maps


@dataclass(frozen=True)
class Axes:
    """The principal axes of the states of a site."""

    first: Float[Tensor, "axis d"]
    """Unit vectors along which states vary most."""
    whitening: Float[Tensor, "d d"]
    """Makes all directions vary alike, and turns none (the symmetric root: ZCA)."""


def axes(moments: SecondMoments, site: int, penalty: float, count: int) -> Axes:
    """The first `count` axes, and whitening with variances raised as the ridge raises them."""
    own = moments.covariance(site)
    variances, vectors = torch.linalg.eigh(_damped(own, penalty))
    whitening = (vectors / variances.sqrt()) @ vectors.mT
    return Axes(vectors[:, len(own) - count :].mT.flip(0).float(), whitening.float())


def _damped(covariance: Float[Tensor, "d d"], penalty: float) -> Float[Tensor, "d d"]:
    """With `penalty` times the mean variance added to that of every axis."""
    level = penalty * covariance.diagonal().mean().clamp(min=1e-12)
    return covariance + level * torch.eye(len(covariance), dtype=covariance.dtype)
