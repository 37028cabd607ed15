"""When the parts of a skill appear in a training and stay, and whether trainings end alike.

Which head does what is settled anew by each seed; trainings are compared by role: a head of one
takes the part of whichever head of the same layer of the other does most of the same.
"""

from itertools import combinations, pairwise, product
from typing import Literal, get_args

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy import special
from scipy.optimize import linear_sum_assignment

from lenses.addition.roles import MOVES, SPARES
from lenses.statistics.correlations import ranks
from lenses.statistics.intervals import luck_as_far, wilson

SOLVED = 0.95
"""A skill is there where the Wilson lower bound of its share reaches this (SCIENCE 6)."""

ROLES = ("none", "carry", "base_add", "both", "combiner")

HOW = ("head", "attention")
"""What may do a skill: a single head, or all heads of a layer together."""

SHUFFLES = 1_000
"""Times that roles are dealt out at random."""

AT = ["seed", "step", "place"]

Roles = Int[np.ndarray, "layer head place"]
"""Index into ROLES of every head at every answer place."""

Dealt = Literal["within place", "within layer and place"]
"""Where a role may end up when roles are dealt out at random: at any head of any layer, or at any
head of its layer. Each keeps its place: not every role can be had at every place (no carry comes
into place 0), and what all trainings must share is no agreement."""


def all_births(cells: pd.DataFrame, roles: pd.DataFrame) -> pd.DataFrame:
    """Seed, part and place with the steps examined last without it (`before`) and first with it.

    Both are NaN for what never came to stay, and 0 for what was there from the first.
    """
    found = []
    for part, there in {**skills(cells), **mechanisms(roles)}.items():
        for (seed, place), rows in there.groupby(["seed", "place"]):
            rows = rows.sort_values("step")
            born = int(births(rows["there"].to_numpy()))
            steps = rows["step"].to_numpy(float)
            ends = (np.nan, np.nan) if born < 0 else (steps[max(born - 1, 0)], steps[born])
            found.append((seed, part, place, *ends))
    return pd.DataFrame(found, columns=["seed", "part", "place", "before", "step"])


def births(there: Bool[np.ndarray, "checkpoint *thing"]) -> Int[np.ndarray, "*thing"]:
    """The first checkpoint from which on a thing is there at all of them; -1 for never.

    What is there and gone again before the end was not born: at the last checkpoint it is missing.
    """
    stays = np.logical_and.accumulate(there[::-1], axis=0)[::-1]
    return np.where(stays[-1], stays.argmax(0), -1)


