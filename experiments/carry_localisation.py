"""Where does the carry happen?"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd
from pydantic import Field

from experiments import Claim, Estimate, Experiment, Reading, Results, Table, percent
from lenses.addition import found as view
from lenses.addition.battery import Battery
from lenses.addition.contrasts import rates
from lenses.addition.donors import roles_with_writes, sets_with_writes
from lenses.addition.forms import addition_format
from lenses.addition.found import SURE, Found, few, found_at_places, over_nines, relays
from lenses.addition.lengths import length_table, movers
from lenses.addition.roles import kept_heads, roles, shared_roles, without_untested
from lenses.statistics.intervals import share
from models.planted.carry import planted_carry
from viz import Drawing, attention_patterns, bars, cell_grid, curves, heat_map, model_map

if TYPE_CHECKING:
    from models import Model

Tables = Mapping[str, pd.DataFrame]

ADDERS = {"per_cell": 200, "screen": 24, "uniform": 300, "per_ablation": 16, "probed": 240}
LANGUAGE_MODELS = {"per_cell": 40, "screen": 6, "uniform": 60, "per_ablation": 4, "probed": 100}
"""How much is measured unless told otherwise; a language model is a thousand times as slow."""
SITES_AT_ONCE, IN_LANGUAGE_MODELS = 16, 4
"""Sites that one pair of prompts is patched at in a forward pass, each in a row of its own."""
MOST_DRAWN, MOST_ROWS, MOST_NAMED = 12, 40, 4
"""Heads whose attention is drawn, components whose flips are, and heads named in a sentence."""
VERBS = {"carry": "writes the carry into", "digit": "writes the digit at"}
"""What donors tell of a set of heads; of others no more than that they move the carry."""
WRITTEN = {"carry": "holds", "digit": "holds", "neither": "fails"}
ADDS, KEEPS = 0.5, 0.9
"""Share of whole answers that must be right before it is asked which heads suffice for adding, and
share of this accuracy that they must keep."""
LEVEL = 0.05
FLIPS = "share of pairs in which the digit becomes the source's"
SAME_CARRY = "share in which the digit changes though the source has the same carry"
MORE = "more pairs (--per-cell)"
NEEDS = "a model that adds better, or more pairs (--per-cell): too few were solved"

WORDS = {"local": "carry", "base": "own sum", "cascade": "over nines", "tristate": "over nines"}
PROBED = {
    "carry_in": "carry into the column", "tri_state": "class of the column below",
    "digit_sum": "own sum of the column",
}  # fmt: skip
RIVALS = {
    "accuracy": "this model", "control": "control task", "input_tokens": "input tokens",
    "random_weights": "random weights", "chance": "chance",
}  # fmt: skip
"""What figures call the values of columns."""

CHANGED = "decimal place of the column that is changed"
RIGHT = "n correct accuracy low high"
COLUMNS = {
    "pair": "what differs in the two sums: `local` the carry from the column just below, `cascade` "
    "that over nines, `tristate` the carry into a nine, `base` the own sum, `swap` nothing",
    "prefix": "answer digits before: the `same` in both sums, each one's `own`, the clean `shared`",
    "direction": "the source has the carry (`in`), lacks it (`out`), or `either`",
    "kind": "`head`, `mlp`, `resid` (residual stream) or `layer` (all heads of it)",
    "head": "number of the head in its layer, -1 where the component is no head",
    "token": "the token by its name: `a2` a digit of an addend, `A3` of the answer",
    "members": "the heads of the set, or the MLP or layer, exchanged together",
    "wanted": "how many pairs were wanted",
    "flip": FLIPS,
    "change": "share of pairs in which the digit changes at all",
    "null_change": "share of pairs changed by a source that should change nothing",
    "own_change": "share of pairs in which a digit changes that should stay",
    "logit_shift": "shift of the logit difference, 1 for all the way to the source's",
    "p_max": "p that luck gives any row of the table as much (max-T)",
    "size": "how many heads are in the set",
    "complement_flip": "flip of all other heads together",
    "other_change": "share changed of pairs that differ in what the set should spare",
    "minimal": "the set explains the cell, and no smaller set in it was found to",
    "all_heads": "the set has all heads, so that it flips by construction",
    "searched": "how sets were searched",
    "writes": "`carry`, `digit`, `neither`, `undecided`, or `not tested`, by cross donors",
    "donor": "`cross`: other carry, other digit; `same_answer`: other carry, the clean digit; "
    "`same_carry`: the clean carry and digit, of other operands (a control)",
    "carry_rate": "share in which the digit becomes what the donor's carry makes of the column",
    "digit_rate": "share in which the digit becomes the donor's",
    "same_rate": "share in which the digit stays",
    "specialised": "p is at most .05; half of the pairs of one length flip, and at most a tenth of "
    "another's",
    "by_luck": "how often permuted lengths differ as much",
    "mlp": "layer of the MLP",
    "role": "`carry`, `base_add` (own sum), `both`, `combiner` (over nines) or `none`",
    "shared": "the head has its role only as a member of a set",
    "query_place": "decimal place of the digit that is predicted",
    "column": "decimal place of the two digits that are attended to",
    "mass": "share of attention on these two digits",
    "carry_difference": "the same with a carry coming in, minus without",
    "mode": "what heads are set to: `zero`, their `mean`, or what they are in another sum "
    "(`resample`)",
    "sample": "`cells` or `uniform` questions",
    "kept": "`all` heads, those `found` to have a role, as many `random`, or `none`",
    "heads": "how many heads are kept, counted at each token",
    "target": "`carry_in`, `tri_state` (class of the column below), `digit_sum`",
    "control": "the same for random labels",
    "selectivity": "accuracy minus control",
    "input_tokens": "the same from the input tokens alone",
    "random_weights": "the same with random weights",
    "chance": "one in the number of labels",
    **{f"{rate}_{end}": f"{end} end of the 95 % interval of {rate}"
       for rate in ("flip", "carry", "digit", "same") for end in ("low", "high")},
}  # fmt: skip


_table = partial(Table.of, COLUMNS)


class CarryLocalisation(Experiment):
    """What a head computed in one addition is put into another that differs in one carry: where the
    digit becomes the other's, that head brings the carry.

    Two sums, *clean* and *source*, differ in one property (the column `pair` of the tables); the
    model gets both right (unless `solved` is off). What a head, MLP or residual stream computed for
    the source is put into the clean run. It *flips* a pair where the digit that is read becomes the
    source's; beside it stands how often the digit changes when the source has the same carry.

    A *site* is a component at one token. A digit is predicted at the token before it. Left out are
    sites that cannot move anything by construction: those before the first token that differs, and
    those after the last layer's attention at other tokens than the one read. Sites are first tried
    on `screen` pairs; where nothing moves, `n` is that number. In models of more than 64 heads
    layers are tried, then heads of those that move something, and only what moves is measured on.

    Then sets of heads are exchanged together. A set moves the carry where it flips at least 95 % of
    fresh pairs, and no smaller set in it does. Only sets of up to three heads, and of up to half of
    all, count. What a set writes is told by *cross donors*: sums with the other carry and, in the
    column that is read, another sum. Their carry makes one digit of the clean column, their own
    digit is another. At last all heads without a role are replaced by their means.
    """

    runs_on: ClassVar[str] = "adder 3 min, language model minutes"
    quick: ClassVar[dict[str, Any]] = {
        "per_cell": 24, "screen": 4, "uniform": 20, "per_ablation": 1, "probed": 50,
    }  # fmt: skip

    batch_size: int = Field(16, ge=1)
    """Pairs in one forward pass, each at 16 sites (4 in a language model)."""
    places: int | None = Field(None, ge=2, le=17)
    """Digits of each addend; an adder has its own, a language model 2 unless told otherwise."""
    per_cell: int | None = Field(None, ge=24)
    """Pairs for each kind, place and run, half put the carry in, half take it out: 200 (adders)
    or 40 (language models)."""
    screen: int | None = Field(None, ge=4)
    """Pairs on which every site, and every set of heads, is first tried: 24 or 6."""
    solved: bool = True
    """Keep only pairs that the model gets right; off, every pair counts."""
    uniform: int | None = Field(None, ge=20)
    """Uniform questions, to say how well the model adds and what ablation costs: 300 or 60."""
    per_ablation: int | None = Field(None, ge=1)
    """Questions for each cell of an answer digit, in ablations: 16 or 4."""
    probed: int | None = Field(None, ge=50)
    """Additions for each set of probes: 240 or 100."""
    examples: int = Field(1, ge=0)
    """Solved additions that a language model is shown before each question."""

    tables: ClassVar[Mapping[str, Table]] = {
        "cells": _table("A row is a cell: its digit is read after the right digits.",
            "place run carry", RIGHT),
        "answers": _table("The one row is about whole answers.", "", f"sample {RIGHT} "
            "without_carries", sample="always `uniform` questions"),
        "pairs": _table("A row is a cell of pairs: how many were found.",
            "pair place run prefix read_place", "wanted n", place=CHANGED,
            n="how many were found that the model solves"),
        "interchange": _table(
            "A row is a site exchanged by itself, in a cell of pairs and one direction.",
            "pair direction prefix place run read_place kind layer head pos token",
            "flip flip_low flip_high change null_change own_change logit_shift p p_max n q",
            place=CHANGED, p="one-sided exact McNemar test of flip against null_change"),
        "joint": _table("A row is a set of heads exchanged together where the digit is predicted.",
            "pair prefix run read_place members", "size flip complement_flip other_change minimal "
            "all_heads searched writes? null_change token low high n"),
        "donors": _table("A row is a site that moves a carry, exchanged with donors of one kind.",
            "pair prefix place run read_place token members donor", "writes carry_rate carry_low "
            "carry_high digit_rate digit_low digit_high same_rate same_low same_high n",
            place=CHANGED),
        "lengths": _table("A row is a head where a digit is predicted, and a length of carries.",
            "layer head read_place run", "flip p specialised by_luck low high n",
            p="that flips depend on the length, against permuted lengths, corrected"),
        "edges": _table("A row is what one head tells one MLP in a cell of pairs, the norm held "
            "fixed; of two prefixes, each one's own comes first.", "",
            "pair run read_place layer head mlp flip low high n"),
        "roles": _table("A row is a site with its role for one answer digit.",
            "kind layer head pos token place", "role shared writes carry_flip carry_null base_flip "
            "base_change nines_flip nines_null"),
        "attention": _table("A row is the attention of a head to a column when a digit is "
            "predicted.", "layer head query_place column", "mass carry_difference low high n"),
        "ablation": _table("A row is a cell while one head is ablated at every token.",
            "mode layer head place run carry", RIGHT),
        "sufficiency": _table("A row is a place while only some heads are kept, each at some "
            "tokens.", "sample mode kept draw place", "heads accuracy low high n",
            place="decimal place, 0 = units; -1 is the whole answer"),
        "probes": _table("A row is a linear probe of the residual stream that a layer hands on.",
            "place target layer token", "accuracy control selectivity input_tokens random_weights "
            "chance pos n", token="the token by its name; `read` predicts the digit",
            accuracy="balanced accuracy on digits that the probe has not seen"),
        "example": _table("A row is a token of the sum that is drawn.", "pos", "token"),
    }  # fmt: skip
    reading: ClassVar[Reading] = Reading(
        causal="Yes: what a component computed for another sum is put into the run.",
        assumes="The two sums of a pair differ in one thing only (integer arithmetic checks it), "
        "and the pairs that the model solves stand for all.",
        stressed="Sources with the same carry, random weights and planted heads; sets of heads are "
        "chosen on some pairs and measured on others.",
        not_shown="A set that writes the digit may write all that the digit is made of, the carry "
        "and the column's sum; heads of the same number do not have the same role in another "
        "model.",
    )

    def measure(self, model: "Model") -> Results:
        """Behaviour, every site, joint sets, edges, ablation, attention, sufficiency, probes."""
        usual = ADDERS if model.card.arithmetic else LANGUAGE_MODELS
        chosen = {name: n for name, n in usual.items() if getattr(self, name) is None}
        return self.model_copy(update=chosen)._measure(model)

    def _measure(self, model: "Model") -> Results:
        style = addition_format(model, self.places, self.examples, self.seed, self.stream)
        sites = SITES_AT_ONCE if model.card.arithmetic else IN_LANGUAGE_MODELS
        how = (self.per_cell, self.screen, self.solved, self.seed, sites * self.batch_size)
        battery, tables = Battery(model, style, *how, self.stream, self.rows), {}
        for twin in self.twins(model, 1):  # first: it takes as much memory as the model
            random = battery.random_states(twin, self.probed)
        tables["cells"], tables["answers"] = battery.behaviour(self.per_ablation, self.uniform)
        tables["pairs"], counts, luck = battery.interchanges()
        tables["interchange"] = rates(counts, luck)
        tables["lengths"] = length_table(tables["interchange"], self.seed)
        joint, tables["edges"] = battery.joint(tables["pairs"])
        donors = tables["donors"] = battery.donors(tables["interchange"], joint)
        tables["joint"] = sets_with_writes(joint, donors, style.digits)
        found = without_untested(shared_roles(roles(tables["interchange"]), joint), tables["pairs"])
        tables["roles"] = roles_with_writes(found, donors, style.digits)
        tables["attention"] = battery.attention()
        questions = battery.questions(self.per_ablation, self.uniform)
        kept = kept_heads(tables["roles"])
        tables["ablation"] = battery.ablation(questions, kept)
        tables["sufficiency"] = battery.sufficiency(questions, kept)
        tables["probes"] = battery.probes(random, self.probed)
        tables["example"], pattern = battery.example()
        return Results(tables, arrays={"pattern": pattern})

    def headline(self, results: Results) -> str:
        """Which heads write the carry into which places, and over nines."""
        tables = results.tables
        places = found_at_places(tables["joint"], tables["attention"])
        return f"{_where_written(tables, places)}.{_across_nines(tables)}"

    def claims(self, results: Results) -> list[Claim]:
        """Does it add, which heads write the carry into each place, and do they suffice?"""
        tables = results.tables
        found = found_at_places(tables["joint"], tables["attention"])
        places = [_place_claim(tables, one) for one in found]
        first = [_adds(tables["answers"].iloc[0]), _moves(tables["interchange"])]
        told = [_over_nines(tables), _suffices(tables["sufficiency"]), *_written(tables)]
        return [*first, *places, *told, _by_length(tables["lengths"])]

    def figures(self, results: Results) -> dict[str, Drawing]:
        """The model with its roles, flips by site and by set, attention, ablation, probes."""
        tables = results.tables
        pairs = len(tables["interchange"])
        drawn = _figures_of_pairs(tables) | _figures_of_sets(tables) if pairs else {}
        seen = view.looking(tables["attention"], MOST_DRAWN)
        pattern, tokens = view.patterns(results.arrays["pattern"], seen), tables["example"]["token"]
        example = attention_patterns(pattern, tokens.tolist(), caption="What each head attends to "
            "in one addition with its answer, in which a carry crosses nines.")  # fmt: skip
        return drawn | _figures_of_heads(tables) | {"Attention in one addition": example}

    def planted(self) -> "Model":
        """An adder whose weights were written by code: its heads move carries by their length."""
        return planted_carry(places=6, by_length=True, seed=self.seed).model


def _where_written(tables: Tables, places: list[Found]) -> str:
    """Which heads write the carry into which places, and where none do or nothing is known."""
    groups: dict[tuple, list[int]] = {}
    for found in places:
        who = _who(found, VERBS.get(found.writes, "moves the carry into"))
        groups.setdefault((who, _besides(found), found.verdict), []).append(found.place)
    told = [
        f"{who} {_place_names(at)}" + f" ({more})" * bool(more)
        for (who, more, _), at in groups.items()
        if who
    ]
    rest = {verdict: _place_names(at) for (who, _, verdict), at in groups.items() if not who}
    if told:
        told[0] += ", at the token that predicts the digit"
    else:
        answers, most = tables["answers"].iloc[0], _few(tables)
        adds = f"(the model answers {answers['correct']} of {answers['n']} random sums correctly)"
        if list(rest) == ["not tested"]:
            return f"Nothing can be said: too few pairs of sums are solved at every place {adds}"
        told = [f"No set of {most} was found that moves the carry into any place {adds}"]
        rest = rest if len(rest) > 1 else {}
    words = {
        "fails": "no such small set moves it into {}",
        "undecided": "for {} no set was found, but not every small one is ruled out",
        "not tested": "{} could not be tested, too few pairs being solved",
    }
    return "; ".join(told + [words[verdict].format(at) for verdict, at in rest.items()])


def _who(found: Found, does: str) -> str:
    """`L0H0 moves it`, `L0H2 and L0H3 together move it`; nothing where no small set does."""
    if not found.heads:
        return ""
    probably = "" if found.verdict == "holds" else "probably "
    verb, _, what = does.partition(" ")
    verb = verb if len(found.heads) == 1 else f"together {verb[:-1]}"
    return f"{_and(found.heads)} {probably}{verb} {what}"


def _besides(found: Found) -> str:
    """What the set moves besides, and how many other sets move the carry as well."""
    said = ["also moving the column's own sum"] * found.moves_sum
    if found.others:
        one = found.others == 1
        said.append("one other set also suffices" if one else f"{found.others} others also suffice")
    return "; ".join(said)


def _place_names(places: list[int]) -> str:
    """`place 6`; `places 1 to 5`; `places 1, 2 and 5`."""
    if len(places) > 2 and places == list(range(places[0], places[-1] + 1)):
        return f"places {places[0]} to {places[-1]}"
    return ("places " if len(places) > 1 else "place ") + _and([str(place) for place in places])


def _and(names: Sequence[str]) -> str:
    """`L0H0`; `L0H0 and L0H1`; `L0H0, L0H1 and L0H2`."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _few(tables: Tables) -> str:
    most = few(tables["attention"])
    return "one head" if most == 1 else f"at most {most} heads"


