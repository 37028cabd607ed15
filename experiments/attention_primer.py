"""What does self-attention compute, step by step?"""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from experiments import Claim, Experiment, Reading, Results, Table
from lenses.flow import primer_rows
from lenses.flow.described_noun import NOUN_STEPS, noun_rows
from lenses.flow.examples import NETWORKS, OTHER, SHOWN, TRAINED, example_cells, training
from lenses.flow.primer import CASES, HEADS, LONG, agreement, growth_table, powers_of_time, timed
from lenses.flow.spelled import ABOUT, WALKED, about_meeting
from lenses.flow.walkthrough import FAULTS, fault_table
from lenses.kept import PerPrompt
from lenses.statistics.intervals import FEWEST, bootstrap, share
from prompts.walkthrough import SENTENCES, spaced, words
from viz import Drawing, attention_patterns, bars, curves, heat_map, step_by_step

if TYPE_CHECKING:
    from models import Model

TOLERANCE = 1e-6
COLUMNS = {
    "example": "what is computed: a sentence with `published` or `corrected` (the walkthrough); "
    "`notes`, `mask`, `cross`, `heads` with random weights; `trained` or `meets` (query and keys) "
    "before a sentence; `noun` (a language model)",
    "step": "the matrix",
    "row": "the row's word or number",
    "column": "the column's word or number",
    "value": "the number; empty where a mask hides it",
    "how": "the sum or the word that it comes from",
    "fault": "the fault",
    "shown": "in how many of n runs it shows",
    "mended": "in how many of n runs of the corrected code it shows",
    "size": "how large it is on average, in its own unit",
    "corrected_size": "the same in the corrected code",
    "case": "what is computed",
    "precision": "number format: `float32` or `float64`",
    "error": "largest difference over the largest number of the result",
    "network": "; ".join(f"`{name}`: {what}" for name, what in NETWORKS.items()),
    "sentence": "`fox`, `seashells` or `pizza`",
    "next": "the word that follows",
    "said": "the word that the network gives most probability",
    "probability": "probability of the word that follows",
    "right": "whether the word that follows is the one that is said",
    "words": "words of the text",
    "weights": "weights of one head: one for each pair of words",
    "bytes": "bytes that they take",
}
_table = partial(Table.of, COLUMNS)


