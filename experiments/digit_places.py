"""Does a digit's state carry the word of its decimal place, and do errors follow without it?"""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from experiments import Claim, Experiment, Reading, Results, Table, UsageError, corrected
from lenses.addition.forms import CHOSEN_ON, chosen_form, forms_of
from lenses.digits import edits as shifts
from lenses.digits import probes as place_probes
from lenses.digits import words as decoding
from lenses.digits.carry_flag import beside_random
from lenses.digits.errors import answer_rows, error_rows
from lenses.digits.random_weights import RandomWeights
from lenses.digits.reading import DigitReading, Words, divergence_rows, read_digits
from lenses.digits.texts import texts_of_prompts, texts_of_sums
from lenses.states.depths import PASSED, after_layers, by_passed
from lenses.statistics.against_random import random_models
from lenses.statistics.intervals import luck_outside, share
from models.planted.places import planted_places
from prompts.place_values import PLACE_WORDS, adder_sums, place_prompts
from viz import Drawing, bars, curves, heat_map

if TYPE_CHECKING:
    from models import Model

Tables = Mapping[str, pd.DataFrame]
LEVEL, MOST = 0.05, 0.5
NEGLIGIBLE = 0.25
"""Nats: a word 1.28 times as likely as the others; below it there is no effect worth the name."""
ALIKE = 0.05
"""Accuracies that differ by no more are taken for alike."""
HARDLY = 0.1
"""Log-odds per deviation: what changes errors by no more hardly goes with them."""
TOLERANCE = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 2e-2}
"""Of an identity, relative."""
ADDER_SUMS = 27
"""Additions that an adder is given for each of `per_length`."""
NO_WORDS = "a model with words for units, ten and hundred (--model smollm2): an adder has no words"
BESIDE = ("position in group of three", "place minus group of three", "numbers minus codes",
          "place, random weights")  # fmt: skip
SAID = {
    "announced": ("Digits of numbers whose length is announced", "announced numbers"),
    "generated": ("Digits of answers", "answers"),
}
BEYOND = [f"place beyond {name}" for name in place_probes.JUDGED]
MEANS = {
    "kind": "what the text asks for: addition, copy, words; or a phone number, a year, a code",
    "announced": "whether the text, or the format, tells how long its numbers are",
    "sample": "`prompt`: nothing tells the length; `announced`: told; `generated`: the answer",
    "length": "number of digits of the number",
    "layer": "layers passed, 0 is the embedding",
    "decoder": "what words are read with: the embedding (E), unembedding (U), or U after a ridge",
    "norm": "norm before decoding; centred: the mean state at that depth is subtracted",
    "word": "the word",
    "rank": "rank of the word among the whole vocabulary, from 1",
    "logprob": "log-probability of the word, in nats",
    "score": "log-probability of the place's word minus the mean of the other places' words (nats)",
    "statistic": "what is estimated",
    "decoded_place": "the place whose word comes first",
    "read": "what the probe reads: states, random weights, position and digit, or the control task",
    "train_place": "place of the digits that the probe is trained on",
    "test_place": "place of the digits that it is tested on",
}
"""Columns that are explained neither in the glossary nor in their own table."""


_table = partial(Table.of, MEANS)
LOWEST = "lower end of the 95 % interval; of random weights, the lowest model"
HIGHEST = "upper end of the 95 % interval; of random weights, the highest model"
FORM_PLACES = 3
"""Digits of the sums on which the form of additions is chosen."""
FEWEST_WORDS = 3
"""Decimal places whose word must be one token, to compare one place with others."""