def _across_nines(tables: Tables) -> str:
    """In how many cells few heads move a carry over nines, and in which layer most of them are."""
    explained, tried, layer = over_nines(tables["joint"], few(tables["attention"]))
    if not tried:
        return ""
    several = layer is not None and tables["attention"]["layer"].nunique() > 1
    where = f", mostly in layer {layer}" * several
    return (
        f" Where the carry crosses nines, it is moved by {_few(tables)} in {explained} of "
        f"{tried} cells (place and run of nines){where}."
    )


def _adds(answers: pd.Series) -> Claim:
    without = float(answers["without_carries"])
    return Claim.learned(
        "The model adds: it answers more uniform questions correctly than addition without carries "
        "would.",
        share(answers["correct"], answers["n"]), above=without,
        null=without, null_note="share of these questions that need no carry",
        unit="share of whole answers that are right", more="uniform questions (--uniform)",
    )  # fmt: skip


def _moves(sites: pd.DataFrame) -> Claim:
    """Whether anything is there to be found: the one head of the grid that luck explains least."""
    sentence = "One head alone can move a carry, more often than luck explains"
    if (tried := view.heads_tried(sites)).empty:
        return Claim.not_tested("learned", f"{sentence}.", NEEDS)
    best = tried.iloc[0]
    over = " over nines" * (WORDS[best["pair"]] == "over nines")
    return Claim.learned(
        f"{sentence}; the strongest is L{best['layer']}H{best['head']} at “{best['token']}” "
        f"(carry{over} into place {best['read_place']}), of {len(tried):,} tried.",
        Estimate(*best[["flip", "flip_low", "flip_high", "n", "p_max"]]),
        verdict="holds" if best["p_max"] <= LEVEL else "undecided",
        null=best["null_change"],
        null_note=SAME_CARRY,
        unit=f"{FLIPS}; p is corrected for all {sites['p_max'].notna().sum():,} exchanges (max-T)",
        decide=MORE,
    )


