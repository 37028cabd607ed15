"""Does a token that is attended to more move the meaning more?"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from experiments import Claim, Reading, Results, Table, TextStudy, UsageError, corrected
from lenses.kept import Moments, PerPrompt
from lenses.states.meaning import movement
from lenses.states.meaning_tables import (
    exchanged,
    head_rows,
    layer_rows,
    text_numbers,
    text_rows,
)
from lenses.statistics.against_random import above_zero_and_twins
from lenses.statistics.grid import in_order
from lenses.statistics.intervals import bootstrap
from lenses.statistics.ranking import mean_of_known
from lenses.texts import ReadText, distinct, given_texts, sampled_additions
from models.text import tokenize
from prompts.texts import shipped_texts
from viz import bars, curves, head_grid, heat_map
from viz.labels import head_name

if TYPE_CHECKING:
    from models import Model
    from viz import Drawing

RANDOM_MODELS = 4
"""Models of the same shape with fresh weights, beside which the claims are shown."""
LEAST = 6
"""Tokens of the shortest text that is read."""
TOLERANCE = {"float32": 1e-3, "float16": 5e-2, "bfloat16": 2e-1}
"""Of log-probabilities, in nats."""
MOST_TOKENS = 24
"""Tokens of the first text that are drawn."""
UNIT = "rank correlation of attention with movement"
ABOUT = {
    "attention": ("attention", "none", "layer"),
    "attention, value-weighted": ("value_weighted", "none", "layer"),
    "attention, position held": ("attention", "position", "layer"),
    "attention, its own change": ("attention", "none", "attention"),
}
"""Means over heads that are claimed to lie above chance: weight, control and step."""
SENTENCES = (
    "On average over heads, the meaning of a token moves more towards the tokens that it attends "
    "to more.",
    "On average over heads, the meaning of a token moves more towards the tokens that attention "
    "takes more from (weighted by the length of the values that it moves).",
    "On average over heads, the meaning of a token moves more towards the tokens that it attends "
    "to more, also when their position is held fixed.",
    "On average over heads, what attention alone changes moves the meaning of a token more towards "
    "the tokens that it attends to more.",
)
"""One for each of ABOUT."""
MORE = "texts (--count, adders --additions)"
NEEDS = "5 texts or more, in which attention and states vary"
COLUMNS = {
    "text": "what was read of it",
    "tokens": "number of its tokens",
    "output_error": "largest difference of the decoded last state's log-probabilities from the "
    "model's own, in nats",
    "control": "`none`, or `position`: the attended token's position held fixed",
    "weight": "attention, or attention weighted by values",
    "step": "what moves the state: attention alone, or the whole layer",
    "distance": "nearer by Jensen-Shannon divergence of decoded tokens, or by cosine of states",
    "null": "the same with sources exchanged, mean over random orders",
    "p": "share of random orders in which it is as high",
    "q": "p corrected over the heads of the same kind",
    "largest_by_chance": "the highest of all heads is below this in 95 % of the orders",
    "value": "rank correlation",
    "excess": "value minus null",
    "best_elsewhere": "excess of the head that is best in all other texts",
}
_table = partial(Table.of, COLUMNS)


class AttentionMeaning(TextStudy):
    """Each token's state is read as a distribution of next tokens before and after a step of
    attention: has it moved towards the tokens attended to?

    A token's meaning is the distribution over next tokens that the logit lens reads off its state.
    A token moves towards an earlier token (a source) by as much as the Jensen-Shannon divergence
    of the two meanings falls, or the cosine of the two states rises, when attention alone, or the
    whole layer, has changed it. For each token, these movements are rank-correlated with its
    attention to the sources, raw and weighted by values, head by head, and averaged over a text;
    the first token is no source. For comparison each source gets the meaning of another token of
    the text at random (sources exchanged). Since both attention and movement may favour near
    tokens, each is also given with the source's position held fixed. Intervals (95 %) come from
    resampling texts. The arrays are of the first text: `attention` [layer, head, query, key] and
    `towards` [layer, query, key] (whole layer, divergence).
    """

    runs_on: ClassVar[str] = "adder 5 s, language model minutes"
    quick: ClassVar[Mapping[str, Any]] = {"additions": 8}

    count: int = Field(12, ge=1)
    """Shipped texts that are read; those under six tokens are left out."""
    tokens: int = Field(16, ge=6)
    """Tokens of a text that are read; what follows is cut off."""
    additions: int = Field(24, ge=1)
    """Additions sampled for an adder, each read whole with its answer."""
    batch_size: int = Field(1, ge=1)
    """Texts between two checkpoints; each passes the model by itself."""

    tables: ClassVar[Mapping[str, Table]] = {
        "prompts": _table("A row is a text that was read.", "prompt", "text tokens output_error"),
        "heads": _table("A row is the rank correlation of a head's attention with movement, mean "
            "over texts.", "control weight step distance layer head",
            "estimate low high null p q p_any largest_by_chance n"),
        "layers": _table("A row is the same of a layer, mean over heads.",
            "control weight step distance layer", "estimate low high n",
            weight="attention, attention weighted by values, or in its stead recency: the "
            "source's position"),
        "against_random": _table("A row is the same of one text, mean over all heads, with these "
            "or random weights.", "weights prompt control weight step distance",
            "value null excess best_elsewhere",
            null="the same with sources exchanged; 0 for random weights"),
    }  # fmt: skip
    reading: ClassVar[Reading] = Reading(
        causal="No: attention and movement are both read off one forward pass, and correlated.",
        assumes="The logit lens reads the meaning of a state also in early layers, and ranks of "
        "attention within a row can be compared over tokens.",
        stressed="Sources exchanged, the source's position held fixed, and random weights; the "
        "decoded last state is checked against the model's own output.",
        not_shown="That attention causes the movement: what follows it in the layer, and what came "
        "before, may move the state the same way.",
    )

    def measure(self, model: "Model") -> Results:
        """Read each text once, with the null's draws; then the same texts in random models."""
        texts, own, null = self._texts(model), PerPrompt(), Moments()
        for batch in self.stream(texts, (own, null), "reading", self.batch_size):
            for text in batch:
                found = movement(model, text.tokens(model))
                draws = exchanged(found, np.random.default_rng([self.seed, text.number]))
                if np.isfinite(draws).all():
                    null.update(draws[None])
                by_chance = mean_of_known(np.moveaxis(draws, 0, -1))
                own.update(**text_numbers(found), null=by_chance[None])
        if not null.state():
            raise UsageError(
                "tokens: in none of the texts is every rank correlation defined; read more of "
                "each (--tokens), or others (--prompts)"
            )
        first = replace(texts[0], given=texts[0].given[:MOST_TOKENS])
        example = movement(model, first.tokens(model))
        return Results(
            tables={
                "prompts": _prompt_rows(model, texts, own),
                "heads": head_rows(own["each"], null.state()["mean"][0], self.seed),
                "layers": layer_rows(own["each"], own["recency"], self.seed),
                "against_random": self._against_random(model, texts, own),
            },
            arrays={
                "attention": example.weight[0].numpy(),
                "towards": example.towards[1, 0].numpy(),
            },
        )

    def headline(self, results: Results) -> str:
        """Whether the mean over heads lies above chance, by how much, and which head leads."""
        _, whole, *_, alone, one_head = self.claims(results)
        held = f"With position held fixed, {_strongest(results.tables['heads'], one_head)}."
        if whole.estimate is None or alone.estimate is None:
            return f"One text cannot tell whether meaning moves to what is attended to. {held}"
        answer = {
            (True, True): "Yes, on average over heads",
            (True, False): "Yes after the whole layer, but this is not shown for attention alone",
            (False, True): "Yes by what attention itself changes, but this is not shown after the "
            "whole layer",
            (False, False): "This is not shown",
        }[whole.verdict == "holds", alone.verdict == "holds"]
        beside = (f"{x.estimate:.2f} (random weights: {x.null:.2f})" for x in (alone, whole))
        own, layer = (x.replace("-", "−") for x in beside)
        return (
            f"{answer}: the rank correlation of attention with the movement of meaning, minus that "
            f"by chance, is {own} for attention's own change and {layer} for the whole layer. "
            f"{held}"
        )

    def claims(self, results: Results) -> list[Claim]:
        """Means over all heads, as they are and with position held fixed; then any single head."""
        tolerance = TOLERANCE[self.dtype]
        return [
            Claim.identity(
                "The last state decodes to what the model predicts.",
                results.tables["prompts"]["output_error"], within=tolerance,
                unit=f"largest difference of log-probabilities (nats); tolerance {tolerance:g}",
            ),
            *corrected([*self._mean_claims(results), self._one_head(results)], f"more {MORE}"),
        ]  # fmt: skip

    def figures(self, results: Results) -> dict[str, "Drawing"]:
        """The means beside their nulls, layers, heads, and the best head on the first text."""
        return {
            **_null_figures(results.tables["against_random"]),
            **_head_figures(results.tables["heads"]),
            **_layer_figures(results.tables["layers"]),
            **_example_figures(results),
        }

    def _texts(self, model: "Model") -> list[ReadText]:
        """What is read: of an adder whole additions, of others the first tokens of each text."""
        own = [text.text for text in given_texts(self.prompts, self.prompts_file)]
        if model.card.arithmetic and not own:
            sampled = sampled_additions(model.card.arithmetic, self.additions, self.seed)
            return [replace(text, given=text.given + text.expected) for text in sampled]
        given = own or [text.text for text in shipped_texts()]
        texts = [tokenize(model, text)[: self.tokens] for text in given]
        short = [number for number, ids in enumerate(texts) if len(ids) < LEAST]
        if own and short:
            least = f"it takes at least {LEAST}"
            raise UsageError(f"prompt {short[0]}: {len(texts[short[0]])} tokens; {least}")
        texts = [texts[number] for number in distinct(texts)]
        known = [ids for ids in texts if len(ids) >= LEAST]
        read, kind = (known, "given") if own else (known[: self.count], "shipped")
        return [ReadText(number, kind, ids) for number, ids in enumerate(read)]

    def _against_random(
        self, model: "Model", texts: list[ReadText], own: PerPrompt
    ) -> pd.DataFrame:
        """Per text, means over all heads: own weights less their null, then random weights."""
        frames = [text_rows(own["each"], own["null"], "own")]
        for number, twin in enumerate(self.twins(model, RANDOM_MODELS)):
            kept, label = PerPrompt(), f"random weights {number + 1}/{RANDOM_MODELS}"
            for batch in self.stream(texts, kept, label, self.batch_size):
                for text in batch:
                    kept.update(**text_numbers(movement(twin, text.tokens(twin))))
            frames.append(text_rows(kept["each"], 0 * kept["each"], f"random {number}"))
        return pd.concat(frames, ignore_index=True)

    def _mean_claims(self, results: Results) -> list[Claim]:
        """That each of ABOUT lies above its null, and above that in every random model."""
        rows = results.tables["against_random"]
        found = [
            above_zero_and_twins(_about(rows, *about), "excess", self.seed)
            for about in ABOUT.values()
        ]
        return [
            Claim.mechanical(
                sentence, one, unit=f"{UNIT}, minus the same with sources exchanged",
                null=one and one.random.mean(),
                null_note=f"mean of {one.note}" if one else "",
                more=MORE, needs=NEEDS,
                family="Meaning moves towards what is attended to more", label=label,
            )
            for sentence, label, one in zip(SENTENCES, ABOUT, found, strict=True)
        ]  # fmt: skip

    def _one_head(self, results: Results) -> Claim:
        """That there is such a head: the best of all other texts, in the text that is left."""
        rows = _about(results.tables["against_random"], "attention", "position", "layer")
        rows = rows.dropna(subset="best_elsewhere")
        found = above_zero_and_twins(rows, "best_elsewhere", self.seed)
        return Claim.mechanical(
            "There is a head whose attention goes with movement, position held fixed: the one that "
            "is best in all other texts, more so than in models with random weights.",
            found, unit=f"{UNIT}, minus the same with sources exchanged",
            null=found and found.random.mean(), more=MORE, needs=NEEDS,
            null_note=f"mean of {found.note}" if found else "",
        )  # fmt: skip


