"""A pass taken up at a block, against the whole pass, for every family and for native models."""

import pytest
import torch

from models import load
from models.hooked import HAS_BRIDGE
from models.passes import run_from, windows
from models.planted.head import planted_head
from models.text import tokenize
from tests.models.tiny import save, tiny

pytestmark = pytest.mark.contract


@pytest.fixture(scope="module")
def tokens(model):
    return torch.tensor([tokenize(model, "seven-ships;1874+26=1900")]).expand(3, -1)


def assert_resumes(model, tokens):
    with torch.no_grad():
        whole, cache = model.run_with_cache(tokens)
        for layer in range(model.cfg.n_layers):
            resid = cache[f"blocks.{layer}.hook_resid_pre"]
            assert torch.equal(run_from(model, layer, resid, []), whole)


def test_it_equals_the_whole_pass_to_the_bit(model, tokens):
    assert_resumes(model, tokens)


@pytest.mark.parametrize("native", [lambda: load("adder_6d_2l"), lambda: planted_head().model])
def test_it_does_so_for_adders_and_native_models(native):
    assert_resumes(native(), torch.arange(10).expand(3, -1))


def test_hooks_change_what_comes_after(model, tokens):
    name = "blocks.1.attn.hook_z"
    with torch.no_grad():
        hooks = [(name, lambda z, hook: z * 0.5)]
        expected = model.run_with_hooks(tokens, fwd_hooks=hooks, return_type="logits")
        resid = model.run_with_cache(tokens)[1]["blocks.1.hook_resid_pre"]
        found = run_from(model, 1, resid, hooks)
        assert not torch.equal(found, model(tokens))
    assert torch.equal(found, expected)


def test_blocks_before_are_not_computed_and_come_back(model, tokens):
    calls = []
    handle = model.blocks[0].attn.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        resid = model.run_with_cache(tokens)[1]["blocks.1.hook_resid_pre"]
        assert calls == [1]
        run_from(model, 1, resid, [])
        assert calls == [1]
        with pytest.raises(ZeroDivisionError):
            run_from(model, 1, resid, [("blocks.1.attn.hook_z", lambda z, hook: 1 / 0)])
        model(tokens)
        assert calls == [1, 1]
    handle.remove()


@pytest.mark.skipif(not HAS_BRIDGE, reason="3.9 reads no GPT-Neo of a folder")
def test_windows_are_measured_not_read(tmp_path):
    """GPT-Neo's config has no layer_types; half of its layers look back at 16 tokens."""
    sizes = {"hidden_size": 48, "num_layers": 4, "num_heads": 4, "window_size": 16}
    alternating = {"attention_types": [[["global", "local"], 2]], "bos_token_id": None}
    model = load(str(save(tmp_path, tiny("gpt_neo", **sizes, **alternating))))
    text = torch.tensor(tokenize(model, "Better safe than sorry, the sea is calm."))
    assert windows(model, text) == [None, 16, None, 16]
    assert windows(model, text[:16]) == [None] * 4
    assert windows(model, text[:17]) == [None, 16, None, 16]


def test_hard_attention_is_no_window():
    """A planted head attends to one token and gives nothing to all others, to the bit."""
    model = planted_head().model
    assert set(windows(model, torch.arange(16) % 10)) == {None}
