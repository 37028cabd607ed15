"""What states are taken apart into, as tables (SCIENCE 4)."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from lenses.states.concepts import (
    OF_TOKENS,
    RESIDUAL,
    AtomSet,
    States,
    depth_of,
    evenly,
    normed,
    random_like,
    token_rows,
)
from lenses.states.pursuits import MOST, Atoms, Decomposition, How, Norm, pursue
from lenses.statistics.intervals import bootstrap, share
from models import Model
from models.readout import unembedding
from models.text import token_strings

BEYOND, BY_MIXED = "states, beyond own token", "the same by mixed vectors"
PARTS = {
    "embedding": "residual stream", "resid_post": "residual stream", "attn_out": "attention",
    "mlp_out": "MLP",
}  # fmt: skip
KINDS = ("states", "random vectors")
THIRDS = ("lower third", "middle third", "upper third")
GRID_DEPTHS = 3
"""Above the embedding, at which pursuits and norms are compared, at one position of each text."""
SAME = 1 - 1e-6
"""Cosine above which two token vectors are one."""
SHARES = [f"explained_{k}" for k in range(1, MOST + 1)]
"""Columns: the share of squared length that the first k tokens explain."""


def taken_apart(model: Model, atoms: AtomSet, read: States, seed: int) -> Iterator[pd.DataFrame]:
    """Rows of every state by the orthogonal pursuit, with its nulls."""
    names, device = token_strings(model, range(len(model.W_E))), model.cfg.device
    own, told = torch.from_numpy(read.kept["own"]), {"atoms": atoms.name}
    told |= {name: read.kept[name] for name in ("prompt", "pos")}
    told |= {"token": [names[token] for token in own.tolist()]}
    for number, site in enumerate(read.where):
        if site.part not in RESIDUAL and not atoms.mixed:
            continue  # Jacobians are of the residual stream
        states, here = read.at(number, device), atoms.at[read.depths.index(depth_of(site))]
        told |= {"state": PARTS[site.part], "depth": depth_of(site)}
        yield _rows(pursue(states, here), here, states, names).assign(vectors="states", **told)
        if site.part not in RESIDUAL:
            continue
        random = random_like(states, seed + number)
        random = _rows(pursue(random, here), here, random, names)
        yield random.assign(vectors="random vectors", **told)
        if atoms.mixed:
            aside = torch.stack([here[own.to(device)], states.double()], dim=1)
            aside[:, 1] = read.mean_at(number, device)
            yield from _beyond(states, aside, here, atoms.mixed, names, told)


def _beyond(
    states: Float[Tensor, "n d"],
    aside: Float[Tensor, "n given d"],
    atoms: Atoms,
    random: Sequence[Atoms],
    names: Sequence[str],
    told: dict[str, Any],
) -> Iterator[pd.DataFrame]:
    """What tokens tell beyond what is set aside; then mixed vectors, mean over their draws."""
    rows = _rows(pursue(states, atoms, aside=aside), atoms, states, names)
    yield rows.assign(vectors=BEYOND, **told)
    drawn = [_rows(pursue(states, one, aside=aside), one, states, names) for one in random]
    every = np.stack([rows[[*SHARES, "error", "rise"]] for rows in drawn])
    mean = drawn[0].assign(found="", first="", vectors=BY_MIXED, **told)
    mean[SHARES] = every[..., :MOST].mean(0)
    mean[["error", "rise"]] = every[..., MOST:].max(0)
    yield mean


def _rows(
    found: Decomposition, atoms: Atoms, states: Float[Tensor, "n d"], names: Sequence[str]
) -> pd.DataFrame:
    """A row for each state: its tokens in order, what the first k explain, and what is amiss."""
    words = [[names[i] if i >= 0 else "" for i in row] for row in found.tokens.tolist()]
    length = states.double().norm(dim=-1)
    error = (found.rebuilt(atoms) - states.double()).norm(dim=-1) / length
    rise = (found.lengths.diff(dim=-1).max(-1).values / length).clamp(min=0)
    told = [in_words(*pair) for pair in zip(words, found.coefficients.tolist(), strict=True)]
    frame = pd.DataFrame(explained(found), columns=SHARES)
    amiss = {"error": error.cpu().numpy(), "rise": rise.cpu().numpy()}
    return frame.assign(found=told, first=[row[0] for row in words], **amiss)


def in_words(tokens: Sequence[str], coefficients: Sequence[float]) -> str:
    """The tokens of a pursuit in order, those that are taken off with a minus: `Paris − city`."""
    words = [
        f"{'−' if weight < 0 else '+'} {token.strip() or repr(token)}"
        for token, weight in zip(tokens, coefficients, strict=True)
        if token
    ]
    return " ".join(words).removeprefix("+ ")


def explained(found: Decomposition) -> Float[np.ndarray, "n step"]:
    """Shares of squared lengths as numpy."""
    return found.explained.cpu().numpy()


def compared(model: Model, atoms: AtomSet, read: States, seed: int) -> pd.DataFrame:
    """All pursuits and norms, at a few depths and one position of each text.

    Only the published form sees how long a state is, and only states how they are normed.
    """
    names, device = token_strings(model, range(len(model.W_E))), model.cfg.device
    final, rows, known = unembedding(model).norm, [], {}
    one = torch.from_numpy(np.unique(read.kept["prompt"], return_index=True)[1])
    grid = product(evenly(len(read.depths) - 1, GRID_DEPTHS), get_args(Norm), get_args(How), KINDS)
    for before, norm, how, vectors in grid:
        at, states = before + 1, vectors == "states"
        plain = how != "published" and (norm == "unit" or not states)
        key = (at, "none" if plain else norm, how, vectors)
        if key not in known:
            some = normed(read.at(at, device)[one], norm, read.mean_at(at, device), final)
            some = some if states else random_like(some, seed)
            known[key] = _summary(pursue(some, atoms.at[at], how), names)
        told = {"atoms": atoms.name, "vectors": vectors, "pursuit": how, "norm": norm}
        rows.append(told | {"depth": read.depths[at]} | known[key])
    return pd.DataFrame(rows)


def _summary(found: Decomposition, names: Sequence[str]) -> dict[str, Any]:
    """How a pursuit ends in all of some vectors."""
    ids, count = np.unique(found.tokens[:, 0].cpu().numpy(), return_counts=True)
    top = int(count.argmax())
    told = {
        "single": float(found.is_single.float().mean()),
        "commonest": count[top] / len(found.tokens),
        "common_token": names[ids[top]] if ids[top] >= 0 else "",
        "steps": float((found.tokens >= 0).sum(1).float().mean()),
        "n": len(found.tokens),
    }
    return told | dict(zip(SHARES, explained(found).mean(0), strict=True))


def example_tokens(model: Model, atoms: AtomSet, read: States, means: States) -> pd.DataFrame:
    """The tokens of each of some states, less the mean state, a row each (non-negative)."""
    heading, device = token_strings(model, read.kept["own"].tolist()), model.cfg.device
    frames = []
    for number, depth in zip(means.residual, means.depths, strict=True):
        states = read.at(number, device) - means.mean_at(number, device)
        found = pursue(states, atoms.at[number], "non-negative")
        gains, tokens = np.diff(explained(found), prepend=0, axis=1), found.tokens.cpu().numpy()
        at, step = (tokens >= 0).nonzero()
        told = {"atoms": atoms.name, "depth": depth, "pos": read.kept["pos"][at]}
        told |= {"heading": [heading[i] for i in at], "step": step + 1}
        told |= {"token": token_strings(model, tokens[at, step]), "gain": gains[at, step]}
        frames.append(pd.DataFrame(told))
    return pd.concat(frames, ignore_index=True)


def shares_of(model: Model, read: States, seed: int) -> Float[np.ndarray, "n set site+1 step"]:
    """What tokens explain of states by each of OF_TOKENS; last, of random vectors."""
    every = [read.at(number, model.cfg.device) for number in read.residual]
    every.append(random_like(every[-1], seed))
    sets = (Atoms.unit(token_rows(model, name)) for name in OF_TOKENS)
    found = [np.stack([explained(pursue(one, atoms)) for one in every], 1) for atoms in sets]
    return np.stack(found, axis=1)


def share_rows(
    shares: Float[np.ndarray, "n set site+1 step"], prompt: np.ndarray, depths: Sequence[int]
) -> pd.DataFrame:
    """The same as rows: states and random vectors at each depth."""
    frames = []
    for (number, name), (at, depth) in product(enumerate(OF_TOKENS), enumerate(depths)):
        for vectors, column in (("states", at), ("random vectors", -1)):
            told = {"atoms": name, "vectors": vectors, "state": "residual stream", "depth": depth}
            frame = pd.DataFrame(shares[:, number, column], columns=SHARES)
            frames.append(frame.assign(prompt=prompt, **told))
    return pd.concat(frames, ignore_index=True)


def above_embedding(states: pd.DataFrame) -> pd.DataFrame:
    """The residual stream above the embedding, which is a token's vector by itself."""
    return states[(states["state"] == "residual stream") & (states["depth"] > 0)]


