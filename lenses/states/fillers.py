"""The same positions after the same prompts, filled with different text: what differs, by table.

Each filler is compared with the first of FILLERS within prompt and position, and CONTROLS say
what is held fixed beside these. The same texts read by random models say what lies in the words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int

from lenses.states.certainty import BINS, ratio
from lenses.states.policy import STATISTICS, over_layers, overlap, read, standardised, surprisals
from lenses.statistics.against_random import as_high_by_luck
from lenses.statistics.fixed_effects import Effects, filler_effects, filler_slopes
from lenses.statistics.grid import grid
from lenses.statistics.intervals import benjamini_hochberg, bootstrap
from lenses.statistics.ranking import mean_of_known
from lenses.statistics.resampled import pseudo_values
from models import Model
from models.text import token_strings

FILLERS = ("given", "greedy", "sampled", "other", "shuffled")
"""What follows a prompt; all others are compared with the first."""
OWN = {"greedy": "likeliest text", "sampled": "sampled text"}
"""Those that the model wrote, in words."""
CONTROLS = {"position": 0, "position, surprisal": 2, "position, surprisal, history": 4}
"""What is held fixed, and how many of the covariates that takes."""
MAIN = "position, surprisal"
HELD = {"nothing": 1, "surprisal": BINS}
"""What is held fixed where entropies are compared: ranges of the surprisal of the token read."""
FOUND = 0.05
"""p_any up to which a statistic is said to differ."""


@dataclass(frozen=True)
class Filled:
    """Prompts with all their fillers, read; statistics are in standard deviations."""

    known: Bool[np.ndarray, "prompt pos"]
    """Tokens that are compared, in all fillers of the prompt."""
    covariates: Float[np.ndarray, "prompt filler pos 4"]
    """Surprisal, log(1 + surprisal), mean surprisal before, repeated; 0 where not known."""
    layers: Float[np.ndarray, "prompt filler pos statistic layer"]
    values: Float[np.ndarray, "prompt filler pos statistic"]
    """Over layers."""
    random: list[Float[np.ndarray, "prompt filler pos statistic"]]
    """The same of each random model."""

    @classmethod
    def of(
        cls,
        surprisal: Float[np.ndarray, "prompt filler pos"],
        history: Float[np.ndarray, "prompt filler pos 2"],
        statistics: Float[np.ndarray, "prompt filler pos statistic layer"],
        random: Sequence[Float[np.ndarray, "prompt filler pos statistic layer"]] = (),
    ) -> "Filled":
        """From numbers as they were read; where one filler's surprisal is NaN nothing is known."""
        known = ~np.isnan(surprisal).any(axis=1)
        nats, layers = np.nan_to_num(surprisal)[..., None], standardised(statistics, known)
        return cls(
            known=known,
            covariates=np.concatenate([nats, np.log1p(nats), history], axis=-1),
            layers=layers,
            values=over_layers(layers, known),
            random=[over_layers(standardised(twin, known), known) for twin in random],
        )

    def compared(self, control: str, seed: int) -> list[Effects]:
        """Effects on the statistics: own weights, then their excess over each random model's."""
        held = self.covariates[..., : CONTROLS[control]]
        every = (self.values, *(self.values - random for random in self.random))
        return [filler_effects(values, held, self.known, seed) for values in every]

    def every_other(self, first: int) -> "Filled":
        """Half of the prompts: every second one from the first."""
        half = slice(first, None, 2)
        parts = (self.known, self.covariates, self.layers, self.values)
        return Filled(*(part[half] for part in parts), [random[half] for random in self.random])


def _known(axes: dict[str, int | Sequence], **values: np.ndarray) -> pd.DataFrame:
    """Tidy rows; undefined estimates left out."""
    return grid(axes, **values).dropna(subset="estimate").reset_index(drop=True)


def _stacked(found: Sequence[Effects], *names: str) -> dict[str, np.ndarray]:
    return {name: np.stack([getattr(one, name) for one in found]) for name in names}


def effect_table(controls: dict[str, list[Effects]], prompts: int) -> pd.DataFrame:
    """One row per control, filler and statistic; q is corrected over the table."""
    found = [own for own, *_ in controls.values()]
    values = _stacked(found, "estimate", "low", "high", "p", "p_any", "detectable")
    axes = {"control": list(controls), "filler": FILLERS[1:], "statistic": STATISTICS}
    rows = _known(axes, **values).assign(n=prompts)
    if len(rows):
        rows.insert(
            rows.columns.get_loc("detectable"), "q", benjamini_hochberg(rows["p"].to_numpy())
        )
    return rows


