"""Kinds of model and folders that cannot be measured are refused in one line; others are read."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models import ModelError, load
from models.kinds import UNBOUNDED
from tests.models.tiny import LLAMA, SIZE, letters_tokenizer, save, tiny


def refusal_of(folder: Path) -> str:
    """The line that a folder is refused with."""
    with pytest.raises(ModelError) as refusal:
        load(str(folder))
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def state(folder: Path, **more: object) -> None:
    """Write fields into the config of a folder."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | more))


@pytest.fixture
def llama(tmp_path) -> Path:
    return save(tmp_path / "llama", tiny("llama", **LLAMA))


def change(folder: Path, name: str, weight: torch.Tensor) -> None:
    """Put a tensor beside those of a folder."""
    file = folder / "model.safetensors"
    save_file({**load_file(file), name: weight}, file, {"format": "pt"})


def test_biases_that_the_config_denies_are_refused(tmp_path):
    folder = save(tmp_path, tiny("llama", **LLAMA, attention_bias=True))
    load(str(folder))
    state(folder, attention_bias=False)
    assert "nothing reads model.layers.0.self_attn.k_proj.bias" in refusal_of(folder)
    assert "(12 such tensors)" in refusal_of(folder)


def test_layers_that_the_config_leaves_out_are_refused(llama):
    state(llama, num_hidden_layers=2)
    assert "nothing reads model.layers.2." in refusal_of(llama)


@pytest.mark.parametrize("name", ["model.layers.0.self_attn.rotary_emb.inv_freq", "model.mask"])
def test_known_buffers_are_ignored_and_named_others_refused(llama, name):
    change(llama, name, torch.ones(6))
    if name == "model.mask":
        assert "nothing reads model.mask of" in refusal_of(llama)
    else:
        report = load(str(llama)).read_report
        assert report[0].startswith("read: 30 tensors of")
        assert report[1] == f"ignored: {name}"


def test_a_tie_that_the_weights_break_is_refused(llama):
    assert not torch.equal(*(load_file(llama / "model.safetensors")[n] for n in (
        "lm_head.weight", "model.embed_tokens.weight"
    )))  # fmt: skip
    state(llama, tie_word_embeddings=True)
    assert 'set "tie_word_embeddings": false' in refusal_of(llama)


def test_shapes_that_the_config_contradicts_are_refused(llama):
    state(llama, intermediate_size=90)
    assert "in the shape its config.json asks for" in refusal_of(llama)


def test_an_adapter_is_refused(llama):
    (llama / "adapter_config.json").write_text("{}")
    assert "holds an adapter that is not merged" in refusal_of(llama)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "tf_model.h5", "flax_model.msgpack"])
def test_a_folder_with_other_weights_alone_says_which(llama, name):
    (llama / "model.safetensors").rename(llama / name)
    said = f"only {name} is in {llama}, which is not read; convert it to safetensors"
    assert said in refusal_of(llama)


def test_quantised_weights_say_by_what(llama):
    state(llama, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    assert "its weights are quantised by bitsandbytes; dequantise them" in refusal_of(llama)


@pytest.mark.parametrize("text", ["{", "[]", '{"model_type": 3}'])
def test_a_config_that_is_none_is_refused(llama, text):
    (llama / "config.json").write_text(text)
    assert str(llama) in refusal_of(llama)


def test_a_tokenizer_that_reads_no_text_is_refused(tmp_path):
    tokenizer = letters_tokenizer()
    tokenizer.backend_tokenizer.model = type(tokenizer.backend_tokenizer.model)({"a1": 0}, [])
    folder = save(tmp_path, tiny("llama", letters_tokenizer(), **LLAMA), tokenizer)
    assert "tokenizer" in refusal_of(folder)


def test_layers_without_attention_are_named(tmp_path):
    layers = ["conv", "full_attention", "conv", "full_attention"]
    shape = {**LLAMA, "num_hidden_layers": 4, "layer_types": layers}
    said = refusal_of(save(tmp_path / "some", tiny("lfm2", **shape)))
    assert said.startswith("some: layers 0, 2 have no attention; use a model with attention in")
    shape = {"hidden_size": 48, "num_hidden_layers": 3, "state_size": 8, "bos_token_id": None}
    said = refusal_of(save(tmp_path / "all", tiny("mamba", **shape)))
    assert said.startswith("all: no layer has attention")


def test_heads_of_two_widths_are_refused(tmp_path):
    shape = {**LLAMA, "num_key_value_heads": 4, "v_head_dim": 12, "qk_rope_head_dim": 8}
    shape |= {"qk_nope_head_dim": 8, "kv_lora_rank": 16, "q_lora_rank": 16, "n_routed_experts": 4}
    shape |= {"num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}
    folder = save(tmp_path, tiny("deepseek_v3", **shape, moe_intermediate_size=32))
    assert "values 12 wide and keys" in refusal_of(folder)


@pytest.mark.parametrize(
    ("kind", "shape", "longest"),
    [
        ("bloom", {"hidden_size": 48, "n_layer": 3, "n_head": 4}, UNBOUNDED),
        ("mpt", {"d_model": 48, "n_heads": 4, "n_layers": 3, "max_seq_len": 512}, 512),
        ("olmo", LLAMA, 512),
        ("granite", {**LLAMA, "residual_multiplier": 0.22, "logits_scaling": 8.0}, 512),
        ("falcon", {**SIZE, "max_position_embeddings": 128, "bos_token_id": None}, 128),
    ],
)
def test_kinds_that_are_read(tmp_path, kind, shape, longest):
    model = load(str(save(tmp_path, tiny(kind, **shape))))
    assert model.cfg.n_ctx == longest
    assert all(identity.ok for identity in model.identities)
