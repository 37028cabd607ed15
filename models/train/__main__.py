"""Train a small adder from its card: `python -m models.train configs/models/adder_6d_2l.toml`.

The adder is a GPT-2 that reads `<bos>a+b=` and writes the answer. Everything it takes is in the
card's `[arithmetic]` and `[training]` tables. Written to the folder that the card names: the
weights as plain transformers reads them, the tokenizer, `learning_curve.parquet`,
`accuracy.parquet` (every cell), `acceptance.parquet` (how many answers of each kind are wrong) and
`training.json`; and, in `steps/STEP/`, the adder as it was after each of the steps to keep, with a
card of its own.
"""

import json
import platform
import sys
import time
import tomllib
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import transformers
from pydantic import ValidationError
from transformers import GPT2LMHeadModel

from models.train.acceptance import accept, accuracy_by_cell
from models.train.recipe import AdderCard, Training
from models.train.storing import store, store_with_card
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
    """Train the adder of one card, store it, and test what was stored; 0 if it is accepted."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m models.train CARD", file=sys.stderr)
        return 2
    try:
        card = AdderCard.read(Path(arguments[0]))
    except (OSError, ValidationError, tomllib.TOMLDecodeError) as error:
        reason = one_line(error)
        print(f"{arguments[0]}: not the card of an adder to train: {reason}", file=sys.stderr)
        return 2
    torch.set_num_threads(1)  # sums are added in a fixed order, so that a seed gives one result
    start = time.time()
    adder, curve = train(card.arithmetic, card.training, card.path)
    store(adder, card.arithmetic, card.path)
    return int(not examine(card, curve, seconds=time.time() - start))


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
    digest = sha256((card.path / "model.safetensors").read_bytes()).hexdigest()
    log = training_log(card, seconds) | {"accepted": accepted, "sha256": digest}
    (card.path / "training.json").write_text(json.dumps(log, indent=2) + "\n", encoding="utf-8")
    verdict = "accepted" if accepted else "refused: not exact, try another seed"
    print(f"{verdict}; trained in {seconds:.0f} s; sha256 of model.safetensors: {digest}")
    return accepted


def training_log(card: AdderCard, seconds: float) -> dict[str, object]:
    """What was trained, with what, on what and for how long."""
    return {
        "training": card.training.model_dump(),
        "arithmetic": card.arithmetic.model_dump(),
        "seconds": round(seconds, 1),
        "machine": platform.machine(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
