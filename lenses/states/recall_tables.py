"""Tables of how answers are recalled: averages over facts, and one number for each fact."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from lenses.kept import PerPrompt
from lenses.states.decoding import Site
from lenses.states.facts import LAST, PLACES, SUBJECT, Asked, Case
from lenses.states.recall import COMPONENTS, CORRUPTIONS, READ, Plan, ranks, trace
from lenses.statistics.correlations import spearman
from lenses.statistics.elsewhere import held_out
from lenses.statistics.grid import grid
from lenses.statistics.intervals import bootstrap
from models import Model
from models.text import token_strings
from prompts.recall import Recalled

HALF = 0.5
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

    def tables(self) -> dict[str, pd.DataFrame]:
        """All of them by name; empty ones where nothing was traced."""
        if not self.kept.state():
            return {name: pd.DataFrame() for name in ("states", "runs", "traced")}
        return {"states": self.state_rows(), "runs": self.run_rows(), "traced": self.fact_rows()}

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


def example_rows(model: Model, asked: Asked, where: Sequence[Site]) -> pd.DataFrame:
    """Ranks of answer and rival in every state of the first prompt."""
    case = asked.cases[0]
    found = ranks(model, where, [case], [(0, pos) for pos in range(len(case.ids))])
    depth, pos = np.indices(found.rank.shape[:2]).reshape(2, -1)
    told = {"depth": depth, "pos": pos, "token": np.array(token_strings(model, case.ids))[pos]}
    words, parts = asked.words(model, case), []
    for number, name in enumerate(("answer", "rival")):
        rank, told_by = (x[..., number].ravel() for x in (found.rank, found.log_probability))
        read = {"rank": rank, "log_probability": told_by}
        parts.append(pd.DataFrame({"word": words[name]} | told | read))
    return pd.concat(parts, ignore_index=True)


def first_rows(model: Model, asked: Asked, plan: Plan, seed: int) -> pd.DataFrame:
    """What the first prompt's two words get back, traced by itself; empty where it cannot be."""
    case = asked.cases[0]
    if case.other is None:
        return pd.DataFrame()
    told = asked.words(model, case)
    swapped = replace(case, answer=case.rival, rival=case.answer)
    found = trace(model, [case, swapped], plan, seed)
    axes = {"component": COMPONENTS, "put_back_at": [PLACES[place] for place in READ]}
    rows = grid(
        {"word": [told["answer"], told["rival"]], **axes, "run": range(len(plan.runs))},
        back=found.run - found.corrupted[:, :1, None, None],
    )
    first, end = np.array(plan.runs)[rows.pop("run")].T
    rows = rows.assign(first_layer=first, last_layer=end - 1)
    whole = pd.DataFrame({"word": [told["answer"], told["rival"]], "probability": found.clean})
    lost = found.clean[:, None] - found.corrupted
    whole = whole.assign(lost=lost[:, 0], lost_by_noise=lost[:, 1])
    return rows.dropna(ignore_index=True).merge(whole, on="word")


def ranked_tables(
    model: Model, asked: Asked, where: Sequence[Site], kept: PerPrompt, seed: int
) -> dict[str, pd.DataFrame]:
    """Tables of `last_ranks`: of each fact, the mean course of those known, and one in detail.

    Where no fact is known the mean is of all of them.
    """
    known = kept["rank"][:, -1, 0] == 1
    ranked = kept["rank"][known] if known.any() else kept["rank"]
    return {
        "facts": fact_rows(model, asked, kept),
        "trajectory": mean_ranks(ranked.transpose(1, 0, 2), seed),
        "example": example_rows(model, asked, where),
    }


def embedding_rows(
    ranks: Mapping[str, Int[np.ndarray, "case 2"]], cases: Sequence[Case]
) -> pd.DataFrame:
    """Whether the answer ranks before the rival in each case: 1 or 0, for each model's weights."""
    numbers = [case.number for case in cases]
    rows = [
        pd.DataFrame({"weights": name, "fact": numbers, "value": (r[:, 0] < r[:, 1]) * 1.0})
        for name, r in ranks.items()
    ]
    return pd.concat(rows, ignore_index=True)


def every_few_layers(example: pd.DataFrame) -> pd.DataFrame:
    """Rows of `example_rows` after some 16 layers, tokens told apart by their pos.

    `above` is how many powers of ten the rank lies above the lowest of all.
    """
    rows = example[example["depth"] % (1 + example["depth"].max() // 16) == 0]
    token = rows["pos"].astype(str) + " " + rows["token"].str.strip()
    return rows.assign(token=token, above=np.log10(example["rank"].max() / rows["rank"]))


def enough_alone(states: pd.DataFrame, place: str) -> pd.Series:
    """Layers whose state at a place brings back half of what another subject costs."""
    enough = (states["corruption"] == CORRUPTIONS[0]) & (states["share"] >= HALF)
    return states["layer"][enough & (states["put_back_at"] == place)]


def best_run(runs: pd.DataFrame, place: str) -> pd.Series | None:
    """The run of layers that brings most back at a place; None without attention and MLPs there.

    Where both bring back the same it is the MLPs'.
    """
    here = runs[runs["put_back_at"] == place].dropna(subset="estimate")
    here = here.sort_values("component", ascending=False)
    if set(here["component"]) != set(COMPONENTS):
        return None
    return here.loc[here["estimate"].idxmax()]


def stays_ahead(ranks: Int[np.ndarray, "site fact 2"]) -> Float[np.ndarray, "fact"]:
    """The first site from which on the answer ranks before its rival; NaN where it never does."""
    ahead = ranks[..., 0] < ranks[..., 1]
    stays = np.logical_and.accumulate(ahead[::-1], axis=0).sum(0)
    return np.where(stays > 0, len(ranks) - stays, np.nan)


def mean_ranks(ranks: Int[np.ndarray, "site fact 2"], seed: int) -> pd.DataFrame:
    """Geometric means of the ranks of answers and rivals over facts, after each layer."""
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
