"""Are the ten digits a line, a circle or a cloud?"""

import gc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from experiments import Claim, Experiment, Results, UsageError

if TYPE_CHECKING:
    from lenses.digits.exchanges import EveryValue, Exchanges, Slot
    from models import Model
    from viz import Drawing

TWINS = 3
"""Models of the same shape with fresh weights, whose digits are drawn beside the model's own."""
CONTEXTS_AT_ONCE = 8
"""Fixed, because the last bit of a state may depend on how many are computed together."""
MANY_LAYERS = 4
"""Models of more layers than this are edited at some of them."""
LEVEL = 0.05
MOST = 0.5
"""Share of sums that a model that adds answers rightly."""
NUMBERS = 100
"""0 to 99: the shortest range that holds whole turns of all periods of the helix."""
NUMBER_CONTEXTS = 8
SITE = ["operand", "place", "layer"]
EDITS = {
    "other token": "other token",
    "all": "all of the difference",
    "best": "best 3 directions",
    "fit": "line and circle",
    "line": "line",
    "circle": "circle",
    "permuted": "permuted labels",
    "random": "random direction",
}
"""Ways to move a digit, and their names in tables."""


class DigitGeometry(Experiment):
    """The state of a digit, with each of the ten digits in its place, in many prompts.

    In an adder these are the digits of both addends; in a language model the number of one digit
    that it is to copy (`4 = 4`), and the first addend of a sum of one digit. `layer` is the block
    that the state enters; the last is what leaves the model. Ten points can always be drawn
    through some pattern of nine, so shares are compared with permuted labels (`p` is corrected
    for all places and layers by the largest) and with random weights; they come from products of
    unlike prompts, which noise does not inflate. A line's points lie on .64 of a circle's
    pattern: what one explains of what the other leaves tells them apart.

    Then digits are moved: at a layer, the difference between where a fit puts one digit and
    another is added to its state in prompts that the fit has not seen, and the answer is read:
    is it that to the other digit? Of an adder the digit in the same column is read and, where
    the exchange toggles the carry, that in the column above (`reads`).

    Tables: `shares` (operand, place, layer, component, share, low, high by resampling contexts;
    null, null_low, null_high: permuted labels; p), `by_layer` (mean over places, of this model,
    permuted labels and untrained models), `dimensions` (participation ratio), `points` (the ten
    digits along their two first principal components), `moves` (each prompt in which a digit is
    moved, and each edit: success; as_token: the answer is what it is with the other token
    written), `edits` (success by layer and edit; kept: the answer is still that to the digit
    itself), `pairs` (success by digit and target at `layer`, where most come through), `fits`
    (success of the fit and of each with permuted labels), and `helix` (numbers 0 to 99, of models
    that have a token for each).
    """

    quick: ClassVar[Mapping[str, Any]] = {"contexts": 8, "edits": 6, "permuted_fits": 6}

    contexts: int = Field(24, ge=4)
    """Prompts in which each slot takes every digit."""
    edits: int = Field(16, ge=1)
    """Prompts for each slot in which its digit is moved to another."""
    permuted_fits: int = Field(24, ge=3)
    """Fits to permuted labels with which the edit along line and circle is compared."""
    edited_layers: int = Field(3, ge=1)
    """Layers, spread over the first half, at which digits are moved (all, if up to four)."""
    batch_size: int = Field(96, ge=1)
    """Prompts in one forward pass of an edit."""

    def measure(self, model: "Model") -> Results:
        """States of every digit in every slot, here and in untrained twins; then the edits."""
        from lenses.digits.geometry import bases, gram

        asked = self._asked(model)
        states = self._states(model, asked.every, "states")
        grams = np.stack([[gram(site) for site in slot] for slot in states])
        twins = self._twins(model, asked.every)
        sites = asked.sites(states.shape[1])
        tables = share_tables(sites, states, grams, twins, self.seed)
        tables |= {
            "dimensions": dimensions(sites, grams, twins),
            "points": points(asked.slots, states.mean(2)),
        }
        tables |= self._edit_tables(model, asked, states, bases()["line and circle"])
        if asked.has_numbers:
            tables["helix"] = self._helix(model)
        return Results(tables)

    def _asked(self, model: "Model") -> "_Asked":
        """The prompts, in the model's own format (UsageError where digits are no tokens)."""
        from lenses.digits import exchanges as ex
        from models import ModelError

        form, seed = model.card.arithmetic, self.seed
        if form is not None:
            slots = ex.adder_slots(form)
            every = ex.adder_values(form, slots, self.contexts, seed)
            own = ex.adder_exchanges(form, slots, self.edits, seed + 1)
            above = ex.adder_exchanges(form, slots, self.edits, seed + 3, above=True)
            reads = np.repeat([OWN, ABOVE], [len(own), len(above)])
            return _Asked(slots, every, own.and_also(above), reads)
        slots = ex.LANGUAGE_SLOTS
        try:
            every = ex.language_values(model, slots, self.contexts, seed)
            rows = ex.language_exchanges(model, slots, self.edits, seed + 1)
        except ModelError as error:
            raise UsageError(str(error)) from error
        return _Asked(slots, every, rows, np.repeat(OWN, len(rows)), ex.has_number_tokens(model))

    def _states(
        self, model: "Model", every: "EveryValue", label: str
    ) -> np.ndarray:  # [slot layer context value d]
        """The state of each value at its pos, in every context."""
        from lenses.digits.exchanges import states_at
        from lenses.kept import PerPrompt

        kept = PerPrompt()
        chunks = [
            (slot, every.tokens[slot, first : first + CONTEXTS_AT_ONCE])
            for slot in range(len(every.at))
            for first in range(0, every.tokens.shape[1], CONTEXTS_AT_ONCE)
        ]
        for slot, tokens in self.stream(chunks, kept, label):
            contexts, values, pos = tokens.shape
            found = states_at(model, tokens.reshape(-1, pos), int(every.at[slot]))
            found = found.reshape(len(found), contexts, values, -1)
            kept.update(states=np.ascontiguousarray(np.moveaxis(found, 1, 0)))
        states = kept["states"]
        by_slot = states.reshape(len(every.at), -1, *states.shape[1:])
        return np.moveaxis(by_slot, 2, 1)

    def _twins(self, model: "Model", every: "EveryValue") -> np.ndarray:
        """Gram matrices of models with random weights [twin slot layer value value]."""
        from lenses.digits.geometry import gram
        from models import untrained

        grams = []
        for number in range(TWINS):
            twin = untrained(model, self.seed + number)
            states = self._states(twin, every, f"random weights {number + 1}/{TWINS}")
            grams.append([[gram(site) for site in slot] for slot in states])
            del twin
            gc.collect()  # a hooked model refers to itself: uncollected, twins would pile up
        return np.array(grams)

    def _layers(self, model: "Model") -> list[int]:
        """The layers at which digits are moved."""
        count = model.cfg.n_layers
        if count <= MANY_LAYERS:
            return list(range(count))
        spread = np.linspace(0, count / 2, self.edited_layers, endpoint=self.edited_layers > 1)
        return sorted({int(layer) for layer in spread})

    def _edit_tables(
        self, model: "Model", asked: "_Asked", states: np.ndarray, patterns: np.ndarray
    ) -> dict[str, pd.DataFrame]:
        """What comes of moving digits, prompt by prompt and in sum."""
        layers = self._layers(model)
        said, token, clean = self._said(model, asked.rows, states, patterns, layers, "edits")
        fits = fit_success(asked, said, layers)
        moves = move_rows(asked, said, token, clean, layers)
        return {"moves": moves, "edits": edit_rows(moves, fits), "fits": fits,
                "pairs": pair_rows(moves)}  # fmt: skip

    def _said(
        self,
        model: "Model",
        rows: "Exchanges",
        states: np.ndarray,
        patterns: np.ndarray,
        layers: list[int],
        label: str,
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """Tokens said after each edit [layer row], with the other token written, and unedited."""
        from lenses.addition.answers import likeliest
        from lenses.digits.exchanges import entering, said_after
        from lenses.kept import PerPrompt

        steps = {layer: self._steps(states[:, layer].mean(1), patterns, rows) for layer in layers}
        kept, plain = PerPrompt(), PerPrompt()
        starts = range(0, len(rows), self.batch_size)
        parts = [slice(start, start + self.batch_size) for start in starts]
        for part in self.stream(parts, plain, f"{label}: answers"):
            some, read = rows[part], rows.read[part, None]
            plain.update(
                clean=likeliest(model, some.tokens, read)[:, 0],
                token=likeliest(model, some.exchanged, read)[:, 0],
            )
        for layer, part in self.stream([(x, p) for x in layers for p in parts], kept, label):
            state = entering(model, rows[part].tokens, layer)
            kept.update(**{
                name: said_after(model, state, layer, rows[part], step[part])
                for name, step in steps[layer].items()
            })  # fmt: skip
        said = {name: kept[name].reshape(len(layers), len(rows)) for name in steps[layers[0]]}
        return said, plain["token"], plain["clean"]

    def _steps(
        self, means: np.ndarray, patterns: np.ndarray, rows: "Exchanges"
    ) -> dict[str, np.ndarray]:
        """What each edit adds to the state of each row's digit [row d], by the edit's name."""
        from lenses.digits import geometry as geo

        rng = np.random.default_rng(self.seed)  # the same permutations at every layer
        made = geo.fits(means, patterns, rng, self.permuted_fits)
        if means.shape[1] == geo.DIGITS:
            for name in ("line", "circle"):
                made[name] = np.broadcast_to(geo.projector(geo.bases()[name]), made["fit"].shape)
        where = rows.slot, rows.value, rows.target
        steps = {name: geo.moved(means, fit, *where) for name, fit in made.items()}
        steps["random"] = geo.as_long(steps["fit"], rng)
        return {name: step.astype(np.float32) for name, step in steps.items()}

    def _helix(self, model: "Model") -> pd.DataFrame:
        """Numbers that are single tokens: shares of the helix, and what a move along it does."""
        from lenses.digits import exchanges as ex
        from lenses.digits import geometry as geo

        slots, seed = ex.NUMBER_SLOTS, self.seed
        every = ex.language_values(model, slots, NUMBER_CONTEXTS, seed, NUMBERS)
        rows = ex.language_exchanges(model, slots, self.edits, seed + 1, NUMBERS)
        states = self._states(model, every, "numbers")
        layers, patterns = self._layers(model), geo.helix(NUMBERS)
        said, token, _ = self._said(model, rows, states, patterns, layers, "numbers")
        parts = []
        for number, layer in enumerate(layers):
            gram, means = geo.gram(states[0, layer]), states[:, layer].mean(1)
            fits = geo.fits(means, patterns, np.random.default_rng(seed), self.permuted_fits)
            held = {name: np.trace(fit[0] @ gram) / np.trace(gram) for name, fit in fits.items()}
            right = {name: each[number] == rows.answer for name, each in said.items()}
            right |= {"other token": token == rows.answer}
            parts.append(helix_rows(layer, held, right))
        return pd.concat(parts, ignore_index=True)

    def claims(self, results: Results) -> list[Claim]:
        """Is there a line, a circle, does the model go by them, and what is left of a cloud?"""
        tables = results.tables
        claims = [
            _ordered(LINE, "line beyond circle", tables["shares"], tables["edits"]),
            _ordered(CIRCLE, "circle beyond arch", tables["shares"], tables["edits"]),
            *(
                _goes_by_it(
                    MOVES[reads],
                    moves,
                    dict(list(tables["fits"].groupby("reads")))[reads],
                    self.seed,
                )
                for reads, moves in tables["moves"].groupby("reads", sort=False)
            ),
        ]
        return [
            _adds(tables["moves"]),
            *_corrected(claims),
            _is_cloud(tables["by_layer"]),
            _same_as_token(tables["moves"]),
            _numbers(tables.get("helix")),
        ]

    def figures(self, results: Results) -> "dict[str, Drawing]":
        """The digits themselves, what holds them by layer and place, and what moves them."""
        return geometry_figures(results.tables) | edit_figures(results.tables)

    def planted(self) -> "Model":
        """An exact adder whose digits lie on a line and a circle, which is all it knows of them.

        What its heads read of a digit is linear in it, so that its answers stay what they were.
        """
        import torch

        from lenses.digits.geometry import bases, projector
        from models.planted.carry import planted_carry

        model = planted_carry(places=3).model
        ids = torch.from_numpy(model.card.arithmetic.digit_ids)
        kept = torch.from_numpy(projector(bases()["line and circle"]) + 0.1)
        model.W_E[ids] = kept.to(model.W_E) @ model.W_E[ids]
        return model


LINE = "The digits lie on a line, beyond what a circle would show of it."
CIRCLE = "The digits lie on a circle, beyond what a bent line would show of it."
OWN, ABOVE = "own column", "column above"
MOVES = {
    OWN: "Moved along line and circle alone, a digit is read as the one it is moved to.",
    ABOVE: "Moved along line and circle alone, a digit makes or takes the carry that it should.",
}
"""Claims by the digit of the answer that is read."""
CLOUD = "Most of what tells digits apart lies neither along a line nor on a circle."
SAME = "At the embedding, moving by all of the difference is writing the other token."
HELIX = "Numbers lie on a helix: moved along it, one is read as the other."


@dataclass(frozen=True)
class _Asked:
    """The prompts of a run."""

    slots: "list[Slot]"
    every: "EveryValue"
    rows: "Exchanges"
    reads: np.ndarray
    """Of each row, which digit of the answer is read: OWN or ABOVE."""
    has_numbers: bool = False

    def sites(self, layers: int) -> pd.DataFrame:
        """Operand, place and layer of each site: slots, and within each the layers."""
        return pd.DataFrame(
            [(*slot, layer) for slot in self.slots for layer in range(layers)], columns=SITE
        )


def share_tables(
    sites: pd.DataFrame, states: np.ndarray, grams: np.ndarray, twins: np.ndarray, seed: int
) -> dict[str, pd.DataFrame]:
    """`shares` of each site and `by_layer`, of all places together."""
    from lenses.digits import geometry as geo

    flat, order = grams.reshape(-1, *grams.shape[2:]), np.arange(geo.DIGITS)
    by_site = states.reshape(-1, *states.shape[2:])
    drawn = geo.resampled(by_site, np.random.default_rng(seed))
    shares = _site_rows(sites, geo.components(flat, order), geo.shares_of(drawn),
                        geo.permuted(flat, seed))  # fmt: skip
    whole = geo.mean_gram(grams)
    by_layer = np.nanmean(drawn.reshape(*drawn.shape[:2], *grams.shape[:2]), axis=2)
    null = geo.permuted(whole, seed)
    random = np.stack([geo.components(geo.mean_gram(twin), order) for twin in twins])
    pooled = {
        "this model": (geo.components(whole, order), *_ends(geo.shares_of(by_layer))),
        "permuted labels": (null.mean(0), *_ends(null)),
        "random weights": (random.mean(0), random.min(0), random.max(0)),
    }
    n = states.shape[2]
    return {"shares": shares.assign(n=n), "by_layer": _layer_rows(pooled)}


def _site_rows(
    sites: pd.DataFrame, found: np.ndarray, drawn: np.ndarray, null: np.ndarray
) -> pd.DataFrame:
    """Each component at each site with its interval, and what permuted labels give."""
    from lenses.digits.geometry import COMPONENTS, max_t

    (low, high), (null_low, null_high) = _ends(drawn), _ends(null)
    values = {"share": found, "low": low, "high": high, "null": null.mean(0)}
    values |= {"null_low": null_low, "null_high": null_high}
    values["p"] = np.stack([max_t(one, null[:, at]) for at, one in enumerate(found)])
    parts = [
        sites.assign(component=name, **{key: value[at] for key, value in values.items()})
        for at, name in enumerate(COMPONENTS)
    ]
    return pd.concat(parts, ignore_index=True)


def _ends(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where 95 % of the draws (first axis) lie."""
    low, high = np.nanquantile(draws, [0.025, 0.975], axis=0)
    return low, high


def _layer_rows(pooled: dict[str, tuple[np.ndarray, ...]]) -> pd.DataFrame:
    """Tidy rows of what is [component layer]."""
    from lenses.digits.geometry import COMPONENTS

    parts = []
    for weights, (share, low, high) in pooled.items():
        at, layer = np.indices(share.shape)
        names = np.array(COMPONENTS)[at.ravel()]
        columns = {"weights": weights, "component": names, "layer": layer.ravel()}
        values = {"share": share.ravel(), "low": low.ravel(), "high": high.ravel()}
        parts.append(pd.DataFrame(columns | values))
    return pd.concat(parts, ignore_index=True)


def dimensions(sites: pd.DataFrame, grams: np.ndarray, twins: np.ndarray) -> pd.DataFrame:
    """Participation ratio of the ten digits at each site, beside untrained models' mean."""
    from lenses.digits.geometry import participation_ratio

    random = participation_ratio(twins).mean(0).ravel()
    own = participation_ratio(grams).ravel()
    return sites.assign(participation_ratio=own, random_weights=random)


def points(slots: "list[Slot]", means: np.ndarray) -> pd.DataFrame:
    """The ten digits of each slot and layer along their first two principal components.

    Signs, which are arbitrary, are such that 9 lies to the right of 0 and, in sum, the middle
    digits above. first_share and second_share are what the axes show of the variation.
    """
    parts = []
    for slot, by_layer in zip(slots, means, strict=True):
        for layer, states in enumerate(by_layer):
            left, size, _ = np.linalg.svd(states - states.mean(0), full_matrices=False)
            sign = np.sign([left[9, 0] - left[0, 0], left[3:7, 1].sum()])
            x, y = (left[:, :2] * size[:2] * np.where(sign == 0, 1, sign)).T
            share = size**2 / (size**2).sum()
            axes = {"operand": slot[0], "place": slot[1], "layer": layer, "digit": range(10)}
            parts.append(pd.DataFrame(
                axes | {"first_component": x, "second_component": y,
                        "first_share": share[0], "second_share": share[1]}
            ))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def fit_success(asked: _Asked, said: dict[str, np.ndarray], layers: list[int]) -> pd.DataFrame:
    """How often a move along line and circle comes through, and along each permuted fit."""
    parts = []
    for reads in dict.fromkeys(asked.reads):
        rows = asked.reads == reads
        for name, each in said.items():
            if name == "fit" or name.startswith("permuted"):
                success = (each == asked.rows.answer)[:, rows].mean(1)
                columns = {"reads": reads, "layer": layers, "fit": name, "success": success}
                parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def move_rows(
    asked: _Asked,
    said: dict[str, np.ndarray],
    token: np.ndarray,
    clean: np.ndarray,
    layers: list[int],
) -> pd.DataFrame:
    """Each prompt and edit: whether the answer is that to the target (mean over permuted fits)."""
    rows = asked.rows
    found = {name: each for name, each in said.items() if not name.startswith("permuted")}
    found = {name: each[None] for name, each in found.items()}
    found["permuted"] = np.stack([v for name, v in said.items() if name.startswith("permuted")])
    found["other token"] = np.broadcast_to(token, (1, len(layers), len(rows)))
    known = {
        "prompt": np.arange(len(rows)),
        "reads": asked.reads,
        "operand": [asked.slots[slot][0] for slot in rows.slot],
        "place": [asked.slots[slot][1] for slot in rows.slot],
        "digit": rows.value,
        "target": rows.target,
        "solved": clean == rows.right,
    }
    parts = []
    for name, label in EDITS.items():
        outcomes = {"success": rows.answer, "kept": rows.right, "as_token": token}
        shares = {key: (found[name] == each).mean(0) for key, each in outcomes.items()}
        for at, layer in enumerate(layers):
            values = {key: share[at] for key, share in shares.items()}
            parts.append(pd.DataFrame({**known, "layer": layer, "edit": label, **values}))
    return pd.concat(parts, ignore_index=True)


def edit_rows(moves: pd.DataFrame, fits: pd.DataFrame) -> pd.DataFrame:
    """Success by digit read, layer and edit, all places together.

    Wilson intervals; for permuted labels, where 95 % of the permuted fits lie.
    """
    from lenses.statistics.intervals import wilson

    grouped = moves.groupby(["reads", "layer", "edit"], sort=False)
    table = grouped.agg(n=("success", "size"), success=("success", "mean"), kept=("kept", "mean"))
    table = table.reset_index()
    table["low"], table["high"] = wilson(table["success"] * table["n"], table["n"].to_numpy())
    null = fits[fits["fit"] != "fit"].groupby(["reads", "layer"])["success"]
    for at, row in table[table["edit"] == EDITS["permuted"]].iterrows():
        ends = null.get_group((row["reads"], row["layer"])).quantile([0.025, 0.975])
        table.loc[at, ["low", "high"]] = ends.to_numpy()
    return table


def pair_rows(moves: pd.DataFrame) -> pd.DataFrame:
    """Success by digit and target at the layer where a move along line and circle does most."""
    fit = moves[moves["edit"] == EDITS["fit"]].groupby("layer")["success"].mean()
    chosen = moves[moves["layer"] == fit.idxmax()]
    keys = ["reads", "layer", "edit", "digit", "target"]
    grouped = chosen.groupby(keys, sort=False)["success"]
    return grouped.agg(success="mean", n="size").reset_index()


def helix_rows(layer: int, held: dict[str, float], right: dict[str, np.ndarray]) -> pd.DataFrame:
    """Share of the numbers' variation, and success, of each way to move a number."""
    from lenses.statistics.intervals import wilson

    names = {"other token": "other token", "all": "all of the difference", "fit": "helix"}
    names |= {"best": "best directions, as many", "random": "random direction"}
    rows = [(label, held.get(name, np.nan), right[name]) for name, label in names.items()]
    null = [name for name in right if name.startswith("permuted")]
    mean = float(np.mean([held[name] for name in null]))
    rows.append(("permuted labels", mean, np.mean([right[name] for name in null], axis=0)))
    table = pd.DataFrame(
        [(layer, label, share, each.mean(), len(each)) for label, share, each in rows],
        columns=["layer", "edit", "share", "success", "n"],
    )
    low, high = wilson(table["success"].to_numpy() * table["n"], table["n"].to_numpy())
    return table.assign(low=low, high=high)


def _adds(moves: pd.DataFrame) -> Claim:
    """Whether its answers are worth reading: those to additions, before anything is moved."""
    from lenses.statistics.intervals import wilson

    prompts = moves.drop_duplicates("prompt")
    copied = prompts["operand"] == "copy"
    right, n = int(prompts.loc[~copied, "solved"].sum()), int((~copied).sum())
    low, high = (float(end) for end in wilson(right, n))
    verdict = Claim.judge(low, high, MOST)
    copies = f"; of copies {prompts.loc[copied, 'solved'].mean():.2f}" if copied.any() else ""
    return Claim(
        kind="learned",
        sentence="It adds: most digits that are read of its sums are right, unedited.",
        estimate=right / n,
        low=low,
        high=high,
        n=n,
        null=0.1,
        null_note="a digit at random",
        unit=f"share of digits; threshold {MOST:g}{copies}",
        verdict=verdict,
        decide="more prompts (--edits)" if verdict == "undecided" else "",
    )


def _ordered(sentence: str, component: str, shares: pd.DataFrame, edits: pd.DataFrame) -> Claim:
    """That a pattern shows at some place and layer more than with permuted labels."""
    sites = shares[shares["component"] == component]
    best = sites.sort_values(["p", "share"], ascending=[True, False]).iloc[0]
    verdict = "holds" if best["p"] <= LEVEL else "fails" if best["p"] >= 0.5 else "undecided"
    where = f"{best['operand']}, place {best['place']}, layer {best['layer']}"
    return Claim(
        kind="learned",
        sentence=sentence,
        estimate=best["share"],
        low=best["low"],
        high=best["high"],
        n=10,
        p=best["p"],
        null=best["null"],
        null_note=f"permuted labels; at {where}, of {len(sites)} places and layers"
        + _is_read(edits, best["layer"]),
        unit="share of what the other leaves; n digits",
        verdict=verdict,
        decide=MORE_MODELS if verdict == "undecided" else "",
    )


def _is_read(edits: pd.DataFrame, layer: int) -> str:
    """Whether answers hang on the digit's state at a layer, where digits were moved at it."""
    moved = edits[(edits["layer"] == layer) & (edits["edit"] == EDITS["all"])]
    if moved.empty:
        return ""
    return f", where {moved['success'].max():.0%} of digits moved by all of the difference are read"


MORE_MODELS = "ten digits allow no finer test: the same in models trained from other seeds"


def _goes_by_it(sentence: str, moves: pd.DataFrame, fits: pd.DataFrame, seed: int) -> Claim:
    """That moves along line and circle come through more often than along permuted fits."""
    from lenses.digits.geometry import beyond_controls
    from lenses.statistics.intervals import bootstrap

    p = {}
    for layer, some in fits.groupby("layer"):
        is_fit = some["fit"] == "fit"
        controls = some.loc[~is_fit, "success"].to_numpy()
        p[layer] = beyond_controls(some.loc[is_fit, "success"].item(), controls)
    layer = min(p, key=p.get)
    here = moves[moves["layer"] == layer].pivot(index="prompt", columns="edit", values="success")
    gain = bootstrap((here[EDITS["fit"]] - here[EDITS["permuted"]]).to_numpy(float), seed)
    low, high, corrected = float(gain.low), float(gain.high), min(1.0, len(p) * p[layer])
    verdict, decide = _moved_verdict(here[EDITS["all"]].mean(), low, high, corrected)
    return Claim(
        kind="learned",
        sentence=sentence,
        estimate=float(gain.estimate),
        low=low,
        high=high,
        n=len(here),
        p=corrected,
        null=0,
        null_note=f"along fits to permuted labels {here[EDITS['permuted']].mean():.2f} come "
        f"through, by all of the difference {here[EDITS['all']].mean():.2f}; layer {layer}",
        unit="share that comes through, less that along permuted fits",
        verdict=verdict,
        decide=decide,
    )


def _moved_verdict(control: float, low: float, high: float, p: float) -> tuple[Any, str]:
    """The verdict, and what would decide it; `control` is the success of the whole difference."""
    if control < 0.5:
        told = f"moved by all of the difference, only {control:.0%} are read as the other digit"
        return "undecided", f"a model that reads the digit there: {told}"
    if p <= LEVEL and low > 0:
        return "holds", ""
    if high < ALIKE:
        return "fails", ""
    return "undecided", "more prompts and permuted fits (--edits, --permuted-fits)"


ALIKE = 0.1
"""Shares that come through and differ by less are taken for alike."""


def _corrected(claims: list[Claim]) -> list[Claim]:
    """The claims with p corrected for their number (Benjamini & Hochberg 1995)."""
    from lenses.statistics.intervals import benjamini_hochberg

    found = []
    q = benjamini_hochberg(np.array([claim.p for claim in claims]))
    for claim, each in zip(claims, q, strict=True):
        changed: dict[str, Any] = {"p": float(each)}
        if claim.verdict == "holds" and each > LEVEL:
            changed |= {"verdict": "undecided", "decide": MORE_MODELS}
        found.append(claim.model_copy(update=changed))
    return found


def _is_cloud(by_layer: pd.DataFrame) -> Claim:
    """That line and circle together hold less than half, also where they hold most."""
    both = by_layer[by_layer["component"] == "line and circle"]
    own = both[both["weights"] == "this model"]
    best = own.loc[own["share"].idxmax()]
    random = both[(both["weights"] == "random weights") & (both["layer"] == best["layer"])]
    low, high = 1 - best["high"], 1 - best["low"]
    verdict = Claim.judge(low, high, 0.5)
    return Claim(
        kind="mechanical",
        sentence=CLOUD,
        estimate=1 - best["share"],
        low=low,
        high=high,
        n=10,
        null=1 - random["share"].item(),
        null_note=f"random weights, {TWINS} models; ten equidistant points: .67; "
        f"layer {best['layer']}, where line and circle hold most",
        unit="share of variation, mean over places; n digits",
        verdict=verdict,
        decide="more prompts (--contexts)" if verdict == "undecided" else "",
    )


def _same_as_token(moves: pd.DataFrame) -> Claim:
    """That the machinery of moving does to the embedding what it says it does."""
    rows = moves[(moves["layer"] == 0) & (moves["edit"] == EDITS["all"])]
    same = rows["as_token"].mean()
    return Claim(
        kind="identity",
        sentence=SAME,
        estimate=same,
        n=len(rows),
        unit="share of prompts with the same answer; rounding may change one in fifty",
        verdict="holds" if same >= 0.98 else "fails",
    )


def _numbers(helix: pd.DataFrame | None) -> Claim:
    """What moves along the helix do, or that there are no such tokens to move."""
    if helix is None:
        why = "does not apply: this model has no single tokens for the numbers from 0 to 99"
        return Claim(kind="mechanical", sentence=HELIX, estimate=0, n=0, verdict="undecided",
                     decide=f"{why}; run it on one that has them")  # fmt: skip
    by_edit = helix.pivot(index="layer", columns="edit", values=["success", "low", "high", "n"])
    layer = by_edit["success"]["helix"].idxmax()
    here = {key: by_edit[key].loc[layer] for key in ("success", "low", "high", "n")}
    null = here["high"]["permuted labels"]
    verdict = Claim.judge(here["low"]["helix"], here["high"]["helix"], null)
    success = here["success"]
    return Claim(
        kind="mechanical",
        sentence=HELIX,
        estimate=success["helix"],
        low=here["low"]["helix"],
        high=here["high"]["helix"],
        n=int(here["n"]["helix"]),
        null=success["permuted labels"],
        null_note=f"permuted labels; as many principal components "
        f"{success['best directions, as many']:.2f}, all of the difference "
        f"{success['all of the difference']:.2f}; layer {layer}",
        unit="share that comes through",
        verdict=verdict,
        decide="more prompts (--edits)" if verdict == "undecided" else "",
    )


CURVES = ["line", "circle", "arch", "line beyond circle", "circle beyond arch", "line and circle"]
MAPS = ["line beyond circle", "circle beyond arch", "line and circle"]
PANELS = 9
"""Pictures of the ten digits that are drawn; the table has all."""

POINTS_CAPTION = (
    "The mean states of the ten digits along their two first principal components, by whose "
    "number it is, decimal place and layer (the block that the state enters; the last is what "
    "leaves the model), joined from 0 to 9; every panel has a scale of its own. In brackets: "
    "the share of variation that the two axes show. A line is a path from one side to the other, "
    "a circle closes; ten points without order make a tangle, in which two axes show little."
)
CURVES_CAPTION = (
    "Shares of what tells digits apart, mean over places, by layer. Bands: 95 % by resampling "
    "prompts; of permuted labels, where 95 % of them lie; of random weights, all of them. Points "
    "on a line have .63 of the circle's pattern and a bent line (arch) more, so the panels with "
    "'beyond' show what the one explains of what the other leaves: a line is high in the one and "
    "zero in the other, a circle the reverse."
)
MAPS_CAPTION = (
    "The same for each place and layer. A star: more than with permuted labels (p <= .05, "
    "corrected for all places and layers by the largest)."
)
DIMENSIONS_CAPTION = (
    "In how many dimensions the ten digits spread (participation ratio): 1 for a line, 2 for a "
    "circle, 9 for ten points that are equally far from each other. Mean over places; the band "
    "spans the places."
)
MOVES_CAPTION = (
    "How often the model answers as if another digit stood there, when the digit's state at a "
    "layer is moved from where a fit puts the one to where it puts the other. The first row is "
    "the other token itself, the most that can be hoped for; then all of the difference between "
    "the two mean states, the best three directions, line and circle together (three) and each "
    "by itself; a fit as large to permuted labels (its interval: 95 % of the fits); and a step "
    "as long in a random direction. Column above: prompts in which the exchange toggles a carry. "
    "Where even all of the difference does nothing, the model no longer reads the digit there."
)
PAIRS_CAPTION = (
    "Moves along line and circle by digit and the digit it is moved to, at the layer where most "
    "of them come through (a pair is hatched where no prompt has it)."
)
HELIX_CAPTION = (
    "Numbers that are single tokens, moved along a line and circles of periods 2, 5, 10 and 100, "
    "against as many principal components, all of the difference, permuted labels and a random "
    "direction of equal length."
)


def geometry_figures(tables: Mapping[str, pd.DataFrame]) -> "dict[str, Drawing]":
    """Where the digits lie."""
    from viz import curves, heat_map, point_map

    by_layer, shares = tables["by_layer"], written_shares(tables["shares"])
    seen = some_points(tables["points"])
    return {
        "The ten digits": point_map(
            seen, "first_component", "second_component", "digit", facet="site",
            caption=POINTS_CAPTION,
        ),
        "Line and circle by layer": curves(
            by_layer[by_layer["component"].isin(CURVES)], "layer", "share", series="weights",
            facet="component", caption=CURVES_CAPTION,
        ),
        "Line and circle by place": heat_map(
            shares[shares["component"].isin(MAPS)], "layer", "slot", "share", facet="component",
            text="written", low=0, high=1, caption=MAPS_CAPTION,
        ),
        "Dimensions": curves(
            dimension_curves(tables["dimensions"]), "layer", "participation_ratio",
            series="weights", caption=DIMENSIONS_CAPTION,
        ),
    }  # fmt: skip


def edit_figures(tables: Mapping[str, pd.DataFrame]) -> "dict[str, Drawing]":
    """What comes of moving them."""
    from viz import bars, heat_map

    pairs = tables["pairs"]
    pairs = pairs[pairs["edit"] == EDITS["fit"]]
    found = {
        "Moving a digit": bars(
            tables["edits"], "edit", "success", series="reads", facet="layer",
            caption=MOVES_CAPTION,
        ),
        "From digit to digit": heat_map(
            pairs, "digit", "target", "success", facet="reads", low=0, high=1,
            caption=PAIRS_CAPTION,
        ),
    }  # fmt: skip
    if "helix" in tables:
        found["Numbers along a helix"] = bars(
            tables["helix"], "edit", "success", facet="layer", caption=HELIX_CAPTION
        )
    return found


def some_points(table: pd.DataFrame) -> pd.DataFrame:
    """The first, second and last place of one operand, and as many layers as there is room for."""
    first = table[table["operand"] == table["operand"].iloc[0]]
    places = sorted({*first["place"].unique()[:2], first["place"].max()})
    layers = np.sort(first["layer"].unique())
    room = max(1, PANELS // len(places))
    layers = layers[np.unique(np.linspace(0, len(layers) - 1, room).round().astype(int))]
    shown = first[first["place"].isin(places) & first["layer"].isin(layers)]
    share = (100 * (shown["first_share"] + shown["second_share"])).round().astype(int).astype(str)
    place = "place " + shown["place"].astype(str) + ", " if len(places) > 1 else ""
    site = place + "layer " + shown["layer"].astype(str) + " (" + share + " %)"
    return shown.assign(site=site)


def written_shares(shares: pd.DataFrame) -> pd.DataFrame:
    """Shares with the name of their slot; written out, with a star beyond permuted labels."""
    slot = shares["operand"] + " " + shares["place"].astype(str)
    written = shares["share"].map("{:.2f}".format) + np.where(shares["p"] <= LEVEL, "*", "")
    return shares.assign(slot=slot, written=written)


def dimension_curves(table: pd.DataFrame) -> pd.DataFrame:
    """Mean over places by layer, of the model and of random weights."""
    names = {"participation_ratio": "this model", "random_weights": "random weights"}
    parts = []
    for column, weights in names.items():
        ratio = table.groupby("layer")[column].agg(["mean", "min", "max"]).reset_index()
        ratio.columns = ["layer", "participation_ratio", "low", "high"]
        parts.append(ratio.assign(weights=weights))
    return pd.concat(parts, ignore_index=True)
