"""A table is as it was declared, or is refused in one line."""

import pandas as pd
import pytest

from experiments import Rows, Table, UsageError
from experiments._contract.tables import check_tables

HEADS = Table("A head.", key="layer head", columns={"gain": "its gain", "why?": "if"}, more="n")


def heads(**changed):
    return pd.DataFrame(
        {"layer": [0, 0], "head": [0, 1], "gain": [1.0, 2.0], "n": [3, 3]} | changed
    )


def test_a_table_as_declared_passes():
    HEADS.check("heads", heads())
    HEADS.check("heads", heads(why=["a", "b"]))
    HEADS.check("heads", pd.DataFrame())


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (heads().drop(columns="gain"), "has no column 'gain'"),
        (heads(more=[1, 2]), "has a column 'more' that its Table does not declare"),
        (heads(head=[1, 1]), "two rows have the same key {'layer': 0, 'head': 1}"),
        (heads(head=["a", "b"]), "'head': holds"),
        (heads(n=[1.5, 2.5]), "'n': holds float64, expected whole"),
    ],
)
def test_what_is_not_as_declared_is_refused_in_one_line(frame, says):
    with pytest.raises(UsageError) as refused:
        HEADS.check("heads", frame)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_table_that_streams_is_checked_with_its_first_batch(tmp_path):
    rows = Rows("heads", tmp_path, declared=HEADS)
    rows.append(heads())
    with pytest.raises(UsageError, match="no column 'gain'"):
        rows.append(heads().drop(columns="gain"))


def test_columns_are_explained_by_the_table_or_by_the_glossary():
    assert HEADS.meanings()["gain"] == "its gain"
    assert HEADS.meanings()["layer"]
    with pytest.raises(UsageError, match="'oddity' is explained nowhere"):
        Table("A row.", key="oddity").meanings()


def test_every_declared_table_is_given_and_no_other():
    check_tables({"heads": HEADS}, {"heads": heads()})
    with pytest.raises(UsageError, match="'heads' is declared"):
        check_tables({"heads": HEADS}, {})
    with pytest.raises(UsageError, match="'other' is not declared"):
        check_tables({"heads": HEADS}, {"heads": heads(), "other": heads()})
