"""What predictors tell of what follows a word, as tables (SCIENCE 9)."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lenses.flow.bigram_counts import Bigrams
from lenses.flow.markov import (
    FITS,
    SOURCES,
    Fit,
    Scored,
    Source,
    fitted,
    logits_of,
    nearer_to_itself,
    readout_error,
    unigram_log,
)
from lenses.kept import PerPrompt
from lenses.statistics.against_random import as_high_by_luck
from lenses.statistics.grid import grid
from lenses.statistics.intervals import luck_beyond
from models import Model
from models.text import token_strings
from models.train.zero_layer import train_zero_layer

Stream = Callable[..., Iterator[Any]]
"""`Experiment.stream`."""
COMPARED: tuple[Source, ...] = ("E", "E without itself", "effective E", "whole model")
"""What is also measured in models with random weights."""
MEASURED = ("estimate", "repeats", "nearer")
"""What is measured of each: share of bigram information told, how often the likeliest next token
is the token itself, and KL from the counts less KL from repeating the token."""


def count_rows(bigrams: Bigrams) -> pd.DataFrame:
    """The one row of how much was counted, with entropies of the next token in nats."""
    scored = Scored(unigram_log(bigrams).expand(bigrams.counts.shape), bigrams)
    unigram, bigram = ((scored.weight * x).sum().item() for x in (scored.unigram, scored.bigram))
    told = {"kept": bigrams.kept, "first_tokens": len(bigrams.first)}
    told |= {"next_tokens": len(bigrams.following)}
    return pd.DataFrame([told | {"unigram_entropy": unigram, "bigram_entropy": bigram}])


def scored_row(
    source: str,
    fit: Fit,
    log_p: Float[Tensor, "first next"],
    bigrams: Bigrams,
    seed: int,
    counts: str = "all",
) -> dict[str, Any]:
    """One way to predict, scored against counts, which `counts` names; it has no scale."""
    scored = Scored(log_p, bigrams)
    found = vars(scored.share(seed)).items()
    found = {name: round(value.item(), 9) for name, value in found}
    told = {"source": source, "fit": fit, "counts": counts, "scale": np.nan}
    return told | found | scored.numbers()


def predictor_rows(
    model: Model, bigrams: Bigrams, rows: Any, seed: int, stream: Stream
) -> Int[np.ndarray, "2 first 3"]:
    """Append `scored_rows` of each of SOURCES to a growing table (`Experiment.rows`).

    Returns the likeliest next tokens of each first one, by E and by the whole model, as they are.
    """
    best = PerPrompt()
    for source in stream(SOURCES, (rows, best), "predictors"):
        logits = logits_of(model, source, bigrams, seed)
        rows.append(scored_rows(source, logits, bigrams, seed))
        if source in ("E", "whole model"):
            best.update(best=bigrams.following[logits.topk(3).indices.numpy()][None])
    return best["best"]


def scored_rows(
    source: str, logits: Float[Tensor, "first next"], bigrams: Bigrams, seed: int
) -> pd.DataFrame:
    """A row for each way to fit a predictor, with its scale."""
    rows = []
    for fit in FITS:
        log_p, scale = fitted(logits, bigrams, fit, seed)
        rows.append(scored_row(source, fit, log_p, bigrams, seed) | {"scale": scale})
    return pd.DataFrame(rows)


def trained_rows(bigrams: Bigrams, pairs: int, d_model: int, steps: int, seed: int) -> pd.DataFrame:
    """A zero-layer model trained on as many drawn pairs: scored against them, and against all."""
    sample = bigrams.sampled(pairs, seed)
    logits = train_zero_layer(sample.counts, d_model=d_model, steps=steps, seed=seed)
    source, log_p = "zero-layer, trained", logits.log_softmax(-1)
    return pd.DataFrame(
        [
            scored_row(source, "as it is", log_p, counts, seed, name)
            for name, counts in {"training": sample, "all": bigrams}.items()
        ]
    )


def baseline_rows(bigrams: Bigrams, seed: int) -> pd.DataFrame:
    """Word frequencies, all words alike, the token again, and the counts themselves."""
    unigram = unigram_log(bigrams).double().expand(bigrams.counts.shape)
    same = torch.from_numpy(bigrams.first)[:, None] == torch.from_numpy(bigrams.following)
    shares = bigrams.shares
    given = shares / shares.sum(1, keepdim=True)
    log_p = {
        "uniform": torch.full_like(unigram, -np.log(unigram.shape[1])),
        "unigram": unigram,
        "identity (half itself, half unigram)": (same + unigram.exp()).log()
        - (same.any(1, keepdim=True) + 1.0).log(),
        "bigram": given.clamp(min=1e-300).log(),
    }
    return pd.DataFrame(
        [scored_row(name, "as it is", values, bigrams, seed) for name, values in log_p.items()]
    )


def word_rows(
    model: Model,
    bigrams: Bigrams,
    best: Int[np.ndarray, "2 first 3"],
    seed: int,
) -> pd.DataFrame:
    """What each first token is followed by, and how much of it E tells.

    `best` are the likeliest next tokens that `predictor_rows` returns.
    """
    logits = logits_of(model, "E", bigrams, seed)
    names = token_strings(model, range(len(model.W_E)))
    scored = Scored(fitted(logits, bigrams, "with frequencies", seed)[0], bigrams)
    repeats, nearer = nearer_to_itself(logits.log_softmax(-1), bigrams)
    counted = bigrams.following[bigrams.counts.topk(3).indices.numpy()]
    likeliest = {"by_counts": counted, "by_embedding": best[0], "by_model": best[1]}
    words = {
        name: [" · ".join(names[token].strip() for token in row) for row in ids]
        for name, ids in likeliest.items()
    }
    told = {
        "token_id": bigrams.first,
        "token": [names[token] for token in bigrams.first],
        "count": scored.weight.numpy(),
        "told": (scored.unigram - scored.ce).numpy().round(9),
        "known": (scored.unigram - scored.bigram).numpy(),
        "nearer": nearer,
        "repeats": repeats,
    }
    return pd.DataFrame(told | words)


def beside_twins(
    model: Model,
    twins: Iterable[Model],
    count: int,
    bigrams: Bigrams,
    seed: int,
    stream: Stream,
) -> pd.DataFrame:
    """MEASURED of COMPARED, with own weights and those of `count` twins; through a stream."""
    found = {"own": compared(model, bigrams, seed)}
    for number, twin in enumerate(twins):
        kept = PerPrompt()
        for _ in stream([number], kept, f"random weights {number + 1}/{count}"):
            kept.update(found=compared(twin, bigrams, seed)[None])
        found[f"random {number}"] = kept["found"][0]
    values = np.moveaxis(np.stack(list(found.values())), -1, 0)
    axes = {"weights": list(found), "source": COMPARED}
    return grid(axes, **dict(zip(MEASURED, values, strict=True)))


def luck_told(
    own: pd.Series, random: Float[np.ndarray, "model"], least: float
) -> tuple[float, float]:
    """One-sided p of telling no more than `least`, or than one more random model; and the latter.

    The first is the larger of the two: first tokens are a sample, and random models another.
    """
    ahead, half = own["estimate"] - least, own["estimate"] - own["low"]
    of_tokens = luck_beyond(abs(ahead), half, own["n"]) / 2
    one_more = as_high_by_luck(own["estimate"], random)
    return max(of_tokens if ahead > 0 else 1 - of_tokens, one_more), one_more


def identity_rows(model: Model, bigrams: Bigrams) -> pd.DataFrame:
    """The one row of the `readout_error` of the first tokens."""
    return pd.DataFrame({"error": [readout_error(model, bigrams.first)]})


def compared(model: Model, bigrams: Bigrams, seed: int) -> Float[np.ndarray, "source measured"]:
    """MEASURED of each of COMPARED, added to word frequencies; `nearer` and `repeats` as it is."""
    rows = []
    for source in COMPARED:
        logits = logits_of(model, source, bigrams, seed)
        log_p, _ = fitted(logits, bigrams, "with frequencies", seed)
        repeats, nearer = nearer_to_itself(logits.log_softmax(-1), bigrams)
        share = Scored(log_p, bigrams).share(seed).estimate.item()
        rows.append((share, repeats.mean(), np.nanmean(nearer)))
    return np.array(rows)
