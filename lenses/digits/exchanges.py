"""Prompts in which one number stands to be exchanged for another, and what a model then answers.

A slot is where it stands: a digit of an adder's addend, the number a language model is to copy, or
the first addend of a one-digit sum. All texts of a slot differ in it (and in the answer) alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from models import Model, ModelError
from models.text import tokenize
from prompts.additions import Addition, AdditionFormat, Sums, number_of

EXAMPLES = 3
"""Solved lines that a language model is shown first."""


@dataclass(frozen=True)
class Exchanges:
    """One row a prompt, with a value in its slot and another, `target`, that is to take its place.

    What stands before the pos that is read was written for the first value.
    """

    slot: Int[np.ndarray, "n"]
    tokens: Int[np.ndarray, "n pos"]
    at: Int[np.ndarray, "n"]
    """Pos of the value."""
    read: Int[np.ndarray, "n"]
    """The pos whose logits are the answer."""
    value: Int[np.ndarray, "n"]
    target: Int[np.ndarray, "n"]
    token: Int[np.ndarray, "n"]
    """Token id of the target in the slot."""
    right: Int[np.ndarray, "n"]
    """Token id of the right answer to the value."""
    answer: Int[np.ndarray, "n"]
    """Token id of the right answer to the target."""

    def __len__(self) -> int:
        """How many prompts."""
        return len(self.slot)

    def __getitem__(self, rows: slice | np.ndarray) -> "Exchanges":
        """The prompts at `rows`."""
        return Exchanges(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def and_also(self, others: "Exchanges") -> "Exchanges":
        """These prompts and others, which are as long."""
        both = {f.name: (getattr(self, f.name), getattr(others, f.name)) for f in fields(self)}
        return Exchanges(**{name: np.concatenate(parts) for name, parts in both.items()})

    @property
    def exchanged(self) -> Int[np.ndarray, "n pos"]:
        """The tokens with the target written into the slot, and nothing else changed."""
        tokens = self.tokens.copy()
        tokens[np.arange(len(self)), self.at] = self.token
        return tokens


@dataclass(frozen=True)
class EveryValue:
    """For each slot and context, the prompt up to the slot, with every value in it."""

    tokens: Int[np.ndarray, "slot context value pos"]
    at: Int[np.ndarray, "slot"]


SURPLUS = 40
"""Additions drawn for each in which a digit toggles a carry: about every third does."""

Slot = tuple[str, int]
"""Whose number it is (a, b, copy or addition) and at which decimal place."""


def adder_slots(style: AdditionFormat) -> list[Slot]:
    """Both digits of each column; without the highest where it must not become a zero."""
    places = range(style.digits if style.pad else style.digits - 1)
    return [(name, place) for place in places for name in ("a", "b")]


def adder_values(
    style: AdditionFormat, slots: Sequence[Slot], contexts: int, seed: int
) -> EveryValue:
    """Uniform additions, in each of which a slot takes every digit."""
    sums = Addition(style.digits, contexts, seed, padded=style.pad).sums
    at = np.array([_operand_at(style, slot) for slot in slots])
    tokens = np.repeat(style.write(sums).tokens[None, :, None], len(slots), axis=0)
    tokens = np.repeat(tokens, 10, axis=2)
    for number, pos in enumerate(at):
        tokens[number, :, :, pos] = style.digit_ids
    return EveryValue(tokens[..., : at.max() + 1], at)


def adder_exchanges(
    style: AdditionFormat, slots: Sequence[Slot], per_slot: int, seed: int, *, above: bool = False
) -> Exchanges:
    """Uniform additions, a digit of each to be exchanged; read is the answer digit of its column.

    Or that of the column `above`, in additions in which the exchange toggles the carry into it.
    """
    rng, drawn = np.random.default_rng(seed), per_slot * (SURPLUS if above else 1)
    value, target = _unlike_pairs(10, len(slots) * drawn, rng)
    sums = Addition(style.digits, len(value), seed + 1, padded=style.pad).sums
    slot = np.repeat(np.arange(len(slots)), drawn)
    place = np.array([slots[number][1] for number in slot])
    is_a = np.array([slots[number][0] == "a" for number in slot])
    clean, other = (_with_digit(sums, is_a, place, digit) for digit in (value, target))
    written, rows, read = style.write(clean), np.arange(len(slot)), place + above
    ids = style.digit_ids
    found = Exchanges(
        slot=slot,
        tokens=written.tokens,
        at=np.array([_operand_at(style, slots[number]) for number in slot]),
        read=written.at[rows, read] - 1,
        value=value,
        target=target,
        token=ids[target],
        right=ids[clean.answer_digits[rows, read]],
        answer=ids[other.answer_digits[rows, read]],
    )
    # A number that is not padded may have no digit above.
    usable = (found.right != found.answer) & (written.at[rows, read] >= 0)
    rank = np.cumsum(usable.reshape(len(slots), drawn), axis=1).ravel()
    return found[usable & (rank <= per_slot)]


def _operand_at(style: AdditionFormat, slot: Slot) -> int:
    """The pos of an addend's digit in additions of numbers that have all their digits."""
    return style.model_copy(update={"pad": True}).operand_at(*slot)


