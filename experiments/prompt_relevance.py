"""
Which prompt tokens does the answer depend on, and is the first layer's attention enough to tell?
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from experiments import Claim, Reading, Results, Table, TextFile, TextStudy, corrected
from lenses.flow.dropped_tokens import dropping_rows
from lenses.flow.keyed_texts import KeyedText, answered_texts, given_keyed
from lenses.flow.one_text import (
    FIRST_LAYER,
    SINK,
    AttentionSeen,
    TextRelevance,
    claimed_rows,
    pair_rows,
    prompt_rows,
    rank_rows,
    relevance_rows,
    sink_rows,
)
from lenses.flow.relevance import COMPLETE, SMALL, STEPS
from lenses.flow.scores import (
    SCOPES,
    beside_random,
    league_rows,
    score_rows,
)
from lenses.kept import PerPrompt
from lenses.patching.knock_out import mean_embedding
from lenses.statistics.against_random import above_zero_and_twins, by_weights
from lenses.statistics.intervals import bootstrap, share, wilson
from models.planted.copy import planted_copy
from prompts.relevance import ROLES, keyed_prompts
from viz import bars, curves, heat_map
from viz.labels import shorten

if TYPE_CHECKING:
    from models import Model
    from viz import Drawing

RANDOM_MODELS = 4
"""Models of the same shape with fresh weights, beside which mechanical claims are shown."""
ENOUGH = 0.1
"""Another layer is a better guide if its rank correlation is higher by more."""
TOLERANCE = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 1e-2}
KNOCK_OUT = "knock-out of edges"
GUIDES = ((0.7, "a good"), (0.4, "a fair"), (0.15, "only a weak"), (-1.0, "no"))
"""What a headline calls a rank correlation of at least so much."""
NEEDS = "5 prompts or more, of 5 tokens or more each"
MEASURED = {
    "measure": "how relevance is measured; `drop_...` are the truths, `random` random rankings",
    "layers": "which layers: first, each, mean, max, all or none",
    "layer": "number of the layer, where it is a single one",
}
BEYOND = {
    "first_layer": (
        "The answer loses more without the tokens that layer 0 attends to more: their rank "
        "correlation lies above 0 and above that of models with random weights.",
        "Spearman's rank correlation with the size of the loss, edges cut",
        "random rankings give 0",
    ),
    "dropping": (
        "Deleting the tokens that layer 0 attends to least changes the next token less often than "
        "deleting random ones.",
        "share of prompts whose next token stays, minus that with random tokens deleted; mean over "
        "25, 50 and 75 % of tokens deleted",
        "random tokens give 0",
    ),
    "sink": (
        "The first token draws more attention than an even share, and more than in models with "
        "random weights.",
        "share of attention minus the even share, mean over layers and heads",
        "an even share gives 0",
    ),
}
"""Statistic -> the claim that it lies above 0 and above random weights; unit; what gives 0."""
FIRST = (
    (KNOCK_OUT, "knocking out", "Knocking out each token"),
    (FIRST_LAYER, "layer 0's attention", "Layer 0's attention alone"),
    (
        "value-weighted, first layer",
        "layer 0, value-weighted",
        "Layer 0's attention, weighted by the length of the values that it moves,",
    ),
)
"""What may rank the key first: its name, in a word or two, and as the actor of a sentence."""


class PromptRelevance(TextStudy):
    """Each token of a prompt is knocked out, to see how much of the answer is lost without it; the
    rankings by attention and gradients are compared with that.

    The truth about a token is what the log-probability of the text that the model generates loses
    (in nats) when nothing after it may attend to it (edges cut), or its embedding becomes the mean
    one. Held against it are the attention of the rows that generate the answer, in each layer, and
    gradients. The first prompt token (which draws attention whatever it says) and the last (from
    which the answer is read) are not ranked. Intervals (95 %) come from resampling prompts.

    A language model reads prompts whose answer is a word stated in them (the key word); some state
    it in other words, some have a misleading word beside it. An adder reads additions up to `=`;
    the keys are the two units digits, on which the answer's units digit depends.
    """

    runs_on: ClassVar[str] = "adder 10 s, language model minutes"
    quick: ClassVar[Mapping[str, Any]] = {"additions": 6}

    keyed_file: TextFile | None = None
    """A .csv, .tsv or .jsonl file with the columns prompt, key and, if you like, misleading."""
    new_tokens: int = Field(4, ge=1)
    """Tokens the model answers with (an adder: as many digits as its answer has)."""
    said: bool = True
    """Claims count only prompts whose answer says the key; off, every prompt with one counts."""
    additions: int = Field(32, ge=1)
    """Additions sampled for an adder."""
    batch_size: int = Field(1, ge=1)
    """Prompts between two checkpoints; what passes the model together is always the same."""

    tables: ClassVar[Mapping[str, Table]] = {
        "prompts": Table(
            "A row is a prompt that was read, with the model's answer.", key="prompt", columns={
                "name": "name of a shipped prompt",
                "kind": "planted, reworded or misleading (shipped), addition, or given",
                "rewords": "name of the prompt that it puts in other words",
                "given": "the prompt",
                "generated": "the model's answer",
                "key": "the word that decides the answer",
                "misleading": "a word that could be the answer and is not",
                "depends": "whether the answer is known to depend on the key",
                "row_error": "how far a row of attention is from its sum, at most",
                "integrated": "sum of the integrated gradients over the prompt's tokens",
                "whole": "what that sum should be",
                "log_probability": "log-probability of the answer, in nats",
            }, more="given_tokens generated_tokens"),
        "relevance": Table(
            "A row is one measure of one token; generated tokens have attention alone.",
            key="prompt pos measure layers layer", columns=MEASURED | {
                "role": "whether it belongs to the key word, a misleading word or none",
                "value": "the measure",
            }, more="token_id token phase"),
        "pairs": Table(
            "A row is a generated token and a prompt token.", key="prompt row pos", columns={
                "row": "number of the generated token, from 0",
                "generated": "the generated token",
                "drop_edges": "nats that it loses when no later token attends to the prompt token",
                "drop_embedding": "nats that it loses when the embedding is the mean one",
                "attention_first": "attention of layer 0, mean over heads",
                "attention_mean": "attention, mean over heads and layers",
                "value_weighted_mean": "the same, weighted by the values that are moved",
            }, more="token"),
        "scores": Table(
            "A row is how well a measure ranks tokens: its rank correlation with a truth (for "
            "random rankings 95 % of them lie between the ends).",
            key="measure layers layer first_token scope truth target", columns=MEASURED | {
                "scope": "ranked for the whole answer or for each generated token",
                "truth": "how tokens are knocked out: edges cut, or embedding replaced",
                "target": "sizes against sizes, or signed values against signed losses",
            }, more="estimate low high n"),
        "ranks": Table(
            "A row is where a measure ranks a word of a prompt.", key="prompt role ranker",
            columns={
                "kind": "kind of prompt",
                "role": "the key word or the misleading one",
                "word": "the word",
                "ranker": "what ranks the tokens",
                "rank": "rank of the word; 1 is before all other tokens",
                "tokens": "tokens that are ranked",
                "depends": "whether the answer is known to depend on the key",
            }),
        "tweaking": Table(
            "A row is what becomes of the answers when the least relevant tokens are deleted.",
            key="share_dropped order statistic", columns={
                "share_dropped": "share of the prompt's tokens that is deleted",
                "order": "what says which are least relevant",
                "statistic": "whether the next token stays, whether the whole answer stays, or the "
                "log-probability lost (nats)",
            }, more="estimate low high n"),
        "sink": Table(
            "A row is a layer, and what it makes of the first token.", key="layer", columns={
                "mass": "attention on the first token, mean over heads",
                "norm_ratio": "length of its state over the median of the others'",
                "inside_window": "share of attention inside the layer's window",
                **{f"{name}_{end}": f"{end} end of the 95 % interval of {name}"
                   for name, end in product(SINK, ("low", "high"))},
                "window": "tokens that the layer can look back at; missing where all",
            }, more="even n"),
        "against_random": Table(
            "A row is what a claim is about, for one prompt and model.",
            key="statistic weights prompt", columns={
                "statistic": "first_layer: rank correlation of layer 0; first_less_best: minus "
                "that of the best other layer; dropping, sink: see the claims",
                "value": "the statistic",
            }),
    }  # fmt: skip
    reading: ClassVar[Reading] = Reading(
        causal="Yes for the truth: each token is knocked out by cutting the edges to it, and again "
        "by replacing its embedding. Attention and gradients are only compared with it.",
        assumes="One token at a time tells: of two tokens that can replace each other, both seem "
        "irrelevant. The mean embedding is a fair stand-in for no token.",
        stressed="Two ways of knocking out are shown side by side; words that are known to decide, "
        "misleading words, random rankings and random weights are the controls.",
        not_shown="That the model attends to a token because it matters, or that one layer alone "
        "computes the answer.",
    )

    def measure(self, model: "Model") -> Results:
        """Continue the prompts, knock their tokens out, rank and drop them; then random models."""
        given = given_keyed(self.prompts, self.prompts_file, self.keyed_file)
        asked = (given, self.new_tokens, self.additions, self.seed)
        texts, own = answered_texts(model, *asked, self.stream), PerPrompt()
        if not self.said:
            texts = [replace(text, depends=bool(text.prompt.key)) for text in texts]
        relevance, pairs = self.rows("relevance"), self.rows("pairs")
        reference, kept = mean_embedding(model), (relevance, pairs, own)
        for batch in self.stream(texts, kept, "knocking out", self.batch_size):
            for text in batch:
                found = TextRelevance.of(model, text, reference)
                relevance.append(relevance_rows(model, found))
                pairs.append(pair_rows(model, found))
                own.update(**found.kept(model, self.seed))
        return Results(
            tables={
                "prompts": prompt_rows(model, texts, own["checks"]),
                "relevance": relevance,
                "pairs": pairs,
                "scores": score_rows(own["scores"], own["baseline"], self.seed),
                "ranks": rank_rows(texts, own["ranks"]),
                "tweaking": dropping_rows(own["tweaks"], self.seed),
                "sink": sink_rows(model, own, self.seed),
                "against_random": self._against_random(model, texts, own),
            }
        )

    def headline(self, results: Results) -> str:
        """What the answer depends on, and how well layer 0's attention tells it."""
        return f"{_dependence(results)} {_first_layer(results)}"

    def claims(self, results: Results) -> list[Claim]:
        """Does the truth find the key, does layer 0, is another layer better; is there a sink?"""
        prompts, rows = results.tables["prompts"], results.tables["against_random"]
        tolerance, several = TOLERANCE[self.dtype], len(results.tables["sink"]) > 1
        return [
            Claim.identity(
                "Each row's attention sums to 1, or to 1 less a learned sink; weighted by values, "
                "through the layers and without the first token it sums to 1.",
                prompts["row_error"], within=tolerance,
                unit=f"largest error; tolerance {tolerance:g}",
            ),
            _complete(prompts),
            *_key_claims(results),
            *corrected([self._beyond(rows, name) for name in BEYOND], decide="more prompts"),
            *([self._enough(rows)] if several else []),
        ]  # fmt: skip

    def figures(self, results: Results) -> dict[str, "Drawing"]:
        """Who finds the key and one prompt, measure by measure; then layers, uses and the sink."""
        return {
            **_key_figures(results.tables["ranks"]),
            **_example_figures(results),
            **_agreement_figures(results.tables["scores"]),
            **_tweaking_figures(results.tables["tweaking"]),
            **_sink_figures(results.tables["sink"]),
        }

    def planted(self) -> "Model":
        """A model whose first layer copies the key of each shipped prompt."""
        shipped = keyed_prompts()
        return planted_copy([p.text for p in shipped], [p.key for p in shipped], seed=self.seed)[0]

    def _against_random(
        self, model: "Model", texts: list[KeyedText], own: PerPrompt
    ) -> pd.DataFrame:
        """Per prompt, what the mechanical claims are about: own weights, then random ones."""
        frames = [claimed_rows(own, "own")]
        for number, twin in enumerate(self.twins(model, RANDOM_MODELS)):
            kept, label = PerPrompt(), f"random weights {number + 1}/{RANDOM_MODELS}"
            for batch in self.stream(texts, kept, label, self.batch_size):
                for text in batch:
                    seen = AttentionSeen.of(twin, text)
                    rng = np.random.default_rng([self.seed, text.number, 0])
                    found = seen.numbers(twin, {FIRST_LAYER: seen.by_layer[0]}, rng)
                    kept.update(**{name: value[None] for name, value in found.items()})
            frames.append(claimed_rows(kept, f"random {number}"))
        return pd.concat(frames, ignore_index=True)

    def _beyond(self, rows: pd.DataFrame, statistic: str) -> Claim:
        """That a statistic lies above zero, and above what it is in every random model."""
        sentence, unit, zero = BEYOND[statistic]
        found = above_zero_and_twins(rows[rows["statistic"] == statistic], "value", self.seed)
        return Claim.mechanical(
            sentence, found, unit=unit, more="prompts", needs=NEEDS,
            null=found and found.random.mean(),
            null_note=f"{found.note}; {zero}" if found else zero,
        )  # fmt: skip

    def _enough(self, rows: pd.DataFrame) -> Claim:
        """That no other layer's attention is a better guide by more than ENOUGH."""
        wide = by_weights(rows[rows["statistic"] == "first_less_best"], "value")
        random = wide.filter(like="random ").to_numpy()
        led = f"; with random weights layer 0 leads by {random.mean():.2f}" if len(wide) else ""
        return Claim.mechanical(
            f"No other layer's attention has a rank correlation more than {ENOUGH:g} above "
            "layer 0's.",
            bootstrap(wide["own"].to_numpy(), self.seed).within(-2, 2) if len(wide) else None,
            above=-ENOUGH, null=-ENOUGH, null_note=f"allowed margin{led}",
            unit="layer 0's rank correlation with knocking out, minus that of the layer that is "
            "best in the other prompts",
            more="prompts", needs=NEEDS,
        )  # fmt: skip


