"""Do adjectives reach the noun they describe?"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from experiments import Claim, Experiment, Reading, Results, Table, UsageError, corrected
from lenses.flow import noun_tables
from lenses.flow.descriptions import Case, Sentence, UnfitError, added_sentences, shipped_sentences
from lenses.flow.noun_tables import NounTables, chosen_most
from lenses.kept import PerPrompt
from lenses.states.depths import PASSED
from lenses.statistics.against_random import above_zero_and_others, random_models
from lenses.statistics.intervals import bootstrap
from models.planted.edge import planted_edge
from viz import Drawing, bars, colored_tokens, curves, head_grid, scatter

if TYPE_CHECKING:
    from models import Model

RANDOM_MODELS = 4
"""Models of the same shape with fresh weights, beside which every claim is shown."""
LEAST = 0.05
"""A head tells the noun's own adjective if it attends to it by more than this share more."""
LEVEL = 0.05
MORE = "more frames (prompts/adjectives.toml) or random models"
BEYOND = {
    "attention": (
        "Averaged over all heads, a noun attends more to its own adjective than to the same word "
        "describing something else.",
        "attention to its own adjective, less that to the same word where it describes something "
        "else (control), mean over heads",
    ),
    "all": (
        "Exchanging an adjective moves the noun's state further where the adjective describes that "
        "noun.",
        "log of the length of movements, by its own adjective over by the control, mean over "
        "layers",
    ),
    "edge": (
        "What flows straight from an adjective moves the noun's state further where the adjective "
        "describes that noun.",
        "log of the length of movements, straight from the adjective, own over control, mean over "
        "layers",
    ),
    "other ways": (
        "More than with random weights, an adjective also moves its noun through other words, or "
        "by how much it is attended to.",
        "what the straight flow falls short of, as a share of the whole movement, mean over layers",
    ),
}
"""Statistics of `against_random`: the claim that they lie above zero and random weights, unit."""
PATCHED = {
    "all": "own, text",
    "edge": "own, straight",
    "control": "control, text",
    "control edge": "control, straight",
}
"""What is exchanged, in words."""


