"""What does self-attention compute, step by step?"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from experiments import Claim, Estimate, Experiment, Reading, Results, Table
from lenses.flow.examples import (
    OTHER,
    SHOWN,
    in_numpy,
    looks,
    predictions,
    trained,
    training_errors,
    untrained,
    walked_predictions,
    walks,
)
from lenses.flow.primer import CASES, heads_seconds, pattern, torch_error
from lenses.flow.spelled import ABOUT, WALKED
from lenses.flow.walkthrough import FAULTS, fault_table
from lenses.kept import PerPrompt
from lenses.statistics.intervals import FEWEST, bootstrap, share
from prompts.walkthrough import SENTENCES, words
from viz import Drawing, attention_patterns, bars, curves, heat_map, step_by_step

if TYPE_CHECKING:
    from models import Model

HEADS = (1, 2, 4, 8, 16, 32)
"""Numbers of heads that are timed."""
TOKENS = (64, 128, 256, 512, 1024, 2048)
"""Lengths of text of which the pattern is measured."""
LONG = 256
"""From this length on the time of a pattern is more than that of starting to compute it."""
MOST_NAMED = 6
"""Most probable words that are drawn of the corrected walkthrough."""
TOLERANCE = 1e-6
NETWORKS = {
    "corrected": "walkthrough, corrected",
    "untrained": "one head, before training",
    "alone": "trained without attention",
    "attention": "trained with attention",
}
"""Networks in words."""


class AttentionPrimer(Experiment):
    """Everything is computed twice, in plain NumPy and by torch, and drawn matrix by matrix.

    First comes a published walkthrough (the repository ranfysvalle02/ai-self-attention, with three
    sentences) as it is, beside what it says it does; each fault is measured on random embeddings.
    Then comes attention as in the notes: one head, Q, K and V as linear maps of the words, no
    mask, no output map, random weights. Then the mask, cross-attention, and several heads, whose
    proposed changes are added.

    At last one head is trained on the three sentences, to predict each next word from the word and
    what it looks at among the words before. The word "the" has two next words, lazy and seashore:
    without looking back no network can predict both.
    """

    needs_model: ClassVar[bool] = False
    related: ClassVar[tuple[str, ...]] = ("adjective_noun", "attention_glimpse")
    runs_on: ClassVar[str] = "no model 10 s"
    quick: ClassVar[dict[str, Any]] = {
        "trainings": 2, "steps": 30, "draws": 4, "repeats": 2, "longest": 128,
    }  # fmt: skip

    model: str = "none"
    """Not used: everything is computed here."""
    trainings: int = Field(5, ge=1)
    """Trainings of the head, and of the network without it."""
    steps: int = Field(200, ge=1)
    """Steps of each training."""
    learning_rate: float = Field(0.03, gt=0)
    """Learning rate of Adam."""
    width: int = Field(6, ge=1)
    """Numbers of a word's embedding, in the head that is trained."""
    d_head: int = Field(3, ge=1)
    """Numbers of a query, key and value."""
    draws: int = Field(50, ge=1)
    """Random embeddings and weights on which faults and agreement with torch are measured."""
    repeats: int = Field(30, ge=1)
    """Times that each computation is timed."""
    longest: int = Field(2048, ge=64)
    """Words of the longest text whose pattern is measured; 2,048 take 16 MB."""

    tables: ClassVar[Mapping[str, Table]] = {
        "matrices": Table(
            "A row is a cell of a matrix of one of the examples that are drawn.",
            key="example step row column",
            columns={
                "example": "what is computed: a sentence with `published` or `corrected` (the "
                "walkthrough); `notes`, `mask`, `cross`, `heads` with random weights; `trained` or "
                "`meets` (query and keys) before a sentence",
                "step": "the matrix",
                "row": "the row's word or number",
                "column": "the column's word or number",
                "value": "the number; empty where a mask hides it",
                "how": "the sum or the word that it comes from",
            },
        ),
        "faults": Table(
            "A row is a fault of the published walkthrough, over random embeddings and sentences.",
            key="fault",
            columns={
                "fault": "the fault",
                "shown": "in how many of n runs it shows",
                "mended": "in how many of n runs of the corrected code it shows",
                "size": "how large it is on average, in its own unit",
                "corrected_size": "the same in the corrected code",
            },
            more="n",
        ),
        "agreement": Table(
            "A row is something computed in two ways, by NumPy and by torch or in another order.",
            key="case precision draw",
            columns={
                "case": "what is computed",
                "precision": "number format: `float32` or `float64`",
                "error": "largest difference over the largest number of the result",
            },
        ),
        "next_words": Table(
            "A row is a word and what a network says comes after it.",
            key="network seed sentence pos",
            columns={
                "network": "`corrected`: the walkthrough without faults, on random embeddings; "
                "`untrained`: one head with random weights; `alone`: trained without attention; "
                "`attention`: trained with one head",
                "seed": "seed of the weights",
                "sentence": "`fox`, `seashells` or `pizza`",
                "word": "the word",
                "next": "the word that follows",
                "said": "the word that the network gives most probability",
                "probability": "probability of the word that follows",
                "right": "whether the word that follows is the one that is said",
            },
        ),
        "looks": Table(
            "A row is a word that looks at another, in a trained head.",
            key="seed sentence query key",
            columns={
                "seed": "seed of the training",
                "sentence": "`fox`, `seashells` or `pizza`",
            },
            more="attention",
        ),
        "growth": Table(
            "A row is a text: how much the weights of one head over it take.",
            key="words",
            columns={
                "words": "words of the text",
                "weights": "weights of one head: one for each pair of words",
                "bytes": "bytes that they take",
            },
        ),
    }
    reading: ClassVar[Reading] = Reading(
        causal="no: this shows a computation; that a word needs what it looks at is seen only by "
        "training without attention",
        assumes="the walkthrough is read as it was published, and its text says what it should do",
        stressed="every step against torch's own attention, on random numbers; every fault on the "
        "corrected code as well",
        not_shown="that attention explains what a trained language model does; one head that knows "
        "three sentences by heart predicts no others",
    )

    def measure(self, model: "Model | None") -> Results:
        """Walk, attend, train, and time; no model is needed."""
        tables = {name: self.rows(name) for name in ("next_words", "agreement", "looks", "trained")}
        seeds = range(self.seed, self.seed + self.trainings)
        for seed in self.stream(seeds, keep=tables.values(), label="training"):
            for name, rows in self._trained(seed).items():
                tables[name].append(rows)
        kept, lengths = PerPrompt(), [tokens for tokens in TOKENS if tokens <= self.longest]
        for _ in self.stream(range(self.repeats), keep=kept, label="timing"):
            kept.update(**self._timed(lengths))
        frames = {name: rows.frame() for name, rows in tables.items()}
        growth = {"words": lengths, "weights": np.square(lengths), "bytes": kept["bytes"][0]}
        return Results(
            {
                "matrices": pd.concat(
                    [walks(self.seed), untrained(self.seed), frames["trained"]], ignore_index=True
                ),
                "faults": fault_table(self.draws, self.seed),
                "agreement": pd.concat([self._agreement(), frames["agreement"]], ignore_index=True),
                "next_words": frames["next_words"],
                "looks": frames["looks"],
                "growth": pd.DataFrame(growth),
            },
            {name: kept[name] for name in ("heads_seconds", "pattern_seconds")},
        )

    def _trained(self, seed: int) -> dict[str, pd.DataFrame]:
        """What networks say from one seed; the errors and, once, the matrices of the head."""
        made = [(True, 0), (False, self.steps), (True, self.steps)]
        shape = (self.width, self.d_head)
        nets = [trained(*shape, how, seed, steps, self.learning_rate) for how, steps in made]
        said = [walked_predictions(seed), *(predictions(net) for net in nets)]
        told = [rows.assign(network=name) for rows, name in zip(said, NETWORKS, strict=True)]
        errors = training_errors(nets[-1])
        agreed = [(case, "float64", seed, error) for case, error in errors.items()]
        found = {
            "next_words": pd.concat(told).assign(seed=seed),
            "agreement": pd.DataFrame(agreed, columns=["case", "precision", "draw", "error"]),
            "looks": looks(nets[-1]).assign(seed=seed),
        }
        if seed == self.seed:
            found["trained"] = pd.concat([in_numpy(nets[-1], name) for name in SENTENCES])
        return found

    def _agreement(self) -> pd.DataFrame:
        """How far NumPy is from torch, in two precisions, over random words and maps."""
        rows = [
            (case, precision, self.seed + draw)
            for case in CASES
            for precision in ("float32", "float64")
            for draw in range(self.draws)
        ]
        errors = [torch_error(case, kind, np.random.default_rng(draw)) for case, kind, draw in rows]
        return pd.DataFrame(rows, columns=["case", "precision", "draw"]).assign(error=errors)

    def _timed(self, lengths: list[int]) -> dict[str, np.ndarray]:
        """Seconds of heads one by one and together, and of the pattern; each once before."""
        patterns = [pattern(tokens, 32, self.seed) for tokens in lengths for _ in range(2)][1::2]
        heads = [heads_seconds(heads, 2, self.seed)[1] for heads in HEADS]
        taken, seconds = zip(*patterns, strict=True)
        found = {"heads_seconds": heads, "pattern_seconds": seconds, "bytes": taken}
        return {name: np.array([values]) for name, values in found.items()}

    def headline(self, results: Results) -> str:
        """What attention does, what the published code does, and what one head learns."""
        faults = results.tables["faults"].set_index("fault")
        right = _right(results.tables["next_words"])
        said = right.groupby("network")["right"].mean()
        count = int(right["count"].iloc[0])
        return (
            "Self-attention scores each word against every word, turns a word's scores into "
            "weights that sum to 1, and adds the mixture of the values to the word. The published "
            f"walkthrough does not: its weights sum to {1 + faults['size']['no sum']:.1f}, and in "
            "two of three sentences it can only name words of the first. A trained head predicts "
            f"{said['attention']:.3g} of {count} next words; without attention, "
            f"{said['alone']:.3g}."
        )

    def claims(self, results: Results) -> list[Claim]:
        """The faults, what a head learns, what it costs; and that all of it is computed right."""
        tables, arrays = results.tables, results.arrays
        return [
            *_faults(tables["faults"]),
            *self._learned(_right(tables["next_words"])),
            self._together(arrays["heads_seconds"]),
            self._time_grows(arrays["pattern_seconds"], tables["growth"]),
            *_checks(tables),
        ]

    def _over(self, values: np.ndarray) -> Estimate:
        """The mean with its interval; of few values there is none."""
        found = bootstrap(np.asarray(values, dtype=float)[:, None], self.seed)
        return Estimate(*(x.item() for x in (found.estimate, found.low, found.high, found.n)))

    def _learned(self, right: pd.DataFrame) -> list[Claim]:
        """With one head of attention, and without."""
        share_right = right.assign(share=right["right"] / right["count"])
        wide = share_right.pivot(index="seed", columns="network", values="share")
        needs = f"{FEWEST} trainings or more (--trainings)"
        return [
            Claim.mechanical(
                "One head of attention, trained on three sentences, predicts at least 99 % of "
                "their next words.",
                self._over(wide["attention"]), above=0.99, null=float(wide["untrained"].mean()),
                null_note="the same head before training", needs=needs,
                unit="share of next words, mean over trainings",
                decide="longer trainings (--steps)",
            ),
            Claim.mechanical(
                "Without attention the same network predicts fewer: “the” has two next words, and "
                "only looking back tells which.",
                self._over(wide["attention"] - wide["alone"]), above=0, null=0,
                null_note="no difference", needs=needs, decide="longer trainings (--steps)",
                unit="difference of the shares of next words, mean over trainings",
            ),
        ]  # fmt: skip

    def _together(self, seconds: np.ndarray) -> Claim:
        ratio = seconds[:, -1, 0] / seconds[:, -1, 1]
        return Claim.mechanical(
            f"{HEADS[-1]} heads computed in one product take less time than one after another.",
            self._over(ratio), above=1, null=1, null_note="the same time",
            unit="time one after another over time together, 32 words, mean over repeats",
            needs=f"{FEWEST} repeats or more (--repeats)", more="repeats (--repeats)",
        )  # fmt: skip

    def _time_grows(self, seconds: np.ndarray, growth: pd.DataFrame) -> Claim:
        long = (growth["words"] >= LONG).to_numpy()
        found = None
        if long.sum() > 1:
            lengths = np.log(growth["words"].to_numpy()[long])
            found = self._over(np.polyfit(lengths, np.log(seconds[:, long]).T, 1)[0])
        return Claim.mechanical(
            "The time of a pattern grows faster than the text.",
            found, above=1, null=1, null_note="time in proportion to the words; 2 is the square",
            unit=f"power of the number of words, from {LONG} words on, mean over repeats",
            needs=f"{FEWEST} repeats or more (--repeats), and texts of 512 words (--longest)",
            more="repeats (--repeats)",
        )  # fmt: skip

    def figures(self, results: Results) -> dict[str, Drawing]:
        """The trained head first; then the steps from the walkthrough to many heads, in order."""
        tables, arrays = results.tables, results.arrays
        return {
            **_trained_figures(tables["matrices"], self.steps),
            **_walk_figures(tables["matrices"]),
            **_notes_figure(tables["matrices"]),
            **_sums_figure(tables["matrices"]),
            **_mask_figure(tables["matrices"]),
            **_cross_figure(tables["matrices"]),
            **_proposals_figure(tables["matrices"]),
            **_timed_figure(arrays["heads_seconds"]),
            **_growth_figure(tables["growth"]),
            **_chances_figure(tables["matrices"]),
            **_looks_figures(tables["looks"]),
            **_right_figure(tables["next_words"]),
        }


