"""Do adjectives reach the noun they describe?"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from experiments import Claim, Experiment, Reading, Results, Table, UsageError, corrected
from lenses.flow.descriptions import Case, UnfitError, added_cases, worded_case
from lenses.flow.edge_patching import each_edge, read_edges
from lenses.flow.noun_tables import NounTables, by_distance, edge_table, kept_of
from lenses.heads.contributions import attention_patterns
from lenses.kept import PerPrompt
from lenses.statistics.against_random import above_zero_and_random, random_models
from lenses.statistics.correlations import spearman
from lenses.statistics.intervals import bootstrap
from models.planted.edge import planted_edge
from models.text import token_strings, tokenize
from prompts.additions import Addition
from prompts.adjectives import described_nouns
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
        "else "
        "(control), mean over heads",
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
    """A noun is read after its own adjective, and after the same word describing something else.

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
            "A row is how far the noun's state after a layer moves when an adjective is exchanged.",
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
        kept = self._kept(model, cases, "reading")
        own = NounTables(kept, frames, self.seed)
        best = own.best()
        layer, head = _named(best)
        both = np.stack([kept[name][:, layer, head] for name in ("own", "control")], axis=1)
        distances = [case.distance for case in cases]
        return Results(
            tables={
                "sentences": _sentence_rows(read, both, skipped),
                "attention": own.attention(),
                "best": best,
                "distances": by_distance(both, distances, frames, self.seed),
                "movement": own.movement(),
                "edges": self._edge_rows(model, cases),
                "against_random": self._against_random(model, cases, own),
                "example": _example_rows(model, read[0], layer, head),
            }
        )

    def _read_texts(self, model: "Model") -> tuple[list["_Read"], list[dict[str, Any]]]:
        """What can be read, and rows of `sentences` that cannot."""
        if model.card.arithmetic is not None:
            return self._additions(model), []
        if model.tokenizer is None:
            raise UsageError(f"{model.card.name} reads no text; take a language model")
        read, skipped = [], []
        for said in described_nouns():
            told = {"frame": said.frame, "text": said.own.text, "control": said.control.text}
            told |= {"adjective": said.adjective, "noun": said.noun}
            try:
                case, instead = worded_case(model, said)
                read.append(_Read(case, told | {"instead": instead}))
            except UnfitError as error:
                skipped.append(told | {"skipped": str(error)})
        if len({one.case.frame for one in read}) < 2:
            raise UsageError(
                f"{model.card.name}: its tokenizer writes {len(read)} of the sentences as needed, "
                "of too few frames; take another language model"
            )
        return read, skipped

    def _additions(self, model: "Model") -> list["_Read"]:
        style = model.card.arithmetic
        sums = Addition(style.digits, self.additions, self.seed, padded=style.pad).sums
        try:
            cases = added_cases(style, sums, self.seed)
        except ValueError as error:
            raise UsageError(f"{model.card.name}: {error}") from error
        return [_Read(case, _told_of_digits(model, case)) for case in cases]

    def _kept(self, model: "Model", cases: list[Case], label: str) -> PerPrompt:
        """Attention and movement of each case."""
        kept = PerPrompt()
        for batch in self.stream(cases, kept, label, size=self.batch_size):
            for case in batch:
                kept.update(**kept_of(read_edges(model, case)))
        return kept

    def _edge_rows(self, model: "Model", cases: list[Case]) -> pd.DataFrame:
        """One head's edge, or one layer's, in the first case of each frame."""
        first: dict[str, Case] = {}
        for case in cases:
            first.setdefault(case.frame, case)
        kept = PerPrompt()
        for batch in self.stream([*first.values()], kept, "single edges", size=self.batch_size):
            for case in batch:
                kept.update(share=each_edge(model, case)[None])
        return edge_table(kept["share"], self.seed)

    def _against_random(self, model: "Model", cases: list[Case], own: NounTables) -> pd.DataFrame:
        """What the claims are about, by frame: own weights, then random ones."""
        rows, frames = [own.compared("own")], [case.frame for case in cases]
        for number, twin in enumerate(self.twins(model, RANDOM_MODELS)):
            kept = self._kept(twin, cases, f"random weights {number + 1}/{RANDOM_MODELS}")
            rows.append(NounTables(kept, frames, self.seed).compared(f"random {number}"))
        return pd.concat(rows, ignore_index=True)

    def headline(self, results: Results) -> str:
        """Which head tells a noun's own adjective, and how much further it moves the noun."""
        head, _, moved, *_ = self.claims(results)
        layer, number = _named(results.tables["best"])
        told = {"holds": "Yes, by", "fails": "No; the best head is"}
        told = told.get(head.verdict, "Not decided; the best head is")
        sure = "" if moved.verdict == "holds" else " (not sure)"
        said = (
            f"{told} L{layer}H{number}: its attention from a noun to the noun's own adjective is "
            f"{head.estimate:.2f} higher than to the same word describing something else. "
            f"Exchanging the adjective moves the noun {np.exp(moved.estimate):.1f} times as far "
            f"where it describes that noun{sure}."
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
        layer, head = _named(best)
        found = bootstrap(best["estimate"].to_numpy(), self.seed)
        table = results.tables["attention"].set_index(["layer", "head"])
        p = float(table["p_any"][layer, head])
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
            f"is best in the other frames: {same} of {len(best)} times this one, whose p it is",
            unit="attention, own less control",
            decide="more frames (prompts/adjectives.toml)",
        )

    def _beyond(self, values: pd.DataFrame, sentence: str, unit: str) -> Claim:
        """That a difference lies above zero, and above what it is in every random model."""
        values = values.dropna(axis="columns")
        random = values.filter(like="random ", axis="index").to_numpy()
        found = above_zero_and_random(values.loc["own"].to_numpy(), random, self.seed)
        return Claim.mechanical(
            sentence, found, above=0.0, null=found.random.mean(), null_note=found.note, unit=unit,
            decide=MORE,
        )  # fmt: skip

    def figures(self, results: Results) -> dict[str, Drawing]:
        """Heads, a sentence as its noun sees it, distances, movement, and single edges."""
        return {
            **_heads_figure(results),
            **_example_figures(results),
            **_distance_figure(results),
            **_movement_figures(results),
            **_edge_figures(results),
        }

    def planted(self) -> "Model":
        """A model one head of which moves adjectives to the nouns they describe."""
        return planted_edge(seed=self.seed).model