def _stated(ranks: pd.DataFrame) -> pd.DataFrame:
    """Ranks of keys that answers are known to depend on, in prompts that state them once."""
    stated = ranks["depends"] & (ranks["role"] == "key")
    return ranks[stated & ranks["kind"].isin(["planted", "addition"])]


def _key_words(prompts: pd.DataFrame) -> tuple[str, str]:
    """What decides the answer, and which part of the answer."""
    if "addition" in set(prompts["kind"]):
        return "the two units digits", "the answer's units digit"
    return "the key word", "the answer"


def _dependence(results: Results) -> str:
    """What knocking out finds: over all prompts with a key, or in an example without one."""
    prompts, stated = results.tables["prompts"], _stated(results.tables["ranks"])
    if len(stated):
        key, answer = _key_words(prompts)
        first = stated[stated["rank"] == 1].groupby("ranker").size()
        knocked, attended, weighted = (first.get(name, 0) for name, *_ in FIRST)
        words = [f"“{word}”" for word in stated["word"].unique()[:3] if word != "units"]
        such = f" (such as {', '.join(words)})" if words else ""
        often = f"{knocked} of {stated['prompt'].nunique()} prompts"
        most = f"{answer.capitalize()} loses most without {key}{such} in {often}. Layer 0 attends"
        return f"{most} most to {key} in {attended} (weighted by values, in {weighted})."
    example = _example(prompts)
    if example is None:
        return "No prompt has three tokens or more, so no token can be ranked."
    pairs = _inner(results.tables["pairs"].query("prompt == @example.prompt"))
    most = pairs.groupby(["pos", "token"])["drop_edges"].sum().nlargest(2)
    most = most[(most > 0) & (most >= most.max() / 10)]
    words = [f"“{token.strip() or token}” ({loss:.2g} nats)" for (_, token), loss in most.items()]
    which = f" (one of {len(prompts)} prompts)" if len(prompts) > 1 else ""
    lost = f"most without {' and '.join(words)}" if words else "nothing without any one token"
    return f"After “{example['given']}”{which} the answer “{example['generated']}” loses {lost}."