def _right(said: pd.DataFrame) -> pd.DataFrame:
    """How many next words each network says, by seed."""
    by = said.groupby(["network", "seed"])["right"]
    return by.agg(right="sum", count="count").reset_index()


def _faults(faults: pd.DataFrame) -> list[Claim]:
    """In how many runs each fault of the published code shows, beside the corrected code."""
    return [
        Claim.mechanical(
            fault.sentence.format(size=row["size"]),
            None if np.isnan(row["size"]) else share(int(row["shown"]), int(row["n"])),
            above=0.5, null=row["mended"] / row["n"], null_note="the corrected code",
            unit="share of runs in which it shows",
            family="Faults of the published walkthrough", label=fault.label,
            needs="more draws (--draws)", more="draws (--draws)",
        )
        for (_, row), fault in zip(faults.iterrows(), FAULTS.values(), strict=True)
    ]  # fmt: skip


def _checks(tables: Mapping[str, pd.DataFrame]) -> list[Claim]:
    """NumPy against torch in every case, rows that sum to 1, and the size of a pattern."""
    agreement, growth = tables["agreement"], tables["growth"]
    words_of = dict.fromkeys(CASES, "NumPy and torch agree: {}.")
    words_of["trained head"] = "NumPy and torch agree: the {}."
    words_of["every beginning by itself"] = (
        "With the mask, one pass predicts after every word what reading {} gives."
    )
    unit = f"largest difference, over the largest number; tolerance {TOLERANCE:g}"
    found = [
        Claim.identity(said.format(case), rows["error"], within=TOLERANCE, unit=unit)
        for case, said in words_of.items()
        for rows in [agreement[agreement["case"] == case]]
    ]
    weights = tables["matrices"].query("step == 'Weights'")
    sums = weights.groupby(["example", "row"])["value"].sum()
    pairs = growth["bytes"] / growth["words"] ** 2 / 4 - 1
    return [
        *found,
        Claim.identity("Every row of weights sums to 1.", (sums - 1).abs(), within=TOLERANCE),
        Claim.identity(
            "A head has one weight for each pair of words: twice the text takes four times the "
            "memory.", pairs.abs(), within=0,
        ),
    ]  # fmt: skip


