"""A suite's lists stand for their product, and every point is validated before anything runs."""

import pytest

from experiments import UsageError
from experiments._runs.suite import read_suite


def points(tmp_path, text: str) -> list:
    path = tmp_path / "suite.toml"
    path.write_text(text)
    return read_suite(path)


def test_lists_stand_for_their_product(tmp_path):
    found = points(
        tmp_path,
        """
        [[run]]
        experiment = ["head_contributions", "head_redundancy"]
        model = ["adder_6d_1l", "adder_6d_2l"]
        seed = [0, 1]
        [[run]]
        experiment = "attention_primer"
        """,
    )
    assert [(point.name(), point.model, point.seed) for point in found] == [
        ("head_contributions", "adder_6d_1l", 0),
        ("head_contributions", "adder_6d_1l", 1),
        ("head_redundancy", "adder_6d_1l", 0),
        ("head_redundancy", "adder_6d_1l", 1),
        ("head_contributions", "adder_6d_2l", 0),
        ("head_contributions", "adder_6d_2l", 1),
        ("head_redundancy", "adder_6d_2l", 0),
        ("head_redundancy", "adder_6d_2l", 1),
        ("attention_primer", "none", 0),
    ]


def test_a_list_for_a_field_of_several_values_is_its_value(tmp_path):
    (point,) = points(
        tmp_path, '[[run]]\nexperiment = "head_contributions"\nprompts = ["one", "two"]'
    )
    assert point.prompts == ("one", "two")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[[run]]\nmodel = "x"', 'run 1: needs experiment = "NAME"'),
        ("[[run]]\nexperiment = []", 'run 1: needs experiment = "NAME"'),
        ('[[run]]\nexperiment = ["head_contributions", 3]', "run 1: needs experiment"),
        ('[[run]]\nexperiment = "head_contributions"\nmodel = ["adder_6d_1l", "addr_6d_2l"]',
         "run 1: no model 'addr_6d_2l': did you mean adder_6d_2l?"),
        ('[[run]]\nexperiment = "head_contributions"\nseed = [0, -1]', "run 1: .*field seed"),
        ('[[run]]\nexperiment = "head_contributions"\nseed = []', "run 1: .*field seed"),
        ('[[run]]\nexperiment = "head_contributions"\ndevice = "cuda:99"', "device cuda:99"),
        ('[[run]]\nexperiment = ["head_contributions", "attention_primer"]\nadditions = 3',
         "run 1: attention_primer has no field 'additions'"),
    ],
)  # fmt: skip
def test_a_wrong_point_is_told_before_anything_runs(text, says, tmp_path):
    with pytest.raises(UsageError, match=says):
        points(tmp_path, text)
