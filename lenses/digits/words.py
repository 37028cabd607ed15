"""Whether digits decode to the word of their place, against nulls."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lenses.digits.reading import FROM_OUTPUT, SAMPLES, DigitReading, Stream, Words, describe
from lenses.digits.texts import DigitTexts, texts_of_prompts
from lenses.kept import PerPrompt
from lenses.states.decoding import Readout, read_states
from lenses.statistics.against_random import as_high_by_luck
from lenses.statistics.intervals import (
    benjamini_hochberg,
    bootstrap,
    luck_above_zero,
    luck_outside,
)
from lenses.statistics.word_scores import (
    advantage,
    advantage_by_prompt,
    class_means,
    max_t,
    one_sided_p,
    other_words_null,
    scores,
    shuffled_labels_null,
)
from models import Model
from models.text import token_strings
from prompts.place_values import PREFIX_WORDS, prefix_prompts

LENS = {"decoder": "U", "norm": "final, centred"}
"""The readout that claims are about: the logit lens on centred states."""


def score_rows(own: DigitReading) -> Iterator[pd.DataFrame]:
    """Every scored digit's score at every layer, a readout at a time."""
    rows = np.flatnonzero(own.label >= 0)
    names = ["prompt", "kind", "pos", "phase", "sample", "place", "length"]
    digits = own.digits.loc[rows, names].reset_index(drop=True)
    for number, how in enumerate(own.how):
        logits = own.logits[rows, number, :, : len(own.scored)]
        found = scores(logits, own.label[rows])
        wide = digits.loc[np.repeat(np.arange(len(rows)), len(own.layers))]
        wide = wide.assign(layer=np.tile(own.layers, len(rows)), **describe(how))
        yield wide.assign(score=found.ravel()).reset_index(drop=True)


Scores = dict[tuple[str, int], Float[np.ndarray, "site"]]
"""By sample and number of the readout: how far the word of the place stands out, by site."""


def word_scores(reading: DigitReading) -> Scores:
    """How far the words of places stand out, in each sample that has all scored places."""
    label, classes, found = reading.label, len(reading.scored), {}
    for sample in SAMPLES:
        rows = reading.of(sample) & (label >= 0)
        if _every_class(reading, rows):
            for number in range(len(reading.how)):
                logits = reading.logits[rows, number, :, :classes].astype(float)
                found[sample, number] = advantage(class_means(logits, label[rows], classes))
    return found


def word_tests(own: DigitReading, random: Sequence[Scores], seed: int) -> pd.DataFrame:
    """Mean scores by sample, readout, statistic and layer, each against its nulls.

    `random` are the scores of models with random weights.
    """
    frames = []
    for sample in SAMPLES:
        for number, how in enumerate(own.how):
            named = {"sample": sample, **describe(how)}
            for statistic, values in _statistics(own, random, sample, number, seed).items():
                rows = pd.DataFrame({"statistic": statistic, "layer": own.layers, **values})
                frames.append(rows.assign(**named))
    tests = pd.concat(frames, ignore_index=True)
    single = tests[["p_words", "p_labels"]].max(axis=1).fillna(tests["p"])
    known = single.notna()
    tests.loc[known, "q"] = benjamini_hochberg(single[known].to_numpy())
    ahead = ["sample", "decoder", "norm", "statistic", "layer", "estimate", "low", "high"]
    return tests[[*ahead, "p_words", "p_labels", "p", "q", "n"]]


