"""Geometry of ten digits: against naive regressions, closed forms, and planted shapes."""

import numpy as np
import pytest
from scipy import stats

from lenses.digits.geometry import (
    COMPONENTS,
    as_long,
    bases,
    best,
    beyond_controls,
    components,
    fits,
    fourier,
    gram,
    grams,
    helix,
    linear,
    max_t,
    mean_gram,
    moved,
    orthonormal,
    participation_ratio,
    permuted,
    products,
    projector,
    shape_tables,
    share,
    shares_of,
    without_each,
)
from lenses.statistics.intervals import bootstrap
from lenses.statistics.resampled import pseudo_values

DIGIT, D = np.arange(10), 24


def turned(shape, seed=0):
    """Points [value r] somewhere in D dimensions."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((D, shape.shape[1])))[0]
    return shape @ basis.T + rng.standard_normal(D)


SHAPES = {
    "line": linear(10),
    "circle": fourier(10, 10),
    "arch": bases()["arch"],
    "cloud": np.eye(10),
}


def contexts(shape, noise, count=16, seed=1):
    """States of a shape in contexts, each with an offset of its own, and noise."""
    rng = np.random.default_rng(seed)
    offset = rng.standard_normal((count, 1, D))
    return turned(shape) + offset + noise * rng.standard_normal((count, 10, D))


def reported(points):
    centred = points - points.mean(0)
    return dict(zip(COMPONENTS, components(centred @ centred.T, DIGIT), strict=True))


def explained(points, columns):
    """The naive share: squared residuals of a regression of every dimension on the columns."""
    design = np.column_stack([np.ones(10), columns])
    left = points - design @ np.linalg.lstsq(design, points, rcond=None)[0]
    return 1 - (left**2).sum() / ((points - points.mean(0)) ** 2).sum()


def test_shares_are_those_of_regressions():
    points = np.random.default_rng(0).standard_normal((10, D))
    found = reported(points)
    line, wave = DIGIT[:, None], [np.cos(2 * np.pi * DIGIT / 10), np.sin(2 * np.pi * DIGIT / 10)]
    circle = np.stack(wave, axis=1)
    both, arch = np.hstack([line, circle]), np.hstack([line, line**2])
    assert found["line"] == pytest.approx(explained(points, line))
    assert found["circle"] == pytest.approx(explained(points, circle))
    assert found["arch"] == pytest.approx(explained(points, arch))
    assert found["k = 5"] == pytest.approx(explained(points, (-1.0) ** line))
    left = 1 - explained(points, circle)
    partial = (explained(points, both) - explained(points, circle)) / left
    assert found["line beyond circle"] == pytest.approx(partial)
    left = 1 - explained(points, arch)
    partial = (explained(points, np.hstack([arch, circle])) - explained(points, arch)) / left
    assert found["circle beyond arch"] == pytest.approx(partial)
    assert found["circle"] + sum(found[f"k = {k}"] for k in range(2, 6)) == pytest.approx(1)


def test_closed_forms_of_the_planted_shapes():
    line, circle = reported(turned(SHAPES["line"])), reported(turned(SHAPES["circle"]))
    # Of the energy of 0..9, 2 / (99 / 3) / sin(pi / 10)^2 has period 10.
    overlap = 2 / 33 / np.sin(np.pi / 10) ** 2
    assert line["circle"] == pytest.approx(overlap)
    assert circle["line"] == pytest.approx(overlap / 2)
    assert line["line"] == pytest.approx(1)
    assert circle["circle"] == pytest.approx(1)
    assert [line["line beyond circle"], line["circle beyond arch"]] == pytest.approx([1, 0])
    assert [circle["line beyond circle"], circle["circle beyond arch"]] == pytest.approx([0, 1])
    arch = reported(turned(SHAPES["arch"]))
    assert arch["circle beyond line"] > 0.9, "a bent line looks like a circle beyond a line"
    assert arch["circle beyond arch"] == 0
    cloud = reported(turned(SHAPES["cloud"]))
    assert cloud["line"] == pytest.approx(1 / 9)
    assert cloud["circle"] == pytest.approx(2 / 9)
    assert cloud["line beyond circle"] == pytest.approx(1 / 7)


def test_the_gram_matrix_is_the_mean_over_pairs_of_unlike_contexts():
    states = np.random.default_rng(0).standard_normal((5, 10, D))
    centred = states - states.mean(1, keepdims=True)
    pairs = [centred[c] @ centred[e].T for c in range(5) for e in range(5) if c != e]
    assert np.allclose(gram(states), np.mean(pairs, axis=0))
    with pytest.raises(ValueError, match="two at least"):
        gram(states[:1])


@pytest.mark.parametrize("name", ["line", "circle", "cloud"])
def test_noise_inflates_no_share(name):
    """With noise twice as large as the shape, estimates lie around those without noise."""
    clean = reported(turned(SHAPES[name]))
    found = [
        components(gram(contexts(SHAPES[name], 0.25, count=40, seed=seed)), DIGIT)
        for seed in range(40)
    ]
    found = dict(zip(COMPONENTS, np.array(found).T, strict=True))
    for component in ("line", "circle", "line and circle", "k = 3"):
        error = found[component].std() / np.sqrt(40)
        assert abs(found[component].mean() - clean[component]) < 4 * error + 0.01, component
    # The plain means of the same contexts are pulled towards a cloud.
    plain = [reported(contexts(SHAPES["line"], 0.5, count=8, seed=seed).mean(0))["line"]
             for seed in range(10)]  # fmt: skip
    assert np.mean(plain) < 0.8


def test_states_that_do_not_depend_on_the_digit_have_no_shape():
    flat = np.broadcast_to(np.random.default_rng(0).standard_normal((6, 1, D)), (6, 10, D))
    assert np.isnan(share(np.zeros((10, 10)), linear(10)))
    found = gram(flat)[None]
    p = max_t(components(found, DIGIT)[0], permuted(found, permutations=50)[:, 0])
    assert p == 1


def test_permuted_labels_have_the_shares_of_chance():
    states = contexts(SHAPES["line"], 0.2)
    null = permuted(gram(states)[None], permutations=4_000)[:, :, 0].mean(0)
    null = dict(zip(COMPONENTS, null, strict=True))
    assert null["line"] == pytest.approx(1 / 9, abs=0.01)
    assert null["circle"] == pytest.approx(2 / 9, abs=0.01)
    assert null["line and circle"] == pytest.approx(3 / 9, abs=0.015)


def p_values(grams, component):
    at = COMPONENTS.index(component)
    return max_t(components(grams, DIGIT)[at], permuted(grams, permutations=300)[:, at])


def test_a_planted_shape_among_clouds_is_found_and_only_there():
    rng = np.random.default_rng(0)
    sites = [gram(contexts(rng.standard_normal((10, D)), 0.1, seed=seed)) for seed in range(6)]
    sites[2], sites[4] = (gram(contexts(5 * SHAPES[n], 0.1)) for n in ("line", "circle"))
    line = p_values(np.stack(sites), "line beyond circle")
    circle = p_values(np.stack(sites), "circle beyond arch")
    assert line[2] <= 0.01
    assert circle[4] <= 0.01
    assert (np.delete(line, 2) > 0.05).all()
    assert (np.delete(circle, 4) > 0.05).all()


def test_clouds_are_taken_for_lines_no_more_often_than_said():
    rng = np.random.default_rng(1)
    smallest = []
    for _ in range(120):
        points = rng.standard_normal((4, 10, D))
        points -= points.mean(1, keepdims=True)
        smallest.append(p_values(points @ points.transpose(0, 2, 1), "line beyond circle").min())
    # 120 trials at .05: 13 or more in one of a hundred cases.
    assert (np.array(smallest) <= 0.05).sum() <= 12
    assert stats.kstest(smallest, "uniform").pvalue > 1e-3


def test_participation_ratio_counts_dimensions():
    for name, expected in (("line", 1), ("circle", 2), ("arch", 2), ("cloud", 9)):
        points = turned(SHAPES[name])
        points = points - points.mean(0)
        assert participation_ratio(points @ points.T) == pytest.approx(expected), name
    assert np.isnan(participation_ratio(np.zeros((10, 10))))


def test_the_interval_of_a_share_lies_around_it():
    states = contexts(SHAPES["circle"], 0.15)
    found = components(gram(states), DIGIT)
    without = shares_of(without_each(states[None]))[..., 0]
    ends = bootstrap(pseudo_values(found, without))
    low, high = ends.low, ends.high
    for name in ("line", "circle", "line and circle", "k = 2"):
        at = COMPONENTS.index(name)
        assert low[at] <= found[at] <= high[at], name
        assert high[at] - low[at] < 0.3


def test_variation_without_a_context_is_the_mean_over_pairs_of_the_others():
    states = contexts(SHAPES["line"], 0.3, count=4)
    found = without_each(states[None])[:, 0, 0]
    for number in range(4):
        expected = np.trace(gram(np.delete(states, number, axis=0))) / np.trace(gram(states))
        assert found[number] == pytest.approx(expected)


def test_products_are_those_of_projections():
    states, basis = contexts(SHAPES["cloud"], 0.3, count=3), fourier(10, 5)
    along = [basis.T @ one for one in states]
    naive = [[(x * y).sum() for y in along] for x in along]
    assert np.allclose(products(states, basis), naive)


def test_mean_gram_weighs_slots_alike():
    one, other = np.eye(10), 100 * projector(linear(10))
    mean = mean_gram(np.stack([one, other, np.zeros((10, 10))]))
    assert np.allclose(mean, one / 20 + projector(linear(10)) / 2)


def test_steps_go_from_one_value_to_the_other():
    means = np.stack([turned(SHAPES["line"]), turned(SHAPES["cloud"], seed=3)])
    patterns = bases()["line and circle"]
    made = fits(means, patterns, np.random.default_rng(0), 5)
    slot, value, target = np.array([0, 0, 1]), np.array([2, 9, 4]), np.array([7, 0, 5])
    whole = means[slot, target] - means[slot, value]
    assert np.allclose(moved(means, made["all"], slot, value, target), whole)
    along = moved(means, made["fit"], slot, value, target)
    assert np.allclose(along[:2], whole[:2]), "the fit holds all of a line"
    centred = means[1] - means[1].mean(0)
    fitted = patterns @ patterns.T @ centred
    assert np.allclose(along[2], fitted[5] - fitted[4])
    held = {name: np.linalg.norm(fit[1] @ centred) for name, fit in made.items()}
    assert held["best"] >= max(held["fit"], *(held[f"permuted {n}"] for n in range(5))) - 1e-9
    assert np.linalg.matrix_rank(made["best"][1]) == 3
    lost = moved(means, made["permuted 0"], slot, value, target)
    assert not np.allclose(lost[:2], whole[:2])


def test_random_steps_are_as_long():
    steps = np.random.default_rng(0).standard_normal((7, D))
    other = as_long(steps, np.random.default_rng(1))
    assert np.allclose(np.linalg.norm(other, axis=1), np.linalg.norm(steps, axis=1))
    cosine = (other * steps).sum(1) / (steps**2).sum(1)
    assert np.abs(cosine).max() < 0.8


def test_the_helix_has_eight_directions_and_holds_a_planted_one():
    basis = helix(100)
    assert basis.shape == (100, 8)
    assert np.allclose(basis.T @ basis, np.eye(8))
    points = basis @ np.random.default_rng(0).standard_normal((8, D))
    whole = points @ points.T
    assert share(whole, basis) == pytest.approx(1)
    assert share(whole, best(points, 8)) == pytest.approx(1)
    orders = np.array([np.random.default_rng(seed).permutation(100) for seed in range(200)])
    assert share(whole, basis[orders]).mean() == pytest.approx(8 / 99, abs=0.02)
    noise = np.random.default_rng(1).standard_normal((100, D))
    noise -= noise.mean(0)
    assert share(noise @ noise.T, basis) < 0.2


def test_constants_and_repeated_patterns_add_nothing_to_a_basis():
    columns = np.column_stack([np.ones(10), DIGIT, 2 * DIGIT + 3])
    assert np.allclose(np.abs(orthonormal(columns)), np.abs(linear(10)))
    assert fourier(10, 2).shape == (10, 1)


def test_one_more_of_few_controls():
    rng = np.random.default_rng(0)
    p = [beyond_controls(x[0], x[1:]) for x in rng.standard_normal((2_000, 13))]
    assert stats.kstest(p, "uniform").pvalue > 1e-3
    assert beyond_controls(9.0, rng.standard_normal(12)) < 1e-4
    assert beyond_controls(0.1, np.full(9, 0.1)) == 1
    assert beyond_controls(0.2, np.full(9, 0.1)) == 0.1


def test_the_tables_of_a_planted_circle():
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((16, 2)))[0]
    shape = bases()["circle"] @ turn.T
    states = np.broadcast_to(shape, (1, 2, 5, 10, 16)) + rng.standard_normal((1, 2, 5, 1, 16))
    tables = shape_tables([("a", 0)], states, grams(states)[None])
    shares = tables["shares"].set_index("component")
    assert np.allclose(shares.loc["circle", "share"], 1)
    assert (shares.loc["circle beyond arch", "p"] <= 0.001).all()
    assert (shares.loc["line beyond circle", "share"] == 0).all()
    assert (tables["shares"]["n"] == 5).all()
    own = tables["by_layer"].query("weights == 'this model' and component == 'circle'")
    assert np.allclose(own["share"], 1)
    assert np.allclose(tables["dimensions"]["participation_ratio"], 2)
    first = tables["points"].query("layer == 0")
    radius = np.hypot(first["first_component"], first["second_component"])
    assert np.allclose(radius, radius.iloc[0])
    assert np.allclose(first["first_share"] + first["second_share"], 1)
