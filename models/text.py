"""Text in and out of a model: token ids, their strings, batches, continuations."""

import re
from collections.abc import Container, Sequence
from functools import lru_cache
from inspect import signature
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from models.card import Card, ModelError
from models.protocol import Model, Tokenizer
from prompts.additions import AdditionFormat

BATCH = 16


class TextNote(UserWarning):
    """Something about the texts that a reader of the numbers must know; a run's page shows it."""


MEMORY = {"attention_mask", "position_ids", "past_key_values", "use_cache", "logits_to_keep"}
"""What a model must take if texts that are filled up on the left are to be continued exactly."""
VISIBLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
HIDDEN = [byte for byte in range(256) if byte not in VISIBLE]
BYTES = {
    **{chr(byte): byte for byte in VISIBLE},
    **{chr(256 + turn): byte for turn, byte in enumerate(HIDDEN)},
}
"""The sign that stands for each byte in byte-level tokenizers: GPT-2's, which all others took."""


def tokenize(model: Model, text: str) -> list[int]:
    """Token ids of a text, with one BOS in front iff the model's tokenizer puts one there.

    An end token that the tokenizer appends is left off: the text goes on. Raises ModelError for a
    text that brings a second BOS along or that the model has no tokens for, for a model without
    tokenizer, and for an adder's prompt in another form than its card's.
    """
    tokenizer = _tokenizer(model)
    if model.card.arithmetic is not None:
        _refuse_other_form(model.card.name, model.card.arithmetic, tokenizer, text)
    ids, bos = read_ids(tokenizer, text), tokenizer.bos_token_id
    if bos is not None and ids[:2] == [bos, bos]:
        raise ModelError(f"{text[:40]!r} begins with the token that is added anyway; leave it out")
    refuse_unread_tokens(model.card, ids, len(model.W_E), tokenizer)
    return ids


def tokenize_prompts(
    model: Model, texts: Sequence[str], new_tokens: int = 0, names: Sequence[str] | None = None
) -> list[list[int]]:
    """Token ids of every prompt; the first that cannot be read is refused by its name or number."""
    rows = []
    for name, text in zip(names or [f"prompt {i}" for i in range(len(texts))], texts, strict=True):
        try:
            ids = tokenize(model, text)
        except ModelError as error:
            raise ModelError(f"{name}: {error}") from error
        if not text.strip():
            raise ModelError(f"{name} is empty; leave it out or give it a text")
        if len(ids) <= begins_with_bos(model.tokenizer):
            raise ModelError(
                f"{name}: the tokenizer reads nothing of {text[:40]!r}; leave it out or write it "
                "in signs that the model knows"
            )
        refuse_too_long(model, len(ids) + new_tokens, f"{name} with its continuation")
        rows.append(ids)
    return rows


def read_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a text without what the tokenizer appends to it."""
    try:
        ids = list(tokenizer(text)["input_ids"])
        bare = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    except Exception as error:  # the tokenizers library raises nothing more special
        raise ModelError(
            f"the tokenizer cannot read {text[:40]!r} ({error}); leave that out"
        ) from error
    if not bare:
        return [token for token in ids[:1] if token == tokenizer.bos_token_id]
    starts = range(len(ids) - len(bare) + 1)
    first = next((i for i in starts if ids[i : i + len(bare)] == bare), None)
    return ids if first is None else ids[: first + len(bare)]


def begins_with_bos(tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer puts its BOS in front of every text."""
    return tokenizer.bos_token_id is not None and read_ids(tokenizer, "a")[:1] == [
        tokenizer.bos_token_id
    ]


def refuse_unread_tokens(
    card: Card, ids: Sequence[int] | Tensor, known: int, tokenizer: Tokenizer | None = None
) -> None:
    """Raise ModelError for an id that the embedding has no row for."""
    most = max(torch.as_tensor(ids).flatten().tolist(), default=0)
    if most >= known:
        name = "" if tokenizer is None else f"{tokenizer.convert_ids_to_tokens(most)!r} is "
        raise ModelError(
            f"{name}token {most}, but {card.name} reads {known} tokens (0 to {known - 1}); leave "
            "it out or use the tokenizer that the model was trained with"
        )


class TooLongError(ModelError):
    """A text is longer than a model reads."""


