"""Does text that the model wrote itself look different inside from text it was given?"""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from experiments import Claim, Estimate, Reading, Results, Table, TextStudy, corrected
from lenses.states import fillers, own_text, own_text_rows, replies
from lenses.states.fillers import MAIN, OWN
from lenses.states.own_text_rows import APART, LOWER, TIMES, in_words, spaced
from lenses.states.policy import FEWEST, STATISTICS
from lenses.statistics.against_random import random_models
from lenses.statistics.intervals import luck_outside
from models.planted.dialect import planted_dialect
from viz import Drawing, bars, curves, heat_map

if TYPE_CHECKING:
    from models import Model

GIVEN = ("given", "given text", "overlap")
REPLY = ("other", "another model's reply", "overlap_other")
"""What own text is compared with: the filler, in words, and how far surprisals overlap."""
RANDOM_MODELS = 4
"""Models of the same shape with fresh weights that read what this one wrote."""
LEVEL, MOSTLY, CLAIMS = 0.05, 0.5, 4
"""Of p; a share that is most; claims that own text differs, in which luck is counted."""
BOUND = 0.2
"""Standard deviations: what lies within is no difference worth the name."""
LEAST_OVERLAP = 0.25
"""Of the surprisals of two fillers, below which holding surprisal fixed would be a guess."""
TOLERANCE = {"float32": 1e-3, "float16": 5e-2, "bfloat16": 2e-1}
"""Of the identities: shares of the largest value, and nats."""
MORE = "texts (--count; an adder: --additions)"
LUCK = f"more {MORE}: luck may explain it"
WORDS_ALONE = "more texts or random models: it differs, but not beyond random weights"
OPEN = {
    LUCK: "differed from given text by no more than luck may explain",
    WORDS_ALONE: "differed from given text, but not clearly more than with random weights",
}
"""What the headline says of a difference that is undecided, by what would decide it."""
MEANING = {
    "head_norm": "logarithm of the mean length of what heads write",
    "cosine": "mean cosine of what a head writes with the sum over heads",
    "share_entropy": "entropy over heads of their shares of the lengths",
    "attention_entropy": "mean entropy of attention rows, in nats",
    "sink": "mean attention on the first token",
    "attention_on_filler": "mean attention on the text that follows the prompt",
    "residual_norm": "logarithm of the length of the residual stream as the layer hands it on",
}
"""Of each statistic of a token."""
COLUMNS = MEANING | {
    "filler": "what follows: given, greedy and sampled (the model's own), other, shuffled",
    "text": "the prompt as text",
    "filled_with": "the text that follows",
    "tokens": "number of its tokens",
    "compared": "whether it is long enough to be compared",
    "surprisal": "-log p of the token, in nats",
    "surprisal_before": "mean surprisal of the tokens after the prompt so far",
    "repeated": "1 where the token stood in the text before, else 0",
    "overlap": "how far surprisals overlap with those of given text, 0 to 1",
    "overlap_other": "how far surprisals overlap with those of the other text, 0 to 1",
    "control": "what is held fixed",
    "statistic": "what is compared; meanings: table `tokens`",
    "estimate": "difference from given text, in standard deviations",
    "detectable": "smallest difference that would be found in four of five cases",
    "random_model": "number of the random model, from 0",
    "against": "the text that it is compared with: given or other",
    "held": "what is held fixed: nothing, or the surprisal of the token just read",
}
_table = partial(Table.of, COLUMNS)


