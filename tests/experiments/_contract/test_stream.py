"""Streams and tables on disk."""

import numpy as np
import pandas as pd
import pytest

from experiments import Results, Table
from experiments._contract.experiment import Frames
from experiments._contract.rows import Rows
from experiments._contract.stream import Session
from experiments._runs.finding import find
from experiments._runs.manifest import files_of
from experiments._runs.store import Arrays, Tables, write_arrays, write_tables
from viz.files import write_atomically

NUMBERS = Table("A number.", columns={"number": "it", "token?": "its name"})


def frame(*numbers):
    return pd.DataFrame({"number": numbers, "token": [f"t{n}" for n in numbers]})


def test_rows_forget_what_came_after_the_state(tmp_path):
    rows = Rows("r", tmp_path)
    rows.append(frame(1, 2))
    state = rows.state()
    rows.append(frame(3))
    rows.state()
    again = Rows("r", tmp_path)
    again.restore(state)
    again.append(frame(4))
    assert again.frame().number.tolist() == [1, 2, 4]


def test_the_parts_of_a_table_leave_no_trace_in_its_file(tmp_path):
    for name, sizes in {"one": [140_000], "many": [1, 69_999, 70_000]}.items():
        rows, start = Rows("numbers", tmp_path / name / "parts"), 0
        for size in sizes:
            rows.append(pd.DataFrame({"number": np.arange(start, start + size)}))
            rows.state()
            start += size
        write_tables(tmp_path / name, {"numbers": rows}, {"numbers": NUMBERS})
    one, many = ((tmp_path / n / "tables/numbers.parquet").read_bytes() for n in ("one", "many"))
    assert one == many


def test_pieces_of_a_long_table_have_the_numbers_of_the_whole(tmp_path):
    whole = pd.DataFrame({"number": np.arange(50_000), "half": np.arange(50_000) / 2})
    rows = Rows("numbers", tmp_path / "parts")
    for start in range(0, 50_000, 7_000):
        rows.append(whole[start : start + 7_000])
    declared = Table("A number.", columns={"number": "it", "half": "half of it"})
    write_tables(tmp_path, {"numbers": rows}, {"numbers": declared})
    for tables in (Frames({"numbers": rows}), Tables(tmp_path, files_of(tmp_path))):
        parts = list(Results(tables).pieces("numbers"))
        assert len(parts) > 1
        pd.testing.assert_frame_equal(pd.concat(parts), whole)
        halves = pd.concat(Results(tables).pieces("numbers", ["half"]))
        pd.testing.assert_frame_equal(halves, whole[["half"]])


def test_short_tables_have_a_csv_and_long_ones_have_none(tmp_path):
    long = pd.DataFrame({"x": np.zeros(50_001)})
    declared = {"short": NUMBERS, "long": Table("A zero.", columns={"x": "it"})}
    short, longer = write_tables(tmp_path, {"short": frame(1), "long": long}, declared)
    assert (short["csv"], longer["csv"]) == ("tables/short.csv", None)
    assert longer["rows"] == 50_001


def test_a_token_called_nan_survives_the_disk(tmp_path):
    table = pd.DataFrame({"token": ["nan", "", "null", "万"]})
    write_tables(tmp_path, {"t": table}, {"t": Table("A token.", key="token")})
    assert Tables(tmp_path, files_of(tmp_path))["t"].token.tolist() == ["nan", "", "null", "万"]


def test_arrays_survive_the_disk(tmp_path):
    array = np.arange(6.0).reshape(2, 3)
    write_arrays(tmp_path, {"a": array})
    assert (Arrays(tmp_path, files_of(tmp_path))["a"] == array).all()


def test_an_unwritten_file_leaves_the_old_one(tmp_path):
    path = tmp_path / "f"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "not bytes")
    assert path.read_bytes() == b"old"


class Whole:
    """Keeps one array as it is."""

    def __init__(self, array):
        self.array = array

    def state(self):
        return {"array": self.array}

    def restore(self, state):
        self.array = state["array"]


@pytest.mark.parametrize("array", [
    np.moveaxis(np.arange(24).reshape(2, 3, 4), 0, 2), np.arange(6).reshape(2, 3).T,
    np.arange(12)[::-2], np.array(7)])  # fmt: skip
def test_arrays_come_back_as_they_were_however_they_lie_in_memory(array, tmp_path):
    list(Session(tmp_path).stream([1], Whole(array), "x"))
    again = Whole(None)
    list(Session(tmp_path).stream([1], again, "x"))
    write_arrays(tmp_path, {"array": array})
    for back in (again.array, Arrays(tmp_path, files_of(tmp_path))["array"]):
        assert back.shape == array.shape
        np.testing.assert_array_equal(back, array)


def test_an_experiment_cuts_batches_of_a_size():
    experiment = find("addition_accuracy")()
    assert list(experiment.stream([1, 2, 3], (), "x", 2)) == [[1, 2], [3]]
    assert list(experiment.stream([1, 2, 3])) == [1, 2, 3]


def test_a_stream_without_a_run_yields_every_batch():
    assert list(Session().stream([1, 2, 3], (), "x")) == [1, 2, 3]


def test_a_done_stream_yields_nothing_again(tmp_path):
    rows = Rows("r", tmp_path / "r")
    for n in Session(tmp_path).stream(range(4), rows, "x"):
        rows.append(frame(n))
    again = Rows("r", tmp_path / "r")
    assert list(Session(tmp_path).stream(range(4), again, "x")) == []
    assert again.frame().number.tolist() == [0, 1, 2, 3]
