"""Is a relation one direction in the embedding?"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from experiments import (
    Claim,
    Experiment,
    Reading,
    Results,
    Rows,
    Table,
    TextFile,
    UsageError,
    corrected,
    percent,
)
from lenses.kept import PerPrompt
from lenses.states.analogies import (
    METHODS,
    SPACES,
    Metric,
    Queries,
    Relation,
    find,
    forms_of,
    parallelism,
    plain,
    queries,
)
from lenses.states.decoding import is_tied
from lenses.states.static_vectors import glove
from lenses.statistics.against_random import random_models
from lenses.statistics.intervals import Intervals, bootstrap, share, sign_flip
from lenses.statistics.paired import paired_shares
from models.effective import effective_embedding
from models.planted.analogies import planted_analogies
from models.text import token_strings
from prompts.additions import AdditionFormat
from prompts.analogies import WordPairs, digit_pairs, word_pairs
from viz import Drawing, bars, heat_map

if TYPE_CHECKING:
    from models import Model

RANDOM_MODELS = 4
"""Models of the same shape with fresh weights, in whose E the same is looked for."""
FEWEST = 4
"""Pairs of a relation; with fewer it is not read."""
MAIN = {"matrix": "E", "space": "raw"}
"""Where the headline and the claims are read; the rest stands beside it."""
HONEST, NEAREST = "mean offset", "nearest neighbour"
ERRORS = {
    "mean with the test pair": (
        "Published error: with the pair that is tested in the mean, the target is found more often "
        "than the other pairs can tell.",
        1,
    ),
    "unordered pairs": (
        "Published error: with pairs whose order was lost, the target is found less often.",
        -1,
    ),
}
"""Claims about methods that are wrong, and the sign of the difference from the honest one."""
MORE = "more pairs (--pairs-file)"
OUTSIDE = "GloVe"
MATRICES = "`E`, `U`, `effective E`, or `GloVe`: word vectors that no language model made"


class Analogies(Experiment):
    """France plus (capital less country) should be Paris: the mean offset of the other pairs of a
    relation is added to a token, and the nearest token is looked up.

    A relation is a list of ordered pairs. For each pair the mean of (target - source) over the
    *other* pairs is added to the source; pairs that share a word with it are left out. All tokens
    are ranked by cosine with that point, except the words of the query and other forms of the
    target. Beside it stand the nearest neighbour of the source alone, the offset of one other pair
    (3CosAdd), and two errors of a published notebook: the tested pair in the mean, and lost order.

    The vectors are the rows of E, the columns of U where they differ, and effective E (E plus the
    first MLP): as they are (raw), less the mean of all tokens (centred), and whitened by the
    covariance of U (causal). Whether offsets are parallel is measured by the cosine of each with
    the mean of the others, against the same words with targets dealt out anew. Intervals (95 %)
    resample pairs. Words are single tokens with a space before them; others are counted as skipped.
    Adders: digits (next, plus two, plus three, minus two).

    As a baseline, the same pairs are looked for in GloVe 6B, word vectors of 50 numbers made from
    counts of neighbouring words (public domain; 400,000 words in small letters).
    """

    runs_on: ClassVar[str] = "adder 5 s, language model 1 min"
    model: str = "smollm2"
    """Model: a card's name, a path to a card, folder or .gguf file, or a hub id."""
    pairs_file: TextFile | None = None
    """Relations of your own: .toml as prompts/analogies.toml, or a .csv of source and target."""
    glove: bool = True
    """Whether the pairs are also looked for in GloVe's word vectors, fetched once (76 MB)."""
    examples: int = Field(2, ge=1)
    """Pairs of each relation whose nearest words are shown."""

    tables: ClassVar[Mapping[str, Table]] = {
        "relations": Table(
            "A row is a relation, with the pairs that could be read.",
            key="relation",
            columns={
                "relation": "name of the relation",
                "given": "pairs that were given",
                "skipped": "pairs a word of which is not one token, and copies in other letters",
            },
            more="n",
        ),
        "pairs": Table(
            "A row is the target of a pair, looked for by one method in one space.",
            key="matrix space method relation pair",
            columns={
                "matrix": MATRICES,
                "space": "`raw`, `centred`, or `causal` (whitened)",
                "method": "how the target was looked for",
                "relation": "name of the relation",
                "pair": "number of the pair in its relation, from 0",
                "source": "the word that is given",
                "target": "the word that is looked for",
                "rank": "rank of the target among all tokens; 1 is the nearest",
                "rank_without": "rank when the words of the query are no candidates",
                "nearest": "five nearest tokens when the words of the query are no candidates",
            },
        ),
        "accuracy": Table(
            "A row is how often the target was the nearest token.",
            key="matrix space method relation query_words",
            columns={
                "matrix": MATRICES,
                "space": "`raw`, `centred`, or `causal` (whitened)",
                "method": "how the target was looked for",
                "relation": "name of the relation, or `all`",
                "query_words": "whether words of the query are candidates: `excluded`, `kept`",
                "estimate": "share of pairs whose target is the nearest",
                "top_5": "share of pairs whose target is among the 5 nearest",
                "top_10": "share of pairs whose target is among the 10 nearest",
            },
            more="low high n",
        ),
        "directions": Table(
            "A row is how parallel the offset of a pair is to those of other pairs.",
            key="matrix space relation pair",
            columns={
                "matrix": MATRICES,
                "space": "`raw`, `centred`, or `causal` (whitened)",
                "relation": "name of the relation",
                "pair": "number of the pair in its relation, from 0",
                "parallel": "cosine of its offset with the mean offset of the other pairs",
                "shuffled": "the same with targets dealt out anew, mean of 20 times",
            },
        ),
        "against_random": Table(
            "A row is how often targets are found in raw E (the token embeddings as they are), "
            "with own or random weights.",
            key="weights method prompt",
            columns={
                "method": "how the target was looked for",
                "prompt": "number of the pair among all pairs",
                "value": "1 if the target was the nearest",
            },
        ),
        "examples": Table(
            "A row is what the mean offset leads to in raw E (the embeddings), of the first pairs "
            "of a relation.",
            key="relation source target",
            columns={
                "relation": "name of the relation",
                "source": "the word that is given",
                "target": "the word that is looked for",
                "found": "the five nearest tokens without the source, nearest first",
            },
        ),
    }
    reading: ClassVar[Reading] = Reading(
        causal="no: vectors of tokens are compared; nothing is changed in the model",
        assumes="cosine is the likeness that matters, and words that are one token stand for all "
        "words of a relation",
        stressed="that the pair in question told of itself: its words are in no other pair of the "
        "mean; that the source's neighbours are enough: nearest neighbour; that pairing matters: "
        "shuffled targets; that shapes do it: 4 models with random weights",
        not_shown="that the model uses these directions; or that a relation is not kept in later "
        "layers, or along a curve, where it is no direction here",
    )

    def measure(self, model: "Model") -> Results:
        """Ranks of all targets in every space, then in E of random models."""
        relations, told = self._relations(model)
        names = token_strings(model, range(len(model.W_E)))
        pairs, directions = self.rows("pairs"), self.rows("directions")
        for matrix in self.stream(_matrices(model), (pairs, directions), "vectors"):
            for where, metric in _metrics(model, matrix):
                pairs.append(self._sought(names, metric, relations).assign(**where))
                directions.append(self._parallel(metric, relations).assign(**where))
        if self.glove and not model.card.arithmetic:
            for _ in self.stream([OUTSIDE], (pairs, directions), "word vectors"):
                self._look_outside(relations, pairs, directions)
        random = self._random(model, relations)
        found = pairs.frame()
        return Results(
            tables={
                "relations": told,
                "pairs": pairs,
                "accuracy": _accuracy(found),
                "directions": directions,
                "against_random": _against_random(found, random),
                "examples": self._examples(found),
            }
        )

    def _relations(self, model: "Model") -> tuple[list[Relation], pd.DataFrame]:
        """What can be read, and a row for each relation that was given."""
        names = token_strings(model, range(len(model.W_E)))
        form = model.card.arithmetic
        given = digit_pairs() if form else self._given()
        ids = {name: number for number, name in enumerate(names)}
        every = [_readable(one, ids, "" if form else " ") for one in given]
        read = [one for one in every if len(one.ids) >= FEWEST and one.apart.any(1).all()]
        if not read:
            raise UsageError(
                f"{model.card.name}: no relation has {FEWEST} pairs of single tokens that share no "
                "word; give others (--pairs-file) or take another model"
            )
        rows = pd.DataFrame({"relation": [one.name for one in given]})
        rows["given"] = [len(one.pairs) for one in given]
        rows["n"] = [len(one.ids) if one in read else 0 for one in every]
        return read, rows.assign(skipped=rows["given"] - rows["n"])

    def _given(self) -> list[WordPairs]:
        try:
            return word_pairs(self.pairs_file)
        except ValueError as error:
            raise UsageError(str(error)) from error

    def _look_outside(self, relations: list[Relation], pairs: Rows, directions: Rows) -> None:
        """The same in GloVe, of the pairs both words of which it has in small letters."""
        names, vectors = glove()
        ids = {name: number for number, name in enumerate(names)}
        kept = {one.name: one.among(ids) for one in relations}
        there = [one for _, one in kept.values()]
        for space in SPACES[:2]:  # the third needs an unembedding
            metric, where = Metric(vectors, space, vectors), {"matrix": OUTSIDE, "space": space}
            for rows, found in (
                (pairs, self._sought(names, metric, there)),
                (directions, self._parallel(metric, there)),
            ):
                told = zip(found["relation"], found["pair"], strict=True)
                rows.append(found.assign(pair=[kept[name][0][n] for name, n in told], **where))

    def _sought(
        self, names: Sequence[str], metric: Metric, relations: list[Relation]
    ) -> pd.DataFrame:
        """Every pair by every method, all compared with the vocabulary in one go."""
        tasks = [(one, method) for one in relations for method in METHODS]
        asked = [queries(metric, one, method, self.seed) for one, method in tasks]
        found = find(
            metric,
            Queries(torch.cat([a.at for a in asked]), tuple(w for a in asked for w in a.words)),
            np.concatenate([one.ids[:, 1] for one, _ in tasks]),
            names,
            forms_of(names),
        )
        rows = pd.concat([_pair_rows(one, method) for one, method in tasks], ignore_index=True)
        near = [", ".join(names[token].strip() for token in row) for row in found.nearest]
        return rows.assign(rank=found.rank, rank_without=found.rank_without, nearest=near)

    def _parallel(self, metric: Metric, relations: list[Relation]) -> pd.DataFrame:
        """How parallel each offset is to the others of its relation, true and shuffled."""
        parts = []
        for one in relations:
            both = parallelism(metric, one, self.seed)
            told = {"relation": one.name, "pair": range(len(both))}
            parts.append(pd.DataFrame(told | {"parallel": both[:, 0], "shuffled": both[:, 1]}))
        return pd.concat(parts, ignore_index=True)

    def _random(self, model: "Model", relations: list[Relation]) -> list[pd.DataFrame]:
        """Every pair by every method, in raw E of each random model."""
        found = []
        for number, twin in enumerate(self.twins(model, RANDOM_MODELS)):
            rows = PerPrompt()
            for _ in self.stream([number], rows, f"random weights {number + 1}/{RANDOM_MODELS}"):
                metric = Metric(twin.W_E.detach(), "raw", twin.W_U.detach().mT)
                names = token_strings(model, range(len(model.W_E)))
                sought = self._sought(names, metric, relations)
                rows.update(rank_without=sought["rank_without"].to_numpy())
            told = pd.concat([_pair_rows(one, method) for one in relations for method in METHODS])
            found.append(told.assign(rank_without=rows["rank_without"], weights=f"random {number}"))
        return found

    def headline(self, results: Results) -> str:
        """How often the mean offset finds the target, in which relations it beats the neighbour."""
        every = _main(results.tables["accuracy"])
        excluded = every[every["query_words"] == "excluded"].set_index(["relation", "method"])
        found = excluded["estimate"][:, HONEST].drop("all").sort_values()
        beaten, n = self._beaten(results), excluded["n"]["all", HONEST]
        kept = every[(every["query_words"] == "kept") & (every["method"] == HONEST)]
        kept = kept.set_index("relation")["estimate"]["all"]
        all_found, all_near = (excluded["estimate"]["all", name] for name in (HONEST, NEAREST))
        outside = results.tables["accuracy"].set_index(["matrix", "space", "method", "relation"])
        outside = outside[outside["query_words"] == "excluded"]["estimate"]
        at = (OUTSIDE, "raw", HONEST, "all")
        beside = f" GloVe's word vectors find {percent(outside[at])}." if at in outside else ""
        low, high = (
            f"{percent(end)} ({', '.join(found.index[found == end])})"
            for end in (found.min(), found.max())
        )
        ends = f" By relation: from {low} to {high}." if low != high else ""
        told = "Yes" if len(beaten) == len(found) else "In part" if beaten else "Not shown"
        return (
            f"{told}: adding the mean offset finds the partner in {percent(all_found)} of {n} "
            f"pairs, the token's nearest neighbour does in {percent(all_near)}; the offset is "
            f"clearly ahead in {len(beaten) or 'none'} of {len(found)} relations.{ends} The token "
            f"itself may not be the answer here; if it may, {percent(kept)} are found.{beside}"
        )

    def _beaten(self, results: Results) -> list[str]:
        """Relations in which the mean offset finds more than the nearest neighbour."""
        return [
            claim.label
            for claim in self.claims(results)
            if claim.family.startswith("The mean offset") and claim.verdict == "holds"
        ]

    def claims(self, results: Results) -> list[Claim]:
        """By relation: is the offset ahead of the neighbour, and is it one direction?"""
        pairs = _main(results.tables["pairs"])
        ahead = [self._ahead(name, rows) for name, rows in pairs.groupby("relation", sort=False)]
        parallel = self._parallel_claim(_main(results.tables["directions"]))
        beaten = sum(claim.verdict == "holds" for claim in corrected(ahead, MORE))
        return [
            Claim.descriptive(
                "Share of relations in which the mean offset of other pairs finds the target more "
                "often than the nearest neighbour does.",
                share(beaten, len(ahead)),
                unit="share of relations in which that claim holds",
            ),
            *corrected([*ahead, parallel], MORE),
            *(self._error(results, method) for method in ERRORS),
            *_outside_claims(results.tables["pairs"]),
        ]

    def _ahead(self, name: str, rows: pd.DataFrame) -> Claim:
        right = rows.pivot(index="pair", columns="method", values="rank_without") == 1
        return Claim.learned(
            f"In “{name}” the mean offset of other pairs finds the target more often than the "
            "nearest neighbour does.",
            paired_shares(right[HONEST].to_numpy(), right[NEAREST].to_numpy()),
            above=0.0,
            null=0.0,
            null_note=f"the nearest neighbour, which is right in {percent(right[NEAREST].mean())}",
            unit="share of pairs, mean offset less nearest neighbour",
            family="The mean offset of other pairs finds the target more often than the nearest "
            "neighbour of the source.",
            label=name,
            more=MORE,
        )

    def _parallel_claim(self, rows: pd.DataFrame) -> Claim:
        difference = (rows["parallel"] - rows["shuffled"]).to_numpy()
        return Claim.learned(
            "Offsets of a relation point the same way more than those of the same tokens paired "
            "anew.",
            bootstrap(difference, self.seed).within(-2, 2),
            above=0.0,
            p=float(sign_flip(difference, self.seed)),
            null=0.0,
            null_note=f"targets dealt out anew: a cosine of {rows['shuffled'].mean():.2f}",
            unit="cosine of an offset with the mean of the others, true less paired anew",
            more=MORE,
        )

    def _error(self, results: Results, method: str) -> Claim:
        """What a wrong method finds, less what the honest one does, beside random weights."""
        sentence, sign = ERRORS[method]
        rows = results.tables["against_random"]
        wide = rows.pivot(index=["weights", "prompt"], columns="method", values="value")
        found = {name: wide[name]["own"].to_numpy() == 1 for name in (method, HONEST)}
        more, less = (method, HONEST)[::sign]
        random = wide.drop("own", level="weights").mean()
        return Claim.mechanical(
            sentence,
            paired_shares(found[more], found[less]),
            above=0.0,
            null=random[more] - random[less],
            null_note=random_models(RANDOM_MODELS),
            unit="share of pairs, beyond the mean offset" if sign > 0 else "share of pairs lost",
            more=MORE,
        )

    def figures(self, results: Results) -> dict[str, Drawing | pd.DataFrame]:
        """Accuracy by relation, examples, spaces, directions, query words, published errors."""
        return {
            "How often the target is found": _methods_figure(results),
            "What the offset leads to": _examples_figure(results),
            "In which vectors": _spaces_figure(results),
            "How parallel offsets are": _directions_figure(results),
            "With the tokens of the query as candidates": _candidates_figure(results),
            "Two published errors": _errors_figure(results),
        }

    def planted(self) -> "Model":
        """A model whose digits stand on a line, so that a number more is one direction."""
        return planted_analogies(_FORM, seed=self.seed)

    def _examples(self, found: pd.DataFrame) -> pd.DataFrame:
        rows = _main(found)
        rows = rows[(rows["method"] == HONEST) & (rows["pair"] < self.examples)]
        rows = rows.rename(columns={"nearest": "found"})
        return rows[["relation", "source", "target", "found"]].reset_index(drop=True)


