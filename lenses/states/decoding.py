"""Which token a hidden state is: decoded by the embedding or the unembedding (SCIENCE 4).

A site is one place in depth where the residual stream is read: the embedding, or after a block's
attention or MLP. Of the vocabulary only the tokens asked for are kept, or the likeliest few.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from lenses.kept import Sums
from lenses.states.ridge import RidgeLens
from models import Model
from models.passes import reading_each
from models.readout import unembedding
from models.text import tokenize

NUMBERS = 2**24
"""Logits held at a time: 64 MB in float32."""

Part = Literal["embedding", "resid_mid", "resid_post", "attn_out", "mlp_out"]

BEHIND: dict[Part, float] = {
    "embedding": 0.0, "attn_out": 0.5, "resid_mid": 0.5, "mlp_out": 1.0, "resid_post": 1.0,
}  # fmt: skip
"""Share of its block that lies behind each part."""


@dataclass(frozen=True)
class Site:
    """The residual stream before block 0 (`embedding`), within or after a block, or what a block's
    attention or MLP adds to it."""

    block: int
    part: Part

    @property
    def passed(self) -> float:
        """Blocks behind this site: 0 for the embedding, a half within a block."""
        return self.block + BEHIND[self.part]

    @property
    def hook(self) -> str:
        """The name of its hook."""
        point = "resid_pre" if self.part == "embedding" else self.part
        return f"blocks.{self.block}.hook_{point}"


def sites(model: Model, parts: Sequence[Part] = ("embedding", "resid_post")) -> list[Site]:
    """The sites of a model from bottom to top; parallel blocks have no `resid_mid`."""
    within = [part for part in parts if part != "embedding"]
    found = [Site(0, "embedding")] if "embedding" in parts else []
    found += [Site(block, part) for block in range(model.cfg.n_layers) for part in within]
    return [site for site in found if site.hook in model.hook_dict]


ALIKE = 0.2
"""Distance of two directions below which they are one, rounded twice: 5 against 8 bits are .06."""


@dataclass(frozen=True)
class Readout:
    """How a state becomes logits; `Readout()` is the logit lens."""

    decoder: Literal["E", "U", "ridge"] = "U"
    """Rows of W_E, or the model's own readout: W_U, its bias, and what stands before the logits;
    as it is, or of the last state that the ridge lens predicts."""
    norm: Literal["none", "unit", "final"] = "final"
    """Of the state before it is decoded: none, to length 1, or the model's final norm."""
    centred: bool = False
    """Subtract first the mean state of the site over a reference corpus: a direction that all
    states share decodes to the same tokens everywhere."""


def readouts(model: Model) -> list[Readout]:
    """Decoding by U and, where it is another matrix, by E: as states are, and centred."""
    decoders: tuple[Literal["E", "U"], ...] = ("U",) if is_tied(model) else ("U", "E")
    return [Readout(decoder, centred=centred) for decoder in decoders for centred in (False, True)]


def is_tied(model: Model) -> bool:
    """Whether E and U are one decoder: the same direction for every token, whatever its length.

    Also where a file holds the one matrix twice, rounded to unlike precisions.
    """
    E, U = model.W_E, model.W_U.mT
    if E.shape != U.shape:
        return False
    pairs = zip(E.split(2**14), U.split(2**14), strict=True)
    return all(_same_directions(one.float(), other.float()) for one, other in pairs)


def _same_directions(one: Float[Tensor, "n d"], other: Float[Tensor, "n d"]) -> bool:
    unit = partial(torch.nn.functional.normalize, dim=-1)
    return bool((unit(one) - unit(other)).norm(dim=-1).max() < ALIKE)


@torch.inference_mode()
def read_states(
    model: Model,
    tokens: Int[Tensor, "batch pos"],
    where: Sequence[Site],
    row: Int[Tensor, "n"],
    pos: Int[Tensor, "n"],
) -> tuple[Float[Tensor, "site n d"], Int[Tensor, "n"]]:
    """The states at n (row, pos), and what the model would have said at each instead of its token.

    Nothing is said at pos 0: -1.
    """
    found: dict[str, Tensor] = {}

    def keep(state: Tensor, hook: object, name: str) -> None:
        found[name] = state[row, pos].float()

    hooks = [(site.hook, partial(keep, name=site.hook)) for site in where]
    with reading_each(model, row[:, None], (pos - 1).clamp(min=0)[:, None]):
        logits = model.run_with_hooks(tokens, return_type="logits", fwd_hooks=hooks)
    said = logits[:, 0].argmax(-1)
    states = torch.stack([found[site.hook] for site in where])
    return states, torch.where(pos > 0, said, -1)


