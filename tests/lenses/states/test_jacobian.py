import pytest
import torch

from lenses.states.decoding import Site
from lenses.states.jacobian import MeanJacobians, mean_jacobians, text_jacobians
from models import load
from models.passes import run_from
from tests.models.tiny import LLAMA, save, tiny

TEXTS = [[3, 11, 5, 0, 7, 10, 2, 9], [1, 4, 10, 6, 8, 11, 3]]


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_2l")


def naive(model, tokens: list[int], skip: int) -> torch.Tensor:
    """Mean over sources, sum over targets, of the whole Jacobian from block 0 to the last state."""
    _, cache = model.run_with_cache(torch.tensor([tokens]))
    last = f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"

    def after(state: torch.Tensor) -> torch.Tensor:
        found = []
        run_from(model, 1, state[None], [(last, lambda s, hook: found.append(s))])
        return found[0][0]

    start = cache["blocks.0.hook_resid_post"][0].detach()
    whole = torch.autograd.functional.jacobian(after, start)  # [target d source d]
    valid = slice(skip, len(tokens) - 1)
    return whole[valid, :, valid].sum(0).mean(1)


@pytest.mark.parametrize("skip", [0, 2])
def test_it_is_the_mean_of_the_whole_jacobian(adder, skip) -> None:
    expected = torch.stack([naive(adder, text, skip) for text in TEXTS]).mean(0)
    found = mean_jacobians(adder, TEXTS, layers=[0], chunk=50, skip=skip)
    assert torch.allclose(found[0], expected, atol=1e-6)
    assert (expected - torch.eye(len(expected))).abs().max() > 0.01


def test_the_last_layer_is_the_identity_and_nothing_else_is(adder) -> None:
    found = mean_jacobians(adder, TEXTS[:1])
    assert found.shape == (2, adder.cfg.d_model, adder.cfg.d_model)
    assert torch.equal(found[1], torch.eye(adder.cfg.d_model))
    assert not torch.allclose(found[0], found[1], atol=0.01)


def test_a_state_within_a_block_keeps_its_way_around_the_mlp(adder) -> None:
    """What leaves a block is the state within it and what its MLP makes of it, token by token."""
    found = text_jacobians(adder, TEXTS[0], [Site(1, "resid_mid")], chunk=64)[0]
    _, cache = adder.run_with_cache(torch.tensor(TEXTS[:1]))
    mid, rows = cache["blocks.1.hook_resid_mid"][0], []
    block = adder.blocks[1]

    def after(state: torch.Tensor) -> torch.Tensor:
        return state + block.mlp(block.ln2(state[None, None]))[0, 0]

    for state in mid[1:-1]:
        rows.append(torch.autograd.functional.jacobian(after, state.detach()))
    assert torch.allclose(found, torch.stack(rows).mean(0), atol=1e-5)


def test_sizes_of_chunks_change_nothing(adder) -> None:
    where = [Site(0, "embedding"), Site(0, "resid_post")]
    one = text_jacobians(adder, TEXTS[0], where, chunk=7)
    other = text_jacobians(adder, TEXTS[0], where, chunk=200)
    assert torch.allclose(one, other, atol=1e-6)


def test_weights_are_left_as_they_were(adder) -> None:
    before = [weight.requires_grad for weight in adder.parameters()]
    mean_jacobians(adder, TEXTS[:1], layers=[0], chunk=64)
    assert [weight.requires_grad for weight in adder.parameters()] == before
    assert all(weight.grad is None for weight in adder.parameters())


def test_a_text_that_is_too_short_is_refused(adder) -> None:
    with pytest.raises(ValueError, match="2 tokens; a Jacobian needs 3"):
        mean_jacobians(adder, [[1, 2]])


def test_it_agrees_with_transformer_lens(tmp_path) -> None:
    theirs = pytest.importorskip("transformer_lens.tools.analysis.jacobian_lens")
    model = load(str(save(tmp_path, tiny("llama", **LLAMA))))
    texts = ["A tide comes in twice a day.", "Bread and butter, again."]
    fitted = theirs.JacobianLens.fit(
        model, texts, corpus="two lines", skip_first_positions=3, show_progress=False
    )
    tokens = [model.to_tokens(text)[0].tolist() for text in texts]
    found = mean_jacobians(model, tokens, layers=[0, 1], chunk=16, skip=3)
    for layer in (0, 1):
        assert torch.allclose(found[layer], fitted.jacobians[layer], atol=1e-3)


def test_a_running_mean_goes_on_from_its_state() -> None:
    first, second = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    whole, part, resumed = MeanJacobians(), MeanJacobians(), MeanJacobians()
    part.update(first)
    resumed.restore(part.state())
    resumed.update(second)
    for jacobians in (first, second):
        whole.update(jacobians)
    assert torch.equal(resumed.mean, whole.mean)
    assert torch.allclose(whole.mean, (first + second) / 2)