_FORM = AdditionFormat(
    digits=6,
    layout=("<bos>", "a", "+", "b", "=", "c"),
    vocabulary={sign: number for number, sign in enumerate([*"0123456789+=", "<bos>"])},
)


def _readable(one: WordPairs, ids: Mapping[str, int], space: str) -> Relation:
    """The pairs of different words that are one token each; in other letters, a pair is a copy."""
    words: dict[tuple[str, str], tuple[str, str]] = {}
    for pair in one.pairs:
        source, target = map(plain, pair)
        if source != target and all(space + word in ids for word in pair):
            words.setdefault((source, target), pair)
    rows = [[ids[space + word] for word in pair] for pair in words.values()]
    return Relation(one.name, tuple(words.values()), np.array(rows, dtype=np.int64).reshape(-1, 2))


def _outside_claims(pairs: pd.DataFrame) -> list[Claim]:
    """How often GloVe finds what raw E finds; none where it was not looked in."""
    rows = pairs[(pairs["method"] == HONEST) & (pairs["space"] == "raw")]
    rank = rows.pivot(index=["relation", "pair"], columns="matrix", values="rank_without")
    if OUTSIDE not in rank:
        return []
    right = rank[[OUTSIDE, MAIN["matrix"]]].dropna() == 1
    there, here = (right[name].to_numpy() for name in right)
    return [
        Claim.descriptive(
            f"The mean offset finds {percent(there.mean())} of targets in GloVe's word vectors "
            f"and {percent(here.mean())} of the same targets in raw E.",
            paired_shares(there, here), unit="share of pairs, GloVe less raw E",
        )
    ]  # fmt: skip


