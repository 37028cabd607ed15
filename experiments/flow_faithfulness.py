"""Which flow diagram tells the truth?"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from experiments import Claim, Estimate, Reading, Results, Table, TextStudy, corrected
from lenses.flow.faithfulness import read_clean
from lenses.flow.kept_curves import (
    ABLATIONS,
    GRADIENT_ORDER,
    RANDOM_ORDER,
    RANDOM_SHARES,
    Equal,
    Means,
    areas_between,
    best_rule,
    curve_tables,
    curves_of,
    ranked,
    threshold_rows,
    thresholds_of,
)
from lenses.flow.splits import RULES
from lenses.kept import PerPrompt
from lenses.statistics.correlations import spearman
from lenses.statistics.grid import in_order
from lenses.statistics.intervals import mean_with_p
from lenses.texts import ReadText, continued, sampled_additions, texts_to_read
from models.planted.copy import planted_copy
from models.text import token_strings
from prompts.relevance import keyed_prompts
from prompts.texts import Text
from viz import bars, curves
from viz.labels import shorten

if TYPE_CHECKING:
    from models import Model
    from viz import Drawing

LEAST = 0.05
"""A rule tells something if its area is larger than that of random shares by more."""
TOLERANCE = {"float32": 1e-3, "float16": 0.1, "bfloat16": 0.2}
"""Nats: of the prediction when everything is kept."""
BALANCE = 1e-5
"""How far the weights of a diagram may be from summing to 1."""
FIRST_PUBLISHED = "norms"
MORE = "prompts (--count)"
CONTROLS = {
    GRADIENT_ORDER: "each piece's gradient does, without a diagram",
    FIRST_PUBLISHED: "ratios of norms do, the rule that was published first",
}
"""Orders that the best rule is held against besides random shares, in words."""
WAYS = {"inserted": "kept", "deleted": "removed"}
AREA = "area between the curves, as a share of the answer's probability; mean of both ablations"

COLUMNS = {
    "given": "the prompt",
    "explained": "the token that the model expects next",
    "probability": "its probability",
    "error": "change of its log-probability (nats) when all pieces are kept",
    "balance": "how far the weights of a diagram are from summing to 1, at most",
    "way": "`inserted`: the first pieces are kept; `deleted`: they are ablated",
    "order": "the rule, or other order, by which pieces come first",
    "ablation": "what an ablated piece becomes: `zero`, or the `mean` of its layer; `both`: mean "
    "of the two",
    "kl": "KL of the model's prediction from what is left of it, in nats; mean",
    "measure": "`kept first`, `removed first`: area under that curve; `between`: the first less "
    "the second",
    "area": "the area; 0 to 1, between −1 and 1",
    "rule": "the rule with the largest mean area between the curves on the others",
    "random": "area of random shares on this prompt",
    "threshold": "links that are drawn: of each joint the fewest that hold a share (top-p) or the "
    "strongest (top-k), or all from a weight on",
    "links": "links that are drawn, mean over prompts",
    "mass": "share of the mass in them",
    "worth": "what is left less the mass in them",
    "worth_low": "lower end of its 95 % interval",
    "worth_high": "upper end of it",
}
_table = partial(Table.of, COLUMNS)


class FlowFaithfulness(TextStudy):
    """A flow diagram says through which parts of the model a prediction came. Each rule for
    its links is tested: only the links it draws are kept, then only the others.

    A piece is one link of a diagram of the experiment `information_flow`: what a token takes from
    another token in the attention of one layer, or what the MLP adds at a token. Each rule of
    drawing weighs all pieces, from the predicted token back to the input. Two things are then done.
    The pieces with the most weight are kept and all others are ablated (kept first: the sooner the
    probability of the predicted token comes back, the better). Or these pieces alone are ablated
    (removed first: the sooner it is lost, the better). A rule's score is the area under the first
    curve less that under the second. An ablated piece becomes zero, or the mean of its layer over
    the prompts; patterns of attention are not renormalised.

    All rules keep equally much. What a token gathers by attention in one layer counts as a mass of
    1, which its links share as the attention does; what an MLP adds counts as 1. A rule that draws
    many thin links, or prefers the links that carry most attention, gains nothing by it.

    Compared are: the same diagram with shares drawn by chance (it knows which token is predicted
    and nothing else), pieces in random order, and pieces by their gradient. The best rule is chosen
    on all prompts but one and measured on that one. Intervals (95 %) resample prompts.

    A language model reads prompts whose answer is a word stated in them, and its likeliest next
    token is explained; an adder reads additions, and explains one digit of each answer.
    """

    quick: ClassVar[Mapping[str, Any]] = {"count": 6}
    related: ClassVar[tuple[str, ...]] = ("information_flow",)
    runs_on: ClassVar[str] = "adder 5 s, language model 3 min"

    model: str = "smollm2"
    """Model: a card's name, a path to a card, folder or .gguf file, or a hub id."""
    count: int = Field(16, ge=2)
    """Shipped prompts that are read, or additions sampled for an adder."""
    equal: Equal = "mass"
    """What all rules keep equally much of: mass, or the number of links."""
    batch_size: int = Field(1, ge=1)
    """Prompts between two checkpoints; what passes the model together is always the same."""

    tables: ClassVar[Mapping[str, Table]] = {
        "prompts": _table("A row is a prompt whose next token is explained.", "prompt",
            "given explained probability error balance given_tokens"),
        "curves": _table("A row is what is left of the answer's probability at one point of a "
            "curve.", "way order ablation share", "estimate kl low high n",
            share="share of the mass that is kept, or ablated",
            estimate="probability of the token over what it was, at most 1; mean over prompts"),
        "areas": _table("A row is an area of one prompt.", "prompt order ablation measure", "area",
            ablation="what an ablated piece becomes: `zero`, or the `mean` of its layer"),
        "scores": _table("A row is the area between the curves of an order, mean over prompts.",
            "order ablation", "estimate low high n", estimate="area between the curves"),
        "best": _table("A row is a prompt, with the best rule of all other prompts.", "prompt",
            "rule area random", area="its area on this prompt"),
        "thresholds": _table("A row is a threshold for the links of the best rule's diagrams.",
            "threshold", "links mass estimate worth worth_low worth_high low high n",
            estimate="what is left of the answer's probability with these pieces alone"),
    }  # fmt: skip
    reading: ClassVar[Reading] = Reading(
        causal="Yes: pieces are ablated, to zero and to the mean, and the prediction read again.",
        assumes="What is left without a piece is what the model does without it. Far from what the "
        "model has seen, a prediction can fail for other reasons than the pieces removed.",
        stressed="Two ablation values are shown apart; shares drawn by chance, a random order and "
        "gradients are the controls; the best rule is chosen on other prompts.",
        not_shown="That the best diagram is complete or unique, or that it is best for prompts of "
        "another kind than those read. Heads of one layer are not told apart.",
    )

    def measure(self, model: "Model") -> Results:
        """Read the prompts as they are, then every curve, then thresholds of the best rule."""
        texts, means, kept = self._asked(model), Means.empty(), PerPrompt()
        for batch in self.stream(texts, (means.value, means.mlp), "reading", self.batch_size):
            for text in batch:
                means.update(read_clean(model, text.tokens(model)))
        for batch in self.stream(texts, kept, "ablating", self.batch_size):
            for text in batch:
                clean = read_clean(model, text.tokens(model))
                rng = np.random.default_rng([self.seed, text.number])
                found = curves_of(model, clean, means, self.equal, rng)
                found |= {"told": np.array([clean.token, clean.log_p.max().exp().item()])}
                kept.update(**{name: value[None] for name, value in found.items()})
        tables, drawn = curve_tables(kept, self.seed), PerPrompt()
        rule = best_rule(tables["best"])
        for batch in self.stream(texts, drawn, "thresholds", self.batch_size):
            for text in batch:
                clean = read_clean(model, text.tokens(model))
                drawn.update(found=thresholds_of(model, clean, means, self.equal, rule)[None])
        tables["thresholds"] = threshold_rows(drawn["found"], self.seed)
        return Results({"prompts": _prompt_rows(model, texts, kept)} | tables)

    def _asked(self, model: "Model") -> list[ReadText]:
        """Prompts whose next token is explained; of an adder, up to one digit of each answer."""
        form = model.card.arithmetic
        if form is None or self.prompts or self.prompts_file:
            shipped = [Text(p.kind, p.text) for p in keyed_prompts()[: self.count]]
            return texts_to_read(model, self.prompts, self.prompts_file, shipped, 0)
        sums = sampled_additions(form, self.count, self.seed)
        digits = form.digits + 1  # fewer are written where a model ends early
        written = continued(model, sums, digits, self.stream)
        return [replace(text, new=text.new[: text.number % digits]) for text in written]

    def headline(self, results: Results) -> str:
        """The best rule, those as near, and the threshold that is worth most."""
        best = results.tables["best"]
        rule, found = best_rule(best), self.claims(results)[2]
        own, random = best["area"].mean(), best["random"].mean()
        told = {
            "holds": self._truest(results, rule),
            "fails": f"None; even “{rule}”, the best rule, is no better than a diagram with "
            "random shares",
        }.get(found.verdict, f"Not decided; the best rule is “{rule}”")
        worth = results.tables["thresholds"].sort_values("worth").iloc[-1]
        return (
            f"{told}. With only the parts it draws, the model keeps {own:.2f} more of the "
            "probability of its prediction, on average, than with only those it leaves out "
            f"({random:.2f} where a diagram is drawn by lot). Its strongest links, "
            f"{worth['mass']:.0%} of all that attention and MLPs add in this model, keep "
            f"{worth['estimate']:.0%} by themselves."
        ).replace("%", " %")

    def _truest(self, results: Results, rule: str) -> str:
        """That `rule` is best, and of which others this is not shown."""
        wide = areas_between(results.tables["areas"])
        leads = {other: mean_with_p((wide[rule] - wide[other]).to_numpy(), seed=self.seed)
                 for other in RULES if other != rule}  # fmt: skip
        level = [other for other, lead in leads.items() if not lead.low > 0]
        if not level:
            ahead = "ahead of every other rule (each lead's 95% interval is above 0)"
            return f"The rule “{rule}” draws the truest diagram, {ahead}"
        others = " or ".join(", ".join(f"“{one}”" for one in level).rsplit(", ", 1))
        return f"The rule “{rule}” comes out best, but is not shown to be ahead of {others}"

    def claims(self, results: Results) -> list[Claim]:
        """Is everything kept the model; is a rule better than chance, gradients, the first rule?"""
        prompts, tolerance = results.tables["prompts"], TOLERANCE[self.dtype]
        wide = areas_between(results.tables["areas"])
        return [
            Claim.identity(
                "With all pieces kept the prediction is the model's own.", prompts["error"],
                within=tolerance, unit=f"nats of its log-probability; at most {tolerance:g}",
            ),
            Claim.identity(
                "The weights of every diagram sum to 1.", prompts["balance"], within=BALANCE,
                unit=f"largest error; tolerance {BALANCE:g}",
            ),
            *corrected([self._beats_chance(results), *self._beats_controls(results, wide)],
                       decide=MORE),
            *corrected([self._rule(wide, rule) for rule in RULES], decide=MORE),
            self._ahead(results, wide),
            self._spread(results),
        ]  # fmt: skip

    def _beats_chance(self, results: Results) -> Claim:
        best = results.tables["best"]
        rule = best_rule(best)
        same = (best["rule"] == rule).sum()
        return self._leads(
            Claim.learned,
            "The best rule's diagrams rank pieces better than diagrams with random shares do, by "
            f"an area of more than {LEAST:g}.",
            best["area"] - best["random"],
            by=LEAST,
            null_note=f"random shares: {best['random'].mean():.2f}; the best rule is chosen on the "
            f"other prompts: {same} of {len(best)} times “{rule}”, of {len(RULES)} rules",
            unit=f"{AREA}; best rule less random shares",
        )

    def _beats_controls(self, results: Results, wide: pd.DataFrame) -> list[Claim]:
        best = results.tables["best"].set_index("prompt")
        return [
            self._leads(
                Claim.mechanical,
                f"The best rule ranks pieces better than {words}.",
                best["area"] - wide[order],
                by=0.0,
                null_note=f"{order}: {wide[order].mean():.2f}",
                unit=f"{AREA}; difference",
                family="The best rule's diagram is truer than other orders of the links",
                label=order,
            )
            for order, words in CONTROLS.items()
            if order != best_rule(best)
        ]

    def _rule(self, wide: pd.DataFrame, rule: str) -> Claim:
        """That one rule beats random shares."""
        return self._leads(
            Claim.mechanical,
            f"Diagrams by “{rule}” rank pieces better than random shares, by more than {LEAST:g}.",
            wide[rule] - wide[RANDOM_SHARES],
            by=LEAST,
            null_note=f"random shares: {wide[RANDOM_SHARES].mean():.2f}",
            unit=f"{AREA}; rule less random shares",
            family=f"A rule's diagram is truer than one drawn by lot, by over {LEAST:g}",
            label=rule,
        )

    def _leads(
        self, kind: Callable[..., Claim], sentence: str, lead: pd.Series, by: float, **said: str
    ) -> Claim:
        """That a `lead` in area, one a prompt, is more than `by` on average."""
        found = mean_with_p(lead.to_numpy(), by, self.seed, (-1, 1))
        return kind(sentence, found, above=by, null=0.0, more=MORE, **said)

    def _ahead(self, results: Results, wide: pd.DataFrame) -> Claim:
        """How far the best rule is ahead of the next, both picked on all prompts."""
        best, second = ranked(results.tables["scores"])[:2]
        return Claim.descriptive(
            f"Over all prompts “{best}” has the largest area, and “{second}” the second largest.",
            mean_with_p((wide[best] - wide[second]).to_numpy(), seed=self.seed),
            unit=f"{AREA}; difference of the two, which are picked on these prompts",
        )

    def _spread(self, results: Results) -> Claim:
        """How far the two ablation values agree."""
        scores = results.tables["scores"].pivot(
            index="order", columns="ablation", values="estimate"
        )
        zero, mean = (scores.loc[list(RULES), name].to_numpy() for name in ABLATIONS)
        rho, apart = float(spearman(zero, mean)), np.abs(zero - mean).max()
        best = [list(RULES)[int(values.argmax())] for values in (zero, mean)]
        return Claim.descriptive(
            f"With pieces ablated to zero the best rule is “{best[0]}”, to the mean “{best[1]}”; "
            f"the two areas of a rule differ by {apart:.2f} at most.",
            Estimate(rho, np.nan, np.nan, len(RULES)),
            unit="Spearman's rank correlation of the rules' areas",
        )

    def figures(self, results: Results) -> dict[str, "Drawing"]:
        """Areas of all; curves of the best rules and controls; curves of all; thresholds."""
        return {
            "How true each diagram is": _areas_figure(results),
            "What the first pieces keep of the answer": _curves_of(
                results, "inserted",
                "All pieces are ablated but those that come first. What is left of the probability "
                "of the predicted token: the sooner it comes back, the truer the diagram.",
            ),
            "What is left without the first pieces": _curves_of(
                results, "deleted",
                "Only the pieces that come first are ablated: the sooner the answer is lost, the "
                "truer the diagram.", log=True,
            ),
            "Every rule, by each ablation": _all_curves(results),
            **_threshold_figure(results),
        }  # fmt: skip

    def planted(self) -> "Model":
        """A model that copies the key of each prompt, through one edge of its first layer."""
        shipped = keyed_prompts()[: self.count]
        return planted_copy([p.text for p in shipped], [p.key for p in shipped], seed=self.seed)[0]


