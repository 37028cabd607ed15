"""One head of attention, or none, trained until it predicts the next word of a few sentences.

The word's embedding, plus the change that the head proposes, is read by a linear layer:
logits = (x + softmax(mask(Q K^T / sqrt(d_head))) V W_O) U (one layer of Vaswani et al. 2017,
section 3, without MLP, norm and positions).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

MAPS = ("W_Q", "W_K", "W_V", "W_O")


class NextWord(nn.Module):
    """Words in, logits of the next word out; without `attends` each word is on its own."""

    def __init__(self, words: int, width: int, d_head: int, attends: bool, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.attends = attends
        self.embedding = _drawn(generator, words, width, scale=1.0)
        self.readout = _drawn(generator, width, words)
        for name in MAPS[:3]:
            setattr(self, name, _drawn(generator, width, d_head))
        self.W_O = _drawn(generator, d_head, width)

    def change(self, x: Float[Tensor, "pos width"]) -> Float[Tensor, "pos width"]:
        """What the head adds to each word, looking at it and at the words before it."""
        query, key, value = x @ self.W_Q, x @ self.W_K, x @ self.W_V
        scores = query @ key.T / key.shape[-1] ** 0.5
        later = torch.ones_like(scores, dtype=torch.bool).triu(1)
        return scores.masked_fill(later, -torch.inf).softmax(-1) @ value @ self.W_O

    def forward(self, words: Int[Tensor, "pos"]) -> Float[Tensor, "pos word"]:
        """Logits of the word after each word: all of them in one pass."""
        x = self.embedding[words]
        return (x + self.change(x) if self.attends else x) @ self.readout


def _drawn(generator: torch.Generator, *shape: int, scale: float | None = None) -> nn.Parameter:
    scale = shape[0] ** -0.5 if scale is None else scale
    return nn.Parameter(torch.randn(*shape, generator=generator) * scale)


def train(net: NextWord, sentences: Sequence[Sequence[int]], steps: int, rate: float) -> None:
    """Fit the words after each word of all sentences, by Adam."""
    tokens = [torch.tensor(sentence) for sentence in sentences]
    nexts = torch.cat([sentence[1:] for sentence in tokens])
    optimiser = torch.optim.Adam(net.parameters(), lr=rate)
    for _ in range(steps):
        logits = torch.cat([net(sentence)[:-1] for sentence in tokens])
        loss = cross_entropy(logits, nexts)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
