"""A sentence of the answer with the number that decides it; the verdict is judged here alone."""

import math
import re
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from lenses.statistics.against_random import AgainstRandom
from lenses.statistics.intervals import (
    FEWEST,
    Estimate,
    Intervals,
    benjamini_hochberg,
    luck_beyond,
)

Kind = Literal["identity", "mechanical", "learned", "descriptive"]
Verdict = Literal["holds", "fails", "undecided", "not tested"]
LEVEL = 0.05
"""Of corrected p-values."""
_HYPHEN = re.compile(r"(?:(?<=[\s(\[≈])|^)-(?=\.?\d)")
AFFORDABLE = 1_000
"""Sample sizes beyond this are not extrapolated to: the effect is too small to decide."""


def with_minus(text: str) -> str:
    """Text in which negative numbers have a minus, not a hyphen: `tau -.5` is `tau −.5`."""
    return _HYPHEN.sub("−", text)


class Claim(BaseModel):
    """One sentence of the answer, with the number that decides it.

    `identity` holds in any model; `mechanical` follows partly from shapes or scales, and is about
    the difference from `null`; `learned` must not hold with random weights; `descriptive` is a
    plain finding without a verdict. Made by the methods of these names, from an estimate: a row
    of a table, `share(...)`, `bootstrap(...)`, `AgainstRandom`, or `Estimate(...)`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Kind
    sentence: str
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = Field(0, ge=0)
    p: float | None = Field(None, ge=0, le=1)
    p_fails: float | None = Field(None, ge=0, le=1, exclude=True)
    """Two-sided, of the opposite: what `corrected` judges a claim by that fails."""
    threshold: float | None = None
    """What the interval is judged against."""
    null: float | None = None
    null_note: str = ""
    unit: str = ""
    verdict: Verdict | None
    decide: str = ""
    """What would decide an undecided claim."""
    needs: str = ""
    """What a claim that was not tested needs, as a user can give it: "2 prompts or more"."""
    family: str = ""
    """Claims that say the same of several things (places, measures, layers) share a family."""
    label: str = ""
    """The thing that this claim of a family is about, in a word or two."""
    check: bool = False
    """Whether it tests the method (an identity, a planted control) and not the model."""
    reported: tuple[float, str] | None = None
    """The same number in print, where it is known for sure: its value and who reports it."""

    @field_validator("sentence", "null_note", "unit")
    @classmethod
    def _has_true_minus(cls, text: str) -> str:
        return with_minus(text)

    @model_validator(mode="after")
    def _is_complete(self) -> "Claim":
        if self.verdict == "undecided" and not self.decide:
            raise ValueError("an undecided claim says what would decide it (decide=)")
        if self.verdict == "not tested" and not self.needs:
            raise ValueError("a claim that was not tested says what it needs (needs=)")
        if (self.verdict is None) != (self.kind == "descriptive"):
            raise ValueError("a descriptive claim has no verdict, and every other one has")
        if self.verdict == "holds" and self.estimate is None:
            raise ValueError("a claim that holds has an estimate")
        if not self.sentence.rstrip().endswith((".", "?", "!")):
            raise ValueError(f"a claim is a full sentence with a full stop: {self.sentence!r}")
        if self.family and not self.label:
            raise ValueError("a claim of a family has a label that tells it from the others")
        if self.reported is not None and not self.reported[1].strip():
            raise ValueError("a reported number names its source (reported=(value, source))")
        return self

    @classmethod
    def learned(cls, sentence: str, found: Any, **how: Any) -> "Claim":
        """A claim that must not hold with random weights; see `_judged` for `how`."""
        return _judged("learned", sentence, found, **how)

    @classmethod
    def mechanical(cls, sentence: str, found: Any, **how: Any) -> "Claim":
        """A claim that follows partly from shapes: about the difference from `null`."""
        return _judged("mechanical", sentence, found, **how)

    @classmethod
    def identity(
        cls, sentence: str, errors: Any, *, within: float, unit: str = "",
        needs: str = "one text or more",
    ) -> "Claim":  # fmt: skip
        """That no error exceeds a tolerance: holds in any model, or the measurement is wrong.

        An error that is NaN fails it; without any errors it was not tested.
        """
        errors = np.asarray(errors, dtype=float).ravel()
        said = {"kind": "identity", "sentence": sentence, "check": True, "n": len(errors)}
        said["unit"] = unit or f"largest relative error; tolerance {within:g}"
        if not len(errors):
            return Claim(**said, verdict="not tested", needs=needs)
        worst = float(errors.max())  # NaN wins, as it must
        if not math.isfinite(worst):
            said["unit"] += f"; {np.sum(~np.isfinite(errors))} of {len(errors)} are not finite"
            return Claim(**said, threshold=within, verdict="fails")
        verdict = "holds" if worst <= within else "fails"
        return Claim(**said, estimate=worst, threshold=within, verdict=verdict)

    @classmethod
    def descriptive(cls, sentence: str, found: Any = None, **said: Any) -> "Claim":
        """A plain finding: a number with its interval, and no verdict; NaN is absent."""
        said |= {name: None for name in JUDGED_BY if _is_nan(said.get(name))}
        return Claim(kind="descriptive", sentence=sentence, verdict=None, **_numbers(found), **said)

    @classmethod
    def not_tested(cls, kind: Kind, sentence: str, needs: str, **said: Any) -> "Claim":
        """A claim for which nothing was measured, with what it takes to test it."""
        return Claim(kind=kind, sentence=sentence, verdict="not tested", needs=needs, **said)


def _judged(
    kind: Kind,
    sentence: str,
    found: Any,
    *,
    above: float | None = None,
    below: float | None = None,
    holds: bool | None = None,
    verdict: Verdict | None = None,
    needs: str = "5 prompts or more",
    decide: str = "",
    more: str = "",
    **said: Any,
) -> Claim:
    """A claim about `found`, judged where that is possible.

    Holds where the whole interval lies above `above` (or below `below`), fails where all of it
    lies on the other side. Where more than one number decides, `holds` says whether it does, and if
    not it fails by `p_fails`: two-sided, that luck alone makes it seem untrue. `verdict` overrules
    all of this, as where a control decides. Without an
    estimate, or without an interval, the claim is not tested and says what it `needs`. `decide`
    says what would decide an undecided one; with `more="prompts (--additions)"` how many of them
    is extrapolated as well, unless `found` says itself what it lacks. A null or a threshold that is
    NaN tests nothing, whatever `verdict` says, and nothing holds by half an interval or by a p or
    an n that is NaN. `p`, `null`, `null_note`, `unit`, `family`, `label`, `check` and `reported`
    are the claim's fields.
    """
    numbers = _numbers(found)
    said = {"kind": kind, "sentence": sentence} | numbers | said
    threshold = above if above is not None else below
    said["threshold"] = threshold
    verdict = verdict or _decided(holds, said) or getattr(found, "verdict", None)
    if any(_is_nan(said.get(name)) for name in JUDGED_BY):
        said |= {name: None for name in JUDGED_BY if _is_nan(said.get(name))}
        return Claim(**said, verdict="not tested", needs=needs)
    if numbers.get("estimate") is None or (verdict is None and numbers.get("low") is None):
        return Claim(**said, verdict="not tested", needs=_needed(found, needs))
    sign = -1.0 if above is None and below is not None else 1.0
    verdict = verdict or _verdict(numbers["low"], numbers["high"], threshold, sign)
    said.setdefault("p_fails", getattr(found, "p_fails", _p_fails(numbers, threshold, sign)))
    if verdict == "not tested" or (verdict == "holds" and _lacks_a_number(found)):
        return Claim(**said, verdict="not tested", needs=_needed(found, needs))
    if verdict == "undecided":
        lacks = getattr(found, "decide", "") or _extrapolated(numbers, threshold, sign, more)
        said["decide"] = "; ".join(filter(None, [decide, lacks]))
    return Claim(**said, verdict=verdict)


def _decided(holds: bool | None, said: dict[str, Any]) -> Verdict | None:
    """The verdict where more than one number decides, if so."""
    if holds is None:
        return None
    return "holds" if holds else "fails" if said["p_fails"] <= LEVEL else "undecided"


def _needed(found: Any, needs: str) -> str:
    """What a claim without an interval lacks, of one that has cases enough: differences."""
    tested = isinstance(found, Intervals | AgainstRandom | Estimate) and not _is_nan(found.estimate)
    low = getattr(found, "low", None)
    alike = getattr(found, "verdict", None) == "not tested" or _is_nan(low)
    return DIFFER if tested and alike and found.n >= FEWEST else needs


def _verdict(low: float, high: float, threshold: float | None, sign: float) -> Verdict:
    if threshold is None:
        raise ValueError("a claim needs a threshold: above=, below= or verdict=")
    ends = sorted(sign * (end - threshold) for end in (low, high))
    if ends[0] > 0:
        return "holds"
    return "fails" if ends[1] < 0 else "undecided"


def _p_fails(numbers: dict[str, Any], threshold: float | None, sign: float) -> float | None:
    """Two-sided p of lying on the other side, by the interval."""
    if threshold is None or numbers["low"] is None:
        return None
    end = numbers["high"] if sign > 0 else numbers["low"]
    half, short = abs(end - numbers["estimate"]), sign * (threshold - numbers["estimate"])
    return float(luck_beyond(short, half, numbers["n"])) if short > 0 else 1.0


def _extrapolated(numbers: dict[str, Any], threshold: float | None, sign: float, more: str) -> str:
    """How many cases would decide it if the estimate stayed as it is (normal theory)."""
    if not more:
        return ""
    if threshold is None or numbers["low"] is None:
        return f"more {more}"
    ahead = sign * (numbers["estimate"] - threshold)
    if ahead <= 0:
        return "more data will not make this hold: the estimate lies on the other side"
    low = min(sign * (end - threshold) for end in (numbers["low"], numbers["high"]))
    times = _shrinks_as_n(numbers, threshold) or ((ahead - low) / ahead) ** 2
    needed = max(numbers["n"] + 1, math.ceil(numbers["n"] * times))
    if needed >= AFFORDABLE:
        return "too small an effect to decide at this size"
    return f"about {needed} {more}, if the estimate stays as it is"


def _shrinks_as_n(numbers: dict[str, Any], threshold: float) -> float | None:
    """Times as many cases of a share that is 0 or 1, by Wilson's z^2 / (n + z^2); None of others.

    At 8 of 8, [0.676, 1], 0.9 is passed by 35 of 35: 4.3 times as many.
    """
    if numbers["estimate"] == numbers["low"] == 0:
        there, wanted = numbers["high"], threshold
    elif numbers["estimate"] == numbers["high"] == 1:
        there, wanted = 1 - numbers["low"], 1 - threshold
    else:
        return None
    return there / (1 - there) * (1 - wanted) / wanted if 0 < wanted < 1 > there else None


DIFFER = "cases that differ: all have the same number, which has no interval"

JUDGED_BY = ("threshold", "null", "p")


def _lacks_a_number(found: Any) -> bool:
    """Whether its n, its p or one end of its interval is NaN; the interval may lack both."""
    half = _is_nan(_part(found, "low")) != _is_nan(_part(found, "high"))
    return half or any(_is_nan(_part(found, name)) for name in ("n", "p"))


def _is_nan(value: Any) -> bool:
    return value is not None and math.isnan(value)


def _numbers(found: Any) -> dict[str, Any]:
    """Estimate, interval, n and p of whatever holds them; NaN is absent."""
    if found is None:
        return {}
    known = {}
    for name in ("estimate", "low", "high", "p"):
        value = _part(found, name)
        value = None if value is None else float(value)
        known[name] = None if value is None or not math.isfinite(value) else value
    if known["low"] is None or known["high"] is None:
        known["low"] = known["high"] = None
    n = _part(found, "n")
    return known | {"n": 0 if n is None or _is_nan(n) else int(n)}


def _part(found: Any, name: str) -> Any:
    if hasattr(found, "index") and hasattr(found, "get"):  # a row of a table
        return found.get(name)
    value = getattr(found, name, None)
    return value.item() if isinstance(value, np.ndarray) else value


def corrected(claims: Iterable[Claim], decide: str = "more prompts") -> list[Claim]:
    """The claims with p corrected over all of them that have one (Benjamini & Hochberg 1995).

    One that held or failed, and that chance may explain once all are counted, becomes undecided:
    what held by p, what failed by `p_fails`, corrected alike.
    """
    claims = list(claims)
    tested = [number for number, claim in enumerate(claims) if claim.p is not None]
    if not tested:
        return claims
    p = np.array([claims[number].p for number in tested])
    fails = [claims[number].p_fails for number in tested]
    q_fails = benjamini_hochberg(np.array([1.0 if one is None else one for one in fails]))
    for number, *both in zip(tested, benjamini_hochberg(p), q_fails, strict=True):
        claims[number] = _with_p(claims[number], *both, len(tested), decide)
    return claims


def _with_p(claim: Claim, q: float, q_fails: float, tests: int, decide: str) -> Claim:
    changes: dict[str, Any] = {"p": min(float(q), 1.0)}
    lucky = claim.verdict == "fails" and claim.p_fails is not None and q_fails > LEVEL
    if lucky or (claim.verdict == "holds" and q > LEVEL):
        why = f"{decide}: among {tests} claims, chance may explain this one"
        changes |= {"verdict": "undecided", "decide": why}
    return claim.model_copy(update=changes)


def percent(share: float) -> str:
    """A share as sentences say it: `-0.25` is `−25 %`, and `-0.001` is `0 %`."""
    whole = f"{100 * share:.0f}"
    return f"{'0' if whole == '-0' else whole} %".replace("-", "−")


__all__ = ["Claim", "Estimate", "Verdict", "corrected", "percent"]
