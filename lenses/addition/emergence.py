"""What an adder does, read often and cheaply while it is being trained.

Every checkpoint is asked the same questions, whether it can answer them or not: a part of the
battery of SCIENCE 6 that takes seconds.
"""

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int

from lenses.addition.contrasts import Contrast, cells, contrast
from lenses.addition.roles import heads_at, roles
from lenses.patching.head_sets import ablated, stand_in
from lenses.patching.interchange import Site, activations, interchange, untouched
from lenses.statistics.accuracy import with_accuracy
from models import Model
from prompts.additions import AdditionFormat, CellSums

AT_ONCE = 500
"""Prompts in one pass. It is fixed: what a model says must not depend on how many it is asked."""

CELL = ["place", "run", "carry"]


@torch.inference_mode()
def cell_losses(model: Model, style: AdditionFormat, sums: CellSums) -> pd.DataFrame:
    """For every cell: how often its digit is right, or right but for the carry, and its loss.

    `known` counts digits that are s_i or s_i + 1 mod 10: the column was added, whatever is held of
    the carry. `loss` is the mean cross-entropy of the digit in nats.
    """
    parts = []
    for batch in sums.batches(AT_ONCE):
        written, row = style.write(batch), np.arange(len(batch))
        tokens = torch.from_numpy(written.tokens).to(model.cfg.device)
        logits = model(tokens)[row, written.at[row, batch.place] - 1].float().cpu()
        digit = batch.answer_digits[row, batch.place]
        losses = -logits.log_softmax(-1)[row, style.digit_ids[digit]]
        said = logits.argmax(-1).numpy()
        plain = batch.uncarried[row, batch.place]
        known = (said[:, None] == style.digit_ids[np.stack([plain, (plain + 1) % 10], 1)]).any(1)
        part = pd.DataFrame(batch.cell, columns=CELL)
        parts.append(
            part.assign(
                n=1, correct=said == style.digit_ids[digit], known=known, loss=losses.numpy()
            )
        )
    counted_cells = pd.concat(parts).groupby(CELL)
    table = counted_cells[["n", "correct", "known"]].sum()
    return table.assign(loss=counted_cells["loss"].mean().astype(float)).reset_index()


def head_roles(model: Model, style: AdditionFormat, count: int, seed: int) -> pd.DataFrame:
    """Roles of each head where a digit is read, and of all heads of a layer together (head -1).

    The part of the battery of SCIENCE 6 that shows in a training: interchange in `count` pairs of
    each kind, solved or not, so that all checkpoints are asked the same. A digit that the model
    said before the interchange has not been flipped to, whatever the source's is.
    """
    asked = [cell for cell in cells(style) if cell.pair in ("local", "base", "tristate")]
    found = []
    for cell in (cell for cell in asked if cell.prefix != "own"):
        pairs = contrast(style, cell, count, seed)
        found.append(_interchanged(model, pairs))
    table = roles(pd.concat(found, ignore_index=True)).drop(columns=["token", "pos"])
    return table.sort_values(["layer", "head", "place"], ignore_index=True)


def _interchanged(model: Model, pairs: Contrast) -> pd.DataFrame:
    """Rates for each head, and for all heads of each layer, where the digit is read."""
    token, cell = list(pairs.positions)[-1], pairs.cell
    alone = heads_at(model, token)
    layers, heads = range(model.cfg.n_layers), range(model.cfg.n_heads)
    joint = [Site(token, heads=tuple((layer, head) for head in heads)) for layer in layers]
    before, after, other = _said(model, pairs, alone + joint)
    target = pairs.read.tokens[:, 1]
    rates = {
        "flip": (after == target) & (before != target) & (pairs.read.tokens[:, 0] != target),
        "change": after != before,
        "null_change": other != before,
    }
    where = [(*site.heads[0], "head") for site in alone] + [(x, -1, "attention") for x in layers]
    return pd.DataFrame(where, columns=["layer", "head", "kind"]).assign(
        **{name: events.mean(1) for name, events in rates.items()},
        own_change=np.nan, n=len(pairs), pair=cell.pair, prefix=cell.prefix, place=cell.place,
        run=cell.run, read_place=cell.read_place, token=token, pos=-1,
    )  # fmt: skip


def _said(
    model: Model, pairs: Contrast, sites: list[Site]
) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "site n"], Int[np.ndarray, "site n"]]:
    """The token said where the digit is read: untouched, and with each site from either source."""
    place = pairs.cell.read_place
    before = untouched(model, pairs.clean, pairs.read, AT_ONCE).token[0, :, place]
    at = np.array([pairs.positions[site.token] for site in sites])
    after = []
    for source in (pairs.source, pairs.null):
        acts = activations(model, source, AT_ONCE)
        said = interchange(model, pairs.clean, acts, sites, at, pairs.read, AT_ONCE)
        after.append(said.token[:, :, place])
    return before, after[0], after[1]


def head_ablations(model: Model, style: AdditionFormat, sums: CellSums) -> pd.DataFrame:
    """Accuracy of the cells' digits by place and carry, each head mean-ablated at every pos."""
    written, row = style.write(sums), np.arange(len(sums))
    layers, heads = model.cfg.n_layers, model.cfg.n_heads
    sets = np.eye(layers * heads, dtype=bool).reshape(-1, layers, 1, heads)
    z = activations(model, written.tokens, AT_ONCE).z
    mean = stand_in("mean", z, np.random.default_rng(0), len(sums))
    at = written.at[row, sums.place][:, None] - 1
    said = ablated(model, written.tokens, sets, mean, at, AT_ONCE)[:, :, 0]
    right = said == style.digit_ids[sums.answer_digits[row, sums.place]]
    table = pd.DataFrame(
        {
            "layer": np.repeat(np.arange(layers), heads * len(sums)),
            "head": np.tile(np.repeat(np.arange(heads), len(sums)), layers),
            "place": np.tile(sums.place, layers * heads),
            "carry": np.tile(sums.cell[:, 2], layers * heads),
            "correct": right.ravel(),
        }
    )
    grouped = table.groupby(["layer", "head", "place", "carry"])["correct"]
    return with_accuracy(grouped.agg(n="size", correct="sum").reset_index())
