"""Tables of how answers are recalled: averages over facts, and one number for each fact."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from lenses.kept import PerPrompt
from lenses.states.facts import LAST, PLACES, SUBJECT, Asked
from lenses.states.recall import COMPONENTS, CORRUPTIONS, READ, Plan, Ranks
from lenses.statistics.correlations import spearman
from lenses.statistics.intervals import bootstrap
from models import Model
from models.text import token_strings
from prompts.recall import Recalled

LOST = 0.05
"""Probability that a fact must lose with another subject for its places to be compared."""


@dataclass(frozen=True)
class RecallTables:
    """What was restored, of the facts that were traced."""

    kept: PerPrompt
    plan: Plan
    seed: int

    @property
    def lost(self) -> Float[np.ndarray, "fact corruption"]:
        """The answer's probability less that with the subject corrupted."""
        return self.kept["clean"][:, None] - self.kept["corrupted"]

    @property
    def states(self) -> Float[np.ndarray, "fact corruption layer place"]:
        """What restoring one state adds to the answer's probability."""
        return self.kept["state"] - self.kept["corrupted"][:, :, None, None]

    @property
    def runs(self) -> Float[np.ndarray, "fact component read run"]:
        """What restoring the outputs of a run of layers adds to it."""
        return self.kept["run"] - self.kept["corrupted"][:, :1, None, None]

    def state_rows(self) -> pd.DataFrame:
        """Means over facts of what each state brings back."""
        axes = {"corruption": CORRUPTIONS, "layer": self.plan.layers, "put_back_at": PLACES}
        rows = _averaged(self.states, axes, self.seed)
        lost = dict(zip(CORRUPTIONS, self.lost.mean(0), strict=True))
        rows["share"] = rows["estimate"] / rows["corruption"].map(lost)
        return rows[rows["n"] > 0].reset_index(drop=True)

    def run_rows(self) -> pd.DataFrame:
        """Means over facts of what each run of layers brings back."""
        places = [PLACES[place] for place in READ]
        axes = {"component": COMPONENTS, "put_back_at": places, "run": range(len(self.plan.runs))}
        rows = _averaged(self.runs, axes, self.seed)
        first, end = np.array(self.plan.runs)[rows.pop("run")].T
        rows.insert(2, "first_layer", first)
        rows.insert(3, "last_layer", end - 1)
        return rows[rows["n"] > 0].reset_index(drop=True)

    def fact_rows(self) -> pd.DataFrame:
        """A row for each traced fact: what the runs bring back that are best for the others."""
        found = {"fact": self.kept["number"], "probability": self.kept["clean"]}
        found |= {"lost": self.lost[:, 0], "lost_by_noise": self.lost[:, 1]}
        for part, component in enumerate(COMPONENTS):
            for read, name in enumerate(("subject", "last")):
                found[f"{component}_{name}"] = held_out(self.runs[:, part, read])
        found["mlp_subject_above"] = held_out(self.runs[:, 1, 0, self._above()])
        found["handover"] = self._handover()
        cells = [pair[:, ~np.isnan(pair[0])] for pair in self.states]
        found["agreement"] = [float(spearman(one, other)) for one, other in cells]
        found["error_last"] = np.abs(self.kept["state"][:, 0, -1, LAST] - self.kept["clean"])
        found["error_before"] = np.abs(self.kept["before"] - self.kept["corrupted"][:, 0])
        return pd.DataFrame(found)

    def _above(self) -> list[int]:
        """Runs that leave out the first layer, whose MLP tells one token from another anyway."""
        return [number for number, (first, _) in enumerate(self.plan.runs) if first > 0]

    def _handover(self) -> Float[np.ndarray, "fact"]:
        """The first layer from which on the last token's state brings back more than the subject's.

        NaN where another subject costs too little, or where the subject is the last token.
        """
        ahead = self.states[:, 0, :, LAST] > self.states[:, 0, :, SUBJECT]
        stays = np.logical_and.accumulate(ahead[:, ::-1], axis=1).sum(1)
        found = np.array([*self.plan.layers, np.nan])[ahead.shape[1] - stays]
        return np.where(self.lost[:, 0] > LOST, found, np.nan)


