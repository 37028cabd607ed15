import numpy as np
import pytest
import torch

from lenses.states.ridge import SecondMoments, axes, ridge

N, D = 300, 6


@pytest.fixture(scope="module")
def states() -> tuple[torch.Tensor, torch.Tensor]:
    """Two sites whose axes vary unlike and hang together, and last states that follow the first."""
    random = torch.Generator().manual_seed(0)
    mix = torch.randn(2, D, D, generator=random)
    found = torch.randn(2, N, D, generator=random) @ mix + 5 * torch.randn(
        2, 1, D, generator=random
    )
    last = found[0] @ torch.randn(D, D, generator=random) + torch.randn(N, D, generator=random) + 3
    return found, last


@pytest.fixture(scope="module")
def moments(states) -> SecondMoments:
    found, last = states
    held = SecondMoments()
    for start in range(0, N, 70):
        held.update(found[:, start : start + 70], last[start : start + 70])
    return held


@pytest.mark.parametrize("penalty", [1e-3, 0.1, 10.0])
def test_the_ridge_is_a_naive_solve(states, moments, penalty) -> None:
    found, last = (values.double().numpy() for values in states)
    for site in range(2):
        x, y = found[site] - found[site].mean(0), last - last.mean(0)
        level = penalty * np.mean(np.var(x, axis=0))
        # Rows that pull W towards the identity: sqrt(n level) (W - 1) = 0.
        pull = np.sqrt(N * level) * np.eye(D)
        expected = np.linalg.lstsq(np.vstack([x, pull]), np.vstack([y, pull]), rcond=None)[0]
        assert np.allclose(ridge(moments, site, penalty).numpy(), expected, atol=1e-4)


def test_at_the_last_site_the_ridge_is_the_identity(states) -> None:
    found, _ = states
    held = SecondMoments()
    held.update(found, found[1])
    assert torch.allclose(ridge(held, 1, 0.1), torch.eye(D), atol=1e-5)
    assert not torch.allclose(ridge(held, 0, 0.1), torch.eye(D), atol=0.1)


def test_moments_are_those_of_numpy(states, moments) -> None:
    found, last = (values.double().numpy() for values in states)
    for site in range(2):
        expected = np.cov(np.hstack([found[site], last]).T, bias=True)
        assert np.allclose(moments.covariance(site), expected[:D, :D])
        assert np.allclose(moments.covariance_with_last(site), expected[:D, D:])


def test_axes_come_in_order_and_whitening_makes_them_alike(states, moments) -> None:
    x = states[0][0].double() - states[0][0].double().mean(0)
    found = axes(moments, 0, 1e-6, 3)
    along = (x @ found.first.double().mT).var(0, correction=0)
    assert torch.allclose(along, torch.linalg.eigvalsh(moments.covariance(0)).flip(0)[:3])
    assert torch.allclose(found.first @ found.first.mT, torch.eye(3), atol=1e-5)
    white = (x @ found.whitening.double()).mT.cov(correction=0)
    assert torch.allclose(white, torch.eye(D, dtype=torch.float64), atol=1e-3)


def test_moments_go_on_from_their_state(states, moments) -> None:
    found, last = states
    part, resumed = SecondMoments(), SecondMoments()
    assert part.count == 0
    part.update(found[:, :70], last[:70])
    resumed.restore({name: value.copy() for name, value in part.state().items()})
    for start in range(70, N, 70):
        resumed.update(found[:, start : start + 70], last[start : start + 70])
    assert resumed.count == N
    for name, value in moments.state().items():
        assert np.array_equal(resumed.state()[name], value)
