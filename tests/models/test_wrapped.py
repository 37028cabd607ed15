"""Models in memory are checked like any other, and are told apart by what they are."""

import copy

import pytest
import torch
import transformers
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel

from models import ModelError, load, untrained, wrap
from models.hooked import HAS_BRIDGE
from models.planted.carry import planted_carry
from models.text import tokenize
from tests.accelerator import NAME, Pretended
from tests.models.tiny import LLAMA, byte_tokenizer, tiny

pytestmark = pytest.mark.contract


@pytest.fixture(scope="module")
def plain():
    return tiny("llama", **LLAMA)


@pytest.fixture(scope="module")
def wrapped(plain):
    return wrap(plain, byte_tokenizer(), name="mine")


def words_tokenizer(*words: str) -> Tokenizer:
    inner = Tokenizer(WordLevel({word: i for i, word in enumerate(["<unk>", *words])}, "<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return inner


def native_bridge() -> object:
    """A model with hooks that TransformerLens itself made, without transformers."""
    shape = {"n_layers": 2, "n_heads": 2, "d_model": 16, "d_head": 8, "n_ctx": 12, "d_vocab": 20}
    shape |= {"act_fn": "gelu", "d_mlp": 32, "normalization_type": "LN"}
    if HAS_BRIDGE:
        from transformer_lens.config import TransformerBridgeConfig
        from transformer_lens.model_bridge import TransformerBridge

        return TransformerBridge.boot_native(TransformerBridgeConfig(**shape))
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    return HookedTransformer(HookedTransformerConfig(**shape))


def test_a_transformers_model_says_what_it_said_and_stays_as_it_was(plain, wrapped):
    ids = torch.tensor([tokenize(wrapped, "two words")])
    with torch.no_grad():
        expected = plain(ids).logits
        torch.testing.assert_close(wrapped(ids), expected, rtol=1e-4, atol=1e-4)
    assert all(identity.ok for identity in wrapped.identities)
    assert any("plain transformers" in identity.name for identity in wrapped.identities)
    assert "lm_head.weight" in plain.state_dict()
    assert plain.lm_head.weight.requires_grad


def test_a_model_in_training_goes_on_training(plain):
    own = copy.deepcopy(plain).train()
    wrap(own)
    own(torch.tensor([[1, 2]]), labels=torch.tensor([[1, 2]])).loss.backward()
    assert own.training
    assert own.lm_head.weight.grad is not None


def test_without_a_tokenizer_it_reads_ids_and_refuses_text(plain):
    with pytest.raises(ModelError, match="reads no text; name a tokenizer"):
        tokenize(wrap(plain), "text")


def test_a_tokenizer_of_the_tokenizers_library_will_do():
    own = tiny("llama", **LLAMA, vocab_size=3)
    assert tokenize(wrap(own, words_tokenizer("one", "two")), "two one") == [2, 1]


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(plain):
    many = words_tokenizer(*(f"w{number}" for number in range(300)), "The")
    with pytest.raises(ModelError, match="reads 257 tokens"):
        wrap(plain, many)


def test_a_model_with_hooks_is_used_itself():
    bridge = native_bridge()
    model = wrap(bridge, name="native")
    assert model is bridge
    assert model.card.name == "native"
    assert all(identity.ok for identity in model.identities)
    assert (untrained(model, 1).W_E != model.W_E).any()


def test_a_planted_model_keeps_how_it_writes_additions():
    model = planted_carry(places=3).model
    form = model.card.arithmetic
    assert wrap(model).card.arithmetic == form


def test_the_digest_is_of_weights_shape_and_tokenizer(plain, wrapped):
    other = copy.deepcopy(plain)
    with torch.no_grad():
        other.lm_head.weight[0, 0] += 1e-3
    again = wrap(plain, byte_tokenizer(), name="another name")
    assert again.card.sha256 == wrapped.card.sha256
    turning = {"rope_type": "default", "rope_theta": 20_000.0}
    slower = tiny("llama", **LLAMA, rope_parameters=turning)  # the same weights
    others = [wrap(other, byte_tokenizer()), wrap(slower, byte_tokenizer()), wrap(plain)]
    assert len({model.card.sha256 for model in [wrapped, *others]}) == 4


def test_a_twin_or_a_changed_model_is_another_one():
    adder = load("adder_6d_1l")
    before = wrap(adder).card
    assert (before.source, before.name) == ("memory", "adder_6d_1l")
    twin = wrap(untrained(adder, 0))
    assert twin.card.sha256 != before.sha256
    with torch.no_grad():
        next(iter(adder.parameters())).mul_(1.01)
    assert wrap(adder).card.sha256 != before.sha256


def test_wrapped_twice_it_is_not_checked_again(wrapped):
    identities = wrapped.identities
    assert wrap(wrapped) is wrapped
    assert wrapped.identities is identities


def broken(plain):
    with torch.no_grad():
        (own := copy.deepcopy(plain)).lm_head.weight[0, 0] = torch.nan
    return own


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda plain: 3, "a int is no model"),
        (lambda plain: plain.model, "LlamaModel: has no unembedding"),
        (lambda plain: copy.deepcopy(plain).double(), "use model.float"),
        (broken, "is NaN or infinite"),
    ],
)
def test_what_cannot_be_wrapped_is_refused_in_one_line(make, says, plain):
    with pytest.raises(ModelError, match=says) as refused:
        wrap(make(plain))
    assert "\n" not in str(refused.value)


def test_what_is_no_tokenizer_is_refused(plain):
    with pytest.raises(ModelError, match="is no tokenizer"):
        wrap(plain, len)


def test_an_encoder_with_a_decoder_is_refused():
    shape = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    pair = transformers.T5ForConditionalGeneration(transformers.T5Config(vocab_size=20, **shape))
    with pytest.raises(ModelError, match="encoder and decoder"):
        wrap(pair)


SPREAD = {
    "model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk",
    "model.layers.2": "disk", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu",
}  # fmt: skip
"""Where accelerate puts the parts of the model."""


def test_a_model_on_one_device_of_a_map_is_read_and_one_that_is_spread_refused(plain, tmp_path):
    plain.save_pretrained(tmp_path)
    read = transformers.AutoModelForCausalLM.from_pretrained
    whole = wrap(read(tmp_path, device_map="auto"), byte_tokenizer(), name="mine")
    assert all(identity.ok for identity in whole.identities)
    spread = read(tmp_path, device_map=SPREAD, offload_folder=tmp_path / "disk")
    with pytest.raises(ModelError, match=r"mine: its weights are on cpu, disk; .* one device"):
        wrap(spread, name="mine")


def test_a_model_on_two_devices_is_refused(plain):
    with Pretended():
        spread = copy.deepcopy(plain)
        spread.model.layers[1].to(NAME)
        with pytest.raises(ModelError, match=f"its weights are on cpu, {NAME}:0; "):
            wrap(spread, name="mine")
