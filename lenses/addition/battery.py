"""The battery of SCIENCE 6, cell by cell and place by place: what is measured of one adder.

Each method gives a table. Loops go through `Experiment.stream`, so that a run can be resumed.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from lenses.addition import roles
from lenses.addition.answers import answered
from lenses.addition.attention import staircase
from lenses.addition.contrasts import FEWEST, LUCKY_DRAWS, Cell, Contrast, cells, contrast
from lenses.addition.donors import CELL as CELL_OF_PAIRS
from lenses.addition.donors import SITE, donor_table, localised
from lenses.addition.edges import edge_table, edges_of
from lenses.addition.emergence import CELL
from lenses.addition.exchanges import Exchanges, exchanges, read_pairs
from lenses.addition.probes import probe_table, probed_states
from lenses.addition.sets import joint_sets
from lenses.addition.sufficiency import (
    Kept,
    Questions,
    accuracy_with,
    by_place,
    every_head,
    keeping,
    random_alike,
)
from lenses.heads.contributions import attention_patterns
from lenses.kept import PerPrompt
from lenses.patching.head_sets import MODES
from lenses.statistics.accuracy import accuracy_of
from models import Model
from models.text import token_strings
from prompts.additions import Addition, AdditionFormat, Cells

ASKED_AT_ONCE = 32
"""Questions answered freely together: all logits of large vocabularies are large."""
RANDOM_SETS = 20
"""Random sets of heads beside the one that was found."""
SHOWN = 48
"""Tokens of the example, the last of them, whose attention is drawn."""


@dataclass(frozen=True)
class Battery:
    """A model, how it writes additions, and how much is asked of it."""

    model: Model
    style: AdditionFormat
    per_cell: int
    """Pairs for each kind, place and run."""
    screen: int
    """Pairs on which every site, and every set of heads, is first tried."""
    solved: bool
    """Whether only pairs count that the model gets right."""
    seed: int
    at_once: int
    """Prompts in one forward pass."""
    stream: Callable[..., Any]
    """`Experiment.stream`."""
    rows: Callable[[str], Any]
    """`Experiment.rows`."""

    def behaviour(self, per_cell: int, uniform: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Accuracy of each cell's digit after right ones, and of whole answers written freely."""
        how = {"places": self.style.digits, "seed": self.seed, "padded": self.style.pad}
        asked = {
            "cells": Cells(per_cell=per_cell, **how).sums,
            "uniform": Addition(count=uniform, **how).sums,
        }
        right = {name: PerPrompt() for name in asked}
        for name, sums in asked.items():
            for batch in self.stream(sums.batches(ASKED_AT_ONCE), right[name], f"asking {name}"):
                given, generated, ends = answered(self.model, self.style, batch)
                wrong = self.style.write(batch).written & (generated != batch.answer_digits)
                whole = ~wrong.any(1) & (ends | self.style.pad)
                right[name].update(given=given == batch.answer_digits, whole=whole)
        cell = pd.DataFrame(asked["cells"].cell, columns=CELL)
        cell["right"] = right["cells"]["given"][np.arange(len(cell)), asked["cells"].place]
        answers = pd.DataFrame({"right": right["uniform"]["whole"], "sample": "uniform"})
        without = (asked["uniform"].uncarried == asked["uniform"].answer_digits).all(1).mean()
        answers = accuracy_of(answers, ["sample"]).assign(without_carries=without)
        return accuracy_of(cell, CELL), answers

    def interchanges(self) -> tuple[pd.DataFrame, pd.DataFrame, Float[np.ndarray, "draw"]]:
        """How many solved pairs each cell has, and where they are enough, counts of every site.

        And the largest excess over null sources that luck gives any site.
        """
        pairs, counts, luck = self.rows("pairs"), self.rows("counts"), PerPrompt()
        luck.update(of_cells=np.zeros((1, LUCKY_DRAWS)))
        numbered = list(enumerate(cells(self.style)))
        for number, cell in self.stream(numbered, (pairs, counts, luck), "interchanges"):
            found = self._solved(cell, self.seed)
            told = {**vars(cell), "read_place": cell.read_place, "wanted": self.per_cell}
            fresh = max(0, len(found or ()) - self.screen)
            pairs.append(pd.DataFrame([told | {"n": fresh}]))
            if found and fresh >= FEWEST:
                rng = np.random.default_rng([self.seed, number])
                told, most = roles.interchanges(self.model, found, self.screen, rng)
                counts.append(told)
                luck.update(of_cells=most[None])
        return pairs.frame(), counts.frame(), luck["of_cells"].max(axis=0)

    def _solved(self, cell: Cell, seed: int, *, alone: bool = False) -> Exchanges | None:
        how = (self.screen + self.per_cell, seed, self.at_once)
        return exchanges(self.model, self.style, cell, *how, solved=self.solved, alone=alone)

    def joint(self, pairs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Smallest sets of heads, and single edges, of every cell that one carry or sum decides."""
        enough = pairs[(pairs["n"] >= FEWEST) & pairs["pair"].isin(["local", "cascade", "base"])]
        there = [Cell(*row) for row in enough[["pair", "place", "run", "prefix"]].to_numpy()]
        joint, edges = self.rows("joint"), self.rows("edges")
        known: dict[Cell, Contrast | None] = {}
        for cell in self.stream(there, (joint, edges), "joint sets"):
            found = self._solved(cell, self.seed + 1, alone=True)
            known[cell] = found and found.found
            if len(found or ()) < FEWEST + self.screen:
                continue
            spares = ("local", cell.place - 1) if cell.pair == "base" else ("base", cell.read_place)
            spared = Cell(*spares, 0, "same")
            other = self._spared(spared, known) if spared in there else None
            sets = joint_sets(self.model, found, other, self.screen)
            joint.append(sets)
            single = edges_of(self.model, sets["members"])
            edges.append(edge_table(self.model, found, single))
        return joint.frame(), edges.frame()

    def _spared(self, cell: Cell, known: dict[Cell, Contrast | None]) -> Exchanges | None:
        """Pairs of what a set should spare, without null sources; those known are solved."""
        if cell not in known:
            found = self._solved(cell, self.seed + 1, alone=True)
            known[cell] = found and found.found
            return found
        pairs = known[cell] and replace(known[cell], others=None)
        return pairs and read_pairs(self.model, pairs, self.at_once, alone=True)

    def donors(self, interchanges: pd.DataFrame, joint: pd.DataFrame) -> pd.DataFrame:
        """What localised sites make of the digit when they come from donors, on fresh pairs."""
        rows, sites = self.rows("donors"), localised(self.model, self.style, interchanges, joint)
        every = [
            (Cell(*cell), some[SITE]) for cell, some in sites.groupby(CELL_OF_PAIRS, sort=False)
        ]
        for cell, some in self.stream(every, rows, "cross donors"):
            found = self._solved(cell, self.seed + 4, alone=True)
            if len(found or ()) >= FEWEST:
                members = list(some.itertuples(index=False, name=None))
                rows.append(donor_table(self.model, found, members, self.seed, solved=self.solved))
        return rows.frame()

    def attention(self) -> pd.DataFrame:
        """Attention to each column, where each answer digit is predicted."""
        rows, model, style = self.rows("attention"), self.model, self.style
        places = range(style.digits + 1 if style.pad else style.digits)
        for place in self.stream(places, rows, "attention"):
            cell = Cell("local", place - 1, 0, "same") if place else Cell("base", 0, 0, "same")
            found = contrast(style, cell, self.per_cell, self.seed)
            rows.append(staircase(model, found, self.seed, self.at_once))
        return rows.frame()

    def questions(self, per_cell: int, uniform: int) -> dict[str, Questions]:
        """The additions asked under ablation, and others from which mean activations come."""
        how = {"places": self.style.digits, "padded": self.style.pad}
        sums = {
            "cells": Cells(per_cell=per_cell, seed=self.seed + 2, **how).sums,
            "uniform": Addition(count=uniform, seed=self.seed + 2, **how).sums,
            "reference": Addition(count=uniform, seed=self.seed + 3, **how).sums,
        }
        return {name: Questions.of(self.style, some) for name, some in sums.items()}

    def ablation(self, questions: dict[str, Questions], kept: list[Kept]) -> pd.DataFrame:
        """Accuracy of each cell's digit without one head; of large models, those with a role."""
        layers, heads = self.model.cfg.n_layers, self.model.cfg.n_heads
        rows, number = self.rows("ablation"), np.arange(layers * heads)
        if roles.is_large(self.model):
            number = np.unique([layer * heads + head for _, layer, head in kept]).astype(int)
        sets = np.eye(layers * heads, dtype=bool)[number].reshape(-1, layers, 1, heads)
        cell = pd.DataFrame(questions["cells"].sums.cell, columns=CELL)
        mine, both = (np.arange(len(cell)), cell["place"]), ("cells", "reference")
        for mode in self.stream(MODES if len(number) else (), rows, "ablation"):
            asked, reference = (questions[name] for name in both)
            how = (sets, mode, self.seed, self.at_once)
            right = accuracy_with(self.model, asked, reference, *how)
            for i, one in zip(number, right, strict=True):
                what = {"mode": mode, "layer": i // heads, "head": i % heads}
                rows.append(accuracy_of(cell.assign(right=one[mine], **what), [*what, *CELL]))
        return rows.frame()

    def sufficiency(self, questions: dict[str, Questions], kept: list[Kept]) -> pd.DataFrame:
        """Accuracy with nothing but the heads that have a role, or as many random ones."""
        model, rows, rng = self.model, self.rows("sufficiency"), np.random.default_rng(self.seed)
        random = random_alike(model, kept, RANDOM_SETS, rng)
        cases = [(sample, mode) for sample in ("cells", "uniform") for mode in ("mean", "resample")]
        for sample, mode in self.stream(cases, rows, "sufficiency"):
            asked, reference = questions[sample], questions["reference"]
            sets = {("all", 0): every_head(model, asked), ("none", 0): [], ("found", 0): kept}
            if mode == "mean":
                sets |= {("random", draw): heads for draw, heads in enumerate(random)}
            gone = keeping(model, asked, list(sets.values()))
            right = accuracy_with(model, asked, reference, gone, mode, self.seed, self.at_once)
            for ((name, draw), heads), one in zip(sets.items(), right, strict=True):
                what = {"sample": sample, "mode": mode, "kept": name, "draw": draw}
                rows.append(by_place(one).assign(**what, heads=len(heads)))
        return rows.frame()

    def random_states(self, twin: Model, count: int) -> PerPrompt:
        """What `probes` needs of a model with random weights, by place: [addition site d]."""
        kept, how = PerPrompt(), (count, self.seed, self._texts_at_once)
        for place in self.stream(self._probed_places(), kept, "random weights"):
            states = probed_states(twin, self.style, place, *how)
            kept.update(**{f"place {place}": states.transpose(0, 1).cpu().numpy()})
        return kept

    def probes(self, random: PerPrompt, count: int) -> pd.DataFrame:
        """What linear probes read at each site, beside their controls and random weights."""
        rows, how = self.rows("probes"), (count, self.seed, self._texts_at_once)
        for place in self.stream(self._probed_places(), rows, "probes"):
            twin = torch.from_numpy(random[f"place {place}"]).transpose(0, 1)
            twin = twin.to(self.model.cfg.device)
            rows.append(probe_table(self.model, twin, self.style, place, *how))
        return rows.frame()

    @property
    def _texts_at_once(self) -> int:
        """Fewer than elsewhere: a random model is in memory beside the model."""
        return max(1, self.at_once // 4)

    def _probed_places(self) -> range:
        return range(1, self.style.digits + 1 if self.style.pad else self.style.digits)

    def example(self) -> tuple[pd.DataFrame, Float[np.ndarray, "layer head query key"]]:
        """One addition with its answer, and every head's attention pattern on it."""
        style, model = self.style, self.model
        longest = Cells(style.digits, 1, self.seed, padded=style.pad).sums
        sums = longest[(longest.place == style.digits - 1) & (longest.cell[:, 1] >= 1)][:1]
        ids = style.write(sums).tokens[0, -SHOWN:]
        pattern = attention_patterns(model, torch.from_numpy(ids).to(model.cfg.device))
        table = pd.DataFrame({"pos": np.arange(len(ids)), "token": token_strings(model, ids)})
        return table, pattern.numpy()
