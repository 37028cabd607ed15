"""TransformerLens 3.9 and 4.x: the same hooks with the same shapes, and the same numbers."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from lenses.heads import read
from lenses.patching import without_heads
from models import load
from models.readout import unembedding
from prompts.additions import Addition

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "versions.md").read_text("utf-8")
STORED = Path(__file__).with_name("same_numbers.json")
ROWS = re.findall(r"^\| `(\S+)` \| (.+?) \| (.+?) \|$", PAGE, re.M)
SIZES = {"batch": 3, "pos": 22, "d_model": 128, "head": 4, "query": 22, "key": 22, "d_head": 32,
         "d_mlp": 512, "d_vocab": 13, "1": 1}  # fmt: skip


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_2l")


@pytest.fixture(scope="module")
def tokens(adder):
    return torch.from_numpy(adder.card.arithmetic.write(Addition(6, 3, 0).sums).tokens)


@pytest.fixture(scope="module")
def cache(adder, tokens):
    return adder.run_with_cache(tokens)[1]


def numbers(model, tokens) -> dict[str, np.ndarray]:
    """What a version measures: heads, states, and what is predicted with and without heads."""
    found = read(model, tokens, results=[(0, 1), (1, 2)])
    _, cache = model.run_with_cache(tokens)
    last = cache["blocks.1.hook_resid_post"]
    return {
        "log-probabilities": model(tokens).log_softmax(-1)[:, -8:],
        "their readout from the last state": unembedding(model)(last).log_softmax(-1)[:, -8:],
        "lengths of the results of L0H1 and L1H2": torch.stack(
            [found.result[at].norm(dim=-1) for at in ((0, 1), (1, 2))]
        ),
        "attention of layer 1 at the last token": found.pattern[:, 1, :, -1],
        "losses without L0H1, set to zero": without_heads(model, tokens, [(0, 1)]).losses,
        "losses without L1H2, set to its mean": without_heads(
            model, tokens, [(1, 2)], instead="mean"
        ).losses,
    }


@pytest.mark.contract
def test_the_numbers_are_the_stored_ones(adder, tokens):
    stored = json.loads(STORED.read_text("utf-8"))
    with torch.inference_mode():
        found = numbers(adder, tokens)
    assert found.keys() == stored.keys()
    for name, values in found.items():
        np.testing.assert_allclose(values, stored[name], rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.contract
@pytest.mark.parametrize(("hook", "axes"), [row[:2] for row in ROWS])
def test_a_hook_has_the_shape_that_the_page_says(cache, hook, axes):
    name = hook.replace("{l}", "1")
    assert tuple(cache[name].shape) == tuple(SIZES[axis] for axis in axes.split())


def test_the_page_has_a_table_of_hooks():
    assert len(ROWS) > 15