def _matrices(model: "Model") -> list[str]:
    return ["E", "effective E"] if is_tied(model) else ["E", "U", "effective E"]


def _vectors(model: "Model", matrix: str) -> torch.Tensor:
    """A row for each token."""
    if matrix == "effective E":
        return effective_embedding(model, torch.arange(len(model.W_E)))
    return model.W_E.detach() if matrix == "E" else model.W_U.detach().mT


def _metrics(model: "Model", matrix: str) -> Iterator[tuple[dict[str, str], Metric]]:
    """A matrix in each space, by name; its vectors are freed after the last one."""
    vectors, U = _vectors(model, matrix), model.W_U.detach().mT
    for space in SPACES:
        yield {"matrix": matrix, "space": space}, Metric(vectors, space, U)


def _pair_rows(one: Relation, method: str) -> pd.DataFrame:
    source, target = zip(*one.words, strict=True)
    told = {"relation": one.name, "method": method, "pair": range(len(one.words))}
    return pd.DataFrame(told | {"source": source, "target": target})


def _numbers(found: Intervals) -> dict[str, float | int]:
    return {name: value.item() for name, value in vars(found).items()}


def _main(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of raw E."""
    return rows[(rows["matrix"] == MAIN["matrix"]) & (rows["space"] == MAIN["space"])]


def _accuracy(pairs: pd.DataFrame) -> pd.DataFrame:
    """Shares of targets found, by relation and of all of them."""
    by = ["matrix", "space", "method", "relation"]
    both = pd.concat([pairs, pairs.assign(relation="all")])
    rows = []
    for words, rank in {"excluded": "rank_without", "kept": "rank"}.items():
        for names, part in both.groupby(by, sort=False):
            right = [int((part[rank] <= most).sum()) for most in (1, 5, 10)]
            first = share(right[0], len(part))._asdict()
            row = dict(zip(by, names, strict=True)) | {"query_words": words} | first
            more = {"top_5": right[1] / len(part), "top_10": right[2] / len(part)}
            rows.append({k: v for k, v in row.items() if k != "p"} | more)
    return pd.DataFrame(rows)


def _against_random(pairs: pd.DataFrame, random: list[pd.DataFrame]) -> pd.DataFrame:
    """Whether each target is found, by weights and method."""
    every = pd.concat([_main(pairs).assign(weights="own"), *random], ignore_index=True)
    every["prompt"] = every.groupby(["weights", "method"]).cumcount()
    every["value"] = (every["rank_without"] == 1).astype(float)
    return every[["weights", "method", "prompt", "value"]]


def _found_rows(results: Results, methods: tuple[str, ...]) -> pd.DataFrame:
    rows = _main(results.tables["accuracy"]).rename(columns={"estimate": "share_found"})
    return rows[rows["method"].isin(methods)]


def _methods_figure(results: Results) -> Drawing:
    rows = _found_rows(results, (HONEST, "one other pair", NEAREST))
    rows = rows[rows["query_words"] == "excluded"]
    order = rows[rows["method"] == HONEST].sort_values("share_found", ascending=False)["relation"]
    rows = rows.set_index("relation").loc[["all", *(n for n in order if n != "all")]].reset_index()
    return bars(
        rows, "relation", "share_found", series="method",
        caption="Share of pairs whose target is the nearest token, in the token embeddings as "
        "they are (raw E), tokens of the query "
        "left out. Mean offset: source plus the mean of (target - source) over other pairs. One "
        "other pair: 3CosAdd. Nearest neighbour: the source alone. Lines: 95 % (Wilson).",
    )  # fmt: skip


def _examples_figure(results: Results) -> pd.DataFrame:
    rows = results.tables["examples"]
    rows = rows.assign(found=[", ".join(text.split(", ")[:3]) for text in rows["found"]])
    rows.attrs["caption"] = (
        "Source plus the mean offset of other pairs in raw E (the embeddings), and the three "
        "tokens nearest to it, "
        "the source's own forms left out."
    )
    return rows


def _spaces_figure(results: Results) -> Drawing:
    rows = results.tables["accuracy"]
    rows = rows[(rows["query_words"] == "excluded") & (rows["method"] == HONEST)]
    rows = rows.rename(columns={"estimate": "share_found"})
    rows = rows.assign(
        vectors=rows["matrix"].str.replace("effective", "eff.") + " " + rows["space"],
        text=(100 * rows["share_found"]).round().astype(int).astype(str) + " %",
    )
    return heat_map(
        rows, "relation", "vectors", "share_found", text="text", low=0, high=1, label="share found",
        caption="Share of pairs whose target the mean offset of other pairs finds, by vectors. "
        "Effective E: E plus the first MLP. Centred: less the mean of all tokens. Causal: whitened "
        "by the covariance of U. GloVe: word vectors from outside, among 400,000 words.",
    )  # fmt: skip


def _directions_figure(results: Results) -> Drawing:
    rows = _main(results.tables["directions"])
    parts = []
    for name, words in {"parallel": "true pairs", "shuffled": "paired anew"}.items():
        for relation, part in rows.groupby("relation", sort=False):
            told = {
                "relation": relation,
                "pairs": words,
                **_numbers(bootstrap(part[name].to_numpy())),
            }
            parts.append(told)
    return bars(
        pd.DataFrame(parts).rename(columns={"estimate": "mean_cosine"}), "relation", "mean_cosine",
        series="pairs",
        caption="Cosine of an offset (target - source) with the mean offset of the other pairs, "
        "mean over pairs, in raw E (the embeddings): 1 if all are the same direction. Paired "
        "anew: the same tokens, "
        "20 random pairings. What is left there is the way from one kind of token to another. "
        "Lines: 95 % over pairs.",
    )  # fmt: skip


def _candidates_figure(results: Results) -> Drawing:
    rows = _found_rows(results, (HONEST, "one other pair"))
    rows = rows[rows["relation"] == "all"].rename(columns={"query_words": "query_tokens"})
    return bars(
        rows, "method", "share_found", series="query_tokens",
        caption="Share of all pairs whose target is the nearest token, when those of the query "
        "are left out (usual), and when they are candidates too: the source is often nearer to the "
        "point than its target is. Lines: 95 % (Wilson).",
    )  # fmt: skip


def _errors_figure(results: Results) -> Drawing:
    rows = results.tables["against_random"]
    rows = rows[rows["method"].isin([HONEST, *ERRORS])]
    rows = rows.assign(weights=rows["weights"].where(rows["weights"] == "own", "random"))
    means = rows.groupby(["method", "weights"], sort=False)["value"]
    told = means.agg(share_found="mean").reset_index()
    return bars(
        told, "method", "share_found", series="weights",
        caption="Share of all pairs found by the honest mean offset, and by two errors of a "
        "published notebook: the tested pair in the mean, and pairs whose order was lost. "
        f"Random: the mean of {RANDOM_MODELS} models with random weights, which know nothing.",
    )  # fmt: skip
