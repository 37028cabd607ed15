"""Which columns each head looks at when an answer digit is due (SCIENCE 6)."""

from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lenses.addition.contrasts import Contrast
from lenses.statistics.intervals import bootstrap
from models import Model
from models.passes import reading


@torch.inference_mode()
def column_mass(
    model: Model,
    tokens: Int[np.ndarray, "n pos"],
    query: Int[np.ndarray, "n"],
    keys: Int[np.ndarray, "column n key"],
    batch_size: int,
) -> Float[np.ndarray, "n layer head column"]:
    """Attention of each head, from one pos, to the keys of each column together."""
    parts = []
    for start in range(0, len(tokens), batch_size):
        chunk = slice(start, start + batch_size)
        device = model.cfg.device
        batch, at = (torch.from_numpy(x[chunk]).to(device) for x in (tokens, query))
        columns = torch.from_numpy(keys[:, chunk]).to(device)
        layers: list[Tensor] = []
        hooks = [
            (f"blocks.{layer}.attn.hook_pattern", partial(_keep, layers, at, columns))
            for layer in range(model.cfg.n_layers)
        ]
        with reading(model, at[:, None]):
            model.run_with_hooks(batch, fwd_hooks=hooks)
        parts.append(torch.stack(layers, dim=1))
    return torch.cat(parts).double().cpu().numpy()


def _keep(
    layers: list[Tensor],
    query: Int[Tensor, "n"],
    keys: Int[Tensor, "column n key"],
    pattern: Float[Tensor, "n head query key"],
    hook: object,
) -> None:
    rows = torch.arange(len(query), device=query.device)
    row = pattern[rows, :, query]
    # Rows and keys are indexed together, so the axis of heads comes last: column, n, key, head.
    mass = row[rows[None, :, None], :, keys].sum(2)
    layers.append(mass.movedim(0, -1))


def staircase(model: Model, found: Contrast, seed: int, batch_size: int) -> pd.DataFrame:
    """Mass on the two operand digits of each column, where A_i is said (`query_place` i).

    `mass` is its mean over the clean sums; `carry_difference` that of the sums with the carry into
    place i minus their partners without it, with its bootstrap interval over pairs; NaN for pairs
    that do not differ in a carry.
    """
    query = found.read.at[:, found.cell.read_place]
    named = found.tokens_at
    keys = np.array(
        [np.stack([named[f"a{k}"], named[f"b{k}"]], 1) for k in range(found.style.digits)]
    )
    clean, source = (
        column_mass(model, tokens, query, keys, batch_size)
        for tokens in (found.clean, found.source)
    )
    sign = np.choose(found.direction, [1.0, -1.0, np.nan])[:, None, None, None]
    difference = bootstrap(sign * (source - clean), seed).within(-1, 1)
    axes = np.indices(clean.shape[1:]).reshape(3, -1)
    table = pd.DataFrame(dict(zip(("layer", "head", "column"), axes, strict=True)))
    table.insert(2, "query_place", found.cell.read_place)
    return table.assign(
        mass=clean.mean(0).ravel(),
        carry_difference=difference.estimate.ravel(),
        low=difference.low.ravel(),
        high=difference.high.ravel(),
        n=len(found),
    )
