"""A small model of a text, word by word: a GPT-2 whose unembedding is apart from its embedding.

It reads `<bos>` and a passage that begins anywhere in the text, so that it also predicts what
follows a single word. Beside the weights stand `learning_curve.parquet` and `held_out.parquet`:
its loss in chapters that it never saw, and that of counts.
"""

import time
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from tokenizers.trainers import WordLevelTrainer
from torch.nn.functional import cross_entropy

from models.train.recipe import WordCard, WordTraining
from models.train.storing import begun, log_training, store
from models.train.sums import MARK
from models.train.trainer import (
    descend,
    learning_rate_at,
    new_gpt2,
    optimiser,
)

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

UNKNOWN = "<unk>"
"""Stands for every word beyond the vocabulary."""
PIECE = r" ?[\p{L}'-]+| ?[^\s\p{L}]"
"""A word or a mark, with the space in front of it."""
DISCOUNT = 0.75
"""Taken off the count of every pair that was seen, and given to those that were not."""
BEGINNING = 0
"""The id of `<bos>`."""
AT_ONCE = 50
"""Steps whose mean loss is a row of the learning curve; passages measured at once."""


def tokenizer_for(text: str, words: int) -> "PreTrainedTokenizerFast":
    """A tokenizer of the most frequent words and marks of a text; every space is one space."""
    tokenizer = Tokenizer(WordLevel(unk_token=UNKNOWN))
    spaces = normalizers.Replace(Regex(r"\s+"), " ")
    tokenizer.normalizer = normalizers.Sequence(
        [spaces, normalizers.Strip(), normalizers.Prepend(" ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECE), "isolated")
    marks = {"special_tokens": [MARK, UNKNOWN], "show_progress": False}
    tokenizer.train_from_iterator([text], WordLevelTrainer(vocab_size=words, **marks))
    return begun(tokenizer)


def ids_of(tokenizer: "PreTrainedTokenizerFast", text: str) -> Int[np.ndarray, "token"]:
    """The tokens of a text without `<bos>`."""
    return np.array(tokenizer(text, add_special_tokens=False)["input_ids"])


def train(
    ids: Int[np.ndarray, "token"], training: WordTraining
) -> tuple["GPT2LMHeadModel", pd.DataFrame]:
    """A model trained on passages of a text, and its mean loss in nats a token every 50 steps."""
    net = new_gpt2(training, training.words, training.context, BEGINNING, training.dropout).train()
    adamw, rng = optimiser(net, training), np.random.default_rng(training.seed)
    recent, curve = [], []
    for step in range(training.steps):
        starts = rng.integers(0, len(ids) - training.context + 1, (training.batch, 1))
        with torch.autocast("cpu", torch.bfloat16):
            loss = losses_of(net, ids[starts + np.arange(training.context)]).mean()
        rate = training.learning_rate * learning_rate_at(step, training)
        descend(net, adamw, loss, rate)
        recent.append(loss.item())
        if (step + 1) % AT_ONCE == 0 or step + 1 == training.steps:
            curve.append({"step": step + 1, "loss": float(np.mean(recent))})
            print(f"step {step + 1}/{training.steps}  loss {curve[-1]['loss']:.4f}", flush=True)
            recent = []
    return net.eval(), pd.DataFrame(curve)


def losses_of(
    net: "GPT2LMHeadModel", rows: Int[np.ndarray, "batch pos"]
) -> Float[torch.Tensor, "batch pos"]:
    """Cross-entropy in nats of every token of passages that are read after `<bos>`."""
    begun_with = np.concatenate([np.full((len(rows), 1), BEGINNING), rows[:, :-1]], axis=1)
    logits = net(torch.from_numpy(begun_with), use_cache=False).logits.float().flatten(0, 1)
    said = torch.from_numpy(rows).flatten()
    return cross_entropy(logits, said, reduction="none").unflatten(0, rows.shape)


def unigram_chances(ids: Int[np.ndarray, "token"], words: int) -> Float[np.ndarray, "word"]:
    """How often each word stands in a text."""
    return np.bincount(ids, minlength=words) / len(ids)


def bigram_chances(ids: Int[np.ndarray, "token"], words: int) -> Float[np.ndarray, "word word"]:
    """Chances of the next word by counts of pairs, smoothed (Kneser and Ney 1995, interpolated).

    What is taken off seen pairs goes to words by the number of different words they follow.
    """
    counts = np.bincount(ids[:-1] * words + ids[1:], minlength=words**2).reshape(words, words)
    seen = counts > 0
    follows, total = seen.sum(0) / seen.sum(), counts.sum(1, keepdims=True)
    given = seen.sum(1, keepdims=True) * DISCOUNT * follows
    chances = (np.maximum(counts - DISCOUNT, 0) + given) / np.maximum(total, 1)
    return np.where(total > 0, chances, follows)


@torch.no_grad()
def held_out_losses(
    net: "GPT2LMHeadModel",
    counted: Int[np.ndarray, "token"],
    held_out: Int[np.ndarray, "token"],
) -> pd.DataFrame:
    """Nats a token, of a model and of counts, for all but the first token of held-out passages."""
    length, words = net.config.n_positions, net.config.vocab_size
    rows = held_out[: len(held_out) // length * length].reshape(-1, length)
    before, after = rows[:, :-1], rows[:, 1:]
    parts = [rows[n : n + AT_ONCE] for n in range(0, len(rows), AT_ONCE)]
    losses = {
        "model": torch.cat([losses_of(net, part)[:, 1:] for part in parts]).numpy(),
        "bigram counts, smoothed": -np.log(bigram_chances(counted, words)[before, after]),
        "unigram counts": -np.log(unigram_chances(counted, words)[after]),
    }
    return pd.DataFrame(
        {"predictor": name, "loss": float(loss.mean(dtype=float)), "n": loss.size}
        for name, loss in losses.items()
    )


def make(card: WordCard, text: str, held_out: str) -> bool:
    """Train a model and store it in float16, with its losses; whether it beats counts of pairs."""
    from transformers import GPT2LMHeadModel  # heavy: only where a model is trained

    tokenizer, start = tokenizer_for(text, card.training.words), time.time()
    counted, kept = (ids_of(tokenizer, part) for part in (text, held_out))
    net, curve = train(counted, card.training)
    seconds = time.time() - start
    store(net.half(), tokenizer, card.path)
    stored = GPT2LMHeadModel.from_pretrained(card.path, dtype=torch.float32).eval()
    found = held_out_losses(stored, counted, kept)
    for name, table in {"learning_curve": curve, "held_out": found}.items():
        table.to_parquet(card.path / f"{name}.parquet", index=False)
    loss = found.set_index("predictor")["loss"]
    accepted = bool(loss["model"] < loss["bigram counts, smoothed"])
    digest = log_training(card, seconds, accepted)
    print(found.to_string(index=False), "accepted" if accepted else "refused: bigrams do better")
    print(f"trained in {seconds:.0f} s; sha256 of model.safetensors: {digest}")
    return accepted
