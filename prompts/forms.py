"""Ways to ask a language model for a sum: what stands before, between and after the addends.

The form alone moves the accuracy of a small model from a sixth to nearly all (SCIENCE 5), so it is
a variable like any other: chosen on sums that are not measured, and stated.
"""

from dataclasses import dataclass, replace

from prompts.additions import Sums

CHAT = "What is {a} + {b}? Answer with the number only."
"""What a user asks where a model has a template for conversations."""


@dataclass(frozen=True)
class Form:
    """A prompt is `front`, a, `between`, b, `after`; the answer's first digit comes next."""

    name: str
    front: str = ""
    between: str = " + "
    after: str = " = "

    def prompt(self, a: int, b: int) -> str:
        """The question, up to the answer."""
        return f"{self.front}{a}{self.between}{b}{self.after}"

    def solved(self, a: int, b: int) -> str:
        """The question with its answer."""
        return f"{self.prompt(a, b)}{a + b}"

    def after_examples(self, name: str, shown: Sums) -> "Form":
        """The same question after solved ones, a line each."""
        lines = [f"{self.solved(a, b)}\n" for a, b in zip(shown.a, shown.b, strict=True)]
        return replace(self, name=name, front="".join(lines) + self.front)


BARE = Form("bare")
CLOSE = Form("bare, no spaces", between="+", after="=")
INTERPRETER = Form("interpreter", front=">>> ", after="\n")


def plain_forms(shown: Sums) -> list[Form]:
    """Every form without a template; `shown` are the examples of those that have some."""
    with_examples = [
        BARE.after_examples("few-shot", shown),
        CLOSE.after_examples("few-shot, no spaces", shown),
        INTERPRETER.after_examples("interpreter, few-shot", shown),
    ]
    without = [
        BARE,
        Form("bare, no last space", after=" ="),
        Form("bare, new line", after=" =\n"),
        CLOSE,
        INTERPRETER,
    ]
    return (with_examples if len(shown) else []) + without
