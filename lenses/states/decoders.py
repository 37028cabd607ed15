"""Every way to read a token out of a hidden state: decoders, norms, fitted lenses (SCIENCE 4).

A state is first prepared (as it is, centred, without its first principal axes, whitened), then
carried to the last layer (not at all, by the ridge lens or by the Jacobian lens), then normed, then
multiplied with the unembedding or an embedding. The logit lens (nostalgebraist 2020) is U after
the final norm.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lenses.states.decoding import Site, is_tied
from lenses.states.ridge import Axes, SecondMoments, axes, ridge
from models import Model
from models.effective import effective_embedding
from models.readout import Unembedding, unembedding

DECODERS = ("E", "U", "linear", "quadratic", "surer", "ridge", "jacobian")
"""Embedding, unembedding, their mixtures by depth and by its square, whichever of the two is more
certain (of each state: what is read off it is that of E or that of U), and U after the ridge lens
or the Jacobian lens."""

BASIC = ("none", "unit", "plain", "final", "centred")
"""As it is, to length 1, the final norm without its gain, the final norm, centred before it."""

NORMS = (*BASIC, "without axes", "whitened")
"""The last two, as `centred`, are followed by the final norm, and need `Axes`."""

AXES = 5
"""First principal axes that `without axes` removes."""

PENALTY = 0.1
"""Of the ridge and of whitening, in units of the mean variance of a site's axes."""

Read = Iterator[tuple[str, str, Float[Tensor, "n token"]]]
"""Decoder, norm, logits."""


@dataclass(frozen=True)
class Lenses:
    """What a model's states are read with at some sites; all that is fitted is in float32."""

    where: Sequence[Site]
    layers: int
    own: Unembedding
    W_E: Float[Tensor, "token d"] | None
    """None where E is left out, and with it all that mixes E and U."""
    mean: Float[Tensor, "site d"]
    last_mean: Float[Tensor, "d"]
    ridge: Mapping[Site, Float[Tensor, "d d"]]
    """For each site of the residual stream."""
    jacobian: Mapping[Site, Float[Tensor, "d d"]]
    """The same; empty where it was not fitted: this decoder is then left out."""
    axes: Mapping[int, Axes]
    """By number of the site, where they were asked for."""
    only_final: bool = False
    """Whether states are read after the final norm alone."""

    def logits(self, site: int, states: Float[Tensor, "n d"]) -> Read:
        """Decoder, norm and logits, for every norm and decoder but `surer`, one at a time."""
        ways = list(self._ways(site, states.float()))
        by_U = _products(ways, self.own.W_U.float())
        own = [way for way in ways if way.lens == "U" and self.W_E is not None]
        by_E = _products(own, self.W_E.mT) if own else {}
        for way in ways:
            read = self.own.of_products(way.of(by_U))
            yield way.lens, way.norm, read
            if way.lens == "U" and by_E:
                yield from self._mixed(site, way.norm, way.of(by_E), read)

    def short(self) -> "Lenses":
        """The same, read after the final norm alone."""
        return replace(self, only_final=True)

    def reads(self, decoder: str) -> bool:
        """Whether a decoder was not left out."""
        if decoder == "jacobian":
            return bool(self.jacobian)
        return decoder in ("U", "ridge") or self.W_E is not None

    def direction(self, site: int, decoder: str, ids: Int[Tensor, "n"]) -> Float[Tensor, "n d"]:
        """What a decoder multiplies a state with for the logit of each token, up to a factor."""
        to_U, at = self.own.directions(ids), self._stream(site)
        if decoder == "ridge":
            return to_U @ self.ridge[at].mT
        if decoder == "jacobian":
            return to_U @ self.jacobian[at]
        depth = self._depth(site)
        weight = {"E": 0.0, "U": 1.0, "linear": depth, "quadratic": depth**2}[decoder]
        if weight == 1.0:
            return to_U
        to_E = self.own.norm.centred(self.W_E[ids] * self.own.norm.gain.float())
        return torch.lerp(to_E, to_U, weight)

    def _depth(self, site: int) -> float:
        return self.where[site].passed / self.layers

    def _stream(self, site: int) -> Site:
        """The site of the residual stream to which a site belongs, or is added."""
        here = self.where[site]
        if here.part not in ("attn_out", "mlp_out"):
            return here
        mid = Site(here.block, "resid_mid")
        is_mid = here.part == "attn_out" and mid in self.ridge
        return mid if is_mid else Site(here.block, "resid_post")

    def _ways(self, site: int, states: Float[Tensor, "n d"]) -> Iterator["_Way"]:
        """Every vector that is multiplied with U, however it came about."""
        for lens, state, mean in self._carried(site, states, self.mean[site]):
            yield from self._normed(lens, state, mean)
        if self.only_final or site not in self.axes:
            return
        first, whitening = self.axes[site].first, self.axes[site].whitening
        states = states - self.mean[site]
        prepared = {"without axes": states - (states @ first.mT) @ first}
        prepared["whitened"] = states @ whitening
        for norm, left in prepared.items():
            for lens, state, mean in self._carried(site, left, torch.zeros_like(self.mean[site])):
                yield _Way(lens, norm, self.own.norm(state - mean))

    def _carried(
        self, site: int, states: Float[Tensor, "n d"], mean: Float[Tensor, "d"]
    ) -> Iterator[tuple[str, Float[Tensor, "n d"], Float[Tensor, "d"]]]:
        """Each lens, states as it carries them, and what their mean becomes.

        They carry what a block adds as the stream that it is added to, from its own mean; a
        centred state is not given the mean of the last states.
        """
        at = self._stream(site)
        yield "U", states, mean
        yield "ridge", (states - mean) @ self.ridge[at] + self.last_mean, self.last_mean
        if self.jacobian:
            yield "jacobian", states @ self.jacobian[at].mT, mean @ self.jacobian[at].mT

    def _normed(
        self, lens: str, state: Float[Tensor, "n d"], mean: Float[Tensor, "d"]
    ) -> Iterator["_Way"]:
        """After each norm; what only differs in length, or by the mean, is one vector."""
        own = self.own.norm
        gained = own.centred(state) * own.gain.float()
        shift = own.shift.float()[None] if own.shift.any() else None
        yield _Way(lens, "final", gained, 1 / own.scale(state), plus=shift)
        if self.only_final:
            return
        yield _Way(lens, "none", state)
        yield _Way(lens, "unit", state, 1 / state.norm(dim=-1, keepdim=True).clamp(min=1e-12))
        yield _Way(lens, "plain", own.centred(state), 1 / own.scale(state))
        less = own.centred(mean[None]) * own.gain.float()
        yield _Way(lens, "centred", gained, 1 / own.scale(state - mean), less, shift)

    def _mixed(
        self,
        site: int,
        norm: str,
        by_E: Float[Tensor, "n token"],
        by_U: Float[Tensor, "n token"],
    ) -> Read:
        """E, and what lies between it and U."""
        depth = self._depth(site)
        yield "E", norm, by_E
        yield "linear", norm, torch.lerp(by_E, by_U, depth)
        yield "quadratic", norm, torch.lerp(by_E, by_U, depth**2)


