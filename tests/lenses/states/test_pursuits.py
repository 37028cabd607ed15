"""Pursuits against naive ones, one state at a time, and on states whose sum is known."""

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from lenses.states import pursuits
from lenses.states.pursuits import Atoms, mixed, pursue, transported
from models import load
from models.readout import unembedding

HOWS = ("published", "projection", "orthogonal", "non-negative")


@pytest.fixture
def rows():
    lengths = torch.linspace(0.5, 2, 40)[:, None]
    return torch.randn(40, 12, generator=torch.Generator().manual_seed(0)) * lengths


@pytest.fixture
def states():
    return 3 * torch.randn(9, 12, generator=torch.Generator().manual_seed(1))


def naive(state: np.ndarray, rows: np.ndarray, how: str, steps: int):
    """Tokens, coefficients and residual of one state, written out."""
    atoms = rows if how == "published" else rows / np.linalg.norm(rows, axis=1, keepdims=True)
    left, tokens, weights = state, [], np.zeros(0)
    for _ in range(steps):
        told = atoms @ left
        token = int((np.abs(told) if how in ("projection", "orthogonal") else told).argmax())
        chosen = atoms[[*tokens, token]].T
        if how == "orthogonal":
            tried = np.linalg.lstsq(chosen, state, rcond=None)[0]
        elif how == "non-negative":
            tried = nnls(chosen, state)[0]
        else:
            tried = np.append(weights, 1.0 if how == "published" else told[token])
        after = state - chosen @ tried
        if np.linalg.norm(after) >= np.linalg.norm(left):
            break
        left, weights, tokens = after, tried, [*tokens, token]
    return tokens, weights, left


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("held", [2**24, 60])
def test_it_finds_what_a_naive_pursuit_finds(rows, states, how, held, monkeypatch):
    monkeypatch.setattr(pursuits, "NUMBERS", held)  # 60: seven parts of the vocabulary
    found = pursue(states, Atoms.unit(rows), how)
    for number, state in enumerate(states.double().numpy()):
        tokens, weights, left = naive(state, rows.double().numpy(), how, 5)
        kept = found.tokens[number] >= 0
        assert found.tokens[number, kept].tolist() == tokens
        assert found.coefficients[number, kept].numpy() == pytest.approx(weights, abs=1e-5)
        assert found.residual[number].numpy() == pytest.approx(left, abs=1e-5)
        part = 1 - (left @ left) / (state @ state)
        assert float(found.explained[number, -1]) == pytest.approx(part, abs=1e-6)


@pytest.mark.parametrize("how", HOWS)
def test_tokens_and_what_is_left_sum_to_the_state_and_it_never_rises(rows, states, how):
    atoms = Atoms.unit(rows)
    found = pursue(states, atoms, how, steps=8)
    assert torch.allclose(
        found.rebuilt(atoms.raw() if how == "published" else atoms), states.double(), atol=1e-9
    )
    assert (found.lengths.diff(dim=1) <= 0).all()


def test_no_coefficient_is_below_zero(rows, states):
    assert (pursue(states, Atoms.unit(rows), "non-negative").coefficients >= 0).all()
    assert (pursue(states, Atoms.unit(rows), "orthogonal").coefficients < 0).any()


def test_with_coefficient_1_a_long_state_is_one_token_again_and_again(rows):
    state = 9.5 * rows[39:]  # the longest row
    found = pursue(state, Atoms.unit(rows), "published")
    alone = pursue(state, Atoms.unit(rows))
    assert len(set(found.tokens[0].tolist())) == 1
    assert found.is_single.all()
    assert alone.is_single.all()
    assert alone.tokens.tolist() == [[39, -1, -1, -1, -1]]
    assert float(alone.explained[0, 0]) == pytest.approx(1)


def test_the_published_form_stops_where_what_is_left_gets_longer():
    atoms = Atoms.unit(torch.tensor([[2.0, 0.0], [0.0, 3.0]]))
    found = pursue(torch.tensor([[0.5, 0.4], [4.2, 1.0]]), atoms, "published")
    assert found.tokens.tolist() == [[-1] * 5, [0, 0, -1, -1, -1]]
    assert found.lengths[0].tolist() == pytest.approx([0.41**0.5] * 6)


def test_length_matters_only_as_first_published(rows, states):
    atoms = Atoms.unit(rows)
    for how in HOWS:
        once, twice = pursue(states, atoms, how), pursue(7 * states, atoms, how)
        assert torch.equal(once.tokens, twice.tokens) == (how != "published")


