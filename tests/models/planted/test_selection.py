"""A model whose heads select what their weights were written to select."""

import pytest
import torch

from models.planted.selection import FIRST, planted_selection

DIGITS = torch.tensor([3, 1, 4, 5, 9, 2, 6])
TEXT = torch.cat([torch.tensor([12]), DIGITS, DIGITS])[None]


@pytest.fixture(scope="module")
def planted():
    return planted_selection()


@pytest.fixture(scope="module")
def seen(planted):
    logits, cache = planted.model.run_with_cache(TEXT)
    return logits, {
        name: cache[f"blocks.{layer}.attn.hook_pattern"][0, head]
        for name, (layer, head) in planted.heads.items()
    }


def test_its_identities_hold(planted):
    assert planted.model.identities
    assert all(identity.ok for identity in planted.model.identities)


@pytest.mark.parametrize(
    ("name", "offset", "first"),
    [("previous", 1, 1), ("duplicate", 7, 8), ("induction", 6, 8)],
)
def test_a_head_attends_where_it_was_made_to(name, offset, first, seen):
    pattern = seen[1][name]
    rows = torch.arange(first, TEXT.shape[1])
    assert (pattern[rows, rows - offset] > 0.999).all()


def test_the_sink_is_the_first_token(seen):
    assert (seen[1]["sink"][:, 0] > 0.999).all()


@pytest.mark.parametrize("name", ["content", "position", "sum"])
def test_scores_are_the_stated_effects(name, planted, seen):
    length = TEXT.shape[1]
    expected = torch.zeros(length)
    if name in planted.content:
        expected = expected + planted.content[name][TEXT[0]]
    if name in planted.position:
        expected = expected + planted.position[name][:length]
    assert torch.allclose(seen[1][name][-1], expected.softmax(0), atol=1e-6)


def test_what_followed_a_token_before_is_said_again(seen):
    rows = torch.arange(8, TEXT.shape[1] - 1)
    assert (seen[0][0, rows].argmax(-1) == TEXT[0, rows + 1]).all()


def test_which_head_does_what_is_drawn_by_seed(planted):
    assert len({planted.heads[name] for name in FIRST}) == len(FIRST)
    others = [planted_selection(seed).heads for seed in (1, 2)]
    assert all(heads != planted.heads for heads in others)
    assert planted_selection(1).heads == others[0]
