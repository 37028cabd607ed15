"""Do heads do each other's work?"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from experiments import Claim, Reading, Results, Table, TextStudy, UsageError, corrected
from lenses.heads.redundancy import (
    cka,
    joint_effects,
    leaf_order,
    likeness,
    merges,
    share_below,
    subspace_overlap,
)
from lenses.kept import PerPrompt
from lenses.patching.single_heads import read_clean, removal_effects, replacements
from lenses.statistics.against_random import against_random, random_models
from lenses.statistics.intervals import bootstrap
from lenses.texts import ReadText, sampled_additions, texts_to_read
from models.parts import attention_out
from models.planted.twins import planted_twins
from models.text import right_pad
from prompts.texts import shipped_texts
from viz import Drawing, bars, dendrogram, head_explorer, heat_map

if TYPE_CHECKING:
    from models import Model

RANDOM_MODELS = 4
"""Models of the same shape with fresh weights, beside which every mechanical claim is shown."""
RANDOM_REMOVED = 2
"""Of them, those whose heads are removed too."""
SHORTEST = 5  # tokens of a text
GROUP = 4
"""Texts whose tokens are compared with each other."""
ALIKE = 0.5
"""CKA above which two heads are called alike."""
NEGLIGIBLE = 0.01
"""Nats: a head can go where its removal costs less, and differences below it count for nothing."""
MOST = 0.5
"""Share of heads that would be most of them."""
NAMED = 8
"""Heads that the headline names one by one."""
FEW = 3
"""Heads of random models are removed in every third text."""
TEXTS = "texts (--count; an adder: --additions)"
KINDS = ("alike", "less alike", "unlike")
OTHER = {
    "other_layer": "layer of the second head",
    "other_head": "number of the second head in its layer",
}
LIKE = {
    "cka": (
        "Heads write more alike than heads with random weights do, up to a rotation.",
        "CKA, up to a rotation",
        "linear CKA, mean over pairs of heads",
    ),
    "cosine": (
        "Heads write along the same line, in the same or in opposite directions, more than heads "
        "with random weights do.",
        "cosine, either direction",
        "size of the mean cosine, mean over pairs of heads",
    ),
}
"""Measures of likeness: the claim, its label, its unit."""
MEASURES = {
    "cka": "CKA",
    "cosine": "size of the cosine",
    "ov_overlap": "subspaces written to",
    "qk_overlap": "subspaces queries read",
}
"""Columns of likeness in words."""


class HeadRedundancy(TextStudy):
    """Heads that write alike are removed one at a time and in pairs: if each does the other's
    work, a pair costs more than its two heads one by one.

    *Likeness* of two heads' results over the tokens of a corpus (the first of each text left out):
    linear CKA, unbiased, whether one is a rotation of the other; mean cosine, whether they write
    the same direction; overlap of the subspaces they can write to (ov: W_O with the gain of a norm
    after it) and from which their queries are read (qk: W_Q alone, without the gain of the norm
    before it), which random subspaces have too (d_head / d_model).

    *Removal*: a head's z becomes its mean over the other texts at the same pos; the cost is the
    rise of the negative log-likelihood of the next token, in nats (an adder: of its answers).
    The most alike pairs by CKA are removed jointly (alike: above 0.5, else less alike), and for
    each alike one an unlike pair: the same first head with the head of the second's layer that
    is least like it. The interaction is the cost of both less the two costs. Above zero, each
    covers for the other: either would do. Below zero, each needs the other. Two heads that are much
    needed, each by itself, may also lie far above zero, since the likelihood has no floor: look at
    the two costs.

    Intervals (95 %) resample texts; those of likeness, groups of four texts.
    """

    runs_on: ClassVar[str] = "adder 5 s, language model minutes"
    quick: ClassVar[dict[str, Any]] = {"additions": 24}

    additions: int = Field(64, ge=24)
    """Additions sampled for an adder."""
    count: int = Field(24, ge=24)
    """Texts that a language model reads."""
    pairs: int = Field(12, ge=1)
    """Most alike pairs that are removed jointly (or all that there are)."""
    batch_size: int = Field(4, ge=1)
    """Texts between two checkpoints; what is read in one pass is fixed."""

    tables: ClassVar[Mapping[str, Table]] = {
        "joint": Table(
            "A row is a pair of heads that was removed jointly.",
            key="layer head other_layer other_head",
            columns=OTHER
            | {
                "kind": "`alike` (CKA above 0.5), `less alike`, or `unlike`: the rival of an alike "
                "pair, with the same first head",
                "cka": "linear CKA of the two heads' results, up to a rotation",
                "cost": "nats a token that removing the first head costs",
                "other_cost": "nats a token that removing the second head costs",
                "both": "nats a token that removing both costs",
                "interaction": "cost of both less the two costs",
            },
            more="low high n",
        ),
        "joint_summary": Table(
            "A row is the mean interaction of the pairs of a kind, or by how much that of alike "
            "pairs lies above that of their unlike ones.",
            key="kind",
            columns={
                "kind": "`alike`, `less alike`, `unlike`, or `difference` (alike less unlike)",
                "pairs": "pairs of heads that the mean is over",
                "estimate": "mean interaction in nats",
            },
            more="low high n",
        ),
        "removable": Table(
            "A row is a model: how many of its heads can be removed alone.",
            key="weights",
            columns={
                "share": "share of heads whose removal costs under 0.01 nats",
                "heads": "heads of the model",
            },
            more="low high n",
        ),
        "single": Table(
            "A row is a head that was removed alone.",
            key="layer head",
            columns={"cost": "nats a token that removing it costs"},
            more="low high n",
        ),
        "pairs": Table(
            "A row is a pair of heads, by every measure of likeness.",
            key="layer head other_layer other_head",
            columns=OTHER
            | {
                "cka": "linear CKA of the two heads' results, up to a rotation",
                "cosine": "mean cosine of the two heads' results",
                "ov_overlap": "overlap of the subspaces that the heads can write to, 0 to 1",
                "qk_overlap": "overlap of the subspaces that their queries are read from, 0 to 1",
            },
        ),
        "merges": Table(
            "A row is a step in which two clusters of heads become one (average linkage on 1 less "
            "CKA).",
            key="left right",
            columns={
                "left": "a head by its number over all layers; a cluster by the number of heads "
                "plus its row",
                "right": "the other head or cluster",
                "height": "mean unlikeness (1 less CKA) of the two",
            },
        ),
        "against_random": Table(
            "A row is a measure of likeness in one group of texts, mean over pairs of heads.",
            key="weights measure group",
            columns={
                "measure": "a measure of likeness, as in the table `pairs`; of the cosine its size",
                "group": "group of four texts, from 0; subspaces have one value for all texts",
                "value": "mean over pairs of heads",
            },
        ),
    }
    reading: ClassVar[Reading] = Reading(
        causal="yes for removal: a head's output becomes its mean over other texts; likeness only "
        "compares what heads write",
        assumes="the mean over other texts is a fair absence of a head, and these texts stand for "
        "their kind",
        stressed="whether an interaction is special to alike heads: unlike pairs with the same "
        "first head are removed as well; the fair absence is not put to the test",
        not_shown="that less alike heads never cover for each other, or that two heads much needed "
        "each by itself are redundant when their interaction is above zero",
    )

    def measure(self, model: "Model") -> Results:
        """Likeness, then removal of single heads and of chosen pairs; the same in random models."""
        texts, heads = self._texts(model), model.cfg.n_heads
        alike, overlaps = self._alike(model, texts, "likeness"), _overlaps(model)
        matrices = {"cka": cka(alike["hsic"].sum(0)), "cosine": _cosine(alike), **overlaps}
        chosen = _chosen(matrices["cka"], heads, self.pairs)
        costs = self._costs(model, texts, chosen.pairs, "removing heads")
        against, removable = self._random(model, texts)
        merged = pd.DataFrame(merges(matrices["cka"]), columns=["left", "right", "height"])
        joint, summary = self._joint_rows(chosen, costs, matrices["cka"], heads)
        return Results(
            tables={
                "joint": joint,
                "joint_summary": summary,
                "removable": pd.DataFrame([self._removable("own", costs["single"]), *removable]),
                "single": self._single_rows(costs["single"], heads),
                "pairs": _pair_rows(matrices, heads),
                "merges": merged.astype({"left": int, "right": int}),
                "against_random": pd.concat(
                    [_mean_likeness("own", alike, overlaps), *against], ignore_index=True
                ),
            }
        )

    def headline(self, results: Results) -> str:
        """Whether the most alike heads cover for each other, and which heads can go alone."""
        single = results.tables["single"]
        free = _names(single[single["cost"] < NEGLIGIBLE])
        which = f" ({', '.join(free)})" if 0 < len(free) <= NAMED else ""
        return (
            f"{_answer(results)} {len(free) or 'None'} of {len(single)} heads{which} can be "
            f"removed one at a time at under {NEGLIGIBLE:g} nats."
        )

    def claims(self, results: Results) -> list[Claim]:
        """Whether alike heads cover for each other; who can go; likeness beside random weights."""
        likeness_claims = self._likeness_claims(results.tables["against_random"])
        return [
            *corrected(likeness_claims, decide=f"more {TEXTS}"),
            _covering_claim(results.tables["joint_summary"].set_index("kind")),
            _removable_claim(results.tables["removable"].set_index("weights")),
        ]

    def figures(self, results: Results) -> dict[str, Drawing]:
        """Pairs and single heads removed; clusters as a matrix and as a tree; random weights."""
        return {**_cost_figures(results), **_cluster_figures(results), **_random_figure(results)}

    def planted(self) -> "Model":
        """An adder with two equal heads, of which either suffices."""
        return planted_twins(seed=self.seed)[0]

    def _texts(self, model: "Model") -> list[ReadText]:
        """Texts, or additions with their answers, as tokens."""
        given = self.prompts or self.prompts_file
        if model.card.arithmetic is None or given:
            shipped = shipped_texts()[: self.count]
            texts = texts_to_read(model, self.prompts, self.prompts_file, shipped, 0)
            texts = [one for one in texts if given or len(one.ids) >= SHORTEST]
            if len(texts) < GROUP:  # half of them choose the pairs, the others tell their cost
                raise UsageError(f"prompts: {len(texts)} different texts; it takes {GROUP} or more")
            if short := [text for text in texts if len(text.ids) < SHORTEST]:
                raise UsageError(f"prompt {short[0].origin}: it takes {SHORTEST} tokens or more")
            return texts
        sums = sampled_additions(model.card.arithmetic, self.additions, self.seed)
        return [replace(one, new=one.expected) for one in sums]

    def _alike(self, model: "Model", texts: list[ReadText], label: str) -> PerPrompt:
        """Sums over the tokens of each group of texts, for every pair of heads."""
        kept, device = PerPrompt(), model.cfg.device
        groups = [texts[i : i + GROUP] for i in range(0, len(texts), GROUP)]
        for batch in self.stream(groups, kept, label, self.batch_size):
            for group in batch:
                tokens, lengths = right_pad([text.ids for text in group])
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
        self, model: "Model", texts: list[ReadText], pairs: np.ndarray, label: str
    ) -> PerPrompt:
        """Cost in each text of removing each head [head] and each pair [pair], in nats."""
        kept = PerPrompt()
        tokens = [torch.tensor(text.ids, device=model.cfg.device) for text in texts]
        others = replacements([read_clean(model, row).z for row in tokens])
        for batch in self.stream(range(len(texts)), kept, label, self.batch_size):
            for i in batch:
                clean, counted = read_clean(model, tokens[i]), slice(_start(texts[i]), None)
                alone = removal_effects(model, clean, others[i], ("mean",))[0, 0, ..., 0, counted]
                both = joint_effects(model, clean, others[i], pairs)[:, counted]
                kept.update(
                    single=alone.double().nanmean(-1).flatten()[None].cpu().numpy(),
                    both=both.double().nanmean(-1)[None].cpu().numpy(),
                )
        return kept

    def _random(
        self, model: "Model", texts: list[ReadText]
    ) -> tuple[list[pd.DataFrame], list[dict[str, Any]]]:
        """Likeness in random models; in the first of them also the cost of each head."""
        frames, removable = [], []
        for number, twin in enumerate(self.twins(model, RANDOM_MODELS)):
            name, told = f"random {number}", f"random weights {number + 1}/{RANDOM_MODELS}"
            frames.append(_mean_likeness(name, self._alike(twin, texts, told), _overlaps(twin)))
            if number < RANDOM_REMOVED:
                none = np.zeros((0, 2), dtype=int)
                costs = self._costs(twin, texts[::FEW], none, f"{told}, removing heads")
                removable.append(self._removable(name, costs["single"]))
        return frames, removable

    def _removable(self, weights: str, costs: np.ndarray) -> dict[str, Any]:
        """The share of heads that can go alone, over texts."""
        share, low, high = share_below(costs, NEGLIGIBLE, self.seed)
        told = {"weights": weights, "share": share, "low": low, "high": high}
        return told | {"n": len(costs), "heads": costs.shape[1]}

    def _single_rows(self, costs: np.ndarray, heads: int) -> pd.DataFrame:
        number = np.arange(costs.shape[1])
        found = vars(bootstrap(costs, self.seed))
        columns = {"layer": number // heads, "head": number % heads, "cost": found.pop("estimate")}
        return pd.DataFrame(columns | found)

    def _joint_rows(
        self, chosen: "_Chosen", costs: PerPrompt, alike: np.ndarray, heads: int
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Each pair that was removed jointly; and the mean over pairs of each kind."""
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

    def _likeness_claims(self, rows: pd.DataFrame) -> list[Claim]:
        claims = []
        for measure, (sentence, label, unit) in LIKE.items():
            part = rows[rows["measure"] == measure]
            wide = part.pivot(index="weights", columns="group", values="value")
            random = wide.filter(like="random ", axis="index").to_numpy()
            found = against_random(wide.loc["own"].to_numpy(), random, self.seed)
            claims.append(
                Claim.mechanical(
                    sentence, found, null=found.random.mean(), null_note=found.note, unit=unit,
                    decide=f"more {TEXTS}",
                    family="Heads write more alike than with random weights", label=label,
                )
            )  # fmt: skip
        return claims


