"""Texts as tokens, with a row for each digit of theirs that is measured."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from models import Model, ModelError
from models.text import right_pad, tokenize
from prompts.additions import NUMBERS, AdditionFormat, Sums
from prompts.place_values import PlacePrompt

PLACES = 17
"""Columns of the longest sum that fits into 64 bits."""


@dataclass(frozen=True)
class DigitTexts:
    """Token ids of each text, and what is known of each digit in them.

    Columns of `digits`, in the order of the texts: prompt, kind, twin, pos, token_id, phase,
    announced (the text or its format tells the length of its numbers), sample (prompt, announced
    or generated: the answer), part (a, b, c), place, length, index (digits of its number before
    it), digit, run and carry (of its column in a sum; else 0).
    """

    ids: list[list[int]]
    digits: pd.DataFrame

    def batches(self, size: int) -> list[slice]:
        """Texts `size` at a time."""
        return [slice(start, start + size) for start in range(0, len(self.ids), size)]

    def batch(
        self, texts: slice, device: torch.device | str
    ) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "n"], Int[Tensor, "n"], np.ndarray]:
        """Tokens of some texts; row and pos of each of their digits; which digits these are."""
        tokens, _ = right_pad(self.ids[texts])
        rows = self.digits.index[self.digits["prompt"].between(texts.start, texts.stop - 1)]
        found = self.digits.loc[rows]
        row, pos = (
            torch.tensor(found[name].to_numpy(), device=device) for name in ("prompt", "pos")
        )
        return tokens.to(device), row - texts.start, pos, rows.to_numpy()

    def chosen(self, prompts: Sequence[int]) -> "DigitTexts":
        """Some of the texts, in the order given, numbered anew."""
        number = {prompt: new for new, prompt in enumerate(prompts)}
        digits = self.digits[self.digits["prompt"].isin(number)]
        digits = digits.assign(prompt=digits["prompt"].map(number)).sort_values(["prompt", "pos"])
        return DigitTexts([self.ids[p] for p in prompts], digits.reset_index(drop=True))


def texts_of_prompts(model: Model, prompts: Sequence[PlacePrompt]) -> DigitTexts:
    """Prompts with their answers as a language model reads them.

    Raises ModelError for a digit that is not a token of its own, and for texts that are too long.
    """
    ids, rows = [], []
    for number, prompt in enumerate(prompts):
        found = tokenize(model, prompt.text)
        if len(found) > model.cfg.n_ctx:
            raise ModelError(
                f"{model.card.name} reads {model.cfg.n_ctx} tokens, but {prompt.kind} prompts have "
                f"up to {len(found)}; choose a model that reads more"
            )
        ids.append(found)
        rows += _prompt_rows(model, number, prompt, found)
    return DigitTexts(ids, _with_sample(pd.DataFrame(rows)))


def _prompt_rows(
    model: Model, number: int, prompt: PlacePrompt, ids: list[int]
) -> list[dict[str, object]]:
    """A row for each digit of a prompt's last line."""
    at = _token_at(model, prompt.text, ids)
    same = {"prompt": number, "kind": prompt.kind, "twin": prompt.twin}
    cells = _cells(prompt)
    return [
        {
            **same,
            "pos": at[digit.at],
            "token_id": ids[at[digit.at]],
            "announced": prompt.announced,
            "part": digit.part,
            "place": digit.place,
            "length": digit.length,
            "index": digit.length - 1 - digit.place,
            "digit": digit.value,
            "run": cells[digit.place][0],
            "carry": cells[digit.place][1],
        }
        for digit in prompt.digits
    ]