def _with_digit(
    sums: Sums, is_a: np.ndarray, place: Int[np.ndarray, "n"], digit: Int[np.ndarray, "n"]
) -> Sums:
    """The additions with one digit of one addend replaced."""
    digits = np.stack([sums.a_digits, sums.b_digits])
    digits[np.where(is_a, 0, 1), np.arange(len(place)), place] = digit
    return Sums(number_of(digits[0]), number_of(digits[1]), sums.places)


def _unlike_pairs(
    values: int, count: int, rng: np.random.Generator
) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """Ordered pairs of unlike values, shuffled, each as often as any other up to one."""
    pairs = values * (values - 1)
    drawn = np.concatenate([rng.permutation(pairs) for _ in range(-(-count // pairs))])[:count]
    first, rest = drawn // (values - 1), drawn % (values - 1)
    return first, rest + (rest >= first)


LANGUAGE_SLOTS: list[Slot] = [("copy", 0), ("addition", 0)]
NUMBER_SLOTS: list[Slot] = [("copy", 0)]


def language_values(
    model: Model, slots: Sequence[Slot], contexts: int, seed: int, values: int = 10
) -> EveryValue:
    """Solved lines shown first differ from context to context; in the slot is every value.

    Raises ModelError where such numbers are not one token each.
    """
    found = []
    for name, _ in slots:
        texts = [
            _text(name, value, 0, values, np.random.default_rng([seed, context]))
            for context in range(contexts)
            for value in range(values)
        ]
        tokens = _equally_long(model, texts).reshape(contexts, values, -1)
        first = np.broadcast_to(tokens[:, :1], tokens[:, 1:].shape)
        at, _ = _exchanged_at(model, *(t.reshape(-1, t.shape[-1]) for t in (first, tokens[:, 1:])))
        found.append((tokens, at[0]))
    at = np.array([pos for _, pos in found])
    return EveryValue(np.stack([_cut(tokens, at.max() + 1) for tokens, _ in found]), at)


def language_exchanges(
    model: Model, slots: Sequence[Slot], per_slot: int, seed: int, values: int = 10
) -> Exchanges:
    """A number to be copied, or the first addend of a sum of one digit; read is the answer.

    Raises ModelError where such numbers are not one token each.
    """
    rng = np.random.default_rng(seed)
    value, target = _unlike_pairs(values, len(slots) * per_slot, rng)
    texts = []
    for row, pair in enumerate(zip(value, target, strict=True)):
        name, other = slots[row // per_slot][0], int(rng.integers(values - max(pair)))
        texts += [
            _text(name, number, other, values, np.random.default_rng([seed + 1, row]))
            for number in pair
        ]
    tokens = [_equally_long(model, texts[i : i + 2 * per_slot])
              for i in range(0, len(texts), 2 * per_slot)]  # fmt: skip
    width = max(part.shape[1] for part in tokens)
    whole = np.concatenate([_cut(part, width) for part in tokens])
    clean, other = whole[::2], whole[1::2]
    at, answer = _exchanged_at(model, clean, other)
    rows = np.arange(len(clean))
    return Exchanges(
        slot=np.repeat(np.arange(len(slots)), per_slot),
        tokens=clean,
        at=at,
        read=answer - 1,
        value=value,
        target=target,
        token=other[rows, at],
        right=clean[rows, answer],
        answer=other[rows, answer],
    )


def has_number_tokens(model: Model) -> bool:
    """Whether each number from 0 to 99 is one token where it is to be copied."""
    try:
        language_values(model, NUMBER_SLOTS, 1, 0, values=100)
    except ModelError:
        return False
    return True


def _text(name: str, value: int, other: int, values: int, rng: np.random.Generator) -> str:
    """Solved lines and the one in question, answer included; sums have one digit."""
    if name == "copy":
        return "\n".join(f"{n} = {n}" for n in (*rng.integers(values, size=EXAMPLES), value))
    b = rng.integers(10, size=EXAMPLES)
    pairs = [*zip(rng.integers(10 - b), b, strict=True), (value, other)]
    return "\n".join(f"{a} + {b} = {a + b}" for a, b in pairs)


def _equally_long(model: Model, texts: Sequence[str]) -> Int[np.ndarray, "n pos"]:
    """Token ids of texts that should differ in single tokens alone."""
    rows = [tokenize(model, text) for text in texts]
    if len({len(row) for row in rows}) > 1:
        raise _not_one_token(model)
    return np.array(rows)


def _exchanged_at(
    model: Model, clean: Int[np.ndarray, "n pos"], other: Int[np.ndarray, "n pos"]
) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """The two pos in which texts differ: the slot and the answer."""
    differ = clean != other
    if (differ.sum(1) != 2).any():
        raise _not_one_token(model)
    pos = np.argsort(~differ, axis=1, kind="stable")
    return pos[:, 0], pos[:, 1]


def _cut(tokens: Int[np.ndarray, "*n pos"], width: int) -> Int[np.ndarray, "*n {width}"]:
    """Rows cut, or filled up on the right, which a causal model does not see."""
    missing = max(0, width - tokens.shape[-1])
    filled = np.pad(tokens, [*[(0, 0)] * (tokens.ndim - 1), (0, missing)])
    return filled[..., :width]


def _not_one_token(model: Model) -> ModelError:
    return ModelError(
        f"{model.card.name}: its tokenizer does not write every such number as one token; choose "
        "a model that does (smollm2, gemma3_270m_q4, an adder)"
    )


@torch.inference_mode()
def states_at(
    model: Model, tokens: Int[np.ndarray, "n pos"], at: int
) -> Float[np.ndarray, "layer n d"]:
    """The residual stream at one pos: entering each block, and leaving the last."""
    last = model.cfg.n_layers - 1
    names = [f"blocks.{layer}.hook_resid_pre" for layer in range(last + 1)]
    names.append(f"blocks.{last}.hook_resid_post")
    found: list[Tensor] = []
    hooks = [(name, lambda state, hook: found.append(state[:, at].float())) for name in names]
    model.run_with_hooks(_on_device(model, tokens[:, : at + 1]), fwd_hooks=hooks)
    return torch.stack(found).cpu().numpy()


@torch.inference_mode()
def entering(
    model: Model, tokens: Int[np.ndarray, "n pos"], layer: int
) -> Float[Tensor, "n pos d"]:
    """The residual stream that enters a block."""
    found: list[Tensor] = []
    name = f"blocks.{layer}.hook_resid_pre"
    model.run_with_hooks(
        _on_device(model, tokens),
        fwd_hooks=[(name, lambda state, hook: found.append(state.clone()))],
    )
    return found[0]


@torch.inference_mode()
def said_after(
    model: Model,
    state: Float[Tensor, "n pos d"],
    layer: int,
    rows: Exchanges,
    change: Float[np.ndarray, "n d"],
) -> Int[np.ndarray, "n"]:
    """The token that each prompt is answered with if the state at its slot is changed so."""
    number = torch.arange(len(rows), device=state.device)
    changed = state.clone()
    changed[number, _on_device(model, rows.at)] += _on_device(model, change).to(state.dtype)
    logits = model(changed, start_at_layer=layer)
    return logits[number, _on_device(model, rows.read)].argmax(-1).cpu().numpy()


def _on_device(model: Model, array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(model.cfg.device)
