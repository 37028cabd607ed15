"""Does a digit's state carry the word of its decimal place, and do errors follow without it?"""

import gc
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from experiments import Claim, Experiment, Results

if TYPE_CHECKING:
    from torch import Tensor

    from lenses.digits.reading import DigitReading, Words
    from lenses.digits.texts import DigitTexts
    from models import Model
    from viz import Drawing

Tables = Mapping[str, pd.DataFrame]

LEARNED = 7
"""Learned claims; each is tested at 0.05 / 7."""
ALPHA = 0.05 / LEARNED
NEGLIGIBLE = 0.25
"""Nats: a word 1.28 times as likely as the others. An interval below this shows that there is no
effect worth the name."""
ALIKE = 0.05
"""Accuracies that differ by no more are taken for alike."""
TOLERANCE = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 2e-2}
"""Of an identity, relative."""
MOST = 0.5
"""Share of digits that would be most of them."""
PROBED_SITES = 4
ADDER_SUMS = 27
"""Additions that an adder is given for each of `per_length`."""


class DigitPlaces(Experiment):
    """Digits of numbers whose place, pos and length come apart; states decoded, probed and edited.

    A model that reads from left to right cannot know the place of a digit before the number ends,
    unless the text tells. So digits come in three samples: `prompt` (nothing tells how long the
    number is), `announced` ("nine-digit number"; for adders, padded numbers) and `generated` (the
    right answer, read as if written). `layer` counts the blocks passed, 0 is the embedding. A score
    is the log-probability of the place's word minus the mean of those of the other places' words.
    Places 0 to 8 are scored, each with the same weight; the first token of a text is left out.
    Adders know no words: what is asked of words is then left out, and the claims say so.

    Tables: `answers` (right digits of the answers, by kind), `words` (which word stands for which
    place, and words of like frequency in the order of the vocabulary; skipped: several tokens),
    `place_words` (rank and log-probability of each digit's own place word among the whole
    vocabulary, in some prompts), `decoded` (the likeliest token of each digit of the first prompt),
    `scores` (every digit's score at every layer), `tests` (mean scores; p_words: against random
    words of like frequency, p_labels: places of each length trading their labels; p: the larger,
    max-T over layers; q: Benjamini-Hochberg over the table), `confusion` (whose word is likeliest),
    `errors` (log-odds of a wrong answer digit per standard deviation of each feature; the score
    within kind, place and, from 5 digits, length), `prefix` (ranks of "thirteen" after 1, 3 and
    after another digit and 3), `probes`, `transfer` (a probe of
    the digit trained at one place, tested at another), `causal` (a digit's state moved from the
    mean of its place to that of another) and `contrasts` (the differences that claims are about).
    """

    quick: ClassVar[dict[str, Any]] = {"per_length": 2, "probed": 150, "edits": 12}

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
    """Texts in which a digit's state is moved to another place."""

    def measure(self, model: "Model") -> Results:
        """Read every text with the model and with its untrained twin, then test, probe and edit."""
        from lenses.digits.edits import reading_ahead
        from lenses.digits.errors import error_rows
        from lenses.digits.probes import answers_by_probe, probe_tables, transfer_tables
        from models import untrained

        texts, words = self._texts(model), self._words(model)
        own = self._read(model, texts, words, "reading")
        twin = self._read(untrained(model, self.seed), texts, words, "random weights")
        gc.collect()  # a hooked model refers to itself
        tables: dict[str, Any] = {"answers": answer_rows(own)}
        contrasts = [reading_ahead(model, texts, own.where)]
        if words.places:
            more, prefixes = self._word_tables(model, own, twin)
            tables, contrasts = tables | more, [*contrasts, prefixes]
        else:
            tables["errors"] = error_rows(answers_by_probe(own, self.probed, self.seed), self.seed)
        for name, (table, contrast) in {
            "probes": probe_tables(own, twin, self.probed, self.seed),
            "transfer": transfer_tables(own, twin, self.seed),
            "causal": self._edited(model, own),
        }.items():
            tables |= {name: table} if len(table) else {}
            contrasts.append(contrast)
        tables["contrasts"] = pd.concat(contrasts, ignore_index=True)
        return Results(tables)

    def _texts(self, model: "Model") -> "DigitTexts":
        from lenses.digits.texts import texts_of_prompts, texts_of_sums
        from prompts.place_values import adder_sums, place_prompts

        style = model.card.arithmetic
        if style is None:
            return texts_of_prompts(model, place_prompts(self.per_length, self.seed))
        return texts_of_sums(style, adder_sums(style, ADDER_SUMS * self.per_length, self.seed))

    def _words(self, model: "Model") -> "Words":
        from lenses.digits.reading import Words
        from prompts.place_values import PLACE_WORDS

        return Words.none() if model.card.arithmetic else Words.of(model, PLACE_WORDS)

    def _read(
        self, model: "Model", texts: "DigitTexts", words: "Words", label: str
    ) -> "DigitReading":
        """Every digit's state as logits of words, some states, and the mean state of each place."""
        from lenses.digits.reading import DigitReading, is_operand, some_sites
        from lenses.kept import PerPrompt
        from lenses.states.decoding import Decoder, MeanStates, read_states, readouts, sites

        where, how = sites(model), readouts(model)
        few, kept, means = some_sites(where, PROBED_SITES), PerPrompt(), MeanStates(20)
        decoder = Decoder(model, self._centre(model, texts, f"{label}: centre"))
        place = texts.digits["place"].where(is_operand(texts.digits), -1).to_numpy()
        for part in self.stream(texts.batches(self.batch_size), (kept, means), label):
            tokens, row, pos, which = texts.batch(part, model.cfg.device)
            states, said = read_states(model, tokens, where, row, pos)
            logits = [words.logits(decoder, states, each) for each in how]
            some = states[few].transpose(0, 1).contiguous().cpu().numpy()
            kept.update(logits=np.stack(logits, axis=1), said=said.cpu().numpy(), states=some)
            means.update(states, _beside(place[which], states))
        read = {name: kept[name] for name in ("logits", "said", "states")}
        return DigitReading(texts, where, how, words, few=few, means=means, decoder=decoder, **read)

    def _centre(self, model: "Model", texts: "DigitTexts", label: str) -> "Tensor":
        """Mean state of each site over other texts (of an adder: over the same)."""
        import torch

        from lenses.states.decoding import MeanStates, read_states, sites
        from models.text import right_pad, tokenize
        from prompts.texts import shipped_texts

        ids = texts.ids
        if model.card.arithmetic is None:
            ids = [tokenize(model, text.text)[: model.cfg.n_ctx] for text in shipped_texts()]
        mean = MeanStates()
        batches = [ids[i : i + self.batch_size] for i in range(0, len(ids), self.batch_size)]
        for batch in self.stream(batches, mean, label):
            tokens, lengths = (x.to(model.cfg.device) for x in right_pad(batch))
            at = torch.arange(tokens.shape[1], device=tokens.device)
            row, pos = ((at > 0) & (at < lengths[:, None])).nonzero(as_tuple=True)
            states, _ = read_states(model, tokens, sites(model), row, pos)
            mean.update(states, torch.zeros_like(row))
        return mean.mean[0]

    def _word_tables(
        self, model: "Model", own: "DigitReading", twin: "DigitReading"
    ) -> tuple[dict[str, Any], pd.DataFrame]:
        """All that is asked of words, and the contrasts of prefixes."""
        from lenses.digits.errors import error_rows
        from lenses.digits.words import (
            answers_by_word,
            confusion_rows,
            score_rows,
            word_tests,
        )

        tests, score = word_tests(own, twin, self.seed), self.rows("scores")
        for frame in score_rows(own):
            score.append(frame)
        prefix, contrasts = self._prefix_tables(model, own)
        ranks = self._ranks(model, own)
        return {
            "words": own.words.table,
            **ranks,
            "scores": score,
            "tests": tests,
            "confusion": confusion_rows(own, tests),
            "errors": error_rows(answers_by_word(own, tests), self.seed),
            "prefix": prefix,
        }, contrasts

    def _ranks(self, model: "Model", own: "DigitReading") -> dict[str, Any]:
        """Rank of each digit's place word in some prompts, and what the first one decodes to."""
        from lenses.digits.words import decoded_rows, rank_rows
        from lenses.states.decoding import read_states

        some = own.some_numbers(self.ranked)
        texts = own.texts.chosen(some)
        tables = {name: self.rows(name) for name in ("place_words", "decoded")}
        for part in self.stream(texts.batches(1), tables.values(), "ranking"):
            tokens, row, pos, which = texts.batch(part, model.cfg.device)
            states, _ = read_states(model, tokens, own.where, row, pos)
            digits = texts.digits.loc[which].assign(prompt=some[part.start])
            digits = digits.assign(token=_strings(model, digits["token_id"]))
            for how in own.how:
                tables["place_words"].append(rank_rows(own, states, digits, how))
                if part.start == 0:
                    likeliest = decoded_rows(own, states, digits, how)
                    likeliest["decoded"] = _strings(model, likeliest["decoded_id"])
                    tables["decoded"].append(likeliest)
        return tables

    def _prefix_tables(
        self, model: "Model", own: "DigitReading"
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The word of a number of two digits, read at its second digit."""
        from lenses.digits.reading import Words
        from lenses.digits.texts import DigitTexts, texts_of_prompts
        from lenses.digits.words import prefix_tables
        from lenses.kept import PerPrompt
        from lenses.states.decoding import read_states
        from prompts.place_values import PREFIX_WORDS, prefix_prompts

        words = Words.of(model, {number: (word,) for number, word in PREFIX_WORDS.items()})
        prompts = prefix_prompts(self.prefixes, self.seed)
        number = np.repeat([prompt.numbers[0] for prompt in prompts[::2]], 2)
        known = np.isin(number, words.places)
        prompts, number = [p for p, k in zip(prompts, known, strict=True) if k], number[known]
        texts = texts_of_prompts(model, prompts)
        texts = DigitTexts(texts.ids, texts.digits.query("place == 0").reset_index(drop=True))
        asked = np.array([words.ids[i][0] for i in words.number(number)])[:, None]
        kept = PerPrompt()
        for part in self.stream(texts.batches(self.batch_size), kept, "prefixes"):
            tokens, row, pos, which = texts.batch(part, model.cfg.device)
            states, _ = read_states(model, tokens, own.where, row, pos)
            ids = _beside(asked[which], states)
            ranks = [
                own.decoder.ranked(states, how, ids)[1][..., 0].cpu().numpy().T for how in own.how
            ]
            logits = [words.logits(own.decoder, states, how) for how in own.how]
            kept.update(logits=np.stack(logits, axis=1), rank=np.array(ranks).swapaxes(0, 1).copy())
        return prefix_tables(words, kept["logits"], kept["rank"], number, own, self.seed)

    def _edited(self, model: "Model", own: "DigitReading") -> tuple[pd.DataFrame, pd.DataFrame]:
        """A digit's state moved to another place, in some texts."""
        from lenses.digits.edits import edit_effects, edit_plan, edit_tables
        from lenses.kept import PerPrompt

        plan, kept = edit_plan(own, self.edits, self.seed), PerPrompt()
        starts = range(0, len(plan), self.batch_size)
        parts = [plan.iloc[start : start + self.batch_size] for start in starts]
        for part in self.stream(parts, kept, "editing"):
            kept.update(**edit_effects(model, own, part, self.seed))
        return edit_tables(kept.state(), own, self.seed)

    def figures(self, results: Results) -> "dict[str, Drawing]":
        """Words of the first prompt, scores against nulls, confusion, transfer, errors, edits."""
        drawn = word_figures(results.tables) if "tests" in results.tables else {}
        drawn |= _error_figure(results.tables["errors"])
        return drawn | state_figures(results.tables)

    def claims(self, results: Results) -> list[Claim]:
        """How well it adds; then an identity, seven learned claims, and one about transfer."""
        tables = results.tables
        contrasts = tables["contrasts"]
        return [
            _adds(tables["answers"]),
            _reads_left_to_right(contrasts, TOLERANCE[self.dtype]),
            *(_place_word(tables, sample) for sample in ("announced", "generated")),
            _errors_follow(tables),
            _prefix_word(contrasts),
            *(_place_beyond(tables, sample) for sample in ("announced", "generated")),
            _treated_as_moved(contrasts),
            _digit_across_places(contrasts),
        ]

    def planted(self) -> "Model":
        """A model whose digits carry their place's word, and are copied, iff it is announced."""
        from models.planted.places import planted_places

        return planted_places()


def word_figures(tables: Tables) -> "dict[str, Drawing]":
    """What digits decode to, scores against nulls, confusion, ranks, errors, prefixes."""
    from viz import curves, heat_map

    tests = tables["tests"][tables["tests"]["decoder"] == "U"]
    tests = tests.rename(columns={"estimate": "score"})
    centred = tests[tests["norm"] == CENTRED]
    series = tests[tests["statistic"] == "place"].assign(states=lambda t: t["norm"])
    shown = centred[~centred["statistic"].str.contains("minus")]
    shown = shown.assign(statistic=shown["statistic"].replace(SHORT))
    confusion = tables["confusion"].assign(text=lambda t: t["share"].map("{:.2f}".format))
    return {
        "Words along the first prompt": _decoded_figure(tables["decoded"], CENTRED),
        "Words along the first prompt, not centred": _decoded_figure(tables["decoded"], "final"),
        "Score by layer": curves(
            shown, "layer", "score", series="statistic", facet="sample", caption=SCORE_CAPTION
        ),
        "Score with and without centring": curves(
            series, "layer", "score", series="states", facet="sample", caption=CENTRED_CAPTION
        ),
        "Confusion of places": heat_map(
            confusion, "place", "decoded_place", "share", facet="sample", text="text",
            low=0, high=1, caption=CONFUSION_CAPTION, label="share of the place's digits",
        ),
        "Rank of the place's word": _rank_figure(tables["place_words"]),
        "The word of two digits": _prefix_figure(tables["prefix"]),
    }  # fmt: skip


def _decoded_figure(decoded: pd.DataFrame, norm: str) -> "Drawing":
    """The first prompt's digits (down) by layer, the likeliest word in each cell."""
    from viz import heat_map

    lens = decoded[(decoded["decoder"] == "U") & (decoded["norm"] == norm)]
    layers = np.unique(lens["layer"])
    chosen = layers[np.linspace(0, len(layers) - 1, min(COLUMNS, len(layers))).round().astype(int)]
    lens = lens[lens["layer"].isin(chosen)]
    digit = lens["token"] + " · 10^" + lens["place"].astype(str) + " (" + lens["part"] + ")"
    return heat_map(
        lens.assign(digit=digit), "digit", "layer", "probability", text="decoded", low=0, high=1,
        caption=DECODED_CAPTION.format(CENTRING[norm]), label="probability of the word",
    )  # fmt: skip


def _rank_figure(place_words: pd.DataFrame) -> "Drawing":
    """Median rank of the place's word among the vocabulary, by layer."""
    from viz import curves

    lens = place_words[(place_words["decoder"] == "U") & (place_words["norm"] == CENTRED)]
    lens = lens.assign(log10_rank=np.log10(lens["rank"]))
    by = lens.groupby(["sample", "layer"])["log10_rank"]
    table = by.quantile([0.25, 0.5, 0.75]).unstack().reset_index()
    table = table.rename(columns={0.25: "low", 0.5: "log10_rank", 0.75: "high"})
    return curves(table, "layer", "log10_rank", series="sample", caption=RANK_CAPTION)


def _prefix_figure(prefix: pd.DataFrame) -> "Drawing":
    """How much nearer to the first rank each prefix's word stands after its own first digit."""
    from viz import heat_map

    lens = prefix[(prefix["decoder"] == "U") & (prefix["norm"] == CENTRED)]
    return heat_map(
        lens, "word", "layer", "lift", diverging=True, caption=PREFIX_CAPTION,
        label="log2 of rank after another digit / rank after its own",
    )  # fmt: skip


def _error_figure(errors: pd.DataFrame) -> "dict[str, Drawing]":
    """What goes with errors; nothing where there are too few right or wrong digits."""
    from viz import bars

    known = errors.dropna(subset=["estimate"])
    if known.empty:
        return {}
    shown = known.assign(feature=known["feature"].str.replace("_", " "), log_odds=known["estimate"])
    drawn = bars(shown, "feature", "log_odds", series="kind", reference=0.0, caption=ERRORS_CAPTION)
    return {"What goes with errors": drawn}


def state_figures(tables: Tables) -> "dict[str, Drawing]":
    """Right answers, probes, transfer and edits: what needs no words."""
    from viz import bars, curves, heat_map

    causal = tables["causal"].rename(columns={"estimate": "shift"})
    causal = causal.assign(edited="layer " + causal["layer"].astype(str))
    found = {
        "Right digits of answers": bars(
            tables["answers"].assign(length=lambda t: np.where(t["announced"], "told", "not told")),
            "kind", "accuracy", series="length", caption=ANSWERS_CAPTION,
        ),
        "Digits moved to another place": bars(
            causal, "edited", "shift", series="direction", facet="measure", reference=0.0,
            caption=CAUSAL_CAPTION,
        ),
    }  # fmt: skip
    if "probes" in tables:
        found["Probes of the place"] = curves(
            _beside_states(tables["probes"]), "layer", "balanced", series="read", facet="sample",
            caption=PROBES_CAPTION, low="", high="",
        )  # fmt: skip
    if "transfer" in tables:
        matrix = tables["transfer"].assign(text=lambda t: t["accuracy"].map("{:.2f}".format))
        matrix["weights"] = matrix["weights"].map(
            {"own": "own weights", "random": "random weights"}
        )
        found["Transfer of digit probes"] = heat_map(
            matrix, "train_place", "test_place", "accuracy", facet="weights", text="text",
            low=0, high=1, caption=TRANSFER_CAPTION,
        )  # fmt: skip
    return found


def _beside_states(probes: pd.DataFrame) -> pd.DataFrame:
    """What a probe without states reaches, at every layer, to be drawn beside the others."""
    without = probes["read"] == "pos and digit"
    layers = probes.loc[~without, ["sample", "layer"]].drop_duplicates()
    level = layers.merge(probes[without].drop(columns="layer"), on="sample")
    return pd.concat([probes[~without], level], ignore_index=True)


CENTRED = "final, centred"
SHORT = {
    "place, random weights": "random weights",
    "place, in codes": "in codes",
    "position in group of three": "group of three",
}
"""Names that fit above a figure."""
COLUMNS = 8
"""Layers that are drawn with a word in each cell."""
CENTRING = {CENTRED: "the layer's mean state subtracted", "final": "states as they are"}
DECODED_CAPTION = (
    "What each digit of 128717593 + 8191493 = 136909086 decodes to (logit lens, {}), "
    "by layer; the digit's place and number (a, b, the answer c) at the left. Look for hundred, "
    "thousand or million beside the digits at these places, and at how certain they are."
)
SCORE_CAPTION = (
    "Log-probability of the place's word minus the mean of the other places' words, in nats, by "
    "layer (logit lens on centred states). The claim needs the line of the place to rise above "
    "zero, above the same digits in codes, and above random weights. The rival: one, ten and "
    "hundred in each group of three. Bands: 95 % over prompts."
)
CENTRED_CAPTION = (
    "The same score with the layer's mean state subtracted and without. A direction that all "
    "states share changes which word is likeliest everywhere, but hardly this score."
)
CONFUSION_CAPTION = (
    "Of a place's digits, the share to which each place's word comes first (each word's mean taken "
    "off), at the layer that scores best. A diagonal would mean that places are told apart."
)
RANK_CAPTION = (
    "Rank of the place's own word among the whole vocabulary (log10; 0 is the likeliest token), by "
    "layer: median, and the middle half of the digits. Second to the digit itself would be 0.3."
)
PREFIX_CAPTION = (
    "How many times (log2) nearer to the first rank the word of a two-digit number stands at its "
    "second digit than at the same digit after another one: 1, 3 against 5, 3 for thirteen."
)
ERRORS_CAPTION = (
    "Log-odds that an answer digit is wrong, per standard deviation of each feature, the others "
    "held fixed; the score within digits of one kind, place and length. If errors followed where "
    "the place's word is missing, the score would lie left of "
    "zero. Bars: 95 %, prompts resampled."
)
ANSWERS_CAPTION = (
    "Answer digits that the model would have said after the right digits before them, by kind of "
    "prompt, with the length of the numbers told or not."
)
CAUSAL_CAPTION = (
    "A given digit's state moved from the mean of its place to that of another. Answer: by how "
    "many nats the answer's digit there moves towards it. Word: the new place's word against the "
    "old one's in the last state. Beside it a random direction of equal length."
)
PROBES_CAPTION = (
    "Balanced accuracy of probes of the place, by layer: of states, of states with random weights, "
    "of pos, index and digit without any state, and of a control task with random labels."
)
TRANSFER_CAPTION = (
    "A probe of the digit's value trained on digits at one place, tested on digits at another. "
    "Even rows mean that places share one code for the digit; random weights pass on the embedding."
)


def _beside(values: np.ndarray, states: "Tensor") -> "Tensor":
    """An array as a tensor on the device of the states."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(values)).to(states.device)


def _strings(model: "Model", ids: pd.Series) -> list[str]:
    from models.text import token_strings

    return token_strings(model, ids.tolist())


def answer_rows(own: "DigitReading") -> pd.DataFrame:
    """Answer digits that the model would have said after the right ones before them."""
    from lenses.statistics.intervals import wilson

    digits = own.digits.assign(right=own.right)
    answers = digits[digits["part"] == "c"].groupby(["kind", "announced"])["right"]
    table = answers.agg(n="size", correct="sum").reset_index()
    low, high = wilson(table["correct"].to_numpy(), table["n"].to_numpy())
    return table.assign(accuracy=table["correct"] / table["n"], low=low, high=high)


def _of(contrasts: pd.DataFrame, statistic: str, sample: str | None = None) -> pd.DataFrame:
    """The rows of one contrast, the one that stands out most first."""
    rows = contrasts[contrasts["statistic"] == statistic]
    if sample is not None and len(rows):
        rows = rows[rows["sample"] == sample]
    return rows.sort_values(["p", "estimate"], ascending=[True, False])


def _open(sentence: str, why: str) -> Claim:
    """A claim that this model or this sample cannot decide."""
    return Claim(
        kind="learned", sentence=sentence, estimate=0, n=0, verdict="undecided", decide=why
    )


def _claim(
    sentence: str, row: pd.Series, p: float | None, verdict: str, decide: str, **more
) -> Claim:
    """A learned claim about one row of a table."""
    return Claim(
        kind="learned",
        sentence=sentence,
        estimate=row["estimate"],
        low=_finite(row["low"]),
        high=_finite(row["high"]),
        n=int(row["n"]),
        p=p,
        verdict=verdict,
        decide=decide if verdict == "undecided" else "",
        **more,
    )


def _finite(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _adds(answers: pd.DataFrame) -> Claim:
    """How many digits of its sums are right: what errors are told by, and how far to trust them."""
    from lenses.statistics.intervals import wilson

    sums = answers[answers["kind"] == "addition"]
    n, correct = int(sums["n"].sum()), int(sums["correct"].sum())
    low, high = wilson(correct, n)
    verdict = Claim.judge(float(low), float(high), MOST)
    return Claim(
        kind="mechanical",
        sentence="It adds: most digits of its answers to additions are right, after right ones.",
        estimate=correct / n,
        low=float(low),
        high=float(high),
        n=n,
        null=0.1,
        null_note="a digit at random",
        unit=f"share of digits; threshold {MOST:g}",
        verdict=verdict,
        decide="more additions (--per-length)" if verdict == "undecided" else "",
    )


def _reads_left_to_right(contrasts: pd.DataFrame, tolerance: float) -> Claim:
    """No state knows what follows, so none can know a place that only the number's end tells."""
    row = _of(contrasts, "reading ahead").iloc[0]
    return Claim(
        kind="identity",
        sentence="A digit's state is the same whatever follows it: until its number ends, nothing "
        "but the text before it can tell its place.",
        estimate=row["estimate"],
        n=int(row["n"]),
        unit=f"largest relative difference; tolerance {tolerance:g}",
        verdict="holds" if row["estimate"] <= tolerance else "fails",
    )


BESIDE = (
    "numbers minus codes",
    "position in group of three",
    "place minus group of three",
    "place, random weights",
)
"""Statistics that stand beside the score of a place's word."""
NO_WORDS = "a model that knows words: an adder has none (--model smollm2)"
SAID = {
    "announced": "Digits of numbers whose length is announced",
    "generated": "Digits of answers",
}


def _place_word(tables: Tables, sample: str) -> Claim:
    """The word of a digit's place stands out beyond all nulls, more than in codes."""
    from lenses.digits.words import best_layer

    sentence = f"{SAID[sample]} decode to the word of their place more than to other places' words."
    best = best_layer(tables["tests"], sample) if "tests" in tables else None
    if best is None:
        return _open(sentence, NO_WORDS)
    here = tables["tests"][tables["tests"]["layer"] == best["layer"]]
    beside = {name: best_layer(here, sample, name) for name in BESIDE}
    codes = beside.pop("numbers minus codes")
    verdict, decide = _word_verdict(tables["tests"], sample, best, codes)
    rivals = "; ".join(f"{name} {row.estimate:.2f}" for name, row in beside.items())
    first = tables["confusion"].query("sample == @sample and place == decoded_place")["share"]
    chance = 1 / len(first)
    return _claim(
        sentence,
        best,
        best["p"],
        verdict,
        decide,
        null=0.0,
        unit=f"nats, at layer {best['layer']:.0f}",
        null_note=f"random words and traded labels, max-T over layers; {rivals}; numbers minus "
        f"the same digits in codes {codes.estimate:.2f} ({codes.low:.2f} to {codes.high:.2f}); its "
        f"own word comes first for {first.mean():.2f} of a place's digits (chance {chance:.2f})",
    )


def _word_verdict(
    tests: pd.DataFrame, sample: str, best: pd.Series, codes: pd.Series
) -> tuple[str, str]:
    """Holds beyond every null; fails where no layer, or no more than codes, reaches NEGLIGIBLE."""
    from lenses.digits.words import LENS

    if best["p"] <= ALPHA and best["low"] > 0 and codes["low"] > 0:
        return "holds", ""
    rows = tests.query("sample == @sample and statistic == 'place'")
    rows = rows[(rows["norm"] == LENS["norm"]) & (rows["decoder"] == LENS["decoder"])]
    if rows["high"].max() < NEGLIGIBLE or codes["high"] < NEGLIGIBLE:
        return "fails", ""
    if best["p"] > ALPHA:
        return "undecided", (
            f"more prompts (--per-length), or a place word that stands out: p is {best['p']:.2g}, "
            f"{ALPHA:.2g} is needed, and the interval does not exclude {NEGLIGIBLE} nats"
        )
    return "undecided", "more prompts (--per-length): codes may show as much"


def _errors_follow(tables: Tables) -> Claim:
    """The lower the score of the given digit, the likelier the answer's digit is wrong."""
    what = "the less a given digit decodes to its place, the likelier the answer's digit there is "
    if "tests" not in tables:
        what = "where a probe cannot tell the place of an answer's digit, the next one is likelier "
    sentence = f"Errors follow where it does not: {what}wrong."
    row = tables["errors"].query("feature == 'score'").iloc[0]
    if np.isnan(row["estimate"]):
        right, wrong = row["n"] - row["wrong"], row["wrong"]
        why = f"at least 50 right and 50 wrong digits (there are {right} and {wrong}) "
        why += "and a score that varies within a place: --per-length"
        return _open(sentence, why)
    holds = row["p"] <= ALPHA and row["high"] < 0
    verdict = "holds" if holds else "fails" if row["low"] > -0.1 else "undecided"
    return _claim(
        sentence,
        row,
        row["p"],
        verdict,
        "more prompts (--per-length)",
        null=0.0,
        unit=f"log-odds of an error per deviation of the score, at layer {row['layer']:.0f}",
        null_note="the score within digits of one kind, place and, from 5 digits, length; run and "
        "carry held fixed; resampled by prompt",
    )


def _prefix_word(contrasts: pd.DataFrame) -> Claim:
    """After 1, 3 the word thirteen stands out of the teens, and stands nearer to the first rank."""
    sentence = "The state of a second digit after 1 decodes to the word of both (1, 3: thirteen)."
    rows = _of(contrasts, "prefix word")
    if rows.empty:
        return _open(sentence, NO_WORDS)
    best = rows.iloc[0]
    lift = _of(contrasts, "prefix lift").set_index("layer").loc[best["layer"]]
    holds = best["p"] <= ALPHA and best["low"] > 0 and lift["low"] > 0
    verdict = "holds" if holds else "fails" if rows["high"].max() < NEGLIGIBLE else "undecided"
    return _claim(
        sentence,
        best,
        best["p"],
        verdict,
        "more texts (--prefixes)",
        null=0.0,
        unit=f"nats above the other words from ten to nineteen, at layer {best['layer']:.0f}",
        null_note="what either digit says by itself is taken off; random words, max-T over "
        "layers; after its own first digit the word's rank is "
        f"{2 ** lift['estimate']:.2g} times nearer to 1 than after another "
        f"({2 ** lift['low']:.2g} to {2 ** lift['high']:.2g})",
    )


def _place_beyond(tables: Tables, sample: str) -> Claim:
    """Probes of the place beat pos and token, and the same probes with random weights."""
    from lenses.digits.probes import JUDGED

    sentence = f"{SAID[sample]} hold their place beyond what pos, index and digit tell (probes)."
    probes = tables["probes"].query("sample == @sample") if "probes" in tables else pd.DataFrame()
    if probes.empty:
        return _open(sentence, "texts that tell how long their numbers are: there are none here")
    told = probes.query("read == 'pos and digit'")["balanced"].max()
    if told > 0.99:
        why = "numbers of several lengths: here pos tells the place (--model adder_1to6d)"
        return _open(sentence, why)
    contrasts = tables["contrasts"]
    compared = pd.concat([_of(contrasts, f"place beyond {name}", sample) for name in JUDGED])
    by_layer = compared.groupby("layer")
    p, highest = by_layer["p"].max(), by_layer["high"].min().max()
    layer = p.idxmin()
    least = compared[compared["layer"] == layer].sort_values("estimate").iloc[0]
    holds = p[layer] <= ALPHA and least["low"] > 0
    verdict = "holds" if holds else "fails" if highest < ALIKE else "undecided"
    return _claim(
        sentence,
        least,
        float(p[layer]),
        verdict,
        "more digits (--probed, --per-length)",
        null=0.0,
        unit=f"accuracy {least['statistic'].removeprefix('place ')}, the hardest to beat, at layer "
        f"{layer:.0f}",
        null_note=_accuracies(probes, layer),
    )


def _accuracies(probes: pd.DataFrame, layer: int) -> str:
    """The balanced accuracies behind a claim."""
    here = probes[(probes["layer"] == layer) | (probes["read"] == "pos and digit")]
    named = ", ".join(
        f"{read} {value:.2f}" for read, value in here[["read", "balanced"]].to_numpy()
    )
    chance = 1 / here["labels"].max()
    return f"balanced accuracy: {named}; chance {chance:.2f}; above the control task: selectivity"


def _treated_as_moved(contrasts: pd.DataFrame) -> Claim:
    """With its state moved to another place, the digit is used at that place."""
    rows = _of(contrasts, "answer moves")
    best = rows.iloc[0]
    holds = best["p"] <= ALPHA and best["low"] > 0
    verdict = "holds" if holds else "fails" if rows["high"].max() < NEGLIGIBLE else "undecided"
    return _claim(
        "Moved from the mean state of its place to that of another, a digit is treated as if it "
        "stood there.",
        best,
        best["p"],
        verdict,
        "more texts (--edits), or a direction that acts: the interval spans the threshold",
        null=best["null"],
        unit="nats that the answer's digit there moves towards it, beyond a random direction; "
        f"edited at layer {best['layer']:.0f}",
        null_note="what a random direction of equal length does; a shift that merely spoils the "
        "copying of the true digit, and so lowers its logit, is not told apart",
    )


def _digit_across_places(contrasts: pd.DataFrame) -> Claim:
    """A probe of the digit at one place reads it at others, better than an untrained model's."""
    rows = _of(contrasts, "digit across places")
    sentence = "A probe of the digit trained at one place reads digits at others better than with "
    sentence += "random weights."
    if rows.empty:
        why = "places with at least 30 given digits each: --per-length"
        return _open(sentence, why).model_copy(update={"kind": "mechanical"})
    row = rows.iloc[0]
    verdict = Claim.judge(row["low"], row["high"], ALIKE)
    claim = _claim(
        sentence,
        row,
        row["p"],
        verdict,
        "more prompts (--per-length)",
        null=row["null"],
        unit=f"accuracy across places minus that with random weights, at layer {row['layer']:.0f}",
        null_note="accuracy across places with random weights; the embedding is passed on anyway",
    )
    return claim.model_copy(update={"kind": "mechanical"})
