"""What does each head select, and what does it write?"""

import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from experiments import Claim, Experiment, Results, UsageError
from lenses.statistics.grid import grid

if TYPE_CHECKING:
    from lenses.heads.circuits import TokenPairs
    from lenses.kept import PerPrompt
    from lenses.statistics.against_random import AgainstRandom
    from models import Model
    from prompts.additions import Written
    from viz import Drawing

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
LEVEL = 0.05
SHARED = {"QK, next pos": "attends", "OV": "writes"}
"""The circuits that stand in the row of each head."""


class HeadSelection(Experiment):
    """Each head's attention is taken apart by what moves it, and its weights by pairs of tokens.

    *Shares*: the same tokens take turns at the same slots of a text (Latin squares; the query and
    all else stay), and the variance over keys of each head's scores, as its softmax sees them, is
    parted into content (which token a key is), position (where it stands), both (one only with
    the other) and context (the rest of the text). A head whose scores do not vary has none.
    A language model's slots lie between a text's first and last token, which is the query; an
    adder's are digits of its addends, and its queries all pos from which an answer is read.

    *Kinds*: attention to the previous token, to earlier occurrences of the same token
    (duplicate), to what followed those (induction) and to the first token (sink): on random
    tokens, all different, that are repeated once (queries: the repetition), and on texts.

    *Circuits*: QK and OV between pairs of tokens, by effective embeddings
    (lenses/heads/circuits.py), rows centred, in standard deviations of the head. A pair's score is
    its own, beyond what its second token gets from all. `matches` and `copies`: the share of other
    tokens that a token's own exceeds, .5 by chance.

    Tables: `heads` (all of it, one row a head), `shares` (layer, head, component, estimate, low,
    high, n), `kinds` (kind, tokens, layer, head, estimate, low, high, even (what even attention
    gives), n), `best` (kind: the head that has most of it on one half of the repeated sequences,
    estimated on the other half), `circuits` (circuit, layer, head, rank, from_token, to_token,
    score; a favourite has no from_token), `copies` (own_below of each token, in the best
    induction head), `against_random` (weights, component, prompt: mean share over heads) and
    `example` (the tokens of one repeated sequence).
    Intervals (95 %) resample texts or sequences.
    """

    quick: ClassVar[dict[str, Any]] = {"texts": 4, "repeats": 16}

    texts: int = Field(24, ge=2)
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

    def measure(self, model: "Model") -> Results:
        """Shares, own and of random models; attention by kind; circuits."""
        exchanges = self._exchanges(model)
        shares = self._shares(model, exchanges, "exchanging tokens")
        words = self._words(model)
        repeated, first = self._repeated(model, words)
        units = np.split(repeated, range(AT_ONCE, len(repeated), AT_ONCE))
        again = self._kinds(model, units, first, "repeated tokens")
        given = self._kinds(model, [row[None] for row in self._rows(model)], 1, "texts")
        best = self._best_rows(again)
        pairs, own = self._circuits(model, words)
        tables = {
            "shares": self._estimates(shares["shares"], component=_components()),
            "kinds": pd.concat(
                [self._kind_rows("repeated", again), self._kind_rows("texts", given)],
                ignore_index=True,
            ),
            "best": best,
            "circuits": pairs,
            "copies": _copy_rows(model, words, own, best),
            "against_random": self._against_random(model, exchanges, shares["shares"]),
            "example": _token_rows(model, repeated[1]),
        }
        patterns = _patterns(model, repeated[1], best)
        return Results({"heads": _head_rows(tables, own)} | tables, {"pattern": patterns})

    def _rows(self, model: "Model") -> list[np.ndarray]:
        """The texts as tokens; for an adder additions, with their answers."""
        from models.text import tokenize
        from prompts.texts import shipped_texts

        if model.card.arithmetic is None:
            texts = shipped_texts()[: self.texts]
            return [np.array(tokenize(model, text.text)) for text in texts]
        written = self._written(model)
        ends = written.at.max(axis=1) + 1
        return [row[:end] for row, end in zip(written.tokens, ends, strict=True)]

    def _written(self, model: "Model") -> "Written":
        from prompts.additions import Addition

        style = model.card.arithmetic
        sums = Addition(style.digits, self.texts, self.seed, padded=style.pad).sums
        return style.write(sums)

    def _exchanges(self, model: "Model") -> list["_Exchange"]:
        """What takes turns where: in texts that are long enough and have enough tokens."""
        adds = model.card.arithmetic is not None
        every = self._of_additions(model) if adds else _of_texts(self._rows(model), self.keys)
        rng = np.random.default_rng([self.seed, self.keys])
        found = [one.shuffled(self.keys, rng) for one in every if one.has_room(self.keys)]
        if not found:
            raise UsageError(
                f"keys: no text of {model.card.name} has {self.keys} different tokens and as many "
                "slots for them before its last; take fewer"
            )
        return found

    def _of_additions(self, model: "Model") -> Iterator["_Exchange"]:
        """Digits of the addends take turns; answers are read."""
        written, digits = self._written(model), model.card.arithmetic.digit_ids
        for row, start, at in zip(written.tokens, written.prompt, written.at, strict=True):
            slots = np.flatnonzero(np.isin(row[:start], digits))
            yield _Exchange(row, slots, digits, np.sort(at[at >= 0]) - 1)

    def _shares(self, model: "Model", exchanges: list["_Exchange"], label: str) -> "PerPrompt":
        """Shares [component layer head] of each text."""
        import torch

        from lenses.heads.selection import score_shares
        from lenses.kept import PerPrompt

        kept, device = PerPrompt(), model.cfg.device
        for batch in self.stream(_batches(exchanges, self.batch_size), kept, label):
            for one in batch:
                parts = (one.row, one.tokens, one.slots, one.queries)
                found = score_shares(model, *(torch.from_numpy(x).to(device) for x in parts))
                kept.update(shares=found[None].cpu().numpy())
        return kept

    def _words(self, model: "Model") -> np.ndarray:
        """Ids among which pairs are looked for: an adder's own, or tokens of texts, then words."""
        if model.card.arithmetic is not None:
            ids = sorted(model.card.arithmetic.vocabulary.values())
            return np.array([token for token in ids if token < model.W_U.shape[1]])
        found = dict.fromkeys(np.concatenate([row[1:] for row in self._rows(model)]).tolist())
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
    ) -> "PerPrompt":
        """Attention by kind [kind layer head] of each sequence, from pos `first` on."""
        import torch

        from lenses.heads.selection import attention_by_kind
        from lenses.kept import PerPrompt

        kept = PerPrompt()
        for batch in self.stream(_batches(units, self.batch_size), kept, label):
            for rows in batch:
                tokens = torch.from_numpy(rows).to(model.cfg.device)
                attention, even = attention_by_kind(model, tokens, first)
                kept.update(attention=attention.cpu().numpy(), even=even.cpu().numpy())
        return kept

    def _estimates(self, values: np.ndarray, **first: Sequence[str]) -> pd.DataFrame:
        """Means over texts [prompt first layer head] with intervals, where there is any."""
        from lenses.statistics.intervals import bootstrap

        found = vars(bootstrap(values, self.seed))
        layers, heads = values.shape[-2:]
        rows = grid(first | {"layer": range(layers), "head": range(heads)}, **found)
        return rows[rows["n"] > 0].reset_index(drop=True)

    def _kind_rows(self, tokens: str, kept: "PerPrompt") -> pd.DataFrame:
        from lenses.heads.selection import KINDS

        rows = self._estimates(kept["attention"], kind=KINDS)
        even = pd.Series(np.nanmean(kept["even"], axis=0), index=KINDS)
        rows.insert(1, "tokens", tokens)
        return rows.assign(even=rows["kind"].map(even))

    def _best_rows(self, kept: "PerPrompt") -> pd.DataFrame:
        """For each kind the head with most attention in every second sequence, in the others."""
        from lenses.heads.selection import KINDS
        from lenses.statistics.intervals import bootstrap

        flat = kept["attention"].reshape(len(kept["attention"]), len(KINDS), -1)
        heads = kept["attention"].shape[-1]
        number = flat[::2].mean(axis=0).argmax(axis=-1)
        others = flat[1::2, np.arange(len(KINDS)), number]
        return pd.DataFrame(
            {"kind": KINDS, "layer": number // heads, "head": number % heads}
            | vars(bootstrap(others, self.seed))
            | {"even": kept["even"][1::2].mean(axis=0)}
        )

    def _circuits(self, model: "Model", words: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
        """Token pairs of each head, and own_below [layer circuit head token]."""
        import torch

        from lenses.heads.circuits import circuits
        from models.text import token_strings

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
        from models import untrained

        frames = [_mean_shares("own", own)]
        for number in range(RANDOM_MODELS):
            twin = untrained(model, self.seed + number)
            told = f"random weights {number + 1}/{RANDOM_MODELS}"
            frames.append(
                _mean_shares(f"random {number}", self._shares(twin, exchanges, told)["shares"])
            )
            del twin
            gc.collect()  # a hooked model refers to itself: uncollected, twins would pile up
        return pd.concat(frames, ignore_index=True)

    def claims(self, results: Results) -> list[Claim]:
        """An identity; which kinds of heads there are; and what moves scores beyond chance."""
        best = results.tables["best"].set_index("kind")
        return [
            self._identity(results.tables["shares"]),
            *(_kind_claim(sentence, best.loc[kind]) for kind, sentence in THERE_IS.items()),
            self._copy_claim(results.tables["copies"]),
            *self._mechanical(results.tables["against_random"]),
        ]

    def _identity(self, shares: pd.DataFrame) -> Claim:
        first = shares.query("layer == 0 and component == 'context'")["estimate"].abs()
        tolerance = TOLERANCE[self.dtype]
        return Claim(
            kind="identity",
            sentence="In the first layer, only a key's token and its place move its score.",
            estimate=first.max(),
            n=len(first),
            unit=f"largest share of anything else in a head; tolerance {tolerance:g}",
            verdict="holds" if first.max() <= tolerance else "fails",
        )

    def _copy_claim(self, copies: pd.DataFrame) -> Claim:
        from lenses.statistics.intervals import bootstrap

        found = bootstrap(copies["own_below"].to_numpy()[:, None], self.seed)
        estimate, low, high = (float(x[0]) for x in (found.estimate, found.low, found.high))
        verdict = Claim.judge(low, high, COPIES)
        return Claim(
            kind="learned",
            sentence="The head that attends most to what followed a token before also raises the "
            "logit of the token it finds there.",
            estimate=estimate, low=low, high=high, n=len(copies),
            null=0.5, null_note="a head that writes of tokens at random",
            unit=f"share of other tokens' logits that rise less; threshold {COPIES:g}",
            verdict=verdict,
            decide="more tokens (--vocabulary)" if verdict == "undecided" else "",
        )  # fmt: skip

    def _mechanical(self, rows: pd.DataFrame) -> list[Claim]:
        """That a component moves scores more than with random weights."""
        from lenses.statistics.against_random import against_random
        from lenses.statistics.intervals import benjamini_hochberg

        found = []
        for component in MOVES:
            part = rows[rows["component"] == component]
            wide = part.pivot(index="weights", columns="prompt", values="value")
            random = wide.filter(like="random ", axis="index").to_numpy()
            found.append(against_random(wide.loc["own"].to_numpy(), random, self.seed))
        q = benjamini_hochberg(np.array([one.p for one in found]))
        return [
            _mechanical_claim(*each) for each in zip(MOVES.values(), found, q.tolist(), strict=True)
        ]

    def planted(self) -> "Model":
        """A model with a head of each kind, whose weights are written by code."""
        from models.planted.selection import planted_selection

        return planted_selection(self.seed).model

    def figures(self, results: Results) -> "dict[str, Drawing]":
        """What moves scores, kinds of heads, the best of them at work, and their token pairs."""
        return {**_head_figures(results), **_layer_figure(results), **_best_figures(results)}


THERE_IS = {
    "previous": "A head gives most of its attention to the token before.",
    "duplicate": "A head gives most of its attention to earlier occurrences of the same token.",
    "induction": "A head gives most of its attention to what followed the same token before: "
    "there are induction heads.",
    "sink": "A head gives most of its attention to the first token, whatever that is.",
}
MOVES = {
    "content": "Which token a key is moves scores more than with random weights.",
    "position": "Where a key stands moves scores more than with random weights.",
}


@dataclass(frozen=True)
class _Exchange:
    """A text, and which tokens take turns at which of its slots."""

    row: np.ndarray
    slots: np.ndarray
    tokens: np.ndarray
    queries: np.ndarray

    def has_room(self, keys: int) -> bool:
        return min(len(self.slots), len(self.tokens)) >= keys

    def shuffled(self, keys: int, rng: np.random.Generator) -> "_Exchange":
        """As many of its slots and of its tokens, in random order."""
        slots, tokens = (rng.permutation(x)[:keys] for x in (self.slots, self.tokens))
        return _Exchange(self.row.astype(int), slots, tokens, self.queries)


def _of_texts(rows: list[np.ndarray], keys: int) -> Iterator[_Exchange]:
    """The last different tokens of each text take turns between its first and its last token."""
    for row in rows:
        inner = np.array(list(dict.fromkeys(row[-2:0:-1].tolist()))[:keys], dtype=int)
        short = np.concatenate([row[:1], inner, row[-1:]])
        slots = np.arange(1, len(short) - 1)
        yield _Exchange(short, slots, inner, np.array([len(short) - 1]))


def _batches(items: Sequence, size: int) -> list:
    return [items[i : i + size] for i in range(0, len(items), size)]


def _start(model: "Model") -> list[int]:
    """The tokens that begin every text of a model, if any do."""
    style = model.card.arithmetic
    if style is None:
        return list(model.tokenizer("")["input_ids"])
    return [style.vocabulary[style.layout[0]]] if style.layout[0] in style.vocabulary else []


def _components() -> tuple[str, ...]:
    from lenses.heads.selection import COMPONENTS

    return COMPONENTS


def _mean_shares(weights: str, shares: np.ndarray) -> pd.DataFrame:
    """Mean over the heads that have shares, of each text."""
    flat = shares.reshape(*shares.shape[:2], -1)
    known = ~np.isnan(flat)
    total, count = np.where(known, flat, 0).sum(-1), known.sum(-1)
    value = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    axes = {"prompt": range(len(shares)), "component": _components()}
    rows = grid(axes, value=value).assign(weights=weights)
    return rows[["weights", "component", "prompt", "value"]]


def _summary(pairs: "list[TokenPairs]", names: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    """Of a layer: its token pairs and favourites, and own_below [circuit head token]."""
    own = np.stack([one.own().cpu().numpy() for one in pairs])
    return pd.concat([_pair_rows(one, names) for one in pairs], ignore_index=True), own


def _pair_rows(one: "TokenPairs", names: np.ndarray) -> pd.DataFrame:
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
    from lenses.heads.circuits import CIRCUITS
    from models.text import token_strings

    chosen = best.set_index("kind").loc["induction"]
    layer, head = int(chosen["layer"]), int(chosen["head"])
    values = own[layer, CIRCUITS.index("OV"), head].astype(float)
    told = {"token_id": words, "token": token_strings(model, words), "own_below": values}
    return pd.DataFrame({"layer": layer, "head": head} | told)


def _token_rows(model: "Model", ids: np.ndarray) -> pd.DataFrame:
    from models.text import token_strings

    told = {"token_id": ids, "token": token_strings(model, ids)}
    return pd.DataFrame({"pos": np.arange(len(ids))} | told)


def _patterns(model: "Model", ids: np.ndarray, best: pd.DataFrame) -> np.ndarray:
    """Attention [kind query key] of the best head of each kind."""
    import torch

    from lenses.heads.contributions import attention_patterns

    every = attention_patterns(model, torch.from_numpy(ids).to(model.cfg.device)).numpy()
    return every[best["layer"].to_numpy(), best["head"].to_numpy()]


def _head_rows(tables: dict[str, pd.DataFrame], own: np.ndarray) -> pd.DataFrame:
    """One row a head, with all that was found of it."""
    from lenses.heads.circuits import CIRCUITS

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
    rows = shares.reindex(rows.index, columns=_components()).join(kinds).join(rows)
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


def _kind_claim(sentence: str, row: pd.Series) -> Claim:
    verdict = Claim.judge(row["low"], row["high"], MOSTLY)
    name = f"L{row['layer']:.0f}H{row['head']:.0f}"
    return Claim(
        kind="learned",
        sentence=sentence,
        estimate=row["estimate"],
        low=row["low"],
        high=row["high"],
        n=int(row["n"]),
        null=row["even"],
        null_note=f"attention to all keys alike; the head is {name}, chosen in other sequences",
        unit=f"share of attention in repeated random tokens; threshold {MOSTLY:g}",
        verdict=verdict,
        decide="more sequences (--repeats)" if verdict == "undecided" else "",
    )


def _mechanical_claim(sentence: str, found: "AgainstRandom", q: float) -> Claim:
    lucky = found.verdict == "holds" and q > LEVEL
    verdict = "undecided" if lucky else found.verdict
    return Claim(
        kind="mechanical",
        sentence=sentence,
        estimate=found.estimate,
        low=found.low,
        high=found.high,
        n=found.n,
        p=q,
        null=found.random.mean(),
        null_note=found.note,
        unit="share of the variance of scores over keys, mean over heads",
        verdict=verdict,
        decide="more texts (--texts) or random models" if verdict == "undecided" else "",
    )


def _head_figures(results: Results) -> "dict[str, Drawing]":
    from viz import head_grid

    shares = results.tables["shares"].sort_values("component", key=_in_order(_components()))
    shares = shares.assign(share=shares["estimate"].clip(0, 1).round(6))
    kinds = results.tables["kinds"].query("tokens == 'repeated'")
    kinds = kinds.rename(columns={"estimate": "attention"})
    return {
        "What moves the scores of each head": head_grid(
            shares[["layer", "head", "component", "share"]], "share", facet="component",
            label="share of the variance over keys",
            caption="Variance of a head's attention scores over keys, parted into what follows the "
            "key's token (content), its place (position), the one only with the other (both) and "
            "the rest of the text (context, which in the first layer cannot matter). The four sum "
            "to 1, up to chance in the estimates, which are drawn from 0.",
        ),
        "Kinds of heads": head_grid(
            kinds[["layer", "head", "kind", "attention"]], "attention", facet="kind",
            label="share of attention",
            caption="Attention of each head, when random tokens are repeated, to the token before "
            "(previous), to the same token earlier (duplicate), to what followed it there "
            "(induction) and to the first token of the text (sink).",
        ),
    }  # fmt: skip


def _in_order(names: Sequence[str]):
    return lambda column: column.map({name: i for i, name in enumerate(names)})


def _layer_figure(results: Results) -> "dict[str, Drawing]":
    from viz import bars

    rows = results.tables["against_random"]
    rows = rows.assign(weights=rows["weights"].str.replace(r"random \d+", "random", regex=True))
    means = rows.groupby(["component", "weights"], sort=False)["value"].mean().reset_index()
    return {
        "Shares beside random weights": bars(
            means.rename(columns={"value": "share"}), "component", "share", series="weights",
            caption="Mean over heads and texts of the four shares, beside models of the same "
            "shape with random weights, where content and position have shares too.",
        )
    }  # fmt: skip


def _best_figures(results: Results) -> "dict[str, Drawing]":
    """The best head of each kind on one sequence, and its token pairs."""
    from viz import attention_patterns, heat_map

    best, tokens = results.tables["best"], results.tables["example"]["token"].tolist()
    frames = [
        grid({"query": range(len(tokens)), "key": range(len(tokens))}, attention=pattern).assign(
            layer=row.layer, head=row.head
        )
        for row, pattern in zip(best.itertuples(), results.arrays["pattern"], strict=True)
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
    copying = heads.loc[heads["copies"].idxmax()]
    chosen = [(row.kind, row.layer, row.head) for row in best.itertuples()]
    chosen.append(("copying", int(copying["layer"]), int(copying["head"])))
    circuits = results.tables["circuits"].dropna(subset="from_token")
    parts = []
    for name, layer, head in chosen:
        part = circuits.query("layer == @layer and head == @head and rank < 5")
        parts.append(part.assign(head=f"{name} L{layer}H{head}"))
    rows = pd.concat(parts, ignore_index=True)
    rows = rows[rows["circuit"].isin(SHARED)]
    pair = rows["from_token"].str.strip() + "→" + rows["to_token"].str.strip()
    return rows.assign(circuit=rows["circuit"].map(SHARED), pair=pair, rank=rows["rank"] + 1)
