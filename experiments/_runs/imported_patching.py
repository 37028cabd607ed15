"""What did a patching run find?"""

import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field, PrivateAttr

from experiments._contract.claims import Claim, Estimate
from experiments._contract.errors import UsageError
from experiments._contract.experiment import Experiment, Results
from experiments._contract.reading import Reading
from experiments._contract.tables import Table
from experiments._runs.opened import Run, started
from lenses.statistics.intervals import benjamini_hochberg, bootstrap, sign_flip
from viz import bars, head_grid, heat_map

PLACES = {
    "patch_type_name": "patched", "layer": "layer", "pos": "pos", "dest_pos": "dest_pos",
    "src_pos": "src_pos", "head": "head", "head_index": "head",
}  # fmt: skip
"""Columns of a PatchingResult that say what was patched, and ours for them."""
LEVEL = 0.05
SHOWN = 24


def import_patching(result: Any, *, question: str, label: str = "") -> Run:
    """A run with a page and intervals of a PatchingResult of TransformerLens (4.2 and later).

    Made with `reduce="none"` it has a value for each example, and with them intervals; with
    `baseline=True` the page shows the change that each patch makes.

    Raises:
        UsageError: it is no PatchingResult, or was swept over something else than layers, heads
            and positions.
    """
    frame = _frame(result)
    digest = hashlib.sha256(frame.to_csv(index=False).encode()).hexdigest()
    asked = ImportedPatching(asked=question, data_sha256=digest, effect=result.baseline is not None)
    asked._frame = frame
    return started(asked, label=label)


def _frame(result: Any) -> pd.DataFrame:
    """The values of a result, one row a metric, cell and example, less the baseline if any."""
    if not hasattr(result, "to_dataframe") or not hasattr(result, "metric_names"):
        raise UsageError(
            f"import_patching: got a {type(result).__name__}; give the PatchingResult of "
            'TransformerLens 4.2 or later (reduce="none", baseline=True)'
        )
    frame = result.to_dataframe().drop(columns="patch_type", errors="ignore")
    known = {"metric", "example", "value", *PLACES}
    if other := sorted(set(frame.columns) - known):
        raise UsageError(f"import_patching: swept over {other[0]!r}; known are {sorted(PLACES)}")
    if result.baseline is not None:
        base = np.atleast_2d(result.baseline.detach().cpu().numpy().astype(float))
        of = [result.metric_names.index(name) for name in frame["metric"]]
        examples = frame["example"] if "example" in frame else np.zeros(len(frame), dtype=int)
        base = base.reshape(len(result.metric_names), -1)
        frame["value"] = frame["value"] - base[of, examples]
    return frame.rename(columns=PLACES)