class OnPolicy(TextStudy):
    """The same positions after the same prompts are filled with the model's own text and with
    other text, and what happens inside is compared.

    Fillers: *greedy* (the model's likeliest tokens), *sampled* (at temperature 1), *given* (how
    the passage really goes on; for an adder, the right answer of another addition), *other* (what
    another model replies, where `other_model` names one; else how another passage goes on; for an
    adder, digits at random) and *shuffled* (the tokens of *given* in another order), all cut to the
    shortest of their prompt. While *greedy* is written, each state is read in the pass that was run
    for its token, and later compared with one pass over all of it.

    Statistics of each token are means over heads, less their mean over fillers at the same position
    after the same prompt, in standard deviations of what is left: in each layer, then of the mean
    over layers. They are regressed on the filler against *given*, within prompt and position; held
    fixed as well are surprisal (and its logarithm), then history (mean surprisal of the filler so
    far; whether the token stood there before). Intervals (95 %) resample prompts. The null
    exchanges the labels of filler and *given* in random prompts. Models with random weights read
    the very same texts, and a planted model that attends to its own words is compared, too.
    """

    runs_on: ClassVar[str] = "adder 5 s, language model minutes"
    quick: ClassVar[dict[str, Any]] = {"additions": 8}

    count: int = Field(30, ge=3)
    """Shipped passages that are used."""
    given_tokens: int = Field(16, ge=1)
    """Tokens of a text that are the prompt."""
    new_tokens: int = Field(16, ge=FEWEST)
    """Tokens that follow it (an adder: as many digits as its answer has)."""
    other_model: str = ""
    """A model whose reply to the same prompt stands as *other*; what it wrote: table `prompts`."""
    additions: int = Field(48, ge=3)
    """Additions sampled for an adder."""
    batch_size: int = Field(1, ge=1)
    """Texts between two checkpoints; each passes the model by itself."""

    tables: ClassVar[Mapping[str, Table]] = {
        "prompts": _table("A row is a prompt with one text that followed it.",
            "prompt filler", "text filled_with tokens compared"),
        "identity": Table("A row is a prompt: by how much writing and reading a text differ.",
            "prompt", {name: f"share of the size, of: {what}" for name, what in MEANING.items()} | {
                "log_p": "difference of log-probabilities, in nats",
                "same_choice": "share of written tokens that are likeliest when read, too"}),
        "tokens": _table("A row is a token after a prompt that is compared.", "prompt filler pos",
            f"{' '.join(MEANING)} surprisal surprisal_before repeated token_id token",
            pos="number of the token after the prompt, from 0"),
        "fillers": _table("A row is a filler, mean over prompts.", "filler",
            "surprisal low high repeated overlap overlap_other n",
            surprisal="mean surprisal in nats",
            repeated="share of tokens that stood in the text before"),
        "effects": _table("A row is a difference of a filler from given text.",
            "control filler statistic", "estimate low high p p_any q? detectable n"),
        "layers": _table("A row is a difference of a filler from given text in one layer.",
            "control filler statistic layer", "estimate low high p p_any detectable n"),
        "against_random": _table(
            "A row is how far such a difference exceeds that in a model with random weights.",
            "control random_model filler statistic", "estimate low high p_any n",
            estimate="difference less that in the random model"),
        "explained": _table("A row is how far surprisal explains the differences of a filler.",
            "weights filler", "estimate low high n", estimate="share of the differences with "
            "position alone (found in other prompts) that is gone with surprisal held fixed, too"),
        "certainty": _table(
            "A row is how certain predictions are on the model's own text against another.",
            "weights filler against held", "estimate low high p n",
            estimate="mean entropy of the next token on own text over that on the other"),
        "positive_control": _table(
            "A row is a difference of the planted model's own text from what it was given.",
            "given filler statistic", "estimate low high p_any n",
            given="twins of its words, or its own text again"),
    }  # fmt: skip
    reading: ClassVar[Reading] = Reading(
        causal="partly: the text after a prompt is exchanged; nothing inside the model is changed",
        assumes="own and given text differ in position, surprisal and history alone, apart from "
        "who wrote them, and these act linearly",
        stressed="whether surprisals overlap enough to be held fixed, and whether words alone "
        "explain a difference (random weights read the same texts); linearity is not tested",
        not_shown="that the model knows what it wrote: the state of a token is the same whether "
        "it was just written or is given",
    )

    def measure(self, model: "Model") -> Results:
        """Write and read every filler, read them in random models, compare; then the control."""
        study = own_text.OwnText(self._prompts(model), self.seed, self.batch_size, self.stream)
        own = study.written(model)
        twins = study.in_twins(self.twins(model, RANDOM_MODELS), RANDOM_MODELS, own)
        return Results(study.tables(model, own, twins, planted_dialect()))

    def headline(self, results: Results) -> str:
        """Whether own text differs at the same position and surprisal, and in what."""
        control, said = _control_claim(results.tables["positive_control"]), {}
        found = [_difference(results, filler, MAIN, control) for filler in OWN]
        for claim, name in zip(found, OWN.values(), strict=True):
            said.setdefault(_said(claim), []).append(f"own {name}")
        verdicts = {claim.verdict for claim in found}
        told = "Yes" if "holds" in verdicts else "No" if verdicts == {"fails"} else "Not decided"
        parts = "; ".join(f"{' and '.join(names)} {what}" for what, names in said.items())
        certain = [self._certain(results, filler) for filler in OWN]
        known = [claim for claim in certain if claim.verdict in ("holds", "fails")]
        return f"{told}, with position and surprisal held fixed: {parts}." + "".join(
            f" At the same surprisal, the entropy of the next token on its own {claim.label} was "
            f"{claim.estimate:.2f} [{claim.low:.2f}, {claim.high:.2f}] of that on "
            f"{(REPLY if self.other_model else GIVEN)[1]}."
            for claim in known[-1:]
        )

    def claims(self, results: Results) -> list[Claim]:
        """Whether own text differs; whether surprisal explains it; the control, the identities."""
        control = _control_claim(results.tables["positive_control"])
        about = [(filler, held) for filler in OWN for held in list(fillers.CONTROLS)[1:]]
        return [
            *(_difference(results, *each, control) for each in about),
            *(_explained_claim(results, filler) for filler in OWN),
            *corrected([self._certain(results, filler) for filler in OWN], decide=f"more {MORE}"),
            control,
            *self._identities(results.tables["identity"]),
        ]

    def figures(self, results: Results) -> dict[str, Drawing]:
        """Effects beside random weights, tokens along the text, the control, and layers."""
        tables = results.tables
        drawn = _effect_figures(tables) | _certainty_figure(tables["certainty"])
        return drawn | _text_figures(tables["tokens"]) | _layer_figures(tables)

    def _prompts(self, model: "Model") -> list[replies.Prompt]:
        """Prompts with what they are followed by, but for the model's own text."""
        if model.card.arithmetic and not (self.prompts or self.prompts_file):
            found = replies.additions_answered(model, self.additions, self.seed)
        else:
            texts, first = (self.prompts, self.prompts_file, self.count), self.given_tokens
            found = replies.passages_cut(model, *texts, first, first + self.new_tokens)
        return replies.answered_by(self.other_model, model, found, self.device)

    def _certain(self, results: Results, filler: str) -> Claim:
        """That the next token is less open on own text, as surprising tokens just read."""
        against, name, shared = REPLY if self.other_model else GIVEN
        rows = own_text_rows.certainty_of(results.tables["certainty"], filler, against)
        return Claim.mechanical(
            f"On its own {OWN[filler]} the model is more certain of the next token than on {name}, "
            "the surprisal of the token just read held fixed.",
            None if np.isnan(rows.loc["own", "low"]) else rows.loc["own"], below=1.0,
            **_if_alike(results, filler, shared),
            null=rows.drop(index="own")["estimate"].mean(), reported=LOWER,
            null_note="random weights that read the same texts, at the model's own surprisals",
            unit="entropy of the next token on own text, as a share of that on the other",
            needs="5 prompts or more, and texts that share a range of surprisal",
            family="The next token is more certain on own text", label=OWN[filler],
        )  # fmt: skip

    def _identities(self, rows: pd.DataFrame) -> list[Claim]:
        """That states while writing are those of one pass over what was written."""
        within, states = TOLERANCE[self.dtype], rows[list(STATISTICS)].max(axis=1)
        return [
            Claim.identity(
                f"A token's {what} the same whether it was just written or is given.", errors,
                within=within, unit=f"largest difference, {unit}; tolerance {within:g}",
            )
            for what, errors, unit in (
                ("states look", states, "share of a statistic's size"),
                ("predictions are", rows["log_p"], "log-probability (nats)"),
            )
        ]  # fmt: skip