def _first_layer(results: Results) -> str:
    """How well layer 0's attention ranks the tokens, and which layer does it best."""
    found = results.tables["scores"].query(
        "measure == 'attention' and layers in ('first', 'each') and truth == 'edges' "
        "and target == 'magnitude' and not first_token"
    )
    found = found.dropna(subset="estimate").assign(layer=lambda rows: rows["layer"].astype(int))
    rho, each = (found[found["scope"] == of].set_index("layer")["estimate"] for of in SCOPES)
    if 0 not in rho or 0 not in each:
        return "There are too few tokens to judge layer 0's attention."
    guide = next(word for least, word in GUIDES if rho[0] >= least)
    better = f"; layer {rho.idxmax()} is the best layer ({rho.max():.2f})" if rho.idxmax() else ""
    return (
        f"Layer 0's attention is {guide} guide to all that the answer depends on: its rank "
        f"correlation with knocking out is {rho[0]:.2f}, where 1 is the same order and 0 is chance "
        f"({each[0]:.2f} for each token of the answer by itself){better}."
    )


def _complete(prompts: pd.DataFrame) -> Claim:
    """Integrated gradients sum to what they must, where they were not refused."""
    known = prompts.dropna(subset="integrated")
    refused = len(prompts) - len(known)
    return Claim.identity(
        "Integrated gradients sum to what the answer loses without the whole prompt.",
        abs(known["integrated"] - known["whole"]) / abs(known["whole"]).clip(lower=SMALL),
        within=COMPLETE, needs=f"a prompt for which {max(STEPS)} points on the path are enough",
        unit=f"largest relative error; tolerance {COMPLETE:g}; refused in {refused} of "
        f"{len(prompts)} prompts, where {max(STEPS)} points on the path are too few",
    )  # fmt: skip