class DigitPlaces(Experiment):
    """The states of digits are read for their decimal place (ten, hundred, thousand), apart from
    where they stand, and beside right and wrong answers.

    A place is known before the number ends only if the text tells it. So digits come in three
    samples: `prompt` (nothing tells how long the number is), `announced` ("nine-digit number"; for
    adders, padded numbers) and `generated` (the right answer, read as if written). Places 0 to 8
    count alike; first tokens are left out. A score is the log-probability of the place's word minus
    the mean of those of the other places' words. Nulls: random words of like frequency, places of
    each length that trade their labels (p: the larger of both, max-T over depths), the same digits
    in codes, and random weights. Errors: logistic regression. Last: shifted states.
    """

    runs_on: ClassVar[str] = "adder 10 s, language model 6 min"
    quick: ClassVar[dict] = {"per_length": 2, "probed": 150, "edits": 12, "random_models": 2}

    model: str = "smollm2"
    """A language model that writes each digit as one token, or an adder."""
    batch_size: int = Field(8, ge=1)
    """Texts in one forward pass."""
    per_length: int = Field(8, ge=2)
    """Prompts of each kind for each length of number."""
    ranked: int = Field(16, ge=1)
    """Prompts whose words are ranked among the whole vocabulary."""
    prefixes: int = Field(3, ge=1)
    """Texts for each number of two digits that one word says."""
    probed: int = Field(800, ge=100)
    """Digits of each sample that probes are fitted to."""
    edits: int = Field(60, ge=2)
    """Texts in which a digit's state is shifted to another place."""
    random_models: int = Field(4, ge=2)
    """Models with random weights that read all texts; each takes as long as the model itself."""

    tables: ClassVar[Mapping[str, Table]] = {
        "answers": _table("A row is a kind of text: how many digits of its answers are right.",
            "kind announced", "n correct accuracy low high"),
        "forms": _table("A row is a form in which sums are asked for; empty for an adder.",
            "form sample", "n correct accuracy low high", sample="`choice`: sums used for nothing "
            "else", form="how a sum is asked for", prompt="the question of 12 + 34 in this form",
            chosen="whether the additions of all other tables are asked in this form"),
        "words": _table("A row is a word looked for; empty for an adder.", "word place role",
            place="the place that the word stands for; -1 for other words",
            role="`place`; `other`: of like frequency; `skipped`: it has several tokens",
            token_id="ids of its forms, with spaces between"),
        "place_words": _table("A row is a digit at one depth and its place's word; some prompts.",
            "prompt pos layer decoder norm",
            "kind token phase sample place length word rank logprob score"),
        "decoded": _table("A row is a digit of the first prompt at one depth.",
            "prompt pos layer decoder norm", "token phase place",
            part="a, b: the numbers given; c: the answer", decoded="the likeliest token as text",
            decoded_id="id of the likeliest token", probability="its probability"),
        "scores": _table("A row is the score of a digit at one depth.",
            "prompt pos layer decoder norm", "kind phase sample place length score"),
        "tests": _table("A row is a mean score at one depth against its nulls.",
            "sample decoder norm statistic layer", "estimate low high q n",
            p_words="p against random words of like frequency",
            p_labels="p against places of each length that trade their labels",
            p="the larger of both, corrected for all depths (max-T); of random weights, that one "
            "more such model scores as high as this one (their low and high: lowest and highest)"),
        "confusion": _table("A row is a place and a place's word, at the depth that scores best.",
            "sample place decoded_place", "layer n",
            share="share of the place's digits to which this word comes first"),
        "errors": _table("A row is a feature of answer digits.", "kind feature", "low high n layer",
            feature="the score within kind, place and length, or another feature",
            estimate="log-odds of a wrong digit per standard deviation of the feature",
            p="one-sided p-value that the log-odds are not negative", wrong="wrong digits among n"),
        "prefix": _table("A row is a two-digit number, its word looked for at its second digit.",
            "prefix decoder norm layer", "word rank n", prefix="the number",
            control_rank="rank of the same word after another first digit",
            lift="log2 of how many times nearer to the first rank it is after its own"),
        "probes": _table("A row is a probe of the place.",
            "sample read layer", "accuracy n",
            balanced="mean accuracy over places", labels="places to choose from",
            low=LOWEST, high=HIGHEST),
        "transfer": _table("A row is a probe of the digit, tested at one place.",
            "weights train_place test_place", "correct n accuracy layer",
            weights="`own`, or `random`: all such models together",
            low=LOWEST, high=HIGHEST),
        "causal": _table("A row is what shifting a digit's state to another place does.",
            "measure direction layer", "low high n",
            measure="`answer`: the answer's digit; `word`: the new place's word against the old's",
            direction="`place`; or of equal length: `other places`, the difference of two places "
            "that the edit is not about, or `random`, a random direction",
            estimate="mean over texts, in nats"),
        "contrasts": _table("A row is a difference that a claim is about.",
            "statistic sample? layer?", "estimate low? high? p? n", null="what it is held against"),
    }  # fmt: skip
    reading: ClassVar[Reading] = Reading(
        causal="shifted states: yes, the answer is read; words, probes and errors: no",
        assumes="the word that a state decodes to is what it carries; mean states stand for places",
        stressed="by other words, traded labels, codes, carries, models with random weights (a "
        "sample), and directions of other places or at random",
        not_shown="that the model uses the word of a place, or errs because it is missing",
    )

    def measure(self, model: "Model") -> Results:
        """Read every text with the model and with its random twins, then test, probe and shift."""
        seed, most, style, forms = self.seed, self.probed, model.card.arithmetic, pd.DataFrame()
        if style is None:
            every = forms_of(model, FORM_PLACES, seed)
            form, forms = chosen_form(model, every, FORM_PLACES, seed, 1, self.stream)
            texts = texts_of_prompts(model, place_prompts(self.per_length, seed, form))
        else:
            texts = texts_of_sums(style, adder_sums(style, ADDER_SUMS * self.per_length, seed))
        words = Words.none() if style else Words.of(model, PLACE_WORDS)
        if style is None and len(words.places) < FEWEST_WORDS:
            raise UsageError(
                f"{model.card.name}: its tokenizer writes the words of {len(words.places)} decimal "
                f"places as one token; it takes {FEWEST_WORDS}: choose another language model"
            )
        how = texts, words, self.batch_size, self.stream
        own = read_digits(model, *how, "reading")
        twins = enumerate(self.twins(model, self.random_models), start=1)
        read = (read_digits(twin, *how, f"random weights {i}") for i, twin in twins)
        random = RandomWeights.of(read, most, seed)
        tables: dict[str, Any] = {name: pd.DataFrame() for name in type(self).tables}
        tables["answers"], tables["forms"] = answer_rows(own), forms
        contrasts = [shifts.reading_ahead(model, texts, own.where)]
        if words.places:
            tables |= self._word_tables(model, own, random)
            contrasts.append(tables["contrasts"])
        else:
            tables["errors"] = error_rows(place_probes.answers_by_probe(own, most, seed), seed)
        tables["probes"], beyond = place_probes.probe_tables(own, random.places, most, seed)
        tables["transfer"], across = place_probes.transfer_tables(own, random.digits, seed)
        how = self.batch_size, self.seed, self.stream
        tables["causal"], moved = shifts.edited_answers(model, own, self.edits, *how)
        every = pd.concat([*contrasts, beyond, across, moved], ignore_index=True)
        return Results(tables | {"contrasts": every.astype({"n": int})})  # also beside empty ones

    def headline(self, results: Results) -> str:
        """Whether digits decode to their place's word (or hold it), and whether errors follow."""
        judged = [claim for claim in self.claims(results) if claim.kind != "descriptive"]
        _, _, *words, errors, _, announced, generated, _, _, _ = judged
        asked, held, said, first = _tested(words), "word", "decode to the word of their place", ""
        if not asked:
            asked, held, said = _tested([announced, generated]), "place", "hold their place"
            first = "this model has no words for places; "
        told = [_in_words(claim, f"digits of {claim.label}", said) for claim in asked]
        told = told or ["position alone tells a digit's place, so probes decide nothing"]
        told.append(_in_words(errors, "errors", f"follow where the {held} is missing"))
        return " ".join(f"{one[0].upper()}{one[1:]}." for one in (first + told[0], *told[1:]))

    def claims(self, results: Results) -> list[Claim]:
        """How well it adds, an identity, seven learned claims, transfer, place against carry."""
        tables, models = results.tables, random_models(self.random_models)
        contrasts = tables["contrasts"]
        found = [
            _adds(tables["answers"], tables["forms"]),
            _reads_left_to_right(contrasts, TOLERANCE[self.dtype]),
            *(_place_word(tables, sample, models) for sample in SAID),
            _errors_follow(tables),
            _prefix_word(contrasts),
            *(_place_beyond(tables, sample, models) for sample in SAID),
            _treated_as_moved(contrasts),
            _digit_across_places(contrasts, models),
            _place_or_carry(tables, models),
        ]
        near = [_by_nearest(tables, sample) for sample in SAID if len(tables["tests"])]
        return corrected(found, "more prompts (--per-length)") + near

    def figures(self, results: Results) -> dict[str, Drawing]:
        """Scores against nulls, words of the first prompt, errors; probes, transfer and shifts."""
        tables, words = results.tables, len(results.tables["tests"])
        drawn = word_figures(tables) | rank_figures(tables) if words else {}
        return drawn | probe_figures(tables) | answer_figures(tables)

    def planted(self) -> "Model":
        """A model whose digits carry their place's word, and are copied, iff it is announced."""
        return planted_places()

    def _word_tables(self, model: "Model", own: DigitReading, random: RandomWeights) -> dict:
        """All that is asked of words; of `contrasts`, those of prefixes and of carries."""
        tests, scores = decoding.word_tests(own, random.words, self.seed), self.rows("scores")
        for frame in decoding.score_rows(own):
            scores.append(frame)
        tables = {"words": own.words.table, "scores": scores, "tests": tests}
        tables["confusion"] = decoding.confusion_rows(own, tests)
        tables["errors"] = error_rows(decoding.answers_by_word(own, tests), self.seed)
        how = self.prefixes, self.seed, self.batch_size, self.stream
        tables["prefix"], prefixes = decoding.prefix_reading(model, own, *how)
        nearest = divergence_rows(model, own, self.stream, self.seed)
        flags = beside_random(own, random.flags, self.seed)
        tables["contrasts"] = pd.concat([prefixes, flags, nearest])
        return tables | self._ranks(model, own)

    def _ranks(self, model: "Model", own: DigitReading) -> dict[str, Any]:
        """Rank of each digit's place word in some prompts, and what the first one decodes to."""
        tables = {name: self.rows(name) for name in ("place_words", "decoded")}
        decoding.append_ranks(model, own, own.some_numbers(self.ranked), tables, self.stream)
        return tables


