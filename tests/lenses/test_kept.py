import numpy as np
import pandas as pd
import pytest
import torch

from lenses.kept import Moments, PerPrompt


def stream(n: int = 57, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    values = torch.randn(n, 2, 3, generator=random, dtype=torch.float64) * 5 + 1e3
    return values, torch.randint(0, 3, (n,), generator=random)


def expected(values: torch.Tensor, group: torch.Tensor) -> pd.DataFrame:
    layer, head = np.indices((2, 3)).reshape(2, -1)
    parts = [
        pd.DataFrame({"run": int(g), "layer": layer, "head": head, "value": v.flatten().numpy()})
        for v, g in zip(values, group, strict=True)
    ]
    by = pd.concat(parts).groupby(["run", "layer", "head"]).value
    return by.agg(n="count", mean="mean", variance="var").reset_index()


def test_a_stream_of_batches_equals_pandas_on_everything() -> None:
    values, group = stream()
    moments = Moments(groups=3)
    for start in range(0, 57, 10):
        moments.update(values[start : start + 10], group=group[start : start + 10])
    found = moments.table("run", "layer", "head")
    pd.testing.assert_frame_equal(found, expected(values, group), rtol=1e-12)


def test_state_restores_bit_for_bit_and_continues() -> None:
    values, group = stream()
    whole, resumed = Moments(groups=3), Moments(groups=3)
    whole.update(values[:30], group=group[:30])
    resumed.restore(whole.state())
    for moments in (whole, resumed):
        moments.update(values[30:], group=group[30:])
    for name, value in whole.state().items():
        assert np.array_equal(value, resumed.state()[name])


def test_state_before_the_first_update_is_empty() -> None:
    moments = Moments()
    moments.restore(moments.state())
    assert moments.table("layer").empty


def test_one_group_has_no_group_column_and_a_single_value_no_variance() -> None:
    moments = Moments()
    moments.update(np.array([[1, 2]]))
    found = moments.table("head")
    assert found.columns.tolist() == ["head", "n", "mean", "variance"]
    assert found["mean"].tolist() == [1, 2]
    assert found.variance.isna().all()


def test_half_precision_is_summed_in_float64() -> None:
    moments = Moments()
    for _ in range(100):
        moments.update(torch.full((100, 1), 1.001, dtype=torch.bfloat16))
    assert moments.table("x")["mean"][0] == torch.tensor(1.001, dtype=torch.bfloat16).item()


def test_groups_never_seen_have_no_rows_and_misuse_is_refused() -> None:
    moments = Moments(groups=3)
    moments.update(torch.ones(4, 2), group=torch.tensor([0, 2, 2, 2]))
    assert moments.table("carry", "head").carry.tolist() == [0, 0, 2, 2]
    with pytest.raises(ValueError, match="names"):
        moments.table("carry")


def test_rows_come_back_in_order_and_survive_their_state() -> None:
    kept, resumed = PerPrompt(), PerPrompt()
    kept.update(a=np.array([1.5, np.nan]), b=np.zeros((2, 3), dtype=np.int64))
    resumed.restore(kept.state())
    for each in (kept, resumed):
        each.update(a=np.array([4.0]), b=np.ones((1, 3), dtype=np.int64))
        assert np.array_equal(each["a"], [1.5, np.nan, 4], equal_nan=True)
        assert each["b"].sum(axis=1).tolist() == [0, 0, 3]
        assert each["b"].dtype == np.int64
