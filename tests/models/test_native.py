"""Models in TransformerLens' own format: the card a user writes, and a plain computation of it."""

import math
from pathlib import Path

import pytest
import torch
from einops import rearrange
from safetensors.torch import save_file

from models import ModelError, check, find_card, load, untrained
from models.card import NativeConfig
from models.fetch import settings_sha256
from models.native import in_bridge_names, parameters_of, sizes_of, vocabulary_tokenizer
from models.text import tokenize
from models.verification import relative_error
from tests.models.tiny import byte_tokenizer

pytestmark = pytest.mark.contract

FIVE_DIGITS = """
source = "native"
weights = "five_digits.safetensors"   # beside the card
[config]                              # TransformerLens field names
n_layers = 1
n_heads = 4
d_model = 128
d_head = 32
d_mlp = 512
d_vocab = 12
d_vocab_out = 10
n_ctx = 18
act_fn = "relu"
[arithmetic]
digits = 5
pad = true
operands = "msb"
answer = "msb"
layout = ["a", "+", "b", "=", "c"]
[arithmetic.vocabulary]
"0" = 0
"1" = 1
"2" = 2
"3" = 3
"4" = 4
"5" = 5
"6" = 6
"7" = 7
"8" = 8
"9" = 9
"+" = 10
"=" = 11
"""
SMALL = {"n_layers": 2, "n_heads": 4, "d_model": 24, "d_head": 10, "d_vocab": 12, "n_ctx": 20}
SHAPES = {
    "five_digits": NativeConfig(
        **(SMALL | {"n_layers": 1, "d_model": 128, "d_head": 32, "n_ctx": 18}),
        d_mlp=512,
        d_vocab_out=10,
        act_fn="relu",
    ),
    "attention_only": NativeConfig(**SMALL, attn_only=True, d_vocab_out=10),
    "layer_norm": NativeConfig(**SMALL, act_fn="gelu_new", normalization_type="LN"),
    "folded_norm": NativeConfig(**SMALL, act_fn="gelu", normalization_type="LNPre"),
    "llama_like": NativeConfig(
        **SMALL,
        act_fn="silu",
        normalization_type="RMS",
        gated_mlp=True,
        n_key_value_heads=2,
        positional_embedding_type="rotary",
        rotary_dim=6,
    ),
    "rotary_pairs": NativeConfig(
        **SMALL, act_fn="relu", positional_embedding_type="rotary", rotary_adjacent_pairs=True
    ),
}
ACTIVATIONS = {
    "relu": torch.relu,
    "gelu": torch.nn.functional.gelu,
    "gelu_new": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "silu": torch.nn.functional.silu,
}


def shape_of(axes, sizes):
    return [sizes[axis] for axis in axes.split()]


def random_weights(config):
    """Every parameter, biases included, in HookedTransformer's names."""
    generator, sizes = torch.Generator().manual_seed(0), sizes_of(config)
    return {
        names.hooked: torch.randn(shape_of(names.axes, sizes), generator=generator) * 0.3
        for names in parameters_of(config)
    }


def plain_logits(config, weights, tokens):
    """The model written out: one sequence at a time, one head at a time."""
    return torch.stack([_plain_sequence(config, weights, row) for row in tokens])


def _plain_sequence(config, w, row):
    x = w["embed.W_E"][row]
    if config.positional_embedding_type == "standard":
        x = x + w["pos_embed.W_pos"][: len(row)]
    for layer in range(config.n_layers):
        at = f"blocks.{layer}."
        x = x + _plain_attention(config, w, at, _plain_norm(config, w, f"{at}ln1", x))
        if not config.attn_only:
            x = x + _plain_mlp(config, w, at, _plain_norm(config, w, f"{at}ln2", x))
    return _plain_norm(config, w, "ln_final", x) @ w["unembed.W_U"] + w["unembed.b_U"]


def _plain_norm(config, w, name, x):
    kind = config.normalization_type
    if kind is None:
        return x
    if kind.startswith("LN"):
        x = x - x.mean(-1, keepdim=True)
    x = x / (x.pow(2).mean(-1, keepdim=True) + config.eps).sqrt()
    return x * w.get(f"{name}.w", 1.0) + w.get(f"{name}.b", 0.0)


def _plain_mlp(config, w, at, x):
    act = ACTIVATIONS[config.act_fn]
    pre = x @ w[f"{at}mlp.W_in"]
    if config.gated_mlp:
        hidden = act(x @ w[f"{at}mlp.W_gate"]) * pre + w[f"{at}mlp.b_in"]
    else:
        hidden = act(pre + w[f"{at}mlp.b_in"])
    return hidden @ w[f"{at}mlp.W_out"] + w[f"{at}mlp.b_out"]