class _Read(NamedTuple):
    """A case, and its row of `sentences`."""

    case: Case
    told: dict[str, str]


def _told_of_digits(model: "Model", case: Case) -> dict[str, str]:
    rows = {"adjective": case.clean, "instead": case.changed}
    words = {k: " ".join(token_strings(model, v[0, case.adjective])) for k, v in rows.items()}
    texts = [
        "".join(token_strings(model, row[: at + 1]))
        for row, at in zip(case.clean, case.at, strict=True)
    ]
    noun = token_strings(model, case.clean[0, case.at[:1]])[0]
    told = {"frame": case.frame, "text": texts[0], "control": " ".join(texts[1:]), "noun": noun}
    return told | words


def _named(best: pd.DataFrame) -> tuple[int, int]:
    """The head that is chosen most often."""
    layer, head = best[["layer", "head"]].value_counts().index[0]
    return int(layer), int(head)


def _sentence_rows(
    read: Sequence[_Read], attention: np.ndarray, skipped: list[dict[str, Any]]
) -> pd.DataFrame:
    rows = [
        one.told
        | {"distance": one.case.distance, "tokens": one.case.clean.shape[1]}
        | {"own_attention": own, "control_attention": control, "skipped": ""}
        for one, (own, control) in zip(read, attention.tolist(), strict=True)
    ]
    return pd.DataFrame(rows + skipped).astype({"distance": "Int64", "tokens": "Int64"})