class AdjectiveNoun(Experiment):
    """The state of a noun is read after its own adjective (a fluffy creature), and after the
    same word describing something else.

    In "A fluffy blue creature" *fluffy* describes the creature; in "Something fluffy gives creature
    comforts" it does not (the control). The two words are the same tokens, equally far apart and
    from the start; what stands before the noun tells which it is. Two things are compared. One is
    the attention of the noun's last token to the adjective. The other is how far the noun's state
    moves when the adjective is exchanged for another (fluffy, smooth): in the text, or only in what
    flows straight from the adjective to the noun. This straight flow, the edge, is
    z_i += alpha_ij (v'_j - v_j) in every head of every layer. Movement is measured along that of
    the noun when its own adjective is exchanged in the text, which is 1.

    Sentences of a frame share their other words, so frames are the unit: estimates are means over
    frames of means over sentences, and intervals (95 %) resample frames.

    An adder has no adjectives. For it the noun is the token that predicts an answer digit, its
    adjectives are the two digits of its column, and the control is the mean of the tokens before
    and after that token. Every addition is a frame.
    """

    runs_on: ClassVar[str] = "adder 5 s, language model minutes"
    quick: ClassVar[dict[str, Any]] = {"additions": 8}

    model: str = "smollm2"
    """Model: a card's name, a path to a card, folder or .gguf file, or a hub id."""
    additions: int = Field(24, ge=2)
    """Additions sampled for an adder."""
    batch_size: int = Field(4, ge=1)
    """Sentences between two checkpoints; each passes the model by itself."""

    tables: ClassVar[Mapping[str, Table]] = {
        "sentences": Table(
            "A row is a sentence with its control, and whether it was read.",
            key="frame text",
            columns={
                "frame": "what sentences with the same other words share; an addition",
                "text": "the sentence in which the adjective describes the noun",
                "control": "that in which it describes something else; an adder has two of them",
                "noun": "the noun; the token before the digit that an adder predicts",
                "adjective": "the adjective; the two digits of the column",
                "instead": "what it is exchanged for",
                "distance": "tokens from the adjective to the noun; next to each other is 1",
                "tokens": "tokens of the text up to the noun",
                "own_attention": "attention to the noun's own adjective by the best head",
                "control_attention": "attention to the same word in the control by that head",
                "skipped": "why the sentence was not read; empty if it was",
            },
        ),
        "attention": Table(
            "A row is a head: its attention from the noun to the adjective, mean over frames.",
            key="layer head",
            columns={
                "own": "attention to the noun's own adjective",
                "control": "attention to the same word describing something else",
                "estimate": "own less control",
            },
            more="low high n p q p_any",
        ),
        "best": Table(
            "A row is a frame, with the head that tells the adjective best in all other frames.",
            key="frame",
            columns={
                "frame": "the frame in which the head is measured",
                "estimate": "attention of that head in this frame, own less control",
                "p": "one-sided p of the mean of these; heads chosen anew as signs are flipped",
            },
            more="layer head",
        ),
        "distances": Table(
            "A row is the attention of the best head at one distance from adjective to noun.",
            key="distance adjective",
            columns={
                "distance": "tokens from the adjective to the noun; next to each other is 1",
                "adjective": "`own`, or `control` where it describes something else",
                "estimate": "attention from the noun to the adjective, mean over frames",
            },
            more="low high n",
        ),
        "movement": Table(
            "A row is how far the noun's state, as a layer hands it on, moves when an adjective is "
            "exchanged.",
            key="statistic patched layer",
            columns={
                "statistic": "`along`: along the movement by its own adjective in the text, which "
                "is 1; `length`: any movement, over the length of the state",
                "patched": "`all`: in the text; `edge`: only what flows straight to the noun; the "
                "same with `control`",
                "estimate": "movement, mean over frames",
            },
            more="low high n",
        ),
        "edges": Table(
            "A row is how far the noun's last state moves when the edge from adjective to noun is "
            "exchanged in one head, or in one layer; the first sentence of each frame.",
            key="layer head",
            columns={
                "head": "number of the head in its layer, from 0; empty for all of the layer",
                "estimate": "share of the movement by its own adjective in the text",
            },
            more="low high n",
        ),
        "against_random": Table(
            "A row is a statistic of one frame, with the model's own weights or random ones.",
            key="weights statistic frame",
            columns={
                "statistic": "`best head` and `attention` (mean over heads): own less control; "
                "`all` and `edge`: log of movements, own over control; `other ways`: 1 less the "
                "movement by the edge",
                "frame": "the frame that is read",
                "value": "the statistic in this frame",
            },
        ),
        "example": Table(
            "A row is a token of the first sentence, or of its control, as its noun sees it.",
            key="adjective pos",
            columns={
                "adjective": "`own`, or `control` where it describes something else",
                "attention": "attention of the noun to the token by the best head",
            },
            more="token",
        ),
    }
    reading: ClassVar[Reading] = Reading(
        causal="yes for movement: an adjective is exchanged in the text, or in what flows straight "
        "from it to the noun; attention is only observed",
        assumes="a sentence and its control differ in nothing but what the adjective describes, "
        "and these frames stand for others",
        stressed="that the best of many heads is no luck: it is chosen in other frames than those "
        "it is measured in; that it was learned: 4 models with random weights read the same",
        not_shown="that the model knows what describes what: the words between the two may be "
        "enough to tell; or that a head that attends less does not matter",
    )

    def measure(self, model: "Model") -> Results:
        """Attention and movement of every noun; then single edges; then random models."""
        read, skipped = self._read_texts(model)
        cases, frames = [one.case for one in read], [one.case.frame for one in read]
        kept = self._kept(partial(noun_tables.read_noun, model), cases, "reading")
        own = NounTables(kept, frames, self.seed)
        best = own.best()
        layer, head = chosen_most(best)
        both = np.stack([kept[name][:, layer, head] for name in ("own", "control")], axis=1)
        distances = [case.distance for case in cases]
        first = noun_tables.first_of_frames(cases)
        edges = self._kept(partial(noun_tables.read_single_edges, model), first, "single edges")
        return Results(
            {
                "sentences": noun_tables.sentence_rows(read, both, skipped),
                "attention": own.attention(),
                "best": best.assign(p=own.p_of_best()),
                "distances": noun_tables.by_distance(both, distances, frames, self.seed),
                "movement": own.movement(),
                "edges": noun_tables.edge_table(edges["share"], self.seed),
                "against_random": self._against_random(model, cases, own),
                "example": noun_tables.example_rows(model, read[0], layer, head),
            }
        )

    def _read_texts(self, model: "Model") -> tuple[list[Sentence], list[dict[str, str]]]:
        """What can be read, and rows of `sentences` that cannot."""
        if model.card.arithmetic is None and model.tokenizer is None:
            raise UsageError(f"{model.card.name} reads no text; take a language model")
        try:
            if model.card.arithmetic is not None:
                return added_sentences(model, self.additions, self.seed), []
            return shipped_sentences(model)
        except UnfitError as error:
            raise UsageError(f"{model.card.name}: {error}") from error

    def _kept(self, read: Callable[[Case], dict], cases: list[Case], label: str) -> PerPrompt:
        """What is read of each case."""
        kept = PerPrompt()
        for batch in self.stream(cases, kept, label, size=self.batch_size):
            for case in batch:
                kept.update(**read(case))
        return kept

    def _against_random(self, model: "Model", cases: list[Case], own: NounTables) -> pd.DataFrame:
        """What the claims are about, by frame: own weights, then random ones."""
        rows, frames = [own.compared("own")], [case.frame for case in cases]
        for number, twin in enumerate(self.twins(model, RANDOM_MODELS)):
            label = f"random weights {number + 1}/{RANDOM_MODELS}"
            kept = self._kept(partial(noun_tables.read_noun, twin), cases, label)
            rows.append(NounTables(kept, frames, self.seed).compared(f"random {number}"))
        return pd.concat(rows, ignore_index=True)

    def headline(self, results: Results) -> str:
        """Which head tells a noun's own adjective, and how much further it moves the noun."""
        head, _, moved, *_ = self.claims(results)
        if head.estimate is None or moved.estimate is None:
            return "Nothing can be said: no frame has all the numbers that it takes."
        layer, number = chosen_most(results.tables["best"])
        heads = results.tables["attention"].set_index(["layer", "head"])["estimate"]
        told = {"holds": "Yes, by", "fails": "No; the best head is"}
        told = told.get(head.verdict, "Not decided; the best head is")
        said = (
            f"{told} L{layer}H{number}: its attention from a noun to the noun's own adjective is "
            f"{head.estimate:.2f} higher than to the same word describing something else (in "
            "sentences other than those by which it was chosen; "
            f"{heads[layer, number]:.2f} in all). "
            f"Exchanging the adjective moves the noun {np.exp(moved.estimate):.1f} times as far "
            f"where it describes that noun{'' if moved.verdict == 'holds' else ' (not sure)'}."
        )
        if results.tables["sentences"]["frame"].iloc[0].startswith("addition "):
            said += " In an adder the noun predicts a digit; its adjective is that column's digits."
        return said

    def claims(self, results: Results) -> list[Claim]:
        """Is there a head that tells its adjective; do attention and movement follow?"""
        rows = results.tables["against_random"]
        wide = rows.pivot(index=["statistic", "weights"], columns="frame", values="value")
        beyond = [self._beyond(wide.loc[name], *told) for name, told in BEYOND.items()]
        return [self._there_is_a_head(results, wide.loc["best head"]), *corrected(beyond, MORE)]

    def _there_is_a_head(self, results: Results, values: pd.DataFrame) -> Claim:
        """Judged on frames in which the head was not chosen."""
        best = results.tables["best"]
        layer, head = chosen_most(best)
        found = bootstrap(best["estimate"].to_numpy(), self.seed).within(-1, 1)
        p = float(best["p"].iloc[0])
        same = ((best["layer"] == layer) & (best["head"] == head)).sum()
        return Claim.learned(
            "A head attends from a noun to the noun's own adjective more than to the same word "
            f"describing something else, by over {100 * LEAST:.0f} % of its attention (most often "
            f"L{layer}H{head}).",
            found,
            above=LEAST,
            verdict="undecided" if found.low > LEAST and p > LEVEL else None,
            p=p,
            null=values.drop("own").to_numpy().mean(),
            null_note=f"{random_models(RANDOM_MODELS)}; the estimate is of the head that "
            f"is best in the other frames ({same} of {len(best)} times this one), and so is p",
            unit="attention, own less control",
            decide="more frames (prompts/adjectives.toml)",
        )

    def _beyond(self, values: pd.DataFrame, sentence: str, unit: str) -> Claim:
        """That a difference lies above zero, and above what it is in every random model."""
        found = above_zero_and_others(values.dropna(axis="columns"), self.seed)
        return Claim.mechanical(
            sentence, found, above=0.0, null=found.random.mean(), null_note=found.note, unit=unit,
            decide=MORE,
        )  # fmt: skip

    def figures(self, results: Results) -> dict[str, Drawing]:
        """Heads, a sentence as its noun sees it, distances, movement, and single edges."""
        return {
            "Which heads tell the adjective": _heads_figure(results.tables["attention"]),
            **_example_figures(results),
            "How far it reaches": _distance_figure(results),
            **_movement_figures(results),
            **_edge_figures(results),
        }

    def planted(self) -> "Model":
        """A model one head of which moves adjectives to the nouns they describe."""
        return planted_edge(seed=self.seed).model


