import pytest
import torch

from models import untrained
from models.planted.places import planted_places
from models.text import token_strings, tokenize
from prompts.place_values import PLACE_WORDS, PREFIX_WORDS, place_prompts, prefix_prompts


@pytest.fixture(scope="module")
def planted():
    return planted_places()


@pytest.fixture(scope="module")
def prompts():
    return place_prompts(2, seed=5)


def logits(model, text: str) -> tuple[torch.Tensor, list[str]]:
    ids = tokenize(model, text)
    return model(torch.tensor([ids]))[0], token_strings(model, ids)


def likeliest(model, at: torch.Tensor, tokens) -> str:
    ids = [model.tokenizer.get_vocab()[token] for token in tokens]
    return list(tokens)[int(at[ids].argmax())]


WORD = {place: f" {words[-1]}" if words[-1].isascii() else words[-1]
        for place, words in PLACE_WORDS.items()}  # fmt: skip


def digits_of_last_line(prompt, tokens: list[str]) -> list[int]:
    """Where the digits of the last line stand among the tokens."""
    return [i for i, token in enumerate(tokens) if token.isdigit()][-len(prompt.digits) :]


def test_it_passes_the_checks_of_every_model(planted) -> None:
    assert planted.identities
    assert all(identity.ok for identity in planted.identities)


def test_announced_numbers_are_copied_and_others_are_not(planted, prompts) -> None:
    right = {True: [], False: []}
    for prompt in prompts:
        if prompt.kind != "copy":
            continue
        said, tokens = logits(planted, prompt.text)
        for at, digit in zip(digits_of_last_line(prompt, tokens), prompt.digits, strict=True):
            if digit.part == "c":
                right[prompt.announced].append(
                    likeliest(planted, said[at - 1], "0123456789") == str(digit.value)
                )
    assert all(right[True])
    assert len(right[True]) == 45
    assert sum(right[False]) / len(right[False]) < 0.4


def test_announced_digits_carry_the_word_of_their_place(planted, prompts) -> None:
    for prompt in prompts:
        if prompt.kind != "copy":
            continue
        said, tokens = logits(planted, prompt.text)
        for at, digit in zip(digits_of_last_line(prompt, tokens), prompt.digits, strict=True):
            if digit.place in WORD and digit.part == "a":
                ids = {p: planted.tokenizer.get_vocab()[word] for p, word in WORD.items()}
                # The digits before it may say a word of their own, 10 the word ten.
                own = said[at, ids[digit.place]].item()
                assert own >= 3 - 1e-3 if prompt.announced else own < 4


def test_a_code_has_no_places(planted, prompts) -> None:
    plain = [p for p in prompts if p.twin >= 0 and p.announced]
    assert plain
    for prompt in plain:
        said, tokens = logits(planted, prompt.text)
        at = digits_of_last_line(prompt, tokens)
        ids = [planted.tokenizer.get_vocab()[WORD[place]] for place in (0, 2, 3, 6)]
        assert said[at][:, ids].abs().max() < 1e-3


def test_two_digits_carry_the_word_of_both(planted) -> None:
    words = [f" {word}" for word in PREFIX_WORDS.values()]
    for prompt in prefix_prompts(1, seed=0):
        said, tokens = logits(planted, prompt.text)
        assert tokens[-2:] == list(str(prompt.numbers[0]))
        found = likeliest(planted, said[-1], words)
        if prompt.numbers[0] in PREFIX_WORDS:
            assert found == f" {PREFIX_WORDS[prompt.numbers[0]]}"


def test_an_untrained_twin_copies_nothing(planted, prompts) -> None:
    twin, right = untrained(planted, 0), []
    for prompt in prompts:
        if prompt.kind == "copy" and prompt.announced:
            said, tokens = logits(twin, prompt.text)
            for at, digit in zip(digits_of_last_line(prompt, tokens), prompt.digits, strict=True):
                if digit.part == "c":
                    right.append(likeliest(twin, said[at - 1], "0123456789") == str(digit.value))
    assert sum(right) / len(right) < 0.4
