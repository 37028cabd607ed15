"""Probes of a digit's place and value, beyond what pos and token tell, and across places."""

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lenses.digits.reading import NUMBERS, DigitReading
from lenses.states.probes import balanced_accuracy, control_labels, cross_validated, probes
from lenses.statistics.intervals import bootstrap, sign_flip, wilson

TESTED = ("announced", "generated")
"""Samples in which the place can be known."""
JUDGED = ("position and digit", "random weights")
"""What the states' accuracy must exceed."""
COMPARED = (*JUDGED, "control task")
"""What else it is compared with: the last difference is the probe's selectivity. A control label
follows from index and digit, and a place does not, so selectivity may be low for want of a place
that can be known, and decides nothing."""
PER_PLACE = 30
"""Digits that a place needs to be part of the transfer matrix."""


def probe_tables(
    own: DigitReading, twin: DigitReading, most: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Accuracy of probes of the place, and by how much states beat what they are compared with.

    Compared are: the same probe on the twin's states, on pos, index and digit alone (one-hot, and
    pos with index), and on states with random labels for each index and digit (a control task).
    Contrasts are by prompt.
    """
    tables, contrasts = [], []
    for sample in TESTED:
        rows = _some_digits(own, sample, most, seed)
        if len(rows) < 20:
            continue
        told = _told(own, twin, rows, seed)
        layers = own.layers[own.few]
        frames = [_accuracies(sample, name, layers, *found) for name, found in told.items()]
        tables += frames
        contrasts.append(_beyond(own, sample, rows, told, seed))
    return pd.concat(tables, ignore_index=True), pd.concat(contrasts, ignore_index=True)


def beside_states(probes: pd.DataFrame) -> pd.DataFrame:
    """What a probe without states reaches, at every layer, to be drawn beside the others."""
    without = probes["read"] == "position and digit"
    layers = probes.loc[~without, ["sample", "layer"]].drop_duplicates()
    level = layers.merge(probes[without].drop(columns="layer"), on="sample")
    return pd.concat([probes[~without], level], ignore_index=True)


def _some_digits(own: DigitReading, sample: str, most: int, seed: int) -> Int[np.ndarray, "n"]:
    """At most `most` digits, of prompts in random order; places of fewer than 5 digits left out."""
    rows = np.flatnonzero(own.of(sample))
    prompts = own.digits["prompt"].to_numpy()[rows]
    order = np.random.default_rng(seed).permutation(prompts.max(initial=0) + 1)
    rows = rows[np.argsort(order[prompts], kind="stable")][:most]
    place = own.digits["place"].to_numpy()[rows]
    return rows[np.bincount(place, minlength=1)[place] >= 5]


def _told(
    own: DigitReading, twin: DigitReading, rows: Int[np.ndarray, "n"], seed: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """What each probe says, and the labels it was to say."""
    digits = own.digits.loc[rows]
    place, group = (torch.tensor(digits[name].to_numpy()) for name in ("place", "prompt"))
    kinds = torch.tensor((digits["index"] * 10 + digits["digit"]).to_numpy())
    control = control_labels(kinds, place, seed)
    inputs = {
        "states": (_states(own, rows), place),
        "random weights": (_states(twin, rows), place),
        "position and digit": (_without_states(digits), place),
        "control task": (_states(own, rows), control),
    }
    return {
        name: (cross_validated(states, labels, group, seed=seed), labels)
        for name, (states, labels) in inputs.items()
    }


def _states(own: DigitReading, rows: Int[np.ndarray, "n"]) -> Float[Tensor, "few n d"]:
    return torch.from_numpy(own.states[rows]).transpose(0, 1).contiguous()


def _without_states(digits: pd.DataFrame) -> Float[Tensor, "1 n feature"]:
    """Pos, index, digit and pos with index, one-hot: what a place could be guessed from."""
    both = digits["pos"] * 100 + digits["index"]
    columns = [digits["pos"], digits["index"], digits["digit"], both]
    known = [np.unique(column, return_inverse=True)[1] for column in columns]
    one_hot = np.hstack([np.eye(each.max() + 1)[each] for each in known])
    return torch.from_numpy(one_hot).float()[None]


def _accuracies(
    sample: str, name: str, layers: np.ndarray, said: Tensor, labels: Tensor
) -> pd.DataFrame:
    """Plain and balanced accuracy of one kind of probe at each site."""
    right = (said == labels).double()
    n, correct = len(labels), right.sum(1).numpy()
    low, high = wilson(correct, np.full(len(correct), n))
    balanced = balanced_accuracy(said, labels).numpy()
    values = {"accuracy": correct / n, "low": low, "high": high, "balanced": balanced}
    at = layers if len(said) == len(layers) else np.full(len(said), layers[-1])
    names = {"sample": sample, "read": name, "layer": at}
    return pd.DataFrame({**names, **values, "labels": len(labels.unique()), "n": n})


def _beyond(
    own: DigitReading,
    sample: str,
    rows: Int[np.ndarray, "n"],
    told: dict[str, tuple[Tensor, Tensor]],
    seed: int,
) -> pd.DataFrame:
    """Mean over prompts of states' accuracy minus that of each comparison, by site."""
    right = {name: (said == labels).double().numpy() for name, (said, labels) in told.items()}
    prompt = own.digits["prompt"].to_numpy()[rows]
    frames = []
    for name in COMPARED:
        difference = (right["states"] - right[name]).T
        each = pd.DataFrame(difference).groupby(prompt).mean().to_numpy()
        found, p = bootstrap(each, seed).within(-1, 1), sign_flip(each, seed)
        frame = pd.DataFrame({"layer": own.layers[own.few], **vars(found)})
        p = np.where(found.estimate > 0, p / 2, 1 - p / 2) * each.shape[1]
        frame["p"] = np.minimum(1, p)
        frames.append(frame.assign(statistic=f"place beyond {name}", sample=sample))
    return pd.concat(frames, ignore_index=True)


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
    own: DigitReading, twin: DigitReading, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A probe of the digit's value trained at one place and tested at another, and a contrast.

    Given digits of numbers, at the first kept site of the upper half; halves of the prompts take
    turns in training and testing. The contrast is accuracy across places, own minus random weights.
    """
    rows, places = _enough_digits(own)
    if len(places) < 2:
        return pd.DataFrame(), pd.DataFrame()
    site = next(i for i, number in enumerate(own.few) if number >= (len(own.where) - 1) / 2)
    layer = own.layers[own.few[site]]
    tables, across = [], []
    for name, reading in (("own", own), ("random", twin)):
        right = _transferred(reading, rows, places, site, seed)  # [train place, n]; NaN if unseen
        place = own.digits["place"].to_numpy()[rows]
        tables.append(_matrix(right, place, places).assign(weights=name, layer=layer))
        crossed = np.where(place == np.array(places)[:, None], np.nan, right)
        across.append(np.nanmean(crossed, axis=0))
    prompt = own.digits["prompt"].to_numpy()[rows]
    each = pd.DataFrame({"d": across[0] - across[1]}).groupby(prompt).mean().to_numpy()
    found = {name: value[0] for name, value in vars(bootstrap(each, seed).within(-1, 1)).items()}
    found |= {"p": sign_flip(each, seed)[0], "null": float(across[1].mean())}
    contrast = pd.DataFrame([{"statistic": "digit across places", "layer": layer, **found}])
    return pd.concat(tables, ignore_index=True), contrast


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
