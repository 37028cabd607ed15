"""Model cards: what is read from them, and the one line that a wrong one gets."""

import subprocess
import sys
from pathlib import Path

import pytest

from models import ModelError, cards, find_card, load
from models.card import SHIPPED, Card
from models.fetch import sha256_of_files, weights_sha256
from models.text import tokenize

NATIVE = """
source = "native"
weights = "w.safetensors"
[config]
n_layers = 1
n_heads = 4
d_model = 128
d_head = 32
d_vocab = 12
n_ctx = 18
act_fn = "relu"
"""


@pytest.mark.parametrize("file", sorted(SHIPPED.glob("*.toml")), ids=lambda file: file.stem)
def test_shipped_card_is_read_by_its_name(file: Path):
    card = find_card(file.stem)
    assert card.name == file.stem
    assert card in cards()
    assert card.licence != "not stated"


def test_cards_are_listed_without_torch():
    code = "import sys, models; models.cards(); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=SHIPPED.parents[1], capture_output=True, text=True
    )
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("card", "said"),
    [
        (
            NATIVE.replace("n_heads", "n_head"),
            "config.n_head: no such field; did you mean n_heads? (and 1 more)",
        ),
        (NATIVE.replace("act_fn", "actfn"), "config.actfn: no such field; did you mean act_fn?"),
        (NATIVE.replace('"relu"', '"rellu"'), "config.act_fn: Input should be 'relu'"),
        (
            NATIVE.replace('act_fn = "relu"', ""),
            'config: act_fn: needed, for example act_fn = "relu"',
        ),
        (NATIVE.replace("weights", "weight"), "weight: no such field; did you mean weights?"),
        (NATIVE + "[arithmetics]\ndigits = 2", "did you mean arithmetic?"),
        (
            NATIVE + "[arithmetic]\ndigit = 2",
            "arithmetic.digit: no such field; did you mean digits?",
        ),
        (NATIVE.replace("native", "natives"), "source: Input should be 'native'"),
        (NATIVE.replace("native", "gguf"), 'source "gguf" needs path'),
        (NATIVE + "n_key_value_heads = 3", "n_key_value_heads: must divide n_heads"),
        ('source = "transformers"', 'source "transformers" needs either path or hub'),
        ('source = "transformers"\npath = "."\nrevision = "a"', "has no revision"),
        ('source = "wheel"\nwheels = ["a>1"]\nfiles = ["b"]', "'a>1' is not package==version"),
        ('source = "wheel"\nwheels = ["a==1"]\nfiles = ["b"]', 'source "wheel" needs sha256'),
        ('source = "gguf"\npath = "a"\nname = "b"', "name: no such field"),
        ("source = ", "no readable model card (Invalid value"),
    ],
)
def test_wrong_card_is_refused_in_a_line_that_names_file_and_field(tmp_path, card, said):
    file = tmp_path / "mine.toml"
    file.write_text(card)
    with pytest.raises(ModelError) as refusal:
        find_card(str(file))
    assert str(refusal.value).startswith(f"{file}: ")
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_native_card_means_no_norm_and_four_times_the_width(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(NATIVE)
    config = find_card(str(file)).config
    assert (config.normalization_type, config.d_mlp, config.d_vocab_out) == (None, None, None)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("smolm2", "no model 'smolm2': did you mean smollm2?"),
        ("adder_6d", "did you mean adder_6d_"),
        ("zzz", "no model 'zzz': give the name of a card"),
        ("nowhere/at/all", "no model 'nowhere/at/all'"),
        ("nowhere.toml", "no model card at nowhere.toml"),
    ],
)
def test_unknown_name_is_refused_with_what_was_meant(name, said):
    with pytest.raises(ModelError) as refusal:
        find_card(name)
    assert said in str(refusal.value)


def test_names_that_are_no_cards(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "some.gguf").write_text("")
    assert find_card(str(tmp_path / "model")).source == "transformers"
    assert find_card(str(tmp_path / "some.gguf")).source == "gguf"
    assert find_card("EleutherAI/pythia-70m").hub == "EleutherAI/pythia-70m"


def test_paths_start_from_the_card(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('source = "gguf"\npath = "../there/m.gguf"')
    card = find_card(str(file))
    assert card.at(card.path) == tmp_path.parent / "there" / "m.gguf"


def test_sha256_follows_the_bytes_of_the_weights(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"abc")
    card = Card.of("mine", tmp_path, {"source": "gguf", "path": "m.gguf"})
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert weights_sha256(card) == known
    (tmp_path / "m.gguf").write_bytes(b"abcd")
    assert weights_sha256(card) != known
    assert sha256_of_files([tmp_path / "m.gguf"] * 2) != weights_sha256(card)


ADDS = """
source = "native"
weights = "w.safetensors"
[config]
n_layers = 1
n_heads = 1
d_model = 4
d_head = 4
d_vocab = 12
d_vocab_out = {out}
n_ctx = 18
act_fn = "relu"
[arithmetic]
digits = {digits}
[arithmetic.vocabulary]
{vocabulary}
"""


@pytest.mark.parametrize(
    ("digits", "equals", "out", "fault"),
    [
        (6, 11, 10, "21 tokens, but n_ctx is 18"),
        (5, 12, 10, "id 12, but d_vocab is 12"),
        (5, 11, 9, "digit id 9 is beyond d_vocab_out"),
    ],
)
def test_additions_that_the_shape_has_no_room_for_are_refused(tmp_path, digits, equals, out, fault):
    ids = {**{str(d): d for d in range(10)}, "+": 10, "=": equals}
    vocabulary = "\n".join(f'"{sign}" = {number}' for sign, number in ids.items())
    card = tmp_path / "card.toml"
    card.write_text(ADDS.format(digits=digits, out=out, vocabulary=vocabulary))
    with pytest.raises(ModelError, match=fault):
        Card.read(card)


def test_an_adder_refuses_what_it_cannot_read():
    adder = load("adder_6d_1l")
    with pytest.raises(ModelError, match=r"adder_6d_1l cannot read 'x' in '12x4'; it reads 0 1"):
        tokenize(adder, "12x4")
    assert len(tokenize(adder, "000012+000004=")) == 15