def _prompt_rows(model: "Model", texts: list[ReadText], own: PerPrompt) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "prompt": [text.number for text in texts],
            "text": [model.tokenizer.decode(text.ids) for text in texts],
            "tokens": [len(text.ids) for text in texts],
            "output_error": own["output_error"],
        }
    )


def _about(rows: pd.DataFrame, weight: str, control: str, step: str) -> pd.DataFrame:
    """The rows of one weight, control and step, by divergence."""
    chosen = (rows["weight"] == weight) & (rows["control"] == control) & (rows["step"] == step)
    return rows[chosen & (rows["distance"] == "divergence")]


def _best_head(heads: pd.DataFrame) -> pd.Series:
    """The head with the highest correlation, position held fixed (whole layer, divergence)."""
    return _about(heads, "attention", "position", "layer").sort_values("estimate").iloc[-1]


def _strongest(heads: pd.DataFrame, one_head: Claim) -> str:
    """The best head on these texts, and what the best of other texts has in a text that is left."""
    best, there = _best_head(heads), one_head.estimate
    doubt = "" if one_head.verdict == "holds" else ", which is not shown to be more than chance"
    left = "" if there is None else f"; the head that is best in other texts has {there:.2f}{doubt}"
    return f"{head_name(best)} is strongest ({best['estimate']:.2f}{left})".replace("-", "−")