def _statistics(
    own: DigitReading, random: Sequence[Scores], sample: str, number: int, seed: int
) -> dict[str, dict[str, np.ndarray]]:
    """Each statistic's values over layers, for one sample and readout; none without digits."""
    rows = own.of(sample) & (own.label >= 0)
    codes = own.of(sample, numbers=False) & (own.label >= 0)
    if not _every_class(own, rows):
        return {}
    found = {"place": against_nulls(own, number, rows, own.label, seed)}
    others = np.array([scores[sample, number] for scores in random])
    cases = len(own.digits.loc[rows, "prompt"].unique())
    found["place, random weights"] = _of_random(found["place"]["estimate"], others, cases)
    if own.scored[:3] == (0, 1, 2):
        thirds = own.digits["place"].to_numpy() % 3
        rival = against_nulls(own, number, own.of(sample), thirds, seed, classes=3)
        found["position in group of three"] = rival
        found["place minus group of three"] = _minus_thirds(own, number, rows, seed)
    if _every_class(own, codes):
        found["place, in codes"] = against_nulls(own, number, codes, own.label, seed)
        found["numbers minus codes"] = _minus_codes(own, number, rows, codes, seed)
    return found


def _of_random(
    own: Float[np.ndarray, "site"], random: Float[np.ndarray, "model site"], cases: int
) -> dict[str, np.ndarray]:
    """Mean, lowest and highest of random models, and p that one more lies as high as `own`."""
    each = zip(own, random.T, strict=True)
    p = np.array([as_high_by_luck(mean, others, cases) for mean, others in each])
    ends = {"estimate": random.mean(0), "low": random.min(0), "high": random.max(0)}
    return ends | {"p": p, "n": np.full(len(own), len(random))}


def _every_class(own: DigitReading, rows: Bool[np.ndarray, "n"]) -> bool:
    """Whether each scored place has digits among the rows."""
    return len(np.unique(own.label[rows])) == len(own.scored) >= 3


def against_nulls(
    own: DigitReading,
    number: int,
    rows: Bool[np.ndarray, "n"],
    label: Int[np.ndarray, "n"],
    seed: int,
    classes: int | None = None,
) -> dict[str, np.ndarray]:
    """Advantage at each site with its interval over prompts and its p under both nulls."""
    classes, known = classes or len(own.scored), len(own.words.places)
    logits = own.logits[rows, number].astype(float)
    pool = np.r_[:classes, known : logits.shape[-1]]
    true, label = logits[..., :classes], label[rows]
    observed = advantage(class_means(true, label, classes))
    drawn = other_words_null(class_means(logits[..., pool], label, classes), seed)
    length = own.digits["length"].to_numpy()[rows]
    traded = shuffled_labels_null(true, label, length, seed)
    prompt = own.digits["prompt"].to_numpy()[rows]
    by_prompt = advantage_by_prompt(scores(true, label), label, prompt)
    ends = bootstrap(by_prompt, seed).either_side()
    return {
        "estimate": observed,
        "low": ends.low,
        "high": ends.high,
        "p_words": one_sided_p(observed, drawn),
        "p_labels": one_sided_p(observed, traded),
        "p": np.maximum(max_t(observed, drawn), max_t(observed, traded)),
        "n": np.full(len(observed), len(label)),
    }


def _minus_thirds(
    own: DigitReading, number: int, rows: Bool[np.ndarray, "n"], seed: int
) -> dict[str, np.ndarray]:
    """From the thousands on: the place's own word against one, ten or hundred, as the rival has it.

    From each word its mean over places is taken, or the commoner word would win.
    """
    classes, label = len(own.scored), own.label[rows]
    logits = own.logits[rows, number, :, :classes].astype(float)
    logits -= class_means(logits, label, classes).mean(1)
    high = np.array(own.scored)[label] >= 3
    third = np.array(own.scored)[label] % 3
    row = np.arange(len(label))
    gain = logits[row, :, label] - logits[row, :, third]
    prompt = own.digits["prompt"].to_numpy()[rows]
    by_prompt = advantage_by_prompt(gain, label, prompt, high)
    estimate = np.mean([gain[label == c].mean(0) for c in np.unique(label[high])], axis=0)
    return _tested(estimate, by_prompt, int(high.sum()), seed)