def _place_claim(tables: Tables, found: Found) -> Claim:
    """That the smallest set of heads found, or any small one, moves the carry into a place."""
    best, place, decide = found.best, found.place, MORE
    said = {"family": "Which heads move the carry into each place", "label": f"Place {place}"}
    surely = f"in over {percent(SURE)} of pairs"
    sentence = f"The carry into place {place} is moved, {surely}, by {_few(tables)}"
    if best is None:
        pairs = tables["pairs"].query(f"pair == 'local' and read_place == {place}")
        n, wanted = (int(pairs[name].sum()) for name in ("n", "wanted"))
        needs = f"{NEEDS} ({n} of the {wanted} wanted here)"
        return Claim.not_tested("learned", f"{sentence}.", needs, n=n, **said)
    if found.heads:
        said["label"] += f" · {' + '.join(found.heads)}"
        who = _who(found._replace(verdict="holds"), "moves the carry into place")
        at = f"at the token that predicts the digit (“{best['token']}”), {surely}"
        sentence = "; ".join(filter(None, [f"{who} {place}, {at}", _besides(found)]))
    else:
        sentence += f" (the best set measured is {best['members'].replace(' ', ' + ')}; searched: "
        sentence += f"{best['searched']})"
        decide += ", or a smaller model, in which every small set of heads can be tried"
    said |= {"null": best["null_change"], "null_note": SAME_CARRY, "unit": FLIPS, "decide": decide}
    estimate = best.rename({"flip": "estimate"})
    return Claim.learned(f"{sentence}.", estimate, above=SURE, verdict=found.verdict, **said)