def by_third(states: pd.DataFrame) -> pd.DataFrame:
    """The same with the `third` of all depths that each state lies in: lower, middle or upper."""
    residual = above_embedding(states)
    thirds = np.ceil(residual["depth"] / states["depth"].max() * 3).clip(1, 3).astype(int)
    return residual.assign(third=[THIRDS[third - 1] for third in thirds])


def explained_rows(states: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Means over prompts, with intervals, of every kind of vector and number of tokens."""
    keys, frames = ["atoms", "vectors", "state", "depth"], []
    for told, part in states.groupby(keys, sort=False):
        found = bootstrap(part.groupby("prompt")[SHARES].mean().to_numpy(), seed).within(-np.inf, 1)
        about = dict(zip(keys, told, strict=True)) | {"tokens": range(1, MOST + 1)}
        frames.append(pd.DataFrame(about | vars(found)))
    return pd.concat(frames, ignore_index=True)


def beside_twins(own: pd.DataFrame, random: pd.DataFrame, seed: int) -> dict[str, pd.DataFrame]:
    """Tables `explained` and `against_random`: own states, and those of random twins.

    `own` are rows of `taken_apart`; `random` are `share_rows` with a column of `weights`.
    """
    told = random[random["vectors"] == "states"].assign(vectors="random weights")
    return {
        "explained": explained_rows(pd.concat([own, told]), seed),
        "against_random": ahead_rows(pd.concat([own.assign(weights="own"), random])),
    }


def ahead_rows(states: pd.DataFrame) -> pd.DataFrame:
    """What five tokens explain of states less random vectors, by weights, atoms and text."""
    rows = above_embedding(states)
    rows = rows[rows["atoms"].isin(OF_TOKENS)]
    wide = rows.groupby(["weights", "atoms", "prompt", "vectors"])[SHARES[-1]].mean().unstack()
    return (wide["states"] - wide["random vectors"]).rename("value").reset_index()


def recovered(E: Float[Tensor, "token d"], count: int, seed: int) -> pd.DataFrame:
    """How often sums of three token vectors are taken apart into these three, by every pursuit.

    Tokens that were never trained on may share a vector: either one is right. A pursuit is greedy:
    where a token is missed, what the other two add can make a near one (another form of the word)
    fit the sum better; `near` is the mean cosine of missed tokens with the nearest one found.
    """
    atoms, rng, rows = Atoms.unit(E), torch.Generator().manual_seed(seed), []
    triples = torch.stack([torch.randperm(len(E), generator=rng)[:3] for _ in range(count)])
    triples = triples.to(E.device)
    sums = {"as they are": E[triples].float().sum(1), "of length 1": atoms[triples].sum(1)}
    for (kind, some), how in product(sums.items(), get_args(How)):
        found = pursue(some, atoms, how, steps=3)
        cosines = atoms[found.tokens.clamp(min=0)] @ atoms[triples].mT
        nearest = torch.where((found.tokens >= 0)[..., None], cosines, -1.0).amax(1)
        is_found = nearest > SAME
        estimate, low, high, n, _ = share(int(is_found.all(1).sum()), count)
        told = {"rows": kind, "pursuit": how, "explained": float(found.explained[:, -1].mean())}
        told |= {"near": float(nearest[~is_found].mean())}
        rows.append(told | {"estimate": estimate, "low": low, "high": high, "n": n})
    return pd.DataFrame(rows)