def _key_claims(results: Results) -> list[Claim]:
    """Whether the key is ranked first, in prompts whose answer is known to depend on it."""
    prompts, ranks = results.tables["prompts"], results.tables["ranks"]
    (key, answer), kinds = _key_words(prompts), set(prompts["kind"])
    needs = "a model that repeats the key word, or --said false to count all prompts"
    if kinds == {"given"}:
        needs = "prompts whose key word is known: leave --prompts out, to read the shipped ones"
    sentences = needs if "addition" not in kinds else "a language model, as --model smollm2"
    stated, knocked = _stated(ranks), ranks[ranks["depends"] & (ranks["ranker"] == KNOCK_OUT)]
    reworded = knocked[(knocked["kind"] == "reworded") & (knocked["role"] == "key")]
    misled = knocked[knocked["kind"] == "misleading"]
    both = misled.pivot(index="prompt", columns="role", values="rank").reindex(columns=ROLES)
    first = [
        _in_most(
            f"{how} ranks {key} first for {answer} in more than half of the prompts.",
            stated.loc[stated["ranker"] == ranker, "rank"] == 1, needs,
            family="What decides the answer is ranked first", label=label,
        )
        for ranker, label, how in FIRST
    ]  # fmt: skip
    return [
        *first,
        _in_most(
            "Knocking out each token ranks what decides the answer first in more than half of the "
            "prompts that say the same in other words.",
            reworded["rank"] == 1, sentences,
        ),
        _in_most(
            "Knocking out each token ranks what decides the answer above what is misleading in "
            "more than half of the prompts that have both.",
            both["key"] < both["misleading"], sentences, by_chance="as often as by chance",
        ),
    ]  # fmt: skip


