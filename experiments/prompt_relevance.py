"""
Which prompt tokens does the answer depend on, and is the first layer's attention enough to tell?
"""

import gc
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from experiments import Claim, Experiment, Results, UsageError
from lenses.statistics.grid import grid
from prompts.relevance import ROLES, KeyedPrompt, keyed_prompts

if TYPE_CHECKING:
    from lenses.flow.keyed_texts import KeyedText
    from lenses.flow.one_text import TextRelevance
    from lenses.kept import PerPrompt
    from models import Model
    from viz import Drawing

RANDOM_MODELS = 2
"""Models of the same shape with fresh weights, beside which mechanical claims are shown."""
BASELINE_DRAWS = 2_000
"""Random rankings of each prompt's tokens."""
ENOUGH = 0.1
"""Another layer is a better guide if its rank correlation is higher by more."""
TOLERANCE = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 1e-2}
LEVEL = 0.05
FIRST_LAYER = "attention, first layer"


class PromptRelevance(Experiment):
    """A prompt is continued, and each of its tokens is then knocked out of the answer.

    The truth about a token is what the log-probability of the generated text loses (nats) when
    nothing after it may attend to it (`edges`), or when its embedding is replaced by the mean one
    (`embedding`). Relevances without knock-outs are ranked against it: attention of the rows that
    generate the answer, in each layer, and gradients. Ranked are all prompt tokens but the last,
    from which the answer is read, and but the first, the usual sink, unless a table says so. What
    is estimated is estimated per prompt; intervals (95 %) come from resampling prompts.

    A language model reads prompts whose answer is a word stated in them (the key), some of them in
    other words or with a misleading word beside it. For an adder the prompt is the addition up to
    `=`, and the keys are the two units digits, on which the answer's units digit depends.

    Tables: `prompts` (what was read; `row_error`: how far rows are from summing to 1; `integrated`
    and `whole`: sum of integrated gradients, and what it should be), `relevance` (every measure of
    every token; `layers` is first, each, mean, max, all or none; generated tokens have attention
    alone), `pairs` (generated x prompt tokens: drops and attention), `scores` (rank correlation
    with each truth: for the whole answer or each generated token, of sizes or signed values, first
    token in or out; `measure` random: 95 % of random rankings), `ranks` (of key and misleading
    words among `tokens` ranked ones, 1 is first; `depends`: the answer is known to depend on it),
    `tweaking` (least relevant tokens dropped; does the next token stay, does the whole text, what
    log-probability is lost), `sink` (per layer: attention on the first token, an even share, its
    residual norm over the median of the others, the window in tokens and the mass inside it),
    `against_random` (per prompt, behind the claims).
    """

    quick: ClassVar[dict[str, Any]] = {"additions": 6}

    prompts: tuple[str, ...] = ()
    """Prompts to read; without any, shipped ones (adders: sampled additions)."""
    new_tokens: int = Field(4, ge=1)
    """Tokens the model answers with (an adder: as many digits as its answer has)."""
    said: bool = True
    """Claims count only prompts whose answer says the key; off, every prompt with one counts."""
    additions: int = Field(32, ge=1)
    """Additions sampled for an adder."""
    batch_size: int = Field(1, ge=1)
    """Prompts between two checkpoints; what passes the model together is always the same."""

    def measure(self, model: "Model") -> Results:
        """Continue the prompts, knock their tokens out, rank and drop them; then random models."""
        from lenses.flow.one_text import TextRelevance, pair_rows, relevance_rows
        from lenses.kept import PerPrompt
        from lenses.patching.knock_out import mean_embedding

        texts, own = self._continued(model), PerPrompt()
        relevance, pairs = self.rows("relevance"), self.rows("pairs")
        reference = mean_embedding(model)
        batches = self._batches(texts)
        for batch in self.stream(batches, (relevance, pairs, own), "knocking out"):
            for text in batch:
                found = TextRelevance.of(model, text, reference)
                relevance.append(relevance_rows(model, found))
                pairs.append(pair_rows(model, found))
                own.update(**self._summary(model, found))
        return Results(
            tables={
                "prompts": _prompt_rows(model, texts, own),
                "relevance": relevance,
                "pairs": pairs,
                "scores": self._score_rows(model, own),
                "ranks": _rank_rows(texts, own),
                "tweaking": self._tweaking_rows(own),
                "sink": self._sink_rows(model, own),
                "against_random": self._against_random(model, texts, own),
            }
        )

    def _texts(self, model: "Model") -> list["KeyedText"]:
        """The prompts as tokens, with the places of their keys."""
        from lenses.flow.keyed_texts import KeyedText
        from models.text import tokenize

        if model.card.arithmetic and not self.prompts:
            return self._sampled_additions(model)
        given = [KeyedPrompt("given", text) for text in self.prompts] or keyed_prompts()
        texts = [
            KeyedText(i, prompt, tokenize(model, prompt.text)) for i, prompt in enumerate(given)
        ]
        for text in texts:
            needed = len(text.given) + self._new_tokens(model)
            if not text.given or needed > model.cfg.n_ctx:
                raise UsageError(
                    f"prompt {text.number}: {needed} tokens with its answer, but "
                    f"{model.card.name} reads 1 to {model.cfg.n_ctx}; shorten it or --new-tokens"
                )
        return texts

    def _sampled_additions(self, model: "Model") -> list["KeyedText"]:
        from lenses.flow.keyed_texts import KeyedText
        from prompts.additions import Addition

        form = model.card.arithmetic
        sums = Addition(form.digits, self.additions, self.seed, padded=form.pad).sums
        written = form.write(sums)
        rows = [row[:n].tolist() for row, n in zip(written.tokens, written.prompt, strict=True)]
        return [
            KeyedText(i, KeyedPrompt("addition", text, key="units"), row)
            for i, (text, row) in enumerate(zip(sums.texts, rows, strict=True))
        ]

    def _new_tokens(self, model: "Model") -> int:
        form = model.card.arithmetic
        return form.digits + 1 if form else self.new_tokens

    def _batches(self, texts: Sequence["KeyedText"]) -> list[Sequence["KeyedText"]]:
        return [texts[i : i + self.batch_size] for i in range(0, len(texts), self.batch_size)]

    def _continued(self, model: "Model") -> list["KeyedText"]:
        """The prompts with the model's answers; those it says nothing to are left out."""
        from models.text import continue_text

        texts = self._texts(model)
        new = continue_text(model, [text.given for text in texts], self._new_tokens(model))
        answered = [
            text.answered(model, more) for text, more in zip(texts, new, strict=True) if more
        ]
        if not self.said:
            answered = [replace(text, depends=bool(text.prompt.key)) for text in answered]
        if not answered:
            raise UsageError(f"{model.card.name} ends every prompt at once: there is no answer")
        return answered

    def _summary(self, model: "Model", found: "TextRelevance") -> dict[str, np.ndarray]:
        """What is kept of a prompt: its estimates, each with a first axis of one prompt."""
        rankings, text = found.rankings, found.text
        rng, other = (np.random.default_rng([self.seed, text.number, i]) for i in range(2))
        both = (text.scored | (np.arange(len(text.given)) == 0), text.scored)
        kept = {
            "scores": np.stack([rankings.scores(scored) for scored in both]),
            "baseline": rankings.baseline(text.scored, BASELINE_DRAWS, other),
            "ranks": found.ranks(),
            "checks": found.checks(model),
            **found.seen.numbers(model, found.orders, rng),
        }
        return {name: value[None] for name, value in kept.items()}

    def _score_rows(self, model: "Model", own: "PerPrompt") -> pd.DataFrame:
        from lenses.flow.scores import SCOPES, TARGETS, TRUTHS, labels
        from lenses.statistics.intervals import bootstrap

        told = labels(model.cfg.n_layers)
        axes = {"first_token": (True, False), "scope": SCOPES, "cell": len(told)}
        axes |= {"truth": TRUTHS, "target": TARGETS}
        rows = grid(axes, **vars(bootstrap(own["scores"], self.seed)))
        names = pd.DataFrame(told).astype({"layer": "Int64"})
        rows = names.iloc[rows.pop("cell")].reset_index(drop=True).join(rows)
        rows = rows[rows["n"] > 0]
        return pd.concat([rows, _baseline_rows(own["baseline"])], ignore_index=True)

    def _tweaking_rows(self, own: "PerPrompt") -> pd.DataFrame:
        from lenses.flow.dropped_tokens import ORDERS, OUTCOMES, SHARES
        from lenses.statistics.intervals import bootstrap

        axes = {"share_dropped": SHARES, "order": ORDERS, "statistic": OUTCOMES}
        rows = grid(axes, **vars(bootstrap(own["tweaks"], self.seed)))
        return rows[rows["n"] > 0].reset_index(drop=True)

    def _sink_rows(self, model: "Model", own: "PerPrompt") -> pd.DataFrame:
        from lenses.flow.relevance import windows
        from lenses.statistics.intervals import bootstrap

        table = pd.DataFrame({"layer": range(model.cfg.n_layers)})
        for name in SINK:
            found = bootstrap(own[name], self.seed)
            table[name], table[f"{name}_low"] = found.estimate, found.low
            table[f"{name}_high"] = found.high
        table["window"] = pd.array(windows(model), dtype="Int64")
        return table.assign(n=len(own["mass"]))

    def _against_random(
        self, model: "Model", texts: list["KeyedText"], own: "PerPrompt"
    ) -> pd.DataFrame:
        """Per prompt, what the mechanical claims are about: own weights, then random ones."""
        from models import untrained

        frames = [_claimed_rows(own, "own")]
        for number in range(RANDOM_MODELS):
            twin = untrained(model, self.seed + number)
            kept = self._read_random(twin, texts, f"random weights {number + 1}/{RANDOM_MODELS}")
            del twin
            gc.collect()  # a hooked model refers to itself: uncollected, twins would pile up
            frames.append(_claimed_rows(kept, f"random {number}"))
        return pd.concat(frames, ignore_index=True)

    def _read_random(self, twin: "Model", texts: list["KeyedText"], label: str) -> "PerPrompt":
        """What the mechanical claims are about, of an untrained model that reads the same texts."""
        from lenses.flow.one_text import AttentionSeen
        from lenses.kept import PerPrompt

        kept = PerPrompt()
        for batch in self.stream(self._batches(texts), kept, label):
            for text in batch:
                seen = AttentionSeen.of(twin, text)
                rng = np.random.default_rng([self.seed, text.number, 0])
                found = seen.numbers(twin, {FIRST_LAYER: seen.by_layer[0]}, rng)
                kept.update(**{name: value[None] for name, value in found.items()})
        return kept

    def planted(self) -> "Model":
        """A model whose first layer copies the key of each shipped prompt."""
        from models.planted.copy import planted_copy

        shipped = keyed_prompts()
        texts, keys = ([getattr(p, name) for p in shipped] for name in ("text", "key"))
        return planted_copy(texts, keys, seed=self.seed)[0]

    def claims(self, results: Results) -> list[Claim]:
        """Does the truth find the key, does the first layer, is another better; is there a sink?"""
        ranks, rows = results.tables["ranks"], results.tables["against_random"]
        values = dict(list(rows.groupby("statistic")))
        return [
            _row_sums(results.tables["prompts"], TOLERANCE[self.dtype]),
            *_key_claims(ranks),
            *_corrected([self._beyond(values, *told) for told in BEYOND]),
            *([self._enough(values["first_less_best"])] if "first_less_best" in values else []),
        ]

    def _beyond(
        self, values: dict[str, pd.DataFrame], statistic: str, sentence: str, unit: str, null: str
    ) -> Claim:
        """That a statistic lies above zero, and above what it is in every random model.

        The second is judged on differences within prompts. `p` is one-sided, that luck puts it
        above both: the larger of the two.
        """
        from lenses.statistics.against_random import above_zero_and_random

        said = {"kind": "mechanical", "sentence": sentence, "unit": unit}
        wide = _by_weights(values.get(statistic))
        if len(wide) < 2:
            why = "at least two prompts of four tokens or more"
            return Claim(**said, estimate=0, n=len(wide), verdict="undecided", decide=why)
        random = wide.filter(like="random ").to_numpy().T
        found = above_zero_and_random(wide["own"].to_numpy(), random, self.seed)
        return Claim(
            **said,
            estimate=found.estimate,
            low=found.low,
            high=found.high,
            n=found.n,
            p=found.p,
            null=found.random.mean(),
            null_note=f"random weights, {RANDOM_MODELS} models; {null}",
            verdict=found.verdict,
            decide=MORE if found.verdict == "undecided" else "",
        )

    def _enough(self, rows: pd.DataFrame) -> Claim:
        """That no other layer's attention is a better guide by more than ENOUGH."""
        from lenses.statistics.intervals import bootstrap

        wide = _by_weights(rows)
        found = bootstrap(wide["own"].to_numpy(), self.seed)
        low, high = (end.item() if len(wide) > 1 else None for end in (found.low, found.high))
        verdict = "undecided" if low is None else Claim.judge(low, high, -ENOUGH)
        return Claim(
            kind="mechanical",
            sentence="No other layer's attention ranks the prompt's tokens better than the first's "
            f"by more than {ENOUGH}",
            unit="its rank correlation less that of the layer that is best in the other prompts",
            estimate=found.estimate.item() if len(wide) else 0,
            low=low,
            high=high,
            n=len(wide),
            null=-ENOUGH,
            null_note="most that it may lose; random weights lose "
            f"{-wide.filter(like='random ').to_numpy().mean():.2f}",
            verdict=verdict,
            decide=MORE if verdict == "undecided" else "",
        )

    def figures(self, results: Results) -> dict[str, "Drawing"]:
        """The curve over layers and the league, one prompt in colours, then uses and the sink."""
        return {
            **_agreement_figures(results.tables["scores"]),
            **_example_figures(results),
            **_word_figures(results.tables["ranks"]),
            **_tweaking_figures(results.tables["tweaking"]),
            **_sink_figures(results.tables["sink"]),
        }


