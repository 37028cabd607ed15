"""Where does the carry happen?"""

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from experiments import Claim, Experiment, Results

if TYPE_CHECKING:
    from experiments._contract.rows import Rows
    from lenses.addition.contrasts import Cell, Contrast
    from models import Model
    from prompts.additions import AdditionFormat
    from viz import Drawing

ADDERS = {"per_cell": 200, "screen": 24, "uniform": 300, "per_ablation": 16, "probed": 240}
LANGUAGE_MODELS = {"per_cell": 40, "screen": 6, "uniform": 60, "per_ablation": 4, "probed": 100}
"""How much is measured unless told otherwise; a language model is a thousand times as slow."""
ASKED_AT_ONCE = 32
"""Questions answered freely together: all logits of large vocabularies are large."""
SITES_AT_ONCE = 16
"""Sites that one pair of prompts is patched at in a forward pass, each in a row of its own."""
RANDOM_SETS = 20
"""Random sets of heads beside the one that was found."""
SHOWN = 48
"""Tokens of the example, the last of them, whose attention is drawn."""
MOST_DRAWN = 12
"""Heads whose attention is drawn, and layers and edges in which flips are."""
MOST_ROWS = 40
"""Components whose flips are drawn."""
ADDS = 0.5
"""Share of whole answers that must be right for it to make sense to ask which heads suffice."""
KEEPS = 0.9
"""Share of the accuracy that heads must keep to be sufficient."""
LEVEL = 0.05
CARRIES = ("local", "cascade", "tristate")
"""Pairs that differ in a carry."""
SURE = 0.9
"""The least lower bound of a joint flip of .95 or more that explains a place."""