def excess_table(controls: dict[str, list[Effects]], prompts: int) -> pd.DataFrame:
    """Effects less those in each random model, where a statistic varies in both."""
    found = [one for _, *others in controls.values() for one in others]
    values = _stacked(found, "estimate", "low", "high", "p_any")
    models = len(found) // len(controls)
    axes = {"control": list(controls), "random_model": models, "filler": FILLERS[1:]}
    return _known(axes | {"statistic": STATISTICS}, **values).assign(n=prompts)


def explained_table(filled: Filled, seed: int) -> pd.DataFrame:
    """Share of the effects with position alone that is gone with surprisal held fixed, too.

    1 - <held, plain> / <plain, plain> over the statistics that differ with position alone in these
    weights (p_any up to FOUND). Which do is seen in one half of the prompts, and the share is
    measured in the other; then the halves change places, and the mean is taken. Of these weights
    (`own`) and of each random model; rows where nothing differs are left out.
    """
    halves = filled.every_other(0), filled.every_other(1)
    found = [half.compared("position", seed)[0].p_any <= FOUND for half in reversed(halves)]
    rows = []
    for number in range(1 + len(filled.random)):
        parts = [_gone(*pair, number) for pair in zip(halves, found, strict=True)]
        ends = bootstrap(np.concatenate([pseudo_values(*part) for part in parts]), seed)
        weights = {"weights": ["own" if number == 0 else f"random {number - 1}"]}
        told = {"estimate": mean_of_known(np.stack([whole for whole, _ in parts], axis=-1))}
        told |= {"low": ends.low, "high": ends.high, "n": ends.n}
        rows.append(_known(weights | {"filler": FILLERS[1:]}, **told))
    return pd.concat(rows, ignore_index=True)


def _gone(
    half: Filled, found: Bool[np.ndarray, "filler cell"], number: int
) -> tuple[Float[np.ndarray, "filler"], Float[np.ndarray, "prompt filler"]]:
    """The share that is gone in one model (0: these weights); then without each prompt.

    NaN of fillers in which no statistic was found.
    """
    values = (half.values, *half.random)[number]
    plain, held = (
        filler_slopes(values, half.covariates[..., : CONTROLS[name]], half.known)
        for name in ("position", MAIN)
    )
    whole, without = (_share_gone(found, *pair) for pair in zip(plain, held, strict=True))
    return whole, without


def _share_gone(
    found: Bool[np.ndarray, "filler cell"],
    was: Float[np.ndarray, "*prompt filler cell"],
    left: Float[np.ndarray, "*prompt filler cell"],
) -> Float[np.ndarray, "*prompt filler"]:
    """1 - the projection of what is left on what was, over what was found; NaN for nothing."""
    was, left = np.where(found, np.nan_to_num(was), 0), np.nan_to_num(left)
    with np.errstate(invalid="ignore"):
        return 1 - (was * left).sum(axis=-1) / (was**2).sum(axis=-1)


def layer_table(filled: Filled, seed: int) -> pd.DataFrame:
    """Effects layer by layer, position and surprisal held fixed; p_any is over all of them."""
    flat = filled.layers.reshape(*filled.layers.shape[:3], -1)
    held = filled.covariates[..., : CONTROLS[MAIN]]
    found = filler_effects(flat, held, filled.known, seed)
    axes = {"control": [MAIN], "filler": FILLERS[1:], "statistic": STATISTICS}
    axes |= {"layer": filled.layers.shape[-1]}
    values = _stacked([found], "estimate", "low", "high", "p", "p_any", "detectable")
    return _known(axes, **values).assign(n=len(flat))


def filler_table(filled: Filled, seed: int) -> pd.DataFrame:
    """Mean surprisal and repetition of each filler, and how its surprisals overlap the first's."""
    known = filled.known[:, None, :, None]
    both = filled.covariates[..., [0, 3]]
    means = (both * known).sum(axis=2) / known.sum(axis=2)
    found, repeated = bootstrap(means[..., 0], seed), means[..., 1].mean(axis=0)
    nats = [filled.covariates[:, i, :, 0][filled.known] for i in range(len(FILLERS))]
    ends = {"surprisal": found.estimate, "low": found.low, "high": found.high}
    shared = {
        name: [overlap(part, nats[FILLERS.index(against)]) for part in nats]
        for name, against in (("overlap", "given"), ("overlap_other", "other"))
    }
    return pd.DataFrame(
        {"filler": FILLERS} | ends | {"repeated": repeated} | shared | {"n": found.n}
    )