def _over_nines(tables: Tables) -> Claim:
    """In how many cells (place, run of nines) the carry is moved by few heads."""
    explained, tried, _ = over_nines(tables["joint"], few(tables["attention"]))
    wanted = len(tables["pairs"].query("pair == 'cascade' and prefix != 'shared'"))
    more = f": in {explained} of {tried}" if tried else ""
    if tried and wanted > tried:
        more += f" ({wanted - tried} more had too few pairs)"
    if passed := relays(tables["roles"]):
        heads = ", ".join(f"{head} ({', '.join(tokens)})" for head, tokens in passed.items())
        more += f"; on the way they pass through single heads at earlier tokens: {heads}"
    return Claim.learned(
        f"Carries that cross nines are moved by {_few(tables)} in more than half of this model's "
        f"cells (place and run of nines){more}.",
        share(explained, tried), above=0.5, unit="share of cells", needs=NEEDS,
        decide="more cells: longer sums, or a model that solves more",
    )  # fmt: skip


def _suffices(table: pd.DataFrame) -> Claim:
    """The heads with a role keep nearly all of the accuracy; as many random ones do not."""
    found, whole, random = view.kept_alone(table)
    sentence = f"The heads that have a role suffice for adding (over {percent(KEEPS)} of the "
    sentence += "accuracy), and random sets of equal size do not"
    needs = "a model that adds, in which heads with a role are found"
    if found["heads"] and random.empty:
        needs = "a model with more heads: it has too few other sets of this size to compare with"
    if random.empty or not found["heads"]:
        return Claim.not_tested("learned", f"{sentence}.", needs)
    all_of_it, adds = max(float(whole["accuracy"]), 1e-9), whole["low"] >= ADDS
    luck, as_well = random["accuracy"] / all_of_it, random["low"] / all_of_it > KEEPS
    own = (found[["accuracy", "low", "high"]].astype(float) / all_of_it).clip(upper=1)
    random_tell = found["low"] <= random["accuracy"].max() and own["high"] >= KEEPS
    judged = ("fails" if as_well.mean() > 0.5 else "undecided") if random_tell else None
    return Claim.learned(
        f"{sentence}: these {found['heads']} alone (of {whole['heads']} heads at tokens; all "
        f"others at their means, MLPs kept) keep {percent(own['accuracy'])} of the accuracy, "
        f"random sets at most {percent(luck.max())}.",
        Estimate(*own, int(found["n"])),
        above=KEEPS,
        verdict=judged if adds else "undecided",
        null=float(luck.mean()),
        null_note=f"mean of {len(luck)} random sets of as many heads at each token",
        unit="share of the intact model's accuracy",
        decide="more questions (--uniform)" if adds else needs,
    )


