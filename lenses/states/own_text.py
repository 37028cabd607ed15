"""Prompts that are followed by the model's own text and by others, written and read in a stream."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from lenses.kept import PerPrompt
from lenses.states import fillers, policy, replies
from lenses.states.certainty import entropies
from lenses.states.fillers import FILLERS, FOUND, Filled
from lenses.states.policy import FEWEST, STATISTICS
from lenses.states.replies import Prompt, padded, read_after
from models import Model, ModelError
from models.text import continue_text

PLANTED = {"prompts": 32, "prompt": 8, "new_tokens": 16}
"""What the planted model reads and writes."""


class Planted(Protocol):
    """A model that attends to its own words, as `models.planted.dialect` makes it."""

    model: Model

    def twins(self, count: int, length: int, seed: int) -> Int[np.ndarray, "count length"]:
        """Random texts in the twins of its own words, as tokens."""


@dataclass(frozen=True)
class OwnText:
    """Prompts after which a model writes, and how what follows them is read."""

    prompts: Sequence[Prompt]
    seed: int
    batch_size: int
    """Prompts between two checkpoints; each passes the model by itself."""
    stream: Callable[..., Iterator[Any]]
    """`Experiment.stream`."""

    def written(self, model: Model) -> PerPrompt:
        """What is kept of each prompt, as `of_prompt` has it.

        Raises:
            ModelError: the model ends all but two texts before they can be compared.
        """
        own, width = PerPrompt(), max(prompt.most for prompt in self.prompts)
        for batch in self.stream(self.prompts, own, "writing and reading", self.batch_size):
            for prompt in batch:
                own.update(**self.of_prompt(model, prompt, width))
        long_enough(model.card.name, own["length"])
        return own

    def of_prompt(self, model: Model, prompt: Prompt, width: int) -> dict[str, np.ndarray]:
        """Fillers of a prompt, padded to `width`, how they were read, and the identity."""
        greedy = policy.generate(model, prompt.prompt, prompt.most, replies.ends(model))
        again = read_after(model, prompt.prompt, [greedy.tokens])
        ids = self._fillers(model, prompt, greedy.tokens)
        found = read_after(model, prompt.prompt, ids.tolist())
        surprisal = policy.surprisals(found, ids)
        kept = {
            "fillers": padded(ids, width, -1),
            "length": np.array(ids.shape[1]),
            "surprisal": padded(surprisal, width, np.nan),
            "history": padded(policy.history(surprisal, ids, prompt.prompt), width, 0),
        } | _inside(found, width)
        names = ("states", "log_p", "same_choice")
        kept |= zip(names, policy.largest_differences(greedy, again), strict=True)
        return {name: np.asarray(value)[None] for name, value in kept.items()}

    def _fillers(
        self, model: Model, prompt: Prompt, greedy: list[int]
    ) -> Int[np.ndarray, "filler pos"]:
        """Tokens of each of FILLERS, as long as the shortest."""
        rng = np.random.default_rng([self.seed, prompt.number])
        sampled = replies.sampled(model, prompt, int(rng.integers(2**31)))
        rows = [prompt.given, greedy, sampled, prompt.other]
        length = min(prompt.most, *map(len, rows))
        shuffled = rng.permutation(prompt.given[:length])
        return np.array([*(row[:length] for row in rows), shuffled], dtype=np.int64)

    def in_twins(self, twins: Iterable[Model], count: int, own: PerPrompt) -> list[PerPrompt]:
        """Statistics and entropies of the same texts in `count` random twins."""
        found = []
        rows = list(zip(self.prompts, own["fillers"], own["length"], strict=True))
        for number, twin in enumerate(twins):
            kept, label = PerPrompt(), f"random weights {number + 1}/{count}"
            for batch in self.stream(rows, kept, label, self.batch_size):
                for prompt, ids, length in batch:
                    read = read_after(twin, prompt.prompt, ids[:, :length].tolist())
                    inside = _inside(read, ids.shape[1])
                    kept.update(**{name: value[None] for name, value in inside.items()})
            found.append(kept)
        return found

    def tables(
        self, model: Model, own: PerPrompt, twins: Sequence[PerPrompt], planted: Planted
    ) -> dict[str, pd.DataFrame]:
        """What was written, how fillers differ in prompts that are long enough, and the control."""
        kept = long_enough(model.card.name, own["length"])
        parts = (own[name][kept] for name in ("surprisal", "history", "statistics"))
        filled = Filled.of(*parts, [twin["statistics"][kept] for twin in twins])
        n, entropy = int(kept.sum()), [weights["entropy"][kept] for weights in (own, *twins)]
        controls = {name: filled.compared(name, self.seed) for name in fillers.CONTROLS}
        ids, of = own["fillers"][kept], np.flatnonzero(kept)
        return {
            "prompts": prompt_rows(model, self.prompts, own),
            "identity": identity_rows(own),
            "tokens": fillers.token_rows(model, filled, ids, of),
            "fillers": fillers.filler_table(filled, self.seed),
            "effects": fillers.effect_table(controls, n),
            "layers": fillers.layer_table(filled, self.seed),
            "against_random": fillers.excess_table(controls, n),
            "explained": fillers.explained_table(filled, self.seed),
            "certainty": fillers.certainty_table(filled, entropy),
            "positive_control": planted_control(planted),
        }


def _inside(read: policy.Read, width: int) -> dict[str, Float[np.ndarray, "filler width *cell"]]:
    """Statistics of each token of a filler, and the entropy (nats) of what comes after it."""
    nats = entropies(read.log_p[:, 1:])
    return {
        "statistics": padded(read.statistics, width, 0),
        "entropy": padded(nats, width, 0),
    }


def long_enough(name: str, lengths: Int[np.ndarray, "prompt"]) -> Bool[np.ndarray, "prompt"]:
    """Which prompts have fillers that can be compared.

    Raises:
        ModelError: fewer than three have; `name` is that of the model.
    """
    kept = lengths >= FEWEST
    if kept.sum() < 3:
        told = f"{name} ends all but {kept.sum()} of {len(kept)} texts before "
        raise ModelError(f"{told}{FEWEST} tokens; it takes 3 that are longer")
    return kept


def prompt_rows(model: Model, prompts: Sequence[Prompt], own: PerPrompt) -> pd.DataFrame:
    """What stands after each prompt, as it was compared."""
    decode = model.tokenizer.decode
    return pd.DataFrame(
        [
            {"prompt": prompt.number, "text": decode(prompt.prompt), "filler": filler,
             "filled_with": decode(ids[:length]), "tokens": int(length),
             "compared": bool(length >= FEWEST)}
            for prompt, rows, length in zip(prompts, own["fillers"], own["length"], strict=True)
            for filler, ids in zip(FILLERS, rows.tolist(), strict=True)
        ]
    )  # fmt: skip


def identity_rows(own: PerPrompt) -> pd.DataFrame:
    """How far each prompt's states and predictions while writing are from those while reading."""
    rows = pd.DataFrame(own["states"], columns=list(STATISTICS))
    rows.insert(0, "prompt", range(len(rows)))
    return rows.assign(log_p=own["log_p"], same_choice=own["same_choice"])


