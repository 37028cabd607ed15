"""A model without layers learns the bigrams that fit into its width, and no more."""

import pytest
import torch

from models.train.zero_layer import train_zero_layer


@pytest.fixture
def counts():
    rng = torch.Generator().manual_seed(0)
    return 1000 * torch.softmax(3 * torch.randn(40, 60, generator=rng), -1)


def told(counts, log_p) -> float:
    shares = counts.double() / counts.sum()
    first, following = shares.sum(1, keepdim=True), shares.sum(0)
    unigram, bigram = (-(shares * x.log()).sum() for x in (following, shares / first))
    return ((unigram + (shares * log_p).sum()) / (unigram - bigram)).item()


def test_a_wide_one_recovers_the_counts_and_a_narrow_one_does_not(counts):
    wide, narrow = (
        train_zero_layer(counts, d_model=width, steps=300, seed=0).log_softmax(-1)
        for width in (128, 1)
    )
    assert told(counts, wide.double()) > 0.95
    assert 0 < told(counts, narrow.double()) < 0.5


def test_the_seed_decides(counts):
    one, same, other = (
        train_zero_layer(counts, d_model=8, steps=10, seed=seed) for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
