"""Text in and out of a model: token ids, their strings, batches, continuations."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from models.card import Card, ModelError
from models.protocol import Model

BATCH = 16


def tokenize(model: Model, text: str) -> list[int]:
    """Token ids of a text, with one BOS in front iff the model's tokenizer puts one there.

    Raises ModelError for a text that brings a second BOS along, for a model without tokenizer, and
    for a character that an adder has no token for.
    """
    _refuse_unreadable(model.card, text)
    tokenizer = _tokenizer(model)
    ids, bos = tokenizer(text)["input_ids"], tokenizer.bos_token_id
    if bos is not None and ids[:2] == [bos, bos]:
        raise ModelError(f"{text[:40]!r} begins with the token that is added anyway; leave it out")
    return ids


def _refuse_unreadable(card: Card, text: str) -> None:
    """An adder's tokenizer would take any other character for its first token, silently."""
    if card.arithmetic is None:
        return
    left = text
    for known in sorted(card.arithmetic.vocabulary, key=len, reverse=True):
        left = left.replace(known, "")
    if left:
        reads = " ".join(card.arithmetic.vocabulary)
        raise ModelError(f"{card.name} cannot read {left[0]!r} in {text[:40]!r}; it reads {reads}")


def token_strings(model: Model, ids: Sequence[int]) -> list[str]:
    """The text of each token by itself; a part of a character is U+FFFD."""
    tokenizer = _tokenizer(model)
    return [tokenizer.decode([int(token)]) for token in ids]


def _tokenizer(model: Model) -> Any:
    """The model's tokenizer; ModelError where it reads no text."""
    if model.tokenizer is None:
        raise ModelError(
            f"{model.card.name}: reads no text; give its card an [arithmetic.vocabulary]"
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
    """The tokens that follow each prompt, without the prompt, up to `new_tokens` or the end token.

    The end token itself is left out. Temperature 0 takes the likeliest token each time.
    """
    chooser = _Chooser(temperature, torch.Generator().manual_seed(seed))
    step = _step_with_memory if _remembers(model) else _step_from_scratch
    ends = model.tokenizer.eos_token_id if model.tokenizer else None
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

    def add(self, chosen: list[int], end: int | None) -> bool:
        """Append a token to each row that goes on; True when none does."""
        for row, token in enumerate(chosen):
            self.rows[row].append(token)
            self.ended[row] |= token == end
            if not self.ended[row]:
                self.new[row].append(token)
        return all(self.ended)


def _remembers(model: Model) -> bool:
    """Whether the model is a transformers model inside, which keeps keys and values."""
    return hasattr(getattr(model, "original_model", None), "generation_config")


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
