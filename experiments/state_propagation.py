"""What would the model go on to say from here?"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from experiments import Claim, Experiment, Reading, Results, Table, UsageError, corrected, percent
from lenses.kept import PerPrompt
from lenses.states.depths import PASSED, after_layers, after_some_layers
from lenses.states.implied import TOLD, Placed, added, worded_cases
from lenses.states.propagation import Read, read_cases, where_read
from lenses.states.propagation_tables import identity_rows, read_tables, written_rows
from lenses.statistics.intervals import share
from lenses.statistics.paired import paired_shares
from models.planted.implied import planted_implied
from prompts.injections import shipped_injections
from viz import Figure, curves, heat_map

if TYPE_CHECKING:
    from models import Model

LEVEL = 0.05
MORE = "words (prompts/injections.toml), or additions (--additions)"
TOLERANCE = {"float32": 1e-5, "float16": 1e-2, "bfloat16": 5e-2}
"""Of an identity, relative."""
READS = {
    "word": "the token whose state it is",
    "implied": "what the token implies",
    "answer": "the answer to a question",
}
"""What is read, in the words of figures."""
SENTENCES = {
    "word": "Put into a prompt that repeats a token, a state from within the model tells its token "
    "more often than the best control does.",
    "implied": "Put into a question, a state from within the model gets the answer that its token "
    "implies more often than the best control does.",
    "answer": "By itself, the state that ends a question tells the answer before the last layer "
    "more often than the best control does.",
}
DOES = {
    "word": "Put into a prompt that repeats a token, a state makes the model say its own token",
    "implied": "Put into a question, it gets the answer that its token implies",
    "answer": "By itself, the state at the end of a question tells the answer before the last "
    "layer",
}
DOES_NOT = {
    "word": "Put into a prompt that repeats a token, a state {} tell its own token more often than "
    "controls do: it does {}.",
    "implied": "Put into a question, it {} get the answer that its token implies more often than "
    "controls do: it does {}.",
    "answer": "By itself, the state that ends a question {} tell the answer before the last layer "
    "more often than controls do: it does {}.",
}
"""For the headline, by what is read."""
NAMES = {
    "own": "own state",
    "another": "control: another text's",
    "shuffled": "control: own, shuffled",
    "none": "control: no state",
    "text": "asked with the token",
    "decoded": "decoded at once",
}
"""Of STATES, in the words of figures."""
SHOWN = 12
"""Cases of each kind whose tokens are drawn."""
MEANS = {
    "told": "what is read: `word`, the token whose state it is; `implied`, what that implies; "
    "`answer`, what the question that the state ends is about to get",
    "case": "number of the case",
    "state": "`own`; `another`: of a text with another answer; `shuffled`: the own numbers in "
    "another order; `none`: the reader's own state; `text`: asked with the token; `decoded`: the "
    "likeliest token of the own state by the readout (logit lens)",
    "layer": "layers that the state has passed where it is taken and put in; 0 is the embedding",
    "control": "the control that is right most often",
}


class StatePropagation(Experiment):
    """A hidden state is put into another text, and the model goes on from there: does it say
    what the state stands for?

    A state is taken after some of the layers and goes on through the others in another text
    (Patchscopes). Three things are read whose right reading is known. A word's state stands in a
    prompt that repeats a word (cat -> cat; 1135 -> 1135; hello -> hello; ? ->), or in a question
    about it (The capital city of ? is called). And the state that ends a question goes on by
    itself, after nothing but the first token of its text. Right is who says the right token first.

    The reader may guess, or know the answer without the state. So three controls are read by the
    same reader: the state of another text with another answer, the same numbers in another order,
    and no state at all. The result is by how many cases the own state beats the best of them,
    paired by case; depths are chosen on one half of the cases and counted on the other.

    An adder reads digits: a digit's state is put into an addition of zero (repeat) or of one
    (question); the state that predicts an answer digit is put into 0 + 0.
    """

    runs_on: ClassVar[str] = "adder 3 s, language model minutes"
    quick: ClassVar[dict[str, Any]] = {"additions": 12, "written": 1}

    model: str = "smollm2"
    """Model: a card's name, a path to a card, folder or .gguf file, or a hub id."""
    batch_size: int = Field(8, ge=1)
    """Cases that are read together."""
    additions: int = Field(48, ge=10)
    """Additions sampled for an adder."""
    depths: int = Field(11, ge=2)
    """Depths at which states are taken, from the embedding to the last layer."""
    written: int = Field(2, ge=1)
    """Cases of each kind from which the model goes on to write."""
    new_tokens: int = Field(5, ge=1)
    """Tokens it writes."""

    tables: ClassVar[Mapping[str, Table]] = {
        "cases": Table.of(
            MEANS,
            "A row is a state whose right reading is known.",
            key="told case",
            group="cases that differ in the token alone: a relation, or a decimal place",
            source="the text whose last state is taken",
            reader="the text into which it is put",
            right="the token that is right",
        ),
        "skipped": Table(
            "A row is a word that was left out.",
            key="word",
            columns={"word": "the word", "why": "why"},
        ),
        "said": Table.of(
            MEANS,
            "A row is what the reader says first.",
            key="told case layer state",
            more="token",
            is_right="whether it is the right token",
        ),
        "shares": Table.of(
            MEANS,
            "A row is how often a kind of state is read rightly at one depth.",
            key="told layer state",
            more="accuracy low high n",
        ),
        "excess": Table.of(
            MEANS,
            "A row is by how much the own state is right more often than the best control.",
            key="told layer",
            more="low high n p q",
            control=MEANS["control"],
            estimate="difference of the two shares, paired by case",
        ),
        "held_out": Table.of(
            MEANS,
            "A row is a case at the depth that is best in the other half of the cases.",
            key="told case",
            more="layer control",
            own="whether the own state is right",
            best_control="whether that control is",
            text="whether the model is, asked with the token itself",
            decoded="whether the own state is, decoded at once",
        ),
        "written": Table.of(
            MEANS,
            "A row is what the model goes on to write.",
            key="told case layer state",
            reader="the text into which the state is put",
            text="what it writes",
        ),
        "identities": Table.of(
            MEANS,
            "A row is a case in which something that must be exact was tried.",
            key="told identity case",
            identity="`back`: the first eight cases, a state is put back where it stood; `last`: "
            "answers, the state after the last layer says what the whole text says",
            error="`back`: largest relative error of logits; `last`: 0 where it says the same "
            "token, 1 where not",
        ),
    }
    reading: ClassVar[Reading] = Reading(
        causal="yes: a state is put into another text and what is said is read",
        assumes="the reader takes the state for what stands there; what it says first is its "
        "reading; the shipped words stand for others",
        stressed="that the reader guesses: the same with another text's state, with shuffled "
        "numbers and with none; that depths were picked by looking: counted on the other half",
        not_shown="that a state holds what its token implies: the reader may know the answer once "
        "it knows the token, as it does when asked with the token itself",
    )

    def measure(self, model: "Model") -> Results:
        """What is said with every state at every depth; then some go on to write."""
        cases, skipped = self._cases(model)
        depths = np.unique(
            np.linspace(0, model.cfg.n_layers, self.depths).round().astype(int)
        ).tolist()
        within = {told: depths if told == "answer" else depths[:-1] for told in TOLD}
        read = self._read(model, cases, within)
        tables: dict[str, list[pd.DataFrame]] = {}
        for told in TOLD:
            mine, at = cases[told], within[told]
            found = read_tables(model, mine, read[told], at)
            how = (range(self.written), at, self.seed, self.new_tokens)
            found["written"] = written_rows(model, mine, *how)
            found["identities"] = identity_rows(read[told], told)
            for name, rows in found.items():
                tables.setdefault(name, []).append(rows.assign(told=told))
        joined = {name: pd.concat(rows, ignore_index=True) for name, rows in tables.items()}
        return Results(joined | {"skipped": pd.DataFrame(skipped)})

    def _cases(self, model: "Model") -> tuple[dict[str, list[Placed]], list[dict[str, str]]]:
        """Cases by what is read, and the words that were left out."""
        skipped: list[dict[str, str]] = []
        if model.card.arithmetic is not None:
            try:
                found = added(model.card.arithmetic, self.additions, self.seed)
            except ValueError as error:
                raise UsageError(f"{model.card.name}: {error}; take a padded adder") from error
        elif model.tokenizer is None:
            raise UsageError(f"{model.card.name} reads no text; take a language model")
        else:
            found, skipped = worded_cases(model, shipped_injections())
            if len(found) < 3 * SHOWN:
                raise UsageError(
                    f"{model.card.name}: its tokenizer writes only {len(found) // 3} of the words "
                    "as one token; take another language model"
                )
        return {told: [one for one in found if one.told == told] for told in TOLD}, skipped

    def _read(
        self, model: "Model", cases: Mapping[str, list[Placed]], within: Mapping[str, list[int]]
    ) -> dict[str, Read]:
        """What is said about every case, a few at a time."""
        kept = {told: PerPrompt() for told in TOLD}
        parts = [
            (told, list(range(len(cases[told])))[start : start + self.batch_size])
            for told in TOLD
            for start in range(0, len(cases[told]), self.batch_size)
        ]
        for told, chosen in self.stream(parts, kept.values(), "reading states"):
            found = read_cases(model, cases[told], chosen, within[told], self.seed)
            kept[told].update(**vars(found))
        names = ("put", "decoded", "none", "text", "error")
        return {told: Read(*(kept[told][name] for name in names)) for told in TOLD}

    def headline(self, results: Results) -> str:
        """What is read of states, how often, from where to where, and what the controls say."""
        _, _, *claims = self.claims(results)
        told = [self._in_short(results, name, claims[number]) for number, name in enumerate(TOLD)]
        said = (
            f"{told[0]} {told[1]} Asked with the token itself, the model answers "
            f"{percent(claims[3].estimate)}: so the model may know this of the token, and not read "
            f"it in the state. {told[2]}"
        )
        if results.tables["cases"]["group"].iloc[0].startswith("place "):
            said += " In an adder the token is a digit, and what it implies is the next digit."
        return said

    def _in_short(self, results: Results, told: str, claim: Claim) -> str:
        rows = results.tables["excess"].query("told == @told")
        best = results.tables["held_out"].query("told == @told")
        beyond = rows.loc[(rows["q"] <= LEVEL) & (rows["estimate"] > 0), "layer"].tolist()
        share, control = (percent(best[name].mean()) for name in ("own", "best_control"))
        layer = best["layer"].mode().iloc[0]
        when = after_layers(layer) if layer else "before the first layer"
        found = f"in {share} of cases (state {when}; best control: {control})"
        if claim.verdict != "holds" or not beyond:
            shown = "does not" if claim.verdict == "fails" else "is not shown to"
            return DOES_NOT[told].format(shown, found)
        if min(beyond) == max(beyond):
            return f"{DOES[told]} {found}."
        ahead = f"ahead of all controls {after_some_layers(min(beyond), max(beyond))}"
        return f"{DOES[told]} {found}; {ahead}."

    def claims(self, results: Results) -> list[Claim]:
        """Two identities; what is told beyond the controls; what the model knows when asked."""
        tables = results.tables
        within, rows = TOLERANCE[self.dtype], tables["identities"].set_index("identity")["error"]
        learned = [self._told(tables["held_out"].query("told == @told"), told) for told in TOLD]
        held = tables["held_out"].query("told == 'implied'")
        wrong = held[~held["text"].astype(bool)]
        return [
            Claim.identity(
                "A state that is put back where it stood changes no prediction.",
                rows[rows.index == "back"],
                within=within,
            ),
            Claim.identity(
                "After the last layer, the state alone says what the whole text says.",
                rows[rows.index == "last"],
                within=0,
                unit="0 where it says the same token, 1 where not",
            ),
            *corrected(learned, MORE),
            Claim.descriptive(
                "Asked with the token itself, the model gives this share of the answers that "
                "tokens imply.",
                share(int(held["text"].sum()), len(held)),
                unit="share of cases",
            ),
            Claim.descriptive(
                "Of the answers that the model does not give when asked with the token itself, a "
                "state gets this share.",
                share(int(wrong["own"].sum()), len(wrong)),
                unit="share of cases",
            ),
            Claim.descriptive(
                "A prompt that repeats a token tells it more often than decoding the same state at "
                "once does, by this share.",
                self._difference(tables["held_out"].query("told == 'word'"), "decoded"),
                unit="share of cases, own state read less decoded",
            ),
        ]

    def _told(self, rows: pd.DataFrame, told: str) -> Claim:
        """That the own state beats the best control, where neither was chosen."""
        most = NAMES[rows["control"].mode().iloc[0]].removeprefix("control: ")
        control = rows["best_control"].mean()
        return Claim.learned(
            where_read(SENTENCES[told], rows["layer"]),
            self._difference(rows, "best_control"),
            above=0.0,
            null=0.0,
            null_note=f"as often as the best control, right in {percent(control)} ({most}); read "
            f"{after_layers(*rows['layer'])}, chosen on the other half of the cases",
            unit="share of cases, own state less best control",
            family="What is told of a state",
            label=READS[told],
            more=MORE,
        )

    def _difference(self, rows: pd.DataFrame, other: str) -> Any:
        own, control = (rows[name].to_numpy(bool) for name in ("own", other))
        return paired_shares(own, control)

    def figures(self, results: Results) -> dict[str, Figure]:
        """Shares by depth beside controls; the excess; what is said, and gone on to be written."""
        return {
            **_share_figures(results.tables),
            **{f"What is said: {READS[told]}": _said_figure(results.tables, told) for told in TOLD},
            "What the model goes on to write": _written_figure(results.tables["written"]),
        }

    def planted(self) -> "Model":
        """A model that repeats words and knows what they imply, from the middle layer on."""
        return planted_implied(seed=self.seed)


