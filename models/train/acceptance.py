"""The additions that a trained adder must get right, and how many it does."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool

from models.train.recipe import Training
from models.train.sums import cut, marked
from prompts.additions import (
    PASS,
    Addition,
    AdditionFormat,
    Cells,
    CellSums,
    Sums,
    edge_cases,
    every_pattern,
    repeated_pairs,
)

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

IN_CACHE = 100
"""Additions tested at once; with 1,000, activations leave the cache and take twice as long."""


@torch.no_grad()
def digits_right(
    adder: "GPT2LMHeadModel", style: AdditionFormat, sums: Sums
) -> Iterator[Bool[np.ndarray, "batch answer"]]:
    """For each batch, whether each answer digit is the likeliest token after the right prefix.

    Digits that are not written count as right; where answers differ in length, the digit written
    last is only right if the end then follows it. An answer whose digits are all right in this
    sense is also what the adder writes by itself.
    """
    for batch in sums.batches(IN_CACHE):
        tokens = torch.from_numpy(style.write(batch).tokens)
        yield marked(style, batch, adder(tokens, use_cache=False).logits.argmax(-1).numpy())


def acceptance_sums(style: AdditionFormat, training: Training) -> dict[str, Sums]:
    """The additions an exact adder must get right, by kind; seeds differ from training's.

    Where numbers are not padded, additions of every pattern and uniform ones are also cut to
    addends of any two lengths; the edge cases and repeated pairs hold short addends as they are.
    """
    places, seed = style.digits, training.seed + 10_000
    patterns = every_pattern(places, training.per_pattern, seed)
    uniform = Addition(places, training.uniform, seed).sums
    kinds = {
        "edge cases": edge_cases(places),
        "repeated pairs": repeated_pairs(places),
        "every pattern of columns": patterns,
        "every cell": Cells(places, training.per_cell, seed, padded=style.pad).sums,
        "uniform": uniform,
    }
    if not style.pad:
        kinds["every pattern, any lengths"] = of_any_lengths(patterns, seed)
        kinds["uniform"] = of_any_lengths(uniform, seed)
    return kinds


def of_any_lengths(sums: Sums, seed: int) -> Sums:
    """The same additions with each addend cut to 1 digit up to all, columns of nine kept."""
    rng = np.random.default_rng(seed)
    length = rng.integers(1, sums.places + 1, (2, len(sums)))
    return cut(sums, length, passes=sums.classes == PASS)


def accept(adder: "GPT2LMHeadModel", style: AdditionFormat, training: Training) -> pd.DataFrame:
    """How many whole answers of each kind are wrong, with one of the wrong questions."""
    rows = []
    for kind, sums in acceptance_sums(style, training).items():
        right = np.concatenate([digits.all(1) for digits in digits_right(adder, style, sums)])
        example = sums[~right].texts[:1]
        rows.append((kind, len(sums), int((~right).sum()), "".join(example)))
        print(f"{kind}: {rows[-1][2]} of {len(sums)} answers wrong {rows[-1][3]}", flush=True)
    return pd.DataFrame(rows, columns=["kind", "n", "wrong", "example"])


def accuracy_by_cell(
    adder: "GPT2LMHeadModel", style: AdditionFormat, training: Training
) -> pd.DataFrame:
    """Teacher-forced accuracy of the answer digit of every cell.

    Where numbers are not padded there is such a table for each length of the addends (`digits`).
    """
    seed = training.seed + 10_000
    if style.pad:
        return accuracy_in(adder, style, Cells(style.digits, training.per_cell, seed).sums)
    tables = []
    for digits in range(1, style.digits + 1):
        sums = Cells(digits, training.per_cell, seed, padded=False).sums
        tables.append(accuracy_in(adder, style, sums).assign(digits=digits))
    return pd.concat(tables, ignore_index=True)


def accuracy_in(adder: "GPT2LMHeadModel", style: AdditionFormat, sums: CellSums) -> pd.DataFrame:
    """Teacher-forced accuracy of the digit that each addition was drawn for, by its cell."""
    right = np.concatenate(list(digits_right(adder, style, sums)))
    cell = pd.DataFrame(sums.cell, columns=["place", "run", "carry"])
    cell["right"] = right[np.arange(len(sums)), sums.place]
    grouped = cell.groupby(["place", "run", "carry"])["right"]
    return grouped.agg(n="size", correct="sum", accuracy="mean").reset_index()
