"""What does each head select, and what does it write?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from experiments import Claim, Reading, Results, Table, TextStudy, UsageError, corrected, percent
from lenses.heads.circuits import CIRCUITS, TokenPairs, circuits
from lenses.heads.contributions import attention_patterns as patterns_of
from lenses.heads.selection import COMPONENTS, KINDS, attention_by_kind, score_shares
from lenses.kept import PerPrompt
from lenses.statistics.against_random import against_random
from lenses.statistics.grid import grid
from lenses.statistics.intervals import bootstrap, share
from lenses.texts import ReadText, continued, sampled_additions, texts_to_read
from models.planted.selection import planted_selection
from models.text import token_strings
from prompts.texts import shipped_texts
from viz import Drawing, HeadText, attention_patterns, bars, head_explorer, heat_map

if TYPE_CHECKING:
    from models import Model

RANDOM_MODELS = 4
"""Models of the same shape with fresh weights, beside which every mechanical claim is shown."""
MOSTLY = 0.5
"""A head is of a kind that gets more than this share of its attention."""
COPIES = 0.9
"""A head copies where a token's own logit rises more than this share of all others do."""
AT_ONCE = 8
"""Repeated sequences in one pass: fixed, so that no number depends on how the work is cut."""
PAIRS, FAVOURITES = 8, 5
"""Token pairs and tokens that are kept of each circuit of each head."""
TOLERANCE = {"float32": 1e-3, "float16": 0.05, "bfloat16": 0.1}
"""Of the share that is zero by algebra; of what rounding makes of scores that hardly vary."""
SHARED = {"QK, next pos": "attends", "OV": "writes"}
"""The circuits that stand in the row of each head."""
THERE_IS = {
    "previous": "the token before",
    "duplicate": "earlier occurrences of the same token",
    "induction": "what followed the same token before (induction heads)",
    "sink": "the first token, whatever that is",
}
"""What each kind of head attends to."""
MOVES = {
    "content": "Which token a key is moves attention scores more than with random weights.",
    "position": "Where a key stands moves attention scores more than with random weights.",
}
KIND = {"kind": "previous, duplicate, induction or sink"}
MEASURES = {
    "induction": "attention to what followed the same token before (induction)",
    "previous": "attention to the token before (previous)",
    "duplicate": "attention to the same token earlier (duplicate)",
    "sink": "attention to the first token (sink)",
    "content": "what moves scores: which token a key is (content)",
    "position": "what moves scores: where it stands (position)",
    "both": "what moves scores: the one only with the other (both)",
    "context": "what moves scores: the rest of the text (context)",
    "copies": "share of tokens whose logit rises less than the read token's own (copies)",
    "matches": "share of tokens that a query scores lower than its own (matches)",
}
PART = {"component": "what moves scores: content, position, both or context"}