def fact_rows(model: Model, asked: Asked, kept: PerPrompt) -> pd.DataFrame:
    """A row for each fact, also for those that could not be read."""
    rank, alone = kept["rank"][:, -1], kept["embedding"]
    names = token_strings(model, kept["said"].ravel())
    rows = [
        {"fact": case.number, "relation": case.relation} | asked.words(model, case)
        for case in asked.cases
    ]
    found = {"said": names[::2], "second": names[1::2]}
    found |= {"rank": rank[:, 0], "rival_rank": rank[:, 1]}
    found |= {"ahead_from": stays_ahead(kept["rank"].swapaxes(0, 1))}
    found |= {"embedding_rank": alone[:, 0], "embedding_rival_rank": alone[:, 1]}
    read = pd.DataFrame(rows).assign(**found, known=rank[:, 0] == 1, skipped="")
    left_out = [
        {"fact": number, "skipped": why} | _told(asked.facts[number])
        for number, why in asked.skipped.items()
    ]
    whole = ["rank", "rival_rank", "embedding_rank", "embedding_rival_rank"]
    frame = pd.concat([read, pd.DataFrame(left_out)]) if left_out else read
    return frame.astype(dict.fromkeys(whole, "Int64") | {"known": "boolean"})


def _told(fact: Recalled) -> dict[str, str]:
    told = {"relation": fact.relation, "text": fact.text}
    return told | {"answer": fact.answer, "rival": fact.rival}


def example_rows(model: Model, asked: Asked, found: Ranks) -> pd.DataFrame:
    """Ranks of answer and rival in every state of the first prompt."""
    case = asked.cases[0]
    depth, pos = np.indices(found.rank.shape[:2]).reshape(2, -1)
    told = {"depth": depth, "pos": pos, "token": np.array(token_strings(model, case.ids))[pos]}
    words, parts = asked.words(model, case), []
    for number, name in enumerate(("answer", "rival")):
        rank, told_by = (x[..., number].ravel() for x in (found.rank, found.log_probability))
        read = {"rank": rank, "log_probability": told_by}
        parts.append(pd.DataFrame({"word": words[name]} | told | read))
    return pd.concat(parts, ignore_index=True)


def held_out(gains: Float[np.ndarray, "fact run"]) -> Float[np.ndarray, "fact"]:
    """Of each fact the gain in the run that is best in all other facts; NaN without."""
    if gains.shape[1] == 0:
        return np.full(len(gains), np.nan)
    known = ~np.isnan(gains)
    total, count = np.where(known, gains, 0).sum(0), known.sum(0)
    others = count - known
    means = np.divide(
        total - np.where(known, gains, 0), others, out=np.full(gains.shape, -np.inf),
        where=others > 0,
    )  # fmt: skip
    chosen = np.take_along_axis(gains, means.argmax(1)[:, None], axis=1)[:, 0]
    return np.where(np.isinf(means.max(1)), np.nan, chosen)


def stays_ahead(ranks: Int[np.ndarray, "site fact 2"]) -> Float[np.ndarray, "fact"]:
    """The first site from which on the answer ranks before its rival; NaN where it never does."""
    ahead = ranks[..., 0] < ranks[..., 1]
    stays = np.logical_and.accumulate(ahead[::-1], axis=0).sum(0)
    return np.where(stays > 0, len(ranks) - stays, np.nan)


def mean_ranks(ranks: Int[np.ndarray, "site fact 2"], seed: int) -> pd.DataFrame:
    """Geometric means of the ranks of answers and rivals over facts, after each block."""
    logs = np.log10(ranks.transpose(1, 2, 0).astype(float))
    axes = {"word": ("answer", "rival"), "depth": range(len(ranks))}
    rows = _averaged(logs, axes, seed)
    ends = ["estimate", "low", "high"]
    rows[ends] = 10 ** rows[ends]
    return rows


def _averaged(
    values: Float[np.ndarray, "fact *cell"], axes: dict[str, object], seed: int
) -> pd.DataFrame:
    """Means over facts with intervals, a row a cell."""
    found = bootstrap(values, seed)
    index = pd.MultiIndex.from_product(axes.values(), names=list(axes))
    columns = {name: getattr(found, name).ravel() for name in ("estimate", "low", "high", "n")}
    return pd.DataFrame(columns, index=index).reset_index()