class _Chosen(NamedTuple):
    """Pairs of heads to remove, the kind of each, and which is the unlike one of an alike one."""

    pairs: np.ndarray
    kind: np.ndarray
    rival: np.ndarray
    """Its number; -1 for what is not alike, or where a layer has no third head."""


def _start(text: ReadText) -> int:
    """The first pos whose output is read: in an addition, that which predicts the answer."""
    return len(text.given) - 1 if text.new else 1


def _overlaps(model: "Model") -> dict[str, np.ndarray]:
    """Subspace overlap [head head] of what heads write to and of what queries are read from."""
    read, out = model.W_Q.detach().transpose(-2, -1), attention_out(model)
    written = torch.stack([out.gained(layer) for layer in range(model.cfg.n_layers)])
    return {
        "ov_overlap": subspace_overlap(written),
        "qk_overlap": subspace_overlap(read),
    }


def _cosine(alike: PerPrompt) -> np.ndarray:
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


def _mean_likeness(weights: str, alike: PerPrompt, overlaps: dict[str, np.ndarray]) -> pd.DataFrame:
    """Mean over pairs of each measure, of each group of texts; overlaps have no groups."""
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


def _answer(results: Results) -> str:
    """Whether alike heads do each other's work, in a sentence."""
    kinds = results.tables["joint_summary"].set_index("kind")
    claim, pairs = _covering_claim(kinds), kinds.loc["difference", "pairs"]
    first = results.tables["joint"].iloc[0]
    most = f"the most alike are {_pair(first, ' and ')}, CKA {first['cka']:.2f}"
    if claim.verdict == "not tested":
        return f"Not answered: no two heads can be compared as alike (CKA above {ALIKE:g}); {most}."
    told = {"holds": "Yes: alike heads cover", "fails": "No: alike heads do not cover",
            "undecided": "Not decided: alike heads may cover"}[claim.verdict]  # fmt: skip
    return (
        f"{told} for each other ({pairs} {'pair' if pairs == 1 else 'pairs'}; {most}). Removing "
        f"both costs {abs(claim.estimate):.2g} nats {'more' if claim.estimate > 0 else 'less'} "
        "than the two single removals together, measured against unlike heads; it would "
        f"have to be over {NEGLIGIBLE:g} nats more."
    )