class CarryLocalisation(Experiment):
    """Heads, MLPs and residual streams are exchanged between sums that differ in one carry.

    Column i sums to s_i; c_i is the carry into it; A_i is the answer's digit. Pairs of sums
    (clean, source) differ in one property: *local* toggles the carry out of the column just below,
    *cascade* that over a run of nines, *tristate* the carry into a column of nine, *base* the
    column's own sum, *swap* nothing but the order of two digits. Both sums are ones that the model
    gets right (unless `solved` is off). What a component computed for the source is put into the
    clean run; `flip` is how often the digit that is read becomes the source's, `null_change` how
    often a source that should change nothing changes it.

    A site is a component at one token, named `a2`, `+`, `A3` for what stands there; A_i is said at
    the token before it. Left out, being exactly zero by construction: sites before the first token
    that differs, and those after the last layer's attention at other tokens than the one read.
    Every site is first tried on `screen` pairs; where that moves nothing, `n` is that number. In
    models of more than 64 heads, only sites at the token that says the digit are tried: whole
    layers, and single heads of those that move something.
    Prefix: the answer digits before the one read are the `same` in clean and source, or each has
    its `own`, or the clean one's stand in both (`shared`).

    Tables: `pairs` (pair, place, run, prefix, read_place, wanted, n: solved pairs found), `cells`
    (place, run, carry, n, correct, accuracy, low, high: how well it adds), `answers` (the same of
    whole answers to uniform questions), `interchange` (pair, direction of the change, prefix,
    place, run, read_place, kind in head|mlp|resid|layer (all its heads), layer, head, pos, token,
    flip, flip_low, flip_high, change, null_change, own_change: digits that should stay,
    logit_shift, n, p: one-sided exact McNemar of flip against null_change, q: p corrected over the
    whole table, Benjamini & Hochberg 1995, p_max: p that any row of it does so by luck, max-T),
    `roles` (kind, layer, head, pos, token, place, rates, role in carry|base_add|both|combiner|none,
    shared: as a member of a set), `joint` (pair, run, read_place, members, size, flip, low, high,
    null_change, complement_flip, other_change: of base pairs by a carry's set and the reverse, n,
    minimal), `edges` (layer, head, mlp, pair, read_place, flip, low, high, n: one head into one
    MLP, norm frozen), `ablation` (mode, layer, head, place, run, carry, accuracy, low, high, n),
    `attention` (layer, head, query_place, column, mass, carry_difference, low, high, n),
    `sufficiency` (sample, mode, kept, draw, heads, place (-1: the whole answer), accuracy, low,
    high, n) and `probes` (place, target, layer, token, accuracy (balanced), control, selectivity,
    input_tokens, random_weights, chance, n); `example` (pos, token) is the addition whose attention
    is drawn.
    """

    quick: ClassVar[dict[str, Any]] = {
        "per_cell": 24, "screen": 4, "uniform": 20, "per_ablation": 1, "probed": 50,
    }  # fmt: skip

    batch_size: int = Field(16, ge=1)
    """Pairs in one forward pass, each at 16 sites."""
    places: int | None = Field(None, ge=2, le=17)
    """Digits of each addend; an adder has its own, a language model 2 unless told otherwise."""
    per_cell: int | None = Field(None, ge=24)
    """Pairs for each kind, place and run, half put the carry in, half take it out: 200 (adders)
    or 40 (language models)."""
    screen: int | None = Field(None, ge=4)
    """Pairs on which every site, and every set of heads, is first tried: 24 or 6."""
    solved: bool = True
    """Keep only pairs that the model gets right; off, every pair counts."""
    uniform: int | None = Field(None, ge=20)
    """Uniform questions, to say how well the model adds and what ablation costs: 300 or 60."""
    per_ablation: int | None = Field(None, ge=1)
    """Questions for each cell of an answer digit, in ablations: 16 or 4."""
    probed: int | None = Field(None, ge=50)
    """Additions for each set of probes: 240 or 100."""
    examples: int = Field(1, ge=0)
    """Solved additions that a language model is shown before each question."""

    @property
    def at_once(self) -> int:
        """Patched prompts in one forward pass."""
        return SITES_AT_ONCE * self.batch_size

    def measure(self, model: "Model") -> Results:
        """Behaviour, every site, joint sets, edges, ablation, attention, sufficiency, probes."""
        usual = ADDERS if model.card.arithmetic else LANGUAGE_MODELS
        chosen = {name: n for name, n in usual.items() if getattr(self, name) is None}
        return self.model_copy(update=chosen)._measure(model)

    def _measure(self, model: "Model") -> Results:
        from lenses.addition.answers import addition_format
        from lenses.addition.contrasts import rates
        from lenses.addition.roles import roles, shared_roles, without_untested

        style = addition_format(model, self.places, self.examples, self.seed)
        tables = self._behaviour(model, style)
        tables["pairs"], counts, luck = self._interchanges(model, style)
        pairs, tables["interchange"] = tables["pairs"], rates(counts, luck)
        tables["joint"], tables["edges"] = self._joint(model, style, pairs)
        found = shared_roles(roles(tables["interchange"]), tables["joint"])
        tables["roles"] = without_untested(found, pairs)
        tables["attention"] = self._attention(model, style)
        tables["ablation"] = self._ablation(model, style, tables["roles"])
        tables["sufficiency"] = self._sufficiency(model, style, tables["roles"])
        tables["probes"] = self._probes(model, style)
        tables["example"], pattern = self._example(model, style)
        return Results(tables, arrays={"pattern": pattern})

    def figures(self, results: Results) -> "dict[str, Drawing]":
        """The model with its roles, flips by site and by set, attention, ablation, probes."""
        tables = results.tables
        drawn = _figures_of_pairs(tables) if len(tables["interchange"]) else {}
        return drawn | _figures_of_heads(tables) | _example_figure(tables, results.arrays)

    def claims(self, results: Results) -> list[Claim]:
        """Does it add, which heads write the carry into each place, and do they suffice?"""
        tables = results.tables
        highest = int(tables["attention"]["query_place"].max())
        places = [_place_claim(tables, place) for place in range(1, highest + 1)]
        first = [_adds(tables["answers"].iloc[0]), _moves(tables["interchange"])]
        return [*first, *places, _over_nines(tables), _suffices(tables)]

    def planted(self) -> "Model":
        """An adder whose weights were written by code, one head of which moves the carry."""
        from models.planted.carry import planted_carry

        return planted_carry(places=6, seed=self.seed).model

    def _behaviour(self, model: "Model", style: "AdditionFormat") -> dict[str, pd.DataFrame]:
        """Accuracy of each cell's digit after right ones, and of whole answers written freely."""
        from lenses.addition.answers import answered
        from lenses.kept import PerPrompt
        from prompts.additions import Addition, Cells

        how = {"places": style.digits, "seed": self.seed, "padded": style.pad}
        asked = {
            "cells": Cells(per_cell=self.per_ablation, **how).sums,
            "uniform": Addition(count=self.uniform, **how).sums,
        }
        right = {}
        for name, sums in asked.items():
            kept = PerPrompt()
            for batch in self.stream(sums.batches(ASKED_AT_ONCE), kept, f"asking {name}"):
                given, generated, ends = answered(model, style, batch)
                wrong = style.write(batch).written & (generated != batch.answer_digits)
                whole = ~wrong.any(1) & (ends | style.pad)
                kept.update(given=given == batch.answer_digits, whole=whole)
            right[name] = kept
        cell = pd.DataFrame(asked["cells"].cell, columns=["place", "run", "carry"])
        rows = np.arange(len(cell)), asked["cells"].place
        cell["right"] = right["cells"]["given"][rows]
        whole = pd.DataFrame({"right": right["uniform"]["whole"]})
        answers = _accuracy(whole.assign(sample="uniform"), ["sample"])
        without = (asked["uniform"].uncarried == asked["uniform"].answer_digits).all(1).mean()
        return {
            "cells": _accuracy(cell, ["place", "run", "carry"]),
            "answers": answers.assign(without_carries=without),
        }

    def _interchanges(
        self, model: "Model", style: "AdditionFormat"
    ) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
        """How many solved pairs each cell has, and where they are enough, counts of every site.

        And the largest excess over null sources that luck gives any site.
        """
        from lenses.addition.contrasts import FEWEST, LUCKY_DRAWS, cells
        from lenses.addition.roles import interchanges
        from lenses.kept import PerPrompt

        pairs, counts, luck = self.rows("pairs"), self.rows("counts"), PerPrompt()
        luck.update(of_cells=np.zeros((1, LUCKY_DRAWS)))
        numbered = list(enumerate(cells(style)))
        for number, cell in self.stream(numbered, (pairs, counts, luck), "interchanges"):
            found = self._contrast(model, style, cell, self.seed)
            told = {**vars(cell), "read_place": cell.read_place, "wanted": self.per_cell}
            pairs.append(pd.DataFrame([told | {"n": max(0, len(found) - self.screen)}]))
            if len(found) >= FEWEST + self.screen:
                rng = np.random.default_rng([self.seed, number])
                told, most = interchanges(model, found, self.screen, self.at_once, rng)
                counts.append(told)
                luck.update(of_cells=most[None])
        return pairs.frame(), _frame(counts), luck["of_cells"].max(axis=0)

    def _contrast(
        self, model: "Model", style: "AdditionFormat", cell: "Cell", seed: int
    ) -> "Contrast":
        from lenses.addition.contrasts import contrast

        count = self.screen + self.per_cell
        return contrast(model, style, cell, count, seed, self.at_once, solved=self.solved)

    def _joint(
        self, model: "Model", style: "AdditionFormat", pairs: pd.DataFrame
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Smallest sets of heads, and single edges, of every cell that one carry or sum decides."""
        from lenses.addition.contrasts import FEWEST, Cell
        from lenses.addition.edges import edge_table, edges_of
        from lenses.addition.sets import joint_sets

        enough = pairs[(pairs["n"] >= FEWEST) & pairs["pair"].isin(["local", "cascade", "base"])]
        there = [Cell(*row) for row in enough[["pair", "place", "run", "prefix"]].to_numpy()]
        joint, edges = self.rows("joint"), self.rows("edges")
        for cell in self.stream(there, (joint, edges), "joint sets"):
            found = self._contrast(model, style, cell, self.seed + 1)
            if len(found) < FEWEST + self.screen:
                continue
            place = cell.read_place
            spared = Cell("local", place - 1, 0, "same") if cell.pair == "base" else None
            spared = spared or Cell("base", place, 0, "same")
            other = None
            if spared in there:
                other = self._contrast(model, style, spared, self.seed + 1)
            sets = joint_sets(model, found, other, self.screen, self.at_once)
            joint.append(sets)
            single = edges_of(model, sets["members"])
            edges.append(edge_table(model, found, single, self.at_once))
        return _frame(joint), _frame(edges)

    def _attention(self, model: "Model", style: "AdditionFormat") -> pd.DataFrame:
        """Attention to each column, where each answer digit is said."""
        from lenses.addition.attention import staircase
        from lenses.addition.contrasts import Cell, contrast

        rows = self.rows("attention")
        places = range(style.digits + 1 if style.pad else style.digits)
        for place in self.stream(places, rows, "attention"):
            pair = ("local", place - 1) if place else ("base", 0)
            cell = Cell(*pair, 0, "same")
            found = contrast(
                model, style, cell, self.per_cell, self.seed, self.at_once, solved=False
            )
            rows.append(staircase(model, found, self.seed, self.at_once))
        return rows.frame()

    def _questions(self, style: "AdditionFormat") -> dict[str, Any]:
        """The additions asked under ablation, and others from which mean activations come."""
        from lenses.addition.sufficiency import Questions
        from prompts.additions import Addition, Cells

        how = {"places": style.digits, "padded": style.pad}
        sums = {
            "cells": Cells(per_cell=self.per_ablation, seed=self.seed + 2, **how).sums,
            "uniform": Addition(count=self.uniform, seed=self.seed + 2, **how).sums,
            "reference": Addition(count=self.uniform, seed=self.seed + 3, **how).sums,
        }
        return {name: Questions.of(style, some) for name, some in sums.items()}

    def _ablation(
        self, model: "Model", style: "AdditionFormat", roles: pd.DataFrame
    ) -> pd.DataFrame:
        """Accuracy of each cell's digit without one head; of large models, those with a role."""
        from lenses.addition.roles import is_large, kept_heads
        from lenses.addition.sufficiency import accuracy_with
        from lenses.patching.head_sets import MODES

        asked, rows = self._questions(style), self.rows("ablation")
        layers, heads = model.cfg.n_layers, model.cfg.n_heads
        number = np.arange(layers * heads)
        if is_large(model):
            kept = {layer * heads + head for _, layer, head in kept_heads(roles)}
            number = np.array(sorted(kept), dtype=int)
        sets = np.eye(layers * heads, dtype=bool)[number].reshape(-1, layers, 1, heads)
        cell = pd.DataFrame(asked["cells"].sums.cell, columns=["place", "run", "carry"])
        mine = np.arange(len(cell)), cell["place"].to_numpy()
        for mode in self.stream(MODES if len(number) else (), rows, "ablation"):
            right = accuracy_with(
                model, asked["cells"], asked["reference"], sets, mode, self.seed, self.at_once
            )
            for i, one in zip(number, right, strict=True):
                what = {"mode": mode, "layer": i // heads, "head": i % heads}
                frame = cell.assign(right=one[mine])
                rows.append(_accuracy(frame.assign(**what), [*what, "place", "run", "carry"]))
        return _frame(rows)

    def _sufficiency(
        self, model: "Model", style: "AdditionFormat", roles: pd.DataFrame
    ) -> pd.DataFrame:
        """Accuracy with nothing but the heads that have a role, or as many random ones."""
        from lenses.addition.roles import kept_heads
        from lenses.addition.sufficiency import (
            accuracy_with,
            by_place,
            every_head,
            keeping,
            random_alike,
        )

        asked, rows, kept = self._questions(style), self.rows("sufficiency"), kept_heads(roles)
        rng = np.random.default_rng(self.seed)
        draws = RANDOM_SETS if kept else 1
        random = random_alike(model, kept, draws, rng)
        cases = [(sample, mode) for sample in ("cells", "uniform") for mode in ("mean", "resample")]
        for sample, mode in self.stream(cases, rows, "sufficiency"):
            found = asked[sample]
            sets = {("all", 0): every_head(model, found), ("none", 0): [], ("found", 0): kept}
            if mode == "mean":
                sets |= {("random", draw): heads for draw, heads in enumerate(random)}
            right = accuracy_with(
                model, found, asked["reference"], keeping(model, found, list(sets.values())),
                mode, self.seed, self.at_once,
            )  # fmt: skip
            for ((name, draw), heads), one in zip(sets.items(), right, strict=True):
                what = {"sample": sample, "mode": mode, "kept": name, "draw": draw}
                rows.append(by_place(one).assign(**what, heads=len(heads)))
        return rows.frame()

    def _probes(self, model: "Model", style: "AdditionFormat") -> pd.DataFrame:
        """What linear probes read at each site, beside their controls and an untrained twin."""
        from lenses.addition.probes import probe_table
        from models import untrained

        rows, twin = self.rows("probes"), untrained(model, self.seed)
        places = range(1, style.digits + 1 if style.pad else style.digits)
        for place in self.stream(places, rows, "probes"):
            rows.append(
                probe_table(model, twin, style, place, self.probed, self.seed, self.at_once)
            )
        return rows.frame()

    def _example(self, model: "Model", style: "AdditionFormat") -> tuple[pd.DataFrame, np.ndarray]:
        """One addition with its answer, and every head's attention pattern on it."""
        import torch

        from lenses.heads.contributions import attention_patterns
        from models.text import token_strings
        from prompts.additions import Cells

        longest = Cells(style.digits, 1, self.seed, padded=style.pad).sums
        sums = longest[(longest.place == style.digits - 1) & (longest.cell[:, 1] >= 1)][:1]
        ids = style.write(sums).tokens[0, -SHOWN:]
        pattern = attention_patterns(model, torch.from_numpy(ids).to(model.cfg.device))
        table = pd.DataFrame({"pos": np.arange(len(ids)), "token": token_strings(model, ids)})
        return table, pattern.numpy()


def _frame(rows: "Rows") -> pd.DataFrame:
    """All rows; none where no cell had enough pairs."""
    return rows.frame() if rows.parts() else pd.DataFrame()


def _accuracy(frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Share of `right` rows in each group, with its Wilson interval."""
    from lenses.statistics.intervals import wilson

    table = frame.groupby(by)["right"].agg(n="size", correct="sum").reset_index()
    low, high = wilson(table["correct"].to_numpy(), table["n"].to_numpy())
    return table.assign(accuracy=table["correct"] / table["n"], low=low, high=high)


def _named(table: pd.DataFrame) -> pd.Series:
    """L0H3, L0 mlp, L0 resid."""
    layer = "L" + table["layer"].astype(str)
    if "kind" not in table:
        return layer + "H" + table["head"].astype(str)
    part = np.where(table["kind"] == "head", "H" + table["head"].astype(str), " " + table["kind"])
    return layer + part


def _adds(answers: pd.Series) -> Claim:
    without = float(answers["without_carries"])
    verdict = Claim.judge(answers["low"], answers["high"], without)
    return Claim(
        kind="learned",
        sentence="It adds: more uniform questions are answered right than by adding without "
        "carries.",
        estimate=answers["accuracy"],
        low=answers["low"],
        high=answers["high"],
        n=int(answers["n"]),
        null=without,
        null_note="share of these questions that need no carry",
        verdict=verdict,
        decide="more uniform questions (--uniform)" if verdict == "undecided" else "",
    )


def _moves(sites: pd.DataFrame) -> Claim:
    """Whether anything is there to be found: the one head of the grid that luck explains least."""
    sentence = "Some single head moves a carry, more often than luck explains."
    asked = sites
    if len(sites):
        carries = sites["pair"].isin(CARRIES) & (sites["prefix"] != "own")
        asked = sites[carries & (sites["kind"] == "head")]
    if asked.empty:
        why = "a model that adds better, or more pairs (--per-cell): too few were solved"
        return Claim(
            kind="learned", sentence=sentence, estimate=0, n=0, verdict="undecided", decide=why
        )
    best = asked.sort_values(["p_max", "p"]).iloc[0]
    return Claim(
        kind="learned",
        sentence=sentence,
        estimate=best["flip"],
        low=best["flip_low"],
        high=best["flip_high"],
        n=int(best["n"]),
        p=best["p_max"],
        null=best["null_change"],
        null_note="the digit changes when the source has other digits of the same class",
        unit="share of pairs in which the digit becomes the source's, at the clearest of "
        f"{len(asked)} (L{best['layer']}H{best['head']} at {best['token']}, {best['pair']} pairs "
        f"read at place {best['read_place']}, {best['direction']}); p is corrected for all "
        f"{sites['p_max'].notna().sum()} interchanges (max-T)",
        verdict="holds" if best["p_max"] <= LEVEL else "undecided",
        decide="" if best["p_max"] <= LEVEL else "more pairs (--per-cell)",
    )


def _small_sets(tables: Any) -> pd.DataFrame:
    """Sets that explain a cell and are evidence: up to three heads, and up to half of all."""
    from lenses.addition.sets import LARGEST

    heads = len(tables["attention"][["layer", "head"]].drop_duplicates())
    joint = tables["joint"]
    return joint[joint["minimal"] & (joint["size"] <= min(LARGEST, heads // 2))]


def _place_claim(tables: Any, place: int) -> Claim:
    """Which smallest set of heads writes the carry into a place."""
    joint = tables["joint"]
    tried = (
        joint[(joint["pair"] == "local") & (joint["read_place"] == place)] if len(joint) else joint
    )
    about = f"The carry into place {place}"
    if tried.empty:
        return _too_few_pairs(about, tables["pairs"], place)
    small = _small_sets(tables)
    small = small[small.index.isin(tried.index)].sort_values(
        ["size", "flip"], ascending=[True, False]
    )
    if small.empty:
        best = tried.loc[tried["flip"].idxmax()]
        sentence = (
            f"{about} is written by few heads. (Not localised; tried: {best['searched']}; the best "
            f"of {len(tried)} sets measured is {best['members']}.)"
        )
        return _set_claim(sentence, best, "fails" if _ruled_out(tried) else "undecided")
    best = small.iloc[0]
    verdict = "holds" if best["low"] > SURE else "undecided"
    return _set_claim(_written_by(about, best, len(small) - 1), best, verdict)


def _ruled_out(tried: pd.DataFrame) -> bool:
    """Whether every small set was tried, and none may yet turn out to explain the place."""
    from lenses.addition.sets import EXPLAINS, LARGEST

    small = tried[tried["size"] <= LARGEST]
    every = tried["searched"].str.contains("sets of up to").all()
    return bool(every and (small["high"] < EXPLAINS).all())


def _written_by(about: str, best: pd.Series, others: int) -> str:
    heads = best["members"].split()
    verb = "written by" if len(heads) == 1 else "shared by"
    names = " and ".join([", ".join(heads[:-1])] * (len(heads) > 1) + heads[-1:])
    also = ", which move the column's own sum as well" if best["other_change"] > 0.1 else ""
    sets = "1 other set does" if others == 1 else f"{others} other sets do"
    more = f"; {sets} it too" if others else ""
    return f"{about} is {verb} {names}, at the token that says it ({best['token']}){also}{more}."


def _set_claim(sentence: str, best: pd.Series, verdict: str) -> Claim:
    return Claim(
        kind="learned",
        sentence=sentence,
        estimate=best["flip"],
        low=best["low"],
        high=best["high"],
        n=int(best["n"]),
        null=best["null_change"],
        null_note="the digit changes when the source has other digits of the same class",
        unit="share of pairs in which the digit becomes the source's",
        verdict=verdict,
        decide="more pairs (--per-cell)" if verdict == "undecided" else "",
    )


def _too_few_pairs(about: str, pairs: pd.DataFrame, place: int) -> Claim:
    here = pairs[(pairs["pair"] == "local") & (pairs["read_place"] == place)]
    n, wanted = (int(here[name].sum()) for name in ("n", "wanted"))
    return Claim(
        kind="learned",
        sentence=f"{about} is written by few heads.",
        estimate=0,
        low=0,
        high=1,
        n=n,
        verdict="undecided",
        decide=f"a model that adds better, or more pairs (--per-cell): it solved {n} pairs of the "
        f"{wanted} wanted here",
    )


def _over_nines(tables: Any) -> Claim:
    """In how many cells (place, run of nines) the carry is written by few heads."""
    from lenses.statistics.intervals import wilson

    joint = tables["joint"]
    cascades = tables["pairs"].query("pair == 'cascade' and prefix != 'shared'")
    tried = joint[joint["pair"] == "cascade"] if len(joint) else joint
    small = _small_sets(tables) if len(joint) else joint
    cells = ["read_place", "run"]
    explained = len(small[small["pair"] == "cascade"][cells].drop_duplicates()) if len(small) else 0
    n = len(tried[cells].drop_duplicates()) if len(tried) else 0
    low, high = wilson(explained, n)
    verdict = Claim.judge(low, high, 0.5)
    return Claim(
        kind="learned",
        sentence="In most cells a carry that crosses nines is written by few heads, too "
        f"({explained} of {n} cells of place and run; {len(cascades) - n} had too few pairs)"
        f"{_relayed(tables['roles'])}.",
        estimate=explained / max(n, 1),
        low=float(low),
        high=float(high),
        n=n,
        null=0.5,
        null_note="half of the cells",
        verdict=verdict,
        decide="more cells: longer sums, or a model that solves more" * (verdict == "undecided"),
    )


def _relayed(roles: pd.DataFrame) -> str:
    """Single heads at earlier tokens by which carries over nines pass."""
    read = roles["pos"] == roles.groupby("place")["pos"].transform("max")
    early = roles[~read & (roles["kind"] == "head") & roles["role"].isin(["carry", "combiner"])]
    heads = early.assign(head=_named(early.drop(columns="kind"))).groupby("head")["token"].unique()
    named = [f"{head} ({', '.join(sorted(tokens))})" for head, tokens in heads.items()]
    return "; they pass single heads at earlier tokens: " + ", ".join(named) if named else ""


def _suffices(tables: Any) -> Claim:
    """The heads with a role keep nearly all of the accuracy; as many random ones do not."""
    from lenses.addition.sufficiency import WHOLE

    table = tables["sufficiency"].query("sample == 'uniform' and mode == 'mean'")
    table = table[table["place"] == WHOLE].set_index("kept")
    found, whole = table.loc["found"], table.loc["all"]
    luck = table.loc[["random"], "accuracy"]
    all_of_it = max(float(whole["accuracy"]), 1e-9)
    low, high = (min(float(found[end]) / all_of_it, 1.0) for end in ("low", "high"))
    verdict = Claim.judge(low, high, KEEPS) if found["low"] > luck.max() else "fails"
    decide = "more questions (--uniform)"
    if whole["low"] < ADDS or not found["heads"]:
        verdict, decide = "undecided", "a model that adds, in which heads with a role are found"
    return Claim(
        kind="learned",
        sentence=f"The heads that have a role suffice: with them alone ({found['heads']} of "
        f"{whole['heads']} heads at tokens; all others at their means, MLPs kept) whole answers "
        "stay right, and with no random set of as many.",
        estimate=min(float(found["accuracy"]) / all_of_it, 1.0),
        low=low,
        high=high,
        n=int(found["n"]),
        null=float(luck.mean()) / all_of_it,
        null_note=f"mean of {len(luck)} random sets of as many heads at each token (highest: "
        f"{luck.max() / all_of_it:.2f})",
        unit="share of the intact model's accuracy",
        verdict=verdict,
        decide=decide if verdict == "undecided" else "",
    )


def _figures_of_pairs(tables: Any) -> "dict[str, Drawing]":
    from viz import model_map

    roles = tables["roles"].assign(component=lambda t: _named(t))
    parts = roles[roles["kind"].isin(["head", "mlp"])]
    map_ = parts.assign(
        component=np.where(parts["kind"] == "mlp", "mlp", parts["head"].astype(str))
    )
    some = (map_["role"] != "none").any()
    drawn = {"Where the carry happens": model_map(map_, caption=MAP)} if some else {}
    return drawn | _figures_of_flips(roles) | _figures_of_sets(tables)


def _figures_of_flips(roles: pd.DataFrame) -> "dict[str, Drawing]":
    from viz import heat_map

    read = roles[roles["pos"] == roles.groupby("place")["pos"].transform("max")]
    read = _strongest(read, "component", list(FLIPPED), MOST_ROWS)
    long = read.melt(["component", "place"], list(FLIPPED), "pairs", "flip")
    drawn = {
        "Flips where the digit is said": heat_map(
            long.assign(pairs=long["pairs"].map(FLIPPED)), "component", "place", "flip",
            facet="pairs", low=0, high=1, caption=FLIPS,
        )
    }  # fmt: skip
    layer_kind = "L" + roles["layer"].astype(str) + " " + roles["kind"].replace({"head": "heads"})
    by_token = roles.assign(part=layer_kind).sort_values("pos", kind="stable")
    most = by_token.groupby(["part", "place", "token"], sort=False)["carry_flip"].max()
    if len(most := most.dropna().reset_index()):
        drawn["Flips at every token"] = heat_map(
            _strongest(most, "part", ["carry_flip"], MOST_DRAWN), "place", "token", "carry_flip",
            facet="part", low=0, high=1, caption=TOKENS, label="flip",
        )  # fmt: skip
    return drawn


def _strongest(rows: pd.DataFrame, name: str, flips: list[str], count: int) -> pd.DataFrame:
    """The rows of those components (named in a column) that flip most, in the model's order."""
    most = rows.groupby(name, sort=False)[flips].max().max(axis=1)
    return rows[rows[name].isin(most.nlargest(count).index)]


def _figures_of_sets(tables: Any) -> "dict[str, Drawing]":
    """Sets of heads, and edges; there are none where too few pairs were solved."""
    from viz import heat_map

    drawn = {}
    if len(best := _smallest_sets(tables["joint"])):
        drawn["The smallest sets that write the carry"] = heat_map(
            best, "run", "read_place", "flip", text="members", low=0, high=1, caption=SETS
        )
    if len(edges := tables["edges"]):
        edges = edges.assign(edge=_named(edges) + " → M" + edges["mlp"].astype(str))
        most = edges.groupby(["pair", "edge", "read_place"], sort=False)["flip"].max()
        drawn["From a head into an MLP"] = heat_map(
            _strongest(most.reset_index(), "edge", ["flip"], MOST_ROWS), "edge", "read_place",
            "flip", facet="pair", low=0, high=1, caption=EDGES,
        )  # fmt: skip
    return drawn


def _smallest_sets(joint: pd.DataFrame) -> pd.DataFrame:
    """Of each place and run, the smallest set, minimal ones first; members as layer.head."""
    carries = joint.query("pair != 'base'")
    order = carries.sort_values(["minimal", "size", "flip"], ascending=[False, True, False])
    best = order.drop_duplicates(["read_place", "run"]).sort_values(["read_place", "run"])
    return best.assign(members=best["members"].str.replace("L", "").str.replace("H", "."))


def _figures_of_heads(tables: Any) -> "dict[str, Drawing]":
    from viz import bars, cell_grid, curves

    drawn = {"How well it adds": cell_grid(tables["cells"], caption=CELLS)}
    drawn |= _figures_of_attention(tables["attention"])
    if len(tables["ablation"]):
        drawn["Accuracy without one head"] = _ablation_figure(tables["ablation"])
    return drawn | {
        "Do the heads with a role suffice?": bars(
            _sufficiency_bars(tables["sufficiency"]), "kept", "accuracy", series="sample",
            caption=SUFFICES,
        ),
        "What a linear probe reads": curves(
            _probe_curves(tables["probes"]), "place", "accuracy", series="probe", facet="target",
            caption=PROBES,
        ),
    }  # fmt: skip


def _figures_of_attention(attention: pd.DataFrame) -> "dict[str, Drawing]":
    from viz import heat_map

    shown = attention.assign(component=_named(attention))
    shown = shown[shown["component"].isin(_looking(attention))]
    differs = shown[shown["carry_difference"].notna()]
    return {
        "Attention staircase": heat_map(
            shown, "query_place", "column", "mass", facet="component", low=0, high=1,
            caption=STAIRCASE,
        ),
        "What a carry changes in attention": heat_map(
            differs, "query_place", "column", "carry_difference", facet="component",
            diverging=True, low=-0.5, high=0.5, caption=CARRY_ATTENTION,
        ),
    }  # fmt: skip


def _looking(attention: pd.DataFrame) -> list[str]:
    """The heads that look most at any one column, at most MOST_DRAWN, in the model's order."""
    most = attention.assign(component=_named(attention)).groupby("component", sort=False)
    chosen = set(most["mass"].max().nlargest(MOST_DRAWN).index)
    return [name for name in most.groups if name in chosen]


def _ablation_figure(ablation: pd.DataFrame) -> "Drawing":
    from viz import heat_map

    named = ablation.assign(component=_named(ablation), right=ablation["correct"])
    sums = named.groupby(["mode", "component", "place"], sort=False)[["right", "n"]].sum()
    sums["accuracy"] = sums["right"] / sums["n"]
    return heat_map(
        sums.reset_index(), "component", "place", "accuracy", facet="mode", low=0, high=1,
        caption=ABLATION,
    )  # fmt: skip


def _sufficiency_bars(table: pd.DataFrame) -> pd.DataFrame:
    """Whole answers; of the random sets the mean, with the lowest and the highest."""
    table = table[(table["place"] == table["place"].min()) & (table["mode"] == "mean")]
    random = table[table["kept"] == "random"].groupby("sample", as_index=False)["accuracy"]
    drawn = random.mean().assign(
        kept="random", low=random.min()["accuracy"], high=random.max()["accuracy"]
    )
    both = pd.concat([table[table["kept"] != "random"], drawn])
    order = {"all": 0, "found": 1, "random": 2, "none": 3}
    return both.sort_values("kept", key=lambda kept: kept.map(order), ignore_index=True)


def _probe_curves(table: pd.DataFrame) -> pd.DataFrame:
    """At the token that says the digit, best layer: the probe and what it is held against."""
    read = table[table["token"] == "read"].sort_values("accuracy")
    best = read.drop_duplicates(["place", "target"], keep="last")
    kinds = {"accuracy": "this model", "control": "control task", "input_tokens": "input tokens"}
    kinds |= {"random_weights": "random weights", "chance": "chance"}
    long = best.melt(["place", "target"], list(kinds), "probe", "value")
    long = long.assign(probe=long["probe"].map(kinds)).rename(columns={"value": "accuracy"})
    return long.sort_values(["target", "place"], kind="stable", ignore_index=True)


def _example_figure(tables: Any, arrays: Any) -> "dict[str, Drawing]":
    from viz import attention_patterns

    axes = np.indices(arrays["pattern"].shape).reshape(4, -1)
    data = pd.DataFrame(dict(zip(("layer", "head", "query", "key"), axes, strict=True)))
    data["attention"] = arrays["pattern"].ravel()
    seen = (data["query"] >= data["key"]) & _named(data).isin(_looking(tables["attention"]))
    tokens = tables["example"]["token"].tolist()
    shown = data[seen].reset_index(drop=True)
    return {"Attention in one addition": attention_patterns(shown, tokens, caption=EXAMPLE)}


FLIPPED = {
    "carry_flip": "carry (local)",
    "base_flip": "own sum (base)",
    "nines_flip": "over nines",
}
MAP = (
    "Heads (by their number) and MLPs (M) that move a digit, at the token where they stand, by "
    "role: carry moves it when a carry comes in, base_add when its own column changes, both moves "
    "it in either case, combiner only where the carry crosses a nine. A digit is said at the token "
    "before it."
)
FLIPS = (
    "How often the digit becomes the source's when one component, at the token that says it, gets "
    "what it computed for the source. The last residual stream always does, by construction; no "
    f"single head needs to, where heads share. Of large models the {MOST_ROWS} that flip most."
)
TOKENS = (
    "The same for pairs that differ in the carry (of heads: the highest of a layer), at every "
    "token from the first that differs to the one that says the digit; elsewhere no site can move "
    f"anything. Of deep models the {MOST_DRAWN} parts that flip most."
)
SETS = (
    "The fewest heads (layer.head) that together put the carry in or take it out, by place and by "
    "how many nines it has crossed (run 0: none), and how often they do on fresh pairs. Where a "
    "set is large, or flips less than .95, the carry is not localised."
)
EDGES = (
    "The same when only one MLP hears of one head's change, the norm before it held fixed; the "
    f"highest over runs of nines. Of large models the {MOST_ROWS} edges that flip most."
)
STAIRCASE = (
    "Attention to the two operand digits of a column when the digit at a place is due. A head on "
    "the diagonal reads the digit's own column; one below it reads where carries come from."
)
CARRY_ATTENTION = (
    "The same with a carry coming in, minus its twin without: a head that looks elsewhere when "
    "there is a carry shows here."
)
ABLATION = (
    "Accuracy of each answer digit, over all its cells, when one head is ablated at every token: "
    "set to zero, to its mean at that token, or to what it did for another addition."
)
SUFFICES = (
    "Whole answers that stay right when only some heads are kept, each at some tokens, and all "
    "others stand at their means: all of them, those with a role, as many random ones (mean, "
    "lowest, highest of the draws), none."
)
PROBES = (
    "Balanced accuracy of a linear probe, at the token that says the digit, on digits that it was "
    "not fitted to: the carry into the column, the class of the column below, and the column's own "
    "digit without the carry. Beside it what a probe reaches by heart, from the input tokens "
    "alone, and in the same model with random weights."
)
CELLS = "Accuracy of each answer digit after right ones, by the run of nines below and the carry."
EXAMPLE = (
    "What each head attends to in one addition with its answer, in which a carry crosses nines."
)
