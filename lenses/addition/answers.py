"""What a model answers to additions, and how one that was never told reads them."""

import re

import numpy as np
import torch
from jaxtyping import Bool, Int

from models import Model, ModelError
from models.text import refuse_too_long, tokenize
from prompts.additions import Addition, AdditionFormat, Sums, solved


def answered(
    model: Model, style: AdditionFormat, sums: Sums
) -> tuple[Int[np.ndarray, "n answer"], Int[np.ndarray, "n answer"], Bool[np.ndarray, "n"]]:
    """Digits said after the right prefix, those written freely, and whether the answer then ends.

    Writing is greedy. Every answer is first read with the right digits in it, then with the digits
    just said, until what is said is what was read: then each digit is the likeliest after the
    model's own, as if they had been written one by one, and few passes are needed.
    """
    written = style.write(sums)
    tokens, is_digit = written.tokens, written.written
    last = written.at.max(axis=1, keepdims=True)
    reads = np.concatenate([np.maximum(written.at - 1, 0), last], axis=1)
    said = likeliest(model, tokens, reads)
    given = _digits(said[:, :-1], style, is_digit)
    for _ in range(style.digits + 1):
        row, place = np.nonzero(is_digit)
        differs = tokens[row, written.at[row, place]] != said[row, place]
        changed = np.unique(row[differs])
        if not changed.size:
            break
        tokens[row, written.at[row, place]] = said[row, place]
        said[changed] = likeliest(model, tokens[changed], reads[changed])
    return given, _digits(said[:, :-1], style, is_digit), ~np.isin(said[:, -1], style.digit_ids)


def likeliest(
    model: Model, tokens: Int[np.ndarray, "n pos"], reads: Int[np.ndarray, "n read"]
) -> Int[np.ndarray, "n read"]:
    """The token that the model says after each pos to be read."""
    with torch.no_grad():
        logits = model(torch.from_numpy(tokens).to(model.cfg.device))
        rows = torch.arange(len(tokens))[:, None]
        return logits[rows, torch.from_numpy(reads)].argmax(-1).cpu().numpy()


def _digits(
    ids: Int[np.ndarray, "n answer"], style: AdditionFormat, is_digit: Bool[np.ndarray, "n answer"]
) -> Int[np.ndarray, "n answer"]:
    """The digits that token ids stand for; -1 where there is none to be said or none is said."""
    same = ids[..., None] == style.digit_ids
    return np.where(same.any(-1) & is_digit, same.argmax(-1), -1)


def addition_format(model: Model, places: int | None, examples: int, seed: int) -> AdditionFormat:
    """How a model writes additions: as its card says, or else `language_format`.

    `places` may be None: an adder has its own number of digits, a language model is given 2.
    Raises ModelError for digits that an adder has not.
    """
    own = model.card.arithmetic
    if own is None:
        return language_format(model, places or 2, examples, seed)
    if places is None or places == own.digits:
        return own
    if own.pad or places > own.digits:
        up_to = "" if own.pad else "up to "
        raise ModelError(
            f"places: {model.card.name} adds numbers of {up_to}{own.digits} digits, not {places}"
        )
    return own.model_copy(update={"digits": places})


def language_format(model: Model, places: int, examples: int, seed: int) -> AdditionFormat:
    """How a language model reads `12 + 34 = 46` after solved additions, one a line.

    Raises ModelError where its tokenizer does not write each digit as one token of its own, or
    joins a sign with what stands beside it.
    """
    shown = Addition(places, examples + 20, seed + 1, padded=False).sums
    head = "".join(f"{line}\n" for line in solved(shown[:examples]))
    digits = tokenize(model, "0123456789")[-10:]
    if len(set(digits)) < 10:
        raise _no_single_digits(model)
    vocabulary = {str(digit): token for digit, token in enumerate(digits)}
    trial = list(solved(shown[examples:]))
    layout = _layout(tokenize(model, head + trial[0]), digits, trial[0])
    vocabulary |= {item: int(item[1:]) for item in layout if item not in ("a", "b", "c")}
    style = AdditionFormat(digits=places, pad=False, layout=layout, vocabulary=vocabulary)
    nines = np.array([10**places - 1])
    refuse_too_long(
        model,
        style.write(Sums(nines, nines, places)).tokens.shape[1],
        f"examples: a question with {examples} solved additions in front (--examples)",
    )
    for row, line in enumerate(trial):
        expected = style.write(shown[examples + row : examples + row + 1]).tokens[0].tolist()
        if tokenize(model, head + line) != expected:
            raise _no_single_digits(model)
    return style


def _no_single_digits(model: Model) -> ModelError:
    return ModelError(
        f"{model.card.name}: its tokenizer does not write every digit as a token of its own; "
        "choose a model that does (smollm2, gemma3_270m_q4, an adder)"
    )


def _layout(ids: list[int], digits: list[int], line: str) -> tuple[str, ...]:
    """The items of an addition's layout: its last line's numbers as a, b, c, the rest as `#id`."""
    widths = [len(number) for number in re.findall(r"\d+", line)]
    items: list[str] = []
    for name, width in zip("cba", reversed(widths), strict=True):
        items.append(name)
        ids = ids[:-width]
        while ids and ids[-1] not in digits and name != "a":
            items.append(f"#{ids.pop()}")
    return (*(f"#{token}" for token in ids), *reversed(items))