def planted_control(planted: Planted) -> pd.DataFrame:
    """What is found, surprisal held fixed, where a planted model attends to its own words.

    The given text is in turn in twins of its words, which do differ inside, and what it sampled
    itself once more, from which its sampled text cannot differ. Always the same prompts.
    """
    start, new = PLANTED["prompt"], PLANTED["new_tokens"]
    rows = planted.twins(PLANTED["prompts"], start + new, 0)
    prompt = rows[:, :start]
    greedy, sampled, again = (
        np.array(continue_text(planted.model, prompt.tolist(), new, temperature=t, seed=seed))
        for t, seed in ((0, 0), (1, 0), (1, 1))
    )
    given = {"twins of its words": rows[:, start:], "its own, again": again}
    return fillers.own_text_table(planted.model, prompt, given, (greedy, sampled))


class Control(NamedTuple):
    """What the method finds in the planted model, in standard deviations."""

    planted: float
    """The difference in attention on the filler, the smaller of both own texts."""
    found: bool
    same: float
    """The largest of all statistics between two texts that it sampled."""
    quiet: bool
    """Whether nothing was found between them."""


def control_found(rows: pd.DataFrame) -> Control:
    """Whether the planted difference is found, and none between two texts of one origin."""
    twins = rows["given"].str.startswith("twins")
    planted = rows[twins & (rows["statistic"] == "attention_on_filler")]
    same = rows[~twins & (rows["filler"] == "sampled")]
    found = (planted["low"] > 0).all() and (planted["p_any"] <= FOUND).all()
    sizes = planted["estimate"].min(), same["estimate"].abs().max()
    return Control(sizes[0], bool(found), sizes[1], bool(same["p_any"].min() > FOUND))
