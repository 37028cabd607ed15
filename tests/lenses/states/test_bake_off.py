import numpy as np
import pytest
import torch

from lenses.kept import PerPrompt
from lenses.states.bake_off import (
    POSITIONS,
    PUSH,
    PUSHED,
    SCORES,
    Truth,
    as_long,
    bake_off,
    boxes,
    decode_text,
    errors,
    plan_of,
    push_texts,
    ranks,
    score_texts,
    shares,
    states_of,
    states_of_each,
    statistics,
    truth_of,
)
from lenses.states.decoders import BASIC, DECODERS, NORMS, lenses_of
from lenses.states.decoding import Site
from lenses.states.ridge import SecondMoments
from models import load

TEXT = [12, 0, 1, 2, 3, 4, 5, 10, 9, 8, 7, 6, 5, 4, 11, 1, 0]


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_2l")


@pytest.fixture(scope="module")
def plan(adder):
    return plan_of(adder, 9)


@pytest.fixture(scope="module")
def lenses(adder, plan):
    streams = [site for site in plan.where if site.part not in ("attn_out", "mlp_out")]
    random, moments, states = torch.Generator().manual_seed(0), SecondMoments(), []
    for _ in range(20):
        ids = torch.randint(0, 12, (15,), generator=random).tolist()
        states.append(states_of(adder, ids, plan.where))
        moments.update(states[-1][[plan.where.index(s) for s in streams]], states[-1][-1])
    mean = torch.cat(states, dim=1).mean(1)
    return lenses_of(adder, plan.where, mean, moments, streams, {}, adder.W_E.detach())


@pytest.fixture(scope="module")
def states(adder, plan):
    return states_of(adder, TEXT, plan.where)


def test_a_plan_ends_with_the_last_layer(adder, plan) -> None:
    assert list(plan.blocks) == [0, 1]
    assert [site.passed for site in plan.where] == sorted(site.passed for site in plan.where)
    assert plan.where[0] == Site(0, "embedding")
    assert [plan.where[row] for row in plan.scored] == [
        Site(0, "embedding"), Site(0, "resid_post"), Site(1, "resid_post"),
    ]  # fmt: skip
    assert list(plan.middle) == [1]
    assert list(plan.pushed) == [Site(0, "resid_post")]


def test_a_model_of_one_layer_is_read_within_it() -> None:
    plan = plan_of(load("adder_6d_1l"), 9)
    assert [plan.where[row].part for row in plan.scored] == ["embedding", "resid_mid", "resid_post"]
    assert list(plan.pushed) == [Site(0, "embedding")]


def test_scores_are_those_of_their_definitions(lenses, states) -> None:
    pos, site = [1, 6, 11], 4
    truth = truth_of(lenses, states[-1], TEXT, pos, np.random.default_rng(0))
    found = bake_off(lenses, [site], states[[site]][:, pos], truth)
    assert found.scores.shape == (1, len(NORMS), len(DECODERS), len(SCORES), 3)
    final = lenses.own(states[-1][pos]).softmax(-1).double()
    for decoder, norm, logits in lenses.logits(site, states[site][pos]):
        log_p = logits.double().log_softmax(-1)
        order = log_p.argsort(-1, descending=True)
        rank = [
            order.argsort(-1)[range(3), ids] for ids in (final.argmax(-1), [TEXT[p] for p in pos])
        ]
        others = truth.other
        expected = {
            "kl": (final * (final.log() - log_p)).sum(-1),
            "agreement": (rank[0] == 0).double(), "agreement_5": (rank[0] < 5).double(),
            "recovery": (rank[1] == 0).double(), "recovery_5": (rank[1] < 5).double(),
            "next_gain": log_p[range(3), [TEXT[p + 1] for p in pos]] - log_p[range(3), others],
            "entropy": -(log_p.exp() * log_p).sum(-1),
            "kl_shuffled": (truth.shuffled * (truth.shuffled.log() - log_p)).sum(-1),
        }  # fmt: skip
        cell = found.scores[0, NORMS.index(norm), DECODERS.index(decoder)]
        for name, values in expected.items():
            assert np.allclose(cell[SCORES.index(name)], values.numpy(), atol=1e-3), name
        top = found.top[0, NORMS.index(norm), DECODERS.index(decoder)]
        assert top.tolist() == order[:, 0].tolist()
    assert np.isnan(found.scores[0, :, DECODERS.index("jacobian")]).all()
    assert np.isnan(found.scores[0, NORMS.index("whitened")]).all()
    assert (found.top[0, :, DECODERS.index("jacobian")] == -1).all()