def _prompt_rows(model: "Model", texts: list[ReadText], kept: PerPrompt) -> pd.DataFrame:
    told, errors = kept["told"], kept["errors"]
    return pd.DataFrame(
        {
            "prompt": range(len(texts)),
            "given": ["".join(token_strings(model, text.ids)) for text in texts],
            "explained": token_strings(model, told[:, 0].astype(int)),
            "probability": told[:, 1],
            "error": errors[:, 0],
            "balance": errors[:, 1],
            "given_tokens": [len(text.ids) for text in texts],
        }
    )


def _curves_of(results: Results, way: str, caption: str, *, log: bool = False) -> "Drawing":
    """The best rule, the first published and the controls, a panel for each ablation."""
    first = next(rule for rule in ranked(results.tables["scores"]) if rule != FIRST_PUBLISHED)
    shown = [first, FIRST_PUBLISHED, GRADIENT_ORDER, RANDOM_SHARES]
    rows = results.tables["curves"].query("ablation != 'both' and order in @shown and way == @way")
    rows = in_order(rows, "order", shown).assign(ablation="ablated to " + rows["ablation"])
    names = {"estimate": "share_of_the_answer_left", "share": f"share_of_the_mass_{WAYS[way]}"}
    return curves(
        rows.rename(columns=names), *reversed(names.values()),
        series="order", facet="ablation", log_x=log,
        caption=f"{caption} Mean over prompts; bands are 95 % intervals. Shown are {first}, the "
        f"rule first published ({FIRST_PUBLISHED}), pieces by gradient without a diagram, and a "
        "diagram with random shares.",
    )  # fmt: skip


