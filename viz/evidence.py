"""Claims as a page shows them: rows of tables with their intervals, checks, what was not tested."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

VERDICTS = ("holds", "fails", "undecided", "not tested")
_PLURAL = {"holds": "hold", "fails": "fail"}
_NO_FINDING = {"fails": "not so: ", "undecided": "open: "}
"""Before claims that were not found true: by itself their sentence reads as an answer."""

KINDS = {
    "identity": "Holds in any model, by algebra: a check of the measurement.",
    "mechanical": "Follows in part from shapes and scales: what counts is the difference from "
    "the null and from random weights.",
    "learned": "Must not hold with random weights, and must hold on a planted control.",
    "descriptive": "A plain finding: a number that is not judged.",
}

LINE = 120
"""Characters in which the first screen names the claims of a verdict: a line at a desk."""
BESIDE = 45
"""Characters for the labels of a family that a line does not take whole."""

_EMPTY = {
    "low": None, "high": None, "p": None, "threshold": None, "null": None, "null_note": "",
    "unit": "", "decide": "", "needs": "", "family": "", "label": "", "n": 0, "estimate": None,
    "reported": None,
}  # fmt: skip
_NUMBERS = re.compile(r"[-−]?\d[\d,.]*\d|\d")
_ROOM = 0.06
"""Of an axis: left free at both ends."""


def evidence(claims: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Groups of claims about the model, the checks, what was not tested, and how many of each.

    Also those of which the number is known from print. Manifests of older runs have claims without
    family, label, check and reported.
    """
    whole = [
        _EMPTY | {"check": is_check(claim), "id": f"claim-{number}"} | dict(claim)
        for number, claim in enumerate(claims, 1)
    ]
    checks = [claim for claim in whole if claim["check"]]
    about = [claim for claim in whole if not claim["check"]]
    return {
        "groups": _groups([claim for claim in about if claim["verdict"] != "not tested"]),
        "checks": checks,
        "passed": sum(claim["verdict"] == "holds" for claim in checks),
        "unpassed": _unpassed(checks),
        "not_tested": _by_need([claim for claim in about if claim["verdict"] == "not tested"]),
        "reported": [claim for claim in whole if claim["reported"] is not None],
        "counts": count_verdicts(whole),
        "named": _named(about),
    }