IN_WORDS = {
    "holds": "{0} {1} ({2})", "fails": "{0} do not {1} ({2})",
    "undecided": "whether {0} {1} is undecided ({2})",
    "not tested": "whether {0} {1} was not tested: too few digits are wrong, or right, to compare",
}  # fmt: skip


def _in_words(claim: Claim, who: str, does: str) -> str:
    amount = "" if claim.estimate is None else f"{claim.estimate:+.2f} {claim.unit}"
    return IN_WORDS[claim.verdict].format(who, does, amount)


def _tested(claims: list[Claim]) -> list[Claim]:
    tested = [claim for claim in claims if claim.verdict != "not tested"]
    return sorted(tested, key=lambda claim: claim.verdict != "holds")


def _of(contrasts: pd.DataFrame, statistic: str) -> pd.DataFrame:
    """The rows of one contrast, the one that stands out most first."""
    rows = contrasts[contrasts["statistic"] == statistic]
    return rows.sort_values(["p", "estimate"], ascending=[True, False])


def _adds(answers: pd.DataFrame, forms: pd.DataFrame) -> Claim:
    """How many digits of its sums are right: what errors are told by, and how far to trust them."""
    sums, asked = answers.query("kind == 'addition'")[["correct", "n"]].sum(), ""
    if len(forms):
        chosen = forms.loc[forms["chosen"], "form"].item()
        asked = f", asked in the form {chosen!r}: none of {len(forms)} was better on {CHOSEN_ON} "
        asked += "other sums"
    return Claim.mechanical(
        "The model adds: after the right ones, it writes more than half of a sum's digits right.",
        share(*sums.tolist()), above=MOST, null=0.1, null_note="a random digit",
        unit=f"share of digits{asked}", decide="more additions (--per-length)",
    )  # fmt: skip