def _difference(results: Results, filler: str, control: str, sure: Claim) -> Claim:
    """That a statistic differs, and more so (or the other way) than in each random model.

    `p` is the larger of all p_any, which are corrected over statistics, and is then corrected
    over these claims (Bonferroni: CLAIMS).
    """
    about = f"filler == {filler!r} and control == {control!r}"
    rows = results.tables["effects"].query(about).set_index("statistic")
    random = results.tables["against_random"].query(about)
    names = " and ".join(control.rsplit(", ", 1))
    tell = partial(
        Claim.mechanical,
        f"Inside, the model's own {OWN[filler]} differs from given text, with {names} held fixed.",
        family="Own text differs inside from given text", label=f"{OWN[filler]}, {names} fixed",
    )  # fmt: skip
    if rows.empty:
        return tell(None, needs="a model whose statistics vary from token to token")
    best, null = fillers.clearest(rows, random, CLAIMS)
    shared = results.tables["fillers"].set_index("filler").loc[filler, "overlap"]
    return tell(
        best, **_judged(rows, best, shared, sure), null=null,
        null_note=f"{random_models(RANDOM_MODELS)}, which read the same texts; by itself "
        f"a difference of {best['detectable']:.2f} would be found in four of five cases",
        unit=f"standard deviations of {spaced(best.name)}, the clearest of {len(rows)} statistics",
    )  # fmt: skip