class _Way(NamedTuple):
    """A vector to be multiplied with U, and what is taken off, scaled and added, and its name."""

    lens: str
    norm: str
    vector: Float[Tensor, "n d"]
    scale: Float[Tensor, "n 1"] | float = 1.0
    less: Float[Tensor, "1 d"] | None = None
    plus: Float[Tensor, "1 d"] | None = None

    def of(self, products: Mapping[int, Float[Tensor, "_ token"]]) -> Float[Tensor, "n token"]:
        """What is made of the products of its parts."""
        found = products[id(self.vector)]
        if self.less is not None:
            found = found - products[id(self.less)]
        found = found * self.scale
        return found if self.plus is None else found + products[id(self.plus)]


def _products(ways: Sequence[_Way], W: Float[Tensor, "d token"]) -> dict[int, Tensor]:
    """Each part times W, by its id, in one multiplication: few rows take as long as many."""
    parts = [part for way in ways for part in (way.vector, way.less, way.plus)]
    unlike = {id(part): part for part in parts if part is not None}
    products = torch.cat(list(unlike.values())) @ W
    return dict(zip(unlike, products.split([len(part) for part in unlike.values()]), strict=True))


def second_decoder(model: Model) -> tuple[str, Float[Tensor, "token d"] | None]:
    """Its name, and E; where E and U are tied, what each token is after the first MLP.

    None where not the same tokens are read and written.
    """
    if len(model.W_E) != model.W_U.shape[1]:
        return "embedding", None
    if not is_tied(model):
        return "embedding", model.W_E.detach().float()
    ids = torch.arange(len(model.W_E), device=model.W_E.device)
    return "effective E", effective_embedding(model, ids)


def lenses_of(
    model: Model,
    where: Sequence[Site],
    mean: Float[Tensor, "site d"],
    moments: SecondMoments,
    streams: Sequence[Site],
    jacobian: Mapping[Site, Float[Tensor, "d d"]],
    W_E: Float[Tensor, "token d"] | None,
    with_axes: Sequence[Site] = (),
) -> Lenses:
    """The lenses of a model; `moments` are those of `streams`, sites of the residual stream."""
    device = model.cfg.device
    found = {
        where.index(site): axes(moments, streams.index(site), PENALTY, AXES) for site in with_axes
    }
    return Lenses(
        where=where,
        layers=model.cfg.n_layers,
        own=unembedding(model),
        W_E=W_E,
        mean=mean.to(device),
        last_mean=moments.last_mean.float().to(device),
        ridge={s: ridge(moments, n, PENALTY).to(device) for n, s in enumerate(streams)},
        jacobian={site: one.to(device) for site, one in jacobian.items()},
        axes={n: Axes(one.first.to(device), one.whitening.to(device)) for n, one in found.items()},
    )


def arrays_of(lenses: Lenses) -> dict[str, Float[np.ndarray, "d d"]]:
    """What was fitted, by lens and site, in half precision."""
    kinds = {"ridge": lenses.ridge, "jacobian": lenses.jacobian}
    return {
        f"{kind}_{site.part}_{site.block}": matrix.half().cpu().numpy()
        for kind, matrices in kinds.items()
        for site, matrix in matrices.items()
    }
