"""What an experiment answers wrongly is refused in one line that says what and where."""

import numpy as np
import pandas as pd
import pytest

from experiments import Claim, Results, Table, UsageError
from experiments._contract.rows import Rows
from experiments._runs import answers
from experiments._runs.store import write_arrays, write_tables

RESULTS = Results({"rows": pd.DataFrame({"row": [0], "size": [1.0]})})


def answering(kind, name: str, answer):
    """The experiment with another answer to one of the questions."""
    return type(kind.__name__, (kind,), {"__module__": kind.__module__, name: answer})()


@pytest.mark.parametrize(
    ("asks", "given", "says"),
    [
        ("headline", None, "headline gave nothing; return a sentence"),
        ("claims", None, "claims gave nothing; return a list of Claims"),
        ("claims", ["a sentence."], "claims gave a str; return a list of Claims"),
        ("figures", [1], "figures gave a list; return a dict of figures by title"),
    ],
)
def test_what_is_no_answer_is_refused(asks, given, says, asking):
    wrong = answering(asking, asks, lambda self, results: given)
    with pytest.raises(UsageError, match=says):
        getattr(answers, asks)(wrong, RESULTS)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            "Claim.not_tested('guess', 'A.', needs='more')",
            "Claim, kind: Input should be 'identity'",
        ),
        ("Claim.descriptive('A')", "a claim is a full sentence with a full stop: 'A'"),
    ],
)
def test_a_claim_that_is_none_is_told_with_its_line(line, says, asking, tmp_path):
    path = tmp_path / "asking.py"
    path.write_text(f"def claims(self, results):\n    return [{line}]\n")
    names = {"Claim": Claim}
    exec(compile(path.read_text(), path, "exec"), names)
    with pytest.raises(UsageError, match=rf"^asking\.py, line 2: .*{says}") as refused:
        answers.claims(answering(asking, "claims", names["claims"]), RESULTS)
    assert "\n" not in str(refused.value)


MIXED = pd.DataFrame({"x": [1, "a"]})


def test_a_column_of_several_types_is_refused_by_name(tmp_path):
    with pytest.raises(UsageError, match="table 't', column 'x': holds int and str"):
        write_tables(tmp_path, {"t": MIXED}, {"t": Table("A row.", columns={"x": "x"})})
    rows = Rows("t", tmp_path / "rows")
    rows.append(MIXED)
    with pytest.raises(UsageError, match="table 't', column 'x': holds int and str"):
        rows.parts()


def test_batches_of_other_types_are_refused_by_table(tmp_path):
    rows = Rows("t", tmp_path / "rows")
    for values in ([1, 2], ["a"]):
        rows.append(pd.DataFrame({"x": values}))
        rows.parts()
    with pytest.raises(UsageError, match="table 't': batches differ in their columns"):
        write_tables(tmp_path, {"t": rows}, {"t": Table("A row.", columns={"x": "x"})})


def test_an_array_without_numbers_is_refused_by_name(tmp_path):
    with pytest.raises(UsageError, match="array 'words': holds <U1"):
        write_arrays(tmp_path, {"words": np.array(["a"])})
