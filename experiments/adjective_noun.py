"""Do adjectives reach the noun they describe?"""

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from experiments import Claim, Experiment, Results, UsageError

if TYPE_CHECKING:
    from lenses.flow.descriptions import Case
    from lenses.flow.noun_tables import NounTables
    from lenses.kept import PerPrompt
    from models import Model
    from viz import Drawing

RANDOM_MODELS = 4
"""Models of the same shape with fresh weights, beside which every claim is shown."""
LEAST = 0.05
"""A head tells the noun's own adjective if it attends to it by more than this share more."""
LEVEL = 0.05


class AdjectiveNoun(Experiment):
    """A noun is read after its own adjective, and after the same word describing something else.

    In "A fluffy blue creature" *fluffy* describes the creature; in "Something fluffy gives creature
    comforts" it does not. The two words are the same tokens, equally far apart and from the start,
    and what stands before the noun says which it is. Compared are the attention of the noun's last
    token to the adjective, and how far the noun's state moves when the adjective is exchanged for
    another (fluffy, smooth): in the text (all), or only in what flows straight from adjective to
    noun (edge): z_i += alpha_ij (v'_j - v_j) in every head of every layer. Movement is measured
    along that of the noun when its own adjective is exchanged in the text, which is 1.
    Sentences of a frame share their other words, so frames are the unit: estimates are means over
    frames of means over sentences, intervals (95 %) resample frames, n counts them.

    An adder has no adjectives. For it the noun is the pos from which an answer digit is read, its
    adjectives are the two digits of its column, and the control is the mean of the pos before and
    after that; every addition is a frame.

    Tables: `sentences` (what was read, up to the noun; `skipped` says why one was not; attention
    of the best head), `attention` (layer, head, own, control, estimate of the difference, low,
    high, p, q over heads, p_any against the largest of all heads by chance, n), `best` (per frame
    the head with the largest difference in all other frames, and its difference in this one),
    `distances` (attention of the best head by distance), `movement` (statistic along or length,
    relative to the state's; layer, patched in all, edge, control, control edge), `edges` (movement
    of the last state when the edge of one head, or of a whole layer, is exchanged: the first
    sentence of each frame), `against_random` (per frame, behind the claims), `example`.
    """

    quick: ClassVar[dict[str, Any]] = {"additions": 8}

    model: str = "smollm2"
    """Model: a card's name, a path to a card, folder or .gguf file, or a hub id."""
    additions: int = Field(24, ge=2)
    """Additions sampled for an adder."""
    batch_size: int = Field(4, ge=1)
    """Sentences between two checkpoints; each passes the model by itself."""

    def measure(self, model: "Model") -> Results:
        """Attention and movement of every noun; then single edges; then random models."""
        from lenses.flow.noun_tables import by_distance

        read, skipped = self._read_texts(model)
        cases = [one.case for one in read]
        kept = self._kept(model, cases, "reading")
        own = self._tables(kept, cases)
        best = own.best()
        layer, head = _named(best)
        both = np.stack([kept[name][:, layer, head] for name in ("own", "control")], axis=1)
        distances = [case.distance for case in cases]
        return Results(
            tables={
                "sentences": _sentence_rows(read, both, skipped),
                "attention": own.attention(),
                "best": best,
                "distances": by_distance(both, distances, _frames(cases), self.seed),
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
        from lenses.flow.descriptions import UnfitError, worded_case
        from prompts.adjectives import described_nouns

        if model.tokenizer is None:
            raise UsageError(f"{model.card.name} reads no text; take a language model")
        read, skipped = [], []
        for said in described_nouns():
            told = {"frame": said.frame, "text": said.own.text, "control": said.control.text}
            words = {"adjective": said.adjective, "noun": said.noun}
            try:
                case, instead = worded_case(model, said)
            except UnfitError as error:
                skipped.append(told | words | {"skipped": str(error)})
                continue
            read.append(_Read(case, told | words | {"instead": instead}))
        if len({one.case.frame for one in read}) < 2:
            raise UsageError(
                f"{model.card.name}: its tokenizer writes {len(read)} of the sentences as needed, "
                "of too few frames; take another language model"
            )
        return read, skipped

    def _additions(self, model: "Model") -> list["_Read"]:
        from lenses.flow.descriptions import added_cases
        from prompts.additions import Addition

        style = model.card.arithmetic
        sums = Addition(style.digits, self.additions, self.seed, padded=style.pad).sums
        try:
            cases = added_cases(style, sums, self.seed)
        except ValueError as error:
            raise UsageError(f"{model.card.name}: {error}") from error
        return [_Read(case, _told_of_digits(model, case)) for case in cases]

    def _kept(self, model: "Model", cases: list["Case"], label: str) -> "PerPrompt":
        """Attention and movement of each case."""
        from lenses.flow.edge_patching import read_edges
        from lenses.flow.noun_tables import kept_of
        from lenses.kept import PerPrompt

        kept = PerPrompt()
        for batch in self.stream(_batches(cases, self.batch_size), kept, label):
            for case in batch:
                kept.update(**kept_of(read_edges(model, case)))
        return kept

    def _tables(self, kept: "PerPrompt", cases: list["Case"]) -> "NounTables":
        from lenses.flow.noun_tables import NounTables

        return NounTables(kept, _frames(cases), self.seed)

    def _edge_rows(self, model: "Model", cases: list["Case"]) -> pd.DataFrame:
        """One head's edge, or one layer's, in the first case of each frame."""
        from lenses.flow.edge_patching import each_edge
        from lenses.flow.noun_tables import edge_table
        from lenses.kept import PerPrompt

        first: dict[str, Case] = {}
        for case in cases:
            first.setdefault(case.frame, case)
        kept = PerPrompt()
        batches = _batches(list(first.values()), self.batch_size)
        for batch in self.stream(batches, kept, "single edges"):
            for case in batch:
                kept.update(share=each_edge(model, case)[None])
        return edge_table(kept["share"], self.seed)

    def _against_random(
        self, model: "Model", cases: list["Case"], own: "NounTables"
    ) -> pd.DataFrame:
        """What the claims are about, by frame: own weights, then random ones."""
        from models import untrained

        rows = [own.compared("own")]
        for number in range(RANDOM_MODELS):
            twin = untrained(model, self.seed + number)
            kept = self._kept(twin, cases, f"random weights {number + 1}/{RANDOM_MODELS}")
            rows.append(self._tables(kept, cases).compared(f"random {number}"))
            del twin
            gc.collect()  # a hooked model refers to itself: uncollected, twins would pile up
        return pd.concat(rows, ignore_index=True)

    def planted(self) -> "Model":
        """A model one head of which moves adjectives to the nouns they describe."""
        from models.planted.edge import planted_edge

        return planted_edge(seed=self.seed).model

    def claims(self, results: Results) -> list[Claim]:
        """Is there a head that tells its adjective; do attention and movement follow?"""
        from lenses.statistics.intervals import benjamini_hochberg

        rows = results.tables["against_random"]
        wide = rows.pivot(index=["statistic", "weights"], columns="frame", values="value")
        found = [self._beyond(wide.loc[name], *told) for name, told in BEYOND.items()]
        q = benjamini_hochberg(np.array([claim.p for claim in found])).tolist()
        return [self._there_is_a_head(results, wide.loc["best head"]), *map(_with_q, found, q)]

    def _there_is_a_head(self, results: Results, values: pd.DataFrame) -> Claim:
        """Judged on frames in which the head was not chosen."""
        from lenses.statistics.intervals import bootstrap

        best = results.tables["best"]
        layer, head = _named(best)
        found = bootstrap(best["estimate"].to_numpy(), self.seed)
        low, high = float(found.low), float(found.high)
        table = results.tables["attention"].set_index(["layer", "head"])
        p = float(table["p_any"][layer, head])
        verdict = Claim.judge(low, high, LEAST)
        verdict = "undecided" if verdict == "holds" and p > LEVEL else verdict
        random = values.drop("own").to_numpy().mean()
        same = ((best["layer"] == layer) & (best["head"] == head)).sum()
        return Claim(
            kind="learned",
            sentence="There is a head by which a noun attends more to its own adjective than to "
            f"what stands there otherwise (most often L{layer}H{head})",
            estimate=float(found.estimate), low=low, high=high, n=len(best), p=p, null=random,
            null_note=f"random weights, {RANDOM_MODELS} models; the estimate is of the head that "
            f"is best in the other frames: {same} of {len(best)} times this one, whose p it is",
            unit=f"attention, own less control; threshold {LEAST:g}",
            verdict=verdict,
            decide="more frames (prompts/adjectives.toml)" if verdict == "undecided" else "",
        )  # fmt: skip

    def _beyond(self, values: pd.DataFrame, sentence: str, unit: str) -> Claim:
        """That a difference lies above zero, and above what it is in every random model."""
        from lenses.statistics.against_random import above_zero_and_random

        values = values.dropna(axis="columns")
        random = values.filter(like="random ", axis="index").to_numpy()
        found = above_zero_and_random(values.loc["own"].to_numpy(), random, self.seed)
        return Claim(
            kind="mechanical",
            sentence=sentence,
            estimate=found.estimate,
            low=found.low,
            high=found.high,
            n=found.n,
            p=found.p,
            null=found.random.mean(),
            null_note=found.note,
            unit=unit,
            verdict=found.verdict,
            decide=MORE if found.verdict == "undecided" else "",
        )

    def figures(self, results: Results) -> "dict[str, Drawing]":
        """A sentence as its noun sees it, heads, distances, movement, single edges, random ones."""
        return {
            **_example_figures(results),
            **_attention_figures(results),
            **_movement_figures(results),
            **_edge_figures(results),
        }


MORE = "more frames (prompts/adjectives.toml) or random models"
BEYOND = {
    "attention": (
        "Over all heads, nouns attend more to their own adjective than to what stands there "
        "otherwise (the same word, describing something else)",
        "attention, own less control, mean over heads",
    ),
    "all": (
        "An adjective that is exchanged moves the noun further where it describes that noun",
        "log of the length of movements, own over control, mean over layers",
    ),
    "edge": (
        "What flows straight from the adjective moves the noun further where it describes that "
        "noun",
        "log of the length of movements, edge over control edge, mean over layers",
    ),
    "other ways": (
        "More than with random weights, an adjective moves its noun otherwise than by the values "
        "that it hands over: through other words, or by how much it is attended to",
        "what the edge falls short of, as a share of the whole movement, mean over layers",
    ),
}


@dataclass(frozen=True)
class _Read:
    """A case, and its row of `sentences`."""

    case: "Case"
    told: dict[str, str]


def _sentence_rows(
    read: list[_Read], attention: np.ndarray, skipped: list[dict[str, Any]]
) -> pd.DataFrame:
    rows = [
        one.told
        | {"distance": one.case.distance, "tokens": one.case.clean.shape[1]}
        | {"own_attention": own, "control_attention": control, "skipped": ""}
        for one, (own, control) in zip(read, attention.tolist(), strict=True)
    ]
    return pd.DataFrame(rows + skipped).astype({"distance": "Int64", "tokens": "Int64"})


def _told_of_digits(model: "Model", case: "Case") -> dict[str, str]:
    from models.text import token_strings

    rows = {"adjective": case.clean, "instead": case.changed}
    words = {k: " ".join(token_strings(model, v[0, case.adjective])) for k, v in rows.items()}
    texts = [
        "".join(token_strings(model, row[: at + 1]))
        for row, at in zip(case.clean, case.at, strict=True)
    ]
    noun = token_strings(model, case.clean[0, case.at[:1]])[0]
    return {
        "frame": case.frame,
        "text": texts[0],
        "control": " ".join(texts[1:]),
        "noun": noun,
    } | words


def _batches(units: Sequence, size: int) -> list[Sequence]:
    return [units[i : i + size] for i in range(0, len(units), size)]


def _frames(cases: list["Case"]) -> list[str]:
    return [case.frame for case in cases]


def _named(best: pd.DataFrame) -> tuple[int, int]:
    """The head that is chosen most often."""
    layer, head = best[["layer", "head"]].value_counts().index[0]
    return int(layer), int(head)


def _with_q(claim: Claim, q: float) -> Claim:
    lucky = claim.verdict == "holds" and q > LEVEL
    undecided = {"verdict": "undecided", "decide": MORE} if lucky else {}
    return claim.model_copy(update={"p": q} | undecided)


def _example_rows(model: "Model", read: _Read, layer: int, head: int) -> pd.DataFrame:
    """Attention of the noun to every token of the first text and of its control."""
    import torch

    from lenses.heads.contributions import attention_patterns
    from models.text import token_strings, tokenize

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


def _example_figures(results: Results) -> "dict[str, Drawing]":
    from viz import colored_tokens

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


def _attention_figures(results: Results) -> "dict[str, Drawing]":
    from viz import bars, head_grid

    heads, distances = results.tables["attention"], results.tables["distances"]
    shown = heads.rename(columns={"estimate": "difference"})
    layer, head = _named(results.tables["best"])
    found = int(((heads["q"] <= LEVEL) & (heads["estimate"] > 0)).sum())
    return {
        "Which heads tell the adjective": head_grid(
            shown[["layer", "head", "difference"]], "difference",
            label="attention, own less control",
            caption="Attention of the noun to its own adjective less that to the same word, as far "
            f"away, where it describes something else. {found} of {len(heads)} heads attend more "
            "to the own one (q ≤ .05); the table names them.",
        ),
        "How far it reaches": bars(
            distances.rename(columns={"estimate": "attention"}), "distance", "attention",
            series="adjective",
            caption=f"Attention of L{layer}H{head} from the noun to the adjective, by the tokens "
            "from one to the other (1: next to each other). Only where the two differ does it tell "
            "what the adjective describes. Lines: 95 % over frames.",
        ),
    }  # fmt: skip


def _movement_figures(results: Results) -> "dict[str, Drawing]":
    from viz import curves

    names = {"along": "along that by its own adjective", "length": "length, over the state's"}
    rows = results.tables["movement"].rename(columns={"estimate": "movement"})
    edges = results.tables["edges"].rename(columns={"estimate": "share"})
    whole = edges[edges["head"].isna()].drop(columns="head")
    return {
        "How far the noun moves": curves(
            rows.assign(statistic=rows["statistic"].map(names)), "layer", "movement",
            series="patched", facet="statistic",
            caption="Movement of the noun's state when an adjective is exchanged in the text (all) "
            "or only in what flows straight from it (edge); control: where the noun is not what it "
            "describes. Left, along the movement by its own adjective in the text, which is 1; "
            "right, any movement. Bands: 95 % over frames.",
        ),
        "In which layers it is moved": curves(
            whole, "layer", "share",
            caption="How far the noun's last state moves, as a share of its movement by its own "
            "adjective in the text, when what flows straight from the adjective is exchanged in "
            "one layer alone. Bands: 95 % over frames.",
        ),
    }  # fmt: skip


def _edge_figures(results: Results) -> "dict[str, Drawing]":
    from lenses.statistics.correlations import spearman
    from viz import head_grid, scatter

    edges = results.tables["edges"]
    single = edges[edges["head"].notna()].astype({"head": int})
    single = single.rename(columns={"estimate": "movement_share"})
    both = results.tables["attention"].rename(columns={"estimate": "attention_difference"})
    both = both[["layer", "head", "attention_difference"]].merge(
        single[["layer", "head", "movement_share"]]
    )
    values = (both[[name]].to_numpy().T for name in ("attention_difference", "movement_share"))
    rank = pd.DataFrame({"method": ["spearman"], "estimate": spearman(*values)})
    return {
        "Single edges": head_grid(
            single[["layer", "head", "movement_share"]], "movement_share",
            label="share of the movement",
            caption="How far the noun's last state moves towards where another adjective moves it, "
            "when the edge from adjective to noun is exchanged in one head alone.",
        ),
        "Attending and moving": scatter(
            both, "attention_difference", "movement_share", correlations=rank.dropna(),
            caption="Each point is a head: how much more it attends to the noun's own adjective, "
            "and how far its edge alone moves the noun (as a share of the whole movement).",
        ),
    }  # fmt: skip