PANELS = {
    ("attention", "divergence"): "attention alone, decoded",
    ("layer", "divergence"): "whole layer, decoded",
    ("attention", "cosine"): "attention alone, cosine",
    ("layer", "cosine"): "whole layer, cosine",
}
LINES = {
    ("attention", "none"): "attention",
    ("value_weighted", "none"): "value-weighted",
    ("attention", "position"): "attention, position held",
    ("recency", "none"): "recency",
}


def _null_figures(rows: pd.DataFrame) -> dict[str, "Drawing"]:
    found = []
    for label, about in ABOUT.items():
        part = _about(rows, *about)
        own, random = part[part["weights"] == "own"], part[part["weights"] != "own"]
        shown = {
            "these weights": own.groupby("prompt")["value"],
            "sources exchanged": own.groupby("prompt")["null"],
            "random weights": random.groupby("prompt")["value"],
        }
        for kind, values in shown.items():
            ends = bootstrap(values.mean().to_numpy())
            found.append((kind, label, *(end.item() for end in vars(ends).values())))
    columns = ["kind", "attention", "correlation", "low", "high", "n"]
    return {
        "Does meaning move towards what is attended to": bars(
            pd.DataFrame(found, columns=columns), "attention", "correlation", series="kind",
            reference=0,
            caption="Rank correlation of attention with the movement of decoded meaning, mean over "
            "all heads and layers, beside the same with each source's meaning exchanged for "
            "another token's, and in models with random weights. Movement is by the whole layer, "
            "in the last row by attention alone. 95 % intervals over texts.",
        )
    }  # fmt: skip