class MeanStates(Sums):
    """Running mean of states per group and site, in float64."""

    def __init__(self, groups: int = 1) -> None:
        self._groups = groups
        self._count = torch.zeros(groups, dtype=torch.float64)
        self._sum: Tensor | None = None  # [group site d]

    def update(self, states: Float[Tensor, "site n d"], group: Int[Tensor, "n"]) -> None:
        """Take in n states, each of its group; -1 leaves one out."""
        member = (group == torch.arange(self._groups, device=group.device)[:, None]).double()
        total = torch.einsum("gn,snd->gsd", member, states.double()).cpu()
        self._step(count=member.sum(1).cpu(), total=total)

    def _combine(self, count: Float[Tensor, "group"], total: Float[Tensor, "group site d"]) -> None:
        self._sum = total if self._sum is None else self._sum + total
        self._count = self._count + count

    @property
    def count(self) -> Int[np.ndarray, "group"]:
        """States seen of each group."""
        return self._count.numpy().astype(int)

    @property
    def mean(self) -> Float[Tensor, "group site d"]:
        """Means in float32; zeros for a group without a state (ValueError where none has any)."""
        if self._sum is None:
            raise ValueError("no state was seen")
        return (self._sum / self._count.clamp(min=1)[:, None, None]).float()

    def state(self) -> dict[str, Shaped[np.ndarray, "..."]]:
        """Everything it holds, as arrays."""
        held = {"count": self._count.numpy()}
        return held if self._sum is None else held | {"sum": self._sum.numpy()}

    def restore(self, state: dict[str, Shaped[np.ndarray, "..."]]) -> None:
        """Continue from what `state` returned."""
        self._count = torch.from_numpy(state["count"])
        self._sum = torch.from_numpy(state["sum"]) if "sum" in state else None


