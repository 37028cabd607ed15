import numpy as np

from lenses.per_prompt import PerPrompt


def test_rows_come_back_in_order_and_survive_their_state() -> None:
    kept, resumed = PerPrompt(), PerPrompt()
    kept.update(a=np.array([1.5, np.nan]), b=np.zeros((2, 3), dtype=np.int64))
    resumed.restore(kept.state())
    for each in (kept, resumed):
        each.update(a=np.array([4.0]), b=np.ones((1, 3), dtype=np.int64))
        assert np.array_equal(each["a"], [1.5, np.nan, 4], equal_nan=True)
        assert each["b"].sum(axis=1).tolist() == [0, 0, 3]
        assert each["b"].dtype == np.int64


def test_merged_prompts_follow() -> None:
    one, other = PerPrompt(), PerPrompt()
    one.update(a=np.array([1]))
    other.update(a=np.array([2, 3]))
    one.merge(other)
    assert one["a"].tolist() == [1, 2, 3]
    assert PerPrompt().state() == {}
