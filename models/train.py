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
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
import transformers
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tokenizers import Regex, Tokenizer, pre_tokenizers, processors
from tokenizers import decoders as token_decoders
from tokenizers.models import WordLevel
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from models.loading import load
from models.protocol import Model
from prompts.additions import (
    ANY,
    PASS,
    Addition,
    AdditionFormat,
    Cells,
    CellSums,
    Sums,
    Written,
    draw,
    edge_cases,
    every_pattern,
    number_of,
    repeated_pairs,
)

IN_CACHE = 100
"""Additions tested at once; with 1,000, activations leave the cache and take twice as long."""

MARK = "<bos>"
"""Begins every sequence and, as in GPT-2, also ends it."""


class Training(BaseModel):
    """The `[training]` table of a card."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    layers: int = Field(ge=1)
    """Blocks."""
    heads: int = Field(ge=1)
    """Attention heads in each block."""
    width: int = Field(ge=1)
    """d_model; the MLP is four times as wide."""
    steps: int = Field(ge=1)
    """Optimiser steps."""
    warm_up: int = 300
    """Steps over which the learning rate rises to its peak, to fall along a cosine to 1 %."""
    learning_rate: float = Field(gt=0)
    """Peak learning rate of AdamW."""
    batch: int = 512
    """Additions a step."""
    seed: int = 0
    """Seed of the weights and of the additions."""
    keep_at: tuple[int, ...] = ()
    """Steps after which the adder is also stored as it then is; 0 is before the first."""
    exact: bool
    """Whether a single wrong answer in the acceptance test refuses the adder."""
    uniform: int = 1_000_000
    """Uniform additions in the acceptance test."""
    per_cell: int = 2_000
    """Additions of every cell in the acceptance test."""
    per_pattern: int = 100
    """Additions of each of the 3^digits patterns of K, P and G columns in the acceptance test."""


class AdderCard(BaseModel):
    """What training needs of a model card; the weights need not exist yet."""

    path: Path
    arithmetic: AdditionFormat
    training: Training

    @classmethod
    def read(cls, file: Path) -> "AdderCard":
        """The card in `file`; a relative path in it starts from the card's folder.

        Raises ValidationError (pydantic) or TOMLDecodeError for a card that is no adder's.
        """
        table = tomllib.loads(file.read_text(encoding="utf-8"))
        card = cls.model_validate(table)
        return card.model_copy(update={"path": (file.parent / card.path).resolve()})


def new_adder(style: AdditionFormat, training: Training) -> GPT2LMHeadModel:
    """A GPT-2 with fresh weights that is just long enough for one addition."""
    torch.manual_seed(training.seed)
    config = GPT2Config(
        vocab_size=max(style.vocabulary.values()) + 1,
        n_positions=style.write(longest(style.digits)).tokens.shape[1],
        n_embd=training.width,
        n_layer=training.layers,
        n_head=training.heads,
        activation_function="relu",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        tie_word_embeddings=False,
        bos_token_id=style.vocabulary[MARK],
        eos_token_id=style.vocabulary[MARK],
        # In bfloat16 on a CPU the written-out attention is twice as fast as the fused one.
        attn_implementation="eager",
    )
    adder = GPT2LMHeadModel(config)
    initialise(adder)
    return adder


def longest(places: int) -> Sums:
    """An addition that no other takes more tokens to write: 99+99=."""
    nines = np.array([10**places - 1])
    return Sums(nines, nines, places)


@torch.no_grad()
def initialise(adder: GPT2LMHeadModel) -> None:
    """Matrices from N(0, .8 / sqrt d), those that write to the residual stream / sqrt(2 layers)."""
    scale = 0.8 * adder.config.n_embd**-0.5
    for name, weight in adder.named_parameters():
        if weight.ndim == 2:
            writes = name.endswith("c_proj.weight")
            weight.normal_(0, scale / (2 * adder.config.n_layer) ** 0.5 if writes else scale)


def training_sums(rng: np.random.Generator, style: AdditionFormat, count: int) -> Sums:
    """A batch: 50 % uniform, 40 % rich in columns that sum to nine, 10 % of short addends.

    Uniform batches alone leave an adder right on 99.99 % of uniform sums and wrong on one in
    eight of the longest carries. Where numbers are not padded, the whole batch is of addends whose
    lengths are drawn one by one, from 1 digit to all.
    """
    places = style.digits
    classes = np.full((count, places), ANY)
    share = np.zeros((count, 1))
    share[: count * 2 // 5] = rng.uniform(0.3, 0.95, (count * 2 // 5, 1))
    classes[rng.random((count, places)) < share] = PASS
    sums = draw(classes, rng)
    short = count // 10 if style.pad else count
    length = np.full((2, count), places)
    length[:, count - short :] = rng.integers(1, places + 1, (2, short))
    return cut(sums, length, passes=classes == PASS)


def cut(sums: Sums, length: Int[np.ndarray, "2 n"], passes: Bool[np.ndarray, "n places"]) -> Sums:
    """Both addends cut to their lowest `length` digits.

    A column that passes a carry on, and of which one digit is left, gets a nine: it still does.
    """
    has = np.arange(sums.places) < length[:, :, None]
    left = np.stack([sums.a_digits, sums.b_digits]) * has
    alone = has & ~has[::-1] & passes
    a, b = (number_of(digits) for digits in np.where(alone, 9, left))
    return Sums(a, b, sums.places)


def targets(
    style: AdditionFormat, written: Written
) -> tuple[
    Int[np.ndarray, "batch answer"],
    Int[np.ndarray, "batch answer"],
    Bool[np.ndarray, "batch answer"],
]:
    """Where an adder is read, what it should say there, and whether that is asked of it.

    Asked for are the digits of the answer, then the end; shorter answers leave the rest unasked.
    """
    after = len(style.layout) - 1 - style.layout.index("c")
    last = written.at.max(axis=1, keepdims=True) + after
    reads = written.prompt[:, None] - 1 + np.arange(style.digits + after + 2)
    asked = reads <= last
    nexts = np.minimum(reads + 1, written.tokens.shape[1] - 1)
    said = np.take_along_axis(written.tokens, nexts, axis=1)
    end = style.vocabulary[MARK]
    return np.minimum(reads, last), np.where(reads < last, said, end), asked


def learning_rate_at(step: int, training: Training) -> float:
    """Share of the peak learning rate: a linear rise, then a cosine to 1 %."""
    if step < training.warm_up:
        return (step + 1) / training.warm_up
    done = (step - training.warm_up) / max(1, training.steps - training.warm_up)
    return 0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * done))


def optimiser(adder: GPT2LMHeadModel, training: Training) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only."""
    matrices = [weight for weight in adder.parameters() if weight.ndim == 2]
    vectors = [weight for weight in adder.parameters() if weight.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=training.learning_rate, betas=(0.9, 0.98))


