"""Are the ten digits a line, a circle or a cloud?"""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from experiments import Claim, Estimate, Experiment, Reading, Results, Table, corrected
from lenses.digits import geometry as geo
from lenses.digits import shifts, shown
from lenses.digits.exchanges import NUMBER_SLOTS, has_number_tokens
from lenses.digits.separability import separability
from lenses.digits.shifting import Shifter, asked_of, keep_only, some_layers, states_of
from lenses.digits.shifts import ABOVE, EDITS, NUMBER_EDITS, OWN, Gain
from lenses.states.depths import PASSED, after_layers, by_passed
from lenses.statistics.against_random import random_models
from lenses.statistics.intervals import luck_outside, share
from models.planted.carry import planted_carry
from viz import Drawing, bars, curves, heat_map, point_map

if TYPE_CHECKING:
    from models import Model

TWINS = 3
"""Models of the same shape with random weights, whose digits are shown beside the model's own."""
LEVEL, MOST, ALIKE = 0.05, 0.5, 0.1
"""Of p; a share that is most; shares of edits that differ by less are taken for alike."""
COLUMNS = {
    "operand": "whose digit it is: a or b of a sum, `copy` (to be copied), `addition` (language)",
    "layer": "layers that the state has passed; 0 is the embedding",
    "component": "the pattern; A beyond B: what A explains of what B leaves",
    "share": "share of what tells the values apart that lies in the pattern",
    "null": "the share with permuted labels, mean",
    "null_low": "where the middle 95 % of the shares with permuted labels begin",
    "null_high": "where the middle 95 % of the shares with permuted labels end",
    "p": "p-value against permuted labels, the largest of all places and depths (max-T)",
    "weights": "this model; the same with permuted labels; random weights (the extremes of them)",
    "participation_ratio": "number of dimensions that the ten digits spread in, 1 to 9",
    "random_weights": "the same with random weights, mean over models",
    "first_component": "coordinate along the first principal component",
    "second_component": "coordinate along the second principal component",
    "first_share": "share of the variation along the first component",
    "second_share": "share of the variation along the second component",
    "reads": "the digit of the answer that is read: in the own column, or in the column above",
    "edit": "how the state of the digit was shifted",
    "target": "the digit that it was shifted to",
    "solved": "whether the answer was right before the edit",
    "success": "whether the answer is that to the target, or the share of edits where it is",
    "kept": "whether the answer is still that to the digit itself, or the share",
    "as_token": "whether the answer is what it is with the other token written",
    "what": "`digits` 0 to 9, or `numbers` 0 to 99",
    "where": "`embedding` (the state that enters the first layer) or `state`",
    "modulus": "whose remainder is asked for",
    "accuracy": "share of held-out values whose remainder a linear classifier gets right",
    "chance": "one in the modulus",
    "shuffled": "the accuracy with permuted labels, mean",
    "spike": "share of the variation on the circle of this period (a Fourier spike)",
    "spike_chance": "that share for values equally far apart",
    "fit": "`fit`: along line and circle; `permuted i`: the same with permuted labels",
}
_table = partial(Table.of, COLUMNS)