MORE = "more prompts: the interval spans the threshold"
BEYOND = (
    (
        "first_layer",
        "The first layer's attention ranks the prompt's tokens as knocking them out does",
        "Spearman's correlation with the size of the drop, edges cut",
        "random rankings: 0",
    ),
    (
        "dropping",
        "The next token survives the loss of what the first layer attends to least better than "
        "that of as many random tokens",
        "difference of the shares of prompts, mean over 25, 50 and 75 % of tokens dropped",
        "random tokens: 0",
    ),
    (
        "sink",
        "The first token draws more attention than an even share",
        "share of attention above an even one, mean over layers and heads",
        "an even share: 0",
    ),
)
SINK = ("mass", "even", "norm_ratio", "inside_window")


def _prompt_rows(model: "Model", texts: list["KeyedText"], own: "PerPrompt") -> pd.DataFrame:
    said = [model.tokenizer.decode(text.new) for text in texts]
    checks = own["checks"]
    return pd.DataFrame(
        {
            "prompt": [text.number for text in texts],
            "name": [text.prompt.name for text in texts],
            "kind": [text.prompt.kind for text in texts],
            "rewords": [text.prompt.of for text in texts],
            "given": [model.tokenizer.decode(text.given) for text in texts],
            "generated": said,
            "key": [text.prompt.key for text in texts],
            "misleading": [text.prompt.misleading for text in texts],
            "depends": [text.depends for text in texts],
            "given_tokens": [len(text.given) for text in texts],
            "generated_tokens": [len(text.new) for text in texts],
            "row_error": checks[:, 0],
            "integrated": checks[:, 1],
            "whole": checks[:, 2],
            "log_probability": checks[:, 3],
        }
    )