def _in_most(
    sentence: str, right: pd.Series, needs: str, by_chance: str = "chance is lower", **said: str
) -> Claim:
    """A learned claim that more than half of the prompts are so."""
    return Claim.learned(
        sentence, share(int(right.sum()), len(right)), above=0.5, null=0.5,
        null_note=f"half of the prompts: {by_chance}",
        unit="share of the prompts whose answer is known to depend on it",
        more="prompts of this kind", needs=needs, **said,
    )  # fmt: skip


def _key_figures(ranks: pd.DataFrame) -> dict[str, "Drawing"]:
    """How often each ranker puts the key first; none where no prompt has a key."""
    key = ranks[ranks["depends"] & (ranks["role"] == "key")]
    if key.empty:
        return {}
    key = key.assign(first=key["rank"] == 1)
    found = key.groupby(["ranker", "kind"], sort=False)["first"].agg(right="sum", n="size")
    low, high = wilson(found["right"].to_numpy(), found["n"].to_numpy())
    found = found.assign(share_of_prompts=found["right"] / found["n"], low=low, high=high)
    return {
        "What finds the tokens that decide the answer": bars(
            found.reset_index(), "ranker", "share_of_prompts", series="kind",
            caption="How often each measure ranks what the answer is known to depend on (the key "
            "word; in additions the two units digits) above all other tokens of the prompt. "
            "Prompts whose answer is not known to depend on it are left out.",
        )
    }  # fmt: skip