class ImportedPatching(Experiment):
    """Values that TransformerLens measured: a metric after each patch, example by example.

    Where the sweep had a baseline, the value is what the patch changes: the metric after it, less
    the metric of the same example without it. Intervals (95 %) resample examples. The p-value of
    a patch comes from 10,000 random flips of its examples' signs; q is corrected for the number of
    patches (Benjamini and Hochberg). Below 5 examples there are no intervals.
    """

    needs_model = False
    in_one_piece: ClassVar[str] = "the numbers were measured elsewhere"

    model: str = "none"
    """Not used: a PatchingResult does not say which model it is of."""
    asked: str = Field("What did a patching run find?", min_length=1)
    """The question that the sweep answers."""
    data_sha256: str = ""
    """Hash of the values."""
    effect: bool = True
    """Whether values are changes from a baseline."""

    tables: ClassVar[Mapping[str, Table]] = {
        "values": Table(
            "A metric after a patch, of one example.",
            key="metric patched? layer? head? pos? dest_pos? src_pos? example?",
            columns={
                "metric": "name of the metric",
                "patched?": "what was patched",
                "dest_pos?": "position that attends",
                "src_pos?": "position attended to",
                "example?": "number of the example",
                "value": "the metric, or its change where there is a baseline",
            },
        ),
        "patches": Table(
            "A patch, over all examples.",
            key="metric patched? layer? head? pos? dest_pos? src_pos?",
            columns={
                "metric": "name of the metric",
                "patched?": "what was patched",
                "dest_pos?": "position that attends",
                "src_pos?": "position attended to",
                "effect": "mean of the values",
                "q": "p-value corrected for the number of patches",
            },
            more="low high n p",
        ),
    }
    reading = Reading(
        causal="Yes: components were given what they computed for another prompt.",
        assumes="The pairs of prompts differ only in what is asked about.",
        stressed="Nothing: a PatchingResult has no control. Sweep random weights too.",
        not_shown="That the strongest patch is as strong on examples on which it was not chosen.",
    )
    _frame: pd.DataFrame | None = PrivateAttr(None)

    def question(self) -> str:  # of this run, not of the class
        """The question that the sweep answers."""
        return self.asked

    def measure(self, model: object) -> Results:
        """Means and intervals of what was given."""
        if self._frame is None:
            raise UsageError("imported_patching: give the result to experiments.import_patching")
        keys = [name for name in self._frame if name not in ("example", "value")]
        found = [self._patch(keys, cell) for _, cell in self._frame.groupby(keys, sort=False)]
        patches = pd.DataFrame(found)
        tested = patches["p"].notna()
        patches.loc[tested, "q"] = benjamini_hochberg(patches.loc[tested, "p"].to_numpy())
        return Results({"values": self._frame, "patches": patches})

    def _patch(self, keys: list[str], cell: pd.DataFrame) -> dict[str, Any]:
        values = cell["value"].to_numpy(float)
        found = bootstrap(values)
        tested = self.effect and len(values) > 1
        return cell.iloc[0][keys].to_dict() | {
            "effect": found.estimate.item(), "low": found.low.item(), "high": found.high.item(),
            "n": found.n.item(), "p": sign_flip(values).item() if tested else np.nan, "q": np.nan,
        }  # fmt: skip

    def headline(self, results: Results) -> str:
        """The strongest patch."""
        patches = results.tables["patches"]
        first = self._strongest(patches)
        did = "changes" if self.effect else "gives"
        return (
            f"Of {len(patches):,} patches, {_place(first)} {did} {_metric(first)} most: "
            f"{first['effect']:.3g} on average over {first['n']} examples."
        )

    def claims(self, results: Results) -> list[Claim]:
        """How many patches do more than chance, and the strongest one."""
        patches = results.tables["patches"]
        first = self._strongest(patches)
        ends = (first["low"], first["high"])
        note = f"the strongest of {len(patches):,}, chosen on the same examples"
        strongest = Claim.descriptive(
            f"The strongest patch is {_place(first)}.",
            Estimate(first["effect"], *ends, int(first["n"])),
            unit=_metric(first), null_note=note,
        )  # fmt: skip
        if patches["q"].isna().all():
            return [strongest]
        many = int((patches["q"] <= LEVEL).sum())
        told = f"{many:,} of {len(patches):,} patches change the metric beyond chance."
        counted = Estimate(many, np.nan, np.nan, int(first["n"]))
        unit = f"patches with corrected p of at most {LEVEL}"
        return [Claim.descriptive(told, counted, unit=unit), strongest]

    def figures(self, results: Results) -> dict[str, Any]:
        """Every patch on its place, and the strongest ones with their intervals."""
        patches = results.tables["patches"].assign(place=lambda rows: rows.apply(_place, axis=1))
        said = "Change of the metric" if self.effect else "Metric"
        drawn = {}
        for metric, rows in patches.groupby("metric", sort=False):
            title = said if patches["metric"].nunique() == 1 else f"{said}: {_words(metric)}"
            if (map_ := _map(rows, said)) is not None:
                drawn[title] = map_
            top = rows.loc[rows["effect"].abs().sort_values(ascending=False).index[:SHOWN]]
            told = f"The {len(top)} strongest patches with their 95 % intervals over examples."
            drawn[f"Strongest, {title[0].lower()}{title[1:]}"] = bars(
                top[["place", "effect", "low", "high"]], "place", "effect", caption=told
            )
        return drawn

    def _strongest(self, patches: pd.DataFrame) -> pd.Series:
        return patches.loc[patches["effect"].abs().idxmax()]


def _map(rows: pd.DataFrame, said: str) -> Any:
    """All patches of a metric by layer and head, or by layer and position; None for others."""
    facet = "patched" if "patched" in rows else None
    swept = set(rows.columns) & {"layer", "head", "pos", "dest_pos", "src_pos"}
    told = f"{said} by patch, as a mean over examples."
    if swept == {"layer", "head"}:
        return head_grid(rows, "effect", caption=told, facet=facet, label=said.lower())
    if swept == {"layer", "pos"}:
        options = {"caption": told, "facet": facet, "label": said.lower(), "diverging": True}
        return heat_map(rows, "layer", "pos", "effect", **options)
    return None


def _place(row: pd.Series) -> str:
    """What was patched, in words: "q, layer 3, head 1, position 5"."""
    words = {"layer": "layer", "head": "head", "pos": "position", "dest_pos": "from position",
             "src_pos": "to position"}  # fmt: skip
    kind = [_words(str(row["patched"]))] if "patched" in row else []
    return ", ".join([*kind, *(f"{word} {int(row[k])}" for k, word in words.items() if k in row)])


def _metric(row: pd.Series) -> str:
    return "the metric" if row["metric"] == "metric" else _words(str(row["metric"]))


def _words(name: str) -> str:
    return name.replace("_", " ")
