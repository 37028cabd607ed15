import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from lenses.states.probes import balanced_accuracy, control_labels, cross_validated, probes

SITES, N, D = 3, 240, 12


def drawn(seed, n=N, d=D, labels=4, signal=1.0):
    """States of sites at which labels show weakly, well, and at another size and place."""
    rng = torch.Generator().manual_seed(seed)
    label = torch.randint(labels, (n,), generator=rng)
    means = torch.randn(labels, d, generator=rng)
    noise = torch.randn(SITES, n, d, generator=rng)
    states = noise + signal * torch.tensor([0.2, 1.0, 0.5])[:, None, None] * means[label]
    return states * torch.tensor([1.0, 1.0, 300.0])[:, None, None] + 5, label * 3 - 1


def scaled(states):
    """One site's states as the penalty sees them."""
    centred = states - states.mean(0)
    return (centred / centred.square().mean().sqrt()).double().numpy()


@pytest.mark.parametrize("strength", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("d", [D, 400])
def test_probes_are_scikit_learns(strength, d):
    states, labels = drawn(0, d=d)
    train = torch.arange(N) % 3 != torch.arange(2)[:, None]
    found = probes(states, labels, train, strength)
    for site in range(SITES):
        points = scaled(states[site])
        for fold in range(2):
            kept = train[fold].numpy()
            naive = LogisticRegression(C=1 / strength, tol=1e-8, max_iter=20_000)
            naive.fit(points[kept], labels.numpy()[kept])
            size = (states[site] - states[site].mean(0)).square().mean().sqrt()
            weight = (found.weight[site, fold] * size).double().numpy()
            assert np.abs(weight - naive.coef_).max() < 0.02 * np.abs(naive.coef_).max()
            logits = states[site] @ found.weight[site, fold].mT + found.bias[site, fold]
            expected = naive.predict_proba(points)
            assert np.abs(logits.softmax(-1).numpy() - expected).max() < 0.01


def test_two_labels_and_a_label_missing_in_training():
    states, labels = drawn(1, labels=3)
    train = (labels != 2)[None]
    predicted = probes(states, labels, train).predict(states)
    assert set(predicted.unique().tolist()) == {-1, 5}
    kept = train[0].numpy()
    naive = LogisticRegression(C=1.0, tol=1e-8, max_iter=5_000)
    naive.fit(scaled(states[1])[kept], labels.numpy()[kept])
    # With two labels scikit-learn fits one weight vector w where a softmax has w / 2 and -w / 2:
    # the same loss at half the penalty. Decisions are compared where they are not close.
    sure = np.abs(naive.decision_function(scaled(states[1]))) > 0.3
    assert (predicted[1, 0].numpy() == naive.predict(scaled(states[1])))[sure].all()


def test_each_prediction_is_made_by_a_probe_that_saw_nothing_of_its_group():
    """A group's examples are alike, and labels random: only a probe that saw it could tell."""
    rng = torch.Generator().manual_seed(0)
    group = torch.arange(60).repeat_interleave(5)
    labels = torch.randint(2, (60,), generator=rng)[group]
    states = torch.randn(1, 60, 100, generator=rng)[:, group]
    leaky = cross_validated(states, labels, torch.arange(len(group)))
    assert balanced_accuracy(leaky, labels) > 0.95
    honest = cross_validated(states, labels, group)
    assert 0.3 < balanced_accuracy(honest, labels) < 0.7


def test_folds_are_exactly_those_of_a_loop():
    states, labels = drawn(2)
    groups = torch.arange(N) // 4 + 7
    found = cross_validated(states, labels, groups, folds=3, seed=5)
    deal = torch.randperm(N // 4, generator=torch.Generator().manual_seed(5)) % 3
    for fold in range(3):
        held_out = deal[groups - 7] == fold
        alone = probes(states, labels, ~held_out[None]).predict(states)[:, 0]
        assert torch.equal(found[:, held_out], alone[:, held_out])
    assert torch.equal(found, cross_validated(states, labels, groups, folds=3, seed=5))


def test_a_planted_direction_is_found_and_noise_is_at_chance():
    rng = torch.Generator().manual_seed(3)
    n, d = 600, 32
    labels = torch.arange(n) % 10
    direction = torch.nn.functional.normalize(torch.randn(d, generator=rng), dim=0)
    noise = torch.randn(20, n, d, generator=rng)
    line = (labels % 2)[:, None] * 12.0 * direction
    planted = cross_validated(noise[:1] + line, labels % 2, torch.arange(n))
    assert balanced_accuracy(planted, labels % 2) > 0.99
    weight = probes(noise[:1] + line, labels % 2, torch.ones(1, n, dtype=bool)).weight[0, 0]
    assert torch.cosine_similarity(weight[1] - weight[0], direction, dim=0) > 0.9
    chance = balanced_accuracy(cross_validated(noise, labels, torch.arange(n)), labels)
    # Twenty sites: their mean has a standard error of .003.
    assert abs(chance.mean() - 0.1) < 0.015
    assert chance.max() < 0.16


def test_rotation_shift_and_size_of_the_states_do_not_matter():
    states, labels = drawn(4)
    turn = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(1))).Q
    plain = cross_validated(states, labels, torch.arange(N))
    turned = cross_validated(states @ turn * 50 - 3, labels, torch.arange(N))
    assert (plain == turned).double().mean() > 0.995


def test_it_converges_where_one_direction_is_huge_and_where_a_site_is_constant():
    rng = torch.Generator().manual_seed(6)
    labels = torch.arange(400) % 5
    states = torch.randn(2, 400, 64, generator=rng)
    states[0, :, 0] *= 300
    states[1] = 7
    predicted = cross_validated(states, labels, torch.arange(400))
    assert (balanced_accuracy(predicted, labels) < 0.35).all()


def test_balanced_accuracy_counts_labels_alike():
    labels = torch.tensor([0, 0, 0, 0, 0, 0, 4, 4])
    always = torch.zeros(1, 8, dtype=torch.long)
    mixed = torch.tensor([[0, 0, 0, 4, 4, 4, 4, 9]])
    told = balanced_accuracy(torch.cat([always, mixed]), labels)
    assert told.tolist() == [0.5, 0.5]
    assert balanced_accuracy(labels[None], labels).item() == 1


def test_control_labels_keep_types_together_and_frequencies():
    types = torch.arange(100).repeat(7) + 30
    labels = (types % 10) ** 2
    control = control_labels(types, labels, seed=1)
    assert all(len(control[types == kind].unique()) == 1 for kind in types.unique())
    assert torch.equal(control.sort().values, labels.sort().values)
    assert (control == labels).double().mean() < 0.25
    assert torch.equal(control, control_labels(types, labels, seed=1))
    assert not torch.equal(control, control_labels(types, labels, seed=2))


def test_what_makes_no_sense_is_refused():
    states, labels = drawn(0)
    with pytest.raises(ValueError, match="at least as many groups"):
        cross_validated(states, labels, torch.arange(N) % 4)
    for bad in ({"strength": 0.0}, {"train": torch.zeros(1, N, dtype=bool)}):
        with pytest.raises(ValueError, match="probes need"):
            probes(**{"states": states, "labels": labels, "train": torch.ones(1, N) > 0, **bad})
    states[1, 3, 2] = float("nan")
    with pytest.raises(ValueError, match="finite"):
        cross_validated(states, labels, torch.arange(N))
