"""Probes of a digit's place and value, beyond what pos and token tell, and across places."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lenses.digits.reading import NUMBERS, DigitReading
from lenses.states.probes import balanced_accuracy, control_labels, cross_validated, probes
from lenses.statistics.against_random import beyond_random
from lenses.statistics.intervals import bootstrap, luck_above_zero, wilson

TESTED = ("announced", "generated")
"""Samples in which the place can be known."""
WITHOUT, RANDOM, CONTROL = "position and digit", "random weights", "control task"
JUDGED = (WITHOUT, RANDOM)
"""What the states' accuracy must exceed."""
COMPARED = (*JUDGED, CONTROL)
"""What else it is compared with: the last difference is the probe's selectivity. A control label
follows from index and digit, and a place does not, so selectivity may be low for want of a place
that can be known, and decides nothing."""
PER_PLACE = 30
"""Digits that a place needs to be part of the transfer matrix."""
ENOUGH = 20
"""Digits of a sample that probes need."""


Told = dict[str, Int[Tensor, "few n"]]
"""By sample, the place that a probe of the states at each site tells for some digits."""


def places_told(reading: DigitReading, most: int, seed: int) -> Told:
    """What probes of a model's states tell of places, in each sample with digits enough."""
    told = {}
    for sample in TESTED:
        rows = _some_digits(reading, sample, most, seed)
        if len(rows) >= ENOUGH:
            place, group = (
                torch.tensor(reading.digits.loc[rows, name].to_numpy())
                for name in ("place", "prompt")
            )
            told[sample] = cross_validated(_states(reading, rows), place, group, seed=seed)
    return told


