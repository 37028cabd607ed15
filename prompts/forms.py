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
    """A prompt is `opening`, solved lines, and `front`, a, `between`, b, `after` of what is asked.

    The answer's first digit comes next.
    """

    name: str
    opening: str = ""
    """What stands before all else: the opening of a conversation."""
    front: str = ""
    between: str = " + "
    after: str = " = "
    shown: tuple[tuple[int, int], ...] = ()
    """Addends of the sums that are solved in front of the question, a line each."""

    def prompt(self, a: int, b: int) -> str:
        """The question, up to the answer."""
        return f"{self.before()}{a}{self.between}{b}{self.after}"

    def solved(self, a: int, b: int) -> str:
        """The question with its answer."""
        return f"{self.prompt(a, b)}{a + b}"

    def before(self, said: str = "") -> str:
        """What stands before the first addend; `said` comes after the opening."""
        lines = [f"{self.front}{a}{self.between}{b}{self.after}{a + b}\n" for a, b in self.shown]
        return f"{self.opening}{said}{''.join(lines)}{self.front}"

    def showing(self, shown: Sums, name: str = "") -> "Form":
        """The same question after other solved ones."""
        pairs = tuple(zip(shown.a.tolist(), shown.b.tolist(), strict=True))
        return replace(self, name=name or self.name, shown=pairs)


BARE = Form("bare")
CLOSE = Form("bare, no spaces", between="+", after="=")
INTERPRETER = Form("interpreter", front=">>> ", after="\n")


def plain_forms(shown: Sums) -> list[Form]:
    """Every form without a template; `shown` are the examples of those that have some."""
    with_examples = [
        BARE.showing(shown, "few-shot"),
        CLOSE.showing(shown, "few-shot, no spaces"),
        INTERPRETER.showing(shown, "interpreter, few-shot"),
    ]
    without = [
        BARE,
        Form("bare, no last space", after=" ="),
        Form("bare, new line", after=" =\n"),
        CLOSE,
        INTERPRETER,
    ]
    return (with_examples if len(shown) else []) + without
