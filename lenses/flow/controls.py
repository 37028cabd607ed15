"""What every rule finds of a path that is known, in models that were planted for it."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from lenses.flow.keyed_texts import positions
from lenses.flow.origins import head_share
from lenses.flow.splits import Splits, splits
from lenses.flow.trace import trace
from models import Model
from models.text import tokenize
from prompts.additions import Sums

COLUMNS = ["control", "rule", "prompt", "found"]


def copied_rows(
    model: Model, texts: Sequence[str], keys: Sequence[str], control: str
) -> pd.DataFrame:
    """Of all weight, text by text: what comes from the embedding of the word that is copied."""
    rows = []
    for number, (text, key) in enumerate(zip(texts, keys, strict=True)):
        ids = tokenize(model, text)
        ((at,),) = positions(model, ids, text, key)
        for rule, split in splits(model, torch.tensor(ids)).by_rule.items():
            source = trace(split, model.cfg.n_layers, -1).sources[at]
            rows.append((control, rule, number, float(source)))
    return pd.DataFrame(rows, columns=COLUMNS)


def carried_rows(
    model: Model, heads: Mapping[int, Sequence[tuple[int, int]]], sums: Sums, count: int
) -> pd.DataFrame:
    """Up to answer digits that get a carry from heads of block 0, `count` additions a place.

    `carry column`: whether the thickest link that block 0 draws into the last token comes from the
    column just below. `carry head`: the heads' share of all that block 0 moves.
    """
    form, rows = model.card.arithmetic, []
    for place, moving in heads.items():
        written = form.write(sums[np.flatnonzero(sums.carry[:, place])[:count]])
        below = [form.operand_at(addend, place - 1) for addend in "ab"]
        known = [head for _, head in moving]
        for number, (ids, at) in enumerate(zip(written.tokens, written.at[:, place], strict=True)):
            read = splits(model, torch.from_numpy(ids[:at].copy()), heads=model.cfg.n_heads)
            for rule, (thickest, share) in _carried(read, known, below).items():
                rows.append(("carry column", rule, place * count + number, thickest))
                rows.append(("carry head", rule, place * count + number, share))
    return pd.DataFrame(rows, columns=COLUMNS)


def _carried(
    read: Splits, heads: Sequence[int], columns: Sequence[int]
) -> dict[str, tuple[float, float]]:
    """By each rule: whether a column is the thickest, and the share of the heads, else 0."""
    found = {}
    for rule, split in read.by_rule.items():
        flow = trace(split, len(split.residual), -1)
        into = flow.attention[0, -1]
        thickest = float(into.max() > 0 and int(into.argmax()) in columns)
        found[rule] = (thickest, float(np.nan_to_num(head_share(split, flow, 0, heads))))
    return found
