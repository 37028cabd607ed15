"""The states that are taken apart, and the sets of token vectors they are taken apart into."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lenses.kept import PerPrompt
from lenses.states.decoding import MeanStates, Site, read_states, sites
from lenses.states.pursuits import Atoms, Norm, mixed, transported
from models import Model
from models.effective import effective_embedding
from models.parts import FinalNorm

OF_TOKENS = ("E", "effective E")
"""Rows of W_E; E plus what the first MLP makes of it."""
TRANSPORTED = "transported U"
"""Readout directions taken back to a depth by the mean Jacobian."""
MIXED = 2**15
"""Random vectors at least, over all draws: a small vocabulary is mixed several times."""
MOST_DRAWS = 4
RESIDUAL = ("embedding", "resid_post")


@dataclass(frozen=True)
class AtomSet:
    """Token vectors at each depth, and random ones of their mean and covariance."""

    name: str
    at: list[Atoms]
    mixed: list[Atoms]
    """One for each draw; none for sets that differ by depth."""


def token_atoms(model: Model, name: str, depths: int, seed: int) -> AtomSet:
    """A set of OF_TOKENS, the same at all depths."""
    rows = token_rows(model, name)
    atoms = Atoms.unit(rows)
    draws = min(MOST_DRAWS, -(-MIXED // len(rows)))
    random = [mixed(atoms, seed + draw) for draw in range(draws)]
    return AtomSet(name, [atoms] * depths, random)


def transported_atoms(model: Model, jacobians: Float[Tensor, "depth d d"]) -> AtomSet:
    """Readout directions at the depths of some Jacobians."""
    return AtomSet(TRANSPORTED, [transported(model, J) for J in jacobians], [])


def atom_set(
    model: Model, name: str, jacobians: Float[Tensor, "depth d d"], depths: int, seed: int
) -> AtomSet:
    """A set by name, one of OF_TOKENS or TRANSPORTED, at so many depths."""
    if name == TRANSPORTED:
        return transported_atoms(model, jacobians)
    return token_atoms(model, name, depths, seed)


def token_rows(model: Model, name: str) -> Float[Tensor, "token d"]:
    """A vector for each token, by one of OF_TOKENS."""
    W_E = model.W_E.detach()
    return W_E if name == "E" else effective_embedding(model, torch.arange(len(W_E)))


def depth_of(site: Site) -> int:
    """Blocks that were passed; for what is added in a block, that block included."""
    return 0 if site.part == "embedding" else site.block + 1


def depths_of(model: Model, count: int) -> list[Site]:
    """The residual stream at `count` depths, spread evenly, the embedding and the last included."""
    every = sites(model)
    return [every[number] for number in evenly(len(every), count)]


def evenly(length: int, count: int) -> list[int]:
    """At most `count` of the first `length` numbers, spread evenly, 0 and the last included."""
    return np.unique(np.linspace(0, length - 1, count).round().astype(int)).tolist()


def added_at(model: Model, where: Sequence[Site]) -> list[Site]:
    """What attention and MLP add in the blocks that end at these depths."""
    blocks = [site.block for site in where if site.part == "resid_post"]
    found = [Site(block, part) for part in ("attn_out", "mlp_out") for block in blocks]
    return [site for site in found if site.hook in model.hook_dict]


def spread(length: int, count: int) -> Int[np.ndarray, "n"]:
    """Positions spread evenly over a text without its first token, its last one included."""
    return np.unique(np.linspace(length - 1, 1, count + 1)[:-1].round().astype(int))


def last(length: int, count: int) -> Int[np.ndarray, "n"]:
    """The last positions of a text, without its first token."""
    return np.arange(max(1, length - count), length)


class States:
    """States at some positions of texts, and their mean over all positions but the first."""

    def __init__(self, where: Sequence[Site]) -> None:
        self.where = list(where)
        self.kept, self.mean = PerPrompt(), MeanStates()

    def update(
        self, model: Model, number: int, ids: Sequence[int], pos: Int[np.ndarray, "n"]
    ) -> None:
        """Read some positions of a text; never the first."""
        tokens = torch.tensor([list(ids)], device=model.cfg.device)
        later = torch.arange(1, len(ids), device=tokens.device)
        found, _ = read_states(model, tokens, self.where, torch.zeros_like(later), later)
        self.mean.update(found, torch.zeros_like(later))
        states = found[:, pos - 1].transpose(0, 1).cpu().numpy()
        told = {"pos": pos, "own": np.array(ids)[pos], "prompt": np.full(len(pos), number)}
        self.kept.update(states=states, **told)

    @property
    def residual(self) -> list[int]:
        """Which sites are of the residual stream."""
        return [number for number, site in enumerate(self.where) if site.part in RESIDUAL]

    @property
    def depths(self) -> list[int]:
        """Depths of the residual stream."""
        return [depth_of(self.where[number]) for number in self.residual]

    def at(self, site: int, device: str) -> Float[Tensor, "n d"]:
        """All states of one site."""
        return torch.from_numpy(self.kept["states"][:, site]).to(device)

    def mean_at(self, site: int, device: str) -> Float[Tensor, "d"]:
        """The mean state of one site."""
        return self.mean.mean[0, site].to(device)


def normed(
    states: Float[Tensor, "n d"], norm: Norm, centre: Float[Tensor, "d"], final: FinalNorm
) -> Float[Tensor, "n d"]:
    """States as they are, of length 1, through the final norm, or less the mean state."""
    if norm == "final":
        return final(states)
    if norm == "centred":
        return states - centre
    return torch.nn.functional.normalize(states, dim=-1) if norm == "unit" else states


def random_like(states: Float[Tensor, "n d"], seed: int) -> Float[Tensor, "n d"]:
    """Vectors of the lengths of these that point anywhere."""
    rng = torch.Generator().manual_seed(seed)
    drawn = torch.randn(states.shape, generator=rng).to(states.device)
    return drawn * (states.norm(dim=-1) / drawn.norm(dim=-1))[:, None]