def losses_per_token(
    adder: GPT2LMHeadModel,
    tokens: Int[Tensor, "batch pos"],
    reads: Int[np.ndarray, "batch answer"],
    expected: Int[np.ndarray, "batch answer"],
) -> Float[Tensor, "batch answer"]:
    """Cross-entropy in nats of what is expected at the positions `reads`, in bfloat16."""
    at, target = (torch.from_numpy(array).to(tokens.device) for array in (reads, expected))
    with torch.autocast(tokens.device.type, torch.bfloat16):
        states = adder.transformer(tokens, use_cache=False).last_hidden_state
        row = torch.arange(len(tokens), device=tokens.device)[:, None]
        logits = adder.lm_head(states[row, at])
    return cross_entropy(logits.float().transpose(1, 2), target, reduction="none")


class Trainer:
    """An adder in training, a step at a time; all of it can be stored and taken up again."""

    def __init__(
        self, style: AdditionFormat, training: Training, device: torch.device | str = "cpu"
    ) -> None:
        self.style, self.training = style, training
        self.adder = new_adder(style, training).to(device)
        self.step = 0
        """Steps done."""
        self._adamw = optimiser(self.adder, training)
        self._rng = np.random.default_rng(training.seed)

    def advance(self) -> Float[np.ndarray, "answer"]:
        """Do one step; the batch's mean loss in nats by place, NaN where no such digit was."""
        for group in self._adamw.param_groups:
            group["lr"] = self.training.learning_rate * learning_rate_at(self.step, self.training)
        sums = training_sums(self._rng, self.style, self.training.batch)
        written = self.style.write(sums)
        reads, expected, asked = targets(self.style, written)
        tokens = torch.from_numpy(written.tokens).to(self.adder.device)
        losses = losses_per_token(self.adder, tokens, reads, expected)
        self._adamw.zero_grad(set_to_none=True)
        losses[torch.from_numpy(asked).to(losses.device)].mean().backward()
        torch.nn.utils.clip_grad_norm_(self.adder.parameters(), 1.0)
        self._adamw.step()
        self.step += 1
        return by_place(losses.detach().cpu().numpy(), written)

    def state(self) -> dict[str, np.ndarray]:
        """Weights, moments of the optimiser, step and random generator."""
        weights = self.adder.state_dict().items()
        state = {f"weight.{name}": weight.cpu().numpy().copy() for name, weight in weights}
        for name, weight in self.adder.named_parameters():
            for key, value in self._adamw.state[weight].items():
                state[f"{key}.{name}"] = value.cpu().numpy().copy()
        generator = json.dumps(self._rng.bit_generator.state).encode()
        return state | {"step": np.array(self.step), "rng": np.frombuffer(generator, np.uint8)}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go back to a state, from which the next steps are the same as they were."""
        tensors = {k: torch.from_numpy(v.copy()) for k, v in state.items()}
        weights = {name: tensors[f"weight.{name}"] for name in self.adder.state_dict()}
        self.adder.load_state_dict(weights)
        self._adamw.state.clear()
        self.step = int(state["step"])
        self._rng.bit_generator.state = json.loads(state["rng"].tobytes())
        if self.step:
            for name, weight in self.adder.named_parameters():
                keys = ("step", "exp_avg", "exp_avg_sq")
                moments = {key: tensors[f"{key}.{name}"] for key in keys}
                # Its count of steps stays on the CPU, as AdamW itself keeps it.
                self._adamw.state[weight] = {
                    key: moment if key == "step" else moment.to(weight.device)
                    for key, moment in moments.items()
                }


def by_place(
    losses: Float[np.ndarray, "batch slot"], written: Written
) -> Float[np.ndarray, "answer"]:
    """Mean loss of the answer digit of each place, units first, over the answers that have it."""
    slots = np.maximum(written.at - written.prompt[:, None], 0)
    digits = np.take_along_axis(losses, slots, axis=1).astype(float)
    count = written.written.sum(0)
    total = (digits * written.written).sum(0)
    return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)


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


@torch.no_grad()
def digits_right(
    adder: GPT2LMHeadModel, style: AdditionFormat, sums: Sums
) -> Iterator[Bool[np.ndarray, "batch answer"]]:
    """For each batch, whether each answer digit is the likeliest token after the right prefix.

    Digits that are not written count as right; where answers differ in length, the digit written
    last is only right if the end then follows it. An answer whose digits are all right in this
    sense is also what the adder writes by itself.
    """
    for batch in sums.batches(IN_CACHE):
        tokens = torch.from_numpy(style.write(batch).tokens)
        yield marked(style, batch, adder(tokens, use_cache=False).logits.argmax(-1).numpy())


def marked(
    style: AdditionFormat, sums: Sums, said: Int[np.ndarray, "n pos"]
) -> Bool[np.ndarray, "n answer"]:
    """Which answer digits are right, given the token said at each pos of what was read."""
    written = style.write(sums)
    digits = np.take_along_axis(said, np.maximum(written.at - 1, 0), axis=1)
    right = (digits == style.digit_ids[sums.answer_digits]) | ~written.written
    if style.pad:
        return right
    last = written.at.max(axis=1, keepdims=True)
    ends = np.take_along_axis(said, last, axis=1) == style.vocabulary[MARK]
    return right & (ends | (written.at != last))


def acceptance_sums(style: AdditionFormat, training: Training) -> dict[str, Sums]:
    """The additions an exact adder must get right, by kind; seeds differ from training's.

    Where numbers are not padded, additions of every pattern and uniform ones are also cut to
    addends of any two lengths; the edge cases and repeated pairs hold short addends as they are.
    """
    places, seed = style.digits, training.seed + 10_000
    patterns = every_pattern(places, training.per_pattern, seed)
    uniform = Addition(places, training.uniform, seed).sums
    kinds = {
        "edge cases": edge_cases(places),
        "repeated pairs": repeated_pairs(places),
        "every pattern of columns": patterns,
        "every cell": Cells(places, training.per_cell, seed, padded=style.pad).sums,
        "uniform": uniform,
    }
    if not style.pad:
        kinds["every pattern, any lengths"] = of_any_lengths(patterns, seed)
        kinds["uniform"] = of_any_lengths(uniform, seed)
    return kinds


def of_any_lengths(sums: Sums, seed: int) -> Sums:
    """The same additions with each addend cut to 1 digit up to all, columns of nine kept."""
    rng = np.random.default_rng(seed)
    length = rng.integers(1, sums.places + 1, (2, len(sums)))
    return cut(sums, length, passes=sums.classes == PASS)


def accept(adder: GPT2LMHeadModel, style: AdditionFormat, training: Training) -> pd.DataFrame:
    """How many whole answers of each kind are wrong, with one of the wrong questions."""
    rows = []
    for kind, sums in acceptance_sums(style, training).items():
        right = np.concatenate([digits.all(1) for digits in digits_right(adder, style, sums)])
        example = sums[~right].texts[:1]
        rows.append((kind, len(sums), int((~right).sum()), "".join(example)))
        print(f"{kind}: {rows[-1][2]} of {len(sums)} answers wrong {rows[-1][3]}", flush=True)
    return pd.DataFrame(rows, columns=["kind", "n", "wrong", "example"])


def accuracy_by_cell(
    adder: GPT2LMHeadModel, style: AdditionFormat, training: Training
) -> pd.DataFrame:
    """Teacher-forced accuracy of the answer digit of every cell.

    Where numbers are not padded there is such a table for each length of the addends (`digits`).
    """
    seed = training.seed + 10_000
    if style.pad:
        return accuracy_in(adder, style, Cells(style.digits, training.per_cell, seed).sums)
    tables = []
    for digits in range(1, style.digits + 1):
        sums = Cells(digits, training.per_cell, seed, padded=False).sums
        tables.append(accuracy_in(adder, style, sums).assign(digits=digits))
    return pd.concat(tables, ignore_index=True)


def accuracy_in(adder: GPT2LMHeadModel, style: AdditionFormat, sums: CellSums) -> pd.DataFrame:
    """Teacher-forced accuracy of the digit that each addition was drawn for, by its cell."""
    right = np.concatenate(list(digits_right(adder, style, sums)))
    cell = pd.DataFrame(sums.cell, columns=["place", "run", "carry"])
    cell["right"] = right[np.arange(len(sums)), sums.place]
    grouped = cell.groupby(["place", "run", "carry"])["right"]
    return grouped.agg(n="size", correct="sum", accuracy="mean").reset_index()


def tokenizer_of(style: AdditionFormat) -> PreTrainedTokenizerFast:
    """A tokenizer that cuts a text into the vocabulary's signs and puts `<bos>` in front."""
    tokenizer = Tokenizer(WordLevel(style.vocabulary, unk_token=MARK))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = token_decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{MARK} $A", special_tokens=[(MARK, style.vocabulary[MARK])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=MARK, eos_token=MARK, pad_token=MARK
    )


