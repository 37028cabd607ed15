"""What a page discloses of every answer, in four lines."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Reading:
    """How an answer may be read; each field is one line of plain words.

    Asked for in print: none of ten papers examined said all of it (2605.08012; 2606.00033).
    """

    causal: str
    """Whether the answer is causal, and by which intervention."""
    assumes: str
    """What must be true for it to be read so."""
    stressed: str
    """Which of these assumptions a control here has put to the test, and how."""
    not_shown: str
    """What a reader may be tempted to conclude, and must not."""

    def lines(self) -> dict[str, str]:
        """The four lines by name, as the manifest keeps them."""
        return asdict(self)