def _trained_figures(matrices: pd.DataFrame, taken: int) -> dict[str, Drawing]:
    asked = [f"“{word}”" for word in words(SHOWN)]
    about = {
        word: f"The query of {word} meets the key of every word up to itself: their numbers are "
        "multiplied, added up and divided by the root of their length; softmax makes weights."
        for word in asked
    }
    return {
        "Every step of a trained head": step_by_step(
            _example(matrices, f"trained {SHOWN}"), about=ABOUT, hover="how", first="Weights",
            caption=f"One head that was trained for {taken} steps, on “{SENTENCES[SHOWN]}”. Move "
            "the slider from step to step; point at a cell to see the sum that it comes from, such "
            "as a query that meets a key. Rows are words that look, columns of scores and weights "
            "are words that are looked at; empty or hatched: hidden by the mask.",
        ),
        "The query of each word meets every key": step_by_step(
            _example(matrices, f"meets {SHOWN}"), about=about, first=asked[-2],
            caption="The same head, word by word: move the slider to choose the word that looks. "
            "Each row is a word that is looked at, from the products of query and key to its "
            "weight; the weights of a word sum to 1.",
        ),
    }  # fmt: skip


def _example(matrices: pd.DataFrame, name: str) -> pd.DataFrame:
    return matrices[matrices["example"] == name].drop(columns="example")


