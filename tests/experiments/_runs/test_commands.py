"""What the commands about runs print, write and refuse."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from experiments.__main__ import main
from experiments._runs import registry


def test_show_tells_what_was_asked_and_answered(first, tell):
    code, out, _ = tell("show", first.name.rpartition("-")[2][:5])
    lines = out.splitlines()
    assert code == 0
    assert lines[0] == "asking on adder_6d_1l (first): How large are the weights?"
    assert any(line.split() == ["field", "model", "=", "'adder_6d_1l'"] for line in lines)
    assert " undecided  There are more than two.  2 [1, 3], n = 7" in lines
    assert "     table  rows: 2 rows. A row." in lines
    assert "    figure  The rows" in lines
    assert lines[-1] == str(first)


def test_show_json_is_the_manifest_and_where_it_lies(first, tell):
    told = json.loads(tell("show", "first", "--json")[1])
    assert told["folder"] == str(first.resolve())
    assert told["claims"][1]["verdict"] == "undecided"


def test_compare_tells_what_differs(asked, first, tell):
    tell("run", asked, "--model", "adder_6d_1l", "--seed", 3, "--count", 3, "--label", "other")
    code, out, _ = tell("compare", "first", "other")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert code == 0
    assert "differs seed: 0 | 3" in lines
    assert "same There are 2 rows." in lines  # the number does not make it another claim
    assert "undecided 2 [1, 3] | undecided 3 [2, 4]" in lines
    assert "table rows: 2 x 2 | 3 x 2 values" in lines
    assert not any(line.startswith("differs weights") for line in lines)


def test_compare_says_how_far_tables_are_apart(asked, first, tell):
    tell("run", asked, "--model", "adder_6d_1l", "--seed", 3, "--label", "other")
    told = json.loads(tell("compare", "first", "other", "--json")[1])
    assert told["tables"] == {"rows": "size differs by up to 3"}
    assert told["claims"][0]["same"]


def test_rm_deletes_a_run_and_nothing_else(first, tell, tmp_path):
    (tmp_path / "mine").mkdir()
    assert tell("rm", tmp_path / "mine")[0] == 2
    assert (tmp_path / "mine").is_dir()
    assert tell("rm", "first")[:2] == (0, f"deleted {first}\n")
    assert not first.exists()


def test_several_runs_are_verified_at_once(asked, first, tell):
    (second,) = tell("run", asked, "--model", "adder_6d_1l", "--seed", 1, "--quiet")[1].split()
    (Path(second) / "tables" / "rows.csv").unlink()
    code, out, _ = tell("verify", "first", second)
    assert code == 1
    assert [line.rpartition(": ")[2] for line in out.splitlines()][1:] == ["missing"]
    assert out.splitlines()[0].startswith(f"{first}: ")


def test_a_run_prints_the_answer_and_last_its_folder(asked, first, tell):
    code, out, err = tell("run", asked, "--model", "adder_6d_1l")
    assert code == 0
    assert out.splitlines()[0].startswith("The size is ")
    assert out.splitlines()[-1] == str(first)
    assert re.search(rf"An identical run of \d{{4}}-\d\d-\d\d \d\d:\d\d UTC exists: {first}", err)


def test_quiet_prints_the_folder_only(asked, first, tell):
    assert tell("run", "--quiet", asked, "--model", "adder_6d_1l") == (0, f"{first}\n", "")


def test_json_is_a_line_for_each_run(asked, first, tell):
    code, out, err = tell("run", asked, asked, "--model", "adder_6d_1l", "--json")
    assert (code, err) == (0, "")
    assert [json.loads(line)["folder"] for line in out.splitlines()] == [str(first.resolve())] * 2


@pytest.mark.parametrize(
    "words",
    [("--refused", "true"), ("--model", "no_such_model"), ("--model", "none.gguf")],
)
def test_a_request_that_is_refused_leaves_no_folder(words, asked, first, tell):
    before = sorted(Path("runs/asking").iterdir())
    code, _, err = tell("run", asked, "--model", "adder_6d_1l", "--seed", 5, *words)
    assert (code, err.splitlines()[-1][:7]) == (2, "error: ")
    assert sorted(Path("runs/asking").iterdir()) == before


@pytest.mark.parametrize("end", ["pdf", "svg", "png"])
def test_a_figure_is_exported_at_a_width(end, first, tell):
    words = ("export", "first", "the rows", "--format", end, "--width", 3.3)
    code, out, _ = tell(*words, "--title", "A $title")
    assert (code, out) == (0, f"asking-the-rows.{end}\n")
    content = Path(f"asking-the-rows.{end}").read_bytes()
    if end == "png":
        with Image.open(f"asking-the-rows.{end}") as image:
            assert image.width == round(3.3 * 300)
    else:
        assert b"/FontType 42" in content or b"CIDFontType2" in content or end == "svg"
        assert b"/Type3" not in content


def test_the_data_of_a_figure_are_exported(first, tell):
    assert tell("export", "first", "--out", "a/rows.csv")[:2] == (0, "a/rows.csv\n")
    assert pd.read_csv("a/rows.csv")["row"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("export", "first", "The rowz"), "did you mean 'The rows'?; there are: The rows"),
        (("export", "first", "--width", "0"), "give inches between"),
        (("export", "first", "--out", "a.docx"), "ends in none of pdf, svg, png, csv"),
        (("show", "zzz"), "no run 'zzz' in runs/"),
        (("compare", "first"), "RUN"),
        (("verify",), "RUN"),
    ],
)
def test_a_mistake_is_told_in_one_line(words, says, first, tell):
    code, _, err = tell(*words)
    assert (code, len(err.splitlines())) == (2, 1)
    assert says in err


def test_help_tells_tables_bounds_and_options(asked, tell):
    code, out, _ = tell("run", asked, "--help")
    assert code == 0
    for said in ("--preset FILE", "--fresh", "--label TEXT", "--quiet", "--json"):
        assert said in out
    assert "  --count int = 2, at least 1 and at most 9\n" in out
    assert "  rows: A row. (by row)\n" in out


def test_list_tells_models_time_and_tables(tell):
    lines = tell("list")[1].splitlines()
    own = next(line for line in lines if line.startswith("attention_primer "))
    assert re.search(r"no model \d+ s +\d+ tables +What does", own)
    told = {one["name"]: one for one in json.loads(tell("list", "--json")[1])}
    assert told.keys() == set(registry.names())
    assert told["head_contributions"]["runs_on"].startswith("adder ")


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert re.fullmatch(r"carrylens \d+\.\d+\.\d+\n", capsys.readouterr().out)