class AttentionPrimer(Experiment):
    """Attention over short sentences is computed step by step, in plain NumPy and by torch, and
    drawn matrix by matrix.

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
    takes_model: ClassVar[bool] = True
    related: ClassVar[tuple[str, ...]] = ("adjective_noun", "attention_glimpse")
    runs_on: ClassVar[str] = "no model 10 s"
    quick: ClassVar[dict[str, Any]] = {
        "trainings": 2, "steps": 30, "draws": 4, "repeats": 2, "longest": 128,
    }  # fmt: skip

    model: str = "none"
    """Language model that reads the sentence of the last step; none leaves this step out."""
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
        "matrices": _table("A row is a cell of a matrix of one of the examples that are drawn.",
            "example step row column", "value how"),
        "faults": _table(
            "A row is a fault of the published walkthrough, over random embeddings and sentences.",
            "fault", "shown mended size corrected_size n"),
        "agreement": _table(
            "A row is something computed in two ways, by NumPy and by torch or in another order.",
            "case precision draw", "error"),
        "next_words": _table("A row is a word and what a network says comes after it.",
            "network seed sentence pos", "word next said probability right"),
        "looks": _table("A row is a word that looks at another, in a trained head.",
            "seed sentence query key", "attention"),
        "growth": _table("A row is a text: how much the weights of one head over it take.",
            "words", "weights bytes"),
    }  # fmt: skip
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
        """Walk, attend, train, and time; a model, where one is given, reads a sentence."""
        noun = noun_rows(model if self.has_model else None)  # first: it may be refused
        rows, kept = {name: self.rows(name) for name in TRAINED}, PerPrompt()
        for number in self.stream(range(self.trainings), keep=rows.values(), label="training"):
            how = (self.width, self.d_head, self.seed + number, self.steps, self.learning_rate)
            for name, part in training(*how, drawn=number == 0).items():
                rows[name].append(part)
        for _ in self.stream(range(self.repeats), keep=kept, label="timing"):
            kept.update(**timed(self.longest, self.seed))
        found = {name: part.frame() for name, part in rows.items()} | {
            "faults": fault_table(self.draws, self.seed),
            "growth": growth_table(kept["bytes"][0]),
        }
        found["matrices"] = example_cells(self.seed, found.pop("trained"), *noun)
        found["agreement"] = agreement(self.draws, self.seed, found["agreement"])
        arrays = {name: kept[name] for name in ("heads_seconds", "pattern_seconds")}
        return Results({name: found[name] for name in self.tables}, arrays)

    def headline(self, results: Results) -> str:
        """What attention does, what the published code does, and what one head learns."""
        faults = results.tables["faults"].set_index("fault")
        said = primer_rows.right_words(results.tables["next_words"]).groupby("network").mean()
        return (
            "Self-attention scores each word against every word, turns a word's scores into "
            "weights that sum to 1, and adds the mixture of the values to the word. The published "
            f"walkthrough does not: its weights sum to {1 + faults['size']['no sum']:.1f}, and in "
            "two of three sentences it can only name words of the first. A trained head predicts "
            f"{said['right']['attention']:.3g} of {said['count']['attention']:.0f} next words; "
            f"without attention, {said['right']['alone']:.3g}."
        )

    def claims(self, results: Results) -> list[Claim]:
        """The faults, what a head learns, what it costs; and that all of it is computed right."""
        return [
            *_faults(results.tables["faults"]),
            *self._learned(primer_rows.right_words(results.tables["next_words"])),
            *self._costs(results),
            *_checks(results.tables),
        ]

    def _learned(self, right: pd.DataFrame) -> list[Claim]:
        """With one head of attention, and without."""
        wide = right.pivot(index="seed", columns="network", values="share")
        enough, most = len(wide) >= FEWEST, wide[["attention", "untrained"]] >= 0.99
        fewer = wide["alone"] < wide["attention"]
        how = {"above": 0.5, "needs": f"{FEWEST} trainings or more (--trainings)",
               "unit": "share of trainings", "decide": "longer trainings (--steps)"}  # fmt: skip
        return [
            Claim.mechanical(
                "One head of attention, trained on three sentences, predicts at least 99 % of "
                "their next words, in more than half of the trainings.",
                share(most["attention"].sum(), len(wide)) if enough else None,
                null=float(most["untrained"].mean()), null_note="the same head before training",
                **how,
            ),
            Claim.mechanical(
                "Without attention the same network predicts fewer next words in more than half "
                "of the trainings: “the” has two, and only looking back tells which.",
                share(fewer.sum(), len(wide)) if enough else None,
                null=0.5, null_note="as often fewer as not", **how,
            ),
        ]  # fmt: skip

    def _costs(self, results: Results) -> list[Claim]:
        """Of heads one after another and together, and of longer texts."""
        apart, together = results.arrays["heads_seconds"][:, -1].T
        powers = powers_of_time(results.arrays["pattern_seconds"])
        needs, more = f"{FEWEST} repeats or more (--repeats)", "repeats (--repeats)"
        return [
            Claim.mechanical(
                f"{HEADS[-1]} heads computed in one product take less time than one after another.",
                bootstrap(apart / together, self.seed), above=1, null=1, null_note="the same time",
                unit="time one after another over time together, 32 words, mean over repeats",
                needs=needs, more=more,
            ),
            Claim.mechanical(
                "The time of a pattern grows faster than the text.",
                bootstrap(powers, self.seed), above=1, null=1,
                null_note="time in proportion to the words; 2 is the square",
                unit=f"power of the number of words, from {LONG} words on, mean over repeats",
                needs=f"{needs}, and texts of 512 words (--longest)", more=more,
            ),
        ]  # fmt: skip

    def figures(self, results: Results) -> dict[str, Drawing]:
        """The trained head first; then the steps from the walkthrough to many heads, in order."""
        tables, matrices = results.tables, results.tables["matrices"]
        return (
            _trained_figures(matrices, self.steps)
            | _walk_figures(matrices)
            | _one_head_figures(matrices)
            | _other_words_figures(matrices)
            | _cost_figures(results.arrays["heads_seconds"], tables["growth"])
            | _next_word_figures(tables)
            | _noun_figure(matrices, self.model)
        )


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
    errors, growth = tables["agreement"].groupby("case")["error"], tables["growth"]
    said = {case: f"NumPy and torch agree: {case}." for case in CASES} | {
        "trained head": "NumPy and torch agree: the trained head.",
        "every beginning by itself": "With the mask, one pass predicts after every word what "
        "reading every beginning by itself gives.",
    }
    unit = f"largest difference, over the largest number; tolerance {TOLERANCE:g}"
    agrees = partial(Claim.identity, within=TOLERANCE, unit=unit)
    sums = primer_rows.sums_of_rows(tables["matrices"])
    pairs = growth["bytes"] / growth["words"] ** 2 / 4 - 1
    return [
        *(agrees(sentence, errors.get_group(case)) for case, sentence in said.items()),
        Claim.identity("Every row of weights sums to 1.", (sums - 1).abs(), within=TOLERANCE),
        Claim.identity(
            "A head has one weight for each pair of words: twice the text takes four times the "
            "memory.", pairs.abs(), within=0,
        ),
    ]  # fmt: skip


def _trained_figures(matrices: pd.DataFrame, taken: int) -> dict[str, Drawing]:
    return {
        "Every step of a trained head": step_by_step(
            primer_rows.example(matrices, f"trained {SHOWN}"), about=ABOUT, hover="how",
            first="Weights",
            caption=f"One head that was trained for {taken} steps, on “{SENTENCES[SHOWN]}”. Move "
            "the slider from step to step; point at a cell to see the sum that it comes from, such "
            "as a query that meets a key. Rows are words that look, columns of scores and weights "
            "are words that are looked at; empty or hatched: hidden by the mask.",
        ),
        "The query of each word meets every key": step_by_step(
            primer_rows.example(matrices, f"meets {SHOWN}"),
            about=about_meeting(words(SHOWN)), first=f"“{words(SHOWN)[-2]}”",
            caption="The same head, word by word: move the slider to choose the word that looks. "
            "Each row is a word that is looked at, from the products of query and key to its "
            "weight; the weights of a word sum to 1.",
        ),
    }  # fmt: skip


def _walk_figures(matrices: pd.DataFrame) -> dict[str, Drawing]:
    """Published and corrected side by side, a figure a sentence."""
    return {
        f"1. The published walkthrough, and corrected: {name}": step_by_step(
            primer_rows.both_walks(matrices, name), about=WALKED, side="side", hover="how",
            first="Attention weights",
            caption=f"“{sentence}”: what the published code computes, and beside it what it says "
            "that it does, on the same random embeddings. Nothing is learned on either side, so "
            "the word of the corrected code is right by luck only.",
        )
        for name, sentence in SENTENCES.items()
    }  # fmt: skip


def _one_head_figures(matrices: pd.DataFrame) -> dict[str, Drawing]:
    return {
        "2. Queries, keys and values": step_by_step(
            primer_rows.example(matrices, "notes"), about=ABOUT, hover="how",
            caption="One head as in the notes, with random weights: no mask, no output map. "
            f"“{SENTENCES[SHOWN]}” is multiplied by three maps; each query meets each key; softmax "
            "makes weights of each row of scores; the weights mix the values.",
        ),
        "3. Rows sum to 1, columns do not": bars(
            primer_rows.sums_of_weights(matrices), "word", "sum of the weights",
            series="sum", reference=1,
            caption="Sums of the weights of that head. A word’s row is what it looks at: softmax "
            "makes it sum to 1. A word’s column is how much it is looked at, which is not fixed. "
            "Heads are not added up: each has rows of its own that sum to 1.",
        ),
    }  # fmt: skip


def _other_words_figures(matrices: pd.DataFrame) -> dict[str, Drawing]:
    """Which words are looked at: earlier ones, those of another text, by each of several heads."""
    return {
        "4. A mask hides later words": step_by_step(
            primer_rows.with_and_without_mask(matrices), about=ABOUT | {"Scores": ABOUT["Mask"]},
            side="side", hover="how", first="Weights",
            caption="The same head without and with a mask, as in a language model: no word sees "
            "a later one. The weights of each row are made of what is left, and still sum to 1.",
        ),
        "5. Cross-attention looks at another text": step_by_step(
            primer_rows.example(matrices, "cross"), about=ABOUT, hover="how", first="Weights",
            caption=f"Queries are of “{SENTENCES[SHOWN]}”, keys and values of "
            f"“{SENTENCES[OTHER]}”; nothing else changes. The weights need not be square, and each "
            "row sums to 1.",
        ),
        "6. Each head proposes a change, and the changes are added": heat_map(
            primer_rows.written_proposals(matrices), "vector", "number of the word’s vector",
            "value", text="written", label="value", diverging=True,
            caption="Several heads with random weights and a mask. Each proposes a change of the "
            f"word “{words(SHOWN)[-2]}”; the changes are added to each other and to the word. That "
            "is the same as setting the heads’ mixtures side by side and using one large output "
            "map, as torch does.",
        ),
    }  # fmt: skip


def _cost_figures(seconds: np.ndarray, growth: pd.DataFrame) -> dict[str, Drawing]:
    return {
        "7. Heads are computed in parallel": curves(
            primer_rows.middle_half(seconds, HEADS), "heads", "time (milliseconds)", series="way",
            caption="Time of a layer of attention over 32 words by its number of heads. No head "
            "waits for another, so all of them can be one product; the result is the same. "
            f"Medians of {len(seconds)} repeats; bands hold the middle half of them.",
        ),
        "8. The pattern grows with the square of the text": curves(
            growth.assign(**{"weights of one head (MiB)": growth["bytes"] / 2**20}), "words",
            "weights of one head (MiB)",
            caption="Memory that the weights of one head take in single precision. Each word has "
            "a weight for each word: twice the words are four times the weights.",
        ),
    }  # fmt: skip


def _next_word_figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, Drawing]:
    """What a trained head says next, what each word looks at to say so, and how much is right."""
    return {
        "9. Every beginning is predicted at once": heat_map(
            primer_rows.chances(tables["matrices"]), "word → its next", "word that is said",
            "value", low=0, high=1, label="probability (each row sums to 1)",
            caption="What the trained head says after each word of the three sentences. A sentence "
            "is read once: thanks to the mask each row sees the words up to its own only, so one "
            "pass answers for every beginning. “the” is answered twice, by what stands before it.",
        ),
        **_looks_figures(tables["looks"]),
        "11. How many next words are right": bars(
            primer_rows.shares_right(tables["next_words"]), "network", "right (share)",
            caption="Share of the next words of the three sentences that are said, mean over "
            "trainings; lines go from the lowest to the highest. The corrected walkthrough learns "
            "nothing and stays at luck. Without attention one of the two words after “the” must be "
            "wrong.",
        ),
    }  # fmt: skip


def _looks_figures(seen: pd.DataFrame) -> dict[str, Drawing]:
    """The sentences with “the”: the heads of all trainings."""
    return {
        f"10. What each word looks at: {name}": attention_patterns(
            primer_rows.by_training(seen, name), spaced(name), by_token=True, heading="By training",
            caption=f"Weights of the trained head on “{SENTENCES[name]}”, one pattern a training "
            "(by its seed). Below them, point at a word to see which words its query meets and how "
            "much weight each gets. The heads say the same next words and look at different words "
            "to do so: a pattern shows what is looked at, not that nothing else would do.",
        )
        for name in list(SENTENCES)[:2]
    }  # fmt: skip


def _noun_figure(matrices: pd.DataFrame, model: str) -> dict[str, Drawing]:
    if (rows := primer_rows.example(matrices, "noun")).empty:
        return {}
    drawn = step_by_step(
        rows, about=NOUN_STEPS, hover="how",
        caption=f"“a fluffy blue creature …”, read by {model}: where the noun looks in each layer, "
        "how far that turns its state, and what is predicted next with its adjectives and without. "
        "One sentence is an example: adjective_noun asks this of many, with controls.",
    )  # fmt: skip
    return {"12. A language model reads what describes a noun": drawn}