def _walk_figures(matrices: pd.DataFrame) -> dict[str, Drawing]:
    """Published and corrected side by side, a figure a sentence."""
    found = {}
    for name, sentence in SENTENCES.items():
        sides = [
            _example(matrices, f"{name} {side}").assign(side=side)
            for side in ("published", "corrected")
        ]
        named = sides[1]["step"] == list(WALKED)[-1]
        best = sides[1][named].nlargest(MOST_NAMED, "value")
        both = pd.concat([sides[0], sides[1][~named], best])
        order = both["step"].map(list(WALKED).index)
        found[f"1. The published walkthrough, and corrected: {name}"] = step_by_step(
            both.iloc[np.argsort(order, kind="stable")], about=WALKED, side="side", hover="how",
            first="Attention weights",
            caption=f"“{sentence}”: what the published code computes, and beside it what it says "
            "that it does, on the same random embeddings. Nothing is learned on either side, so "
            "the word of the corrected code is right by luck only.",
        )  # fmt: skip
    return found


def _notes_figure(matrices: pd.DataFrame) -> dict[str, Drawing]:
    return {
        "2. Queries, keys and values": step_by_step(
            _example(matrices, "notes"), about=ABOUT, hover="how",
            caption="One head as in the notes, with random weights: no mask, no output map. "
            f"“{SENTENCES[SHOWN]}” is multiplied by three maps; each query meets each key; softmax "
            "makes weights of each row of scores; the weights mix the values.",
        )
    }  # fmt: skip