def test_what_is_set_aside_is_fitted_anew_with_every_token(rows, states):
    atoms, aside = Atoms.unit(rows), torch.stack([rows[:9], states.mean(0).expand(9, -1)], dim=1)
    found = pursue(states, atoms, aside=aside)
    for number in range(len(states)):
        chosen = torch.cat([aside[number].double(), atoms[found.tokens[number]]])
        weights = np.linalg.lstsq(chosen.mT.numpy(), states[number].double().numpy(), rcond=None)[0]
        assert found.coefficients[number].numpy() == pytest.approx(weights[2:], abs=1e-6)
        assert (aside[number].double() @ found.residual[number]).abs().max() < 1e-6
        assert number not in found.tokens[number]
    assert (found.lengths[:, 0] < states.norm(dim=1)).all()
    with pytest.raises(ValueError, match="only an orthogonal pursuit"):
        pursue(states, atoms, "projection", aside=aside)


def test_of_nothing_nothing_is_explained(rows):
    found = pursue(torch.zeros(1, 12), Atoms.unit(rows))
    assert found.explained.isnan().all()
    assert (found.tokens == -1).all()


def test_a_token_without_a_vector_is_never_found(rows, states):
    rows[3] = 0
    for how in ("projection", "orthogonal", "non-negative"):
        found = pursue(states, Atoms.unit(rows), how)
        assert 3 not in found.tokens
        assert found.lengths.isfinite().all()


def test_sums_of_three_tokens_come_back_with_unit_atoms_and_not_with_raw_ones():
    rng = torch.Generator().manual_seed(0)
    rows = torch.randn(2000, 128, generator=rng) + 2 * torch.randn(128, generator=rng)
    rows = rows * torch.rand(2000, 1, generator=rng).add(0.3)
    triples = torch.stack([torch.randperm(2000, generator=rng)[:3] for _ in range(200)])
    for how, least, most in (("orthogonal", 0.95, 1.0), ("published", 0.0, 0.5)):
        found = pursue(rows[triples].sum(1), Atoms.unit(rows), how, steps=3)
        right = (found.tokens.sort(1).values == triples.sort(1).values).all(1).float().mean()
        assert least <= right <= most


def test_atoms_that_are_carried_back_are_never_written_out(rows, states):
    through = torch.randn(12, 12, generator=torch.Generator().manual_seed(2))
    whole, carried = Atoms.unit(rows @ through), Atoms.unit(rows, through)
    assert torch.equal(pursue(states, whole).tokens, pursue(states, carried).tokens)
    assert torch.allclose(whole[torch.arange(40)], carried[torch.arange(40)], atol=1e-6)


def test_transported_atoms_are_gradients_of_logits():
    model, rng = load("adder_6d_1l"), torch.Generator().manual_seed(3)
    J = torch.randn(128, 128, generator=rng)
    ids, own = torch.arange(13), unembedding(model)
    state = torch.randn(128, generator=rng).requires_grad_(True)
    last = state @ J.mT  # what the mean Jacobian makes of a state
    frozen = own.norm.scale(last).detach()
    logits = own.norm.centred(last) / frozen * own.norm.gain @ own.W_U + own.b_U
    atoms = transported(model, J)[ids]
    for token in ids.tolist():
        (gradient,) = torch.autograd.grad(logits[token], state, retain_graph=True)
        expected = gradient / gradient.norm()
        assert torch.allclose(atoms[token].float(), expected, atol=1e-5)


@pytest.mark.parametrize("count", [500, 9])
def test_mixed_vectors_have_the_mean_and_the_covariance_of_the_atoms(count):
    rng = torch.Generator().manual_seed(4)
    rows = torch.randn(count, 12, generator=rng) @ torch.randn(12, 12, generator=rng) + 2
    atoms, other = Atoms.unit(rows), mixed(Atoms.unit(rows), 0)
    some = atoms[torch.arange(count)].float()
    assert torch.allclose(other.rows.mean(0), some.mean(0), atol=1e-5)
    assert torch.allclose(other.rows.mT.cov(), some.mT.cov(), atol=1e-5)
    assert torch.cdist(some, other.rows).min() > 0.01
    assert not torch.allclose(other.rows, mixed(atoms, 1).rows)
    assert other[torch.arange(count)].norm(dim=1).numpy() == pytest.approx(1)