def _judged(rows: pd.DataFrame, chosen: pd.Series, shared: float, sure: Claim) -> dict[str, Any]:
    """What decides on a difference: it fails where all surely lie within BOUND."""
    if sure.verdict != "holds":  # nothing is told by a method that misses what was planted
        return {"verdict": "undecided", "decide": "a method whose positive control holds"}
    if shared < LEAST_OVERLAP:  # nor by texts of which surprisal cannot be held fixed
        why = f"texts that are as surprising as each other (surprisals overlap by {shared:.2f}; "
        why += f"{LEAST_OVERLAP:g} is needed to hold them fixed)"
        return {"verdict": "undecided", "decide": why}
    holds = bool(chosen["p"] <= LEVEL and (chosen["low"] > 0 or chosen["high"] < 0))
    p_fails = min(1.0, CLAIMS * luck_outside(rows, above=-BOUND, below=BOUND).max())
    why = WORDS_ALONE if rows["p_any"].min() * CLAIMS <= LEVEL else LUCK
    return {"holds": holds, "p_fails": p_fails, "decide": why}


def _said(claim: Claim) -> str:
    """What the headline says of own text."""
    if claim.verdict == "holds":
        return f"differed from given text by {claim.estimate:+.2f} {claim.unit.split(',')[0]}"
    if claim.verdict == "fails":
        return f"differed from given text by less than {BOUND:g} standard deviations throughout"
    needs = claim.decide or claim.needs
    return OPEN.get(needs, f"could not be compared with given text; it takes {needs}")


def _if_alike(results: Results, filler: str, shared: str) -> dict[str, str]:
    """What would decide a claim, which nothing does where surprisals hardly overlap."""
    covered = results.tables["fillers"].set_index("filler").loc[filler, shared]
    if covered >= LEAST_OVERLAP:
        return {"decide": f"more {MORE}"}
    told = f"texts whose surprisals overlap by {LEAST_OVERLAP:g} or more (here {covered:.2f})"
    return {"verdict": "undecided", "decide": told}


def _explained_claim(results: Results, filler: str) -> Claim:
    """That holding surprisal fixed takes away more than half of a difference that is there."""
    rows = results.tables["explained"].query("filler == @filler").set_index("weights")
    effects = results.tables["effects"].query("filler == @filler and control == 'position'")
    there = "own" in rows.index and effects["p_any"].min() <= LEVEL
    random = rows.drop(index="own", errors="ignore")["estimate"]
    return Claim.mechanical(
        f"Surprisal explains more than half of how the model's own {OWN[filler]} differs inside "
        "from given text.", rows.loc["own"] if there else None, above=MOSTLY,
        **_if_alike(results, filler, "overlap"),
        needs="texts in which own and given text differ at the same position by more than luck",
        null=random.mean() if there and len(random) else None,
        null_note="random weights that read the same texts, surprisals as the model's own",
        unit="share of the differences with position alone held fixed that is gone with surprisal "
        f"held fixed, too; threshold {MOSTLY:g}, below 0 they grow",
        family="Surprisal explains more than half of the difference", label=OWN[filler],
    )  # fmt: skip


