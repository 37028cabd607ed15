"""An adder trained from a card, checked on every question it can be asked."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from models.train import AdderCard, Training, initialise, main, new_adder, train, training_sums
from prompts.additions import PASS, AdditionFormat

SHIPPED = Path(__file__).parents[2] / "configs" / "models"

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
        train(card.arithmetic, training)[0].lm_head.weight for training in (short, short, other)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, different)


def test_fresh_weights_have_the_spread_of_the_recipe() -> None:
    card = AdderCard.read(SHIPPED / "adder_6d_2l.toml")
    adder = new_adder(card.arithmetic, card.training)
    initialise(adder)
    block = adder.transformer.h[1]
    assert block.mlp.c_fc.weight.std().item() == pytest.approx(0.8 / 128**0.5, rel=0.02)
    assert block.mlp.c_proj.weight.std().item() == pytest.approx(0.8 / 128**0.5 / 2, rel=0.02)


def test_a_training_batch_has_the_mix_of_the_recipe() -> None:
    sums = training_sums(np.random.default_rng(0), places=6, count=10_000)
    nines = (sums.classes == PASS).mean(1)
    assert nines[:4000].mean() == pytest.approx(0.625 + 0.375 * 0.1, abs=0.01)
    assert nines[4000:9000].mean() == pytest.approx(0.1, abs=0.01)
    assert (sums.a[9000:] < 10**5).mean() == pytest.approx(5 / 6 + 1 / 60, abs=0.03)


@pytest.mark.parametrize("name", ["adder_6d_2l", "adder_6d_1l"])
def test_shipped_adders_are_small_and_what_their_cards_say(name: str) -> None:
    card = AdderCard.read(SHIPPED / f"{name}.toml")
    assert sum(file.stat().st_size for file in card.path.iterdir()) < 2_000_000
    adder = AutoModelForCausalLM.from_pretrained(card.path)
    assert adder.config.n_layer == card.training.layers
    assert adder.dtype == torch.float32
    acceptance = pd.read_parquet(card.path / "acceptance.parquet").set_index("kind")
    assert acceptance.loc["uniform", "n"] == 1_000_000
    assert isinstance(card.arithmetic, AdditionFormat)
    assert isinstance(card.training, Training)
    if card.training.exact:
        assert (acceptance["wrong"] == 0).all()
