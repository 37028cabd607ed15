"""What a model says when a state is made to say another word, by layer and position (SCIENCE 4).

The word's own state is what enters the first block where the word stands: its embedding, with what
the model adds to it for that pos. Two outcomes are kept apart: the word itself is said, or what the
word implies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lenses.states.implied import Question
from lenses.states.placing import Reader, states_of, stream_hooks
from lenses.statistics.grid import grid
from lenses.statistics.intervals import wilson
from models import Model
from models.readout import Unembedding, unembedding
from models.text import right_pad, token_strings

Way = Literal["replace", "same length", "main component", "state"]
WAYS: tuple[Way, ...] = ("replace", "same length", "main component", "state")
"""The word's own state instead of the one there; the same at the length of the one there; only the
readout direction of the likeliest token exchanged for the word's; or, for comparison, the state
that the word has at that depth in the same text."""
PLACES = ("subject", "last")
"""Where: at the word that is asked about, or at the token that predicts the answer."""
KINDS = ("word", "random")
"""The word of another question, whose answer is the target; or a random word."""


@dataclass(frozen=True)
class Injected:
    """What is said, as tokens."""

    said: Int[np.ndarray, "n place depth way kind"]
    own: Int[np.ndarray, "n"]
    """When nothing is changed."""


@torch.inference_mode()
def inject(
    model: Model,
    asked: Sequence[Question],
    depths: Sequence[int],
    places: Sequence[str] = PLACES,
    ways: Sequence[Way] = WAYS,
) -> Injected:
    """Every place, depth, way and kind of word, for some questions."""
    readout, said = unembedding(model), []
    for place in places:
        at = [one.subject if place == "subject" else one.last for one in asked]
        reader = Reader(model, [one.ids for one in asked], at, [one.last for one in asked], depths)
        words = torch.stack([word_states(model, asked, at, kind, [0, *depths]) for kind in KINDS])
        ids = torch.tensor([[getattr(one, kind) for one in asked] for kind in KINDS])
        ids = ids.to(words.device)
        found = []
        for number, (depth, state) in enumerate(zip(depths, reader.states.float(), strict=True)):
            new = torch.stack(
                [
                    words[:, 1 + number]
                    if way == "state"
                    else changed(readout, way, state, words[:, 0], ids)
                    for way in ways
                ]
            )
            chosen = reader(depth, new.flatten(0, 1)).argmax(-1)
            found.append(chosen.unflatten(0, (len(ways), len(KINDS))))
        said.append(torch.stack(found))
    own = reader.alone.argmax(-1)
    stacked = torch.stack(said).permute(4, 0, 1, 2, 3)
    return Injected(stacked.cpu().numpy(), own.cpu().numpy())


def word_states(
    model: Model,
    asked: Sequence[Question],
    at: Sequence[int],
    kind: str,
    depths: Sequence[int] = (0,),
) -> Float[Tensor, "depth n d_model"]:
    """The states of a pos at which each question has that word; at depth 0 its own."""
    rows = [one.filled(pos, getattr(one, kind)) for one, pos in zip(asked, at, strict=True)]
    return states_of(model, rows, at, sorted(set(depths)))[
        [sorted(set(depths)).index(depth) for depth in depths]
    ].float()


def changed(
    readout: Unembedding,
    way: Way,
    state: Float[Tensor, "n d_model"],
    word: Float[Tensor, "kind n d_model"],
    ids: Int[Tensor, "kind n"],
) -> Float[Tensor, "kind n d_model"]:
    """States made to say a word.

    The main component is the part of a state along the readout direction of the token that the
    state decodes to; as much is put in along the word's, and the state keeps its length.
    """
    length = state.norm(dim=-1, keepdim=True)
    if way == "replace":
        return word
    if way == "same length":
        return word * (length / word.norm(dim=-1, keepdim=True))
    top = _unit(readout.directions(readout(state).argmax(-1)))
    new = _unit(readout.directions(ids.flatten())).unflatten(0, ids.shape)
    part = (state * top).sum(-1, keepdim=True)
    return _unit(state - part * top + part * new) * length


def _unit(rows: Float[Tensor, "*n d_model"]) -> Float[Tensor, "*n d_model"]:
    return torch.nn.functional.normalize(rows.float(), dim=-1)


@torch.inference_mode()
def readout_errors(model: Model, asked: Sequence[Question]) -> Float[np.ndarray, "n"]:
    """How far logits are from norm(word) times U when the last state is replaced by a word's.

    Largest difference over the largest logit; the model itself computes the logits, the word being
    put in where its last block ends.
    """
    tokens, lengths = right_pad([one.ids for one in asked])
    at, row = lengths - 1, torch.arange(len(asked))
    (words,) = word_states(model, asked, at.tolist(), "word")

    def replace(stream: Tensor, hook: object) -> Tensor:
        stream = stream.clone()
        stream[row, at] = words.to(stream)
        return stream

    hook = stream_hooks(model, [model.cfg.n_layers])[0]
    tokens = tokens.to(model.cfg.device)
    logits = model.run_with_hooks(tokens, return_type="logits", fwd_hooks=[(hook, replace)])
    wanted = unembedding(model)(words)
    gap = (logits[row, at].float() - wanted).abs().amax(-1) / wanted.abs().amax(-1)
    return gap.double().cpu().numpy()


@torch.inference_mode()
def text_errors(model: Model, asked: Sequence[Question]) -> Float[np.ndarray, "n"]:
    """How far logits are from those of the text with the word, when it is put in at depth 0."""
    at, last = [one.subject for one in asked], [one.last for one in asked]
    reader = Reader(model, [one.ids for one in asked], at, last, [0])
    put = reader(0, word_states(model, asked, at, "word"))[0]
    rows = [one.filled(one.subject, one.word) for one in asked]
    wanted = Reader(model, rows, at, last, [0]).alone
    gap = (put - wanted).norm(dim=-1) / wanted.norm(dim=-1)
    return gap.double().cpu().numpy()


OUTCOMES = ("implied", "word said", "implied by random", "random said")
"""What is counted: the target is said; the word that was put in is said; the target is said after
a random word; the random word is said."""


def outcomes(
    found: Injected, asked: Sequence[Question]
) -> Bool[np.ndarray, "n place depth way outcome"]:
    """Of every injection, by OUTCOMES."""
    implied, word, random = (
        np.array([getattr(one, name) for one in asked])[:, None, None, None]
        for name in ("implied", "word", "random")
    )
    by_word, by_random = found.said[..., 0], found.said[..., 1]
    return np.stack(
        [by_word == implied, by_word == word, by_random == implied, by_random == random], axis=-1
    )


def success(
    right: Bool[np.ndarray, "n place depth way outcome"], depths: Sequence[int]
) -> pd.DataFrame:
    """The share of questions with each outcome."""
    axes = pd.MultiIndex.from_product(
        [PLACES, depths, WAYS, OUTCOMES], names=["at", "layer", "way", "outcome"]
    )
    k, n = right.sum(0).ravel(), len(right)
    low, high = wilson(k, np.full(len(k), n))
    found = {"estimate": k / n, "low": low, "high": high, "n": n}
    return axes.to_frame(index=False).assign(**found)


def held_out(
    right: Bool[np.ndarray, "n depth outcome"],
    own: Bool[np.ndarray, "n"],
    within: Sequence[int],
) -> pd.DataFrame:
    """Each question at the depth that is best in the other half, drawn by lot.

    The control is the better, in the other half, of a random word and of no injection at all
    (`own`: whether the model says the target by itself).
    """
    half, rows = np.random.default_rng(0).permutation(len(right)) % 2, []
    controls = np.stack([right[..., 2], np.broadcast_to(own[:, None], right.shape[:2])], axis=-1)
    for part in (0, 1):
        seen = half != part
        excess = right[seen][..., 0].mean(0) - controls[seen].mean(0).max(-1)
        depth = within[int(excess[within].argmax())]
        best = int(controls[seen, depth].mean(0).argmax())
        for case in np.flatnonzero(half == part):
            told, control = right[case, depth], controls[case, depth, best]
            rows.append((case, depth, ("random", "none")[best], told[0], control, told[1]))
    names = ["case", "depth", "control", "implied", "best_control", "word_said"]
    return pd.DataFrame(rows, columns=names).sort_values("case", ignore_index=True)


def held_out_rows(
    right: Bool[np.ndarray, "n place depth way outcome"],
    own: Bool[np.ndarray, "n"],
    depths: Sequence[int],
    within: Sequence[int],
) -> pd.DataFrame:
    """`held_out` for each place and way, with the depth as `layer`."""
    rows = pd.concat(
        [
            held_out(right[:, place, :, way], own, within).assign(at=at, way=name)
            for place, at in enumerate(PLACES)
            for way, name in enumerate(WAYS)
        ],
        ignore_index=True,
    )
    rows["layer"] = np.array(depths)[rows.pop("depth")]
    return rows


def said_rows(model: Model, found: Injected, depths: Sequence[int]) -> pd.DataFrame:
    """The token that is said after each change."""
    axes = {"case": len(found.own), "at": PLACES, "layer": depths, "way": WAYS, "put": KINDS}
    return grid(axes, token=token_strings(model, found.said.ravel()))