def _baseline_rows(baseline: np.ndarray) -> pd.DataFrame:
    """Where 95 % of the means over prompts of random rankings lie."""
    from lenses.flow.scores import SCOPES

    known = baseline[~np.isnan(baseline).any(axis=(1, 2))]
    if not len(known):
        return pd.DataFrame()
    means = known.mean(0)  # [scope draw]
    low, high = np.quantile(means, [0.025, 0.975], axis=1)
    return pd.DataFrame(
        {
            "measure": "random", "layers": "none", "first_token": False, "scope": SCOPES,
            "truth": "edges", "target": "magnitude", "estimate": means.mean(1), "low": low,
            "high": high, "n": len(known),
        }
    )  # fmt: skip


def _rank_rows(texts: list["KeyedText"], own: "PerPrompt") -> pd.DataFrame:
    from lenses.flow.one_text import RANKERS

    axes = {"prompt": len(texts), "role": ROLES, "ranker": list(RANKERS)}
    rows = grid(axes, rank=own["ranks"]).dropna(subset="rank").reset_index(drop=True)
    of = rows.pop("prompt").to_numpy()
    rows.insert(0, "prompt", [texts[i].number for i in of])
    rows.insert(1, "kind", [texts[i].prompt.kind for i in of])
    words = [
        texts[i].prompt.key if role == "key" else texts[i].prompt.misleading
        for i, role in zip(of, rows["role"], strict=True)
    ]
    rows.insert(3, "word", words)
    told = {"tokens": [int(texts[i].scored.sum()) for i in of]}
    return rows.assign(**told, depends=np.array([texts[i].depends for i in of], dtype=bool))


