"""Weights on disk: .gguf files made plain, and every kind of damage refused in one line."""

import json
import math
import string
from collections.abc import Callable
from pathlib import Path

import gguf
import gguf.vocab
import numpy as np
import pytest
import torch
import transformers
from einops import rearrange
from safetensors.torch import load_file, save_file
from tokenizers import processors

from models import ModelError, check, load
from models.card import Card
from models.gguf_files import Gguf, as_the_file_splits, refuse_other_unembedding
from models.sources import folder_of
from models.text import token_strings, tokenize
from models.verification import CHECK_TEXT
from tests.models.tiny import LLAMA, lower_case_tokenizer, save, tiny


def in_llama_cpp_order(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of a query or key projection as llama.cpp stores them: pairs beside each other."""
    return rearrange(weight, "(head half pair) m -> (head pair half) m", head=heads, half=2)


def write_gguf(
    file: Path,
    folder: Path,
    *,
    ordered: bool = True,
    pre: str = "smollm",
    stated: Callable[[gguf.GGUFWriter], object] = lambda writer: None,
) -> None:
    """The tiny Llama in `folder` as a .gguf file, its queries and keys in llama.cpp's order."""
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder)
    config, weights = plain.config, plain.state_dict()
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    _write_vocabulary(writer, pre)
    stated(writer)
    for name, heads in (("q", config.num_attention_heads), ("k", config.num_key_value_heads)):
        for layer in range(config.num_hidden_layers if ordered else 0):
            key = f"model.layers.{layer}.self_attn.{name}_proj.weight"
            weights[key] = in_llama_cpp_order(weights[key], heads)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, weight in weights.items():
        stem = names.get_name(name.removesuffix(".weight"))
        writer.add_tensor(f"{stem}.weight", weight.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_vocabulary(writer: gguf.GGUFWriter, pre: str) -> None:
    """A hundred signs as a byte-level tokenizer that merges two line ends and nothing else."""
    signs = [gguf.vocab.bytes_to_unicode()[byte] for byte in string.printable.encode()]
    signs[signs.index("č")] = "ĊĊ"  # a carriage return is not needed
    writer.add_tokenizer_model("gpt2")
    if pre:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(signs)
    writer.add_token_merges(["Ċ Ċ"])
    writer.add_token_types([1] * len(signs))
    writer.add_token_scores([0.0] * len(signs))
    writer.add_bos_token_id(98)
    writer.add_eos_token_id(99)


@pytest.fixture
def tiny_gguf(tmp_path: Path, folders: dict[str, Path], own_cache: Path) -> Path:
    """A whole .gguf file of the tiny Llama."""
    write_gguf(tmp_path / "tiny.gguf", folders["llama"])
    return tmp_path / "tiny.gguf"


@pytest.fixture
def copied(tmp_path: Path, folders: dict[str, Path]) -> Path:
    """A folder of the tiny Llama that may be damaged."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folders["llama"].iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def refusal_of(name: Path | str) -> str:
    """The line that a model is refused with."""
    with pytest.raises(ModelError) as refusal:
        load(str(name))
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_gguf_is_the_model_it_was_made_from(tiny_gguf, folders):
    model = load(str(tiny_gguf))
    plain = transformers.AutoModelForCausalLM.from_pretrained(folders["llama"])
    tokens = torch.arange(40)[None]
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), plain(tokens).logits, rtol=1e-4, atol=1e-5)
    assert model.to_tokens("a b").tolist() == [[10, 94, 11]]


def test_the_unembedding_of_a_gguf_file_is_its_own_and_not_the_embedding(tiny_gguf, folders):
    """As where a tied matrix is held twice, in two precisions."""
    model = load(str(tiny_gguf))
    plain = transformers.AutoModelForCausalLM.from_pretrained(folders["llama"])
    assert torch.equal(model.W_U, plain.lm_head.weight.mT)
    assert not torch.equal(model.W_U, model.W_E.mT)
    assert "read: output.weight as the unembedding, F32" in model.read_report
    assert "read: token_embd.weight as the embedding, F32" in model.read_report
    plain.lm_head.weight = plain.model.embed_tokens.weight
    with pytest.raises(ModelError, match=r"output\.weight, is not what the model reads out with"):
        refuse_other_unembedding(folder_of(model.card), plain)


def test_gguf_is_converted_once_into_a_folder_that_plain_transformers_reads(tiny_gguf):
    card = Card.of("tiny", tiny_gguf.parent, {"source": "gguf", "path": tiny_gguf})
    folder = folder_of(card)
    made = (folder / "model.safetensors").stat().st_mtime_ns
    assert (folder_of(card) / "model.safetensors").stat().st_mtime_ns == made
    assert transformers.AutoModelForCausalLM.from_pretrained(folder).dtype == torch.float32
    assert not [path for path in folder.parent.iterdir() if path.name.startswith("tmp")]


def ones(shape: int) -> np.ndarray:
    return np.ones(shape, dtype=np.float32)


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        (lambda w: w.add_tensor("rope_freqs.weight", ones(3)), "no place for rope_freqs.weight"),
        (lambda w: w.add_tensor("blk.0.attn_q.bias", ones(24)), "no place for blk.0.attn_q.bias"),
        (lambda w: w.add_rope_scaling_factor(4.0), "rope.scaling.factor is 4.0, but .* ignores it"),
        (
            lambda w: w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR),
            "rope.scaling.type is linear, but transformers ignores it",
        ),
        (lambda w: w.add_sliding_window(16), "sliding_window is 16, but transformers ignores it"),
        (lambda w: w.add_final_logit_softcapping(30.0), "final_logit_softcapping is 30.0"),
        (lambda w: w.add_attention_scale(0.3), "attention.scale is 0.3"),
        (lambda w: w.add_logit_scale(0.5), "logit_scale is 0.5"),
        (lambda w: w.add_expert_count(8), "expert_count is 8"),
        (lambda w: w.add_key_length(8), "attention.key_length is 8, but transformers reads 6"),
        (lambda w: w.add_float32("llama.unheard_of", 2.0), "unheard_of is 2.0"),
        (lambda w: w.add_causal_attention(False), "attention.causal is False"),
        (lambda w: w.add_rope_scaling_attn_factors(1.2), "rope.scaling.attn_factor is 1.2"),
        (lambda w: w.add_rope_scaling_yarn_log_mul(0.1), "yarn_log_multiplier is 0.1"),
        (lambda w: w.add_value_length(8), "attention.value_length is 8"),
        (lambda w: w.add_attn_logit_softcapping(50.0), "attn_logit_softcapping is 50.0"),
        (lambda w: w.add_embedding_scale(12.0), "embedding_scale is 12.0"),
        (lambda w: w.add_residual_scale(0.22), "residual_scale is 0.219"),
        (lambda w: w.add_clamp_kqv(8.0), "attention.clamp_kqv is 8.0"),
        (lambda w: w.add_max_alibi_bias(8.0), "attention.max_alibi_bias is 8.0"),
        (lambda w: w.add_tensor("blk.0.attn_sinks.weight", ones(4)), "no place for blk.0.attn_sin"),
        (lambda w: w.add_tensor("output.bias", ones(100)), "no place for output.bias"),
    ],
)
def test_gguf_that_states_another_model_is_refused(tmp_path, folders, own_cache, stated, said):
    write_gguf(tmp_path / "other.gguf", folders["llama"], stated=stated)
    with pytest.raises(ModelError, match=said) as refusal:
        load(str(tmp_path / "other.gguf"))
    assert "\n" not in str(refusal.value)
    assert "other.gguf" in str(refusal.value)


def test_what_changes_nothing_in_a_gguf_file_is_read_and_told(tmp_path, folders, own_cache):
    def stated(writer: gguf.GGUFWriter) -> None:
        writer.add_rope_scaling_type(gguf.RopeScalingType.NONE)
        writer.add_rope_scaling_factor(1.0)
        writer.add_key_length(6)
        writer.add_eot_token_id(7)

    write_gguf(tmp_path / "same.gguf", folders["llama"], stated=stated)
    model = load(str(tmp_path / "same.gguf"))
    assert model.end_tokens == (7, 99)
    assert "read: llama.rope.scaling.factor = 1.0" in model.read_report
    assert "ignored: llama.context_length" in model.read_report


@pytest.mark.parametrize("added", [True, False])
def test_a_text_begins_as_a_gguf_file_says(tmp_path, folders, own_cache, added):
    stated = {"stated": lambda writer: writer.add_add_bos_token(added)}
    write_gguf(tmp_path / "own.gguf", folders["llama"], **stated)
    model = load(str(tmp_path / "own.gguf"))
    assert tokenize(model, "a") == ([98, 10] if added else [10])


def test_a_beginning_that_a_gguf_file_denies_is_refused(tmp_path, folders, own_cache):
    """As where transformers drops a setting of the tokenizer."""
    file = tmp_path / "own.gguf"
    write_gguf(file, folders["llama"], stated=lambda writer: writer.add_add_bos_token(False))
    tokenizer = load(str(file)).tokenizer
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{tokenizer.bos_token} $A", special_tokens=[(tokenizer.bos_token, 98)]
    )
    said = r"tokenizer\.ggml\.add_bos_token is False, but with transformers a text begins with"
    with pytest.raises(ModelError, match=said):
        as_the_file_splits(Gguf(file), tokenizer)


@pytest.mark.parametrize(
    ("pre", "whole"), [("smollm", True), ("starcoder", True), ("gpt-2", False), ("olmo", False)]
)
def test_text_is_cut_as_a_gguf_file_says(tmp_path, folders, own_cache, pre, whole):
    """Two line ends before a digit are one token where digits stand apart, and else two."""
    write_gguf(tmp_path / "own.gguf", folders["llama"], pre=pre)
    model = load(str(tmp_path / "own.gguf"))
    assert token_strings(model, tokenize(model, "a\n\n1")) == [
        "a", *(["\n\n"] if whole else ["\n", "\n"]), "1",
    ]  # fmt: skip


@pytest.mark.parametrize(("pre", "said"), [("deepseek-llm", "deepseek-llm"), ("", "not stated")])
def test_a_gguf_file_that_cuts_text_in_an_unknown_way_is_refused(
    tmp_path, folders, own_cache, pre, said
):
    write_gguf(tmp_path / "own.gguf", folders["llama"], pre=pre)
    assert f"how its tokenizer cuts text (tokenizer.ggml.pre) is {said}" in refusal_of(
        tmp_path / "own.gguf"
    )


def learn_check_text(folder: Path) -> None:
    """Train the tiny model in a folder until it half knows the beginning of the check text."""
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokens = torch.tensor([tokenizer(CHECK_TEXT.read_text())["input_ids"][:64]])
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-2)
    for _ in range(60):
        loss = plain(tokens, labels=tokens).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    plain.save_pretrained(folder)


def test_weights_in_a_wrong_order_are_caught_by_the_likelihood(tmp_path, copied, own_cache):
    """Queries and keys in another order give every identity but the likelihood of the text."""
    learn_check_text(copied)
    card = tmp_path / "tiny.toml"
    text = 'source = "gguf"\npath = "tiny.gguf"\nnll = 1.0'
    write_gguf(tmp_path / "tiny.gguf", copied)
    card.write_text(text)
    found = check(str(card))[-1].name.split(": ")[1].split()[0]
    card.write_text(text.replace("1.0", found))
    load(str(card))
    write_gguf(tmp_path / "tiny.gguf", copied, ordered=False)
    assert [identity.ok for identity in check(str(card))][-2:] == [True, False]
    assert refusal_of(card).startswith("tiny: likelihood of the check text")


def test_damaged_gguf_is_refused(tiny_gguf):
    whole = tiny_gguf.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:-4000], b"no such thing", b""):
        tiny_gguf.write_bytes(damaged)
        assert f"cannot read {tiny_gguf}" in refusal_of(tiny_gguf)


def test_other_sha256_is_refused(tiny_gguf):
    card = tiny_gguf.with_suffix(".toml")
    card.write_text(f'source = "gguf"\npath = "tiny.gguf"\nsha256 = "{"0" * 64}"')
    said = refusal_of(card)
    assert str(tiny_gguf) in said
    assert "the card says 000000000000...: damaged or another file" in said


def test_damaged_folder_is_refused(copied):
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert f"cannot read {copied}" in refusal_of(copied)
    weights.unlink()
    assert f"no weights at {weights}; put them there" in refusal_of(copied)


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("model.layers.1.mlp.up_proj.weight", None, "lacks model.layers.1.mlp.up_proj.weight"),
        ("model.layers.0.self_attn.q_proj.weight", (24, 20), "self_attn.q_proj.weight"),
        ("model.norm.weight", math.nan, "model.norm.weight in .* is NaN or infinite"),
        ("lm_head.weight", math.inf, "lm_head.weight in .* is NaN or infinite"),
    ],
)
def test_weights_that_do_not_fit_are_refused(copied, name, damage, said):
    weights = load_file(copied / "model.safetensors")
    assert name in weights
    if damage is None:
        del weights[name]
    elif isinstance(damage, tuple):
        weights[name] = torch.ones(damage)
    else:
        weights[name].view(-1)[3] = damage
    save_file(weights, copied / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=said) as refusal:
        load(str(copied))
    assert "\n" not in str(refusal.value)


def test_folder_without_tokenizer_or_of_an_unknown_kind_is_refused(copied):
    config = json.loads((copied / "config.json").read_text())
    for file in copied.glob("tokenizer*"):
        file.unlink()
    assert f"no readable tokenizer in {copied}" in refusal_of(copied)
    (copied / "config.json").write_text(json.dumps(config | {"model_type": "unheard_of"}))
    assert str(copied) in refusal_of(copied)


def test_a_tokenizer_that_writes_small_letters_is_read_as_its_file_says_or_it_is_told(tmp_path):
    for kind, as_it_says in (("llama", True), ("qwen2", False)):
        tokenizer = lower_case_tokenizer()
        model = load(str(save(tmp_path / kind, tiny(kind, tokenizer, **LLAMA), tokenizer)))
        texts = [tokenize(model, text) for text in ("The Séa 12", "the sea 12")]
        told = [line for line in model.read_report if "normalizer of tokenizer.json" in line]
        assert (texts[0] == texts[1], not told) == (as_it_says, as_it_says), kind
        assert "".join(token_strings(model, texts[1])) == "the sea 12"
    assert "Qwen2Tokenizer, which makes 'Né12' of 'Né12' where the file says 'ne12'" in told[0]


@pytest.mark.parametrize(
    ("stated", "small", "kind"),
    [(None, "mlp", torch.bfloat16), ("bfloat16", "norm", torch.float16)],
)
def test_weights_of_two_number_formats_are_what_plain_transformers_computes(
    tmp_path, stated, small, kind
):
    folder = save(tmp_path, tiny("qwen2", **LLAMA))
    weights = load_file(folder / "model.safetensors")
    mixed = {name: one.to(kind) if small in name else one for name, one in weights.items()}
    save_file(mixed, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text()) | {"dtype": stated}
    (folder / "config.json").write_text(json.dumps(config))
    tokens = torch.arange(1, 21)[None]
    for dtype in (torch.float32, torch.bfloat16):
        plain = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation="eager"
        )
        with torch.no_grad():
            expected = plain(tokens).logits
        torch.testing.assert_close(load(str(folder), dtype=dtype)(tokens), expected)


def test_unreachable_hub_is_refused(monkeypatch, own_cache):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    said = refusal_of("nobody/nothing")
    assert said.startswith("nothing: cannot fetch nobody/nothing from the hub")
    assert "check the id, the network" in said
