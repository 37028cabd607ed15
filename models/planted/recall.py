"""A model that looks up the shipped facts at their subject, in the MLP of a layer that is known.

A head of block 0 finds what is asked (a word that only the prompts of one relation have). The MLP
of block 1 knows all facts about a subject and writes them where the subject stands. A head of
block 2 moves them from the latest subject to where they are needed; the MLP of block 3 says the
one that is asked for, and its rival more softly. All other heads attend and write at random, where
nothing reads (the idea of Tracr: Lindner et al. 2023, section 1).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from models.card import NativeConfig
from models.native import vocabulary_tokenizer
from models.planted.writing import IGNORED, Weights, random_heads, written
from models.protocol import Model
from prompts.recall import BLANK, Recalled, recalled_facts

N_CTX, HEADS, LAYERS = 64, 4, 4
ASKED, LOOKED_UP, MOVED, SAID = range(LAYERS)
"""Which block does what."""
LATEST = 24.0
"""Score that a token is ahead of the one before it, where the latest of a kind is looked for."""
LOGIT = 12.0
"""Of the answer; its rival has half of it and all else 0."""


class PlantedRecall(NamedTuple):
    """The model, and the facts that it knows."""

    model: Model
    facts: list[Recalled]


def planted_recall(*, seed: int = 0) -> PlantedRecall:
    """The model; which of its heads are the two that work, and all that is random, by `seed`."""
    facts = recalled_facts()
    axes, rng = _Axes(facts), torch.Generator().manual_seed(seed)
    blocks = [_distracted(axes, rng) for _ in range(LAYERS)]
    asking, moving = torch.randint(HEADS, (2,), generator=rng).tolist()
    _move(blocks[ASKED], asking, axes, axes.marks, axes.marks)
    every = dict.fromkeys(axes.subjects)
    _move(blocks[MOVED], moving, axes, every, dict(zip(axes.known, axes.known, strict=True)))
    _look_up(blocks[LOOKED_UP], axes)
    _say(blocks[SAID], axes)
    config = NativeConfig(
        n_layers=LAYERS, n_heads=HEADS, d_model=axes.width, d_head=len(facts), n_ctx=N_CTX,
        d_vocab=len(axes.vocabulary), d_mlp=len(facts), act_fn="relu",
    )  # fmt: skip
    tokenizer = vocabulary_tokenizer(axes.vocabulary)
    model = written("recall", config, axes.outer(), blocks, tokenizer=tokenizer)
    return PlantedRecall(model, facts)


class _Axes:
    """The words of the facts, and which axis of the residual stream stands for what."""

    def __init__(self, facts: Sequence[Recalled]) -> None:
        prompts = {fact.relation: fact.prompt for fact in facts}
        self.facts = facts
        tokens = [*map(_of_subject, facts)]
        tokens += [f" {word}" for fact in facts for word in (fact.answer, fact.rival)]
        tokens += [word for prompt in prompts.values() for word in _words(prompt)]
        tokens += [_of_subject(replace(fact, subject=o)) for fact in facts for o in fact.others]
        self.vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
        self.subjects = [self.vocabulary[_of_subject(fact)] for fact in facts]
        self.one = len(self.vocabulary)
        self.pos = self.one + 1
        self.relation = {name: self.pos + 1 + turn for turn, name in enumerate(prompts)}
        self.known = range(self.pos + 1 + len(prompts), self.pos + 1 + len(prompts) + len(facts))
        self.said = range(self.known.stop, self.known.stop + len(facts))
        self.width = self.said.stop + IGNORED
        self.marks = self._marks(prompts)

    def _marks(self, prompts: dict[str, str]) -> dict[int, int]:
        """Tokens that only the prompts of one relation have, with that relation's axis."""
        found = {}
        for name, prompt in prompts.items():
            others = {w for other in prompts.values() if other != prompt for w in _words(other)}
            others |= {_of_subject(fact) for fact in self.facts}
            own = [word for word in _words(prompt) if word not in others]
            assert own, f"no word tells prompts of {name!r} from others"
            found |= {self.vocabulary[word]: self.relation[name] for word in own}
        return found

    def outer(self) -> Weights:
        """Embeddings that tell every word and pos, and what says a fact and its rival."""
        count = len(self.vocabulary)
        W_E, W_pos, W_U = (torch.zeros(n, self.width) for n in (count, N_CTX, count))
        W_E[:, :count] = torch.eye(count)
        W_E[:, self.one] = 1
        W_pos[:, self.pos] = torch.arange(N_CTX) / N_CTX
        for fact, axis in zip(self.facts, self.said, strict=True):
            W_U[self.vocabulary[f" {fact.answer}"], axis] = LOGIT
            W_U[self.vocabulary[f" {fact.rival}"], axis] = LOGIT / 2
        return {"embed.W_E": W_E, "pos_embed.W_pos": W_pos, "unembed.W_U": W_U.mT.contiguous()}


def _words(prompt: str) -> list[str]:
    return re.findall(r" ?\w+|[^\w\s]", prompt.replace(BLANK, ""))


def _of_subject(fact: Recalled) -> str:
    """The subject as one token, with the space before it."""
    return fact.subject if fact.prompt.startswith(BLANK) else f" {fact.subject}"


def _distracted(axes: _Axes, rng: torch.Generator) -> Weights:
    """A block of random heads, and of an MLP that writes nothing."""
    hidden = len(axes.facts)
    block = random_heads(HEADS, axes.width, hidden, axes.said.start, rng)
    block |= {"W_in": torch.zeros(axes.width, hidden), "b_in": torch.zeros(hidden)}
    return block | {"W_out": torch.zeros(hidden, axes.width)}


def _move(
    block: Weights, head: int, axes: _Axes, sought: Iterable[int], moved: Mapping[int, int]
) -> None:
    """Make a head attend to the latest of some tokens, and move axes to others."""
    for name in ("W_Q", "W_K", "W_V", "W_O"):
        block[name][head] = 0
    block["W_Q"][head, axes.one, 0] = LATEST * block["W_Q"].shape[-1] ** 0.5
    block["W_K"][head, axes.pos, 0] = N_CTX
    block["W_K"][head, list(sought), 0] = N_CTX
    targets = list(dict.fromkeys(moved.values()))
    for source, target in moved.items():
        block["W_V"][head, source, targets.index(target)] = 1
        block["W_O"][head, targets.index(target), target] = 1


def _look_up(block: Weights, axes: _Axes) -> None:
    """A neuron for each subject that writes all that is known of it."""
    for neuron, subject in enumerate(dict.fromkeys(axes.subjects)):
        block["W_in"][subject, neuron] = 2
        block["b_in"][neuron] = -1
        own = [axes.known[n] for n, token in enumerate(axes.subjects) if token == subject]
        block["W_out"][neuron, own] = 1


def _say(block: Weights, axes: _Axes) -> None:
    """A neuron for each fact: it is known here, and it is asked for."""
    for neuron, fact in enumerate(axes.facts):
        block["W_in"][[axes.known[neuron], axes.relation[fact.relation]], neuron] = 2
        block["b_in"][neuron] = -3
        block["W_out"][neuron, axes.said[neuron]] = 1
