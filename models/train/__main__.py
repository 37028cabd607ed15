"""Train a small model from its card: `python -m models.train adder_6d_2l`, or a card's path.

An adder is a GPT-2 that reads `<bos>a+b=` and writes the answer. Everything it takes is in the
card's `[arithmetic]` and `[training]` tables. Written to the folder that the card names: the
weights as plain transformers reads them, the tokenizer, `learning_curve.parquet`,
`accuracy.parquet` (every cell), `acceptance.parquet` (how many answers of each kind are wrong) and
`training.json`; and, in `steps/STEP/`, the adder as it was after each of the steps to keep, with a
card of its own. A card without `[arithmetic]` is of a model of a text (`models/train/words.py`).
"""

import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pydantic import ValidationError
from transformers import GPT2LMHeadModel

from models.card import SHIPPED, ModelError
from models.train import words
from models.train.acceptance import accept, accuracy_by_cell
from models.train.king_james import training_and_held_out
from models.train.recipe import AdderCard, Training, WordCard, card_to_train
from models.train.storing import log_training, store, store_with_card, tokenizer_of
from models.train.trainer import Trainer
from prompts.additions import (
    AdditionFormat,
)


def train(
    style: AdditionFormat, training: Training, folder: Path
) -> tuple[GPT2LMHeadModel, pd.DataFrame]:
    """A trained adder and its learning curve: loss in nats per step and place of the answer.

    Steps to keep are stored in `folder`.
    """
    trainer = Trainer(style, training)
    recent, curve = [], []
    keep(trainer, folder)
    for step in range(1, training.steps + 1):
        recent.append(trainer.advance())
        keep(trainer, folder)
        if step % 50 == 0 or step == training.steps:
            losses = np.nanmean(recent, axis=0)
            rows = {"step": step, "place": np.arange(style.digits + 1), "loss": losses}
            curve.append(pd.DataFrame(rows))
            report(curve[-1], training.steps)
            recent = []
    return trainer.adder.eval(), pd.concat(curve, ignore_index=True)


def keep(trainer: Trainer, folder: Path) -> None:
    """Store the adder where the step just done is one to keep."""
    if trainer.step in trainer.training.keep_at:
        store_with_card(trainer.adder, trainer.style, folder / "steps" / f"{trainer.step:06d}")


def report(rows: pd.DataFrame, steps: int) -> None:
    """One line of progress: the loss of each answer digit, units first."""
    losses = " ".join(f"{loss:.4f}" for loss in rows["loss"])
    print(f"step {rows['step'][0]}/{steps}  loss by place, units first: {losses}", flush=True)


def main(arguments: list[str]) -> int:
    """Train the model of one card, store it, and test what was stored; 0 if it is accepted."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m models.train CARD", file=sys.stderr)
        return 2
    try:
        shipped = SHIPPED / f"{arguments[0]}.toml"
        card = card_to_train(shipped if shipped.is_file() else Path(arguments[0]))
    except (OSError, ValidationError, tomllib.TOMLDecodeError) as error:
        reason = one_line(error)
        print(f"{arguments[0]}: not the card of a model to train: {reason}", file=sys.stderr)
        return 2
    torch.set_num_threads(1)  # sums are added in a fixed order, so that a seed gives one result
    if isinstance(card, WordCard):
        return main_of_words(card)
    start = time.time()
    adder, curve = train(card.arithmetic, card.training, card.path)
    store(adder, tokenizer_of(card.arithmetic), card.path)
    return int(not examine(card, curve, seconds=time.time() - start))


def main_of_words(card: WordCard) -> int:
    """Train, store and examine a model of a text; 0 if it beats bigrams in what it never saw."""
    try:
        accepted = words.make(card, *training_and_held_out())
    except ModelError as error:
        print(error, file=sys.stderr)
        return 1
    return int(not accepted)


def one_line(error: Exception) -> str:
    """What is wrong, and where in the card."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def examine(card: AdderCard, curve: pd.DataFrame, seconds: float) -> bool:
    """Whether the stored weights are accepted; tables and log are kept beside them."""
    adder = GPT2LMHeadModel.from_pretrained(card.path, attn_implementation="eager").eval()
    acceptance = accept(adder, card.arithmetic, card.training)
    tables = {
        "learning_curve": curve,
        "acceptance": acceptance,
        "accuracy": accuracy_by_cell(adder, card.arithmetic, card.training),
    }
    for name, table in tables.items():
        table.to_parquet(card.path / f"{name}.parquet", index=False)
    accepted = not (card.training.exact and acceptance["wrong"].any())
    digest = log_training(card, seconds, accepted)
    verdict = "accepted" if accepted else "refused: not exact, try another seed"
    print(f"{verdict}; trained in {seconds:.0f} s; sha256 of model.safetensors: {digest}")
    return accepted


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
