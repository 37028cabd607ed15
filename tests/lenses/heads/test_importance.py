"""One text's numbers against the lenses they are means of."""

import numpy as np
import pytest
import torch

from lenses.heads.attribution import Attributing
from lenses.heads.contributions import contributions
from lenses.heads.importance import MEASURES, SIGNED, Reader
from lenses.patching.single_heads import (
    MODES,
    random_turn,
    read_clean,
    removal_effects,
    replacements,
)
from models import load

SEED = 5


@pytest.fixture(scope="module")
def model():
    return load("adder_6d_2l")


@pytest.fixture(scope="module")
def texts():
    return list(torch.randint(0, 12, (3, 10), generator=torch.Generator().manual_seed(0)))


@pytest.fixture(scope="module")
def cleans(model, texts):
    return [read_clean(model, tokens) for tokens in texts]


@pytest.fixture(scope="module")
def chosen():
    masks = np.zeros((3, 9), dtype=bool)
    masks[0, 1:5], masks[1, 5:] = True, True
    return masks  # the third phase has no pos


@pytest.fixture(scope="module")
def found(model, texts, cleans, chosen):
    replaced = replacements([clean.z for clean in cleans])[0]
    return Reader.of(model, SEED)(texts[0], chosen, replaced, 7), replaced


def test_effects_are_means_over_the_pos_of_a_phase(model, cleans, found) -> None:
    numbers, replaced = found
    turn = random_turn(model.cfg.d_model, torch.Generator().manual_seed(7))
    expected = removal_effects(model, cleans[0], replaced, turn=turn).double().numpy()
    assert numbers["effects"].shape == (2, 3, 3, 2, 4, 3)
    for phase, pos in enumerate([slice(1, 5), slice(5, None)]):
        np.testing.assert_allclose(
            numbers["effects"][:, :, phase], expected[..., pos].mean(-1), atol=1e-6
        )
    assert np.isnan(numbers["effects"][:, :, 2]).all()


def test_measures_are_in_their_order(model, texts, cleans, found) -> None:
    numbers, _ = found
    measures = dict(zip(MEASURES, numbers["measures"], strict=True))
    told = contributions(model, texts[0][None, :-1], torch.zeros(1, 9, dtype=torch.long))
    said = Attributing(model)(texts[0], cleans[0])
    expected = {"cosine": told.cosine[0], "norm_share": told.norm_share[0]}
    expected |= {"value_weighted": said.value_weighted, "direct_logit": said.direct_logit}
    for name, value in expected.items():
        np.testing.assert_allclose(measures[name][0], value[1:5].mean(0), rtol=1e-5)
        np.testing.assert_allclose(measures[name][1], value[5:].mean(0), rtol=1e-5)
    assert (measures["layer_index"][0] == [[0] * 4, [1] * 4]).all()
    assert (measures["output_gain"][0] == measures["output_gain"][1]).all()
    assert all(np.isnan(value[2]).all() for value in measures.values())
    negative = {name for name, value in measures.items() if (value[:2] < 0).any()}
    assert negative <= set(SIGNED)


def test_gradients_foretell_small_changes(model, texts, cleans, found) -> None:
    """A hundredth of mean ablation changes the mean loss by a hundredth of the gradient measure."""
    numbers, replaced = found
    step = 0.01
    mean = cleans[0].z + step * (replaced.mean - cleans[0].z)
    near = type(replaced)(mean, mean)
    effects = removal_effects(model, cleans[0], near, ("mean",))[0, 0, :, :, 0]
    slope = effects[..., 1:5].mean(-1) / step
    predicted = numbers["measures"][MEASURES.index("gradient_x_deviation"), 0]
    np.testing.assert_allclose(predicted, slope, rtol=0.1, atol=0.02)


def test_other_modes_and_no_null_on_request(model, texts, cleans, chosen, found) -> None:
    numbers, replaced = found
    reader = Reader.of(model, SEED, ("mean",), with_null=False)
    alone = reader(texts[0], chosen, replaced, 7)
    assert alone["effects"].shape == (1, 1, 3, 2, 4, 3)
    expected = numbers["effects"][:1, [MODES.index("mean")]]
    np.testing.assert_allclose(alone["effects"], expected, atol=1e-6)
    np.testing.assert_array_equal(alone["measures"], numbers["measures"])