def _example_rows(model: "Model", read: _Read, layer: int, head: int) -> pd.DataFrame:
    """Attention of the noun to every token of the first text and of its control."""
    whole = model.card.arithmetic is None
    frames = []
    for number, name in enumerate(("own", "control")):
        ids = tokenize(model, read.told["text" if name == "own" else name]) if whole else []
        ids = np.array(ids) if whole else read.case.clean[number]
        every = attention_patterns(model, torch.from_numpy(ids).to(model.cfg.device)).numpy()
        told = {"pos": range(len(ids)), "token": token_strings(model, ids)}
        row = every[layer, head, read.case.at[number]]
        frames.append(pd.DataFrame({"adjective": name} | told | {"attention": row}))
    return pd.concat(frames, ignore_index=True)


def _heads_figure(results: Results) -> dict[str, Drawing]:
    heads = results.tables["attention"]
    found = int(((heads["q"] <= LEVEL) & (heads["estimate"] > 0)).sum())
    return {
        "Which heads tell the adjective": head_grid(
            heads.rename(columns={"estimate": "difference"}), "difference",
            label="attention, own less control",
            caption="Attention of the noun to its own adjective less that to the same word, as far "
            f"away, where it describes something else. {found} of {len(heads)} heads attend more "
            "to the own one (q ≤ .05); the table names them.",
        )
    }  # fmt: skip


def _example_figures(results: Results) -> dict[str, Drawing]:
    example, (layer, head) = results.tables["example"], _named(results.tables["best"])
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


def _distance_figure(results: Results) -> dict[str, Drawing]:
    layer, head = _named(results.tables["best"])
    return {
        "How far it reaches": bars(
            results.tables["distances"].rename(columns={"estimate": "attention"}), "distance",
            "attention", series="adjective",
            caption=f"Attention of L{layer}H{head} from the noun to the adjective, by the tokens "
            "from one to the other (1: next to each other). Only where the two differ does the "
            "head tell what the adjective describes. Lines: 95 % over frames.",
        )
    }  # fmt: skip


def _movement_figures(results: Results) -> dict[str, Drawing]:
    names = {"along": "along that by its own adjective", "length": "length, over the state's"}
    rows = results.tables["movement"].rename(columns={"estimate": "movement"})
    rows = rows.assign(statistic=rows["statistic"].map(names), patched=rows["patched"].map(PATCHED))
    edges = results.tables["edges"].rename(columns={"estimate": "share"})
    whole = edges[edges["head"].isna()].drop(columns="head")
    return {
        "How far the noun moves": curves(
            rows, "layer", "movement", series="patched", facet="statistic",
            caption="Movement of the noun's state when an adjective is exchanged in the text, or "
            "only in what flows straight from it. Control: where the adjective describes something "
            "else. Left, along the movement by its own adjective in the text, which is 1; "
            "right, any movement. Bands: 95 % over frames.",
        ),
        "In which layers it is moved": curves(
            whole, "layer", "share",
            caption="How far the noun's last state moves, as a share of its movement by its own "
            "adjective in the text, when what flows straight from the adjective is exchanged in "
            "one layer alone. Bands: 95 % over frames.",
        ),
    }  # fmt: skip


def _edge_figures(results: Results) -> dict[str, Drawing]:
    edges = results.tables["edges"]
    single = edges[edges["head"].notna()].astype({"head": int})
    single = single[["layer", "head", "estimate"]].rename(columns={"estimate": "movement_share"})
    both = results.tables["attention"].rename(columns={"estimate": "attention_difference"})
    both = both[["layer", "head", "attention_difference"]].merge(single)
    values = (both[[name]].to_numpy().T for name in ("attention_difference", "movement_share"))
    rank = pd.DataFrame({"method": ["spearman"], "estimate": spearman(*values)})
    return {
        "Single edges": head_grid(
            single, "movement_share", label="share of the movement",
            caption="How far the noun's last state moves towards where another adjective moves it, "
            "when the edge from adjective to noun is exchanged in one head alone.",
        ),
        "Attending and moving": scatter(
            both, "attention_difference", "movement_share", correlations=rank.dropna(),
            caption="Each point is a head: how much more it attends to the noun's own adjective, "
            "and how far its edge alone moves the noun (as a share of the whole movement).",
        ),
    }  # fmt: skip
