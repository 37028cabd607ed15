"""Gradients by states against finite differences, also where the prediction is certain."""

import pytest
import torch

from lenses.flow.gradients import state_gradients
from models import load
from prompts.additions import Addition

STEP = 1e-4


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_2l").double()


@pytest.fixture(scope="module")
def tokens(adder):
    form = adder.card.arithmetic
    written = form.write(Addition(form.digits, 1, seed=0, padded=form.pad).sums)
    return torch.from_numpy(written.tokens[0, : written.at[0, 1]].copy())


def log_p(model, tokens, target, depth, pos, step):
    """Of the target after a step of one state, with all its digits where p is nearly 1."""

    def move(state, hook):
        moved = state.clone()
        moved[0, pos] += step
        return moved

    name = f"blocks.{depth - 1}.hook_resid_post" if depth else "blocks.0.hook_resid_pre"
    logits = model.run_with_hooks(tokens[None], fwd_hooks=[(name, move)])[0, -1]
    others = torch.cat([logits[:target], logits[target + 1 :]])
    return -torch.nn.functional.softplus(others.logsumexp(0) - logits[target]).item()


@pytest.mark.parametrize("rank", [0, 1])
def test_gradients_are_finite_differences(adder, tokens, rank):
    target = int(adder(tokens[None])[0, -1].argsort(descending=True)[rank])
    found = state_gradients(adder, tokens, target).double()
    assert found.shape == (3, len(tokens), adder.cfg.d_model)
    for depth, pos in ((0, 3), (0, len(tokens) - 1), (1, 8), (1, len(tokens) - 1),
                       (2, len(tokens) - 1)):  # fmt: skip
        length = found[depth, pos].norm()
        ahead = STEP * found[depth, pos] / length
        with torch.inference_mode():
            up, down = (log_p(adder, tokens, target, depth, pos, s * ahead) for s in (1, -1))
        assert abs((up - down) / (2 * STEP) / length - 1) < 1e-3


def test_states_that_nothing_reads_have_no_gradient(adder, tokens):
    found = state_gradients(adder, tokens, 0)
    assert (found[-1, :-1] == 0).all()
    assert (found[0].norm(dim=-1) > 0).all()
