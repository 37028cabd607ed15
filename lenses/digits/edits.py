"""A digit's state moved to another place: does the model treat it as standing there?"""

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from lenses.digits.reading import DigitReading, Stream, is_operand
from lenses.digits.texts import DigitTexts
from lenses.kept import PerPrompt
from lenses.states.decoding import Readout, Site, edited, read_states
from lenses.statistics.intervals import bootstrap, sign_flip
from models import Model
from models.text import right_pad

TRUNCATED = 16
"""Texts that are cut short to see whether a state knows what follows."""


def reading_ahead(model: Model, texts: DigitTexts, where: list[Site]) -> pd.DataFrame:
    """How far a digit's state differs when the text ends right there, relative to its length.

    The digit in the middle of the first number of some texts; the largest over sites.
    """
    digits = texts.digits
    middle = digits[(digits["part"] == "a") & (digits["index"] == digits["length"] // 2)]
    some = middle[middle["length"] >= 3].drop_duplicates("prompt").head(TRUNCATED)
    errors = []
    for prompt, pos in zip(some["prompt"], some["pos"], strict=True):
        ids = torch.tensor([texts.ids[prompt]], device=model.cfg.device)
        row, at = torch.tensor([[0], [pos]], device=ids.device)
        whole, cut = (
            read_states(model, part, where, row, at)[0] for part in (ids, ids[:, : pos + 1])
        )
        errors.append(((whole - cut).norm(dim=-1) / whole.norm(dim=-1)).max().item())
    return pd.DataFrame({"statistic": ["reading ahead"], "estimate": max(errors), "n": len(errors)})


def edited_answers(
    model: Model, own: DigitReading, most: int, size: int, seed: int, stream: Stream
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What becomes of answers when a digit's state is shifted to another place, and contrasts.

    At most `most` texts are edited, `size` between two checkpoints.
    """
    kept = PerPrompt()
    for part in stream(edit_plan(own, most, seed), kept, "editing", size):
        kept.update(**edit_effects(model, own, part, seed))
    return edit_tables(kept.state(), own, seed)


def edit_plan(own: DigitReading, most: int, seed: int) -> pd.DataFrame:
    """At most `most` texts with a digit, the place it is moved to, and what that would change.

    Columns: prompt, pos, place, to_place, read (the pos before the answer digit at `to_place`),
    true_id, moved_id (that digit if the first number had the moved one there).
    """
    digits, rng = own.digits, np.random.default_rng(seed)
    chosen = digits[is_operand(digits) & digits["kind"].isin(["copy", "addition"])]
    copies = chosen["kind"] == "copy"
    chosen = chosen[copies] if copies.any() else chosen
    ids = digits.drop_duplicates("digit").set_index("digit")["token_id"]
    rows = []
    for prompt in rng.permutation(chosen["prompt"].unique()):
        answer = digits[(digits["prompt"] == prompt) & (digits["part"] == "c")]
        pairs = _pairs(chosen[chosen["prompt"] == prompt])
        if pairs and len(rows) < most:
            moved, other = pairs[rng.integers(len(pairs))]
            at = answer[answer["place"] == other["place"]].iloc[0]
            new = (at["digit"] + moved["digit"] - other["digit"]) % 10
            places = (prompt, moved["pos"], moved["place"], other["place"])
            rows.append((*places, at["pos"] - 1, at["token_id"], ids[new]))
    names = ["prompt", "pos", "place", "to_place", "read", "true_id", "moved_id"]
    return pd.DataFrame(rows, columns=names)


def _pairs(given: pd.DataFrame) -> list[tuple[dict, dict]]:
    """Pairs of unlike digits of a number; no zero is moved to its front."""
    digits = given.to_dict("records")
    return [
        (one, other)
        for one in digits
        for other in digits
        if one["digit"] != other["digit"] and (one["digit"] or other["index"])
    ]


def edit_sites(where: list[Site], most: int = 4) -> list[int]:
    """At most four sites, evenly spread, none of them the last, whose state nothing reads."""
    return sorted(set(np.linspace(0, len(where) - 2, most).round().astype(int).tolist()))


WAYS = ("place", "other places", "random")
"""By what a state is shifted: two places' difference, that of two others, a random direction."""


def edit_effects(
    model: Model, own: DigitReading, plan: pd.DataFrame, seed: int
) -> dict[str, Float[np.ndarray, "edit site"]]:
    """Shifts of each edit: of the answer's logit difference, and of the words of both places.

    `answer`: logit of the moved digit minus that of the true one, at `read`. `word`: log-odds of
    the new place's word against the old one's in the last state (NaN without such words). Each by
    the difference of the places' mean states, and by two controls of equal length: the difference
    of two other places, drawn for each edit, and a random direction.
    """
    tokens, _ = right_pad([own.texts.ids[prompt] for prompt in plan["prompt"]])
    tokens, numbers = tokens.to(model.cfg.device), edit_sites(own.where)
    none = torch.zeros(len(plan), own.means.mean.shape[-1], device=tokens.device)
    clean = _read_edited(model, own, plan, tokens, own.where[numbers[0]], none)
    found: dict[str, list[np.ndarray]] = {}
    for number in numbers:
        for way, change in _changes(own, plan, number, seed).items():
            read = _read_edited(model, own, plan, tokens, own.where[number], change.to(none))
            for measure, value in read.items():
                found.setdefault(f"{measure}, {way}", []).append(value - clean[measure])
    joined = {name: np.stack(values, axis=1) for name, values in found.items()}
    return {name: np.ascontiguousarray(values) for name, values in joined.items()}


def _changes(
    own: DigitReading, plan: pd.DataFrame, number: int, seed: int
) -> dict[str, Float[torch.Tensor, "edit d"]]:
    """What is added to each edit's state at a site, by way; all of an edit are as long."""
    mean = own.means.mean[:, number]
    change = mean[plan["to_place"].tolist()] - mean[plan["place"].tolist()]
    pairs = [_other_places(own, row, seed) for row in plan.itertuples()]
    other = mean[[to for _, to in pairs]] - mean[[place for place, _ in pairs]]
    drawn = [np.random.default_rng([seed, p]).normal(size=change.shape[1]) for p in plan.index]
    controls = {"other places": other, "random": torch.from_numpy(np.array(drawn)).to(change)}
    length = change.norm(dim=-1, keepdim=True)
    return {"place": change} | {
        way: control * (length / control.norm(dim=-1, keepdim=True))
        for way, control in controls.items()
    }


def _other_places(own: DigitReading, row: tuple, seed: int) -> tuple[int, int]:
    """Two places that an edit is not about, drawn by lot among those whose mean is known."""
    known = np.flatnonzero(own.means.count)
    left = known[~np.isin(known, [row.place, row.to_place])]
    one, other = np.random.default_rng([seed, row.Index, 1]).choice(left, 2, replace=False)
    return int(one), int(other)


def _read_edited(
    model: Model,
    own: DigitReading,
    plan: pd.DataFrame,
    tokens: torch.Tensor,
    site: Site,
    change: torch.Tensor,
) -> dict[str, Float[np.ndarray, "edit"]]:
    """Logit differences of answer and of words under one change."""
    pos, read, true, moved = (
        torch.tensor(plan[name].tolist(), device=tokens.device)
        for name in ("pos", "read", "true_id", "moved_id")
    )
    logits, state = edited(model, tokens, site, pos, change, read)
    answer = logits.gather(1, moved[:, None]) - logits.gather(1, true[:, None])
    last = len(own.where) - 1
    words = own.words.logits(own.decoder.at(last), state[None], Readout())[:, 0]
    rows = np.arange(len(plan))
    to_place, place = (own.words.number(plan[name].to_numpy()) for name in ("to_place", "place"))
    odds = np.full(len(plan), np.nan)
    known = (to_place >= 0) & (place >= 0)
    odds[known] = (words[rows, to_place] - words[rows, place])[known] if known.any() else np.nan
    return {"answer": answer[:, 0].cpu().numpy(), "word": odds}


def edit_tables(
    effects: dict[str, Float[np.ndarray, "edit site"]], own: DigitReading, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mean shifts by layer, and how far those by place exceed those by either control."""
    layers, rows, contrasts = own.layers[edit_sites(own.where)], [], []
    for measure in ("answer", "word"):
        shifts = {way: effects[f"{measure}, {way}"] for way in WAYS}
        if np.isnan(shifts["place"]).all():
            continue
        for way, shift in shifts.items():
            found = {"layer": layers, "measure": measure, "direction": way}
            rows.append(pd.DataFrame(found | vars(bootstrap(shift, seed).either_side())))
        for control in WAYS[1:]:
            difference = shifts["place"] - shifts[control]
            found, p = bootstrap(difference, seed).either_side(), sign_flip(difference, seed)
            p = np.minimum(1, np.where(found.estimate > 0, p / 2, 1 - p / 2) * len(layers))
            beyond = {"statistic": f"{measure} moves, beyond {control}", "layer": layers}
            frame = pd.DataFrame(beyond | vars(found))
            contrasts.append(frame.assign(p=p, null=shifts[control].mean(axis=0)))
    return pd.concat(rows, ignore_index=True), pd.concat(contrasts, ignore_index=True)
