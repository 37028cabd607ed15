"""Text in and out: where it begins and ends, what each token is called, what is too long."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from models import ModelError, load
from models.text import _names, continue_text, token_strings, tokenize, tokenize_prompts
from tests.models.tiny import LLAMA, byte_tokenizer, letters_tokenizer, save, saying, tiny


def pieces_tokenizer():
    """As SentencePiece makes them: spaces are ▁, unknown characters fall back to bytes."""
    signs = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    signs += ["▁", "t", "h", "e", "th", "the", "▁the", "▁▁", "\n", "ä"]
    merges = [("t", "h"), ("th", "e"), ("▁", "the"), ("▁", "▁")]
    vocabulary = {sign: number for number, sign in enumerate(signs)}
    inner = Tokenizer(BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    inner.normalizer = normalizers.Replace(" ", "▁")
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    inner.add_special_tokens(["<unk>", "<s>", "</s>"])
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")


def merged_tokenizer():
    """Byte-level with merges, among them half a character and a space before a word."""
    signs = ["<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "Ġa", "ä¸", "ä¸ĩ"]
    inner = Tokenizer(
        BPE({s: i for i, s in enumerate(signs)}, [("Ġ", "a"), ("ä", "¸"), ("ä¸", "ĩ")])
    )
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(["<eos>"])
    made = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eos>")
    made.add_tokens([" units", " hundred"])
    return made


def ending_tokenizer():
    """Puts an end token behind every text, as T5's and some of Qwen's do."""
    made = byte_tokenizer("<eos>", "<bos>")
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 0)]
    )
    made.bos_token = "<bos>"
    return made


TOKENIZERS = {
    "bytes": byte_tokenizer,
    "letters": letters_tokenizer,
    "pieces": pieces_tokenizer,
    "merged": merged_tokenizer,
    "ending": ending_tokenizer,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A small Llama for each tokenizer, with more ids than any of them has."""
    made = {}
    for kind, make in TOKENIZERS.items():
        model = tiny("llama", make(), **LLAMA | {"vocab_size": 300})
        made[kind] = load(str(save(tmp_path_factory.mktemp("text") / kind, model, make())))
    return made


@pytest.mark.parametrize("kind", [*TOKENIZERS, "adder_6d_1l"])
def test_every_id_has_a_name_of_its_own(models, kind):
    model = models.get(kind) or load(kind)
    names = token_strings(model, range(300))
    assert len(set(names)) == 300
    assert all(names)
    assert names[299] == "⟨#299⟩"
    special = model.tokenizer.all_special_tokens[0]
    assert names[model.tokenizer.convert_tokens_to_ids(special)] == special


def test_an_id_beyond_the_number_of_tokens_has_its_name():
    """Some vocabularies leave ids out."""
    inner = Tokenizer(BPE({"a": 0, "b": 5, "c": 9}, []))
    inner.decoder = decoders.Fuse()
    assert _names(PreTrainedTokenizerFast(tokenizer_object=inner)) == [
        "a", "⟨#1⟩", "⟨#2⟩", "⟨#3⟩", "⟨#4⟩", "b", "⟨#6⟩", "⟨#7⟩", "⟨#8⟩", "c",
    ]  # fmt: skip


def test_a_text_of_which_the_tokenizer_reads_nothing_is_refused(models):
    letters = models["letters"]
    with pytest.raises(ModelError, match="prompt 1: the tokenizer reads nothing of '123'"):
        tokenize_prompts(letters, ["the", "123"])


def test_names_show_spaces_bytes_and_special_tokens(models):
    pieces = models["pieces"]
    ids = pieces.tokenizer("the the\xe9", add_special_tokens=False)["input_ids"]
    assert token_strings(pieces, ids) == ["the", " the", "⟨0xC3⟩", "⟨0xA9⟩"]
    assert token_strings(pieces, [0, 1, 2, 259]) == ["<unk>", "<s>", "</s>", " "]
    merged = models["merged"]
    ids = merged.tokenizer("a a万 units")["input_ids"]
    assert token_strings(merged, ids) == ["a", " a", "万", " units"]
    half = merged.tokenizer.convert_tokens_to_ids("ä¸")
    assert token_strings(merged, [half, 0]) == ["⟨0xE4⟩⟨0xB8⟩", "<eos>"]


