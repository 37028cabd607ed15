"""The words of a command line as options."""

from collections.abc import Sequence

from experiments._contract.errors import UsageError


def leading(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words before the first option, and the rest: names may stand behind --quiet."""
    first = next((i for i, word in enumerate(words) if word.startswith("--")), len(words))
    return list(words[:first]), list(words[first:])


def split(words: Sequence[str]) -> dict[str, list[str]]:
    """Options with the words that follow them: `--count 3 --prompts a b` has two.

    Raises:
        UsageError: a word stands before the first option.
    """
    options: dict[str, list[str]] = {}
    values: list[str] | None = None
    for word in words:
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            values = options.setdefault(name.replace("-", "_"), [])
            values.extend([value] if equals else [])
        elif values is None:
            raise UsageError(f"{word!r}: expected an option such as --model NAME here")
        else:
            values.append(word)
    return options