def _covering_claim(kinds: pd.DataFrame) -> Claim:
    found, unlike = kinds.loc["difference"], kinds.loc["unlike"]
    note = "unlike pairs, which are subtracted; heads of random weights matter too little to tell"
    return Claim.learned(
        f"Alike heads do each other's work: removing both costs over {NEGLIGIBLE:g} nats more than "
        "the two single removals together, beyond what it does for unlike heads.",
        found,
        above=NEGLIGIBLE,
        null=unlike["estimate"] if unlike["pairs"] else None,
        null_note=note if unlike["pairs"] else "",
        unit=f"nats beyond the sum, mean of {found['pairs']:.0f} alike pairs (CKA above "
        f"{ALIKE:g}); threshold {NEGLIGIBLE:g}",
        more=TEXTS,
        needs=f"a model (--model) in which two heads have a CKA above {ALIKE:g}, with a third "
        "head to compare with",
    )


def _removable_claim(rows: pd.DataFrame) -> Claim:
    own, random = rows.loc["own"], rows.drop(index="own")["share"]
    return Claim.mechanical(
        f"More than half of the heads can each be removed alone at under {NEGLIGIBLE:g} nats.",
        own.rename({"share": "estimate"}),
        above=MOST,
        null=random.mean(),
        null_note=f"{random_models(len(random))}: {random.min():.2f} to "
        f"{random.max():.2f}, in which few heads matter: a high share is no sign of training",
        unit=f"share of {own['heads']:.0f} heads; threshold {MOST:g}",
        decide=f"more {TEXTS}",
    )


