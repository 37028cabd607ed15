"""Do heads do each other's work?"""

import gc
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field

from experiments import Claim, Experiment, Results

if TYPE_CHECKING:
    from lenses.kept import PerPrompt
    from lenses.statistics.against_random import AgainstRandom
    from models import Model
    from viz import Drawing

RANDOM_MODELS = 4
"""Models of the same shape with fresh weights, beside which every mechanical claim is shown."""
RANDOM_REMOVED = 2
"""Of them, those whose heads are removed too."""
GROUP = 4
"""Texts whose tokens are compared with each other."""
ALIKE = 0.5
"""CKA above which two heads are called alike."""
NEGLIGIBLE = 0.01
"""Nats: a head can go where its removal costs less, and differences below it count for nothing."""
MOST = 0.5
"""Share of heads that would be most of them."""
FEW = 3
"""Heads of random models are removed in every third text."""
LEVEL = 0.05


class HeadRedundancy(Experiment):
    """How alike the heads' results are, and whether one head can stand in for another.

    *Likeness* of two heads' results over the tokens of a corpus (the first of each text left out):
    linear CKA, unbiased, whether one is a rotation of the other; mean cosine, whether they write
    the same direction; overlap of the subspaces they can write to (ov: W_O with the gain of a norm
    after it) and from which their queries are read (qk: W_Q alone, without the gain of the norm
    before it), which random subspaces have too (d_head / d_model).

    *Removal*: a head's z becomes its mean over the other texts at the same pos; the cost is the
    rise of the negative log-likelihood of the next token, in nats (an adder: of its answers).
    The most alike pairs by CKA are removed jointly (`alike`: above .5, else `less alike`), and for
    each alike one an `unlike` pair: the same first head with the head of the second's layer that
    is least like it. `interaction` is the cost of both less the two costs. Above zero, each covers
    for the other: what they contribute is sub-additive (either would do); below zero, each needs
    the other. Two heads that are much needed, each by itself, may also lie far above zero, since
    the likelihood has no floor: look at `cost` and `other_cost`.

    Tables: `joint` (layer, head, other_layer, other_head, kind, cka, cost, other_cost, both,
    interaction, low, high, n), `joint_summary` (kind, pairs: mean interaction, and by how much that
    of alike pairs is above their unlike ones'), `removable`
    (weights: share of heads under 0.01 nats, low, high, n, heads), `single` (layer, head, cost,
    low, high, n), `pairs` (every pair of heads: cka, cosine, ov_overlap, qk_overlap), `merges`
    (left, right, height: average linkage on 1 - CKA; a head is its number, a cluster that of
    heads plus its row) and `against_random` (weights, measure, group: mean over pairs; of the
    cosine, of its size). Intervals (95 %) resample texts; those of likeness, groups of four texts.
    """

    quick: ClassVar[dict[str, Any]] = {"additions": 24}

    additions: int = Field(64, ge=24)
    """Additions sampled for an adder."""
    texts: int = Field(24, ge=24)
    """Texts that a language model reads."""
    pairs: int = Field(12, ge=1)
    """Most alike pairs that are removed jointly (or all that there are)."""
    batch_size: int = Field(4, ge=1)
    """Texts between two checkpoints; what is read in one pass is fixed."""

    def measure(self, model: "Model") -> Results:
        """Likeness, then removal of single heads and of chosen pairs; the same in random models."""
        from lenses.heads.redundancy import cka, merges

        rows = self._rows(model)
        alike, overlaps = self._alike(model, rows, "likeness"), _overlaps(model)
        matrices = {"cka": cka(alike["hsic"].sum(0)), "cosine": _cosine(alike), **overlaps}
        chosen = _chosen(matrices["cka"], model.cfg.n_heads, self.pairs)
        costs = self._costs(model, rows, chosen.pairs, "removing heads")
        against, removable = self._random(model, rows)
        merged = pd.DataFrame(merges(matrices["cka"]), columns=["left", "right", "height"])
        joint, summary = self._joint_rows(chosen, costs, matrices["cka"], model.cfg.n_heads)
        return Results(
            tables={
                "joint": joint,
                "joint_summary": summary,
                "removable": pd.DataFrame([self._removable("own", costs["single"]), *removable]),
                "single": self._single_rows(costs["single"], model.cfg.n_heads),
                "pairs": _pair_rows(matrices, model.cfg.n_heads),
                "merges": merged.astype({"left": int, "right": int}),
                "against_random": pd.concat(
                    [_mean_likeness("own", alike, overlaps), *against], ignore_index=True
                ),
            }
        )

    def _rows(self, model: "Model") -> list["_Text"]:
        """Texts, or additions with their answers, as tokens."""
        from models.text import tokenize
        from prompts.additions import Addition
        from prompts.texts import shipped_texts

        style = model.card.arithmetic
        if style is None:
            texts = [tokenize(model, text.text) for text in shipped_texts()[: self.texts]]
            return [_Text(np.array(ids), 1) for ids in texts]
        sums = Addition(style.digits, self.additions, self.seed, padded=style.pad).sums
        written = style.write(sums)
        ends = (written.at.max(axis=1) + 1).tolist()
        rows = zip(written.tokens.astype(int), ends, written.prompt.tolist(), strict=True)
        return [_Text(row[:end], start - 1) for row, end, start in rows]

    def _alike(self, model: "Model", rows: list["_Text"], label: str) -> "PerPrompt":
        """Sums over the tokens of each group of texts, for every pair of heads."""
        import torch

        from lenses.heads.redundancy import likeness
        from lenses.kept import PerPrompt
        from models.text import right_pad

        kept, device = PerPrompt(), model.cfg.device
        groups = [rows[i : i + GROUP] for i in range(0, len(rows), GROUP)]
        for batch in self.stream(_batches(groups, self.batch_size), kept, label):
            for group in batch:
                tokens, lengths = right_pad([text.ids.tolist() for text in group])
                pos = torch.arange(tokens.shape[1])
                counted = ((pos > 0) & (pos < lengths[:, None])).nonzero()
                found = likeness(model, tokens.to(device), counted.to(device))
                kept.update(
                    hsic=found.hsic[None].cpu().numpy(),
                    cosine=found.cosine[None].cpu().numpy(),
                    tokens=np.array([found.tokens]),
                )
        return kept

    def _costs(
        self, model: "Model", rows: list["_Text"], pairs: np.ndarray, label: str
    ) -> "PerPrompt":
        """Cost in each text of removing each head [head] and each pair [pair], in nats."""
        import torch

        from lenses.heads.redundancy import joint_effects
        from lenses.kept import PerPrompt
        from lenses.patching.single_heads import read_clean, removal_effects, replacements

        kept = PerPrompt()
        tokens = [torch.from_numpy(text.ids).to(model.cfg.device) for text in rows]
        others = replacements([read_clean(model, row).z for row in tokens])
        for batch in self.stream(_batches(range(len(rows)), self.batch_size), kept, label):
            for i in batch:
                clean, counted = read_clean(model, tokens[i]), slice(rows[i].start, None)
                alone = removal_effects(model, clean, others[i], ("mean",))[0, 0, ..., 0, counted]
                both = joint_effects(model, clean, others[i], pairs)[:, counted]
                kept.update(
                    single=alone.double().nanmean(-1).flatten()[None].cpu().numpy(),
                    both=both.double().nanmean(-1)[None].cpu().numpy(),
                )
        return kept

    def _random(
        self, model: "Model", rows: list["_Text"]
    ) -> tuple[list[pd.DataFrame], list[dict[str, Any]]]:
        """Likeness in random models; in the first of them also the cost of each head."""
        from models import untrained

        frames, removable = [], []
        for number in range(RANDOM_MODELS):
            twin, name = untrained(model, self.seed + number), f"random {number}"
            told = f"random weights {number + 1}/{RANDOM_MODELS}"
            frames.append(_mean_likeness(name, self._alike(twin, rows, told), _overlaps(twin)))
            if number < RANDOM_REMOVED:
                none = np.zeros((0, 2), dtype=int)
                costs = self._costs(twin, rows[::FEW], none, f"{told}, removing heads")
                removable.append(self._removable(name, costs["single"]))
            del twin
            gc.collect()  # a hooked model refers to itself: uncollected, twins would pile up
        return frames, removable

    def _removable(self, weights: str, costs: np.ndarray) -> dict[str, Any]:
        """The share of heads that can go alone, over texts."""
        from lenses.heads.redundancy import share_below

        share, low, high = share_below(costs, NEGLIGIBLE, self.seed)
        told = {"weights": weights, "share": share, "low": low, "high": high}
        return told | {"n": len(costs), "heads": costs.shape[1]}

    def _single_rows(self, costs: np.ndarray, heads: int) -> pd.DataFrame:
        from lenses.statistics.intervals import bootstrap

        number = np.arange(costs.shape[1])
        found = vars(bootstrap(costs, self.seed))
        columns = {"layer": number // heads, "head": number % heads, "cost": found.pop("estimate")}
        return pd.DataFrame(columns | found)

    def _joint_rows(
        self, chosen: "_Chosen", costs: "PerPrompt", alike: np.ndarray, heads: int
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Each pair that was removed jointly; and the mean over pairs of each kind."""
        from lenses.statistics.intervals import bootstrap

        (one, other), single, both = chosen.pairs.T, costs["single"], costs["both"]
        interaction = both - single[:, one] - single[:, other]
        found = vars(bootstrap(interaction, self.seed))
        rows = _named(chosen.pairs, heads).assign(
            kind=chosen.kind, cka=alike[one, other],
            cost=single[:, one].mean(0), other_cost=single[:, other].mean(0),
            both=both.mean(0), interaction=found.pop("estimate"), **found,
        )  # fmt: skip
        rivalled = chosen.rival >= 0
        parts = {kind: interaction[:, chosen.kind == kind] for kind in KINDS[:2]}
        parts["unlike"] = interaction[:, chosen.rival[rivalled]]
        parts["difference"] = interaction[:, rivalled] - parts["unlike"]
        means = np.stack([p.sum(1) / (p.shape[1] or np.nan) for p in parts.values()], axis=1)
        summary = {"kind": list(parts), "pairs": [part.shape[1] for part in parts.values()]}
        return rows, pd.DataFrame(summary | vars(bootstrap(means, self.seed)))

    def claims(self, results: Results) -> list[Claim]:
        """Likeness beside random weights; whether alike heads cover for each other; who can go."""
        return [
            *self._likeness_claims(results.tables["against_random"]),
            _covering_claim(results.tables["joint_summary"].set_index("kind")),
            _removable_claim(results.tables["removable"].set_index("weights")),
        ]

    def _likeness_claims(self, rows: pd.DataFrame) -> list[Claim]:
        from lenses.statistics.against_random import against_random
        from lenses.statistics.intervals import benjamini_hochberg

        found = []
        for measure in LIKE:
            part = rows[rows["measure"] == measure]
            wide = part.pivot(index="weights", columns="group", values="value")
            random = wide.filter(like="random ", axis="index").to_numpy()
            found.append(against_random(wide.loc["own"].to_numpy(), random, self.seed))
        q = benjamini_hochberg(np.array([one.p for one in found]))
        return [
            _likeness_claim(measure, *each)
            for measure, *each in zip(LIKE, found, q.tolist(), strict=True)
        ]

    def planted(self) -> "Model":
        """An adder with two equal heads, of which either suffices."""
        from models.planted.twins import planted_twins

        return planted_twins(seed=self.seed)[0]

    def figures(self, results: Results) -> "dict[str, Drawing]":
        """Clusters as a matrix and as a tree; pairs and single heads removed; random weights."""
        return {**_cluster_figures(results), **_cost_figures(results), **_random_figure(results)}


LIKE = {
    "cka": ("Results of heads are more alike than with random weights, up to rotations.",
            "linear CKA, mean over pairs of heads"),
    "cosine": ("Heads write more in the same or in opposite directions than with random weights.",
               "size of the mean cosine, mean over pairs of heads"),
}  # fmt: skip


KINDS = ("alike", "less alike", "unlike")


class _Chosen(NamedTuple):
    """Pairs of heads to remove, the kind of each, and which is the unlike one of an alike one."""

    pairs: np.ndarray
    kind: np.ndarray
    rival: np.ndarray
    """Its number; -1 for what is not alike, or where a layer has no third head."""


class _Text(NamedTuple):
    """A text, and the first pos whose output is read."""

    ids: np.ndarray
    start: int


def _batches(items: Sequence, size: int) -> list:
    return [items[i : i + size] for i in range(0, len(items), size)]


def _overlaps(model: "Model") -> dict[str, np.ndarray]:
    """Subspace overlap [head head] of what heads write to and of what queries are read from."""
    from lenses.heads.redundancy import subspace_overlap
    from models.parts import attention_out

    read, out = model.W_Q.detach().transpose(-2, -1), attention_out(model)
    gain = None if out.post_gain is None else out.post_gain[:, None, None, :]
    return {
        "ov_overlap": subspace_overlap(out.W_O if gain is None else out.W_O * gain),
        "qk_overlap": subspace_overlap(read),
    }


def _cosine(alike: "PerPrompt") -> np.ndarray:
    """Mean cosine over all tokens."""
    return alike["cosine"].sum(0) / alike["tokens"].sum()


def _chosen(alike: np.ndarray, heads: int, count: int) -> _Chosen:
    """The most alike pairs of heads; of alike ones the first head also with a head unlike it."""
    first, second = np.triu_indices(len(alike), 1)
    values = np.nan_to_num(alike[first, second], nan=-1)
    top = np.argsort(-values, kind="stable")[: min(count, max(1, len(values) // 2))]
    number = {(int(first[i]), int(second[i])): place for place, i in enumerate(top)}
    kind = [KINDS[0] if values[i] > ALIKE else KINDS[1] for i in top]
    rival = [-1] * len(top)
    for (one, other), place in list(number.items()):
        pair = _least_alike(alike, one, other, heads) if kind[place] == KINDS[0] else None
        if pair:
            rival[place] = number.setdefault(pair, len(number))
    more = len(number) - len(top)
    return _Chosen(
        np.array(list(number)), np.array(kind + [KINDS[2]] * more), np.array(rival + [-1] * more)
    )


def _least_alike(alike: np.ndarray, one: int, other: int, heads: int) -> tuple[int, int] | None:
    """A head with the one of another's layer that is least like it, if one is not alike."""
    start = other // heads * heads
    layer = [head for head in range(start, start + heads) if head not in (one, other)]
    free = [head for head in layer if not alike[one, head] > ALIKE]
    if not free:
        return None
    least = min(free, key=lambda head: np.nan_to_num(alike[one, head]))
    return min(one, least), max(one, least)


def _mean_likeness(
    weights: str, alike: "PerPrompt", overlaps: dict[str, np.ndarray]
) -> pd.DataFrame:
    """Mean over pairs of each measure, of each group of texts; overlaps have no groups."""
    from lenses.heads.redundancy import cka

    upper = np.triu_indices(alike["hsic"].shape[-1], 1)
    values = {
        "cka": [np.nanmean(cka(hsic)[upper]) for hsic in alike["hsic"]],
        "cosine": [
            np.abs(total / n)[upper].mean()
            for total, n in zip(alike["cosine"], alike["tokens"], strict=True)
        ],
        **{name: [overlap[upper].mean()] for name, overlap in overlaps.items()},
    }
    return pd.concat(
        [
            pd.DataFrame({"weights": weights, "measure": name, "group": range(len(v)), "value": v})
            for name, v in values.items()
        ],
        ignore_index=True,
    )


def _named(pairs: np.ndarray, heads: int) -> pd.DataFrame:
    """Layer and head of both members of each pair."""
    one, other = pairs.T
    return pd.DataFrame(
        {
            "layer": one // heads, "head": one % heads,
            "other_layer": other // heads, "other_head": other % heads,
        }
    )  # fmt: skip


def _pair_rows(matrices: dict[str, np.ndarray], heads: int) -> pd.DataFrame:
    """Every pair of heads once, by all measures."""
    upper = np.triu_indices(len(matrices["cka"]), 1)
    values = {name: matrix[upper] for name, matrix in matrices.items()}
    return _named(np.stack(upper, axis=1), heads).assign(**values)


def _likeness_claim(measure: str, found: "AgainstRandom", q: float) -> Claim:
    sentence, unit = LIKE[measure]
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
        unit=unit,
        verdict=verdict,
        decide="more texts or random models" if verdict == "undecided" else "",
    )


def _covering_claim(kinds: pd.DataFrame) -> Claim:
    found, pairs = kinds.loc["difference"], kinds["pairs"]
    known = found["pairs"] > 0
    verdict = Claim.judge(found["low"], found["high"], NEGLIGIBLE) if known else "undecided"
    decide = "more texts" if known else f"no two heads have a CKA above {ALIKE:g} and a third to "
    decide += "" if known else "compare with; a model that has such heads"
    return Claim(
        kind="learned",
        sentence=f"The most alike heads ({found['pairs']:.0f} pairs) do each other's work: to "
        "remove both costs more than the two removals, beyond what it does for unlike heads.",
        estimate=found["estimate"] if known else 0,
        low=found["low"] if known else None,
        high=found["high"] if known else None,
        n=int(found["n"]) if known else 0,
        null=kinds.loc["unlike", "estimate"] if pairs["unlike"] else None,
        null_note="unlike pairs by themselves; subtracted (random weights tell nothing here: no "
        "head of theirs matters)"
        if pairs["unlike"]
        else "",
        unit=f"nats beyond the sum, mean of these pairs; threshold {NEGLIGIBLE:g}",
        verdict=verdict,
        decide=decide if verdict == "undecided" else "",
    )


def _removable_claim(rows: pd.DataFrame) -> Claim:
    own, random = rows.loc["own"], rows.drop(index="own")
    verdict = Claim.judge(own["low"], own["high"], MOST)
    return Claim(
        kind="mechanical",
        sentence=f"Most heads can be removed alone at under {NEGLIGIBLE:g} nats.",
        estimate=own["share"],
        low=own["low"],
        high=own["high"],
        n=int(own["n"]),
        null=random["share"].mean(),
        null_note=f"random weights, {len(random)} models ({random['share'].min():.2f} to "
        f"{random['share'].max():.2f}), in which few heads matter: no sign of training",
        unit=f"share of {own['heads']:.0f} heads; threshold {MOST:g}",
        verdict=verdict,
        decide="more texts" if verdict == "undecided" else "",
    )


def _names(single: pd.DataFrame) -> list[str]:
    return [f"L{row.layer}H{row.head}" for row in single.itertuples()]


def _cluster_figures(results: Results) -> "dict[str, Drawing]":
    """CKA as an ordered matrix, and the tree behind the order."""
    from lenses.heads.redundancy import leaf_order
    from viz import dendrogram, heat_map

    merged, names = results.tables["merges"], _names(results.tables["single"])
    pairs, heads = results.tables["pairs"], results.tables["single"]["head"].nunique()
    matrix = np.eye(len(names))
    ends = [pairs["layer"] * heads + pairs["head"],
            pairs["other_layer"] * heads + pairs["other_head"]]  # fmt: skip
    matrix[ends[0], ends[1]] = matrix[ends[1], ends[0]] = pairs["cka"]
    order = leaf_order(merged.to_numpy(float))
    shown = [names[head] for head in order]
    cells = pd.MultiIndex.from_product([shown, shown], names=["head", "other"])
    cells = cells.to_frame(index=False).assign(cka=matrix[np.ix_(order, order)].ravel())
    return {
        "Heads by likeness": heat_map(
            cells, "head", "other", "cka", low=0, high=1,
            label="linear CKA of the two heads' results",
            caption="Likeness of what two heads write, over the tokens of all texts, up to "
            "rotations. Heads are ordered so that clusters stand together as blocks along the "
            "diagonal.",
        ),
        "Clusters of heads": dendrogram(
            merged, names, label="mean unlikeness (1 − CKA) of the clusters that merge",
            caption="The tree of that order: heads and clusters merge where their mean unlikeness "
            "is read off below; early merges, far to the right, are heads much alike.",
        ),
    }  # fmt: skip


def _cost_figures(results: Results) -> "dict[str, Drawing]":
    from viz import bars, head_grid

    joint, single = results.tables["joint"], results.tables["single"]
    pair = [
        f"L{row.layer}H{row.head} + L{row.other_layer}H{row.other_head}"
        for row in joint.itertuples()
    ]
    joint = joint.assign(pair=pair)
    return {
        "Both removed, less each removed": bars(
            joint[["pair", "kind", "interaction", "low", "high", "n"]], "pair", "interaction",
            series="kind", reference=0,
            caption="Cost of removing both heads less the two costs (nats), for the most alike "
            f"pairs, most alike first (CKA above {ALIKE:g}: alike), and for unlike pairs with a "
            "head of an alike one. Right of zero either covers for the other, or both are needed "
            "for the same answer (`cost` is then large); left of it each needs the other. Bars: "
            "95 % intervals over texts.",
        ),
        "Cost of each head alone": head_grid(
            single[["layer", "head", "cost"]], "cost", label="nats a token",
            caption="Rise of the negative log-likelihood of the next token when a head alone "
            "gives its mean over other texts.",
        ),
    }  # fmt: skip


def _random_figure(results: Results) -> "dict[str, Drawing]":
    from viz import bars

    rows = results.tables["against_random"]
    rows = rows.assign(weights=rows["weights"].str.replace(r"random \d+", "random", regex=True))
    means = rows.groupby(["measure", "weights"], sort=False)["value"].mean().reset_index()
    return {
        "Likeness beside random weights": bars(
            means.rename(columns={"value": "likeness"}), "measure", "likeness", series="weights",
            caption="Mean over all pairs of heads of each measure of likeness (of the cosine, its "
            "size), beside models of the same shape with random weights, in which subspaces "
            "overlap and results agree by chance.",
        )
    }  # fmt: skip
