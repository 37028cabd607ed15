"""What changes when a state is made to say another word?"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from experiments import Claim, Experiment, Reading, Results, Table, corrected, percent
from lenses.kept import PerPrompt
from lenses.states.depths import PASSED, after_layers, after_some_layers
from lenses.states.implied import Question, asked_questions, shown
from lenses.states.injection import (
    OUTCOMES,
    PLACES,
    WAYS,
    Injected,
    held_out_rows,
    inject,
    outcomes,
    readout_errors,
    said_rows,
    success,
    text_errors,
)
from lenses.states.propagation import eligible, where_read
from lenses.statistics.against_random import against_twins
from lenses.statistics.intervals import bootstrap, share
from lenses.statistics.paired import paired_shares
from models.planted.implied import planted_implied
from models.text import token_strings
from viz import Figure, curves, heat_map

if TYPE_CHECKING:
    from models import Model

RANDOM_MODELS = 4
"""Models of the same shape with fresh weights, which may say a token that is put in as well."""
MOST = 0.05
"""Share of questions in which a random token may produce the target."""
EXACT = {"float32": 1e-5, "float16": 1e-2, "bfloat16": 5e-2}
"""Of identities, relative."""
MORE = "questions (--count), or additions (--additions)"
SCALED = "same length"
IN_WORDS = {
    "replace": "embedding",
    "same length": "embedding, same length",
    "main component": "main component",
    "state": "other token's state",
}
AT = {"subject": "at the token asked about", "last": "at the last token"}
SAID = {
    "implied": "predicts what the token implies",
    "word said": "predicts the token itself",
    "implied by random": "predicts that after a random token",
}
"""Outcomes that are drawn."""
IMPLIED = "the answer that the other token implies comes more often than after a random or no one."
SENTENCES = {
    "replace": "Where another token's embedding replaces the token asked about within the model, "
    f"{IMPLIED}",
    "same length": "Where the other token's embedding has the length of the state that it "
    f"replaces, {IMPLIED}",
    "main component": "Where only the direction of the likeliest token is exchanged for that of "
    f"another token, {IMPLIED}",
    "state": "Where the state that another token has there replaces that of the token asked about, "
    f"{IMPLIED}",
}
SHOWN = 12
COLUMNS = {
    "case": "number of the question",
    "group": "a relation, or a decimal place",
    "text": "the question",
    "answer": "its own answer",
    "says": "what the model says when nothing is changed",
    "word": "the token that is put in: a word, or a digit",
    "random": "the random token",
    "readout_error": "logits against norm(token) times U where the last state is replaced: largest "
    "difference over the largest logit",
    "text_error": "relative difference of logits from those of the text with the token, where it "
    "is put in before the first layer",
    "at": "`subject`: the token that the question is about; `last`: the token that predicts the "
    "answer",
    "way": "`replace`: by the other token's embedding; `same length`: the same, as long as what it "
    "replaces; `main component`: only the readout direction of the likeliest token is exchanged; "
    "`state`: by the state that the other token has there",
    "layer": "layers that the state has passed where it is changed; 0 is the embedding",
    "put": "`word`, or `random` for the control",
    "outcome": "`implied`: the target is said; `word said`: the token itself; `implied by random`: "
    "the target, after a random token; `random said`: the random token",
    "estimate": "share of questions",
    "control": "the better control: `random` token, or `none` put in",
    "implied": "whether the target is said",
    "best_control": "whether it is in that control",
    "word_said": "whether the token that was put in is said",
    "depths_said": "share of depths",
}
_table = partial(Table.of, COLUMNS)


class TokenInjection(Experiment):
    """In a question about one word (such as the capital of France), its state is made to say
    another (Japan): does the answer follow?

    The question is about France (The capital city of France is called), the other word is Japan.
    France's state, or the state of the last token, is changed after some of the layers, in four
    ways: it is replaced by Japan's embedding; by the same at the length of the old state; only its
    main component is exchanged, that is the readout direction of the token that the state decodes
    to, for that of Japan; and, for comparison, it is replaced by the state that Japan has there.

    Two outcomes are kept apart: the model says the word (Japan), or what it implies (Tokyo, the
    target). Controls: a random word (table) is put in the same way, and nothing is put in. Depths
    are chosen on one half of the questions and counted on the other.

    An adder is asked about a digit of the first number. Another digit implies another digit of the
    answer, by integer arithmetic; a third digit is the random word.
    """

    runs_on: ClassVar[str] = "adder 3 s, language model minutes"
    quick: ClassVar[dict[str, Any]] = {"additions": 12}

    model: str = "smollm2"
    """Model: a card's name, a path to a card, folder or .gguf file, or a hub id."""
    batch_size: int = Field(6, ge=1)
    """Questions that are asked together."""
    count: int = Field(36, ge=10)
    """Questions that a language model is asked, of those whose answer is of one word alone."""
    additions: int = Field(80, ge=10)
    """Additions sampled for an adder."""
    depths: int = Field(9, ge=2)
    """Depths at which states are changed, from the embedding to the last layer."""

    tables: ClassVar[Mapping[str, Table]] = {
        "questions": _table(
            "A row is a question and the token that is put in.",
            "case",
            "group text answer says word implied random readout_error text_error",
            implied="what that token implies: the target",
        ),
        "said": _table(
            "A row is what the model says after a state is changed.",
            "case at layer way put",
            "token",
        ),
        "success": _table(
            "A row is how often an outcome comes about.",
            "at layer way outcome",
            "estimate low high n",
        ),
        "held_out": _table(
            "A row is a question at the depth that is best in the other half of the questions.",
            "at way case",
            "layer control implied best_control word_said",
        ),
        "against_random": _table(
            "A row is at how many depths within the model the token is said whose embedding, at "
            "equal length, replaces the last state.",
            "weights case",
            "depths_said",
        ),
    }
    reading: ClassVar[Reading] = Reading(
        causal="yes: a state is changed and what the model says is read",
        assumes="the embedding of a token stands for it also in later layers, which is what is put "
        "to the test; the questions stand for others",
        stressed="that anything put in would do: random tokens in the same way; that the place is "
        "wrong: the other token's own state; that depths were picked by looking: the other half",
        not_shown="that a token which changes nothing is not in the state: an embedding may be no "
        "form in which later layers look for it",
    )

    def measure(self, model: "Model") -> Results:
        """Every question with every change; then random models, the last state replaced."""
        asked = asked_questions(model, self.count, self.additions, self.seed, least=SHOWN)
        layers = model.cfg.n_layers
        depths = np.unique(np.linspace(0, layers, self.depths).round().astype(int)).tolist()
        kept, within = self._inject(model, asked, depths), eligible(depths, layers)
        found = Injected(kept["said"], kept["own"])
        right = outcomes(found, asked)
        own = found.own == np.array([one.implied for one in asked])
        said = right[:, PLACES.index("last"), :, WAYS.index(SCALED), OUTCOMES.index("word said")]
        return Results(
            {
                "questions": _question_rows(model, asked, kept),
                "said": said_rows(model, found, depths),
                "success": success(right, depths),
                "held_out": held_out_rows(right, own, depths, within),
                "against_random": self._against_random(
                    model, asked, said[:, within], [depths[depth] for depth in within]
                ),
            }
        )

    def _against_random(
        self, model: "Model", asked: Sequence[Question], own: np.ndarray, depths: Sequence[int]
    ) -> pd.DataFrame:
        """At how many of some depths the token is said at the last one; then in random models."""
        rows, words = [_depth_rows("own", own)], np.array([one.word for one in asked])[:, None]
        for number, twin in enumerate(self.twins(model, RANDOM_MODELS)):
            label = f"random weights {number + 1}/{RANDOM_MODELS}"
            theirs = self._inject(twin, asked, depths, ("last",), (SCALED,), label)
            is_said = theirs["said"][:, 0, :, 0, 0] == words
            rows.append(_depth_rows(f"random {number}", is_said))
        return pd.concat(rows, ignore_index=True)

    def _inject(
        self,
        model: "Model",
        asked: Sequence[Question],
        depths: Sequence[int],
        places: Sequence[str] = PLACES,
        ways: Sequence[Any] = WAYS,
        label: str = "changing states",
    ) -> PerPrompt:
        """What is said about every question, and the errors of what must be exact."""
        kept = PerPrompt()
        for batch in self.stream(asked, kept, label, size=self.batch_size):
            found = inject(model, batch, depths, places, ways)
            kept.update(
                said=found.said,
                own=found.own,
                readout_error=readout_errors(model, batch),
                text_error=text_errors(model, batch),
            )
        return kept

    def headline(self, results: Results) -> str:
        """Where and how another token changes the answer, and where it is said itself."""
        keys = ["at", "way", "outcome", "layer"]
        rows = results.tables["success"].set_index(keys).sort_index()
        best = results.tables["held_out"].query("at == 'subject'")
        within = best.groupby("way")["implied"].mean().map(percent)
        state, random = (rows.loc["subject", "state", o] for o in ("implied", "implied by random"))
        beyond = state.index[state["low"] > random["high"]]
        depths = after_some_layers(beyond.min(), beyond.max()) if len(beyond) else ""
        until = f"; the exchange beats a random token {depths}" if depths else ""
        control = best.query("way == 'state'")["best_control"].mean()
        first = rows.loc["subject", "replace", "implied"]["estimate"]
        last = rows.xs(("last", "word said"), level=("at", "outcome"))["estimate"]
        inside = f", and in {within['replace']} within the model" if best["layer"].max() else ""
        said = (
            "With another token's state in place of that of the token asked about, the answer is "
            f"the other token's in {within['state']} of questions (best control "
            f"{percent(control)}). The layer of the exchange was chosen on other "
            f"questions{until}. The other token's embedding does the same in "
            f"{percent(first[0])} before the first layer{inside}; put at the last token, at the "
            f"best layer, it makes the model predict the other token itself in "
            f"{percent(last.max())}."
        )
        if results.tables["questions"]["group"].iloc[0].startswith("place "):
            said += " In an adder these tokens are digits of the first number."
        return said

    def claims(self, results: Results) -> list[Claim]:
        """Two identities, a check of the control, what is implied, and what is said."""
        tables, exact = results.tables, EXACT[self.dtype]
        best = tables["held_out"].query("at == 'subject'")
        learned = [self._implied(best[best["way"] == way], way) for way in WAYS]
        return [
            Claim.identity(
                "Where a token replaces the last state, the logits are norm(embedding) times U.",
                tables["questions"]["readout_error"],
                within=exact,
            ),
            Claim.identity(
                "Put in before the first layer, a token does what the text with that token does.",
                tables["questions"]["text_error"],
                within=exact,
            ),
            self._random_words(tables),
            *corrected(learned, MORE),
            self._is_said(tables["against_random"], best["layer"]),
            Claim.descriptive(
                "At the token asked about, the token that replaces it is itself predicted in this "
                "share of questions.",
                _share(best[best["way"] == "replace"]["word_said"]),
                unit="share of questions",
            ),
        ]

    def _implied(self, rows: pd.DataFrame, way: str) -> Claim:
        """That the target is said more often than in the better control."""
        own, control = (rows[name].to_numpy(bool) for name in ("implied", "best_control"))
        return Claim.learned(
            where_read(SENTENCES[way], rows["layer"]),
            paired_shares(own, control),
            above=0.0,
            null=0.0,
            null_note="as often as with the better of a random token and no change, where it is "
            f"said in {percent(control.mean())}; changed {after_layers(*rows['layer'])}, chosen on "
            "the other half of the questions",
            unit="share of questions, target said less control",
            family="Another token, another answer",
            label=IN_WORDS[way],
            more=MORE,
        )

    def _random_words(self, tables: Mapping[str, pd.DataFrame]) -> Claim:
        """That a random token does not produce the target, over all depths and ways."""
        said = (
            tables["said"]
            .query("at == 'subject'")
            .merge(tables["questions"][["case", "implied"]], on="case")
        )
        hit = (said["token"] == said["implied"]).groupby([said["put"], said["case"]]).mean()
        return Claim.mechanical(
            f"Random tokens, put in at the token asked about, produce the target in under "
            f"{percent(MOST)} of changes.",
            bootstrap(hit["random"].to_numpy(), self.seed).within(0, 1),
            below=MOST,
            null=float(hit["word"].mean()),
            null_note="the other token itself in the same ways and at the same depths",
            unit="share of changes after which the target is said",
            check=True,
            more=MORE,
        )

    def _is_said(self, rows: pd.DataFrame, layers: pd.Series) -> Claim:
        """That trained weights say the token that replaces the last state at more depths."""
        found = against_twins(rows, "case", "depths_said", self.seed)
        said = "A token whose embedding, at equal length, replaces the last token's state within "
        said += "the model is predicted at more depths than with random weights."
        return Claim.mechanical(
            where_read(said, layers),
            found,
            above=0.0,
            null=float(found.random.mean()),
            null_note=found.note,
            unit=where_read("share of depths within the model at which it is predicted", layers),
            decide=f"more {MORE}",
        )

    def figures(self, results: Results) -> dict[str, Figure]:
        """Success by depth, place and way; what is said; where nothing is changed."""
        tables = results.tables
        drawn = tables["success"][tables["success"]["outcome"].isin(SAID)]
        named = drawn.assign(
            outcome=drawn["outcome"].map(SAID),
            change=drawn["way"].map(IN_WORDS),
        ).rename(columns={"layer": PASSED, "estimate": "share"})
        named = named.iloc[(drawn["way"] != "state").argsort(kind="stable")]  # of the headline
        found: dict[str, Figure] = {
            f"What is said after a change {AT[at]}": curves(
                named[named["at"] == at], PASSED, "share", series="outcome", facet="change",
                caption="Share of questions after which the model predicts what the token that was "
                "put in implies (the target), or that token, or the target after a random token, "
                "by how many layers the changed state has passed. Bands: 95 %.",
            )
            for at in PLACES
        }  # fmt: skip
        for way in ("replace", "state"):
            found[f"What is said: {IN_WORDS[way]}"] = _said_figure(tables, way)
        return found

    def planted(self) -> "Model":
        """A model that answers from a word's embedding, wherever in its first layers it stands."""
        return planted_implied(seed=self.seed)