def _tested(
    estimate: Float[np.ndarray, "site"],
    by_prompt: Float[np.ndarray, "prompt site"],
    n: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """An estimate with its interval, and p: one-sided, that it is not above zero."""
    ends, p = bootstrap(by_prompt, seed).either_side(), luck_above_zero(by_prompt, seed)
    found = {"estimate": estimate, "low": ends.low, "high": ends.high, "p": p}
    return found | {"n": np.full(len(p), n)}


def _minus_codes(
    own: DigitReading,
    number: int,
    rows: Bool[np.ndarray, "n"],
    codes: Bool[np.ndarray, "n"],
    seed: int,
) -> dict[str, np.ndarray]:
    """Copied numbers against the same digits as a code, each prompt with its twin."""
    copies = rows & (own.digits["kind"] == "copy").to_numpy()
    both, classes = copies | codes, len(own.scored)
    label = own.label[both]
    score = scores(own.logits[both, number, :, :classes], label)
    digits = own.digits[both]
    pair = digits["twin"].where(digits["twin"] >= 0, digits["prompt"]).to_numpy()
    by_pair = [advantage_by_prompt(score, label, pair, part[both]) for part in (copies, codes)]
    means = [
        np.mean([score[part[both] & (label == c)].mean(0) for c in range(classes)], axis=0)
        for part in (copies, codes)
    ]
    return _tested(means[0] - means[1], by_pair[0] - by_pair[1], len(np.unique(pair)), seed)


def best_layer(
    tests: pd.DataFrame,
    sample: str,
    statistic: str = "place",
    lens: Mapping[str, str] = LENS,
) -> pd.Series | None:
    """The layer where a statistic stands out most, by the logit lens on centred states."""
    chosen = tests.query("sample == @sample and statistic == @statistic")
    for name, value in lens.items():
        chosen = chosen[chosen[name] == value]
    if chosen.empty:
        return None
    return chosen.sort_values(["p", "estimate"], ascending=[True, False]).iloc[0]


def best_by_nearest(
    tests: pd.DataFrame, contrasts: pd.DataFrame, sample: str
) -> tuple[str, pd.Series | None]:
    """The readout that is nearest to the model's own output on other texts, in words, and the
    layer where places stand out most by it."""
    told = contrasts[contrasts["statistic"].str.startswith(FROM_OUTPUT)]
    decoder, norm = told["statistic"].iloc[0].removeprefix(FROM_OUTPUT).split(": ")
    near = f"{told['estimate'].iloc[0]:.2f} nats from it, of {len(told)} readouts"
    lens = {"decoder": decoder, "norm": norm}
    words = f"{decoder}, {norm}, the readout nearest to the model's output on other texts ({near})"
    return words, best_layer(tests, sample, lens=lens)


def append_ranks(
    model: Model,
    own: DigitReading,
    some: Sequence[int],
    tables: Mapping[str, Any],
    stream: Stream,
) -> None:
    """Append to growing tables `rank_rows` of some texts, and `decoded_rows` of the first one."""
    texts = own.texts.chosen(some)
    for part in stream(texts.batches(1), tables.values(), "ranking"):
        tokens, row, pos, which = texts.batch(part, model.cfg.device)
        states, _ = read_states(model, tokens, own.where, row, pos)
        digits = texts.digits.loc[which].assign(prompt=some[part.start])
        digits["token"] = token_strings(model, digits["token_id"].tolist())
        for how in own.how:
            tables["place_words"].append(rank_rows(own, states, digits, how))
            if part.start == 0:
                likeliest = decoded_rows(own, states, digits, how)
                decoded = token_strings(model, likeliest["decoded_id"].tolist())
                tables["decoded"].append(likeliest.assign(decoded=decoded))


def rank_rows(
    own: DigitReading, states: Float[Tensor, "site n d"], digits: pd.DataFrame, how: Readout
) -> pd.DataFrame:
    """Rank, log-probability (nats) and score of each digit's own place word at every layer.

    Of a word's forms the best ranked counts, and the sum of their probabilities.
    """
    number = own.words.number(digits["place"].to_numpy())
    rows, classes = np.flatnonzero(number >= 0), len(own.words.places)
    number, states = number[rows], states[:, rows]
    most = max(len(ids) for ids in own.words.ids[:classes])
    forms = np.array([(*ids, *[ids[0]] * (most - len(ids))) for ids in own.words.ids[:classes]])
    logprob, rank = own.decoder.ranked(states, how, torch.from_numpy(forms[number]))
    forms_of = np.array([len(own.words.ids[n]) for n in number], dtype=int)
    extra = torch.from_numpy(np.arange(most) >= forms_of[:, None])
    total = logprob.cpu().masked_fill(extra, -torch.inf).logsumexp(-1).T.numpy()
    logits = own.words.logits(own.decoder, states, how)[..., :classes]
    layers = len(own.layers)
    names = ["prompt", "kind", "pos", "token", "phase", "sample", "place", "length"]
    table = digits.iloc[np.repeat(rows, layers)][names].reset_index(drop=True)
    named = own.words.table.drop_duplicates("place").set_index("place")["word"]
    return table.assign(
        layer=np.tile(own.layers, len(rows)),
        **describe(how),
        word=table["place"].map(named),
        rank=rank.amin(-1).T.cpu().numpy().ravel(),
        logprob=total.ravel(),
        score=scores(logits, number).ravel(),
    )


def decoded_rows(
    own: DigitReading, states: Float[Tensor, "site n d"], digits: pd.DataFrame, how: Readout
) -> pd.DataFrame:
    """The likeliest token of each digit's state at every layer, and its probability."""
    logprob, ids = (x[..., 0].T.cpu().numpy() for x in own.decoder.likeliest(states, how))
    names = ["prompt", "pos", "token", "phase", "part", "place"]
    table = digits.iloc[np.repeat(np.arange(len(digits)), len(own.layers))][names]
    layers = np.tile(own.layers, len(digits))
    table = table.reset_index(drop=True).assign(layer=layers, **describe(how))
    return table.assign(decoded_id=ids.ravel(), probability=np.exp(logprob.ravel()))


def confusion_rows(own: DigitReading, tests: pd.DataFrame) -> pd.DataFrame:
    """Share of each place's digits to which each place's word comes first, at the best layer.

    From each word's logit its mean over places is taken, or the commonest word would always win.
    """
    frames, classes = [], len(own.scored)
    for sample in SAMPLES:
        best = best_layer(tests, sample)
        if best is None:
            continue
        site, number = own.layers.tolist().index(best["layer"]), lens_of(own)
        rows = own.of(sample) & (own.label >= 0)
        logits, label = own.logits[rows, number, site, :classes].astype(float), own.label[rows]
        usual = class_means(logits[:, None], label, classes)[0].mean(0)
        first = (logits - usual).argmax(-1)
        counts = np.zeros((classes, classes), dtype=int)
        np.add.at(counts, (label, first), 1)
        place, word = np.indices(counts.shape).reshape(2, -1)
        names = np.array(own.scored)
        frame = pd.DataFrame({"place": names[place], "decoded_place": names[word]})
        n = counts.sum(1)[place]
        frames.append(
            frame.assign(sample=sample, layer=best["layer"], share=counts.ravel() / n, n=n)
        )
    return pd.concat(frames, ignore_index=True)


def lens_of(own: DigitReading) -> int:
    """Which of the readouts claims are about."""
    return next(i for i, how in enumerate(own.how) if describe(how) == LENS)


def answers_by_word(own: DigitReading, tests: pd.DataFrame) -> pd.DataFrame:
    """Answer digits of copies and sums with the mean score of the given digits at their place.

    At the layer where the words of announced digits stand out most.
    """
    best = best_layer(tests, "announced")
    layer = own.layers[-1] if best is None else best["layer"]
    site, classes = own.layers.tolist().index(layer), len(own.scored)
    rows = np.flatnonzero((own.label >= 0) & own.digits["kind"].isin(["copy", "addition"]))
    digits = own.digits.loc[rows].reset_index(drop=True)
    digits["score"] = scores(own.logits[rows, lens_of(own), site, :classes], own.label[rows])
    digits["wrong"] = ~own.right[rows]
    given = digits[digits["part"] != "c"].groupby(["prompt", "place"])["score"].mean()
    answers = digits[digits["part"] == "c"].drop(columns="score")
    joined = answers.merge(given.reset_index(), on=["prompt", "place"])
    return joined.assign(layer=layer)


def prefix_texts(
    model: Model, count: int, seed: int
) -> tuple[Words, DigitTexts, Int[np.ndarray, "n"]]:
    """Words of two-digit numbers, texts with their second digit, and which number each is about."""
    words = Words.of(model, {number: (word,) for number, word in PREFIX_WORDS.items()})
    prompts = prefix_prompts(count, seed)
    number = np.repeat([prompt.numbers[0] for prompt in prompts[::2]], 2)
    known = np.isin(number, words.places)
    prompts = [prompt for prompt, is_known in zip(prompts, known, strict=True) if is_known]
    texts = texts_of_prompts(model, prompts)
    second = texts.digits.query("place == 0").reset_index(drop=True)
    return words, DigitTexts(texts.ids, second), number[known]


def hardest(contrasts: pd.DataFrame, negligible: float) -> tuple[pd.Series, float]:
    """By layer the p of the control that is hardest to beat, and p that nothing is there after all.

    That one is two-sided: that at some layer all controls are exceeded by what is not negligible. A
    layer is left out where the p of one control is missing: it could be the hardest.
    """
    known = contrasts.groupby("layer").filter(
        lambda rows: rows[["p", "high"]].notna().all(axis=None)
    )
    beats = pd.Series(luck_outside(known, below=negligible), known.index).groupby(known["layer"])
    return known.groupby("layer")["p"].max(), beats.min().max()


def prefix_reading(
    model: Model, own: DigitReading, count: int, seed: int, size: int, stream: Stream
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`prefix_tables` of some texts: the word of a number, read at its second digit."""
    words, texts, number = prefix_texts(model, count, seed)
    asked, kept = np.array([words.ids[i][0] for i in words.number(number)])[:, None], PerPrompt()
    for part in stream(texts.batches(size), kept, "prefixes"):
        tokens, row, pos, which = texts.batch(part, model.cfg.device)
        states, _ = read_states(model, tokens, own.where, row, pos)
        ids = torch.as_tensor(asked[which], device=states.device)
        ranks = [own.decoder.ranked(states, how, ids)[1][..., 0].T for how in own.how]
        logits = [words.logits(own.decoder, states, how) for how in own.how]
        rank = torch.stack(ranks, dim=1).contiguous().cpu().numpy()
        kept.update(logits=np.stack(logits, axis=1), rank=rank)
    return prefix_tables(words, kept["logits"], kept["rank"], number, own, seed)


def prefix_tables(
    words: Words,
    logits: Float[np.ndarray, "n readout site word"],
    rank: Int[np.ndarray, "n readout site"],
    prefix: Int[np.ndarray, "n"],
    own: DigitReading,
    seed: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ranks of each prefix's word, and two contrasts by layer: its advantage and its lift.

    Rows alternate: a number that one word says, then another first digit before the same second
    one. What the second digit says by itself, as 3 says thirteen, is in both, and is taken off.
    Lift is the log2 of how many times nearer to the first rank the word stands after its own.
    Contrasts are about ten to nineteen: all begin with 1, so what 1 says by itself is no advantage.
    """
    number, lift = lens_of(own), np.log2(rank[1::2] / rank[::2])
    teens = prefix[::2] // 10 == 1
    rise = (logits[::2, number] - logits[1::2, number])[teens]
    contrasts = []
    if len(np.unique(prefix[::2][teens])) >= 3:
        contrasts = [
            _prefix_contrasts(words, rise, prefix[::2][teens], own, seed),
            _by_layer(
                "prefix lift", own.layers, vars(bootstrap(lift[teens, number], seed).either_side())
            ),
        ]
    table = pd.concat(list(_prefix_ranks(rank, lift, prefix[::2], own)), ignore_index=True)
    named = {place: word for word, place in words.table[["word", "place"]].itertuples(index=False)}
    table.insert(1, "word", table["prefix"].map(named))
    none = pd.DataFrame({"statistic": []})
    return table, pd.concat(contrasts, ignore_index=True) if contrasts else none


def _prefix_ranks(
    rank: Int[np.ndarray, "n readout site"],
    lift: Float[np.ndarray, "pair readout site"],
    prefix: Int[np.ndarray, "pair"],
    own: DigitReading,
) -> Iterator[pd.DataFrame]:
    """Median ranks and mean lift of each prefix, for each readout and layer."""
    for number, how in enumerate(own.how):
        for site, layer in enumerate(own.layers):
            frame = pd.DataFrame({"prefix": prefix, "lift": lift[:, number, site]})
            frame = frame.assign(
                rank=rank[::2, number, site], control_rank=rank[1::2, number, site]
            )
            grouped = frame.groupby("prefix").agg(
                rank=("rank", "median"), control_rank=("control_rank", "median"),
                lift=("lift", "mean"), n=("lift", "size"),
            )  # fmt: skip
            yield grouped.reset_index().assign(layer=layer, **describe(how))


def _prefix_contrasts(
    words: Words,
    logits: Float[np.ndarray, "n site word"],
    prefix: Int[np.ndarray, "n"],
    own: DigitReading,
    seed: int,
) -> pd.DataFrame:
    """By how much more the first digit raises a prefix's own word than the other prefixes' words.

    `logits` are differences from those after another first digit. p: max-T over layers.
    """
    known, label = np.unique(words.number(prefix), return_inverse=True)
    classes, pool = len(known), np.r_[known, len(words.places) : logits.shape[-1]]
    logits = logits[..., pool].astype(float)
    true = logits[..., :classes]
    observed = advantage(class_means(true, label, classes))
    null = other_words_null(class_means(logits, label, classes), seed)
    by_row = advantage_by_prompt(scores(true, label), label, np.arange(len(label)))
    ends = bootstrap(by_row, seed).either_side()
    values = {"estimate": observed, "low": ends.low, "high": ends.high}
    values["p"] = max_t(observed, null)
    return _by_layer("prefix word", own.layers, values | {"n": len(label)})


def _by_layer(statistic: str, layers: np.ndarray, values: dict) -> pd.DataFrame:
    return pd.DataFrame({"statistic": statistic, "layer": layers, **values})


DRAWN_LAYERS = 8
"""Layers whose likeliest words are drawn."""


def first_words(decoded: pd.DataFrame) -> pd.DataFrame:
    """The likeliest words at some layers, with the digit's place and number; centred ones first."""
    lens, layers = decoded[decoded["decoder"] == "U"], np.unique(decoded["layer"])
    chosen = layers[np.linspace(0, len(layers) - 1, DRAWN_LAYERS).round().astype(int)]
    lens = lens[lens["layer"].isin(chosen)].sort_values("norm", ascending=False, kind="stable")
    digit = lens["token"] + " · 10^" + lens["place"].astype(str) + " (" + lens["part"] + ")"
    return lens.assign(digit=digit)


def rank_quartiles(ranks: pd.DataFrame) -> pd.DataFrame:
    """Median and middle half of the ranks, by sample and layer."""
    by = np.log10(ranks["rank"]).groupby([ranks["sample"], ranks["layer"]])
    names = {0.25: "low", 0.5: "log10_rank", 0.75: "high"}
    return by.quantile(list(names)).unstack().reset_index().rename(columns=names)
