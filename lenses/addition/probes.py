"""What a linear probe reads of a column's carry, class and digit, at each site (SCIENCE 6, 7)."""

from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lenses.addition.contrasts import token_positions
from lenses.states.probes import balanced_accuracy, control_labels, cross_validated
from models import Model
from models.passes import Hooks, reading
from prompts.additions import AdditionFormat, Cells, Sums

TARGETS = ("carry_in", "tri_state", "digit_sum")
"""c_i; K, P or G of column i - 1; s_i mod 10."""

MOST_LAYERS = 6


def probed_sums(style: AdditionFormat, place: int, count: int, seed: int) -> Sums:
    """About `count` additions, as many for each cell of an answer digit: all runs, both carries."""
    longest = Cells(style.digits, 1, seed, padded=style.pad).sums.cell
    number = int((longest[:, 0] == place).sum())
    sums = Cells(style.digits, -(-count // number), seed, padded=style.pad).sums
    chosen = sums[sums.place == place]
    return Sums(chosen.a, chosen.b, chosen.places)


def labels_of(sums: Sums, place: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Labels of each target for an answer digit, and the groups that are held out together.

    A group is the digits of the column that decides, whichever comes first: 3 + 4 and 4 + 3 are
    never on both sides. (The column above the addends has no digits of its own.)
    """
    below, own = place - 1, place
    found = {
        "carry_in": (sums.carry[:, place], _pair(sums, below)),
        "tri_state": (sums.classes[:, below], _pair(sums, below)),
    }
    if own < sums.places:
        found["digit_sum"] = (sums.uncarried[:, own], _pair(sums, own))
    return found


def _pair(sums: Sums, column: int) -> Int[np.ndarray, "n"]:
    both = np.sort(np.stack([sums.a_digits[:, column], sums.b_digits[:, column]], 1), axis=1)
    return both @ np.array([10, 1])


def probed_layers(model: Model) -> list[int]:
    """Every layer; of deep models MOST_LAYERS, evenly spaced, the last among them."""
    layers = model.cfg.n_layers
    return np.unique(
        np.linspace(0, layers - 1, min(layers, MOST_LAYERS)).round().astype(int)
    ).tolist()


def probed_states(
    model: Model, style: AdditionFormat, place: int, count: int, seed: int, batch_size: int
) -> Float[Tensor, "site n d"]:
    """The states that `probe_table` reads of a model."""
    return _states(model, style, probed_sums(style, place, count, seed), place, batch_size)[1]


def probe_table(
    model: Model, random: Float[Tensor, "site n d"], style: AdditionFormat, place: int,
    count: int, seed: int, batch_size: int,
) -> pd.DataFrame:  # fmt: skip
    """Balanced accuracy of each target of an answer digit at the sites where it may stand.

    Sites are the residual stream after each layer at the digits of columns i and i - 1, at the
    last sign, and where A_i is said. Beside it: the same probe on a `control` task (a random label
    for each held-out group), on one-hot digits of all columns up to i (`input_tokens`), and at the
    same site of a model with `random_weights`, whose `probed_states` are `random`; chance is one in
    the number of labels.
    """
    sums = probed_sums(style, place, count, seed)
    sites, states = _states(model, style, sums, place, batch_size)
    rows = []
    for target, (label, group) in labels_of(sums, place).items():
        labels, groups = (torch.from_numpy(x).to(states.device) for x in (label, group))
        control = control_labels(groups, labels, seed)
        each = torch.arange(len(groups), device=groups.device)
        one_hot = _one_hot(sums, place).to(states)
        values = {
            "accuracy": _accuracy(states, labels, groups, seed),
            "control": _accuracy(states, control, each, seed),
            "input_tokens": float(_accuracy(one_hot, labels, groups, seed)[0]),
            "random_weights": _accuracy(random, labels, groups, seed),
            "chance": 1 / len(np.unique(label)),
        }
        rows.append(sites.assign(place=place, target=target, **values, n=len(label)))
    table = pd.concat(rows, ignore_index=True)
    table["selectivity"] = table["accuracy"] - table["control"]
    return table


def _accuracy(
    states: Float[Tensor, "site n d"],
    labels: Int[Tensor, "n"],
    groups: Int[Tensor, "n"],
    seed: int,
) -> Float[np.ndarray, "site"]:
    """Balanced accuracy of a probe at each site, of groups that it has not seen."""
    said = cross_validated(states, labels, groups, seed=seed)
    return balanced_accuracy(said, labels).cpu().numpy()


def _states(
    model: Model, style: AdditionFormat, sums: Sums, place: int, batch_size: int
) -> tuple[pd.DataFrame, Float[Tensor, "site n d"]]:
    """The residual stream after each layer at the tokens that matter for an answer digit."""
    written, named = style.write(sums), token_positions(style, sums)
    read = written.at[:, place] - 1
    columns = [column for column in (place, place - 1) if column < style.digits]
    at = {f"{name}{column}": named[f"{name}{column}"] for column in columns for name in "ab"}
    at |= {"read": read}
    layers, pos = probed_layers(model), np.stack(list(at.values()))
    sites = [(layer, token) for layer in layers for token in at]
    table = pd.DataFrame(sites, columns=["layer", "token"])
    table.insert(1, "pos", [int(at[token][0]) for _, token in sites])
    states = _resid_post(model, written.tokens[:, :-1], layers, pos, batch_size)
    return table, states.flatten(0, 1).float()


@torch.inference_mode()
def _resid_post(
    model: Model, tokens: Int[np.ndarray, "n pos"], layers: list[int],
    pos: Int[np.ndarray, "token n"], batch_size: int,
) -> Float[Tensor, "layer token n d"]:  # fmt: skip
    """The stream after some layers, kept at those pos alone: a whole stream takes gigabytes."""
    kept: list[list[Tensor]] = [[] for _ in layers]
    for start in range(0, len(tokens), batch_size):
        rows = slice(start, start + batch_size)
        batch, at = (torch.from_numpy(x).to(model.cfg.device) for x in (tokens[rows], pos[:, rows]))
        hooks: Hooks = [
            (f"blocks.{layer}.hook_resid_post", partial(_keep, into, at))
            for layer, into in zip(layers, kept, strict=True)
        ]
        with reading(model, at[:0].T):
            model.run_with_hooks(batch, fwd_hooks=hooks)
    return torch.stack([torch.cat(into, dim=1) for into in kept])


def _keep(into: list[Tensor], at: Int[Tensor, "token row"], act: Tensor, hook: object) -> None:
    into.append(act[torch.arange(len(act), device=act.device), at])


def _one_hot(sums: Sums, place: int) -> Float[Tensor, "1 n d"]:
    """The digits of all columns up to the place, one-hot: what the input tokens tell a line."""
    digits = [x[:, : place + 1] for x in (sums.a_digits, sums.b_digits)]
    hot = np.concatenate([np.eye(10)[x].reshape(len(sums), -1) for x in digits], axis=1)
    return torch.from_numpy(hot).float()[None]
