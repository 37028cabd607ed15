"""The three sentences of a published walkthrough of self-attention, and their words."""

SENTENCES = {
    "fox": "The quick brown fox jumps over the lazy dog",
    "seashells": "She sells seashells by the seashore",
    "pizza": "I love to eat pizza with extra cheese",
}
"""By name. "The" and "the" are two words, and only "the" has two successors: lazy, seashore."""
CURRENT = "fox"
"""The word after which the walkthrough says that it predicts."""
WINDOW = 2
"""The words before it that it says it considers."""


def words(name: str) -> list[str]:
    """The words of a sentence, as they are separated by spaces."""
    return SENTENCES[name].split()


def spaced(name: str) -> list[str]:
    """The words of a sentence as they follow each other: all but the first after a space."""
    first, *others = words(name)
    return [first, *(f" {word}" for word in others)]


def vocabulary() -> list[str]:
    """Every word of the sentences once, in order of appearance."""
    return list(dict.fromkeys(word for name in SENTENCES for word in words(name)))


def numbered(name: str) -> list[int]:
    """The words of a sentence by their number in the vocabulary."""
    known = vocabulary()
    return [known.index(word) for word in words(name)]
