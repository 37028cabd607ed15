"""A model without layers, trained on counts of bigrams: P(y | x) = softmax(E_x U + b).

The best it can do is the bigram distribution, as far as its width allows (Elhage et al. 2021, "A
mathematical framework for transformer circuits", zero-layer transformers).
"""

import torch
from jaxtyping import Float
from torch import Tensor

LEARNING_RATE = 0.03


def train_zero_layer(
    counts: Float[Tensor, "first next"], *, d_model: int, steps: int, seed: int
) -> Float[Tensor, "first next"]:
    """Logits of a trained model, by Adam on the cross entropy of all counts at once."""
    rng = torch.Generator().manual_seed(seed)
    shares = (counts.double() / counts.double().sum()).float()
    shape = shares.shape
    E = (0.1 * torch.randn(shape[0], d_model, generator=rng)).requires_grad_()
    U = (0.1 * torch.randn(d_model, shape[1], generator=rng)).requires_grad_()
    # Tokens that were never seen to follow begin far below those that were.
    bias = shares.sum(0).clamp(min=1e-9).log().requires_grad_()
    optimiser = torch.optim.Adam([E, U, bias], lr=LEARNING_RATE, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, LEARNING_RATE, total_steps=steps, pct_start=0.2
    )
    with torch.enable_grad():
        for _ in range(steps):
            optimiser.zero_grad()
            loss = -(shares * (E @ U + bias).log_softmax(-1)).sum()
            loss.backward()
            optimiser.step()
            schedule.step()
    return (E @ U + bias).detach()