def _names(single: pd.DataFrame) -> list[str]:
    return [f"L{row.layer}H{row.head}" for row in single.itertuples()]


def _pair(row: pd.Series, sign: str = " + ") -> str:
    return f"L{row['layer']}H{row['head']}{sign}L{row['other_layer']}H{row['other_head']}"


def _cost_figures(results: Results) -> dict[str, Drawing]:
    joint = results.tables["joint"]
    joint = joint.assign(pair=[_pair(row) for _, row in joint.iterrows()])
    joint = joint.rename(columns={"interaction": "interaction (nats)"})
    return {
        "Both removed, less each removed": bars(
            joint[["pair", "kind", "interaction (nats)", "low", "high", "n"]], "pair",
            "interaction (nats)", series="kind", reference=0,
            caption="Cost of removing both heads less the two costs (nats), for the most alike "
            f"pairs, most alike first (CKA above {ALIKE:g}: alike), and for unlike pairs with a "
            "head of an alike one. Right of zero either covers for the other, or both are needed "
            "for the same answer (each then costs much alone); left of it each needs the other. "
            "Bars: 95 % intervals over texts.",
        ),
        "Each head: what removing it costs, and how like another it is": head_explorer(
            _explored(results),
            caption="Cost alone: rise of the negative log-likelihood of the next token when a head "
            "alone gives its mean over other texts. The other measures say how like the most "
            "similar of all other heads it is. Click a head for its ranks.",
        ),
    }  # fmt: skip


