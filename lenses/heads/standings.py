"""How far each measure of heads leads over the baselines, as tables of a league."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lenses.heads.league import SCOPES, League
from lenses.patching.single_heads import MODES, OUTCOMES
from lenses.statistics.against_random import as_high_by_luck
from lenses.statistics.grid import grid
from lenses.statistics.intervals import benjamini_hochberg
from lenses.statistics.resampled import p_above_zero, stretched

BASELINES = ("layer_index", "norm_share")
"""What a measure must beat to be worth its name."""
BETTER = "the better"
"""Of the baselines: what leads are over in the claims."""
NOT_TESTED = (*BASELINES, "random_score")

LEVEL = 0.05
"""Of a p, corrected over measures."""


def leads(
    league: League, weights: str, modes: Sequence[str], phase: str, less: League | None = None
) -> pd.DataFrame:
    """Each measure's correlation less that of each baseline, and of the better one.

    With `less`, another model's league on the same prompts, the difference of the two.
    """
    against = (*BASELINES, BETTER)
    estimate, draws = (_ahead(league, x) for x in (league.point(), league.draws))
    if less is not None:
        estimate = estimate - _ahead(less, less.point())
        draws = draws - _ahead(less, less.draws)
    most = 2.0 if less is None else 4.0  # of a difference of correlations, and of two of those
    low, high = stretched(estimate[0], draws, league.prompts, (-most, most))
    p = p_above_zero(estimate[0], draws, league.prompts)
    by_lot = league.by_lot(league.point()[0]) if less is None else np.zeros(p.shape[1:])
    axes = {"against": against, "scope": SCOPES, "measure": league.names, "mode": modes}
    bounds = {"low": low, "high": high, "p": p, "p_by_lot": by_lot + np.zeros_like(p)}
    rows = grid(axes | {"outcome": OUTCOMES}, difference=estimate[0], **bounds)
    rows = rows[rows["measure"] != rows["against"]].assign(weights=weights, phase=phase)
    rows["q"] = _corrected(rows)
    rows["n"] = league.prompts
    first = ["weights", "measure", "against", "mode", "phase", "scope", "outcome"]
    return rows[[*first, "difference", "low", "high", "p", "p_by_lot", "q", "n"]]


def one_more_leads(random: pd.DataFrame, less: pd.DataFrame) -> pd.Series:
    """By measure, the p that one more random model's lead is as large, on the prompts they read.

    Rows of `leads`, by measure: those of random models, and of own weights less each of them.
    """
    found = random["difference"].groupby(level=0)
    own = found.mean() + less["difference"].groupby(level=0).mean()
    return pd.Series({name: as_high_by_luck(own[name], x.to_numpy()) for name, x in found})


def judged(leads: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """A row a measure, the largest lead over the better baseline first, with its verdict.

    It holds beyond the baselines, every random model and one more, and fails short of either.
    """
    leads = leads[(leads["against"] == BETTER) & ~leads["measure"].isin(NOT_TESTED)]
    kind = leads["weights"].str.replace(r" \d+$", "", regex=True)
    own, random, less = (
        leads[kind == name].set_index("measure") for name in ("own", "random", "own less random")
    )
    one_more = one_more_leads(random, less).reindex(own.index)
    less = less.sort_values("difference").groupby(level=0).head(1).reindex(own.index)
    ahead, score = (own["low"] > 0) & (own["q"] <= LEVEL), scores.set_index("measure")["spearman"]
    verdicts = {
        "not tested": own["low"].isna() | less["low"].isna(),
        "holds": ahead & (less["low"] > 0) & (one_more <= LEVEL),
        "fails": _surely_below(own) | _surely_below(less),
    }
    share, index = score["norm_share"], score["layer_index"]
    base = f"({share:.2f} for share of length, {index:.2f} for layer index)"
    found = own.assign(
        ahead=ahead, verdict=np.select(list(verdicts.values()), list(verdicts), "undecided"),
        random=random.groupby(level=0)["difference"].agg(list), one_more=one_more,
        against=[f"{value:.2f} {base}" for value in score[own.index]],
    )  # fmt: skip
    return found.sort_values("difference", ascending=False, kind="stable")


def _surely_below(rows: pd.DataFrame) -> pd.Series:
    """Whether each lead lies below 0, also when luck in any of them is counted."""
    q = benjamini_hochberg(1 - rows["p"].fillna(0).to_numpy())
    return (rows["high"] < 0) & (q <= LEVEL)


def _ahead(league: League, found: np.ndarray) -> np.ndarray:
    """[draw against scope measure mode outcome] from correlations without `against`."""
    baselines = np.stack([found[:, :, league.names.index(name)] for name in BASELINES], axis=1)
    all_three = np.concatenate([baselines, baselines.max(axis=1, keepdims=True)], axis=1)
    return found[:, None] - all_three[:, :, :, None]


def _corrected(rows: pd.DataFrame) -> pd.Series:
    """The larger p, corrected over the measures that are neither baselines nor drawn by lot."""
    larger = rows[["p", "p_by_lot"]].max(axis=1, skipna=False)
    tested = ~rows["measure"].isin(NOT_TESTED) & larger.notna()
    by = rows[tested].groupby(["against", "scope", "mode", "outcome"])
    return larger[tested].groupby(by.ngroup()).transform(lambda p: benjamini_hochberg(p.to_numpy()))


def agreement_rows(leagues: Mapping[str, League]) -> pd.DataFrame:
    """Whether two ways of removing heads rank them alike."""
    found = []
    for phase, league in leagues.items():
        axes = {"scope": SCOPES, "mode": MODES, "other": MODES, "outcome": OUTCOMES}
        rows = grid(axes, spearman=league.agreement()).assign(phase=phase, n=league.prompts)
        found.append(rows[rows["mode"] < rows["other"]])
    rows = pd.concat(found, ignore_index=True)
    return rows[["mode", "other", "phase", "scope", "outcome", "spearman", "n"]]


def measure_rows(leagues: Mapping[str, League]) -> pd.DataFrame:
    """What each measure says of each head, as a mean over prompts."""
    found = []
    for phase, league in leagues.items():
        layers, heads = league.measures.shape[2:]
        axes = {"measure": league.names, "phase": [phase], "layer": layers, "head": heads}
        found.append(grid(axes, estimate=np.nanmean(league.measures, axis=0)))
    return pd.concat(found, ignore_index=True)
