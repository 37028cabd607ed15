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


INV_FREQ = "model.layers.0.self_attn.rotary_emb.inv_freq"
SPEEDS = 10_000.0 ** (-torch.arange(6) / 6)
"""How fast the tiny Llama's pairs of dimensions are rotated."""


def test_a_tensor_of_no_known_name_is_refused(llama):
    change(llama, "model.mask", torch.ones(6))
    assert "nothing reads model.mask of" in refusal_of(llama)


@pytest.mark.parametrize(
    ("name", "own", "other"),
    [
        (INV_FREQ, SPEEDS, 500_000.0 ** (-torch.arange(6) / 6)),
        (INV_FREQ, SPEEDS.bfloat16(), SPEEDS[:3]),
        (
            "model.layers.0.self_attn.rotary_emb.cos_cached",
            torch.outer(torch.arange(9.0), SPEEDS).cos().repeat(1, 2)[None, None],
            torch.outer(torch.arange(9.0), SPEEDS / 4).cos().repeat(1, 2)[None, None],
        ),
    ],
)
def test_stored_rotations_are_ignored_where_they_are_the_models_own(llama, name, own, other):
    change(llama, name, own)
    report = load(str(llama)).read_report
    assert report[0].startswith("read: 30 tensors of")
    assert report[1] == f"ignored: {name}"
    change(llama, name, other)
    assert f"{name} in {llama}" in refusal_of(llama)
    assert "is not what the model computes from config.json" in refusal_of(llama)


def test_rotations_stored_before_their_scaling_are_the_models_own(llama):
    state(llama, rope_scaling={"rope_type": "linear", "factor": 4.0}, rope_theta=10_000.0)
    change(llama, INV_FREQ, SPEEDS)
    assert load(str(llama)).read_report[1] == f"ignored: {INV_FREQ}"


@pytest.mark.parametrize(
    ("kind", "name"),
    [("gpt2", "transformer.h.0.attn.bias"), ("gpt_neo", "transformer.h.1.attn.attention.bias")],
)
def test_stored_masks_are_ignored_where_they_are_the_models_own(tmp_path, kind, name):
    shape = {"hidden_size": 48, "num_layers": 2, "num_heads": 4, "window_size": 16}
    shape |= {"attention_types": [[["global", "local"], 1]], "max_position_embeddings": 64}
    if kind == "gpt2":
        shape = {"n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 64}
    folder = save(tmp_path, tiny(kind, **shape, bos_token_id=None))
    whole = torch.ones(64, 64).tril().bool()
    own = whole if kind == "gpt2" else whole ^ whole.tril(-16)
    change(folder, name, own[None, None])
    assert f"ignored: {name}" in load(str(folder)).read_report
    change(folder, name, whole.tril(-7)[None, None])
    assert "is not what the model computes" in refusal_of(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("final_logit_softcapping", 30.0),
        ("sliding_window", 16),
        ("residual_multiplier", 0.22),
        ("logit_scale", 0.0625),
        ("query_pre_attn_scalar", 3),
        ("alibi", True),
    ],
)
def test_a_config_field_that_this_kind_ignores_is_refused(llama, name, value):
    state(llama, **{name: value})
    said = refusal_of(llama)
    assert f"states {name} = {value}, which llama models do not have" in said


def test_config_fields_without_effect_are_told(llama):
    state(llama, sliding_window=None, logit_scale=1.0, of_my_own="a note")
    report = load(str(llama)).read_report
    assert "ignored: of_my_own of config.json" in report
    assert "ignored: sliding_window of config.json" in report


def test_weights_stored_as_integers_are_refused(llama):
    name = "model.layers.0.mlp.up_proj.weight"
    stored = (load_file(llama / "model.safetensors")[name] * 100).to(torch.int8)
    change(llama, name, stored)
    assert f"{name} in {llama / 'model.safetensors'} is stored as I8" in refusal_of(llama)


def test_a_tensor_that_stands_in_two_shards_is_refused(llama):
    weights = load_file(llama / "model.safetensors")
    (llama / "model.safetensors").unlink()
    for file in ("a.safetensors", "b.safetensors"):
        save_file(weights, llama / file, {"format": "pt"})
    where = dict.fromkeys(weights, "a.safetensors") | {"model.norm.weight": "b.safetensors"}
    index = llama / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    assert "stands in a.safetensors and in" in refusal_of(llama)


def test_a_model_whose_rotation_turns_with_length_reads_up_to_there(tmp_path):
    """Beyond 64 tokens all of a text would be rotated otherwise, and be another text."""
    rope = {"rope_type": "longrope", "rope_theta": 10_000.0, "factor": 4.0}
    rope |= {"short_factor": [1.0] * 6, "long_factor": [3.0] * 6}
    rope |= {"original_max_position_embeddings": 64}
    shape = {**LLAMA, "rope_parameters": rope, "original_max_position_embeddings": 64}
    model = load(str(save(tmp_path, tiny("phi3", **shape, pad_token_id=None))))
    assert model.cfg.n_ctx == 64


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