def _claimed_rows(kept: "PerPrompt", weights: str) -> pd.DataFrame:
    """One row per prompt and statistic that has a value."""
    from lenses.flow.dropped_tokens import ORDERS

    curve, tweaks = kept["curve"], kept["tweaks"][..., 0]
    above = tweaks[..., ORDERS.index(FIRST_LAYER)] - tweaks[..., -1]
    columns = {
        "first_layer": curve[:, 0],
        "first_less_best": _first_less_best(curve),
        "dropping": above.mean(1),
        "sink": (kept["mass"] - kept["even"]).mean(1),
    }
    frames = [
        pd.DataFrame({"statistic": name, "weights": weights, "prompt": range(len(value)),
                      "value": value})
        for name, value in columns.items()
    ]  # fmt: skip
    return pd.concat(frames).dropna().reset_index(drop=True)


def _first_less_best(curve: np.ndarray) -> np.ndarray:
    """The first layer's value less that of the later layer that is best in the other prompts.

    To choose the layer on the same prompt would favour it by luck. NaN with a single layer.
    """
    later = curve[:, 1:]
    if not later.size:
        return np.full(len(curve), np.nan)
    known = ~np.isnan(later)
    rest = np.where(known, later, 0)
    count = known.sum(0) - known
    means = (rest.sum(0) - rest) / np.maximum(count, 1)
    chosen = np.where(count > 0, means, -np.inf).argmax(1)
    found = curve[:, 0] - later[np.arange(len(curve)), chosen]
    return np.where((count > 0).any(1), found, np.nan)