def _explored(results: Results) -> pd.DataFrame:
    """A row for each measure of a head: its cost, then its likeness to the head most like it."""
    single, pairs = results.tables["single"], results.tables["pairs"]
    turned = {"layer": "other_layer", "head": "other_head"}
    both = pd.concat([pairs, pairs.rename(columns=turned | {v: k for k, v in turned.items()})])
    both["cosine"] = both["cosine"].abs()
    nearest = both.groupby(["layer", "head"])[list(MEASURES)].max().reset_index()
    words = {name: f"{said}, with the head most like it" for name, said in MEASURES.items()}
    rows = [
        single.rename(columns={"cost": "cost alone (nats a token)"})[
            ["layer", "head", "cost alone (nats a token)"]
        ],
        nearest.rename(columns=words),
    ]
    return pd.concat([part.melt(["layer", "head"], None, "measure", "estimate") for part in rows])


def _cluster_figures(results: Results) -> dict[str, Drawing]:
    """CKA as an ordered matrix, and the tree behind the order."""
    merged, names = results.tables["merges"], _names(results.tables["single"])
    pairs, heads = results.tables["pairs"], results.tables["single"]["head"].nunique()
    matrix = np.eye(len(names))
    one = pairs["layer"] * heads + pairs["head"]
    other = pairs["other_layer"] * heads + pairs["other_head"]
    matrix[one, other] = matrix[other, one] = pairs["cka"]
    order = leaf_order(merged.to_numpy(float))
    shown = [names[head] for head in order]
    cells = pd.MultiIndex.from_product([shown, shown], names=["head", "other"])
    cells = cells.to_frame(index=False).assign(cka=matrix[np.ix_(order, order)].ravel())
    return {
        "Heads by likeness": heat_map(
            cells, "head", "other", "cka", low=0, high=1,
            label="linear CKA of the two heads' results",
            caption="Likeness of what two heads write, over the tokens of all texts, up to "
            "rotations. Heads are ordered so that clusters stand together as squares along the "
            "diagonal.",
        ),
        "Clusters of heads": dendrogram(
            merged, names, label="mean unlikeness (1 − CKA) of the clusters that merge",
            caption="The tree of that order: heads and clusters merge where their mean unlikeness "
            "is read off below; early merges, far to the right, are heads much alike.",
        ),
    }  # fmt: skip


def _random_figure(results: Results) -> dict[str, Drawing]:
    rows = results.tables["against_random"]
    own = rows["weights"].eq("own").map({True: "these weights", False: "random weights"})
    rows = rows.assign(weights=own, measure=rows["measure"].map(MEASURES))
    means = rows.groupby(["measure", "weights"], sort=False)["value"].mean().reset_index()
    return {
        "Likeness beside random weights": bars(
            means.rename(columns={"value": "likeness"}), "measure", "likeness", series="weights",
            caption="Mean over all pairs of heads of each measure of likeness (of the cosine, its "
            "size), beside models of the same shape with random weights, in which subspaces "
            "overlap and results agree by chance.",
        )
    }  # fmt: skip
