"""Ranks and causal tracing against whole passes with one hook, and on a model that is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lenses.states.decoding import sites
from lenses.states.facts import LAST, SUBJECT, added_cases, told_cases
from lenses.states.recall import NOISE, READ, Plan, embedding_ranks, ranks, trace
from models import load
from models.planted.recall import LOOKED_UP, MOVED, SAID, planted_recall
from models.readout import unembedding
from prompts.additions import Addition

PLAN = Plan((0, 1), ((0, 1), (0, 2)))


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_2l")


@pytest.fixture(scope="module")
def cases(adder):
    every = added_cases(adder.card.arithmetic, Addition(6, 12, 0).sums, 0).cases
    return every[2::6]  # of one place, and so of one length


@pytest.fixture(scope="module")
def traced(adder, cases):
    return trace(adder, cases, PLAN, seed=3)


def probability(model, case, tokens, hooks=()):
    logits = model.run_with_hooks(torch.from_numpy(tokens)[None], fwd_hooks=list(hooks))
    return logits[0, -1].softmax(-1)[case.answer].item()


def put(name, model, case, pos):
    """A hook that puts back what the clean run has there."""
    _, cache = model.run_with_cache(torch.from_numpy(case.ids)[None])
    clean = cache[name][0, pos].clone()

    def do(act, hook):
        act[0, pos] = clean
        return act

    return name, do


def noise(case, seed):
    def do(act, hook):
        rows = act[0, slice(*case.subject)]
        rng = torch.Generator().manual_seed(seed * 1_000_003 + case.number)
        drawn = torch.randn(rows.shape, generator=rng, dtype=torch.float64)
        act[0, slice(*case.subject)] = rows + (NOISE * rows.std() * drawn).float()
        return act

    return "blocks.0.hook_resid_pre", do


def test_clean_and_corrupted_are_whole_passes(adder, cases, traced):
    for number, case in enumerate(cases):
        assert traced.clean[number] == pytest.approx(probability(adder, case, case.ids), abs=1e-5)
        wanted = [
            probability(adder, case, case.other),
            probability(adder, case, case.ids, [noise(case, 3)]),
        ]
        assert traced.corrupted[number] == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("layer", [0, 1])
def test_a_state_put_back_is_a_hook_in_a_whole_pass(adder, cases, traced, layer):
    for number, case in enumerate(cases):
        for place in (SUBJECT, LAST):
            pos = dict(case.places())[place]
            back = put(f"blocks.{layer}.hook_resid_post", adder, case, pos)
            wanted = [
                probability(adder, case, case.other, [back]),
                probability(adder, case, case.ids, [noise(case, 3), back]),
            ]
            assert traced.state[number, :, layer, place] == pytest.approx(wanted, abs=1e-5)


def test_a_place_of_several_tokens_is_their_mean(adder, cases, traced):
    case, further = cases[0], 4
    found = [
        probability(adder, case, case.other, [put("blocks.0.hook_resid_post", adder, case, pos)])
        for place, pos in case.places()
        if place == further
    ]
    assert len(found) > 3
    assert traced.state[0, 0, 0, further] == pytest.approx(np.mean(found), abs=1e-5)
    assert np.isnan(traced.state[0, :, :, 0]).all()  # the only token of a subject is its last


@pytest.mark.parametrize(("part", "name"), [(0, "hook_attn_out"), (1, "hook_mlp_out")])
def test_outputs_of_a_run_are_put_back_together(adder, cases, traced, part, name):
    for number, case in enumerate(cases):
        for read, place in enumerate(READ):
            pos = dict(case.places())[place]
            for run, layers in enumerate(([0], [0, 1])):
                back = [put(f"blocks.{layer}.{name}", adder, case, pos) for layer in layers]
                wanted = probability(adder, case, case.other, back)
                assert traced.run[number, part, read, run] == pytest.approx(wanted, abs=1e-5)


def test_what_both_runs_share_changes_nothing(traced):
    assert traced.before == pytest.approx(traced.corrupted[:, 0], abs=1e-6)
    assert traced.state[:, 0, -1, LAST] == pytest.approx(traced.clean, abs=1e-6)


def test_batches_do_not_matter(adder, cases, traced):
    alone = trace(adder, cases[1:], PLAN, seed=3)
    assert alone.state == pytest.approx(traced.state[1:], abs=1e-5, nan_ok=True)
    assert alone.run == pytest.approx(traced.run[1:], abs=1e-5)


def test_ranks_are_those_of_every_state_read_out(adder, cases):
    case, where = cases[0], sites(adder)
    found = ranks(adder, where, cases[:2], [(0, 4), (1, len(case.ids) - 1)])
    read = unembedding(adder)
    for turn, (row, pos) in enumerate([(0, 4), (1, len(case.ids) - 1)]):
        _, cache = adder.run_with_cache(torch.from_numpy(cases[row].ids)[None])
        for number, site in enumerate(where):
            logits = read(cache[site.hook][0, pos])
            for word, token in enumerate((cases[row].answer, cases[row].rival)):
                assert found.rank[number, turn, word] == (logits >= logits[token]).sum()
                told = logits.log_softmax(-1)[token].item()
                assert found.log_probability[number, turn, word] == pytest.approx(told, abs=1e-4)
        assert found.said[turn].tolist() == logits.topk(2).indices.tolist()


def test_the_embedding_of_a_subject_is_the_mean_of_its_tokens(adder, cases):
    case = replace(cases[0], subject=(1, 3), other=None)
    logits = unembedding(adder)(adder.W_E[torch.from_numpy(case.ids[1:3])].mean(0))
    wanted = [int((logits >= logits[token]).sum()) for token in (case.answer, case.rival)]
    assert embedding_ranks(adder, [case]).tolist() == [wanted]


def test_the_planted_facts_are_found_where_they_are():
    planted = planted_recall()
    cases = told_cases(planted.model, planted.facts, 0).cases[1:5]
    found = trace(planted.model, cases, Plan.of(4, 1, 0), 0)
    at_subject, at_last = (found.state[:, 0, :, place] > 0.9 for place in (SUBJECT, LAST))
    assert (at_subject == [True, True, False, False]).all()
    assert (at_last == [False, False, True, True]).all()
    back = found.run > 0.9  # [case component read run], runs of one layer
    wanted = np.zeros((2, 2, 4), dtype=bool)
    wanted[1, 0, LOOKED_UP] = wanted[0, 1, MOVED] = wanted[1, 1, SAID] = True
    assert (back == wanted).all()


def test_the_last_layer_is_always_among_those_put_back():
    assert Plan.of(30, 2, 0) == Plan(
        tuple(range(1, 30, 2)), tuple((n, n + 6) for n in range(0, 25, 3))
    )
    assert Plan.of(1, 2, 0) == Plan((0,), ((0, 1),))
    assert Plan.of(3, 5, 9) == Plan((2,), ((0, 3),))