def _written(tables: Tables) -> list[Claim]:
    """Of each small set that moves the carry into a place, whether it is the carry it writes."""
    said = {"family": "What these heads write: the carry, or the digit that it makes"}
    told = view.donors_of_sets(tables["joint"], tables["donors"], few(tables["attention"]))
    if told.empty:
        sentence = "The heads that move the carry write the carry, not the digit that it makes."
        needs = "a small set of heads that moves the carry into a place with a column of its own"
        return [Claim.not_tested("learned", sentence, needs, label="All places", **said)]
    rows = told.set_index("donor").groupby(["read_place", "members"])
    return [_carry_or_digit(place, heads.split(), by, said) for (place, heads), by in rows]


def _carry_or_digit(place: int, heads: list[str], by: pd.DataFrame, said: dict) -> Claim:
    """What cross donors tell of one set; where they leave it open, that it writes the carry."""
    cross, same, control = (by.loc[donor] for donor in ("cross", "same_answer", "same_carry"))
    what, other = ("digit", "carry") if cross["writes"] == "digit" else ("carry", "digit")
    follows = {"carry": "adds that carry to its own column", "digit": "answers that digit"}
    verb = "writes" if len(heads) == 1 else "together write"
    numbers = cross[[f"{what}_rate", f"{what}_low", f"{what}_high", "n"]]
    known = pd.notna([*numbers, same["same_rate"], control["same_rate"]]).all()
    changed, neither = (percent(1 - x["same_rate"]) for x in (same, control))
    return Claim.learned(
        f"{_and(heads)} {verb} the {what}, not the {other}, at place {place}: given what a sum "
        f"with the other carry and another digit makes there, the model {follows[what]}. Donors "
        f"with the other carry and the same digit change {changed}, with the same carry {neither}.",
        Estimate(*numbers) if known else None, above=0.5,
        verdict=WRITTEN.get(cross["writes"], "undecided"), decide=MORE, needs=MORE,
        null=cross[f"{other}_rate"], null_note=f"share in which it {follows[other]} instead",
        unit="share of cross donors", label=f"Place {place} · {' + '.join(heads)}", **said,
    )  # fmt: skip