def _reads_left_to_right(contrasts: pd.DataFrame, tolerance: float) -> Claim:
    """No state knows what follows, so none can know a place that only the number's end tells."""
    row = _of(contrasts, "reading ahead").iloc[0]
    claim = Claim.identity(
        "A digit's state is the same whatever follows it: until its number ends, only the text "
        "before it can tell its place.",
        [row["estimate"]], within=tolerance,
    )  # fmt: skip
    return claim.model_copy(update={"n": int(row["n"])})


def _place_word(tables: Tables, sample: str, models: str) -> Claim:
    """The word of a digit's place stands out beyond all nulls, more than in codes."""
    who, label = SAID[sample]
    sentence = f"{who} decode to the word of their place more than to other words or in codes."
    named = {"family": "place word", "label": label}
    tests = tables["tests"]
    best = decoding.best_layer(tests, sample) if len(tests) else None
    here = tests if best is None else tests[tests["layer"] == best["layer"]]
    beside = {x: decoding.best_layer(here, sample, x) for x in BESIDE if len(tests)}
    random, codes = beside.pop("place, random weights", None), beside.get("numbers minus codes")
    if best is None or codes is None:
        return Claim.not_tested("learned", sentence, NO_WORDS, **named)
    scores = tests.query("sample == @sample and statistic == 'place' and decoder == 'U'")
    nowhere = luck_outside(scores[scores["norm"] == CENTRED], below=NEGLIGIBLE).max()
    holds = best["p"] <= LEVEL and best["low"] > 0 and codes["low"] > 0
    first = tables["confusion"].query("sample == @sample and place == decoded_place")["share"]
    return Claim.learned(
        sentence, best, holds=holds, null=0,
        p_fails=float(min(nowhere, luck_outside(codes, below=NEGLIGIBLE))),
        decide=f"more prompts (--per-length): p is {best['p']:.2g}, or an interval spans 0",
        unit=f"nats above the words of other places, {after_layers(best['layer'])}; above the same "
        f"digits in codes, which have no places, {codes['estimate']:+.2f}",
        null_note="random words and traded labels, max-T over depths; "
        + "".join(f"{x} {y.estimate:.2f}; " for x, y in beside.items() if y is not None)
        + f"the last from {codes.low:.2f} to {codes.high:.2f}; "
        f"{models}: {random.low:.2f} to {random.high:.2f}; for "
        f"{first.mean():.2f} of a place's digits its word comes first (chance {1 / len(first):.2f}"
        ")", **named,
    )  # fmt: skip