def _heads_figure(heads: pd.DataFrame) -> Drawing:
    found = int(((heads["q"] <= LEVEL) & (heads["estimate"] > 0)).sum())
    return head_grid(
        heads.rename(columns={"estimate": "difference"}), "difference",
        label="attention, own less control",
        caption="Attention of the noun to its own adjective less that to the same word, as far "
        f"away, where it describes something else. {found} of {len(heads)} heads attend more "
        "to the own one (q ≤ .05); the table names them.",
    )  # fmt: skip


def _example_figures(results: Results) -> dict[str, Drawing]:
    example, (layer, head) = results.tables["example"], chosen_most(results.tables["best"])
    first = results.tables["sentences"].iloc[0]
    noun, adjective = first["noun"].strip(), first["adjective"].strip()
    told = {
        "own": ("What the noun attends to", "describes it"),
        "control": ("The same word, describing something else", "does not describe it"),
    }
    return {
        title: colored_tokens(
            example[example["adjective"] == name], "attention",
            label=f"attention of “{noun}” by L{layer}H{head}",
            caption=f"Attention of the noun “{noun}” to each token up to itself, by the head that "
            f"tells its own adjective best, L{layer}H{head}; here “{adjective}” {what}.",
        )
        for name, (title, what) in told.items()
    }  # fmt: skip