class HeadSelection(TextStudy):
    """What each head attends to is taken apart into where a token stands and which token it is;
    what it writes is read from its weights.

    *Shares*: the same tokens take turns at the same slots of a text (Latin squares; the query and
    all else stay), and the variance over keys of each head's scores, as its softmax sees them, is
    parted into content (which token a key is), position (where it stands), both (one only with
    the other) and context (the rest of the text). A head whose scores do not vary has none.
    A language model's slots lie between a text's first and last token, which is the query; an
    adder's are digits of its addends, and its queries all pos from which an answer is read.

    *Kinds*: attention to the previous token, to earlier occurrences of the same token
    (duplicate), to what followed those (induction) and to the first token (sink): on random
    tokens, all different, that are repeated once (queries: the repetition), and on texts.

    *Circuits*: QK (what a query matches) and OV (what is written) between pairs of tokens, by
    effective embeddings (lenses/heads/circuits.py), rows centred, in standard deviations of the
    head. A pair's score is its own, beyond what its second token gets from all.

    Intervals (95 %) resample texts or sequences.
    """

    runs_on: ClassVar[str] = "adder 5 s, language model minutes"
    quick: ClassVar[dict[str, Any]] = {"count": 5, "repeats": 16}

    count: int = Field(24, ge=2)
    """Texts (for an adder: additions) whose tokens take turns."""
    keys: Literal[5, 7, 11, 13] = 7
    """Tokens that take turns at as many slots: a prime."""
    repeats: int = Field(32, ge=4)
    """Sequences of random tokens that are repeated once."""
    length: int = Field(24, ge=4)
    """Tokens of such a sequence before its repetition (an adder has ten, its digits)."""
    vocabulary: int = Field(1000, ge=2)
    """Tokens among which pairs are looked for: those of the shipped texts, then random words."""
    batch_size: int = Field(4, ge=1)
    """Texts between two checkpoints; what is read in one pass is fixed."""

    tables: ClassVar[Mapping[str, Table]] = {
        "heads": Table(
            "A row is a head, with all that was found of it.", key="layer head",
            columns={kind: f"attention to {what}" for kind, what in THERE_IS.items()} | {
                "content": "share of the variance of its scores that follows which token a key is",
                "position": "share that follows where a key stands",
                "both": "share that follows token and place only together",
                "context": "share that follows the rest of the text",
                "matches": "share of other tokens that a query scores lower than its own token",
                "copies": "share of other tokens whose logit rises less than the read token's own",
                "attends_pairs?": "query → key with the highest scores",
                "attends_always?": "keys that any query likes",
                "writes_pairs?": "token read → token written with the highest scores",
                "writes_always?": "tokens that are written whatever is read",
            },
        ),
        "shares": Table(
            "A row is a component of a head's attention scores.", key="component layer head",
            columns=PART | {"estimate": "share of the variance over keys, mean over texts"},
            more="low high n",
        ),
        "kinds": Table(
            "A row is a head's attention to the keys of one kind.", key="kind tokens layer head",
            columns=KIND | {"tokens": "what was read: repeated random tokens, or texts",
                            "estimate": "share of attention, mean over sequences or texts"},
            more="low high n even",
        ),
        "best": Table(
            "A row is a kind, with the head that has most of it on one half of the repeated "
            "sequences, and its attention on the other half.", key="kind",
            columns=KIND | {"estimate": "share of attention on the other half"},
            more="layer head low high n even",
        ),
        "circuits": Table(
            "A row is one of the highest pairs of tokens of a circuit, or a favourite token.",
            key="circuit layer head rank from_token",
            columns={
                "circuit": "QK, same pos; QK, next pos (the query one pos after the key); or OV",
                "rank": "rank in the head, from 0",
                "from_token": "query, or token that is read; none of a favourite, which all like",
                "to_token": "key, or token that is written",
                "score": "in standard deviations of the head",
            },
        ),
        "copies": Table(
            "A row is a token, read by the best induction head.", key="layer head token_id",
            columns={"own_below": "share of other tokens whose logit rises less than its own"},
            more="token",
        ),
        "against_random": Table(
            "A row is a component of scores in one text, of these weights or of random ones.",
            key="weights component prompt",
            columns=PART | {"value": "share of the variance over keys, mean over heads"},
        ),
        "example": Table("A row is a token of one repeated sequence.", key="pos",
                         more="token_id token"),
    }  # fmt: skip
    reading: ClassVar[Reading] = Reading(
        causal="partly: tokens are exchanged to see what moves attention; no head is removed",
        assumes="these texts and random tokens stand for what the model reads; after the first "
        "layer, the state of a token alone stands for that token in its circuits",
        stressed="each kind's best head is tested on sequences on which it was not chosen; the "
        "state of a token alone is not put to the test",
        not_shown="that the model needs a head for what it attends to, or that a head of none of "
        "these kinds does nothing",
    )

    def measure(self, model: "Model") -> Results:
        """Shares, own and of random models; attention by kind; circuits."""
        texts = self._texts(model)
        exchanges = self._exchanges(model, texts)
        shares = self._shares(model, exchanges, "exchanging tokens")
        words = self._words(model, texts)
        repeated, first = self._repeated(model, words)
        units = np.split(repeated, range(AT_ONCE, len(repeated), AT_ONCE))
        again = self._kinds(model, units, first, "repeated tokens")
        given = self._kinds(model, [np.array([text.ids]) for text in texts], 1, "texts")
        best = self._best_rows(again)
        pairs, own = self._circuits(model, words)
        kinds = [self._kind_rows("repeated", again), self._kind_rows("texts", given)]
        tables = {
            "shares": self._estimates(shares["shares"], component=COMPONENTS),
            "kinds": pd.concat(kinds, ignore_index=True),
            "best": best,
            "circuits": pairs,
            "copies": _copy_rows(model, words, own, best),
            "against_random": self._against_random(model, exchanges, shares["shares"]),
            "example": pd.DataFrame(
                {"token_id": repeated[1], "token": token_strings(model, repeated[1])}
            ).rename_axis("pos").reset_index(),
        }  # fmt: skip
        patterns = patterns_of(model, torch.from_numpy(repeated[1]).to(model.cfg.device))
        return Results({"heads": _head_rows(tables, own)} | tables, {"pattern": patterns.numpy()})

    def headline(self, results: Results) -> str:
        """The heads of a kind, what moves scores on average, and the head that copies most."""
        shares = results.tables["shares"].groupby("component")["estimate"].mean()
        heads = results.tables["heads"]
        said = (
            f"{_kinds_found(results.tables['best'])} Over all heads, attention scores follow where "
            f"a token stands ({percent(shares.get('position', 0))} of their variance) and which "
            f"token it is ({percent(shares.get('content', 0))})"
        )
        for _, most in heads.dropna(subset="copies").nlargest(1, "copies").iterrows():
            said += f". What they write: {_name(most)} copies most, the token read rises above "
            said += f"{percent(most['copies'])} of the others (chance: 50 %)"
        return f"{said}."

    def claims(self, results: Results) -> list[Claim]:
        """Which kinds of heads there are, what moves scores beyond chance, and an identity."""
        best, count = results.tables["best"].set_index("kind"), len(results.tables["heads"])
        claims = [
            *(_kind_claim(kind, best.loc[kind], count) for kind in THERE_IS),
            self._copy_claim(results.tables["copies"]),
            *self._mechanical(results.tables["against_random"]),
            self._identity(results.tables["shares"]),
        ]
        return corrected(claims, decide="more texts (--count)")

    def figures(self, results: Results) -> dict[str, Drawing]:
        """Kinds of heads, what moves scores, the best of them at work, and their token pairs."""
        return {**_head_figures(results), **_best_figures(results)}

    def planted(self) -> "Model":
        """A model with a head of each kind, whose weights are written by code."""
        return planted_selection(self.seed).model

    def _texts(self, model: "Model") -> list[ReadText]:
        """The texts as tokens; for an adder additions, with their answers."""
        form, own = model.card.arithmetic, (self.prompts, self.prompts_file)
        if form is None:
            return texts_to_read(model, *own, shipped_texts()[: self.count], 0)
        if any(own):
            asked = texts_to_read(model, *own, (), form.digits + 1)
            return continued(model, asked, form.digits + 1, self.stream)
        sums = sampled_additions(form, self.count, self.seed)
        return [replace(one, new=one.expected) for one in sums]

    def _exchanges(self, model: "Model", texts: list[ReadText]) -> list["_Exchange"]:
        """What takes turns where: in texts that are long enough and have enough tokens."""
        style = model.card.arithmetic
        every = _of_additions(texts, style.digit_ids) if style else _of_texts(texts, self.keys)
        rng = np.random.default_rng([self.seed, self.keys])
        roomy = (one for one in every if min(len(one.slots), len(one.tokens)) >= self.keys)
        found = [one.shuffled(self.keys, rng) for one in roomy]
        if not found:
            raise UsageError(
                f"keys: no text of {model.card.name} has {self.keys} different tokens and as many "
                "slots for them before its last; give longer texts, or take fewer (--keys)"
            )
        return found

    def _shares(self, model: "Model", exchanges: list["_Exchange"], label: str) -> PerPrompt:
        """Shares [component layer head] of each text."""
        kept, device = PerPrompt(), model.cfg.device
        for batch in self.stream(exchanges, kept, label, self.batch_size):
            for one in batch:
                parts = (one.row, one.tokens, one.slots, one.queries)
                found = score_shares(model, *(torch.from_numpy(x).to(device) for x in parts))
                kept.update(shares=found[None].cpu().numpy())
        return kept

    def _words(self, model: "Model", texts: list[ReadText]) -> np.ndarray:
        """Ids among which pairs are looked for: an adder's own, or tokens of texts, then words."""
        if model.card.arithmetic is not None:
            ids = sorted(model.card.arithmetic.vocabulary.values())
            return np.array([token for token in ids if token < model.W_U.shape[1]])
        found = dict.fromkeys(token for text in texts for token in text.ids[1:])
        rng = np.random.default_rng([self.seed, self.vocabulary])
        for token in rng.permutation(model.W_U.shape[1]).tolist():
            if len(found) >= self.vocabulary:
                break
            text = model.tokenizer.decode([token])
            if text.strip().isalpha() and text.isascii():
                found[token] = None
        return np.array(list(found)[: self.vocabulary])

    def _repeated(self, model: "Model", words: np.ndarray) -> tuple[np.ndarray, int]:
        """Sequences of different random tokens, repeated once; and where the repetition begins."""
        style, start = model.card.arithmetic, _start(model)
        among = words if style is None else style.digit_ids
        length = min(self.length, len(among), (model.cfg.n_ctx - len(start)) // 2)
        rng = np.random.default_rng([self.seed, self.length])
        drawn = np.stack([rng.permutation(among)[:length] for _ in range(self.repeats)])
        rows = [np.tile(start, (self.repeats, 1)).astype(int), drawn, drawn]
        return np.concatenate(rows, axis=1), len(start) + length

    def _kinds(
        self, model: "Model", units: Sequence[np.ndarray], first: int, label: str
    ) -> PerPrompt:
        """Attention by kind [kind layer head] of each sequence, from pos `first` on."""
        kept = PerPrompt()
        for batch in self.stream(units, kept, label, self.batch_size):
            for rows in batch:
                tokens = torch.from_numpy(rows).to(model.cfg.device)
                attention, even = attention_by_kind(model, tokens, first)
                kept.update(attention=attention.cpu().numpy(), even=even.cpu().numpy())
        return kept

    def _estimates(self, values: np.ndarray, **first: Sequence[str]) -> pd.DataFrame:
        """Mean shares over texts [prompt first layer head] with intervals, where there is any."""
        found = vars(bootstrap(values, self.seed).within(0, 1))
        layers, heads = values.shape[-2:]
        rows = grid(first | {"layer": range(layers), "head": range(heads)}, **found)
        return rows[rows["n"] > 0].reset_index(drop=True)

    def _kind_rows(self, tokens: str, kept: PerPrompt) -> pd.DataFrame:
        rows = self._estimates(kept["attention"], kind=KINDS)
        even = pd.Series(np.nanmean(kept["even"], axis=0), index=KINDS)
        rows.insert(1, "tokens", tokens)
        return rows.assign(even=rows["kind"].map(even))

    def _best_rows(self, kept: PerPrompt) -> pd.DataFrame:
        """For each kind the head with most attention in every second sequence, in the others."""
        flat = kept["attention"].reshape(len(kept["attention"]), len(KINDS), -1)
        heads = kept["attention"].shape[-1]
        number = flat[::2].mean(axis=0).argmax(axis=-1)
        others = flat[1::2, np.arange(len(KINDS)), number]
        return pd.DataFrame(
            {"kind": KINDS, "layer": number // heads, "head": number % heads}
            | vars(bootstrap(others, self.seed).within(0, 1))
            | {"even": kept["even"][1::2].mean(axis=0)}
        )

    def _circuits(self, model: "Model", words: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
        """Token pairs of each head, and own_below [layer circuit head token]."""
        names = np.array(token_strings(model, words), dtype=object)
        tokens = torch.from_numpy(words).to(model.cfg.device)
        start = [*_start(model), words[0]][0]
        found = circuits(model, tokens, int(start), lambda pairs: _summary(pairs, names))
        rows = [frame.assign(layer=layer) for layer, (frame, _) in enumerate(found)]
        columns = ["circuit", "layer", "head", "rank", "from_token", "to_token", "score"]
        return pd.concat(rows, ignore_index=True)[columns], np.stack([own for _, own in found])

    def _against_random(
        self, model: "Model", exchanges: list["_Exchange"], own: np.ndarray
    ) -> pd.DataFrame:
        """The mean over heads of each share in each text: own weights, then random ones."""
        frames = [_mean_shares("own", own)]
        for number, twin in enumerate(self.twins(model, RANDOM_MODELS)):
            told = f"random weights {number + 1}/{RANDOM_MODELS}"
            shares = self._shares(twin, exchanges, told)["shares"]
            frames.append(_mean_shares(f"random {number}", shares))
        return pd.concat(frames, ignore_index=True)

    def _copy_claim(self, copies: pd.DataFrame) -> Claim:
        above = copies["own_below"].dropna() > COPIES
        return Claim.learned(
            "The best induction head copies: for more than half of the tokens that it attends to, "
            f"the token's logit rises more than {percent(COPIES)} of all others.",
            share(int(above.sum()), len(above)), above=0.5, null=1 - COPIES,
            null_note="a head that writes tokens at random", unit="share of tokens",
            decide="more tokens (--vocabulary)",
        )  # fmt: skip

    def _mechanical(self, rows: pd.DataFrame) -> list[Claim]:
        """That a component moves scores more than with random weights."""
        claims = []
        for component, sentence in MOVES.items():
            part = rows[rows["component"] == component]
            wide = part.pivot(index="weights", columns="prompt", values="value")
            random = wide.filter(like="random ", axis="index").to_numpy()
            found = against_random(wide.loc["own"].to_numpy(), random, self.seed)
            claims.append(
                Claim.mechanical(
                    sentence, found, null=found.random.mean(), null_note=found.note,
                    unit="share of the variance of scores over keys, mean over heads",
                    decide="more texts (--count)", label=component,
                    family="Moves attention scores more than with random weights",
                )
            )  # fmt: skip
        return claims

    def _identity(self, shares: pd.DataFrame) -> Claim:
        tolerance = TOLERANCE[self.dtype]
        return Claim.identity(
            "In the first layer, only a key's token and its place move its score.",
            shares.query("layer == 0 and component == 'context'")["estimate"].abs(),
            within=tolerance, unit=f"largest share of anything else; tolerance {tolerance:g}",
        )  # fmt: skip


@dataclass(frozen=True)
class _Exchange:
    """A text, and which tokens take turns at which of its slots."""

    row: np.ndarray
    slots: np.ndarray
    tokens: np.ndarray
    queries: np.ndarray

    def shuffled(self, keys: int, rng: np.random.Generator) -> "_Exchange":
        """As many of its slots and of its tokens, in random order."""
        slots, tokens = (rng.permutation(x)[:keys] for x in (self.slots, self.tokens))
        return _Exchange(self.row.astype(int), slots, tokens, self.queries)


def _of_additions(texts: list[ReadText], digits: np.ndarray) -> Iterator[_Exchange]:
    """Digits of the addends take turns; answers are read."""
    for text in texts:
        slots, queries = np.flatnonzero(np.isin(text.given, digits)), np.flatnonzero(text.generated)
        yield _Exchange(np.array(text.ids), slots, digits, queries - 1)


def _of_texts(texts: list[ReadText], keys: int) -> Iterator[_Exchange]:
    """The last different tokens of each text take turns between its first and its last token."""
    for text in texts:
        row = text.ids
        inner = list(dict.fromkeys(row[-2:0:-1]))[:keys]
        short = np.array([*row[:1], *inner, *row[-1:]])
        slots = np.arange(1, len(short) - 1)
        yield _Exchange(short, slots, np.array(inner, dtype=int), np.array([len(short) - 1]))


def _start(model: "Model") -> list[int]:
    """The tokens that begin every text of a model, if any do."""
    style = model.card.arithmetic
    if style is None:
        return list(model.tokenizer("")["input_ids"])
    return [style.vocabulary[style.layout[0]]] if style.layout[0] in style.vocabulary else []


def _mean_shares(weights: str, shares: np.ndarray) -> pd.DataFrame:
    """Mean over the heads that have shares, of each text."""
    flat = shares.reshape(*shares.shape[:2], -1)
    known = ~np.isnan(flat)
    total, count = np.where(known, flat, 0).sum(-1), known.sum(-1)
    value = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    axes = {"prompt": range(len(shares)), "component": COMPONENTS}
    rows = grid(axes, value=value).assign(weights=weights)
    return rows[["weights", "component", "prompt", "value"]]


def _summary(pairs: list[TokenPairs], names: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    """Of a layer: its token pairs and favourites, and own_below [circuit head token]."""
    own = np.stack([one.own().cpu().numpy() for one in pairs])
    return pd.concat([_pair_rows(one, names) for one in pairs], ignore_index=True), own


def _pair_rows(one: TokenPairs, names: np.ndarray) -> pd.DataFrame:
    """The pairs with the highest scores of each head, and the tokens favoured by all."""
    heads, size = one.scores.shape[:2]
    found, score = (x.cpu().numpy() for x in one.top_pairs(min(PAIRS, size**2)))
    liked, column = (x.cpu().numpy() for x in one.favourites.topk(min(FAVOURITES, size)))
    frames = [
        grid(
            {"head": range(heads), "rank": range(values.shape[1])},
            from_token=begin, to_token=end, score=values,
        )
        for begin, end, values in (
            (names[found[..., 0]], names[found[..., 1]], score),
            (np.full(column.shape, None, dtype=object), names[column], liked),
        )
    ]  # fmt: skip
    return pd.concat(frames, ignore_index=True).assign(circuit=one.circuit)


def _copy_rows(
    model: "Model", words: np.ndarray, own: np.ndarray, best: pd.DataFrame
) -> pd.DataFrame:
    """own_below of every token in the OV circuit of the best induction head."""
    chosen = best.set_index("kind").loc["induction"]
    layer, head = int(chosen["layer"]), int(chosen["head"])
    values = own[layer, CIRCUITS.index("OV"), head].astype(float)
    tokens = {"token_id": words, "token": token_strings(model, words)}
    return pd.DataFrame({"layer": layer, "head": head} | tokens | {"own_below": values})


def _head_rows(tables: dict[str, pd.DataFrame], own: np.ndarray) -> pd.DataFrame:
    """One row a head, with all that was found of it."""
    at = ["layer", "head"]
    shares = tables["shares"].pivot(index=at, columns="component", values="estimate")
    kinds = tables["kinds"].query("tokens == 'repeated'")
    kinds = kinds.pivot(index=at, columns="kind", values="estimate")[list(THERE_IS)]
    means = own.mean(axis=-1)
    layers, _, heads = means.shape
    below = {
        name: means[:, CIRCUITS.index(circuit)].ravel()
        for name, circuit in (("matches", "QK, next pos"), ("copies", "OV"))
    }
    rows = grid({"layer": range(layers), "head": range(heads)}, **below).set_index(at)
    rows = shares.reindex(rows.index, columns=COMPONENTS).join(kinds).join(rows)
    return rows.join(_words_of(tables["circuits"])).reset_index()


def _words_of(circuits: pd.DataFrame) -> pd.DataFrame:
    """The first pairs and favourites of the circuits, in one cell each."""
    columns = {}
    for circuit, name in SHARED.items():
        part = circuits[(circuits["circuit"] == circuit) & (circuits["rank"] < 4)]
        liked = part["from_token"].isna()
        told = part["to_token"].where(liked, part["from_token"] + " → " + part["to_token"])
        part = part.assign(told=told)
        for column, rows in ((f"{name}_pairs", part[~liked]), (f"{name}_always", part[liked])):
            columns[column] = rows.groupby(["layer", "head"])["told"].agg(" | ".join)
    return pd.DataFrame(columns)


def _kinds_found(best: pd.DataFrame) -> str:
    """Which heads give most of their attention to one kind of token, in a sentence."""
    best = best.sort_values("estimate", ascending=False)
    sure = best[best["low"] > MOSTLY]
    told = [
        f"{_name(row)} ({percent(row['estimate'])} to {THERE_IS[row['kind']]})"
        for _, row in (sure if len(sure) else best[:1]).iterrows()
    ]
    if len(sure):
        return f"Most of their attention to one kind of token give {'; '.join(told)}."
    return f"No head gives most of its attention to one kind of token; the nearest is {told[0]}."


def _kind_claim(kind: str, row: pd.Series, heads: int) -> Claim:
    return Claim.learned(
        f"A head gives over {percent(MOSTLY)} of its attention to {THERE_IS[kind]}.", row,
        above=MOSTLY,
        null=row["even"], null_note=f"attention spread evenly; {_name(row)} was chosen from "
        f"{heads} heads on other sequences",
        unit=f"share of attention in repeated random tokens; threshold {MOSTLY:g}",
        decide="more sequences (--repeats)", needs="10 sequences or more (--repeats)",
        family="A head gives over half of its attention to one kind of token", label=kind,
    )  # fmt: skip


def _name(row: pd.Series) -> str:
    return f"L{row['layer']:.0f}H{row['head']:.0f}"


def _head_figures(results: Results) -> dict[str, Drawing]:
    every = results.tables["against_random"].rename(columns={"value": "share"})
    own = every["weights"].eq("own").map({True: "these weights", False: "random weights"})
    means = every.groupby(["component", own], sort=False)["share"].mean().reset_index()
    heads = results.tables["heads"].melt(["layer", "head"], list(MEASURES), "measure", "estimate")
    text = HeadText(results.tables["example"]["token"].tolist(), results.arrays["pattern"])
    return {
        "What each head selects": head_explorer(
            heads, text=text, titles=MEASURES, still={"share of attention": list(THERE_IS)},
            caption="Choose a measure, and click a head. Attention to the token before "
            "(previous), to the same token earlier (duplicate), to what followed it there "
            "(induction) and to the first token (sink) is that on random tokens which are "
            "repeated once, as in the text at the right. What moves a head's scores: their "
            "variance over keys, parted into four shares that sum to 1, up to chance.",
        ),
        "Shares beside random weights": bars(
            means, "component", "share", series="weights",
            caption="Mean over heads and texts of the four shares, beside models of the same "
            "shape with random weights, where content and position have shares too.",
        ),
    }  # fmt: skip


def _best_figures(results: Results) -> dict[str, Drawing]:
    """The best head of each kind on one sequence, and its token pairs."""
    best, tokens = results.tables["best"], results.tables["example"]["token"].tolist()
    patterns = results.arrays["pattern"][best["layer"], best["head"]]
    frames = [
        grid({"query": range(len(tokens)), "key": range(len(tokens))}, attention=pattern).assign(
            layer=row.layer, head=row.head
        )
        for row, pattern in zip(best.itertuples(), patterns, strict=True)
    ]
    pairs = pd.concat(frames).drop_duplicates(["layer", "head", "query", "key"])
    told = ", ".join(f"{row.kind} L{row.layer}H{row.head}" for row in best.itertuples())
    return {
        "The best head of each kind": attention_patterns(
            pairs[pairs["query"] >= pairs["key"]], tokens,
            caption=f"Attention on random tokens that are repeated once, of the head with most of "
            f"each kind: {told}. Previous tokens lie just below the diagonal, duplicates on a "
            "parallel to it that begins with the repetition, and induction one beside that.",
        ),
        "Token pairs": heat_map(
            _pair_cells(results), "head", "rank", "score", facet="circuit", text="pair",
            label="standard deviations of the head's pairs",
            caption="The pairs with the highest scores of the best head of each kind, and of the "
            "head that copies most. Attends: query → key at the pos before it. Writes: token "
            "attended to → token whose logit rises.",
        ),
    }  # fmt: skip


def _pair_cells(results: Results) -> pd.DataFrame:
    """Top pairs of a few heads, with a name for each head."""
    heads, best = results.tables["heads"], results.tables["best"]
    chosen = [(row["kind"], row) for _, row in best.iterrows()]
    chosen.append(("copying", heads.loc[heads["copies"].idxmax()]))
    circuits = results.tables["circuits"].dropna(subset="from_token")
    circuits = circuits[circuits["circuit"].isin(SHARED) & (circuits["rank"] < 5)]
    parts = []
    for name, row in chosen:
        own = (circuits["layer"] == row["layer"]) & (circuits["head"] == row["head"])
        parts.append(circuits[own].assign(head=f"{name} {_name(row)}"))
    rows = pd.concat(parts, ignore_index=True)
    pair = rows["from_token"].str.strip() + "→" + rows["to_token"].str.strip()
    return rows.assign(circuit=rows["circuit"].map(SHARED), pair=pair, rank=rows["rank"] + 1)
