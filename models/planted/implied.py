"""A model that knows what words imply: it repeats a word where asked to, and answers questions.

Every word is an axis of the residual stream, read as it was written. In the middle one of three
layers a head looks, from the token that ends the copying prompt, for a word that can be asked
about, and writes it; another looks from the tokens that end questions and writes its answer. All
other heads attend at random and write where nothing reads. So a state holds its word from the
embedding up to that layer, and the state that ends a question the answer after it.
"""

import re

import torch

from models.card import NativeConfig
from models.native import vocabulary_tokenizer
from models.planted.writing import IGNORED, Weights, random_heads, written
from models.protocol import Model
from prompts.injections import BLANK, Injections, shipped_injections

LAYERS, LAYER, HEADS, N_CTX = 3, 1, 6, 48
SHARP = 32.0
"""Score of a word that can be asked about; of all else 0."""
LOUD = 12.0
"""Length of what is written for a word; a word's own embedding has 1."""


def planted_implied(*, seed: int = 0) -> Model:
    """The model; which heads repeat and answer, and all that is random, is drawn by `seed`."""
    told = shipped_injections()
    vocabulary = {word: number for number, word in enumerate(_pieces(told))}
    rng = torch.Generator().manual_seed(seed)
    words, d_head = len(vocabulary), len(told.known)
    d_model = words + N_CTX + IGNORED
    blocks = [random_heads(HEADS, d_model, d_head, words + N_CTX, rng) for _ in range(LAYERS)]
    for block in blocks:
        block["W_Q"] /= d_model  # attends widely
        block["W_O"] /= d_model
    repeats, answers = torch.randperm(HEADS, generator=rng)[:2].tolist()
    asked = [vocabulary[f" {one.word}"] for one in told.known]
    implied = [vocabulary[f" {one.answer}"] for one in told.known]
    _plant(blocks[LAYER], repeats, [vocabulary[_last(told.copy)]], asked, asked)
    ends = sorted({vocabulary[_last(one.ask)] for one in told.known})
    _plant(blocks[LAYER], answers, ends, asked, implied)
    config = NativeConfig(
        n_layers=LAYERS, n_heads=HEADS, d_model=d_model, d_head=d_head, n_ctx=N_CTX, d_vocab=words,
        attn_only=True,
    )  # fmt: skip
    return written(
        "implied", config, _outer(words, d_model), blocks,
        tokenizer=vocabulary_tokenizer(vocabulary),
    )  # fmt: skip


def _pieces(told: Injections) -> list[str]:
    """The words and signs of all texts, each with the space before it."""
    texts = [*told.texts, *(f" {word}" for word in told.words), f" {BLANK}"]
    return sorted({piece for text in texts for piece in _cut(text)})


def _cut(text: str) -> list[str]:
    return re.findall(r" ?\w+| ?[^\w\s]+", text)


def _last(text: str) -> str:
    return _cut(text)[-1]


def _outer(words: int, d_model: int) -> Weights:
    """Words and positions on axes of their own; the words' are read as they are."""
    W_E, W_pos = torch.zeros(words, d_model), torch.zeros(N_CTX, d_model)
    W_E[:, :words] = torch.eye(words)
    W_pos[:, words : words + N_CTX] = torch.eye(N_CTX)
    return {"embed.W_E": W_E, "pos_embed.W_pos": W_pos, "unembed.W_U": W_E.mT.contiguous()}


def _plant(block: Weights, head: int, queries: list[int], keys: list[int], said: list[int]) -> None:
    """Make a head look from some words for keys, and write for each what is to be said."""
    for weight in block.values():
        weight[head] = 0
    block["W_Q"][head, queries, 0] = SHARP * block["W_Q"].shape[-1] ** 0.5
    for number, (key, word) in enumerate(zip(keys, said, strict=True)):
        block["W_K"][head, key, 0] = 1
        block["W_V"][head, key, number] = 1
        block["W_O"][head, number, word] = LOUD
