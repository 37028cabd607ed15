"""The words of a command line as options."""

from collections.abc import Sequence

from experiments._contract.errors import UsageError


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