class DigitGeometry(Experiment):
    """The model reads prompts in which one digit takes all ten values; its states are compared,
    then shifted as if the digit were another one.

    In an adder these are the digits of both addends; in a language model a digit that it is to
    copy (`4 = 4`), and the first addend of a sum of one digit. Nine directions hold ten points
    whatever they are, so shares are compared with permuted labels (p is corrected for all places
    and depths by the largest) and random weights. Shares come from products of different prompts,
    which noise does not inflate. A line has .64 of a circle's pattern, so each pattern is judged
    by what it explains of what the other leaves.

    Then digits are shifted: after some layers, the difference between where a fit puts one digit
    and another is added to the digit's state, in prompts that the fit has not seen. It succeeds if
    the model gives the answer to the other digit. In an adder the answer digit in the same column
    is read and, where the exchange toggles the carry, that in the column above. In models with a
    token for each number from 0 to 99, numbers are shifted along a helix as well.
    """

    runs_on: ClassVar[str] = "adder 10 s, language model minutes"
    quick: ClassVar[Mapping[str, Any]] = {"contexts": 8, "edits": 6, "permuted_fits": 6}

    contexts: int = Field(24, ge=4)
    """Prompts in which each slot takes every digit."""
    edits: int = Field(16, ge=1)
    """Prompts for each slot in which its digit is shifted to another."""
    permuted_fits: int = Field(24, ge=3)
    """Fits to permuted labels with which the edit along line and circle is compared."""
    edited_layers: int = Field(3, ge=1)
    """Layers, spread over the first half, before which digits are shifted (all, if up to four)."""
    batch_size: int = Field(96, ge=1)
    """Prompts in one forward pass of an edit."""

    tables: ClassVar[Mapping[str, Table]] = {
        "shares": _table("A row is a pattern over the ten digits at one place and depth.",
            "operand place layer component", "share low high null null_low null_high p n"),
        "by_layer": _table("A row is a pattern at one depth, all places together.",
            "weights component layer", "share low high"),
        "dimensions": _table("A row is the spread of the ten digits at one place and depth.",
            "operand place layer", "participation_ratio random_weights"),
        "points": _table("A row is the mean state of one digit at one place and depth.",
            "operand place layer digit",
            "first_component second_component first_share second_share"),
        "separability": _table("A row is a linear classifier of remainders at one place and depth.",
            "what where operand place layer modulus",
            "accuracy chance shuffled p spike spike_chance n"),
        "moves": _table("A row is a prompt in which a digit is shifted in one way at one depth.",
            "prompt layer edit", "reads operand place digit target solved success kept as_token"),
        "edits": _table("A row is a way to shift digits at one depth, all places together.",
            "reads layer edit", "n success kept low high"),
        "fits": _table("A row is one fit along which digits are shifted at one depth.",
            "reads layer fit", "success"),
        "pairs": _table("A row is a digit and its target, at the depth where most edits succeed.",
            "reads layer edit digit target", "success n"),
        "helix": _table("A row is a way to shift numbers; empty where 0 to 99 are not tokens.",
            "layer edit", "share success n low high"),
    }  # fmt: skip
    reading: ClassVar[Reading] = Reading(
        causal="shifts: yes, the digit's state is changed and the answer is read; shares: no",
        assumes="a digit's mean state over some prompts stands for its state in others",
        stressed="by writing the other token (must succeed), permuted labels, random directions",
        not_shown="that the model computes along the pattern: some states with it are never read",
    )

    def measure(self, model: "Model") -> Results:
        """States of every digit in every slot, here and in random twins; then the edits."""
        asked = asked_of(model, self.contexts, self.edits, self.seed)
        states = states_of(model, asked.every, self.stream, "states")
        twins = [
            geo.grams(states_of(twin, asked.every, self.stream, f"random weights {number}/{TWINS}"))
            for number, twin in enumerate(self.twins(model, TWINS), start=1)
        ]
        tables = geo.shape_tables(asked.slots, states, np.stack(twins), self.seed)
        layers = some_layers(model.cfg.n_layers, self.edited_layers)
        shift = Shifter(model, self.stream, layers, self.permuted_fits, self.batch_size, self.seed)
        tables |= shift.tables(asked, states)
        apart = [separability(asked.slots, states, self.seed).assign(what="digits")]
        tables["helix"] = pd.DataFrame()
        if model.card.arithmetic is None and has_number_tokens(model):
            tables["helix"], numbers = shift.helix(self.edits)
            apart.append(separability(NUMBER_SLOTS, numbers, self.seed).assign(what="numbers"))
        return Results(tables | {"separability": pd.concat(apart, ignore_index=True)})

    def headline(self, results: Results) -> str:
        """Which shape is shown, how much it holds, and what shifting along it does."""
        tables, told = results.tables, {c.sentence: c.verdict for c in self.claims(results)}
        shape = {
            (True, True): "follow a line and a circle",
            (True, False): "follow a line; a circle beyond a bent line is not shown",
            (False, True): "follow a circle; a line is not shown",
            (False, False): "are not shown to follow a line, nor a circle",
        }[told[LINE] == "holds", told[CIRCLE] == "holds"]
        best, succeeds = geo.held_most(tables["by_layer"]), []
        for reads, won in shifts.success_where_clearest(tables["edits"], tables["fits"]).items():
            fit, null = won[EDITS["fit"]], won[EDITS["permuted"]]
            succeeds.append(f"{READ[reads]} in {fit:.0%} of prompts (permuted labels: {null:.0%})")
        return (
            f"The ten digits {shape}. {after_layers(best['layer']).capitalize()} line and circle "
            f"together explain "
            f"{best['share']:.0%} of what tells them apart; the other {1 - best['share']:.0%} is "
            f"neither. A digit that is shifted along both {', and '.join(succeeds)}."
        ).replace("%", " %")

    def claims(self, results: Results) -> list[Claim]:
        """Does it add, is there a line, a circle, or a cloud, and does the model go by them?"""
        tables = results.tables
        gains = shifts.gains(tables["moves"], tables["fits"], self.seed)
        found = [
            _adds(tables["moves"]),
            _pattern(LINE, "line beyond circle", tables["shares"], tables["edits"]),
            _pattern(CIRCLE, "circle beyond arch", tables["shares"], tables["edits"]),
            *(_goes_by_it(MOVES[reads], gain) for reads, gain in gains.items()),
            _held_by_both(tables["by_layer"]),
            _same_as_token(tables["moves"]),
            _numbers(tables["helix"]),
            *_separable(tables["separability"]),
        ]
        return corrected(found, MORE_MODELS)

    def figures(self, results: Results) -> dict[str, Drawing]:
        """What line and circle hold, the digits themselves, and what shifts them."""
        tables = results.tables
        return _pattern_figures(tables) | _spread_figures(tables) | _edit_figures(tables)

    def planted(self) -> "Model":
        """An exact adder whose digits lie on a line and a circle, which is all it knows of them.

        What its heads read of a digit is linear in it, so that its answers stay what they were.
        """
        return keep_only(planted_carry(places=3).model, geo.bases()["line and circle"])