def _by_nearest(tables: Tables, sample: str) -> Claim:
    """The same by the readout that is nearest to the model's output on texts without numbers."""
    lens, row = decoding.best_by_nearest(tables["tests"], tables["contrasts"], sample)
    return Claim.descriptive(
        f"{SAID[sample][0]}, decoded by {lens}: score of the word of their place.", row,
        unit="" if row is None else f"nats, {after_layers(row['layer'])}",
    )  # fmt: skip


def _errors_follow(tables: Tables) -> Claim:
    """The lower the score of the given digit, the likelier the answer's digit is wrong."""
    sentence = "Errors follow a missing place: after a digit whose place a probe cannot read, the "
    sentence += "answer's next digit is wrong more often."
    if len(tables["tests"]):
        sentence = "Errors follow a missing place word: the less a given digit decodes to its "
        sentence += "place, the more often the answer's digit there is wrong."
    row = tables["errors"].query("feature == 'score'").iloc[0]
    return Claim.learned(
        sentence, row, holds=bool(row["p"] <= LEVEL and row["high"] < 0), null=0,
        p_fails=float(luck_outside(row, above=-HARDLY)),
        needs=f"at least 50 right and 50 wrong digits (there are {row['n'] - row['wrong']} and "
        f"{row['wrong']}) and a score that varies within a place (--per-length)",
        unit=f"log-odds of an error per standard deviation of it, {after_layers(row['layer'])}",
        null_note="the score within digits of one kind, place and, from 5 digits, length; run and "
        "carry held fixed; resampled by prompt", decide="more prompts (--per-length)",
    )  # fmt: skip