def _by_weights(rows: pd.DataFrame | None) -> pd.DataFrame:
    """A column for each model, a row for each prompt in which all have a value."""
    if rows is None:
        return pd.DataFrame({"own": [], "random 0": []})
    return rows.pivot(index="prompt", columns="weights", values="value").dropna()


def _row_sums(prompts: pd.DataFrame, tolerance: float) -> Claim:
    error = prompts["row_error"].max()
    return Claim(
        kind="identity",
        sentence="What a row attends to sums to 1 over the tokens that it can see, also weighted "
        "by values, rolled out, and without the sink",
        estimate=error,
        n=len(prompts),
        unit=f"largest error; tolerance {tolerance:g}",
        verdict="holds" if error <= tolerance else "fails",
    )


def _key_claims(ranks: pd.DataFrame) -> list[Claim]:
    """Whether knocking out, and the first layer, put the key before all other tokens.

    Only answers that are known to depend on the key can tell.
    """
    ranks = ranks[ranks["depends"]]
    key = ranks[ranks["role"] == "key"]
    stated = key[key["kind"].isin(["planted", "addition"])]
    by = dict(list(stated.groupby("ranker")))
    reworded = key.query("kind == 'reworded' and ranker == 'knock-out of edges'")
    misled = ranks.query("kind == 'misleading' and ranker == 'knock-out of edges'")
    both = misled.pivot(index="prompt", columns="role", values="rank").reindex(columns=ROLES)
    none = stated.iloc[:0]
    return [
        _share("Knocking out finds what the answer depends on: a word stated once, or the digits "
               "of the units", by.get("knock-out of edges", none)["rank"] == 1),
        _share("The first layer's attention is enough to find it",
               by.get(FIRST_LAYER, none)["rank"] == 1),
        _share("The first layer's attention is enough, where it is weighted by values",
               by.get("value-weighted, first layer", none)["rank"] == 1),
        _share("Knocking out finds the word, where it is said, when the fact is put in other words",
               reworded["rank"] == 1),
        _share("Knocking out puts the deciding word, where it is said, before one that misleads",
               both["key"] < both["misleading"]),
    ]  # fmt: skip