LINE = "At some place and depth, the ten digits follow a line beyond what a circle explains."
CIRCLE = "At some place and depth, the ten digits follow a circle beyond what a bent line explains."
MORE_OFTEN = "more often than along permuted labels."
MOVES = {
    OWN: f"Shifted along line and circle alone, a digit is read as the new one {MORE_OFTEN}",
    ABOVE: f"Shifted along line and circle alone, a digit makes or removes the carry {MORE_OFTEN}",
}
READ = {OWN: "is read as the new one", ABOVE: "makes or removes the carry"}
MORE_MODELS = "ten digits allow no finer test: the same in models trained from other seeds"


def _adds(moves: pd.DataFrame) -> Claim:
    """Whether its answers are worth reading: those to additions, before anything is shifted."""
    prompts = moves.drop_duplicates("prompt")
    copied = prompts["operand"] == "copy"
    sums, copies = prompts.loc[~copied, "solved"], prompts.loc[copied, "solved"]
    beside = f"; of copies {copies.mean():.2f}" if len(copies) else ""
    return Claim.learned(
        "The model adds: before any edit, it gets over half of the digits that are read right.",
        share(int(sums.sum()), len(sums)), above=MOST, null=0.1, null_note="a random digit",
        unit=f"share of digits{beside}", more="prompts (--edits for each digit)",
    )  # fmt: skip


def _pattern(sentence: str, component: str, shares: pd.DataFrame, edits: pd.DataFrame) -> Claim:
    """That a pattern shows at some place and depth more than with permuted labels."""
    sites = shares[shares["component"] == component]
    best = sites.sort_values(["p", "share"], ascending=[True, False]).iloc[0]
    rest = component.split()[-1].replace("arch", "bent line")
    note = f"permuted labels; strongest: {best['operand']}, place {best['place']}, "
    note += f"{after_layers(best['layer'])}, of {len(sites)} places and depths tried"
    here = (edits["layer"] == best["layer"]) & (edits["edit"] == EDITS["all"])
    if here.any():
        note += f"; shifted there by all of the difference, {edits.loc[here, 'success'].max():.0%} "
        note += "of digits are read as the new digit"
    return Claim.learned(
        sentence, Estimate(*best[["share", "low", "high"]], n=geo.DIGITS, p=best["p"]),
        holds=bool(best["p"] <= LEVEL), p_fails=min(1.0, 2 * (1 - float(best["p"]))),
        null=best["null"], null_note=note.replace("%", " %"), decide=MORE_MODELS,
        unit=f"share explained of what a {rest} leaves; n digits",
    )  # fmt: skip