def _sums_figure(matrices: pd.DataFrame) -> dict[str, Drawing]:
    weights = _example(matrices, "notes").query("step == 'Weights'")
    summed = {"its row": "row", "its column": "column"}
    parts = [
        weights.groupby(axis, sort=False)["value"].sum().rename_axis("word").reset_index()
        .assign(sum=series)
        for series, axis in summed.items()
    ]  # fmt: skip
    return {
        "3. Rows sum to 1, columns do not": bars(
            pd.concat(parts).rename(columns={"value": "sum of the weights"}), "word",
            "sum of the weights", series="sum", reference=1,
            caption="Sums of the weights of that head. A word’s row is what it looks at: softmax "
            "is taken of rows, so each word shares out a weight of 1. A word’s column is how much "
            "it is looked at, which is not fixed. Nothing is summed over heads: each has rows of "
            "its own that sum to 1.",
        )
    }  # fmt: skip


def _mask_figure(matrices: pd.DataFrame) -> dict[str, Drawing]:
    plain, masked = (_example(matrices, name) for name in ("notes", "mask"))
    masked = masked[masked["step"] != "Scores"].replace({"step": {"Mask": "Scores"}})
    sides = {"without a mask": plain, "with a mask": masked}
    both = pd.concat([part.assign(side=side) for side, part in sides.items()])
    both = [both[both["step"] == step] for step in ("Scores", "Weights", "Mixed values")]
    return {
        "4. A mask hides later words": step_by_step(
            pd.concat(both), about=ABOUT | {"Scores": ABOUT["Mask"]}, side="side", hover="how",
            first="Weights",
            caption="The same head without and with a mask, as in a language model: no word sees "
            "a later one. The weights of each row are made of what is left, and still sum to 1.",
        )
    }  # fmt: skip


def _cross_figure(matrices: pd.DataFrame) -> dict[str, Drawing]:
    return {
        "5. Cross-attention looks at another text": step_by_step(
            _example(matrices, "cross"), about=ABOUT, hover="how", first="Weights",
            caption=f"Queries are of “{SENTENCES[SHOWN]}”, keys and values of "
            f"“{SENTENCES[OTHER]}”; nothing else changes. The weights need not be square, and each "
            "row sums to 1.",
        )
    }  # fmt: skip


