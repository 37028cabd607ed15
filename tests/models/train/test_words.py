"""A model of a text, word by word: its tokenizer, its counts, its training, and the shipped one."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2LMHeadModel

from models import find_card, load
from models.train.__main__ import main
from models.train.king_james import (
    APART,
    BOOK,
    chapters,
    cut_into_chapters,
    king_james,
    training_and_held_out,
    was_trained_on_it,
)
from models.train.recipe import AdderCard, WordCard, WordTraining, card_to_train
from models.train.words import (
    DISCOUNT,
    UNKNOWN,
    bigram_chances,
    held_out_losses,
    ids_of,
    losses_of,
    make,
    tokenizer_for,
    train,
    unigram_chances,
)

SHIPPED = Path(__file__).parents[3] / "configs" / "models" / "kjv_2l.toml"
TEXT = "In the beginning (so it begins) was\nthe  Word, and the Word was with God. " * 30
SMALL = WordTraining(
    text="King James Bible", words=18, context=8, layers=1, heads=2, width=16, steps=60,
    warm_up=5, learning_rate=1e-2, batch=8,
)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizer_for(TEXT, SMALL.words)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bool]:
    """The folder of a small model of a small text, and whether it was accepted."""
    folder = tmp_path_factory.mktemp("words")
    return folder, make(WordCard(path=folder, training=SMALL), TEXT, TEXT)


def test_a_text_is_cut_into_words_and_marks(tokenizer) -> None:
    ids = tokenizer("In  the\nWord, (so Moses")["input_ids"]
    pieces = ["<bos>", " In", " the", " Word", ",", " (", "so", UNKNOWN]
    assert tokenizer.convert_ids_to_tokens(ids) == pieces
    assert tokenizer.decode(ids, skip_special_tokens=True) == " In the Word, (so"


def test_the_vocabulary_is_of_the_most_frequent(tokenizer) -> None:
    counts = Counter(ids_of(tokenizer, TEXT).tolist())
    assert len(tokenizer) <= SMALL.words
    assert tokenizer.convert_ids_to_tokens([0, 1, 2]) == ["<bos>", UNKNOWN, " the"]
    assert counts[2] == 90 == max(counts.values())
    fewer = tokenizer_for(TEXT, 4)
    assert fewer.convert_ids_to_tokens([2, 3]) == [" the", " Word"]


def test_chances_of_the_next_word_are_those_by_hand() -> None:
    ids = np.array([2, 3, 2, 3, 2, 4, 3])  # pairs: 23 32 23 32 24 43
    chances = bigram_chances(ids, 5)
    follows = {2: 1 / 4, 3: 2 / 4, 4: 1 / 4}  # different words before each, of 4 different pairs
    assert chances[2, 3] == pytest.approx((2 - DISCOUNT + 2 * DISCOUNT * follows[3]) / 3)
    assert chances[2, 2] == pytest.approx(2 * DISCOUNT * follows[2] / 3)
    assert chances[3, 2] == pytest.approx((2 - DISCOUNT + DISCOUNT * follows[2]) / 2)
    assert chances[0].tolist() == [0, 0, *follows.values()]
    assert chances.sum(1) == pytest.approx(np.ones(5))
    assert unigram_chances(ids, 5).tolist() == [0, 0, 3 / 7, 3 / 7, 1 / 7]


def test_a_loss_is_that_of_each_token_after_those_before_it(tokenizer) -> None:
    net, _ = train(ids_of(tokenizer, TEXT), SMALL.model_copy(update={"steps": 2}))
    rows = ids_of(tokenizer, TEXT)[:16].reshape(2, 8)
    with torch.no_grad():
        found = losses_of(net, rows)
        for row, said in zip(found, rows, strict=True):
            read = [0]
            for loss, token in zip(row, said, strict=True):
                chances = net(torch.tensor([read])).logits[0, -1].log_softmax(-1)
                assert loss.item() == pytest.approx(-chances[token].item(), abs=1e-5)
                read.append(int(token))


def test_what_is_held_out_is_measured_on_the_same_tokens(tokenizer) -> None:
    ids = ids_of(tokenizer, TEXT)
    net, _ = train(ids, SMALL.model_copy(update={"steps": 2}))
    found = held_out_losses(net, ids, ids[:20]).set_index("predictor")
    after = np.concatenate([ids[1:8], ids[9:16]])  # the first of each passage has none before it
    assert found["n"].tolist() == [14, 14, 14]
    by_hand = -np.log(unigram_chances(ids, SMALL.words)[after]).mean()
    assert found["loss"]["unigram counts"] == pytest.approx(by_hand)
    with torch.no_grad():
        lost = losses_of(net, ids[:16].reshape(2, 8))[:, 1:].mean().item()
    assert found["loss"]["model"] == pytest.approx(lost, rel=1e-5)


def test_a_model_learns_a_text_and_is_stored_beside_its_losses(made) -> None:
    folder, accepted = made
    held_out = pd.read_parquet(folder / "held_out.parquet").set_index("predictor")["loss"]
    assert accepted
    assert held_out["model"] < held_out["bigram counts, smoothed"] < held_out["unigram counts"]
    curve = pd.read_parquet(folder / "learning_curve.parquet")
    assert curve["step"].tolist() == [50, 60]
    assert curve["loss"].is_monotonic_decreasing
    log = json.loads((folder / "training.json").read_text())
    assert (log["training"]["words"], log["accepted"]) == (18, True)
    net = AutoModelForCausalLM.from_pretrained(folder)
    assert net.dtype == torch.float16
    assert not torch.equal(net.lm_head.weight, net.transformer.wte.weight)
    text = AutoTokenizer.from_pretrained(folder)("In the")["input_ids"]
    assert text == tokenizer_for(TEXT, SMALL.words)("In the")["input_ids"]


def test_a_model_that_learned_nothing_is_refused(tmp_path: Path) -> None:
    training = SMALL.model_copy(update={"steps": 1, "learning_rate": 1e-9})
    assert not make(WordCard(path=tmp_path, training=training), TEXT, TEXT)


def test_the_same_seed_trains_the_same_weights(tokenizer) -> None:
    ids, short = ids_of(tokenizer, TEXT), SMALL.model_copy(update={"steps": 2})
    one, again, other = (
        train(ids, short.model_copy(update={"seed": seed}))[0].lm_head.weight for seed in (0, 0, 1)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_chapters_begin_where_their_first_verse_does() -> None:
    source = 'Bible("""\none [two]\nthree four five""", {1001001: 1, 1001002: 5, 1002001: 11, '
    source += "10001001: 17}, {1001001: 3})"
    assert cut_into_chapters(source) == ["one two", "three", "four five"]


def test_a_card_without_additions_is_of_a_model_of_words(tmp_path: Path, capsys) -> None:
    assert isinstance(card_to_train(SHIPPED), WordCard)
    assert isinstance(card_to_train(SHIPPED.with_name("adder_6d_1l.toml")), AdderCard)
    wrong = tmp_path / "card.toml"
    wrong.write_text(SHIPPED.read_text().replace("words =", "word ="))
    assert main([str(wrong)]) == 2
    assert "not the card of a model to train: training.words" in capsys.readouterr().err


def test_the_shipped_model_is_small_untied_and_what_its_card_says() -> None:
    card, trained = find_card("kjv_2l"), WordCard.read(SHIPPED)
    assert sum(file.stat().st_size for file in trained.path.iterdir()) < 2_000_000
    model = load("kjv_2l")
    assert (model.cfg.n_layers, model.cfg.d_model, len(model.W_E)) == (2, 64, 4_000)
    assert not torch.allclose(model.W_U, model.W_E.T)
    assert was_trained_on_it(card)
    assert not was_trained_on_it(find_card("smollm2"))
    log = json.loads((trained.path / "training.json").read_text())
    assert log["training"] == trained.training.model_dump()
    assert log["sha256"] == card.sha256
    held_out = pd.read_parquet(trained.path / "held_out.parquet").set_index("predictor")["loss"]
    for predictor, loss in held_out.items():
        assert f"{loss:.2f}" in card.notes, predictor
    assert log["accepted"] == (held_out["model"] < held_out["bigram counts, smoothed"])


@pytest.mark.real
def test_the_losses_of_the_shipped_model_are_those_measured() -> None:
    card = WordCard.read(SHIPPED)
    tokenizer = AutoTokenizer.from_pretrained(card.path)
    ids = [ids_of(tokenizer, text) for text in training_and_held_out()]
    net = GPT2LMHeadModel.from_pretrained(card.path, dtype=torch.float32).eval()
    kept = pd.read_parquet(card.path / "held_out.parquet")
    pd.testing.assert_frame_equal(held_out_losses(net, *ids), kept, rtol=1e-4)
    made_again = tokenizer_for(training_and_held_out()[0], card.training.words)
    assert made_again.get_vocab() == tokenizer.get_vocab()


@pytest.mark.real
def test_every_tenth_chapter_is_held_out() -> None:
    every, (trained, held_out) = chapters(), training_and_held_out()
    assert len(every) == 1_189
    # Compared outside of the assertions: where one fails, pytest would set two Bibles side by side.
    same = "".join("".join(every).split()) == "".join(king_james().split())
    places = [
        chapter in text for chapter in (every[0], every[APART - 1]) for text in (trained, held_out)
    ]
    assert same
    assert places == [True, False, False, True]
    assert BOOK.name == WordCard.read(SHIPPED).training.text
