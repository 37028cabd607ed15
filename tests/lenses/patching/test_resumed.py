"""Passes taken up where they change against whole passes with plain hooks."""

import numpy as np
import pytest
import torch

from lenses.patching.interchange import Reading, Site, activations, interchange
from lenses.patching.resumed import HOOKS, Change, Resumable, alike
from tests.lenses.blocks import configs, tiny

TOKENS = np.random.default_rng(0).integers(0, 50, (4, 9))
READ = np.array([[2, 5, 7], [1, 5, 8], [3, 4, 8], [0, 6, 8]])
BY_PARTS = {"gpt2", "grouped queries"}
KINDS = configs(layers=3)


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def model(kind):
    return tiny(KINDS[kind])


@pytest.fixture(scope="module")
def clean(model):
    return Resumable(model, TOKENS, READ, 3)


def added(layer: int, pos: range, kind: str):
    """An edit that adds one to a component at some pos; the pos are marked by their numbers."""

    def edit(seen: str, at: int, act, there: np.ndarray):
        chosen = torch.from_numpy(np.isin(there, pos))
        wide = chosen.view(1, -1, *[1] * (act.ndim - 2))
        return act + wide * 1.0 if (seen, at) == (kind, layer) else act

    return edit


@torch.no_grad()
def whole(model, row: np.ndarray, layer: int, pos: range, kind: str) -> torch.Tensor:
    """The same by a whole pass and a plain hook."""
    edit, every = added(layer, pos, kind), np.arange(TOKENS.shape[1])
    hook = (f"blocks.{layer}.{HOOKS[kind]}", lambda act, hook: edit(kind, layer, act, every))
    logits = model.run_with_hooks(torch.from_numpy(TOKENS[row]), fwd_hooks=[hook])
    return logits[torch.arange(len(row))[:, None], torch.from_numpy(READ[row])]


def test_parts_are_known_where_they_give_the_models_logits(kind, clean) -> None:
    assert (clean.parts is not None) is (kind in BY_PARTS)


@pytest.mark.parametrize("pos", [range(4, 5), range(2, 9), range(8, 9), range(9)], ids=str)
@pytest.mark.parametrize("what", HOOKS)
@pytest.mark.parametrize("layer", range(3))
def test_a_change_is_as_in_a_whole_pass(model, clean, layer, what, pos) -> None:
    row = np.array([0, 3, 3, 1])
    found = clean.changed(Change(row, layer, pos, added(layer, pos, what)))
    torch.testing.assert_close(found, whole(model, row, layer, pos, what), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layer", range(3))
def test_some_of_the_prompts_and_their_union_are_as_all_of_them(clean, layer) -> None:
    pos = range(3, 5)

    def found(prompts, *row):
        return prompts.changed(Change(np.array(row), layer, pos, added(layer, pos, "z")))

    torch.testing.assert_close(found(clean[np.array([3, 1])], 1, 0, 1), found(clean, 1, 3, 1))
    torch.testing.assert_close(found(clean[1:][:2], 0, 1), found(clean, 1, 2))
    both = clean[:1].joined(clean[np.array([False, True, True, True])])
    torch.testing.assert_close(found(both, 0, 1, 2, 3), found(clean, 0, 1, 2, 3))


@pytest.mark.parametrize("layer", range(3))
def test_what_stands_before_every_change_need_not_be_kept(model, clean, layer) -> None:
    some = Resumable(model, TOKENS, READ, 3, first=4)
    assert {act.shape[1] for act in some.z + some.resid} == {5 if some.parts else 9}
    for pos in (range(4, 5), range(5, 9)):
        change = Change(np.array([3, 0]), layer, pos, added(layer, pos, "z"))
        assert torch.equal(some.changed(change), clean.changed(change))
    if some.parts:
        change = Change(np.array([0]), layer, range(3, 4), added(layer, range(3, 4), "z"))
        with pytest.raises(ValueError, match="pos 3 was not kept; the first kept is 4"):
            some.changed(change)


def test_what_cannot_be_reached_is_not_computed(clean) -> None:
    def refuse(*_):
        raise AssertionError

    late = Change(np.array([0, 0]), 0, range(8, 9), refuse)  # read up to pos 7
    between = Change(np.array([1, 2]), 2, range(6, 7), refuse)  # in the last layer, not read
    for change in (late, between):
        assert torch.equal(clean.changed(change), clean.logits[change.row])


def test_exchanges_of_several_components_are_as_one_at_a_time(model) -> None:
    other = np.random.default_rng(1).integers(0, 50, TOKENS.shape)
    source, tokens = activations(model, other, 4), np.array([[1, 2]] * 4)
    heads = range(model.cfg.n_heads)
    sites = [
        Site("a", heads=((0, 1), (2, 0))),
        Site("b", heads=tuple((1, h) for h in heads), mlps=(2,)),
        Site("c", mlps=(0, 1)),
        Site("d", resid=(1,)),
        Site("e"),
    ]
    at = np.random.default_rng(2).integers(0, 9, (len(sites), 4))
    said = interchange(model, TOKENS, source, sites, at, Reading(READ, 1, tokens), 5)
    for i, site in enumerate(sites):
        for row in range(4):
            logits = one_by_one(model, source, site, at[i, row], row)
            assert (said.token[i, row] == logits.argmax(-1).numpy()).all()
            expected = float(logits[1, 2] - logits[1, 1])
            assert said.margin[i, row] == pytest.approx(expected, abs=1e-4)


@torch.no_grad()
def one_by_one(model, source, site, pos, row):
    """Logits at the reads of one prompt, by plain hooks."""

    def put(acts, heads):
        def hook(act, hook):
            act = act.clone()
            act[0, pos, heads] = acts[row, pos, heads]
            return act

        return hook

    parts = [("z", layer, head) for layer, head in site.heads]
    parts += [("mlp", layer, slice(None)) for layer in site.mlps]
    parts += [("resid", layer, slice(None)) for layer in site.resid]
    hooks = [
        (f"blocks.{layer}.{HOOKS[kind]}", put(getattr(source, kind)[layer], heads))
        for kind, layer, heads in parts
    ]
    return model.run_with_hooks(torch.from_numpy(TOKENS[row : row + 1]), fwd_hooks=hooks)[
        0, READ[row]
    ]


def test_rows_that_are_alike_come_together_and_none_is_lost() -> None:
    keys = np.random.default_rng(3).integers(0, 3, (2, 50))
    parts = list(alike(keys, 4))
    assert sorted(np.concatenate(parts).tolist()) == list(range(50))
    assert all(len(part) <= 4 and (keys[:, part] == keys[:, part[:1]]).all() for part in parts)