def _goes_by_it(sentence: str, found: Gain) -> Claim:
    """That shifts along line and circle succeed more often than along permuted fits."""
    verdict, decide = None, "more prompts and permuted fits (--edits, --permuted-fits)"
    if found.whole < MOST:  # what no shift at all does says nothing of this one
        verdict = "undecided"
        decide = "a model that reads the digit there: shifted by all of the difference, only "
        decide += f"{found.whole:.0%} are read as the other digit"
    return Claim.learned(
        sentence, found.more, verdict=verdict, decide=decide, p=found.p, null=0,
        holds=bool(found.p <= LEVEL and found.more.low > 0),
        p_fails=float(luck_outside(found.more, below=ALIKE)),
        null_note=f"with permuted labels {found.permuted:.2f} of edits succeed, by all of the "
        f"difference {found.whole:.2f}; shifted {after_layers(found.layer)}",
        unit="share of edits that succeed, minus the share with permuted labels",
    )  # fmt: skip


def _held_by_both(by_layer: pd.DataFrame) -> Claim:
    """That line and circle together hold more than half, at the depth where they hold most."""
    sentence = (
        "At some depth, line and circle together hold over half of what tells the digits apart."
    )
    best = geo.held_most(by_layer)
    values = by_layer.set_index(["weights", "component", "layer"])["share"]
    return Claim.mechanical(
        sentence, Estimate(*best[["share", "low", "high"]], n=geo.DIGITS), above=MOST,
        null=values["random weights", "line and circle", best["layer"]],
        null_note=f"{random_models(TWINS)}, {after_layers(best['layer'])}; "
        "ten equidistant points: .33",
        unit="share of variation, mean over places; n digits", decide="more prompts (--contexts)",
    )  # fmt: skip


def _same_as_token(moves: pd.DataFrame) -> Claim:
    """That the machinery of shifting does to the embedding what it says it does."""
    rows = moves[(moves["layer"] == 0) & (moves["edit"] == EDITS["all"])]
    claim = Claim.identity(
        "In the embedding, shifting a digit by all of the difference is writing the other token.",
        (1 - rows["as_token"]).mean(skipna=False), within=0.02,
        unit="share of prompts with another answer; rounding may change one in fifty",
    )  # fmt: skip
    return claim.model_copy(update={"n": len(rows)})


def _numbers(helix: pd.DataFrame) -> Claim:
    """What shifts along the helix do, or that there are no such tokens to shift."""
    sentence = f"Shifted along a helix, a number is read as the new one {MORE_OFTEN}"
    if helix.empty:
        needs = "a model with one token for each number from 0 to 99 (--model gpt2)"
        return Claim.not_tested("mechanical", sentence, needs)
    rows = helix.rename(columns={"success": "estimate"}).set_index(["layer", "edit"])
    here = rows.loc[layer := rows.xs("helix", level="edit")["estimate"].idxmax()]
    others = here.loc[[NUMBER_EDITS["best"], NUMBER_EDITS["all"]], "estimate"]
    beside = ", ".join(f"{name} {value:.2f}" for name, value in others.items())
    return Claim.mechanical(
        sentence, here.loc["helix"], above=here.loc["permuted labels", "high"],
        null=here.loc["permuted labels", "estimate"], unit="share of edits that succeed",
        null_note=f"permuted labels; {beside}; shifted {after_layers(layer)}",
        decide="more prompts (--edits)",
    )  # fmt: skip


def _separable(table: pd.DataFrame) -> list[Claim]:
    """Whether a plane tells unseen values apart by their remainder, in embedding and states."""
    claims = []
    for (what, modulus), rows in shown.separable_at(table).items():
        parts = []
        for where, some in rows.groupby("where"):
            places = f"{(some['p'] <= LEVEL).sum()} of {len(some)} places"
            places += " and depths" * (where == "state")
            best = some.iloc[0]
            parts.append(f"at {places} in the {where} (best: {best['accuracy']:.2f}; the circle of "
                         f"this period holds {best['spike']:.2f} there)")  # fmt: skip
        best = rows.iloc[0]
        claims.append(Claim.descriptive(
            f"The remainder mod {modulus} of {what} that it has not seen is told by a linear "
            f"classifier, better than with shuffled labels, {' and '.join(parts)}.",
            Estimate(best["accuracy"], np.nan, np.nan, int(best["n"])), null=best["shuffled"],
            null_note=f"shuffled labels, p = {best['p']:.3f}; chance {best['chance']:.2f}",
            unit=f"accuracy where it is clearest; n {what}", label=f"{what} mod {modulus}",
            family="Are values linearly separable by their remainder?",
        ))  # fmt: skip
    return claims