def store(adder: GPT2LMHeadModel, style: AdditionFormat, folder: Path) -> None:
    """Write weights and tokenizer as plain transformers reads them."""
    transformers.utils.logging.disable_progress_bar()
    folder.mkdir(parents=True, exist_ok=True)
    adder.save_pretrained(folder)
    tokenizer_of(style).save_pretrained(folder)


def store_with_card(adder: GPT2LMHeadModel, style: AdditionFormat, folder: Path) -> None:
    """Write an adder and, beside it, the `card.toml` under which it can be loaded."""
    store(adder, style, folder)
    described = style.model_dump()
    vocabulary = described.pop("vocabulary")
    text = f"""source = "transformers"\npath = "."\n\n[arithmetic]\n{toml_lines(described)}
[arithmetic.vocabulary]\n{toml_lines(vocabulary)}"""
    (folder / "card.toml").write_text(text, encoding="utf-8")


def toml_lines(table: Mapping[str, object]) -> str:
    """A table of strings, numbers, truth values and lists of them as TOML writes it."""
    return "".join(f"{json.dumps(k)} = {json.dumps(v)}\n" for k, v in table.items())


def loaded(adder: GPT2LMHeadModel, style: AdditionFormat) -> Model:
    """The adder as it is now, checked as any model is; more training leaves it as it is.

    On the device the adder is on.
    """
    with TemporaryDirectory(prefix="carrylens-") as folder:
        store_with_card(adder, style, Path(folder))
        return load(str(Path(folder) / "card.toml"), device=str(adder.device))


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