class Decoder:
    """A model's states as logits over its vocabulary, by any `Readout`; by a ridge lens if it has
    one."""

    def __init__(
        self, model: Model, centre: Float[Tensor, "site d"], ridge: RidgeLens | None = None
    ) -> None:
        self._centre, self._ridge = centre.to(model.cfg.device), ridge
        self._own = unembedding(model)
        self._W_E = model.W_E.detach()

    def at(self, site: int) -> "Decoder":
        """The decoder of one site alone."""
        only = copy(self)
        only._centre = self._centre[site : site + 1]
        only._ridge = self._ridge and self._ridge.at(site)
        return only

    def __call__(
        self, states: Float[Tensor, "site n d"], how: Readout, ids: Int[Tensor, "token"]
    ) -> Float[Tensor, "site n token"]:
        """Logits of the tokens asked for."""
        with torch.inference_mode():
            return self._logits(self._ready(states, how), how, ids)

    @torch.inference_mode()
    def ranked(
        self, states: Float[Tensor, "site n d"], how: Readout, ids: Int[Tensor, "n token"]
    ) -> tuple[Float[Tensor, "site n token"], Int[Tensor, "site n token"]]:
        """Log-probability in nats, and rank among the whole vocabulary (1 is the likeliest).

        Each of the n states is asked for tokens of its own. Equals count as likelier: what a state
        does not tell apart is not near the top.
        """
        own = ids.to(states.device).expand(len(states), *ids.shape).flatten(0, 1)

        def look(logits: Tensor, at: slice) -> tuple[Tensor, Tensor]:
            chosen = logits.gather(-1, own[at])
            rank = torch.stack([(logits >= c[:, None]).sum(-1) for c in chosen.unbind(-1)], -1)
            return chosen - logits.logsumexp(-1, keepdim=True), rank

        return self._over_vocabulary(states, how, look)

    @torch.inference_mode()
    def likeliest(
        self, states: Float[Tensor, "site n d"], how: Readout, count: int = 1
    ) -> tuple[Float[Tensor, "site n count"], Int[Tensor, "site n count"]]:
        """The likeliest tokens of each state: log-probabilities in nats, and ids."""

        def look(logits: Tensor, at: slice) -> tuple[Tensor, Tensor]:
            best = logits.topk(count, dim=-1)
            return best.values - logits.logsumexp(-1, keepdim=True), best.indices

        return self._over_vocabulary(states, how, look)

    @torch.inference_mode()
    def divergence(
        self, states: Float[Tensor, "site n d"], how: Readout, log_p: Float[Tensor, "n token"]
    ) -> Float[Tensor, "site n"]:
        """KL from n distributions, given as log-probabilities, to what states decode to (nats)."""
        p = chances(log_p)

        def look(logits: Tensor, at: slice) -> tuple[Tensor]:
            own = torch.arange(at.start, at.start + len(logits), device=p.device) % len(p)
            return (torch.linalg.vecdot(p[own], log_p[own] - logits.log_softmax(-1)),)

        return self._over_vocabulary(states, how, look)[0]

    def _over_vocabulary(
        self,
        states: Float[Tensor, "site n d"],
        how: Readout,
        look: Callable[[Tensor, slice], tuple[Tensor, ...]],
    ) -> tuple[Tensor, ...]:
        """What `look` takes from the logits of a few states at a time, for all of them."""
        shape = states.shape[:2]
        flat = self._ready(states, how).flatten(0, 1)
        found = [
            look(self._logits(flat[at], how, slice(None)), at)
            for at in _slices(max(1, len(flat)), max(1, NUMBERS // self._vocabulary(how)))
        ]
        return tuple(torch.cat(parts).unflatten(0, shape) for parts in zip(*found, strict=True))

    def _ready(self, states: Float[Tensor, "site n d"], how: Readout) -> Float[Tensor, "site n d"]:
        """Carried, centred and normed as asked."""
        if how.decoder == "ridge":
            assert self._ridge is not None
            assert not how.centred  # the lens takes its own mean off
            states = self._ridge(states)
        states = states - self._centre[:, None] if how.centred else states
        if how.norm == "final":
            return self._own.norm(states)
        return torch.nn.functional.normalize(states, dim=-1) if how.norm == "unit" else states

    def _logits(
        self, ready: Float[Tensor, "*n d"], how: Readout, ids: Int[Tensor, "token"] | slice
    ) -> Float[Tensor, "*n token"]:
        if how.decoder == "E":
            return ready @ self._W_E[ids].float().mT
        return self._own.logits(ready, ids)

    def _vocabulary(self, how: Readout) -> int:
        """How many tokens there are to decode to."""
        return len(self._W_E) if how.decoder == "E" else len(self._own.b_U)


def chances(log_p: Float[Tensor, "n token"]) -> Float[Tensor, "n token"]:
    """Probabilities; below e^-80 they count for nothing, and smaller floats are 20 times slower."""
    return log_p.clamp(min=-80).exp()


def _slices(length: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, length, size))


def single_tokens(model: Model, word: str) -> list[int]:
    """Ids of the forms of a word that are one token: after a space, then by itself."""
    front = tokenize(model, "a\n")
    found = [tokenize(model, f"a\n{form}")[len(front) :] for form in (f" {word}", word)]
    return [ids[0] for ids in found if len(ids) == 1]


@torch.inference_mode()
def edited(
    model: Model,
    tokens: Int[Tensor, "batch pos"],
    site: Site,
    pos: Int[Tensor, "batch"],
    change: Float[Tensor, "batch d"],
    read: Int[Tensor, "batch"],
) -> tuple[Float[Tensor, "batch vocab"], Float[Tensor, "batch d"]]:
    """Logits at `read`, and the last state at `pos`, when `change` is added to a site at `pos`.

    Raises ValueError for a site within a block: what is put there reaches the MLP alone.
    """
    if site.part not in ("embedding", "resid_post"):
        raise ValueError("states within a layer cannot be edited, only those that enter or leave")
    row, last = torch.arange(len(tokens), device=tokens.device), sites(model, ("resid_post",))[-1]
    found: list[Tensor] = []

    def add(state: Tensor, hook: object) -> Tensor:
        state = state.clone()
        state[row, pos] += change.to(state.dtype)
        return state

    def keep(state: Tensor, hook: object) -> None:
        found.append(state[row, pos].float())

    hooks = [(site.hook, add), (last.hook, keep)]
    logits = model.run_with_hooks(tokens, return_type="logits", fwd_hooks=hooks)
    return logits[row, read].float(), found[0]