def refuse_too_long(model: Model, length: int, what: str) -> None:
    """Raise TooLongError for a text longer than the model reads."""
    if length > model.cfg.n_ctx:
        raise TooLongError(
            f"{what} is {length} tokens long, but {model.card.name} reads at most "
            f"{model.cfg.n_ctx}; shorten it"
        )


def _refuse_other_form(name: str, style: AdditionFormat, tokenizer: Tokenizer, text: str) -> None:
    """An adder reads any text as if it were an addition; only additions as trained are one."""
    reads = style.vocabulary
    if unknown := [sign for sign in text if not any(sign in known for known in reads)]:
        raise ModelError(
            f"{name} cannot read {unknown[0]!r} in {text[:40]!r}; it reads {' '.join(reads)}"
        )
    added = tokenizer.bos_token if begins_with_bos(tokenizer) else None
    layout = [item for item in style.layout if item != added]
    if not re.fullmatch("".join(_pattern(style, item) for item in layout), text):
        form = example_of(style, layout)
        digits = f"{'' if style.pad else 'up to '}{style.digits} digits each"
        raise ModelError(
            f"{name} cannot read {text[:40]!r}: it reads additions written {form} ({digits}); "
            "write it so"
        )


def _pattern(style: AdditionFormat, item: str) -> str:
    """What an item of an adder's layout looks like; the answer may be cut short or left out."""
    if item == "c":
        return rf"\d{{0,{style.digits + 1}}}"
    if item in "ab":
        return rf"\d{{{style.digits}}}" if style.pad else rf"(?:0|[1-9]\d{{0,{style.digits - 1}}})"
    return re.escape(item)


def example_of(style: AdditionFormat, layout: Sequence[str]) -> str:
    """An addition as an adder reads it, up to its answer: `000012+000007=`."""
    numbers = {"a": "12"[: style.digits], "b": "7"}
    width = style.digits if style.pad else 0
    before = layout[: layout.index("c")]
    digits = {name: number.zfill(width) for name, number in numbers.items()}
    turned = {name: n if style.operands == "msb" else n[::-1] for name, n in digits.items()}
    return "".join(turned.get(item, item) for item in before)


def token_strings(model: Model, ids: Sequence[int]) -> list[str]:
    """The name of each token: its text, with the space in front; no two ids have the same.

    A byte that is no character by itself is `⟨0xE4⟩`, an id without text `⟨#270⟩`.
    """
    names = _names(_tokenizer(model))
    return [names[token] if token < len(names) else f"⟨#{token}⟩" for token in map(int, ids)]


@lru_cache(maxsize=8)
def _names(tokenizer: Tokenizer) -> list[str]:
    """The name of every id of a tokenizer."""
    added = {token: str(content) for token, content in tokenizer.added_tokens_decoder.items()}
    backend = getattr(tokenizer, "backend_tokenizer", None)
    in_bytes = backend is not None and "ByteLevel" in repr(backend.decoder)
    # Some tokenizers leave ids out, so that the last one is beyond their number of tokens.
    last = max(tokenizer.get_vocab().values(), default=-1)
    pieces = tokenizer.convert_ids_to_tokens(list(range(last + 1)))
    shown, names, used = _of_bytes if in_bytes else _of_pieces, [], set(added.values())
    for number, piece in enumerate(pieces):
        name = added.get(number) or (shown(piece) if piece else "")
        is_taken = number not in added and name in used
        names.append(f"{name}⟨#{number}⟩" if is_taken or not name else name)
        used.add(names[-1])
    return names


def _of_pieces(piece: str) -> str:
    """The text of a SentencePiece token: `▁the` is ` the`, `<0xE4>` is a byte."""
    if re.fullmatch("<0x[0-9A-F]{2}>", piece):
        return f"⟨{piece[1:-1]}⟩"
    return piece.replace("▁", " ")


def _of_bytes(piece: str) -> str:
    """The text of a byte-level token: `Ġthe` is ` the`; bytes that are no text by themselves."""
    numbers = [BYTES.get(sign) for sign in piece]
    if None in numbers:
        return piece
    # surrogateescape keeps every byte that is no text as a sign of its own.
    text = bytes(numbers).decode("utf-8", "surrogateescape")
    return "".join(f"⟨0x{ord(c) - 0xDC00:02X}⟩" if "\udc80" <= c <= "\udcff" else c for c in text)