def _share(sentence: str, right: pd.Series) -> Claim:
    """A learned claim that more than half of the prompts are so."""
    from lenses.statistics.intervals import wilson

    low, high = (float(end) for end in wilson(int(right.sum()), len(right)))
    verdict = Claim.judge(low, high, 0.5)
    none = "a language model that says the word: prompts of this kind are sentences"
    why = "more prompts of this kind" if len(right) else none
    return Claim(
        kind="learned",
        sentence=sentence,
        estimate=float(right.mean()) if len(right) else 0,
        low=low,
        high=high,
        n=len(right),
        unit="share of prompts whose answer is known to depend on the word",
        null=0.5,
        null_note="half of the prompts; by luck about one in as many as they have tokens",
        verdict=verdict,
        decide=why if verdict == "undecided" else "",
    )


def _corrected(claims: list[Claim]) -> list[Claim]:
    """The claims with p corrected over all that have one; what luck may explain does not hold."""
    from lenses.statistics.intervals import benjamini_hochberg

    tested = [claim for claim in claims if claim.p is not None]
    if not tested:
        return claims
    q = iter(benjamini_hochberg(np.array([claim.p for claim in tested])).tolist())
    return [claim if claim.p is None else _with_p(claim, next(q)) for claim in claims]


def _with_p(claim: Claim, p: float) -> Claim:
    lucky = claim.verdict == "holds" and p > LEVEL
    undecided = {"verdict": "undecided", "decide": "more prompts: luck may explain it"}
    return claim.model_copy(update={"p": p} | (undecided if lucky else {}))


MEASURES = {
    "attention": "attention",
    "attention_max": "largest head",
    "attention_without_sink": "without sink",
    "value_weighted_sum": "value-weighted",
    "rollout": "rollout",
    "random": "random ranking",
    "attention_all_rows": "all rows",
}
"""Short names of measures."""
LINES = list(MEASURES)[:-1]
"""Lines of the curve over layers."""
WHOLES = {"answer": "whole answer", "token": "each generated token"}


def _agreement_figures(scores: pd.DataFrame) -> dict[str, "Drawing"]:
    from viz import bars, curves

    told = scores.query("~first_token and target == 'magnitude'")
    edges = told[told["truth"] == "edges"]
    lines = edges[edges["layer"].notna() & edges["measure"].isin(LINES)]
    if lines.empty:  # prompts of so few tokens that nothing can be ranked
        return {}
    random = edges[edges["measure"] == "random"]
    league = _league(told[told["scope"] == "answer"])
    return {
        "Rank correlation with the truth, layer by layer": curves(
            _with_random(lines, random), "layer", "estimate", series="line", facet="read",
            caption="Spearman's correlation of what the rows that write the answer attend to with "
            "what knocking each prompt token out costs (edges cut; sizes; first token left out). "
            "If the first layer were enough, no line would rise after it. Bands: 95 % over "
            "prompts; for random rankings, where 95 % of them lie.",
        ),
        "Which relevance is true": bars(
            league, "relevance", "estimate", series="truth", reference=0,
            caption="The same correlation for every relevance, with both truths: edges to the "
            "token cut, or its embedding replaced. `all rows` averages attention over all rows "
            "that see a token, not only over those that write the answer.",
        ),
    }  # fmt: skip


def _with_random(lines: pd.DataFrame, random: pd.DataFrame) -> pd.DataFrame:
    """The lines of the curve, and random rankings beside them at every layer."""
    layers = pd.DataFrame({"layer": range(int(lines["layer"].max()) + 1)}, dtype="Int64")
    everywhere = random.drop(columns="layer").merge(layers, how="cross")
    both = pd.concat([lines, everywhere[lines.columns]], ignore_index=True)
    both = both.assign(
        layer=both["layer"].astype(int), line=both["measure"].map(MEASURES),
        read=both["scope"].map(WHOLES),
    )  # fmt: skip
    return both[["read", "line", "layer", "estimate", "low", "high", "n"]]


