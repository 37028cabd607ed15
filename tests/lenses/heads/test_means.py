from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
import torch

from lenses.heads.contributions import Contributions
from lenses.heads.means import (
    HEAD_MEASURES,
    SPREADS,
    head_means,
    head_spreads,
    means_by_prompt,
    with_difference,
)


@pytest.fixture
def one() -> Contributions:
    random = torch.Generator().manual_seed(0)
    size = {"batch": 1, "pos": 6, "layer": 2, "head": 3, "component": 4, "group": 2}
    values = {
        field.name: torch.rand(
            [size[axis] for axis in field.type.dim_str.split()], generator=random
        )
        for field in fields(Contributions)
    }
    values["norm_share"] = values["l2_norm"] / values["l2_norm"].sum(-1, keepdim=True)
    defined = torch.ones(1, 6, 2, dtype=torch.bool)
    defined[0, 0] = False
    values |= {"l1_proximity_defined": ~defined, "attention_entropy_defined": defined}
    return Contributions(**values)


CHOSEN = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0]], dtype=bool)


def test_means_are_over_the_tokens_where_the_measure_is_defined(one) -> None:
    found = head_means(one, CHOSEN)
    assert found.shape == (8, 2, 2, 3)
    cosine, entropy, l1 = (
        found[HEAD_MEASURES.index(n)] for n in ("cosine", "attention_entropy", "l1_proximity")
    )
    assert np.allclose(cosine[0], one.cosine[0, :3].mean(0))
    assert np.allclose(cosine[1], one.cosine[0, 3])
    assert np.allclose(entropy[0], one.attention_entropy[0, 1:3].mean(0))
    assert np.allclose(l1[0], one.l1_proximity[0, 0])
    assert np.isnan(l1[1]).all()


def test_spreads(one) -> None:
    variance, entropy, ratio = head_spreads(one, CHOSEN)
    assert len(SPREADS) == 3
    assert np.allclose(variance[0], one.l2_norm[0, :3].var(-1, correction=0).mean(0))
    share = one.norm_share[0, 3].numpy()
    assert np.allclose(entropy[1], -(share * np.log(share)).sum(-1))
    expected = one.sum_variance[0, 0] / one.head_variance[0, 0].sum(-1)
    assert np.allclose(ratio[0], expected)
    assert np.isnan(ratio[1]).all()  # a single token has no variance


def test_a_phase_without_tokens_has_no_means(one) -> None:
    nothing = np.zeros((2, 6), dtype=bool)
    assert np.isnan(head_means(one, nothing)).all()
    assert np.isnan(head_spreads(one, nothing)).all()


def test_means_by_prompt_leave_out_what_is_undefined():
    rows = pd.DataFrame(
        {
            "prompt": [0, 0, 0, 1],
            "phase": ["prompt", "prompt", "generated", "prompt"],
            "layer": 0,
            "head": 0,
            "l1_proximity_defined": [True, False, True, True],
            "attention_entropy_defined": True,
        }
    )
    rows = rows.assign(**{name: [1.0, 3.0, 5.0, 7.0] for name in HEAD_MEASURES})
    found = means_by_prompt(rows, 1).set_index(["phase", "measure"])["estimate"]
    assert found["prompt", "l2_norm"] == 2
    assert found["prompt", "l1_proximity"] == 1
    apart = with_difference(means_by_prompt(rows, 1)).query("phase == 'difference'")
    assert apart.set_index("measure")["estimate"]["l2_norm"] == 3
