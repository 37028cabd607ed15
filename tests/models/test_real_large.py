"""The largest model that comes from a package index: one that adds, 491 MB."""

import gguf
import pytest

from lenses.addition.forms import best_form, forms_of, right_in, style_of
from lenses.states.decoding import is_tied
from models import find_card, load
from models.fetch import weights_files, weights_sha256
from models.text import tokenize
from prompts.additions import Addition

pytestmark = [pytest.mark.real, pytest.mark.large]


@pytest.fixture(scope="module")
def coder():
    return load("qwen2.5_coder_0.5b")


def test_it_is_what_its_card_says(coder):
    assert [identity.ok for identity in coder.identities] == [True] * 13
    assert weights_sha256(coder.card) == coder.card.sha256
    assert (coder.cfg.n_layers, coder.cfg.n_heads, coder.cfg.n_key_value_heads) == (24, 14, 2)


def test_the_unembedding_is_the_finer_of_the_two_that_the_file_holds(coder):
    assert "read: output.weight as the unembedding, Q8_0" in coder.read_report
    assert "read: token_embd.weight as the embedding, Q5_0" in coder.read_report
    assert "the unembedding is output.weight" in coder.card.notes
    assert not coder.W_U.mT.equal(coder.W_E)
    assert is_tied(coder), "one matrix, rounded twice, is one decoder"


def test_note_on_quantised_weights_is_true():
    tensors = gguf.GGUFReader(weights_files(find_card("qwen2.5_coder_0.5b"))[0]).tensors
    bits = 8 * sum(int(t.n_bytes) for t in tensors) / sum(int(t.n_elements) for t in tensors)
    assert round(bits, 1) == 6.2
    assert "6.2 bits" in find_card("qwen2.5_coder_0.5b").weights_note


def test_place_words_and_digits_are_single_tokens(coder):
    for word in (" hundred", " thousand", " million", "万", "億", "亿"):
        assert len(tokenize(coder, word)) == 1
    assert len(tokenize(coder, "128717593")) == 9


def test_it_adds_two_digit_numbers_in_the_best_form_and_not_bare(coder):
    sums = Addition(2, 20, seed=11, padded=False).sums
    bare = next(form for form in forms_of(coder, 2, 0) if form.name == "bare")
    best, worst = (
        right_in(coder, style_of(coder, form, 2), sums).mean()
        for form in (best_form(coder, 0), bare)
    )
    assert best >= 0.7
    assert worst < best - 0.2
