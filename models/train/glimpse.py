"""A tiny network that may look at one place of what it is given, and rivals that cannot.

The embedding of the context (the cue) is scored against each slot; a softmax makes weights of the
scores; the glimpse is the slots times their weights, element-wise, summed; a linear layer names the
answer (SCIENCE 10; soft attention as in Bahdanau et al. 2015, section 3.1, with scaled dot products
as in Vaswani et al. 2017, section 3.2.1).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from prompts.cued import COLOURS, LETTERS, Cued, cued

HIDDEN = 64
"""Units of the rival with a hidden layer."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained."""

    slots: int
    width: int
    """Length of an embedding."""
    steps: int
    learning_rate: float
    batch: int
    seed: int
    """Of the first weights and of the cases."""


class Glimpse(nn.Module):
    """Cue -> weights of the slots -> glimpse -> answer; without `looks` all weights are equal."""

    def __init__(self, width: int, looks: bool, generator: torch.Generator) -> None:
        super().__init__()
        self.looks = looks
        self.colour = _drawn(generator, len(COLOURS), width)
        self.letter = _drawn(generator, len(LETTERS), width)
        self.cue = _drawn(generator, len(COLOURS), width)
        self.readout = _drawn(generator, 2 * width, len(LETTERS), scale=(2 * width) ** -0.5)

    def inputs(self, cases: Cued) -> Float[Tensor, "case slot width"]:
        """What each slot is to the network: its colour's embedding plus its letter's."""
        return self.colour[cases.colour] + self.letter[cases.letter]

    def weights(self, cases: Cued) -> Float[Tensor, "case slot"]:
        """How much of each slot is seen; those of a case sum to 1."""
        inputs, cue = self.inputs(cases), self.cue[cases.cue]
        scores = (cue[:, None] * inputs).sum(-1) / inputs.shape[-1] ** 0.5
        return (scores if self.looks else torch.zeros_like(scores)).softmax(-1)

    def forward(
        self, cases: Cued, weights: Float[Tensor, "case slot"] | None = None
    ) -> Float[Tensor, "case letter"]:
        """Logits of the answer; with `weights`, it looks where they say."""
        weights = self.weights(cases) if weights is None else weights
        glimpse = (weights[..., None] * self.inputs(cases)).sum(dim=1)
        return torch.cat([glimpse, self.cue[cases.cue]], dim=-1) @ self.readout


class Wide(nn.Module):
    """A rival without attention that sees every slot in its place, through a hidden layer."""

    def __init__(self, slots: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.colour = _drawn(generator, len(COLOURS), width)
        self.letter = _drawn(generator, len(LETTERS), width)
        self.cue = _drawn(generator, len(COLOURS), width)
        seen = (2 * slots + 1) * width
        self.hidden = _drawn(generator, seen, HIDDEN, scale=seen**-0.5)
        self.readout = _drawn(generator, HIDDEN, len(LETTERS), scale=HIDDEN**-0.5)

    def forward(self, cases: Cued) -> Float[Tensor, "case letter"]:
        """Logits of the answer."""
        slots = torch.cat([self.colour[cases.colour], self.letter[cases.letter]], dim=-1)
        seen = torch.cat([slots.flatten(1), self.cue[cases.cue]], dim=-1)
        return (seen @ self.hidden).relu() @ self.readout


def _drawn(generator: torch.Generator, *shape: int, scale: float = 1.0) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape, generator=generator) * scale)


KINDS = ("attention", "even weights", "hidden layer", "shuffled answers")
"""With attention; the same network with equal weights; `Wide`; and attention that is trained on
answers from slots drawn by lot, so that there is no right place."""


def network(kind: str, recipe: Recipe) -> Glimpse | Wide:
    """A network of one of the KINDS with fresh weights."""
    generator = torch.Generator().manual_seed(recipe.seed)
    if kind == "hidden layer":
        return Wide(recipe.slots, recipe.width, generator)
    return Glimpse(recipe.width, kind != "even weights", generator)


def course(
    kind: str, recipe: Recipe, examined: Sequence[int]
) -> Iterator[tuple[int, Glimpse | Wide]]:
    """Train a network; yields it before the first step where 0 is examined, then at each step.

    It goes on training when the next is asked for: read it before.
    """
    net, rng = network(kind, recipe), np.random.default_rng(recipe.seed)
    optimiser = torch.optim.Adam(net.parameters(), lr=recipe.learning_rate)
    for step in range(recipe.steps + 1):
        if step in examined:
            yield step, net
        cases = cued(recipe.batch, recipe.slots, rng, shuffled=kind == "shuffled answers")
        loss = cross_entropy(net(cases), torch.from_numpy(cases.answer))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