def _prefix_word(contrasts: pd.DataFrame) -> Claim:
    """After 1, 3 the word thirteen stands out of the teens, and stands nearer to the first rank."""
    sentence = "The state of a second digit after 1 decodes to the word of both (1, 3: thirteen)."
    rows = _of(contrasts, "prefix word")
    if rows.empty:
        return Claim.not_tested("learned", sentence, NO_WORDS)
    best = rows.iloc[0]
    lift = _of(contrasts, "prefix lift").set_index("layer").loc[best["layer"]]
    times, *ends = (2 ** lift[name] for name in ("estimate", "low", "high"))
    holds = best["p"] <= LEVEL and best["low"] > 0 and lift["low"] > 0
    return Claim.learned(
        sentence, best, holds=holds, null=0, decide="more texts (--prefixes)",
        p_fails=float(luck_outside(rows, below=NEGLIGIBLE).max()),
        unit=f"nats above the other words from ten to nineteen, {after_layers(best['layer'])}",
        null_note="what either digit says by itself is taken off; random words, max-T over depths; "
        f"after its own first digit the word's rank is {times:.2g} times nearer to 1 than after "
        f"another ({ends[0]:.2g} to {ends[1]:.2g})",
    )  # fmt: skip


def _place_beyond(tables: Tables, sample: str, models: str) -> Claim:
    """Probes of the place beat pos and token, and the same probes with random weights."""
    who, label = SAID[sample]
    sentence = f"{who} hold their place: probes read it better than from position, index and digit."
    named = {"family": "States hold the decimal place of their digit", "label": label}
    probes, needs = tables["probes"].query("sample == @sample"), ""
    if probes.empty:
        needs = "texts that tell how long their numbers are (--model smollm2)"
    elif probes.query("read == 'position and digit'")["balanced"].max() > 0.99:
        needs = "numbers of several lengths: here position tells the place (--model adder_1to6d)"
    if needs:
        return Claim.not_tested("learned", sentence, needs, **named)
    compared = tables["contrasts"].query("sample == @sample")
    compared = compared[compared["statistic"].isin(BEYOND)]
    p, nowhere = decoding.hardest(compared, ALIKE)
    if p.empty:
        needs = "more digits (--probed, --per-length)"
        return Claim.not_tested("learned", sentence, needs, **named)
    least = compared[compared["layer"] == p.idxmin()].sort_values("estimate").iloc[0]
    layer, holds = least["layer"], p.min() <= LEVEL and least["low"] > 0
    rival = least["statistic"].removeprefix("place ")
    return Claim.learned(
        sentence, least, holds=holds, p=float(p.min()), p_fails=nowhere, null=0,
        decide="more digits (--probed, --per-length)",
        null_note=f"{place_probes.accuracies_in_words(probes, layer)}; {models}",
        unit=f"accuracy {rival}, {after_layers(layer)}", **named,
    )  # fmt: skip


def _treated_as_moved(contrasts: pd.DataFrame) -> Claim:
    """With its state shifted to another place, the digit is used at that place.

    Judged against the control that is harder to beat, at the depth where the shift acts most.
    """
    rows = contrasts[contrasts["statistic"].str.startswith("answer moves")]
    sentence = "Shifted from the mean state of its place to that of another, a digit is treated "
    sentence += "as if it stood there, more than after other shifts of equal length."
    p, nowhere = decoding.hardest(rows, NEGLIGIBLE)
    if p.empty:
        return Claim.not_tested("learned", sentence, "more texts (--edits)")
    here = rows[rows["layer"] == p.idxmin()].sort_values("estimate")
    least, name = here.iloc[0], here["statistic"].str.removeprefix("answer moves, beyond ")
    does = ", ".join(f"{way} {null:.2f}" for way, null in zip(name, here["null"], strict=True))
    return Claim.learned(
        sentence, least, holds=bool(p.min() <= LEVEL and least["low"] > 0),
        p=float(p.min()), p_fails=nowhere, null=0.0 if here["null"].notna().all() else np.nan,
        decide="more texts (--edits), or a direction that acts: the interval spans the threshold",
        unit="nats that the answer's digit there moves towards it, beyond "
        f"{name.iloc[0]}; shifted {after_layers(least['layer'])}",
        null_note=f"no more than directions of equal length do: {does}; other places: the "
        "difference of two that the edit is not about; a shift that merely spoils the copying of "
        "the true digit, and so lowers its logit, looks the same",
    )  # fmt: skip