STRIPS = {
    "lost: edges cut": ("drop_edges", "none"),
    "lost: embedding": ("drop_embedding", "none"),
    "layer 0 attends": ("attention", "first"),
    "attention, mean": ("attention", "mean"),
    "value-weighted": ("value_weighted_sum", "mean"),
    "gradients": ("integrated_gradients", "all"),
    "all rows, mean": ("attention_all_rows", "mean"),
}
"""Rows of the example: the two truths, then what is compared with them."""
PAIRS = {
    "lost: edges cut": "drop_edges",
    "layer 0 attends": "attention_first",
    "attention, mean": "attention_mean",
}
"""Panels of the example."""


def _example(prompts: pd.DataFrame) -> pd.Series | None:
    """The first prompt that depends on its key, else the first that has a token to be ranked."""
    known = prompts[prompts["given_tokens"] > 2]
    if known.empty:
        return None
    first = known.sort_values("depends", ascending=False, kind="stable").iloc[0]
    return first.map(lambda cell: shorten(cell, 80) if isinstance(cell, str) else cell)


def _example_figures(results: Results) -> dict[str, "Drawing"]:
    """One prompt: every measure of each token, and each generated token by itself."""
    example = _example(results.tables["prompts"])
    if example is None:
        return {}
    rows = results.tables["relevance"].query("phase == 'prompt' and prompt == @example.prompt")
    pairs = results.tables["pairs"].query("prompt == @example.prompt")
    text = f"“{example['given']}”, continued with “{example['generated']}”"
    ends = "Each {} is drawn as a share of its largest size; first and last token are left out."
    return {
        "One prompt, token by token": heat_map(
            _strips(rows), "measure", "read", "share", low=0, high=1,
            label="share of the row's largest size",
            caption=f"The prompt {text}. On top the truth: what the answer loses without each "
            "token, when edges to it are cut or its embedding is replaced. Below, measures that "
            "need no knocking out: attention of layer 0, mean over layers, the same weighted by "
            f"values, integrated gradients (if they converge). {ends.format('row')} The last row "
            "averages attention over all rows that see a token, not only those that answer.",
        ),
        "Generated against prompt tokens": heat_map(
            _panels(pairs), "written", "read", "share", facet="panel", low=0, high=1,
            label="share of the panel's largest size",
            caption="What each generated token (down) loses without each prompt token (across), "
            f"and what the row that writes it attends to, in the prompt {text}. "
            f"{ends.format('panel')}",
        ),
    }  # fmt: skip