def test_what_a_state_does_not_tell_apart_is_not_on_top(lenses) -> None:
    flat = torch.zeros(1, 13).log_softmax(-1)
    p, ids = flat.exp(), torch.tensor([3])
    truth = Truth(ids, ids, torch.tensor([4]), flat, p, p)
    zero = torch.zeros(1, 1, lenses.mean.shape[1])
    found = bake_off(lenses, [0], zero, truth).scores[0, NORMS.index("none"), DECODERS.index("E")]
    assert found[SCORES.index("agreement")] == 0
    assert found[SCORES.index("recovery_5")] == 0


def test_truth_shuffles_the_vocabulary_and_takes_others_from_elsewhere(lenses, states) -> None:
    pos = list(range(1, 15))
    truth = truth_of(lenses, states[-1], TEXT, pos, np.random.default_rng(1))
    assert truth.own.tolist() == [TEXT[p] for p in pos]
    assert truth.next.tolist() == [TEXT[p + 1] for p in pos]
    assert not (truth.other == truth.next).any()
    assert not (truth.other == truth.own).any()
    assert set(truth.other.tolist()) <= set(TEXT[1:])
    assert torch.allclose(truth.p.sort(-1).values, truth.shuffled.sort(-1).values)
    assert not torch.allclose(truth.p, truth.shuffled)
    lonely = truth_of(lenses, states[-1], [3, 3, 4, 4], [1], np.random.default_rng(0))
    assert lonely.other.tolist() == lonely.next.tolist()


def test_boxes_hold_the_likeliest_tokens(lenses, states) -> None:
    found = boxes(lenses, [2, 5], states[[2, 5]], 3)
    for row, site in enumerate((2, 5)):
        for decoder, norm, logits in lenses.logits(site, states[site]):
            cell = row, NORMS.index(norm), DECODERS.index(decoder)
            p, ids = logits.softmax(-1).topk(3)
            assert np.allclose(found.p[cell], p.numpy(), atol=1e-5)
            assert np.array_equal(found.ids[cell], ids.numpy())
            entropy = torch.special.entr(logits.softmax(-1)).sum(-1)
            assert np.allclose(found.entropy[cell], entropy.numpy(), atol=1e-4)


def test_the_surer_of_two_is_read_of_each_state(adder, lenses, states) -> None:
    found = boxes(lenses, [2], states[[2]], 3)
    truth = truth_of(lenses, states[-1], TEXT, [1, 6, 11], np.random.default_rng(0))
    scored = bake_off(lenses, [2], states[[2]][:, [1, 6, 11]], truth)
    E, U, surer = (DECODERS.index(name) for name in ("E", "U", "surer"))
    p = found.p[0, :, :, :, 0]
    by_U = p[:, U] > p[:, E]
    assert 0 < by_U.mean() < 1
    assert np.array_equal(p[:, surer], np.maximum(p[:, U], p[:, E]))
    for values in (found.ids[0], found.entropy[0][..., None]):
        assert np.array_equal(
            values[:, surer], np.where(by_U[..., None], values[:, U], values[:, E])
        )
    chosen = by_U[:, [1, 6, 11]]
    for values in (scored.scores[0], scored.top[0][:, :, None]):
        kept = np.where(chosen[:, None], values[:, U], values[:, E])
        assert np.array_equal(values[:, surer], kept, equal_nan=True)


def test_ranks_count_what_is_likelier(lenses, states) -> None:
    found = ranks(lenses, [0, len(lenses.where) - 1], states[[0, -1], -1], torch.tensor([3, 7]))
    logits = lenses.own(states[-1, -1])
    expected = [int((logits >= logits[i]).sum()) for i in (3, 7)]
    assert found[DECODERS.index("U"), 1].tolist() == expected
    assert (found[DECODERS.index("jacobian")] == 0).all()


def test_parts_of_a_block_sum_to_its_state(plan, states) -> None:
    found = shares(plan.where, states)
    assert found.shape == (2 * len(TEXT), 3)
    assert np.allclose(found.sum(1), 1)
    at = [plan.where.index(Site(1, p)) for p in ("mlp_out", "resid_post")]
    mlp, post = (states[n, 4].double() for n in at)
    assert np.isclose(found[len(TEXT) + 4, 2], (mlp @ post / (post @ post)).item(), atol=1e-5)


def test_errors_are_of_those_that_should_be_the_output(adder, lenses, states) -> None:
    own = adder(torch.tensor([TEXT]))[0]
    found = dict(zip(DECODERS, errors(lenses, states[-1], own), strict=True))
    assert max(found[d] for d in ("U", "linear", "quadratic", "ridge")) < 1e-5
    assert all(np.isnan(found[d]) for d in ("E", "surer", "jacobian"))
    assert errors(lenses, states[-1], own + 1)[DECODERS.index("U")] > 0.01