def _tokenizer(model: Model) -> Any:
    """The model's tokenizer; ModelError where it reads no text."""
    if model.tokenizer is None:
        raise ModelError(
            f"{model.card.name}: reads no text; name a tokenizer in its card, or give one to "
            "models.wrap"
        )
    return model.tokenizer


def right_pad(
    rows: Sequence[Sequence[int]],
) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch"]]:
    """Rows of ids as one batch, zeros filled up on the right, and the length of each row.

    Causal models need no mask: what stands before the filling does not see it.
    """
    lengths = torch.tensor([len(row) for row in rows])
    batch = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
    for line, row in zip(batch, rows, strict=True):
        line[: len(row)] = torch.tensor(row)
    return batch, lengths


@torch.no_grad()
def continue_text(
    model: Model,
    ids: Sequence[Sequence[int]],
    new_tokens: int,
    *,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[list[int]]:
    """The tokens that follow each prompt, without the prompt, up to `new_tokens` or an end token.

    The end token itself is left out. Temperature 0 takes the likeliest token each time.
    """
    chooser = _Chooser(temperature, torch.Generator().manual_seed(seed))
    step = _step_with_memory if _remembers(model) else _step_from_scratch
    ends = {*model.end_tokens, model.tokenizer.eos_token_id if model.tokenizer else None}
    longest = max(map(len, ids), default=0) + new_tokens
    refuse_too_long(model, longest, f"the longest text with {new_tokens} more tokens")
    found = []
    for first in range(0, len(ids), BATCH):
        state = _State([list(row) for row in ids[first : first + BATCH]])
        for _ in range(new_tokens):
            if state.add(chooser(step(model, state)), ends):
                break
        found += state.new
    return found


class _Chooser:
    """Picks the next token of each row."""

    def __init__(self, temperature: float, generator: torch.Generator) -> None:
        self.temperature, self.generator = temperature, generator

    def __call__(self, logits: Tensor) -> list[int]:
        if self.temperature == 0:
            return logits.argmax(-1).tolist()
        chances = (logits.float().cpu() / self.temperature).softmax(-1)
        return torch.multinomial(chances, 1, generator=self.generator)[:, 0].tolist()


class _State:
    """What has been said in each row, and what the model remembers of it."""

    def __init__(self, rows: list[list[int]]) -> None:
        self.rows = rows
        self.new: list[list[int]] = [[] for _ in rows]
        self.ended = [False] * len(rows)
        self.memory: Any = None

    def add(self, chosen: list[int], ends: Container[int | None]) -> bool:
        """Append a token to each row that goes on; True when none does."""
        for row, token in enumerate(chosen):
            self.rows[row].append(token)
            self.ended[row] |= token in ends
            if not self.ended[row]:
                self.new[row].append(token)
        return all(self.ended)


def _remembers(model: Model) -> bool:
    """Whether the model is a transformers model inside, which keeps keys and values."""
    plain = getattr(model, "original_model", None)
    if not hasattr(plain, "generation_config"):
        return False
    return signature(type(plain).forward).parameters.keys() >= MEMORY


def _step_from_scratch(model: Model, state: _State) -> Tensor:
    """Logits of the next token of each row, everything computed again."""
    batch, lengths = right_pad(state.rows)
    logits = model(batch.to(model.cfg.device), return_type="logits")
    return logits[torch.arange(len(batch)), lengths - 1]


def _step_with_memory(model: Any, state: _State) -> Tensor:
    """Logits of the next token of each row; rows are filled up on the left and masked there."""
    from transformers import DynamicCache

    device, plain = model.cfg.device, model.original_model
    length = max(map(len, state.rows))
    padding = torch.tensor([[length - len(row)] for row in state.rows])
    place = torch.arange(length) - padding
    tokens = torch.tensor([[0] * (length - len(row)) + row for row in state.rows])
    first = 0 if state.memory is None else length - 1
    state.memory = state.memory or DynamicCache(config=plain.config)
    said = plain(
        input_ids=tokens[:, first:].to(device),
        attention_mask=(place >= 0).long().to(device),
        position_ids=place.clamp(min=0)[:, first:].to(device),
        past_key_values=state.memory,
        use_cache=True,
        logits_to_keep=1,
    )
    return said.logits[:, -1]