def probe_tables(
    own: DigitReading, random: Sequence[Told], most: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Accuracy of probes of the place, and by how much states beat what they are compared with.

    Compared are: the same probe on the states of models with `random` weights, on pos, index and
    digit alone (one-hot, and pos with index), and on states with random labels for each index and
    digit (a control task). Contrasts are by prompt.
    """
    tables, contrasts, states = [], [], places_told(own, most, seed)
    for sample in states:
        rows = _some_digits(own, sample, most, seed)
        others = torch.stack([one[sample] for one in random])
        told = {"states": states[sample], RANDOM: others} | _controls(own, rows, seed)
        place = torch.tensor(own.digits.loc[rows, "place"].to_numpy())
        labels = dict.fromkeys(told, place) | {CONTROL: _control_labels(own, rows, seed)}
        for name, said in told.items():
            found = _accuracies(said, labels[name])
            at = own.layers[own.few] if len(found) == len(own.few) else own.layers[own.few[-1]]
            tables.append(found.assign(sample=sample, read=name, layer=at))
        right = {name: (said == labels[name]).double().numpy() for name, said in told.items()}
        prompt = own.digits.loc[rows, "prompt"].to_numpy()
        contrasts.append(_beyond(own.layers[own.few], right, prompt, seed).assign(sample=sample))
    return pd.concat(tables, ignore_index=True), pd.concat(contrasts, ignore_index=True)


def beside_states(probes: pd.DataFrame) -> pd.DataFrame:
    """What a probe without states reaches, at every layer, to be drawn beside the others."""
    without = probes["read"] == WITHOUT
    layers = probes.loc[~without, ["sample", "layer"]].drop_duplicates()
    level = layers.merge(probes[without].drop(columns="layer"), on="sample")
    return pd.concat([probes[~without], level], ignore_index=True)


def accuracies_in_words(probes: pd.DataFrame, layer: int) -> str:
    """The balanced accuracies behind a claim."""
    here = probes[(probes["layer"] == layer) | (probes["read"] == WITHOUT)]
    told = ", ".join(f"{read} {value:.2f}" for read, value in here[["read", "balanced"]].to_numpy())
    chance = 1 / here["labels"].max()
    rival = "the rival that is hardest to beat; balanced accuracy"
    return f"{rival}: {told}; chance {chance:.2f}; above the control task: selectivity"


def _some_digits(own: DigitReading, sample: str, most: int, seed: int) -> Int[np.ndarray, "n"]:
    """At most `most` digits, of prompts in random order; places of fewer than 5 digits left out."""
    rows = np.flatnonzero(own.of(sample))
    prompts = own.digits["prompt"].to_numpy()[rows]
    order = np.random.default_rng(seed).permutation(prompts.max(initial=0) + 1)
    rows = rows[np.argsort(order[prompts], kind="stable")][:most]
    place = own.digits["place"].to_numpy()[rows]
    return rows[np.bincount(place, minlength=1)[place] >= 5]


def _controls(own: DigitReading, rows: Int[np.ndarray, "n"], seed: int) -> Told:
    """What is told of places without states, and of the labels of a control task with them."""
    digits = own.digits.loc[rows]
    place, group = (torch.tensor(digits[name].to_numpy()) for name in ("place", "prompt"))
    labels, without = _control_labels(own, rows, seed), _without_states(digits)
    return {
        WITHOUT: cross_validated(without, place, group, seed=seed),
        CONTROL: cross_validated(_states(own, rows), labels, group, seed=seed),
    }


def _control_labels(own: DigitReading, rows: Int[np.ndarray, "n"], seed: int) -> Int[Tensor, "n"]:
    """Places dealt out at random to each index and digit."""
    digits = own.digits.loc[rows]
    kinds = torch.tensor((digits["index"] * 10 + digits["digit"]).to_numpy())
    return control_labels(kinds, torch.tensor(digits["place"].to_numpy()), seed)


def _states(own: DigitReading, rows: Int[np.ndarray, "n"]) -> Float[Tensor, "few n d"]:
    return torch.from_numpy(own.states[rows]).transpose(0, 1).contiguous()


def _without_states(digits: pd.DataFrame) -> Float[Tensor, "1 n feature"]:
    """Pos, index, digit and pos with index, one-hot: what a place could be guessed from."""
    both = digits["pos"] * 100 + digits["index"]
    columns = [digits["pos"], digits["index"], digits["digit"], both]
    known = [np.unique(column, return_inverse=True)[1] for column in columns]
    one_hot = np.hstack([np.eye(each.max() + 1)[each] for each in known])
    return torch.from_numpy(one_hot).float()[None]


def _accuracies(said: Int[Tensor, "*model site n"], labels: Int[Tensor, "n"]) -> pd.DataFrame:
    """Plain and balanced accuracy of one kind of probe at each site.

    Of several models the mean, and as low and high the lowest and highest of them.
    """
    if said.ndim == 3:
        by_site = pd.concat([_accuracies(one, labels) for one in said]).groupby(level=0)
        ends = {"low": by_site["accuracy"].min(), "high": by_site["accuracy"].max()}
        return by_site.mean().assign(**ends).astype({"labels": int, "n": int})
    n, correct = len(labels), (said == labels).sum(1).numpy()
    low, high = wilson(correct, np.full(len(correct), n))
    values = {"accuracy": correct / n, "low": low, "high": high}
    values["balanced"] = balanced_accuracy(said, labels).numpy()
    return pd.DataFrame({**values, "labels": len(labels.unique()), "n": n})


def _beyond(
    layers: Int[np.ndarray, "site"],
    right: dict[str, Float[np.ndarray, "*model site n"]],
    prompt: Int[np.ndarray, "n"],
    seed: int,
) -> pd.DataFrame:
    """Mean over prompts of states' accuracy minus that of each comparison, by site."""
    states, frames = _by_prompt(right["states"], prompt), []
    for name in COMPARED:
        if name == RANDOM:
            others = np.stack([_by_prompt(one, prompt) for one in right[name]])
            found, p = beyond_random(states, others, seed, (-1, 1))
        else:
            each = states - _by_prompt(right[name], prompt)
            found, p = bootstrap(each, seed).within(-1, 1), luck_above_zero(each, seed)
        frame = pd.DataFrame({"layer": layers, **vars(found), "p": np.minimum(1, p * len(layers))})
        frames.append(frame.assign(statistic=f"place beyond {name}"))
    return pd.concat(frames, ignore_index=True)


def _by_prompt(
    values: Float[np.ndarray, "site n"], prompt: Int[np.ndarray, "n"]
) -> Float[np.ndarray, "prompt site"]:
    """Means of each prompt's digits."""
    return pd.DataFrame(values.T).groupby(prompt).mean().to_numpy()


def answers_by_probe(own: DigitReading, most: int, seed: int) -> pd.DataFrame:
    """Answer digits, and whether a probe tells the place of the digit that each was written after.

    The probe has seen no digit of the same prompt, and reads the kept site where it tells most.
    """
    rows = _some_digits(own, "generated", most, seed)
    digits = own.digits.assign(wrong=~own.right).loc[rows]
    place, group = (torch.tensor(digits[name].to_numpy()) for name in ("place", "prompt"))
    said = cross_validated(_states(own, rows), place, group, seed=seed)
    best = int(balanced_accuracy(said, place).argmax())
    before = digits[["prompt", "index"]].assign(score=(said[best] == place).int().numpy())
    joined = digits.merge(before.assign(index=before["index"] + 1), on=["prompt", "index"])
    return joined.assign(layer=own.layers[own.few[best]])


def transfer_tables(
    own: DigitReading, random: Sequence[Float[np.ndarray, "place n"]], seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A probe of the digit's value trained at one place and tested at another, and a contrast.

    Given digits of numbers, at the first kept site of the upper half; halves of the prompts take
    turns in training and testing. The contrast is accuracy across places, minus that of models
    with `random` weights.
    """
    rows, places = _enough_digits(own)
    if len(places) < 2:
        return pd.DataFrame(), pd.DataFrame()
    place, prompt = (own.digits[name].to_numpy()[rows] for name in ("place", "prompt"))
    right = np.stack([digits_told(own, seed), *random])  # own first: [model, train place, n]
    crossed = np.where(place == np.array(places)[:, None], np.nan, right)
    across = [_by_prompt(one[None], prompt) for one in np.nanmean(crossed, axis=1)]
    found, p = beyond_random(across[0], np.stack(across[1:]), seed, (-1, 1))
    matrices = [_matrix(one, place, places) for one in right]
    tables = [matrices[0].assign(weights="own"), _pooled(matrices[1:]).assign(weights="random")]
    values = {name: value[0] for name, value in vars(found).items()}
    values |= {"p": p[0], "null": across[0].mean() - found.estimate[0]}
    layer = own.layers[own.few[_upper(own)]]
    contrast = pd.DataFrame([{"statistic": "digit across places", "layer": layer, **values}])
    return pd.concat(tables, ignore_index=True).assign(layer=layer), contrast


def digits_told(reading: DigitReading, seed: int) -> Float[np.ndarray, "place n"]:
    """Whether each given digit is told by the probe of each place, at the site of the transfer."""
    rows, places = _enough_digits(reading)
    if len(places) < 2:
        return np.empty((0, len(rows)))
    return _transferred(reading, rows, places, _upper(reading), seed)


def _upper(reading: DigitReading) -> int:
    """Number of the first kept site of the upper half."""
    middle = (len(reading.where) - 1) / 2
    return next(i for i, number in enumerate(reading.few) if number >= middle)


def _enough_digits(own: DigitReading) -> tuple[Int[np.ndarray, "n"], list[int]]:
    """Given digits of numbers at the places that have enough of them, and these places."""
    digits = own.digits
    given = digits["kind"].isin(NUMBERS) & (digits["part"] == "a") & (digits["pos"] > 0)
    counts = digits.loc[given, "place"].value_counts()
    places = sorted(counts[counts >= PER_PLACE].index)
    return np.flatnonzero(given & digits["place"].isin(places)), places


def _transferred(
    own: DigitReading, rows: Int[np.ndarray, "n"], places: list[int], site: int, seed: int
) -> Float[np.ndarray, "place n"]:
    """Whether each digit is told by the probe trained at each place on the other half."""
    place, digit, prompt = (
        own.digits[name].to_numpy()[rows] for name in ("place", "digit", "prompt")
    )
    half = np.random.default_rng(seed).permutation(prompt.max() + 1)[prompt] % 2
    train = [(place == p) & (half == h) for h in (0, 1) for p in places]
    states = _states(own, rows)[site : site + 1]
    fitted = probes(states, torch.from_numpy(digit), torch.from_numpy(np.array(train)))
    right = fitted.predict(states)[0].numpy() == digit
    first, second = right.reshape(2, len(places), -1)
    return np.where(half == 0, second, first).astype(float)


def _pooled(matrices: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The digits of several models together; low and high are those of single models."""
    keys, each = ["train_place", "test_place"], pd.concat(matrices)
    table = each.groupby(keys)[["correct", "n"]].sum().reset_index()
    ends = each.groupby(keys)["accuracy"].agg(low="min", high="max").reset_index(drop=True)
    return table.assign(accuracy=table["correct"] / table["n"], **ends)


def _matrix(
    right: Float[np.ndarray, "place n"], place: Int[np.ndarray, "n"], places: list[int]
) -> pd.DataFrame:
    """Accuracy for each place of training and of testing."""
    rows = []
    for trained, told in zip(places, right, strict=True):
        for tested in places:
            some = told[place == tested]
            rows.append((trained, tested, int(some.sum()), len(some)))
    table = pd.DataFrame(rows, columns=["train_place", "test_place", "correct", "n"])
    low, high = wilson(table["correct"].to_numpy(), table["n"].to_numpy())
    return table.assign(accuracy=table["correct"] / table["n"], low=low, high=high)