def test_random_vectors_are_as_long(states) -> None:
    found = as_long(states[3], np.random.default_rng(0))
    assert torch.allclose(found.norm(dim=-1), states[3].norm(dim=-1), rtol=1e-4)
    assert torch.cosine_similarity(found, states[3]).abs().max() < 0.5


def test_a_push_is_an_edit_of_the_state(adder, lenses) -> None:
    """By hand: the direction, at PUSH times the state's length, added where the block ends.

    Beside a shorter text, which changes nothing.
    """
    site, pos = Site(0, "resid_post"), len(TEXT) // 2
    rngs = [np.random.default_rng(seed) for seed in range(2)]
    found = push_texts(adder, lenses, [site], [TEXT, TEXT[:9]], rngs)[0]
    at = lenses.where.index(site)
    state = states_of(adder, TEXT, [site])[0, pos]
    token = lenses.own(state).argmax()
    way = torch.nn.functional.normalize(lenses.direction(at, "U", token[None])[0], dim=0)

    def with_way(x: torch.Tensor, hook: object) -> torch.Tensor:
        x[:, pos] += PUSH * state.norm() * way
        return x

    tokens = torch.tensor([TEXT])
    after = adder.run_with_hooks(tokens, fwd_hooks=[(site.hook, with_way)])
    both = [x[0, pos].log_softmax(-1)[token] for x in (after, adder(tokens))]
    assert np.isclose(found[0, PUSHED.index("U"), 0], (both[0] - both[1]).item(), atol=1e-4)
    assert np.isnan(found[0, PUSHED.index("jacobian")]).all()
    assert found.shape == (1, len(PUSHED), 2)


def test_statistics_are_differences_of_scores(adder, lenses, plan) -> None:
    kept, pushes, texts = PerPrompt(), PerPrompt(), [TEXT, TEXT[::-1]]
    rngs = [np.random.default_rng(seed) for seed in range(2)]
    kept.update(**score_texts(adder, lenses, plan, texts, rngs))
    pushes.update(effects=push_texts(adder, lenses, plan.pushed, texts, rngs))
    assert kept["top"].shape == (2, 3, len(NORMS), len(DECODERS), POSITIONS)
    found = statistics(kept, plan, pushes)
    final, kl = NORMS.index("final"), SCORES.index("kl")
    own = kept["scores"][:, 1, final, :, kl]
    nearer = own[:, DECODERS.index("U")] - own[:, DECODERS.index("ridge")]
    assert np.allclose(found["ridge lens nearer"], nearer)
    assert np.isnan(found["Jacobian lens nearer"]).all()
    n = PUSHED.index("ridge")
    assert np.allclose(
        found["push ridge"], pushes["effects"][:, 0, n, 0] - pushes["effects"][:, 0, n, 1]
    )


def test_all_that_is_shown_of_a_text_has_a_row_a_box(adder, lenses, plan) -> None:
    found = decode_text(adder, lenses, TEXT, 2)
    count = len(plan.where) * len(BASIC) * len(DECODERS) * len(TEXT)
    assert found["ids"].shape == found["p"].shape == (count, 2)
    assert found["entropy"].shape == (count,)
    assert found["ranked"].tolist()[0][-1] == TEXT[-1]


def test_texts_score_alike_by_themselves_and_together(adder, lenses, plan) -> None:
    texts = [TEXT, TEXT[::-1], TEXT[3:]]
    together = score_texts(adder, lenses, plan, texts, [np.random.default_rng(n) for n in range(3)])
    for n, ids in enumerate(texts):
        alone = score_texts(adder, lenses, plan, [ids], [np.random.default_rng(n)])
        for name, values in alone.items():
            assert np.allclose(together[name][n], values[0], atol=1e-4, equal_nan=True), name


def test_only_the_final_norm_is_read_where_that_is_asked_for(lenses, states) -> None:
    every = {d: x for d, norm, x in lenses.logits(3, states[3]) if norm == "final"}
    final = list(lenses.short().logits(3, states[3]))
    assert {d for d, _, _ in final} == set(every)
    assert all(norm == "final" and torch.equal(x, every[d]) for d, norm, x in final)


def test_texts_read_together_have_the_states_they_have_alone(adder, plan) -> None:
    together = states_of_each(adder, [TEXT, TEXT[:5]], plan.where)
    assert together[1].shape[1] == 5
    for ids, found in zip((TEXT, TEXT[:5]), together, strict=True):
        _, cache = adder.run_with_cache(torch.tensor([ids]))
        for site, state in zip(plan.where, found, strict=True):
            assert torch.allclose(state, cache[site.hook][0], atol=1e-5)