def _strips(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for each of STRIPS and token, in this order; none for a measure that was refused."""
    by = dict(list(_named(rows).groupby(["measure", "layers"])))
    strips = {name: by[about] for name, about in STRIPS.items() if about in by}
    parts = [_scaled(strip).assign(measure=name) for name, strip in strips.items()]
    return pd.concat(parts, ignore_index=True)[["measure", "read", "role", "share", "value"]]


def _inner(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["pos"].between(1, rows["pos"].max() - 1)]


def _scaled(rows: pd.DataFrame) -> pd.DataFrame:
    """Sizes as shares of the largest between the ends of the prompt; none at the ends."""
    size = _inner(rows)["value"].abs()
    return rows.assign(share=size / size.max() if size.max() > 0 else size)


def _agreement_figures(scores: pd.DataFrame) -> dict[str, "Drawing"]:
    told = scores.query("~first_token and target == 'magnitude'")
    told = told.rename(columns={"estimate": "rank_correlation", "truth": "knocked_out"})
    told = told.assign(measured=told["measure"].str.replace("_", " "))
    edges = told[told["knocked_out"] == "edges"]
    lines = edges[edges["layer"].notna() & (edges["measure"] != "attention_all_rows")]
    if lines.empty:  # prompts of so few tokens that nothing can be ranked
        return {}
    random = edges[(edges["measure"] == "random") & (edges["scope"] == "answer")]
    return {
        "How well attention ranks the tokens, layer by layer": curves(
            beside_random(lines, random), "layer", "rank_correlation", series="line",
            facet="measured",
            caption="Spearman's rank correlation of what the rows that write the answer attend to "
            "with what knocking out each prompt token costs (edges cut; sizes; first token left "
            "out). If the first layer were enough, no line would rise after it. Bands: 95 % over "
            "prompts; for random rankings, where 95 % lie. Sink: the first token. Rollout: "
            "attention multiplied from layer 0 up, half of each layer being the token itself.",
        ),
        "How well every measure ranks the tokens": bars(
            league_rows(told[told["scope"] == "answer"]), "relevance", "rank_correlation",
            series="knocked_out", reference=0,
            caption="The same rank correlation for every measure, with both ways of knocking out: "
            "edges to the token cut, or its embedding replaced. First, mean, max: of the layers. "
            "All rows: over all rows that see a token, not only those that write the answer.",
        ),
    }  # fmt: skip


def _tweaking_figures(tweaking: pd.DataFrame) -> dict[str, "Drawing"]:
    if tweaking.empty:
        return {}
    rows = tweaking.assign(deleted=tweaking["share_dropped"].map("{:.0%} deleted".format))
    rows = rows.rename(columns={"estimate": "share_of_prompts"})
    return {
        "Deleting the least relevant tokens": bars(
            rows[rows["statistic"] == "next_token_stays"], "order", "share_of_prompts",
            series="deleted",
            caption="Share of prompts whose next token stays the same when a share of the prompt's "
            "tokens is deleted, the least relevant first by each measure.",
        )
    }  # fmt: skip


def _sink_figures(sink: pd.DataFrame) -> dict[str, "Drawing"]:
    shown = ("attention", "first token"), ("attention", "an even share"), ("length", "first token")
    parts = [
        sink[["layer", name, f"{name}_low", f"{name}_high"]]
        .set_axis(["layer", "value", "low", "high"], axis=1)
        .assign(panel=panel, of=of)
        for name, (panel, of) in zip(SINK, shown, strict=False)
    ]
    return {
        "The first token": curves(
            pd.concat(parts, ignore_index=True), "layer", "value", series="of", facet="panel",
            caption="Share of the attention of the rows that write the answer that goes to the "
            "first token (mean over heads), beside an even share; and the length of its residual "
            "stream as it enters each layer, over the median of the other tokens'.",
        )
    }  # fmt: skip


def _panels(pairs: pd.DataFrame) -> pd.DataFrame:
    """One row for each of PAIRS, generated and prompt token."""
    written = (pairs["row"] + 1).astype(str) + " · " + pairs["generated"].str.replace(" ", "␣")
    named = _named(pairs).assign(written=written)
    parts = [_scaled(named.assign(panel=k, value=named[column])) for k, column in PAIRS.items()]
    return pd.concat(parts, ignore_index=True)[["panel", "written", "read", "share", "value"]]


def _named(rows: pd.DataFrame) -> pd.DataFrame:
    """With the place and text of each token in one name."""
    return rows.assign(read=rows["pos"].astype(str) + " · " + rows["token"].str.replace(" ", "␣"))