def _digit_across_places(contrasts: pd.DataFrame, models: str) -> Claim:
    """A probe of the digit at one place reads it at others, better than random models' do."""
    rows = _of(contrasts, "digit across places")
    row = rows.iloc[0] if len(rows) else None
    at, random = ("", 0.0) if row is None else (f", {after_layers(row['layer'])}", row["null"])
    return Claim.mechanical(
        "A probe of the digit trained at one place reads digits at other places better than in "
        f"models with random weights, by over {ALIKE:g} of the digits.",
        row, above=ALIKE, null=0 * random, decide="more prompts (--per-length)",  # NaN stays NaN
        needs="places with at least 30 given digits each (--per-length)",
        unit=f"accuracy across places minus that with random weights{at}",
        null_note=f"as well as in {models}, which pass on the embedding: {random:.2f}",
    )  # fmt: skip


def _place_or_carry(tables: Tables, models: str) -> Claim:
    """The rival: the hundreds position behaves like a carry flag (2603.26828)."""
    sentence = "At the hundreds of a sum, the word hundred marks the place and not a carry: it "
    sentence += "tells hundreds from other places better than it tells a carry from none."
    contrasts = tables["contrasts"]
    rows = _of(contrasts, "place minus carry").set_index("layer").drop(columns="p")  # it has none
    if rows.empty:
        needs = "a model that has the word, and hundreds with and without a carry (--per-length)"
        return Claim.not_tested("mechanical", sentence, needs)
    layer = decoding.best_layer(tables["tests"], "generated")["layer"]
    place, carry = (_of(contrasts, f"word by {x}").set_index("layer") for x in ("place", "carry"))
    told = [f"{x['estimate']:.2f} ({x['low']:.2f} to {x['high']:.2f})"
            for x in (place.loc[layer], carry.loc[layer])]  # fmt: skip
    most = carry.loc[carry["estimate"].abs().idxmax()]
    return Claim.mechanical(
        sentence, rows.loc[layer], above=0, null=rows["null"][layer], more="sums (--per-length)",
        unit=f"nats of the word's score, by place minus by carry, {after_layers(layer)}",
        null_note=f"mean of {models}; the same digits compared; by place {told[0]}, by carry "
        f"{told[1]}; the carry shows most {after_layers(most.name)}: {most['estimate']:.2f} "
        f"({most['low']:.2f} to {most['high']:.2f}); the rival reading is that of 2603.26828",
    )  # fmt: skip


CENTRED = "final, centred"


def word_figures(tables: Tables) -> dict[str, Drawing]:
    """Scores against nulls, what the digits of a prompt decode to, and confusion."""
    tests = tables["tests"].query("decoder == 'U'").rename(columns={"estimate": "score"})
    shown = by_passed(tests[(tests["norm"] == CENTRED) & ~tests["statistic"].str.contains("minus")])
    short = shown["statistic"].str.replace("place, |position in ", "", regex=True)
    confusion = tables["confusion"].assign(text=lambda t: t["share"].map("{:.2f}".format))
    return {
        "Score by depth": curves(
            shown.assign(statistic=short), PASSED, "score", series="statistic", facet="sample",
            caption="Log-probability of the place's word minus the mean of the other places' "
            "words, in nats, by depth (logit lens on centred states). The claim needs the line of "
            "the place to rise above zero and above the same digits in codes. The rival: one, ten "
            "and hundred by threes. Bands: 95 %; of random weights, lowest to highest model.",
        ),
        "Words along the first prompt": heat_map(
            by_passed(decoding.first_words(tables["decoded"])), "digit", PASSED, "probability",
            facet="norm", text="decoded", low=0, high=1, label="probability of the word",
            caption="What each digit of 128717593 + 8191493 = 136909086 decodes to by depth (logit "
            "lens, with the mean state there subtracted and without); at the left the digit's "
            "place and number (a, b, the answer c). Look for the words of places.",
        ),
        "Confusion of places": heat_map(
            confusion, "place", "decoded_place", "share", facet="sample", text="text",
            low=0, high=1, label="share of the place's digits",
            caption="Of a place's digits, the share to which each place's word comes first (each "
            "word's mean taken off), at the best depth. A diagonal: places are told apart.",
        ),
    }  # fmt: skip