def _league(told: pd.DataFrame) -> pd.DataFrame:
    """One row a relevance and truth, the best first; single layers but the first left out."""
    found = told[(told["layers"] != "each") & (told["measure"] != "value_weighted")]
    how = {"first": ", first layer", "mean": ", mean", "max": ", maximum", "all": "", "none": ""}
    names = [
        MEASURES.get(measure, measure.replace("_", " ")) + how[layers]
        for measure, layers in found[["measure", "layers"]].to_numpy()
    ]
    found = found.assign(relevance=names)
    best = found.groupby("relevance")["estimate"].transform("max")
    found = found.assign(best=best).sort_values(["best", "relevance"], ascending=False)
    columns = ["relevance", "truth", "estimate", "low", "high", "n"]
    return found[columns].reset_index(drop=True)


COLOURED = {
    "Truth: edges cut": ("drop_edges", "none", "log-probability lost (nats)"),
    "Truth: embedding replaced": ("drop_embedding", "none", "log-probability lost (nats)"),
    "Attention of the first layer": ("attention", "first", "attention (share of a row)"),
    "Attention, mean of layers": ("attention", "mean", "attention (share of a row)"),
    "Value-weighted attention": ("value_weighted_sum", "mean", "share of a row"),
    "Integrated gradients": ("integrated_gradients", "all", "nats"),
}


def _example_figures(results: Results) -> dict[str, "Drawing"]:
    """The first prompt that depends on its key, coloured by each relevance; else the first."""
    from viz import colored_tokens

    prompts = results.tables["prompts"]
    depend = prompts[prompts["depends"]]
    chosen = (depend if len(depend) else prompts).iloc[0]
    rows = results.tables["relevance"].query("phase == 'prompt'")
    rows = rows[rows["prompt"] == chosen["prompt"]]
    drawn = {
        title: colored_tokens(
            rows[(rows["measure"] == measure) & (rows["layers"] == layers)][
                ["pos", "token", "role", "value"]
            ],
            "value", label=label,
            caption=f"The prompt “{_short(chosen['given'])}”, which the model continues with "
            f"“{_short(chosen['generated'])}”.",
        )
        for title, (measure, layers, label) in COLOURED.items()
    }  # fmt: skip
    pairs = results.tables["pairs"].query("prompt == @chosen.prompt")
    return {**drawn, **_pair_figures(pairs), **_normalisations(rows)}


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:79] + "…"


PAIRS = {
    "drop_edges": "truth: edges cut",
    "attention_first": "attention, first layer",
    "attention_mean": "attention, mean of layers",
}


def _pair_figures(pairs: pd.DataFrame) -> dict[str, "Drawing"]:
    """Generated x prompt tokens; each panel as a share of its largest value."""
    from viz import heat_map

    said = [f"{row + 1} {token}" for row, token in pairs[["row", "generated"]].to_numpy()]
    given = [f"{pos} {token}" for pos, token in pairs[["pos", "token"]].to_numpy()]
    rows = pairs.assign(written=said, read=given)
    parts = [
        rows[["written", "read"]].assign(panel=name, value=rows[column])
        for column, name in PAIRS.items()
    ]
    inner = rows["pos"].between(1, rows["pos"].max() - 1)
    spans = [part.loc[inner, "value"].abs().max() for part in parts]
    scaled = [
        part.assign(share=part["value"] / span if span > 0 else 0.0)
        for part, span in zip(parts, spans, strict=True)
    ]
    return {
        "Generated against prompt tokens": heat_map(
            pd.concat(scaled, ignore_index=True)[["panel", "written", "read", "share", "value"]],
            "written", "read", "share", facet="panel", low=0, high=1,
            label="share of the panel's largest value, ends of the prompt left out",
            caption="What each generated token (down) loses without each prompt token (across), "
            "and where its row attends to. Each panel has its own scale, set by the tokens "
            "between the first and the last.",
        )
    }  # fmt: skip


