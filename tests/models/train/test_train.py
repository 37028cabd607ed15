"""An adder trained from a card, checked on every question it can be asked."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from models import load
from models.train.__main__ import main, train
from models.train.acceptance import accuracy_by_cell, of_any_lengths
from models.train.recipe import AdderCard, Training
from models.train.storing import loaded
from models.train.sums import cut, marked, targets, training_sums
from models.train.trainer import Trainer, by_place, initialise, new_adder
from prompts.additions import PASS, Addition, AdditionFormat, Sums, every_pattern
from tests.accelerator import NAME, Pretended

SHORT = Training(layers=1, heads=2, width=16, steps=9, learning_rate=1e-3, batch=32, exact=False)

SHIPPED = Path(__file__).parents[3] / "configs" / "models"
WEIGHTS = Path(__file__).parents[3] / "models" / "weights"
TRAINED = sorted(table.parent.name for table in WEIGHTS.glob("*/acceptance.parquet"))

CARD = """
source = "transformers"
path = "weights"
licence = "MIT"
[arithmetic]
digits = 2
layout = ["<bos>", "a", "+", "b", "=", "c"]
vocabulary = {0=0, 1=1, 2=2, 3=3, 4=4, 5=5, 6=6, 7=7, 8=8, 9=9, "+"=10, "="=11, "<bos>"=12}
[training]
layers = 2
heads = 4
width = 64
steps = 500
warm_up = 50
learning_rate = 3e-3
exact = true
uniform = 10000
per_cell = 200
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a two-digit adder, trained here."""
    threads, folder = torch.get_num_threads(), tmp_path_factory.mktemp("adder")
    (folder / "card.toml").write_text(CARD)
    try:
        assert main([str(folder / "card.toml")]) == 0
    finally:
        torch.set_num_threads(threads)
    return folder / "weights"


@torch.no_grad()
def test_a_trained_adder_writes_every_two_digit_sum(trained: Path) -> None:
    adder, tokenizer = (
        kind.from_pretrained(trained) for kind in (AutoModelForCausalLM, AutoTokenizer)
    )
    a, b = np.divmod(np.arange(10_000), 100)
    questions = [f"{x:02}+{y:02}=" for x, y in zip(a, b, strict=True)]
    tokens = tokenizer(questions, return_tensors="pt").input_ids
    written = adder.generate(tokens, max_new_tokens=3, do_sample=False)[:, tokens.shape[1] :]
    assert tokenizer.batch_decode(written) == [f"{x + y:03}" for x, y in zip(a, b, strict=True)]


@torch.no_grad()
def test_a_trained_adder_ends_its_answer(trained: Path) -> None:
    adder, tokenizer = (
        kind.from_pretrained(trained) for kind in (AutoModelForCausalLM, AutoTokenizer)
    )
    tokens = tokenizer("17+25=042", return_tensors="pt").input_ids
    assert tokens[0].tolist() == [12, 1, 7, 10, 2, 5, 11, 0, 4, 2]
    assert adder(tokens).logits[0, -1].argmax() == tokenizer.eos_token_id


def test_what_training_leaves_beside_the_weights(trained: Path) -> None:
    curve = pd.read_parquet(trained / "learning_curve.parquet")
    assert curve["step"].max() == 500
    assert set(curve["place"]) == {0, 1, 2}
    by_step = curve.groupby("step")["loss"].mean()
    assert by_step.iloc[-1] < 0.02 < by_step.iloc[0]
    cells = pd.read_parquet(trained / "accuracy.parquet")
    assert len(cells) == 9
    assert (cells["n"] == 200).all()
    assert (cells["accuracy"] == 1).all()
    acceptance = pd.read_parquet(trained / "acceptance.parquet").set_index("kind")
    assert acceptance.loc["uniform", "n"] == 10_000
    assert (acceptance["wrong"] == 0).all()


def test_an_untrained_adder_is_not_accepted_as_exact(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "card.toml").write_text(CARD.replace("steps = 500", "steps = 1"))
    assert main([str(tmp_path / "card.toml")]) == 1
    assert "refused" in capsys.readouterr().out


def test_help_is_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 2
    assert capsys.readouterr().err == "usage: python -m models.train CARD\n"


def test_a_card_that_is_no_adders_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "card.toml").write_text('source = "transformers"\npath = "weights"\n')
    assert main([str(tmp_path / "card.toml")]) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    assert "arithmetic" in complaint


def test_the_same_seed_trains_the_same_weights(tmp_path: Path) -> None:
    (tmp_path / "card.toml").write_text(CARD)
    card = AdderCard.read(tmp_path / "card.toml")
    short = card.training.model_copy(update={"steps": 3, "batch": 64})
    other = short.model_copy(update={"seed": 1})
    first, again, different = (
        train(card.arithmetic, training, tmp_path)[0].lm_head.weight
        for training in (short, short, other)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, different)


def test_steps_to_keep_are_stored_as_they_were_with_cards_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "card.toml").write_text(CARD)
    card = AdderCard.read(tmp_path / "card.toml")
    short = card.training.model_copy(update={"steps": 3, "batch": 64, "keep_at": (0, 2)})
    train(card.arithmetic, short, tmp_path)
    assert [folder.name for folder in sorted((tmp_path / "steps").iterdir())] == [
        "000000",
        "000002",
    ]
    trainer = Trainer(card.arithmetic, short)
    for step in range(3):
        if step in short.keep_at:
            kept = load(str(tmp_path / "steps" / f"{step:06d}" / "card.toml"))
            assert kept.card.arithmetic == card.arithmetic
            assert torch.equal(kept.W_E, trainer.adder.transformer.wte.weight)
        trainer.advance()


def test_a_loaded_adder_stays_as_it_is_while_training_goes_on() -> None:
    style = style_of("adder_6d_2l", digits=2)
    recipe = Training(layers=1, heads=2, width=16, steps=9, learning_rate=1e-3, exact=False)
    trainer = Trainer(style, recipe)
    model = loaded(trainer.adder, style)
    before = trainer.adder.transformer.wte.weight.detach().clone()
    trainer.advance()
    assert torch.equal(model.W_E, before)
    assert not torch.equal(model.W_E, trainer.adder.transformer.wte.weight)
    assert model.card.arithmetic == style
    assert all(identity.ok for identity in model.identities)


def test_fresh_weights_have_the_spread_of_the_recipe() -> None:
    card = AdderCard.read(SHIPPED / "adder_6d_2l.toml")
    adder = new_adder(card.arithmetic, card.training)
    initialise(adder)
    block = adder.transformer.h[1]
    assert block.mlp.c_fc.weight.std().item() == pytest.approx(0.8 / 128**0.5, rel=0.02)
    assert block.mlp.c_proj.weight.std().item() == pytest.approx(0.8 / 128**0.5 / 2, rel=0.02)


def style_of(name: str, **changes: object) -> AdditionFormat:
    """The format of a shipped card, with changes."""
    style = AdderCard.read(SHIPPED / f"{name}.toml").arithmetic
    return style.model_copy(update=changes)


def test_a_training_batch_has_the_mix_of_the_recipe() -> None:
    style = style_of("adder_6d_2l")
    sums = training_sums(np.random.default_rng(0), style, count=10_000)
    nines = (sums.classes == PASS).mean(1)
    assert nines[:4000].mean() == pytest.approx(0.625 + 0.375 * 0.1, abs=0.01)
    assert nines[4000:9000].mean() == pytest.approx(0.1, abs=0.01)
    assert (sums.a[9000:] < 10**5).mean() == pytest.approx(5 / 6 + 1 / 60, abs=0.03)


def test_a_batch_of_any_widths_has_addends_of_every_pair_of_lengths() -> None:
    style = style_of("adder_6d_2l", pad=False)
    sums = training_sums(np.random.default_rng(0), style, count=20_000)
    short = [np.maximum(1, np.char.str_len(addend.astype(str))) for addend in (sums.a, sums.b)]
    assert np.corrcoef(short)[0, 1] == pytest.approx(0, abs=0.02)
    for length in range(1, 7):
        # As many digits were kept, or more, of which the first are zeros.
        share = sum(0.9 * 0.1 ** (kept - length) / 6 for kept in range(length, 7))
        # The nines of lone columns, and the 0 that has one digit, move a little.
        assert (short[0] == length).mean() == pytest.approx(share, abs=0.03)


def test_a_cut_column_still_passes_a_carry_on() -> None:
    sums = Sums(np.array([1236, 1236]), np.array([5764, 5764]), 4)  # columns 10, 9, 9, 6
    length = np.array([[4, 4], [1, 2]])
    passes = np.array([[False, True, True, False]] * 2)
    one, two = (cut(sums, length, passes)[np.array([row])] for row in (0, 1))
    assert one.texts == ["1996+4="]  # both columns have lost a digit of b and get a nine
    assert two.texts == ["1936+64="]  # the tens still have both digits
    assert cut(sums, length, passes & False).texts == ["1236+4=", "1236+64="]


def test_patterns_of_any_lengths_keep_their_runs_of_nines() -> None:
    sums = of_any_lengths(every_pattern(4, 50, seed=0), seed=1)
    assert len(sums) == 81 * 50
    short = np.minimum(sums.a, sums.b) < 100
    assert (sums.run[short, 4] == 4).sum() + (sums.run[short, 4] == 3).sum() > 20
    assert (sums.a[sums.b < 10] >= 1000).any()


def test_what_is_asked_of_answers_of_different_lengths() -> None:
    style = style_of("adder_6d_2l", digits=2, pad=False)
    written = style.write(Sums(np.array([5, 95, 10]), np.array([2, 7, 1]), 2))
    # <bos>5+2=7, <bos>95+7=102, <bos>10+1=11
    reads, said, asked = targets(style, written)
    assert reads[0, :2].tolist() == [4, 5]
    assert said[0, :2].tolist() == [7, 12]
    assert reads[1].tolist() == [5, 6, 7, 8]
    assert said[1].tolist() == [1, 0, 2, 12]
    assert said[2, :3].tolist() == [1, 1, 12]
    assert asked.tolist() == [
        [True, True, False, False],
        [True, True, True, True],
        [True, True, True, False],
    ]


@pytest.mark.parametrize("answer", ["msb", "lsb"])
@pytest.mark.parametrize("pad", [True, False])
def test_targets_are_the_answers_tokens_whatever_the_format(answer: str, pad: bool) -> None:
    style = style_of("adder_6d_2l", digits=3, answer=answer, pad=pad, layout=(*"a+b=c", "<bos>"))
    sums = Addition(3, 200, seed=0).sums
    reads, said, asked = targets(style, style.write(sums))
    for row, total in enumerate(sums.answer):
        text = f"{total:04}" if pad else str(total)
        digits = [int(digit) for digit in (text if answer == "msb" else text[::-1])]
        assert said[row, asked[row]].tolist() == [*digits, 12, 12]
        width = len("000+000=") if pad else len(sums.texts[row])
        assert reads[row, 0] == width - 1


def test_losses_are_told_apart_by_place_where_widths_differ() -> None:
    style = style_of("adder_6d_2l", digits=2, pad=False)
    written = style.write(Sums(np.array([5, 95]), np.array([2, 7]), 2))  # 7 and 102
    losses = np.array([[1.0, 9, 9, 9], [8.0, 4, 3, 9]])
    assert by_place(losses, written).tolist() == [2.0, 4.0, 8.0]
    alone = style.write(Sums(np.array([5]), np.array([2]), 2))
    assert np.isnan(by_place(losses[:1], alone)[1:]).all()


def test_an_answer_that_does_not_end_is_wrong_where_widths_differ() -> None:
    style = style_of("adder_6d_2l", digits=1, pad=False)
    sums = Sums(np.array([1, 9, 9]), np.array([1, 9, 9]), 1)  # <bos>1+1=2, <bos>9+9=18
    written = style.write(sums)
    said = np.roll(written.tokens, -1, axis=1)
    said[0, 5], said[1:, 6] = 12, 12
    assert marked(style, sums, said).all()
    said[0, 5] = 0  # goes on: 20
    said[1, 4] = 2  # 28
    said[2, 6] = 3  # goes on: 183
    assert marked(style, sums, said).tolist() == [[False, True], [True, False], [False, True]]


def test_cells_are_told_apart_by_the_length_of_the_addends_where_widths_differ() -> None:
    recipe = Training(
        layers=1, heads=2, width=16, steps=1, learning_rate=1e-3, exact=False, per_cell=7
    )
    style = style_of("adder_6d_2l", digits=2, pad=False)
    table = accuracy_by_cell(new_adder(style, recipe), style, recipe)
    assert (table["n"] == 7).all()
    # Both carries at the leading place are impossible: it is only written where it is 1.
    assert table.groupby("digits").size().to_dict() == {1: 2, 2: 6}


def test_training_goes_on_exactly_from_a_stored_state() -> None:
    style = style_of("adder_6d_2l", digits=2)
    straight = Trainer(style, SHORT)
    for _ in range(4):
        straight.advance()
    stopped = straight.state()
    resumed = Trainer(style, SHORT.model_copy(update={"seed": 5}))
    resumed.advance()
    resumed.restore(stopped)
    for _ in range(5):
        assert np.array_equal(straight.advance(), resumed.advance())
    for name, weight in straight.state().items():
        assert np.array_equal(weight, resumed.state()[name]), name


def test_a_trainer_goes_back_to_before_its_first_step() -> None:
    trainer = Trainer(style_of("adder_6d_2l", digits=2), SHORT)
    fresh = trainer.state()
    first = trainer.advance()
    trainer.restore(fresh)
    assert np.array_equal(trainer.advance(), first)


def test_training_is_the_same_on_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_: nullcontext())
    style = style_of("adder_6d_2l", digits=2)
    here = Trainer(style, SHORT)
    with Pretended():
        there = Trainer(style, SHORT, NAME)
        for _ in range(3):
            np.testing.assert_allclose(there.advance(), here.advance(), rtol=1e-5)
        resumed = Trainer(style, SHORT, NAME)
        resumed.restore(there.state())
        assert np.array_equal(resumed.advance(), there.advance())


@pytest.mark.parametrize("name", TRAINED)
def test_shipped_adders_are_small_and_what_their_cards_say(name: str) -> None:
    card = AdderCard.read(SHIPPED / f"{name}.toml")
    assert sum(file.stat().st_size for file in card.path.iterdir()) < 2_000_000
    adder = AutoModelForCausalLM.from_pretrained(card.path)
    assert adder.config.n_layer == card.training.layers
    assert adder.dtype == torch.float32
    acceptance = pd.read_parquet(card.path / "acceptance.parquet").set_index("kind")
    assert acceptance.loc["uniform", "n"] == card.training.uniform >= 200_000
    assert isinstance(card.arithmetic, AdditionFormat)
    assert isinstance(card.training, Training)
    if card.training.exact:
        assert (acceptance["wrong"] == 0).all()