def _plain_attention(config, w, at, x):
    kv = config.n_heads // (config.n_key_value_heads or config.n_heads)
    written = w[f"{at}attn.b_O"].clone()
    hidden_from = torch.triu(torch.full((len(x), len(x)), -math.inf), 1)
    for head in range(config.n_heads):
        q, k, v = (
            x @ w[f"{at}attn.W_{which}"][own] + w[f"{at}attn.b_{which}"][own]
            for which, own in (("Q", head), ("K", head // kv), ("V", head // kv))
        )
        q, k = _plain_rotation(config, q), _plain_rotation(config, k)
        pattern = (q @ k.T / math.sqrt(config.d_head) + hidden_from).softmax(-1)
        written = written + pattern @ v @ w[f"{at}attn.W_O"][head]
    return written


def _plain_rotation(config, x):
    """Each pair of dimensions is a complex number, turned by its pos."""
    if config.positional_embedding_type != "rotary":
        return x
    width = config.rotary_dim or config.d_head
    pairs = "(d two) -> d two" if config.rotary_adjacent_pairs else "(two d) -> d two"
    place = rearrange(torch.arange(width), pairs, two=2)
    angle = config.rotary_base ** (-torch.arange(0, width, 2) / width)
    turn = torch.polar(torch.ones(len(x), width // 2), torch.arange(len(x))[:, None] * angle)
    turned = torch.complex(x[:, place[:, 0]], x[:, place[:, 1]]) * turn
    out = x.clone()
    out[:, place[:, 0]], out[:, place[:, 1]] = turned.real, turned.imag
    return out


def write_card(folder: Path, config: NativeConfig, weights) -> Path:
    """A card with its weights beside it."""
    stated = config.model_dump(exclude_defaults=True)
    lines = [
        f"{k} = {str(v).lower() if isinstance(v, bool) else repr(v)}" for k, v in stated.items()
    ]
    head = ['source = "native"', 'weights = "model.safetensors"', "[config]"]
    save_file(weights, folder / "model.safetensors")
    card = folder / "mine.toml"
    card.write_text("\n".join(head + lines))
    return card


@pytest.fixture
def five_digits(tmp_path: Path) -> Path:
    """The card of the README, its biases left out."""
    weights = random_weights(SHAPES["five_digits"])
    kept = {name: tensor for name, tensor in weights.items() if ".b_" not in name}
    save_file(kept, tmp_path / "five_digits.safetensors")
    (tmp_path / "five_digits.toml").write_text(FIVE_DIGITS)
    return tmp_path / "five_digits.toml"


def test_the_card_of_the_readme_loads_runs_and_is_checked(five_digits):
    model = load(str(five_digits))
    assert model.card.name == "five_digits"
    assert len(check(str(five_digits))) == len(model.identities) == 11
    tokens = model.to_tokens("12345+54321=066666")
    assert tokens.tolist() == [[1, 2, 3, 4, 5, 10, 5, 4, 3, 2, 1, 11, 0, 6, 6, 6, 6, 6]]
    weights = random_weights(SHAPES["five_digits"])
    zeroed = {name: w * 0 if ".b_" in name else w for name, w in weights.items()}
    with torch.no_grad():
        logits = model(tokens)
    assert logits.shape == (1, 18, 10)
    assert relative_error(logits, plain_logits(SHAPES["five_digits"], zeroed, tokens)) < 1e-5


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("naming", ["hooked", "bridge"])
def test_logits_are_those_of_the_model_written_out(tmp_path, shape, naming):
    config = SHAPES[shape]
    weights = random_weights(config)
    named = weights if naming == "hooked" else in_bridge_names(weights, config)
    model = load(str(write_card(tmp_path, config, named)))
    tokens = torch.randint(config.d_vocab, (3, config.n_ctx), generator=torch.Generator())
    with torch.no_grad():
        assert relative_error(model(tokens), plain_logits(config, weights, tokens)) < 1e-5


def test_underscored_keys_and_values_and_buffers_are_understood():
    config = SHAPES["llama_like"]
    weights = random_weights(config)
    saved = {
        name.replace("attn.W_K", "attn._W_K").replace("attn.b_V", "attn._b_V"): weight
        for name, weight in weights.items()
    } | {"blocks.0.attn.mask": torch.ones(3, 3), "blocks.0.attn.rotary_sin": torch.ones(2)}
    expected, found = in_bridge_names(weights, config), in_bridge_names(saved, config)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_bfloat16_is_computed_in_bfloat16(tmp_path, shape):
    config = SHAPES[shape]
    card = str(write_card(tmp_path, config, random_weights(config)))
    coarse, fine = load(card, dtype="bfloat16"), load(card)
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        found = coarse(tokens)
        assert found.dtype == torch.bfloat16
        assert relative_error(found, fine(tokens)) < 0.1


@pytest.mark.parametrize("shape", ["layer_norm", "llama_like"])
def test_folded_weights_say_the_same(tmp_path, shape):
    config = SHAPES[shape]
    card = str(write_card(tmp_path, config, random_weights(config)))
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        said = [load(card, processing=p)(tokens).log_softmax(-1) for p in ("folded", "none")]
    assert relative_error(*said) < 1e-4


@pytest.mark.parametrize("shape", SHAPES)
def test_untrained_twin(tmp_path, shape):
    config = SHAPES[shape]
    model = load(str(write_card(tmp_path, config, random_weights(config))))
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        twins = [untrained(model, seed)(tokens) for seed in (0, 0, 1)]
    assert torch.equal(twins[0], twins[1])
    assert not torch.allclose(twins[0], twins[2])


def test_vocabulary_tokenizer_takes_the_longest_key():
    tokenizer = vocabulary_tokenizer({"<bos>": 0, "<": 1, "1": 2, "12": 3, "+": 4, "万": 5})
    assert tokenizer("<bos>12+1<万")["input_ids"] == [0, 3, 4, 2, 1, 5]
    assert tokenizer.decode([0, 3, 4, 2, 1, 5]) == "<bos>12+1<万"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda w: w.pop("blocks.0.attn.W_Q"), "no blocks.0.attn.W_Q"),
        (
            lambda w: w.update({"blocks.0.attn.W_P": torch.ones(2)}),
            "blocks.0.attn.W_P has no place",
        ),
        (lambda w: w.update({"embed.W_E": torch.ones(12, 127)}), r"\(12, 127\), not \(12, 128\)"),
        (lambda w: w["embed.W_E"].fill_(math.nan), "embed.W_E .* NaN"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, damage, said):
    weights = random_weights(SHAPES["five_digits"])
    damage(weights)
    card = write_card(tmp_path, SHAPES["five_digits"], weights)
    with pytest.raises(ModelError, match=said) as refusal:
        load(str(card))
    assert "\n" not in str(refusal.value)
    assert "model.safetensors" in str(refusal.value)


def test_truncated_weights_are_refused(five_digits):
    file = five_digits.with_name("five_digits.safetensors")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"cannot read .*five_digits.safetensors"):
        load(str(five_digits))
    file.unlink()
    with pytest.raises(ModelError, match=r"no weights at .*five_digits.safetensors"):
        load(str(five_digits))


def with_tokenizer(folder: Path, named: str, vocabulary: int) -> Path:
    """A card of a small language model that names a tokenizer, in a folder beside it."""
    config = NativeConfig(**(SMALL | {"d_vocab": vocabulary}), attn_only=True)
    card = write_card(folder, config, random_weights(config))
    byte_tokenizer().save_pretrained(folder / "words")
    for other in ("config.json", "special_tokens_map.json"):
        (folder / "words" / other).unlink(missing_ok=True)
    text = card.read_text()
    card.write_text(text.replace('source = "native"', f'source = "native"\ntokenizer = "{named}"'))
    return card


def test_a_native_card_names_a_tokenizer_and_then_reads_text(tmp_path):
    model = load(str(with_tokenizer(tmp_path, "words", 257)))
    ids = tokenize(model, "words")
    assert model.tokenizer.decode(ids) == "words"
    assert model(torch.tensor([ids])).shape == (1, 5, 257)
    assert tokenize(untrained(model, 0), "words") == ids


def test_a_tokenizer_that_does_not_fit_or_is_not_there_is_refused(tmp_path):
    card = str(with_tokenizer(tmp_path, "words", 40))
    with pytest.raises(ModelError, match="reads 40 tokens"):
        load(card)
    with pytest.raises(ModelError, match=r"no folder .*nowhere; correct tokenizer"):
        load(str(with_tokenizer(tmp_path, "nowhere", 257)))


def test_the_tokenizer_is_part_of_what_a_model_is(tmp_path):
    card = find_card(str(with_tokenizer(tmp_path, "words", 257)))
    before = settings_sha256(card)
    with (tmp_path / "words" / "tokenizer.json").open("a") as file:
        file.write("\n")
    assert settings_sha256(card) != before


def test_an_adder_reads_by_its_vocabulary_alone(five_digits):
    text = five_digits.read_text()
    five_digits.write_text(text.replace("[config]", 'tokenizer = "words"\n[config]'))
    with pytest.raises(ModelError, match="only of a native model without"):
        load(str(five_digits))
