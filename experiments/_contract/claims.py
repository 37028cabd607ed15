"""A sentence of the answer with the number that decides it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Verdict = Literal["holds", "fails", "undecided"]


class Claim(BaseModel):
    """One sentence of the answer, with the number that decides it.

    `identity` holds in any model; `mechanical` follows partly from shapes or scales, and is about
    the difference from `null`; `learned` must not hold with random weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["identity", "mechanical", "learned"]
    sentence: str
    estimate: float
    low: float | None = None
    high: float | None = None
    n: int = Field(ge=0)
    p: float | None = Field(None, ge=0, le=1)
    null: float | None = None
    null_note: str = ""
    unit: str = ""
    verdict: Verdict
    decide: str = ""

    @model_validator(mode="after")
    def _says_what_would_decide(self) -> Claim:
        if self.verdict == "undecided" and not self.decide:
            raise ValueError("an undecided claim says what would decide it (field decide)")
        return self

    @staticmethod
    def judge(low: float, high: float, threshold: float) -> Verdict:
        """The verdict on "greater than threshold" of an interval: .2 to .5 above 0 holds."""
        if low > threshold:
            return "holds"
        return "fails" if high < threshold else "undecided"
