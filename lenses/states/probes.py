"""What can be read out of hidden states by a linear classifier, at all sites at once (SCIENCE 7).

A site is one place where a state is read: a layer, a position, a head. Every function takes the
states of all sites [site n d] of the same n examples, and works on the device they are on.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

TOLERANCE = 1e-5
"""A fit ends when no entry of the gradient of its mean loss exceeds this at any site."""

LIMIT = 5_000
"""Steps after which a fit is given up; hundreds are usual."""

CHECK = 20
"""Steps between two looks at the gradient, each of which waits for the device."""


@dataclass(frozen=True)
class Probes:
    """Multinomial logistic probes: for every site, one for each way to split off held-out data."""

    weight: Float[Tensor, "site fold label d"]
    bias: Float[Tensor, "site fold label"]
    labels: Int[Tensor, "label"]
    """The labels in the order of the last axis."""

    def predict(self, states: Float[Tensor, "site n d"]) -> Int[Tensor, "site fold n"]:
        """The likeliest label of each example by each probe."""
        logits = torch.einsum("sfld,snd->sfln", self.weight, states) + self.bias[..., None]
        return self.labels[logits.argmax(2)]


@torch.inference_mode()
def probes(
    states: Float[Tensor, "site n d"],
    labels: Int[Tensor, "n"],
    train: Bool[Tensor, "fold n"],
    strength: float = 1.0,
) -> Probes:
    """The logistic probe of each site, fitted to the examples that `train` marks, for each fold.

    Each minimises the sum of -log p(label) plus strength / 2 times the squared weights, the bias
    being free: scikit-learn's LogisticRegression with C = 1 / strength. States are first divided
    by one number per site, their root-mean-square deviation per dimension, so that one strength
    suits layers of every size and a rotation of the states changes nothing.

    Raises:
        ValueError: a state is not finite, the strength is not positive, or a fold has no example.
        RuntimeError: LIMIT steps were not enough.
    """
    if strength <= 0 or not train.any(1).all() or not states.isfinite().all():
        raise ValueError("probes need finite states, a positive strength and examples in each fold")
    known = labels.unique()
    target = (labels == known[:, None]).to(states.dtype)
    mean = states.mean(1, keepdim=True)
    size = (states - mean).square().mean((1, 2), keepdim=True).sqrt()
    size = torch.where(size > 0, size, 1.0)
    scaled, basis = _few_dimensions((states - mean) / size)
    found = _fit(torch.nn.functional.pad(scaled, (0, 1), value=1.0), target, train, strength)
    weight = torch.einsum("sfle,sde->sfld", found[..., :-1], basis / size)
    bias = found[..., -1] - torch.einsum("sfld,sd->sfl", weight, mean[:, 0])
    return Probes(weight, bias, known)


@torch.inference_mode()
def cross_validated(
    states: Float[Tensor, "site n d"],
    labels: Int[Tensor, "n"],
    groups: Int[Tensor, "n"],
    *,
    folds: int = 5,
    strength: float = 1.0,
    seed: int = 0,
) -> Int[Tensor, "site n"]:
    """The label that a probe gives each example, having seen no example of the same group.

    Groups (digit pairs, say, or prompts) are dealt at random onto the folds.

    Raises ValueError where there are fewer groups than folds, and as `probes` does.
    """
    known, group = groups.unique(return_inverse=True)
    if len(known) < folds:
        raise ValueError(f"{folds} folds need at least as many groups, not {len(known)}")
    deal = torch.randperm(len(known), generator=torch.Generator().manual_seed(seed)) % folds
    fold = deal.to(group.device)[group]
    train = fold != torch.arange(folds, device=fold.device)[:, None]
    predicted = probes(states, labels, train, strength).predict(states)
    return predicted.gather(1, fold.expand(len(states), 1, -1))[:, 0]


def balanced_accuracy(
    predicted: Int[Tensor, "site n"], labels: Int[Tensor, "n"]
) -> Float[Tensor, "site"]:
    """Mean over the labels of the share of their examples that are told: chance is 1 / labels."""
    known = labels.unique()
    is_label = (labels == known[:, None]).double()
    right = (predicted == labels).double()
    return (right @ is_label.mT / is_label.sum(1)).mean(1)


def control_labels(
    types: Int[Tensor, "n"], labels: Int[Tensor, "n"], seed: int
) -> Int[Tensor, "n"]:
    """Labels of a control task: each type of input keeps one label, that of another type at random.

    A probe can learn them only by heart, so what it reaches above them is the states' merit
    (selectivity; Hewitt & Liang 2019, section 2). Where types have more than one label, their
    first counts; which labels there are, and for how many types each, stays the same.
    """
    known, kind = types.unique(return_inverse=True)
    first = torch.full_like(known, len(kind))
    first = first.scatter_reduce(0, kind, torch.arange(len(kind), device=kind.device), "amin")
    order = torch.randperm(len(known), generator=torch.Generator().manual_seed(seed))
    return labels[first[order.to(first.device)]][kind]


def _few_dimensions(
    states: Float[Tensor, "site n d"],
) -> tuple[Float[Tensor, "site n r"], Float[Tensor, "site d r"]]:
    """The same points in no more dimensions than there are points, and the basis of these.

    The best weights lie in the span of the states, whatever the strength, so nothing is lost.
    """
    sites, n, d = states.shape
    if d <= n:
        return states, torch.eye(d, device=states.device, dtype=states.dtype).expand(sites, d, d)
    basis, points = torch.linalg.qr(states.mT)
    return points.mT, basis


def _fit(
    states: Float[Tensor, "site n d1"],
    target: Float[Tensor, "label n"],
    train: Bool[Tensor, "fold n"],
    strength: float,
) -> Float[Tensor, "site fold label d1"]:
    """The coefficients, the bias last, at the minimum of the regularised loss.

    Accelerated gradient steps in the metric of a fixed bound on the Hessian, which is at most half
    of states^T states (Boehning 1992, Ann. Inst. Stat. Math. 44), hence without a step size; each
    probe forgets its momentum when that points uphill (O'Donoghue & Candes 2015, section 3.2).
    """
    penalty = torch.full(states.shape[-1:], strength, device=states.device, dtype=states.dtype)
    penalty[-1] = 0
    kept = train.to(states.dtype)
    bound = torch.einsum("snd,fn,sne->sfde", states, kept / 2, states) + torch.diag(penalty)
    step = torch.cholesky_inverse(torch.linalg.cholesky(bound))
    sites, _, d1, _ = bound.shape
    at = states.new_zeros(sites, len(train), len(target), d1)
    ahead, momentum = at, states.new_ones(sites, len(train), 1, 1)
    for number in range(LIMIT):
        # Labels before examples: a softmax over a short last axis is ten times as slow.
        logits = ahead.flatten(1, 2) @ states.mT
        missed = (logits.unflatten(1, at.shape[1:3]).softmax(2) - target) * kept[:, None]
        gradient = (missed.flatten(1, 2) @ states).view_as(at) + penalty * ahead
        if number % CHECK == 0 and gradient.abs().amax() <= TOLERANCE * kept.sum(1).min():
            return ahead
        new = ahead - gradient @ step
        uphill = (gradient * (new - at)).sum((-2, -1), keepdim=True) > 0
        momentum = torch.where(uphill, 1.0, momentum)
        following = (1 + (1 + 4 * momentum**2).sqrt()) / 2
        ahead = new + (momentum - 1) / following * (new - at)
        at, momentum = new, following
    raise RuntimeError(f"a probe did not converge in {LIMIT} steps")