def _by_length(lengths: pd.DataFrame) -> Claim:
    """Whether most heads that move a carry do so at some lengths only."""
    moving = movers(lengths)
    special = moving[moving["specialised"].astype(bool)]
    n, count = len(moving), len(special)
    listed = [f"L{row.layer}H{row.head} at place {row.read_place}" for row in special.itertuples()]
    told = f": {count} of {n}" + f" ({', '.join(listed[:MOST_NAMED])})" * bool(listed)
    return Claim.learned(
        "More than half of this model's heads that move a carry are specialised on its length, the "
        f"run of nines it has crossed{told * bool(n)}.",
        share(count, n), above=0.5, null=float(moving["by_luck"].mean()) if n else None,
        null_note="with lengths permuted within the place", unit="share of heads and places",
        decide="longer sums, or a model in which more heads move a carry",
        needs="a head that alone moves half of the carries of some length into a place",
    )  # fmt: skip


def _figures_of_pairs(tables: Tables) -> dict[str, Drawing]:
    """What exchanges showed: the model with its roles, flips by component, length and edge."""
    found, drawn = tables["roles"], {}
    if ((parts := view.mapped(found))["role"] != "none").any():
        drawn["Where the carry happens"] = model_map(
            parts, caption="Heads (by their number) and MLPs (M) that move a digit, at the token "
            "where they stand, by role: carry moves it when a carry comes in, own sum when its "
            "column changes, both in either case, over nines only where a carry crosses nines; "
            "digit: cross donors show that it writes the digit, not the carry. A digit is "
            "predicted at the token before it.")  # fmt: skip
    flips, share_of = view.read_flips(found, MOST_ROWS), "share of pairs that flip"
    drawn["Flips where the digit is predicted"] = heat_map(
        flips.assign(pairs=flips["pair"].map(WORDS)), "component", "place", "flip",
        facet="pairs", low=0, high=1, label=share_of,
        caption="How often the digit becomes the source's when one component, at the token that "
        "predicts it, gets what it computed for the source. The last residual stream always does, "
        f"by construction. Heads that share a carry need not. The {MOST_ROWS} that flip most.",
    )  # fmt: skip
    if len(lengths := view.length_flips(tables["lengths"], MOST_DRAWN)):
        drawn["Heads by the length of the carry"] = heat_map(
            lengths, "run", "component", "flip", facet="read_place", low=0, high=1, label=share_of,
            caption="How often a single head, where the digit is predicted, moves a carry that has "
            "crossed so many nines into the place. A head that is specialised on a length flips in "
            f"some rows only. The {MOST_DRAWN} heads that flip most.")  # fmt: skip
    if len(tables["edges"]):
        edges = view.strongest_edges(tables["edges"], MOST_ROWS)
        drawn["From a head into an MLP"] = heat_map(
            edges.assign(pairs=edges["pair"].map(WORDS)), "edge", "read_place", "flip",
            facet="pairs", low=0, high=1, label=share_of,
            caption="The same when only one MLP receives one head's change, the norm before it "
            f"held fixed; the highest over nines. The {MOST_ROWS} that flip most.")  # fmt: skip
    return drawn


