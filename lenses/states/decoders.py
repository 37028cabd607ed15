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
        by_U = _products([way.vector for way in ways], self.own.W_U.float())
        own = [way.vector for way in ways if way.lens == "U" and self.W_E is not None]
        by_E = _products(own, self.W_E.mT) if own else {}
        for way in ways:
            read = self.own.of_products(by_U[id(way.vector)] * way.scale)
            yield way.lens, way.norm, read
            if way.lens == "U" and by_E:
                yield from self._mixed(site, way.norm, by_E[id(way.vector)] * way.scale, read)

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
        raw = ("final",) if self.only_final else BASIC[:4]
        yield from self._carried(site, states, raw, centred=False)
        if self.only_final:
            return
        states = states - self.mean[site]
        yield from self._carried(site, states, ("centred",), centred=True)
        if site in self.axes:
            first, whitening = self.axes[site].first, self.axes[site].whitening
            left = states - (states @ first.mT) @ first
            yield from self._carried(site, left, ("without axes",), centred=True)
            yield from self._carried(site, states @ whitening, ("whitened",), centred=True)

    def _carried(
        self, site: int, states: Float[Tensor, "n d"], norms: Sequence[str], centred: bool
    ) -> Iterator["_Way"]:
        """A state that was prepared, as it is and as the fitted lenses carry it.

        They carry what a block adds as the stream that it is added to, from its own mean; a
        centred state is not given the mean of the last states.
        """
        at = self._stream(site)
        from_mean = states if centred else states - self.mean[site]
        carried = {"U": states, "ridge": from_mean @ self.ridge[at]}
        if not centred:
            carried["ridge"] = carried["ridge"] + self.last_mean
        if self.jacobian:
            carried["jacobian"] = states @ self.jacobian[at].mT
        for lens, state in carried.items():
            yield from self._normed(lens, state, norms)

    def _normed(
        self, lens: str, states: Float[Tensor, "n d"], norms: Sequence[str]
    ) -> Iterator["_Way"]:
        """After each norm; what only differs in length is one vector, with a scale."""
        own = self.own.norm
        if norms != BASIC[:4]:
            yield _Way(lens, norms[0], own(states))
            return
        yield _Way(lens, "none", states)
        yield _Way(lens, "unit", states, 1 / states.norm(dim=-1, keepdim=True).clamp(min=1e-12))
        yield _Way(lens, "plain", own.centred(states), 1 / own.scale(states))
        yield _Way(lens, "final", own(states))

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
    """A vector to be multiplied with U, then scaled, and what it is."""

    lens: str
    norm: str
    vector: Float[Tensor, "n d"]
    scale: Float[Tensor, "n 1"] | float = 1.0


def _products(
    vectors: Sequence[Float[Tensor, "n d"]], W: Float[Tensor, "d token"]
) -> dict[int, Float[Tensor, "n token"]]:
    """Each vector times W, by its id, in one multiplication: few rows take as long as many."""
    unlike = {id(vector): vector for vector in vectors}
    products = torch.cat(list(unlike.values())) @ W
    return dict(zip(unlike, products.split(len(vectors[0])), strict=True))


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