def _distance_figure(results: Results) -> Drawing:
    layer, head = chosen_most(results.tables["best"])
    return bars(
        results.tables["distances"].rename(columns={"estimate": "attention"}), "distance",
        "attention", series="adjective",
        caption=f"Attention of L{layer}H{head} from the noun to the adjective, by the tokens "
        "from one to the other (1: next to each other). Only where the two differ does the "
        "head tell what the adjective describes. Lines: 95 % over frames.",
    )  # fmt: skip


def _movement_figures(results: Results) -> dict[str, Drawing]:
    names = {"along": "along that by its own adjective", "length": "length, over the state's"}
    rows = results.tables["movement"].rename(columns={"estimate": "movement"})
    rows = rows.assign(statistic=rows["statistic"].map(names), patched=rows["patched"].map(PATCHED))
    rows[PASSED] = rows["layer"] + 1
    edges = results.tables["edges"].rename(columns={"estimate": "share"})
    whole = edges[edges["head"].isna()].drop(columns="head")
    return {
        "How far the noun moves": curves(
            rows, PASSED, "movement", series="patched", facet="statistic",
            caption="Movement of the noun's state when an adjective is exchanged in the text, or "
            "only in what flows straight from it. Control: where the adjective describes something "
            "else. First along the movement by its own adjective in the text, which is 1; "
            "then any movement. Bands: 95 % over frames.",
        ),
        "In which layers it is moved": curves(
            whole, "layer", "share",
            caption="How far the noun's last state moves, as a share of its movement by its own "
            "adjective in the text, when what flows straight from the adjective is exchanged in "
            "one layer alone. Bands: 95 % over frames.",
        ),
    }  # fmt: skip


def _edge_figures(results: Results) -> dict[str, Drawing]:
    single, both, rank = noun_tables.attending_and_moving(
        results.tables["attention"], results.tables["edges"]
    )
    return {
        "Single edges": head_grid(
            single, "movement_share", label="share of the movement",
            caption="How far the noun's last state moves towards where another adjective moves it, "
            "when the edge from adjective to noun is exchanged in one head alone.",
        ),
        "Attending and moving": scatter(
            both, "attention_difference", "movement_share", correlations=rank,
            caption="Each point is a head: how much more it attends to the noun's own adjective, "
            "and how far its edge alone moves the noun (as a share of the whole movement).",
        ),
    }  # fmt: skip