def _figures_of_sets(tables: Tables) -> dict[str, Drawing]:
    """The smallest sets of heads that move the carry, and what they write."""
    drawn = {}
    if len(best := view.smallest_sets(tables["joint"])):
        drawn["The smallest sets that move the carry"] = heat_map(
            best, "run", "read_place", "missed", text="heads", low=0, high=1,
            label="share of pairs that do not flip", caption="The fewest heads that together put "
            "the carry in or remove it, by place and by how many nines it has crossed (run 0: "
            "none), and how often they fail to on fresh pairs. Where a set is large, or fails more "
            "than .05, the carry is not localised.")  # fmt: skip
    if len(told := view.carry_or_digit(tables["joint"], tables["donors"])):
        drawn["The carry, or the digit that it makes"] = heat_map(
            told, "run", "read_place", "lead", text="heads", diverging=True, low=-1, high=1,
            label="writes the digit (-1) or the carry (1)", caption="What the smallest sets write, "
            "by place and by how many nines the carry has crossed. They come from a sum with the "
            "other carry and another digit: 1 where the model always adds that carry to its own "
            "column, -1 where it always answers that digit, near 0 where neither.")  # fmt: skip
    return drawn


def _figures_of_heads(tables: Tables) -> dict[str, Drawing]:
    """How well the model adds, where heads look, and what is left without them."""
    seen = view.looked_at(tables["attention"], MOST_DRAWN)
    probes = tables["probes"].assign(target=tables["probes"]["target"].map(PROBED))
    drawn = {
        "How well the model adds": cell_grid(
            tables["cells"], caption="Errors in each answer digit after the right digits, by the "
            "run of nines below and the carry."),
        "Attention staircase": heat_map(
            seen, "predicted place", "column", "mass", facet="component", low=0, high=1,
            label="attention to the column (share)",
            caption="Attention to the two digits of a column when the digit at a place is "
            "predicted. A head on the diagonal reads the digit's own column; one beside it reads "
            "where carries come from."),
        "What a carry changes in attention": heat_map(
            seen.dropna(subset="carry_difference"), "predicted place", "column",
            "carry_difference", facet="component", diverging=True, low=-0.5, high=0.5,
            label="attention with a carry minus without",
            caption="The same with a carry coming in, minus the same sum without: a head that "
            "looks elsewhere when there is a carry shows here."),
        "Do the heads with a role suffice?": bars(
            view.whole_answers(tables["sufficiency"]), "kept", "accuracy", series="sample",
            caption="Whole answers that stay right when only some heads are kept, each at some "
            "tokens, and all others stand at their means: all of them, those found to have a role, "
            "as many random ones (mean, lowest, highest of the draws), none."),
        "What a linear probe reads": curves(
            view.best_probes(probes, RIVALS), "place", "accuracy", series="probe", facet="target",
            caption="Balanced accuracy of a linear probe, at the token that predicts the digit, on "
            "digits that it was not fitted to. Beside it what a probe reaches by heart, from the "
            "input tokens alone, and in the same model with random weights."),
    }  # fmt: skip
    if len(tables["ablation"]):
        drawn["Accuracy without one head"] = heat_map(
            view.without_heads(tables["ablation"]), "component", "place", "accuracy", facet="mode",
            low=0, high=1, caption="Accuracy of each answer digit, over all its cells, when one "
            "head is ablated at every token: set to zero, to its mean at that token, or to what it "
            "did for another addition (resample).")  # fmt: skip
    return drawn