def skills(cells: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """For each skill: seed, step, place and whether it is `there`.

    *base*: the digit is right or one off by the carry; the leading place has no column to add.
    *carry*: of these digits those right. Both are asked where no nines are below, in the cell with
    a carry and in that without; *run r*: as carry, over r nines. Chance is .2 for a base and .5
    for the rest; a carry can be seen in such digits only as the base is known, so it comes later.
    """
    columns = cells[(cells["place"] < cells["place"].max()) & (cells["run"] == 0)]
    low = wilson(columns["known"].to_numpy(), columns["n"].to_numpy())[0]
    base = columns.assign(there=low >= SOLVED).groupby(AT)["there"].all().reset_index()
    found = {"base": base}
    known = cells["known"].to_numpy()
    low = np.where(known > 0, wilson(cells["correct"].to_numpy(), np.maximum(known, 1))[0], 0)
    either = cells.assign(there=low >= SOLVED)[cells["run"] < cells["place"]]
    for run, rows in either.groupby("run"):
        both = rows.groupby(AT)["there"].agg(["all", "size"]).reset_index()
        both = both[both["size"] == 2].rename(columns={"all": "there"})
        found[f"run {run}" if run else "carry"] = both[[*AT, "there"]]
    return found


def mechanisms(roles: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The same for how it is done, by interchange where the digit is read.

    *base head* and *carry head*: a single head has the role, or both; *base attention* and *carry
    attention*: all heads of one layer together move it (what heads share has no head of its own).
    """
    alone = roles["kind"] == "head"
    carries = (roles["carry_flip"] >= MOVES) & (roles["carry_null"] <= SPARES)
    has = {
        "base head": alone & roles["role"].isin(["base_add", "both"]),
        "carry head": alone & roles["role"].isin(["carry", "both"]),
        "base attention": ~alone & (roles["base_flip"] >= MOVES),
        "carry attention": ~alone & carries,
    }
    top = roles["place"].max()
    exists = dict.fromkeys(["base head", "base attention"], roles["place"] < top)
    return {
        part: roles.assign(there=there)[exists.get(part, roles["place"] > 0)]
        .groupby(AT)["there"].any().reset_index()
        for part, there in has.items()
    }  # fmt: skip


def order(born: pd.DataFrame) -> pd.DataFrame:
    """Doublings of the steps of training from one part to another, a mean over places, by seed.

    Compared are skills with the next harder one, mechanisms with their skill, and *carry* with the
    *longest run* that each place has. Runs are asked as *carry* is; of other pairs the earlier has
    the lower bar, so that their order alone tells nothing. A birth is dated midway, in doublings,
    between the steps examined before and after it; places where either part never came are left
    out, and the mean of none is NaN.
    """
    dated = _dated(born.dropna())
    runs = sorted({part for part in born["part"] if part.startswith("run ")}, key=_run)
    runs = [run for run in runs if _run(run)]
    longest = dated[dated["part"] == "run " + (dated["place"] - 1).astype(str)]
    dated = pd.concat([dated, longest.assign(part="longest run")])
    pairs = [*pairwise(["base", "carry", *runs]), ("carry", "longest run")]
    pairs += [(f"{skill} {how}", skill) for skill in ("base", "carry") for how in HOW]
    by = dated.pivot(index=["seed", "place"], columns="part", values="date")
    found = []
    for (earlier, later), seed in product(pairs, born["seed"].unique()):
        gaps = _gaps(by, earlier, later, seed)
        mean = float(gaps.mean()) if len(gaps) else np.nan
        found.append((earlier, later, seed, mean, len(gaps)))
    return pd.DataFrame(found, columns=["earlier", "later", "seed", "doublings", "places"])


def _dated(born: pd.DataFrame) -> pd.DataFrame:
    """With `date`: doublings of the first step, midway between the steps before and after."""
    after, before = born["step"].clip(lower=1), born["before"].clip(lower=1)
    return born.assign(date=(np.log2(after) + np.log2(before)) / 2)


def trends(born: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Whether parts come in the order of their places, or of their runs of nines, by training.

    `tau` is Kendall's tau-b of the date with the place (`sums`: *base*, `carries`: *carry*), or
    with the run of nines (`runs`: a mean over places); 1 is units first, or short runs first. What
    never came counts as later than all that did; NaN where all came at once. Rows of `all` are the
    mean over trainings with Student's interval, cut to -1 and 1; p is two-sided, from dates
    exchanged at random between the places (or runs) of each training.
    """
    dated = _dated(born).fillna({"date": np.inf})
    rng, found = np.random.default_rng(seed), []
    for what, sequences in _sequences(dated).items():
        groups = {str(training): {training: each} for training, each in sequences.items()}
        for training, group in (groups | {"all": sequences}).items():
            found.append((what, training, *_over_trainings(group, rng)))
    columns = ["what", "training", "tau", "low", "high", "p", "n"]
    return pd.DataFrame(found, columns=columns)


def _sequences(dated: pd.DataFrame) -> dict[str, dict[int, list[np.ndarray]]]:
    """By what is ordered and training: lists of dates, each in the order that is expected."""
    runs = dated["part"].replace("carry", "run 0").str.extract(r"^run (\d+)$")[0].astype(float)
    by_run = dated.assign(run=runs).dropna(subset="run").sort_values("run")
    places = {"sums": dated["part"] == "base", "carries": dated["part"] == "carry"}
    found = {
        name: {seed: [rows["date"].to_numpy()] for seed, rows in part.groupby("seed")}
        for name, part in ((n, dated[is_it].sort_values("place")) for n, is_it in places.items())
    }
    found["runs"] = {
        seed: [dates.to_numpy() for _, dates in rows.groupby("place")["date"] if len(dates) > 1]
        for seed, rows in by_run.groupby("seed")
    }
    return found


def _tau(dates: Float[np.ndarray, "*draw item"]) -> Float[np.ndarray, "*draw"]:
    """Kendall's tau-b of dates with the order that they stand in; NaN where all are the same."""
    early, late = np.triu_indices(dates.shape[-1], 1)
    ranked = ranks(dates)
    signs = np.sign(ranked[..., late] - ranked[..., early])
    untied = np.abs(signs).sum(-1)
    with np.errstate(invalid="ignore"):
        return signs.sum(-1) / np.sqrt(len(early) * untied)


def _over_trainings(
    sequences: dict[int, list[np.ndarray]], rng: np.random.Generator
) -> tuple[float, float, float, float, int]:
    """Mean, interval (NaN where it cannot be told), two-sided p, and how many have an order."""
    ordered = ([dates for dates in each if len(set(dates)) > 1] for each in sequences.values())
    told = [each for each in ordered if each]
    if not told:
        return np.nan, np.nan, np.nan, np.nan, 0
    mean, low, high, _ = mean_of_few(np.array([np.mean([_tau(d) for d in each]) for each in told]))
    drawn = [
        np.mean([_tau(rng.permuted(np.tile(d, (SHUFFLES, 1)), axis=1)) for d in each], axis=0)
        for each in told
    ]
    p = luck_as_far(abs(mean) - 1e-12, np.abs(np.mean(drawn, axis=0)))
    ends = (max(low, -1.0), min(high, 1.0)) if np.isfinite(low) else (np.nan, np.nan)
    return mean, *ends, float(p), len(told)


def _gaps(by: pd.DataFrame, earlier: str, later: str, seed: int) -> pd.Series:
    """Date of one part minus that of another, at the places of a seed that have both."""
    if not {earlier, later} <= set(by) or seed not in by.index.get_level_values("seed"):
        return pd.Series(dtype=float)
    return (by.loc[seed, later] - by.loc[seed, earlier]).dropna()


def _run(part: str) -> int:
    return int(part.removeprefix("run "))


def final_roles(roles: pd.DataFrame) -> dict[int, Roles]:
    """The roles of single heads at the last checkpoint of each seed."""
    last = roles.groupby("seed")["step"].transform("max")
    heads = roles[(roles["kind"] == "head") & (roles["step"] == last)]
    found = {}
    for seed, rows in heads.groupby("seed"):
        shape = tuple(rows[axis].nunique() for axis in ("layer", "head", "place"))
        ordered = rows.sort_values(["layer", "head", "place"])["role"]
        found[int(seed)] = np.array([ROLES.index(role) for role in ordered]).reshape(shape)
    return found


def matched(one: Roles, other: Roles) -> Int[np.ndarray, "layer head"]:
    """For each head of `one` the head of `other`, in the same layer, that plays its part.

    Heads are matched one to one so that as many (head, place) as possible have the same role.
    """
    partners = []
    for heads, candidates in zip(one, other, strict=True):
        same = (heads[:, None] == candidates[None]) & (heads[:, None] != 0)
        partners.append(linear_sum_assignment(same.sum(2), maximize=True)[1])
    return np.stack(partners)


def role_agreement(one: Roles, other: Roles) -> float:
    """Dice's coefficient of the roles of two trainings: twice those shared over all; NaN if none.

    1 where the heads of each layer can be renumbered so that all roles coincide (Dice 1945).
    """
    roles = (one != 0).sum() + (other != 0).sum()
    renumbered = np.take_along_axis(other, matched(one, other)[:, :, None], axis=1)
    shared = ((one == renumbered) & (one != 0)).sum()
    return float(2 * shared / roles) if roles else float("nan")


def agreements(roles: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Agreement of each two trainings and of all, against roles dealt out at random.

    The heads are matched as freely when roles are dealt at random. No rows for one training.
    """
    final = list(final_roles(roles).items())
    names = [f"{a} and {b}" for (a, _), (b, _) in combinations(final, 2)]
    if not names:
        return pd.DataFrame(columns=["pair", "dealt", "estimate", "null", "low", "high", "p"])
    estimate = _every_agreement([table for _, table in final])
    rng, parts = np.random.default_rng(seed), []
    for dealt in get_args(Dealt):
        null = np.array([
            _every_agreement([_shuffled(table, dealt, rng) for _, table in final])
            for _ in range(SHUFFLES)
        ])  # fmt: skip
        low, high = np.quantile(null, [0.025, 0.975], axis=0)
        p = luck_as_far(estimate - 1e-12, null)
        what = {"pair": [*names, "all"], "dealt": dealt, "estimate": estimate}
        parts.append(pd.DataFrame({**what, "null": null.mean(0), "low": low, "high": high, "p": p}))
    return pd.concat(parts, ignore_index=True)


def _every_agreement(tables: list[Roles]) -> Float[np.ndarray, "pair+1"]:
    """Of each two, and their mean; NaN where there is no role at all."""
    pairs = [role_agreement(one, other) for one, other in combinations(tables, 2)]
    return np.array([*pairs, np.mean(pairs)])


def _shuffled(roles: Roles, dealt: Dealt, rng: np.random.Generator) -> Roles:
    """The roles of each place dealt to other heads: of any layer, or of the same."""
    if dealt == "within place":
        return rng.permuted(roles.reshape(-1, roles.shape[-1]), axis=0).reshape(roles.shape)
    return rng.permuted(roles, axis=1)


def mean_of_few(values: Float[np.ndarray, "n"]) -> tuple[float, float, float, float]:
    """Mean of a few independent values, Student's 95 % interval, one-sided p of "not above 0".

    Fewer than three values, and values that are all the same (as on a shared grid of steps), do
    not show how far they scatter: the ends of the interval are infinite and p is 1.
    """
    mean = float(values.mean())
    if len(values) < 3 or np.ptp(values) < 1e-9:
        return mean, -np.inf, np.inf, 1.0
    error = float(values.std(ddof=1) / np.sqrt(len(values)))
    half = float(special.stdtrit(len(values) - 1, 0.975)) * error
    return mean, mean - half, mean + half, float(special.stdtr(len(values) - 1, -mean / error))