def _unpassed(checks: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Each verdict of checks that did not pass, how many of them have it, and which they are."""
    counts = Counter(claim["verdict"] for claim in checks if claim["verdict"] != "holds")
    of = f"of {len(checks)} checks of the method" if len(checks) > 1 else "check of the method"
    return [
        (verdict, counted(verdict, n, of), _in_a_line(verdict, checks))
        for verdict, n in counts.items()
    ]


def _named(claims: list[dict[str, Any]]) -> list[tuple[str, int, str]]:
    """Each verdict with how many claims have it and which they are, for the first screen."""
    counts = Counter(claim["verdict"] for claim in claims)
    return [
        (verdict, counts[verdict], _in_a_line(verdict, claims))
        for verdict in VERDICTS if counts[verdict]
    ]  # fmt: skip


def _in_a_line(verdict: str, claims: list[dict[str, Any]]) -> str:
    """Those that have this verdict, as a line takes them: quoted where they were not found true."""
    members = [claim for claim in claims if claim["verdict"] == verdict]
    if verdict == "not tested":
        needs = Counter(f"needs {claim['needs']}" for claim in members)
        return _fitting(list(needs.items()))
    before = _NO_FINDING.get(verdict, "")
    elsewhere = {claim["family"].rstrip(".") for claim in claims if claim["verdict"] != verdict}
    told = [(f"“{one}”" if before else one, count) for one, count in _told(members, elsewhere)]
    return before + _fitting(told)


def _told(claims: list[dict[str, Any]], elsewhere: set[str]) -> list[tuple[str, int]]:
    """Families with the labels of their claims where a line takes them, and how many they are.

    A claim by itself is its sentence. A family that has other verdicts `elsewhere` keeps its first
    labels on any line: without them it would be said to hold and to fail.
    """
    families: dict[str, list[str]] = {}
    for claim in claims:
        families.setdefault((claim["family"] or claim["sentence"]).rstrip("."), []).append(
            claim["label"]
        )
    whole = [
        f"{name} ({'; '.join(labels)})" if any(labels) else name
        for name, labels in families.items()
    ]
    counts = [len(labels) for labels in families.values()]
    if len("; ".join(whole)) > LINE:
        whole = [
            f"{name} ({_first(labels) if name in elsewhere else f'{len(labels)} claims'})"
            if len(labels) > 1 else said
            for said, (name, labels) in zip(whole, families.items(), strict=True)
        ]  # fmt: skip
    return list(zip(whole, counts, strict=True))


def _first(labels: list[str]) -> str:
    """The labels that fit beside the name of a family, and how many more there are."""
    return _fitting([(label, 1) for label in labels], BESIDE)


def _fitting(told: list[tuple[str, int]], line: int = LINE) -> str:
    """The first, as many more as a line takes, and how many claims were left out."""
    words = [one for one, _ in told]
    ends = [len("; ".join(words[:count])) for count in range(1, len(words) + 1)]
    shown = max(1, sum(end <= line for end in ends))
    left_out = sum(count for _, count in told[shown:])
    more = f"; and {'one other' if left_out == 1 else f'{left_out} others'}" if left_out else ""
    return "; ".join(words[:shown]) + more


def is_check(claim: Mapping[str, Any]) -> bool:
    """Whether a claim tests the method and not the model; older manifests do not say."""
    return claim.get("check", claim["kind"] == "identity")


def claim_key(claim: Mapping[str, Any]) -> str:
    """What makes a claim the same in another run: its family and label, or its words.

    Numbers in a sentence are what came out, not what was claimed.
    """
    if claim.get("family"):
        return f"{claim['family']}: {claim['label']}"
    return _NUMBERS.sub("#", claim["sentence"])


def count_verdicts(claims: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many claims about the model have each verdict; checks of the method do not count."""
    found = [claim["verdict"] for claim in claims if not is_check(claim)]
    return {verdict: found.count(verdict) for verdict in VERDICTS}


def counted(verdict: str, count: int, noun: str = "") -> str:
    """A number of claims in words: "1 holds", "3 hold", "3 claims hold"."""
    said = f"{count} {noun}" if noun else str(count)
    return f"{said} {verdict if count == 1 else _PLURAL.get(verdict, verdict)}"


def _by_need(claims: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was not tested, by what it needs."""
    needs = dict.fromkeys(claim["needs"] for claim in claims)
    return [
        {"needs": need, "claims": [claim for claim in claims if claim["needs"] == need]}
        for need in needs
    ]


def _groups(claims: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A family stands together where its first claim does; claims without one stand in a row."""
    families: dict[str, list[dict[str, Any]]] = {}
    for claim in claims:
        families.setdefault(claim["family"], []).append(claim)
    seen: set[str] = set()
    groups = []
    for family, run in groupby(claims, key=lambda claim: claim["family"]):
        members = families[family] if family else list(run)
        if not family or family not in seen:
            groups.append(_group(family, members))
        seen.add(family)
    return groups


def _group(family: str, claims: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows of one table; those of a family share an axis, others each have their own."""
    shared = _axis(claims) if family else None
    rows = [claim | {"plot": _plot(claim, shared or _axis([claim]))} for claim in claims]
    return {"family": family, "rows": rows, "axis": shared, **_in_common(family, claims)}


def _in_common(family: str, claims: list[dict[str, Any]]) -> dict[str, Any]:
    """What all claims of a family are compared with and measured in, said once."""
    found = {}
    for name in ("unit", "null_note"):
        values = {claim[name] for claim in claims}
        found[name] = values.pop() if family and len(values) == 1 else ""
    return found


def _axis(claims: list[dict[str, Any]]) -> tuple[float, float] | None:
    """The ends of an axis that holds all numbers of the claims: 0 to 1 for shares."""
    names = ("estimate", "low", "high", "null", "threshold")
    values = [claim[name] for claim in claims for name in names if claim[name] is not None]
    if not values or all(claim["estimate"] is None for claim in claims):
        return None
    low, high = min(values), max(values)
    if low >= 0 and 0.2 < high <= 1:
        return 0.0, 1.0
    low, high = min(low, 0.0), max(high, 0.0)  # how far from zero is what is to be seen
    return (low, high) if low < high else (0.0, 1.0)


def _plot(claim: dict[str, Any], axis: tuple[float, float] | None) -> dict[str, Any] | None:
    """Places of the claim's numbers on its axis, in percent of the width."""
    if axis is None or claim["estimate"] is None:
        return None
    span = axis[1] - axis[0]
    names = ("estimate", "low", "high", "null", "threshold")
    places = {
        name: round(100 * (_ROOM + (1 - 2 * _ROOM) * (claim[name] - axis[0]) / span), 2)
        for name in names
        if claim[name] is not None
    }
    ends = {"from": axis[0], "to": axis[1]}
    zero = round(100 * (_ROOM + (1 - 2 * _ROOM) * (0 - axis[0]) / span), 2)
    return dict.fromkeys(names) | places | ends | {"zero": zero if axis[0] < 0 else None}