def _control_claim(rows: pd.DataFrame) -> Claim:
    """That the planted difference is found, and that none is between two texts of one origin."""
    control = own_text.control_found(rows)
    return Claim.mechanical(
        "In a planted model that attends to its own words the method finds the difference, with "
        "surprisal held fixed, and finds none between two texts that this model wrote.",
        Estimate(control.planted, np.nan, np.nan, int(rows["n"].iloc[0])), null=control.same,
        null_note="largest of all statistics between its own texts, "
        f"{'found in none' if control.quiet else 'found where there is nothing'}",
        unit="standard deviations of attention on what follows, the smaller of two: of likeliest "
        "and of sampled text",
        verdict="holds" if control.found and control.quiet else "fails", check=True,
    )  # fmt: skip


def _effect_figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, Drawing]:
    return {
        "How each text differs from given text": bars(
            own_text_rows.with_held(tables["effects"]), "statistic", APART, series="filler",
            facet="held", reference=0,
            caption="Differences from given text at the same positions after the same prompts, in "
            "standard deviations of tokens at the same position. What goes away from one panel to "
            "the next is explained by what is held fixed in addition, and what appears was hidden "
            "by it. 95 % intervals over prompts.",
        ),
        "Beside random weights": bars(
            own_text_rows.beside_random(tables), "statistic", APART, series="weights",
            facet="text", reference=0,
            caption="The same differences of the model's own text, position and surprisal held "
            "fixed, beside models with random weights that read the very same texts: what they "
            "show too lies in the words, not in who wrote them.",
        ),
    }  # fmt: skip


def _certainty_figure(rows: pd.DataFrame) -> dict[str, Drawing]:
    """Entropy on own text over that on given and other text, beside random weights."""
    if (shown := own_text_rows.certainty_in_words(rows)).empty:
        return {}
    return {
        "How certain the next token is": bars(
            shown, "pair", TIMES, series="weights", facet="held", reference=1,
            caption="Mean entropy of the next token on the model's own text, as a share of that on "
            "other text: 1 is no difference, below 1 the model is more certain on its own. What "
            "moves to 1 in the second panel is explained by how surprising the token just read "
            "was. Random weights read the same texts. 95 % intervals over prompts.",
        )
    }  # fmt: skip


def _text_figures(tokens: pd.DataFrame) -> dict[str, Drawing]:
    """Means over prompts by filler and position, of long texts a few positions together."""
    surprisal, statistics = own_text_rows.along_text(tokens)
    return {
        "Surprisal along the text": curves(
            surprisal, "token", "surprisal", series="filler",
            caption="Surprisal (nats) of the tokens after the prompt. The model's own text "
            "surprises it least, by construction: any comparison has to hold this fixed.",
        ),
        "Statistics along the text": curves(
            statistics, "token", "mean", series="filler", facet="statistic",
            caption="Each statistic at the tokens after the prompt, less its mean over texts, in "
            "standard deviations; nothing else is held fixed. Of long texts a few tokens together, "
            "beginning at the one given. Bands: 95 % over prompts.",
        ),
    }  # fmt: skip


def _layer_figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, Drawing]:
    """The differences of the planted model, and those of this one layer by layer."""
    layers, control = (in_words(tables[name]) for name in ("layers", "positive_control"))
    figures = {
        "The positive control": bars(
            control.assign(against="against " + control["given"]), "statistic", APART,
            series="filler", facet="against", reference=0,
            caption="A planted model with a head that attends to its own words: against twins of "
            "these words attention on what follows must be found, and between two texts that it "
            "sampled nothing (the likeliest text uses no twins at all and does differ).",
        )
    }  # fmt: skip
    if layers["layer"].nunique() > 1:
        figures["Where in the model"] = heat_map(
            layers.dropna(subset="text"), "statistic", "layer", APART, facet="text",
            diverging=True, label="standard deviations from given text",
            caption="Differences of the model's own text from given text by layer, position and "
            "surprisal held fixed.",
        )  # fmt: skip
    return figures
