import numpy as np
import pytest
import torch

from lenses.digits.reading import Words, describe, is_operand, some_sites
from lenses.digits.texts import texts_of_prompts
from lenses.states.decoding import Decoder, Readout
from models.planted.places import planted_places
from prompts.place_values import OTHER_WORDS, PLACE_WORDS, place_prompts


@pytest.fixture(scope="module")
def planted():
    return planted_places()


@pytest.fixture(scope="module")
def words(planted):
    return Words.of(planted, PLACE_WORDS | {11: ("no such word",)})


def test_words_of_one_token_stand_for_their_place(words, planted) -> None:
    ids = planted.tokenizer.get_vocab()
    assert words.places == (0, 1, 2, 3, 4, 6, 8, 9)
    assert words.ids[0] == (ids[" unit"], ids[" one"])
    assert words.ids[4] == (ids["万"],)
    assert words.ids[6] == (ids["億"], ids["亿"])
    table = words.table.set_index("word")
    assert table.loc["million", ["place", "role"]].tolist() == [6, "place"]
    assert table.loc["no such word", ["place", "role"]].tolist() == [11, "skipped"]


def test_other_words_are_those_of_the_nearest_ids(planted) -> None:
    words = Words.of(planted, {0: ("one",), 1: ("ten",)})
    ids = planted.tokenizer.get_vocab()
    left = {w: ids[f" {w}" if w.isascii() else w] for w in OTHER_WORDS}
    expected = []
    for _ in range(4):
        for own in (ids[" one"], ids[" ten"]):
            nearest = min(left, key=lambda word: abs(left[word] - own))
            expected.append(nearest)
            del left[nearest]
    assert words.table.query("role == 'other'")["word"].tolist() == expected
    assert len(words.ids) == 10


def test_the_forms_of_a_word_add_up_as_probabilities(words, planted) -> None:
    states = torch.randn(2, 5, planted.cfg.d_model)
    decoder = Decoder(planted, torch.zeros(2, planted.cfg.d_model))
    vocabulary = torch.arange(planted.W_U.shape[1])
    p = decoder(states, Readout(), vocabulary).softmax(-1)
    found = torch.tensor(words.logits(decoder, states, Readout())).softmax(-1)
    expected = torch.stack([p[..., list(ids)].sum(-1) for ids in words.ids], dim=-1)
    expected = expected / expected.sum(-1, keepdim=True)
    assert torch.allclose(found, expected.transpose(0, 1), atol=1e-5)


def test_a_model_without_words_has_logits_of_none() -> None:
    assert Words.none().logits(None, torch.zeros(3, 4, 8), Readout()).shape == (4, 3, 0)
    assert Words.none().number(np.array([0, 5])).tolist() == [-1, -1]


def test_classes_by_number(words) -> None:
    assert words.number(np.array([0, 4, 5, 6, 9])).tolist() == [0, 4, -1, 5, 7]


def test_operands_are_given_first_numbers_of_known_length(planted) -> None:
    digits = texts_of_prompts(planted, place_prompts(2, seed=0)).digits
    chosen = digits[is_operand(digits)]
    assert set(chosen["part"]) == {"a"}
    assert set(chosen["sample"]) == {"announced"}
    assert set(chosen["kind"]) == {"addition", "copy", "words"}
    never = digits.assign(announced=False)
    assert is_operand(never).sum() == ((never["part"] == "a") & (never["twin"] < 0)).sum()


def test_sites_that_are_kept() -> None:
    assert some_sites(range(31), 4) == [8, 15, 22, 30]
    assert some_sites(range(3), 4) == [0, 1, 2]
    assert some_sites(range(2), 1) == [1]


def test_readouts_by_name() -> None:
    assert describe(Readout()) == {"decoder": "U", "norm": "final"}
    assert describe(Readout("E", "none", True)) == {"decoder": "E", "norm": "none, centred"}