def rank_figures(tables: Tables) -> dict[str, Drawing]:
    """How near to the first rank the words of places, and of numbers of two digits, come."""
    ranks, prefix = (
        tables[name].query("decoder == 'U' and norm == @CENTRED")
        for name in ("place_words", "prefix")
    )
    return {
        "Rank of the place's word": curves(
            by_passed(decoding.rank_quartiles(ranks)), PASSED, "log10_rank", series="sample",
            caption="Rank of the place's own word among the whole vocabulary (log10; 0 is the "
            "likeliest token): median, and the middle half. Second to the digit would be 0.3.",
        ),
        "The word of two digits": heat_map(
            by_passed(prefix), "word", PASSED, "lift", diverging=True,
            label="log2 of rank after another digit / rank after its own",
            caption="How many times (log2) nearer to the first rank the word of a two-digit number "
            "stands at its second digit than at the same digit after another one: 1, 3 against "
            "5, 3 for thirteen.",
        ),
    }  # fmt: skip


def probe_figures(tables: Tables) -> dict[str, Drawing]:
    """Probes of the place and of the digit, and what goes with errors."""
    transfer, probes = tables["transfer"], place_probes.beside_states(tables["probes"])
    errors = tables["errors"].dropna(subset=["estimate"]).rename(columns={"estimate": "log_odds"})
    found = {
        "Probes of the place": curves(
            by_passed(probes).rename(columns={"balanced": "balanced accuracy"}), PASSED,
            "balanced accuracy", series="read", facet="sample", low="", high="",
            caption="Accuracy (mean over places) of probes of the place: of states, of states with "
            "random weights, of position, index and digit alone, and of a control task (random "
            "labels).",
        ),
    }  # fmt: skip
    if len(transfer):
        matrix = transfer.assign(text=transfer["accuracy"].map("{:.2f}".format))
        matrix["weights"] += " weights"
        found["Transfer of digit probes"] = heat_map(
            matrix, "train_place", "test_place", "accuracy", facet="weights", text="text",
            low=0, high=1,
            caption="A probe of the digit trained at one place, tested at another. Even rows mean "
            "that places share one code for the digit; random weights pass on the embedding.",
        )  # fmt: skip
    if len(errors):
        found["What goes with errors"] = bars(
            errors.assign(feature=errors["feature"].str.replace("_", " ")), "feature", "log_odds",
            series="kind", reference=0.0,
            caption="Log-odds that an answer digit is wrong, per standard deviation of each "
            "feature, the others held fixed; the score within digits of one kind, place and "
            "length. If errors follow a missing place, it lies left of zero. Bars: 95 %.",
        )  # fmt: skip
    return found


def answer_figures(tables: Tables) -> dict[str, Drawing]:
    """Answers after a digit is shifted to another place, and as they are."""
    causal = tables["causal"].rename(columns={"estimate": "shift"})
    causal = causal.assign(edited=causal["layer"].map(after_layers))
    return {
        "Digits shifted to another place": bars(
            causal, "edited", "shift", series="direction", facet="measure", reference=0.0,
            caption="A given digit's state shifted from the mean of its place to that of another, "
            "by the difference of two other places, or by a random direction, all of equal length. "
            "Answer: by how many nats the answer's digit there moves towards it. Word: the new "
            "place's word against the old one's.",
        ),
        "Right digits of answers": bars(
            tables["answers"].assign(length=lambda t: np.where(t["announced"], "told", "not told")),
            "kind", "accuracy", series="length",
            caption="Answer digits that are right after the right digits before them, by kind of "
            "prompt, with the length of the numbers told or not.",
        ),
    }  # fmt: skip