def test_an_end_token_that_the_tokenizer_appends_is_left_off(models):
    ending = models["ending"]
    assert ending.tokenizer("hi")["input_ids"][-1] == 0
    assert tokenize(ending, "hi") == ending.tokenizer("<bos>hi", add_special_tokens=False).input_ids
    assert tokenize(ending, "hi<eos>")[-1] == 0  # a text may say so itself
    assert tokenize(ending, "") == [1]


def test_a_text_ends_at_each_end_of_the_generation_config(tmp_path):
    tokenizer = byte_tokenizer("<eos>", "<end_of_turn>")
    plain = saying(tokenizer, {1: 1e3})
    plain.generation_config.eos_token_id = [0, 1]
    model = load(str(save(tmp_path, plain, tokenizer)))
    assert model.end_tokens == (0, 1)
    assert continue_text(model, [tokenize(model, "My friend")], 4) == [[]]
    model.end_tokens = (0,)
    assert continue_text(model, [tokenize(model, "My friend")], 4) == [[1] * 4]


def test_ids_beyond_the_embedding_are_refused_by_name(tmp_path):
    tokenizer = byte_tokenizer()
    plain = tiny("llama", tokenizer, **LLAMA)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>"]})
    model = load(str(save(tmp_path, plain, tokenizer)))
    said = r"'<think>' is token 257, but .* reads 257 tokens \(0 to 256\)"
    with pytest.raises(ModelError, match=said):
        tokenize(model, "<think> hi")


def test_texts_longer_than_the_model_reads_are_refused(tmp_path):
    shape = {**LLAMA, "max_position_embeddings": 32}
    model = load(str(save(tmp_path, tiny("llama", **shape))))
    with pytest.raises(ModelError, match=r"prompt 0 .* is 40 tokens long, but .* at most 32"):
        tokenize_prompts(model, ["x" * 40])
    assert len(tokenize(model, "x" * 40)) == 40  # who reads only a part of it cuts it
    ids = tokenize(model, "x" * 30)
    assert len(continue_text(model, [ids], 2)[0]) <= 2
    with pytest.raises(ModelError, match="the longest text with 3 more tokens is 33 tokens long"):
        continue_text(model, [[1], ids], 3)


def test_models_without_a_longest_length_read_on(tmp_path):
    model = load(str(save(tmp_path, tiny("bloom", hidden_size=48, n_layer=2, n_head=4))))
    assert len(tokenize(model, "x" * 5000)) == 5000


def test_empty_prompts_are_refused_by_number(models):
    model = models["bytes"]
    assert tokenize_prompts(model, ["a", "b"]) == [tokenize(model, "a"), tokenize(model, "b")]
    for empty in ("", "  \n"):
        with pytest.raises(ModelError, match="prompt 1 is empty"):
            tokenize_prompts(model, ["a", empty])
    with pytest.raises(ModelError, match=r"prompt 1 with its continuation is 513 tokens long"):
        tokenize_prompts(model, ["a", "b" * 509], new_tokens=4)


@pytest.mark.parametrize("text", ["12+7=", "000012+000007", "000012+000007=00000190", "=", ""])
def test_an_adder_reads_additions_in_its_own_form_alone(text):
    adder = load("adder_6d_1l")
    said = r"adder_6d_1l cannot read .*: it reads additions written 000012\+000007= \(6 digits each"
    with pytest.raises(ModelError, match=said):
        tokenize(adder, text)


def test_an_adder_reads_its_form_with_the_answer_or_part_of_it():
    adder = load("adder_6d_1l")
    for answer in ("", "0", "0000019"):
        assert len(tokenize(adder, f"000012+000007={answer}")) == 15 + len(answer)


def test_a_tokenizer_that_knows_no_digit_is_read(tmp_path):
    tokenizer = letters_tokenizer()
    sizes = {"n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 128, "bos_token_id": None}
    model = load(str(save(tmp_path, tiny("gpt2", tokenizer, **sizes), tokenizer)))
    assert torch.tensor(tokenize(model, "the sea is calm")).shape == (15,)