def _pattern_figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, Drawing]:
    """What line and circle hold, and the digits themselves."""
    by_layer, shares = tables["by_layer"], shown.written_shares(tables["shares"])
    compared = ["line beyond circle", "circle beyond arch", "line and circle"]
    patterns = by_layer["component"].isin(["line", "circle", "arch", *compared])
    return {
        "Line and circle by depth": curves(
            by_passed(by_layer[patterns]), PASSED, "share", series="weights", facet="component",
            caption="Shares of what tells digits apart, mean over places, by depth. Bands: 95 % by "
            "resampling prompts; of permuted labels, where 95 % of them lie; of random weights, "
            "all of them. A line has .64 of a circle's pattern and a bent line (arch) more, so "
            "'beyond' shows what the one explains of what the other leaves: a line is high in the "
            "one and zero in the other, a circle the reverse.",
        ),
        "The ten digits": point_map(
            shown.some_points(tables["points"]), "first_component", "second_component", "digit",
            facet="site",
            caption="The mean states of the ten digits along their two first principal components, "
            "joined from 0 to 9, by place and layers passed. In brackets: the share of variation "
            "that the two axes show. A line is a path from one side to the other, a circle closes, "
            "and ten points without order make a tangle.",
        ),
        "Line and circle by place": heat_map(
            by_passed(shares[shares["component"].isin(compared)]), PASSED, "slot", "share",
            facet="component", text="written", low=0, high=1,
            caption="The same for each place and depth. A star: more than with permuted labels (p "
            "<= .05, by the largest of all places and depths).",
        ),
    }  # fmt: skip


def _spread_figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, Drawing]:
    """Whether a plane tells the digits apart, and in how many dimensions they spread."""
    return {
        "Apart by their remainder": curves(
            by_passed(shown.separable_by_layer(tables["separability"])), PASSED, "share",
            series="series", facet="remainder",
            caption="How well a linear classifier tells values that it has not seen apart by their "
            "remainder, mean over places, beside shuffled labels and chance; 0 is the "
            "embedding. A high share on the circle of this period is necessary but not enough.",
        ),
        "Dimensions": curves(
            by_passed(shown.dimension_curves(tables["dimensions"])), PASSED, "participation_ratio",
            series="weights",
            caption="In how many dimensions the ten digits spread (participation ratio): 1 for a "
            "line, 2 for a circle, 9 for ten points that are equally far from each other. Mean "
            "over places; the band spans the places.",
        ),
    }  # fmt: skip


def _where(edits: pd.DataFrame) -> pd.DataFrame:
    """Edits with the depth of the state that is shifted, in words."""
    return edits.assign(where=[after_layers(passed) for passed in edits["layer"]])


def _edit_figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, Drawing]:
    """What comes of shifting them."""
    pairs, helix = tables["pairs"], tables["helix"]
    drawn = {
        "Shifting a digit": bars(
            _where(tables["edits"]), "edit", "success", series="reads", facet="where",
            caption="How often the model gives the answer to another digit when the digit's state "
            "is shifted towards it: by writing the other token (the most to be hoped "
            "for), by all of the difference between the mean states, along the best three "
            "directions, along line and circle or one of them, along permuted labels (interval: 95 "
            "% of the fits), and by a random step of equal length. Column above: the exchange "
            "toggles a carry. Where not even all of the difference changes an answer, the model no "
            "longer reads the digit.",
        ),
        "From digit to digit": heat_map(
            pairs[pairs["edit"] == EDITS["fit"]], "digit", "target", "success", facet="reads",
            low=0, high=1,
            caption="Shifts along line and circle by digit and target, at the depth where most of "
            "them succeed (a pair is hatched where no prompt has it).",
        ),
    }  # fmt: skip
    if len(helix):
        drawn["Numbers along a helix"] = bars(
            _where(helix), "edit", "success", facet="where",
            caption="Numbers shifted along a line and circles of periods 2, 5, 10 and 100, against "
            "as many principal components, all of the difference, permuted labels and a random "
            "direction of equal length.",
        )  # fmt: skip
    return drawn