def certainty_table(
    filled: Filled, entropy: Sequence[Float[np.ndarray, "prompt filler pos"]]
) -> pd.DataFrame:
    """Ratios of mean entropies after tokens of own text to those after given and other text.

    `entropy` is in nats, of these weights and then of each random model; ranges of surprisal are
    those of these weights throughout.
    """
    surprisal, rows = filled.covariates[..., 0], []
    names = ["own", *(f"random {number}" for number in range(len(entropy) - 1))]
    for (weights, nats), own, against, (held, bins) in product(
        zip(names, entropy, strict=True), OWN, ("given", "other"), HELD.items()
    ):
        pair = [FILLERS.index(own), FILLERS.index(against)]
        found = ratio(nats[:, pair], surprisal[:, pair], filled.known, bins)
        rows.append({"weights": weights, "filler": own, "against": against, "held": held}
                    | vars(found))  # fmt: skip
    return pd.DataFrame(rows)


def own_text_table(
    model: Model,
    prompt: Int[np.ndarray, "prompt pos"],
    given: dict[str, Int[np.ndarray, "prompt new"]],
    own: Sequence[Int[np.ndarray, "prompt new"]],
) -> pd.DataFrame:
    """How a model's own texts, one of each of OWN, differ from each of some given ones.

    Position and surprisal are held fixed.
    """
    found = []
    for name, text in given.items():
        shuffled = np.random.default_rng(0).permuted(text, axis=1)
        fillers = np.stack([text, *own, np.roll(text, 1, axis=0), shuffled], axis=1)
        effects = _filled(model, prompt, fillers).compared(MAIN, 0)
        axes = {"given": [name], "filler": FILLERS[1:], "statistic": STATISTICS}
        found.append(_known(axes, **_stacked(effects, "estimate", "low", "high", "p_any")))
    rows = pd.concat(found, ignore_index=True).assign(n=len(prompt))
    return rows[rows["filler"].isin(list(OWN))].reset_index(drop=True)


def _filled(
    model: Model,
    prompt: Int[np.ndarray, "prompt pos"],
    fillers: Int[np.ndarray, "prompt filler new"],
) -> Filled:
    """Fillers of one length after prompts of one length, read in one pass, without history."""
    start, shape = prompt.shape[1], fillers.shape
    whole = np.concatenate([np.repeat(prompt[:, None], shape[1], axis=1), fillers], axis=-1)
    tokens = torch.from_numpy(whole.reshape(-1, whole.shape[-1])).to(model.cfg.device)
    found = read(model, tokens, start, start)
    nats = surprisals(found, fillers.reshape(-1, shape[-1])).reshape(shape)
    statistics = found.statistics.reshape(*shape, *found.statistics.shape[2:])
    return Filled.of(nats, np.zeros((*shape, 2)), statistics)


def token_rows(model: Model, filled: Filled, ids: np.ndarray, of: np.ndarray) -> pd.DataFrame:
    """Every token that is compared."""
    rows = grid({"prompt": of, "filler": FILLERS, "pos": ids.shape[-1]}, token_id=ids)
    told = ["surprisal", "log_surprisal", "surprisal_before", "repeated", *STATISTICS]
    values = np.concatenate([filled.covariates, filled.values], axis=-1)
    rows[told] = values.reshape(len(rows), -1)
    known = np.broadcast_to(filled.known[:, None], ids.shape).ravel()
    rows = rows[known].drop(columns="log_surprisal").reset_index(drop=True)
    rows.insert(4, "token", token_strings(model, rows["token_id"]))
    return rows


def worst_p(rows: pd.DataFrame, random: pd.DataFrame) -> pd.Series:
    """By statistic, the largest p: that it differs, from each random model's and from one more's.

    An effect that is nearer to zero than a random model's, or on its other side, counts as 1.
    """
    own = rows["estimate"].reindex(random["statistic"]).to_numpy()
    side = np.sign(own)
    beyond = np.sign(random["estimate"]) == side
    excess = random["p_any"].where(beyond, 1.0).groupby(random["statistic"]).max()
    effects = (side * (own - random["estimate"])).groupby(random["statistic"])
    one_more = pd.Series(
        {
            name: as_high_by_luck(abs(own), x.to_numpy(), int(rows["n"][name]))
            for (name, x), own in zip(
                effects, rows["estimate"].reindex(effects.groups), strict=True
            )
        }
    )
    worst = np.maximum(excess, one_more).reindex(rows.index).fillna(1.0)
    return np.maximum(rows["p_any"], worst)


def clearest(
    rows: pd.DataFrame, random: pd.DataFrame, claims: int
) -> tuple[pd.Series, float | None]:
    """The row of the statistic whose `worst_p` is smallest; of several, the largest effect.

    Its p is that one, corrected over so many claims (Bonferroni). And what the effect is in random
    models, on average; None where it varies in none of them.
    """
    worst = worst_p(rows, random)
    best = worst.index[np.lexsort([-rows["estimate"].abs(), worst])[0]]
    chosen = rows.assign(p=(claims * worst).clip(upper=1)).loc[best]
    others = random[random["statistic"] == best]
    return chosen, chosen["estimate"] - others["estimate"].mean() if len(others) else None