def _normalisations(rows: pd.DataFrame) -> dict[str, "Drawing"]:
    from viz import along_text

    names = {"attention": "rows of the answer", "attention_all_rows": "all rows"}
    part = rows[rows["measure"].isin(names) & (rows["layers"] == "mean")]
    part = part.assign(averaged=part["measure"].map(names))
    return {
        "Which rows are averaged": along_text(
            part[["averaged", "pos", "token", "value"]], "value", rows="averaged",
            label="attention, mean of layers",
            caption="Attention that each prompt token gets, averaged over the rows that write the "
            "answer, or over all rows that can see it: then the last tokens, which few rows see, "
            "are weighed as the first, which all see, and what matters to the answer is lost.",
        )
    }  # fmt: skip


def _word_figures(ranks: pd.DataFrame) -> dict[str, "Drawing"]:
    """How often each ranker puts the key first; none where no prompt has a key."""
    from lenses.statistics.intervals import wilson
    from viz import bars

    ranks = ranks[ranks["depends"]]
    if ranks.empty:
        return {}
    key = ranks[ranks["role"] == "key"].assign(first=lambda rows: rows["rank"] == 1)
    share = key.groupby(["ranker", "kind"], sort=False)["first"].agg(right="sum", n="size")
    low, high = wilson(share["right"].to_numpy(), share["n"].to_numpy())
    share = share.assign(share_of_prompts=share["right"] / share["n"], low=low, high=high)
    drawn = {
        "Who finds the key": bars(
            share.reset_index(), "ranker", "share_of_prompts", series="kind",
            caption="How often what the answer is known to depend on is ranked before all other "
            "tokens of the prompt, by kind of prompt. Prompts whose key is not said are left out.",
        )
    }  # fmt: skip
    misled = ranks[ranks["kind"] == "misleading"]
    if len(misled):
        mean = misled.groupby(["ranker", "role"], sort=False)["rank"].mean().reset_index()
        drawn["Misleading words"] = bars(
            mean, "ranker", "rank", series="role",
            caption="Mean rank (1 is first) of the word that decides and of a word that misleads, "
            "in prompts that have both. Prompts whose key is not said are left out.",
        )  # fmt: skip
    return drawn


def _tweaking_figures(tweaking: pd.DataFrame) -> dict[str, "Drawing"]:
    from viz import bars

    if tweaking.empty:
        return {}
    share = tweaking["share_dropped"].map("{:.0%}".format)
    rows = tweaking.assign(dropped=share + " dropped").drop(columns="share_dropped")
    stays, loss = (rows[rows["statistic"] == name] for name in ("next_token_stays", "loss"))
    return {
        "Dropping the least relevant tokens": bars(
            stays.rename(columns={"estimate": "share_of_prompts"}), "order", "share_of_prompts",
            series="dropped",
            caption="Share of prompts whose next token stays the same when a share of the prompt's "
            "tokens is dropped, the least relevant first by each order.",
        ),
        "What dropping costs": bars(
            loss.rename(columns={"estimate": "log_probability_lost"}), "order",
            "log_probability_lost", series="dropped",
            caption="What the whole answer loses in log-probability (nats) by the same: the less, "
            "the better an order tells what can go.",
        ),
    }  # fmt: skip


def _sink_figures(sink: pd.DataFrame) -> dict[str, "Drawing"]:
    from viz import curves

    names = {"mass": "on the first token", "even": "an even share"}
    parts = [
        sink[["layer"]].assign(
            attention=sink[column], low=sink[f"{column}_low"], high=sink[f"{column}_high"], to=name
        )
        for column, name in names.items()
    ]
    norms = sink.rename(columns={"norm_ratio_low": "low", "norm_ratio_high": "high"})
    return {
        "Attention on the first token": curves(
            pd.concat(parts, ignore_index=True), "layer", "attention", series="to",
            caption="Share of the attention of the rows that write the answer that goes to the "
            "first token, mean over heads.",
        ),
        "Length of the first token's state": curves(
            norms[["layer", "norm_ratio", "low", "high"]], "layer", "norm_ratio",
            caption="Length of the first token's residual stream as it enters each layer, over "
            "the median of the other tokens'.",
        ),
    }  # fmt: skip