def _proposals_figure(matrices: pd.DataFrame) -> dict[str, Drawing]:
    rows = _example(matrices, "heads")
    rows = rows.assign(written=[f"{v:.2f}".replace("-", "−") for v in rows["value"].round(2) + 0.0])
    rows = rows.rename(columns={"row": "vector", "column": "number of the word’s vector"})
    return {
        "6. Each head proposes a change, and the changes are added": heat_map(
            rows, "vector", "number of the word’s vector", "value", text="written",
            label="value", diverging=True,
            caption="Several heads with random weights and a mask. Each proposes a change of the "
            f"word “{words(SHOWN)[-2]}”; the changes are added to each other and to the word. That "
            "is the same as setting the heads’ mixtures side by side and using one large output "
            "map, as torch does.",
        )
    }  # fmt: skip


def _timed_figure(seconds: np.ndarray) -> dict[str, Drawing]:
    rows = []
    for column, way in enumerate(("one after another", "all in one product")):
        low, middle, high = np.quantile(1000 * seconds[:, :, column], [0.25, 0.5, 0.75], axis=0)
        parts = {"time (milliseconds)": middle, "low": low, "high": high}
        rows.append(pd.DataFrame({"heads": HEADS, "way": way} | parts))
    return {
        "7. Heads are computed in parallel": curves(
            pd.concat(rows), "heads", "time (milliseconds)", series="way",
            caption="Time of a layer of attention over 32 words by its number of heads. No head "
            "waits for another, so all of them can be one product; the result is the same. "
            f"Medians of {len(seconds)} repeats; bands hold the middle half of them.",
        )
    }  # fmt: skip


def _growth_figure(growth: pd.DataFrame) -> dict[str, Drawing]:
    rows = growth.assign(**{"weights of one head (MiB)": growth["bytes"] / 2**20})
    return {
        "8. The pattern grows with the square of the text": curves(
            rows, "words", "weights of one head (MiB)",
            caption="Memory that the weights of one head take in single precision. Each word has "
            "a weight for each word: twice the words are four times the weights.",
        )
    }  # fmt: skip


def _chances_figure(matrices: pd.DataFrame) -> dict[str, Drawing]:
    parts = []
    for name in SENTENCES:
        follows = dict(zip(words(name), words(name)[1:], strict=False))
        part = _example(matrices, f"trained {name}").query("step == 'Next word'")
        part = part[part["row"].isin(list(follows))]
        parts.append(part.assign(row=[f"{word}→{follows[word]}" for word in part["row"]]))
    rows = pd.concat(parts).rename(
        columns={"row": "word → its next", "column": "word that is said"}
    )
    return {
        "9. Every beginning is predicted at once": heat_map(
            rows, "word → its next", "word that is said", "value", low=0, high=1,
            label="probability (each row sums to 1)",
            caption="What the trained head says after each word of the three sentences. A sentence "
            "is read once: thanks to the mask each row sees the words up to its own only, so one "
            "pass answers for every beginning of the sentence. “the” is answered twice, by what "
            "stands before it.",
        )
    }  # fmt: skip


def _looks_figures(seen: pd.DataFrame) -> dict[str, Drawing]:
    """The sentences with “the”: the heads of all trainings."""
    found = {}
    for name in list(SENTENCES)[:2]:
        first, *others = words(name)
        rows = seen[seen["sentence"] == name].assign(layer=0).rename(columns={"seed": "head"})
        drawn = attention_patterns(
            rows, [first, *(f" {word}" for word in others)], by_token=True,
            caption=f"Weights of the trained head on “{SENTENCES[name]}”, one pattern a training "
            "(by its seed). Below them, point at a word to see which words its query meets and how "
            "much weight each gets. The heads say the same next words and look at different words "
            "to do so: a pattern shows what is looked at, not that nothing else would do.",
        )  # fmt: skip
        found[f"10. What each word looks at: {name}"] = replace(drawn, heading="By training")
    return found


def _right_figure(said: pd.DataFrame) -> dict[str, Drawing]:
    right = _right(said)
    shares = right["right"].div(right["count"]).groupby(right["network"])
    rows = shares.agg(**{"right (share)": "mean", "low": "min", "high": "max"}).loc[list(NETWORKS)]
    return {
        "11. How many next words are right": bars(
            rows.rename(NETWORKS).reset_index(), "network", "right (share)",
            caption="Share of the next words of the three sentences that are said, mean over "
            "trainings; lines go from the lowest to the highest. The corrected walkthrough learns "
            "nothing and stays at luck. Without attention one of the two words after “the” must be "
            "wrong. What a language model looks at in a sentence is asked in adjective_noun.",
        )
    }  # fmt: skip