def _share(values: pd.Series) -> Any:
    return share(int(values.sum()), len(values))


def _depth_rows(weights: str, said: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"weights": weights, "case": range(len(said)), "depths_said": said.mean(1)})


def _question_rows(model: "Model", asked: Sequence[Question], kept: PerPrompt) -> pd.DataFrame:
    tokens = {
        name: token_strings(model, [getattr(one, name) for one in asked])
        for name in ("answer", "word", "implied", "random")
    }
    told = {
        "case": range(len(asked)),
        "group": [one.group for one in asked],
        "text": [shown(model, one.ids) for one in asked],
        "says": token_strings(model, kept["own"]),
        "readout_error": kept["readout_error"],
        "text_error": kept["text_error"],
    }
    return pd.DataFrame(told | tokens)


def _said_figure(tables: Mapping[str, pd.DataFrame], way: str) -> Figure:
    few = tables["questions"].iloc[:: max(1, len(tables["questions"]) // SHOWN)].head(SHOWN)
    said = tables["said"].query("at == 'subject' and way == @way and put == 'word'")
    said = said.merge(few, on="case").rename(columns={"layer": PASSED})
    named = said["implied"].str.strip() + " · " + (said["case"] + 1).astype(str)
    return heat_map(
        said.assign(target=named, hit=(said["token"] == said["implied"]) * 1.0),
        "target", PASSED, "hit", text="token", low=0, high=1,
        label="the target (1) or not (0)",
        caption="How some questions are answered after a change at the token asked about "
        f"({IN_WORDS[way]}). Rows: the target and the question; columns: layers passed.",
    )  # fmt: skip