def _share_figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, Figure]:
    named, excess = (
        tables[name]
        .rename(columns={"layer": PASSED, "estimate": "difference"})
        .assign(read=tables[name]["told"].map(READS))
        for name in ("shares", "excess")
    )
    named["state"] = named["state"].map(NAMES)
    return {
        "How often a state tells it": curves(
            named, PASSED, "accuracy", series="state", facet="read",
            caption="Share of cases in which the reader says the right token first, by how many "
            "layers the state has passed. What counts is the distance of its own state from the "
            "state of another text, from shuffled numbers and from no state. Before the first "
            "layer a state is its token; after the last it is what the model predicts anyway. "
            "Bands: 95 %.",
        ),
        "Beyond the best control": curves(
            excess, PASSED, "difference", facet="read", reference=0.0,
            caption="How much more often the own state is right than the control that is best "
            "there, paired by case. Bands: 95 %.",
        ),
    }  # fmt: skip


def _said_figure(tables: Mapping[str, pd.DataFrame], told: str) -> Figure:
    cases = tables["cases"].query("told == @told")
    few = cases.iloc[:: max(1, len(cases) // SHOWN)].head(SHOWN)
    said = tables["said"].query("told == @told and state == 'own'").merge(few, on="case")
    said = said.rename(columns={"layer": PASSED})
    named = said["right"].str.strip() + " · " + (said["case"] + 1).astype(str)
    return heat_map(
        said.assign(right_reading=named, is_right=said["is_right"].astype(float)),
        "right_reading", PASSED, "is_right", text="token", low=0, high=1,
        label="the right token (1) or not (0)",
        caption=f"What is said first of some cases' own states: {READS[told]}. Rows: the right "
        "reading and the case; columns: layers passed.",
    )  # fmt: skip


def _written_figure(written: pd.DataFrame) -> pd.DataFrame:
    first = written[written["case"] == 0]
    return pd.DataFrame(
        {
            "read": first["told"].map(READS),
            "state": first["state"].map(NAMES),
            PASSED: first["layer"],
            "text with the state": first["reader"],
            "what is written": first["text"],
        }
    ).reset_index(drop=True)