def _areas_figure(results: Results) -> "Drawing":
    scores = results.tables["scores"]
    order = [*ranked(scores), GRADIENT_ORDER, RANDOM_SHARES, RANDOM_ORDER]
    rows = in_order(scores.replace({"ablation": {"both": "mean of both"}}), "order", order)
    return bars(
        rows.rename(columns={"estimate": "area_between_the_curves"}),
        "order", "area_between_the_curves", series="ablation",
        caption="Area under the curve of pieces kept first, less that under the curve of pieces "
        "removed first; rules sorted, then controls. Three dots of a row: both ablation values and "
        "their mean. Intervals resample prompts.",
    )  # fmt: skip


def _all_curves(results: Results) -> "Drawing":
    rows = results.tables["curves"].query("ablation != 'both'")
    rows = rows.assign(curve="first " + rows["way"].map(WAYS) + ", " + rows["ablation"])
    rows = rows.rename(columns={"estimate": "share_left", "share": "share_of_the_mass"})
    return curves(
        rows.drop(columns=["low", "high"]),
        "share_of_the_mass", "share_left", series="curve", facet="order",
        caption="Every order with both ablation values; intervals are in the table. Max-flow draws "
        "no MLPs: they come last.",
    )  # fmt: skip


def _threshold_figure(results: Results) -> dict[str, "Drawing"]:
    rule = best_rule(results.tables["best"])
    rows = results.tables["thresholds"].sort_values("worth", ascending=False)
    words = [f"{row.threshold} ({row.links:.0f})" for row in rows.itertuples()]
    shown = pd.concat(
        [
            rows.assign(number="left of the answer"),
            rows.assign(number="mass drawn", estimate=rows["mass"], low=np.nan, high=np.nan),
        ]
    ).assign(drawn=words * 2)
    return {
        f"Thresholds for diagrams by {shorten(rule, 30)}": bars(
            shown.rename(columns={"estimate": "share"}), "drawn", "share", series="number",
            caption="The probability of the answer with the drawn links alone, beside the share of "
            "the model's mass in them; mean over prompts and ablations. In brackets: how many "
            "links are drawn. Sorted by the first less the second. Rule and thresholds were chosen "
            "on these prompts.",
        )
    }  # fmt: skip