def _head_figures(heads: pd.DataFrame) -> dict[str, "Drawing"]:
    rows = heads.query("weight == 'attention' and step == 'layer' and distance == 'divergence'")
    names = {"none": "as it is", "position": "position held fixed"}
    rows = rows.assign(control=rows["control"].map(names))
    return {
        "Each head": head_grid(
            rows[["layer", "head", "control", "estimate", "p_any", "n"]], "estimate",
            facet="control", label=UNIT,
            caption="Rank correlation of each head's attention with the movement of the decoded "
            "state (whole layer), as it is and with the source's position held fixed. The table "
            "says which are beyond the best of all heads by chance (p_any).",
        )
    }  # fmt: skip


def _layer_figures(layers: pd.DataFrame) -> dict[str, "Drawing"]:
    line = [LINES.get(pair) for pair in zip(layers["weight"], layers["control"], strict=True)]
    panel = [PANELS[pair] for pair in zip(layers["step"], layers["distance"], strict=True)]
    rows = layers.assign(line=line, panel=panel, correlation=layers["estimate"])
    rows = in_order(rows.dropna(subset="line"), "panel", list(PANELS.values()))
    return {
        "Attention and movement by layer": curves(
            rows[["panel", "line", "layer", "correlation", "low", "high", "n"]], "layer",
            "correlation", series="line", facet="panel",
            caption="Rank correlation over sources of what is attended to with what the state "
            "moves towards, mean over heads: by attention alone or the whole layer, in decoded "
            "distributions or in the cosine of states. Recency is what the source's position says "
            "without any attention. Bands: 95 % over texts.",
        )
    }  # fmt: skip


def _example_figures(results: Results) -> dict[str, "Drawing"]:
    """What the best head attends to on the first text, beside what its layer moves towards."""
    best = _best_head(results.tables["heads"])
    layer, head = int(best["layer"]), int(best["head"])
    panels = {
        f"attention of {head_name(best)}": results.arrays["attention"][layer, head],
        f"movement in layer {layer}": results.arrays["towards"][layer],
    }
    rows = pd.concat([_pairs(name, values) for name, values in panels.items()], ignore_index=True)
    text = results.tables["prompts"]["text"].iloc[0]
    return {
        "The best head on the first text": heat_map(
            rows, "token", "source", "share", facet="panel", diverging=True,
            label="share of the panel's largest value; positive: nearer",
            caption="Where each token (down, by position) attends, and which earlier tokens it "
            f"moves towards or away from, in the text “{text[:90]}”. The first token is no source.",
        )
    }  # fmt: skip


def _pairs(name: str, values: np.ndarray) -> pd.DataFrame:
    """Values of each token and its sources, as shares of the largest."""
    query, source = (axis.ravel() for axis in np.indices(values.shape))
    rows = pd.DataFrame({"panel": name, "token": query, "source": source, "value": values.ravel()})
    rows = rows[(source > 0) & (source < query)]
    largest = rows["value"].abs().max()
    return rows.assign(share=rows["value"] / largest if largest > 0 else 0.0)