def _token_at(model: Model, text: str, ids: list[int]) -> dict[int, int]:
    """Pos of the token of each character that is a digit (ModelError where it is no own token)."""
    tokenizer = model.tokenizer
    spans = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    found = {}
    for pos, (start, end) in enumerate(spans[: len(ids)]):
        written = text[start:end]
        if any(char.isdigit() for char in written) and len(written.strip()) > 1:
            raise ModelError(
                f"{model.card.name}: its tokenizer joins the digit {written.strip()[0]} to others "
                f"({written.strip()!r}); choose a model that writes each digit as a token of its "
                "own (smollm2, gemma3_270m_q4, an adder)"
            )
        if written.strip().isdigit():
            found[end - 1] = pos
    return found


def _cells(prompt: PlacePrompt) -> list[tuple[int, int]]:
    """Run and carry of each column of a prompt's sum."""
    if prompt.kind != "addition":
        return [(0, 0)] * (PLACES + 1)
    a, b = (np.array([n]) for n in prompt.numbers)
    sums = Sums(a, b, PLACES)
    return list(zip(sums.run[0].tolist(), sums.carry[0].tolist(), strict=True))


def _with_sample(digits: pd.DataFrame) -> pd.DataFrame:
    """With phase and sample, which follow from the rest."""
    answer = digits["part"] == "c"
    phase = np.where(answer, "generated", "prompt")
    sample = np.where(answer, "generated", np.where(digits["announced"], "announced", "prompt"))
    digits.insert(5, "phase", phase)
    digits.insert(7, "sample", sample)
    return digits


def texts_of_sums(style: AdditionFormat, sums: Sums) -> DigitTexts:
    """Additions with their answers as an adder reads them; padded ones have a known length."""
    written = style.write(sums)
    end = written.at.max(axis=1) + 1
    ids = [row[:stop].tolist() for row, stop in zip(written.tokens, end, strict=True)]
    parts = [_part_rows(style, sums, part) for part in "abc"]
    digits = pd.concat(parts, ignore_index=True)
    token_id = [
        ids[prompt][pos] for prompt, pos in zip(digits["prompt"], digits["pos"], strict=True)
    ]
    digits = digits.assign(kind="addition", twin=-1, token_id=token_id, announced=style.pad)
    ahead = ["prompt", "kind", "twin", "pos", "token_id", "announced", "part"]
    digits = digits[[*ahead, "place", "length", "index", "digit", "run", "carry"]]
    return DigitTexts(ids, _with_sample(digits.sort_values(["prompt", "pos"], ignore_index=True)))


def _part_rows(style: AdditionFormat, sums: Sums, part: str) -> pd.DataFrame:
    """The digits of one of the numbers of every addition."""
    values = {"a": sums.a_digits, "b": sums.b_digits, "c": sums.answer_digits}[part]
    lengths = _lengths(style, values)
    row, place = np.nonzero(np.arange(values.shape[1]) < lengths[:, None])
    first = (style.answer if part == "c" else style.operands) == "msb"
    index = lengths[row] - 1 - place if first else place
    columns = {"place": place, "length": lengths[row], "index": index, "digit": values[row, place]}
    carried = {"run": sums.run[row, place], "carry": sums.carry[row, place]}
    pos = _starts(style, sums, part)[row] + index
    return pd.DataFrame({"prompt": row, "pos": pos, "part": part, **columns, **carried})


def _lengths(style: AdditionFormat, values: Int[np.ndarray, "n width"]) -> Int[np.ndarray, "n"]:
    """How many digits of each number are written: all, or those that are no zero in front."""
    places = np.arange(values.shape[1])
    highest = np.where(values > 0, places, 0).max(axis=1)
    return np.full(len(values), len(places)) if style.pad else highest + 1


def _starts(style: AdditionFormat, sums: Sums, part: str) -> Int[np.ndarray, "n"]:
    """Pos of the first token of a number of each addition."""
    start = np.zeros(len(sums), dtype=np.int64)
    operands = {"a": sums.a_digits, "b": sums.b_digits}
    for item in style.layout[: style.layout.index(part)]:
        start += _lengths(style, operands[item]) if item in NUMBERS else 1
    return start
