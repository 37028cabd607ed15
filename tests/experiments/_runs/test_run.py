"""Runs as processes: what they write, how they resume, and what they refuse."""

import json
import signal
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.forks import Forks


@pytest.fixture(scope="module")
def forks():
    """A process that has imported the libraries, and forks for each command."""
    found = Forks()
    yield found
    found.close()


@pytest.fixture
def command(forks, tmp_path):
    """Runs a command to its end: exit code, stdout, stderr."""
    return lambda *words: forks.command(words, tmp_path)


def manifest(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())


def the_run(tmp_path: Path, out: str) -> Path:
    return tmp_path / out.splitlines()[-1]


def wait_for_checkpoint(tmp_path: Path) -> Path:
    for _ in range(600):
        if found := list(tmp_path.glob("runs/counting/*/unfinished/*.safetensors")):
            return found[0].parent.parent
        time.sleep(0.05)
    raise AssertionError("no checkpoint within 30 s")


def test_a_run_ends_with_its_folder_and_everything_in_it(counting, command, tmp_path):
    code, out, err = command("run", counting, "--count", 7)
    folder = the_run(tmp_path, out)
    assert (code, err.count("Traceback")) == (0, 0)
    told = manifest(folder)
    assert told["status"] == "finished"
    assert told["question"] == "What do the whole numbers add up to?"
    assert told["claims"][0]["verdict"] == "holds"
    assert pd.read_parquet(folder / "tables/numbers.parquet").number.tolist() == [
        n for n in range(7) for _ in range(3)
    ]
    assert {"index.html", "tables/numbers.parquet", "tables/numbers.csv"} <= told["files"].keys()
    assert not (folder / "unfinished").exists()
    assert (tmp_path / "runs/index.html").exists()
    assert command("verify", folder)[0] == 0


def test_verify_finds_a_changed_a_missing_and_a_new_file(counting, command, tmp_path):
    folder = the_run(tmp_path, command("run", counting)[1])
    table = folder / "tables/total.parquet"
    table.write_bytes(table.read_bytes()[:-1] + b"?")
    (folder / "tables/numbers.csv").unlink()
    (folder / "tables/stray.txt").write_text("")
    code, out, _ = command("verify", folder)
    assert code == 1
    assert [line.rsplit("/", 1)[1] for line in out.splitlines()] == [
        "numbers.csv: missing",
        "stray.txt: not in the manifest",
        "total.parquet: changed",
    ]


@pytest.mark.parametrize(
    ("sign", "code", "status"),
    [(signal.SIGKILL, -9, "running"), (signal.SIGINT, 130, "interrupted")],
)
def test_a_stopped_run_goes_on_and_ends_the_same(
    sign, code, status, counting, start, command, tmp_path
):
    words = ("run", counting, "--count", 40, "--pause", 0.08)
    process = start(*words)
    stopped = wait_for_checkpoint(tmp_path)
    process.send_signal(sign)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert manifest(stopped)["status"] == status
    assert not (stopped / "tables").exists()

    _, out, err = command(*words)
    assert the_run(tmp_path, out) == stopped
    assert "resumed at" in err
    _, out, _ = command(*words, "--fresh")
    whole = the_run(tmp_path, out)
    assert whole != stopped
    for name in ("numbers", "total"):
        file = f"tables/{name}.parquet"
        assert (stopped / file).read_bytes() == (whole / file).read_bytes()


def test_two_processes_do_not_share_a_run(counting, start, command, tmp_path):
    words = ("run", counting, "--count", 40, "--pause", 0.1)
    start(*words)
    wait_for_checkpoint(tmp_path)
    code, out, err = command(*words)
    assert code == 0
    assert "waiting for it" in err or "An identical run" in err
    assert [the_run(tmp_path, out)] == list(tmp_path.glob("runs/counting/*"))


def test_a_finished_run_is_given_back_and_repeated_only_when_asked(counting, command, tmp_path):
    first = the_run(tmp_path, command("run", counting)[1])
    before = (first / "manifest.json").read_bytes()
    _, out, err = command("run", counting)
    assert the_run(tmp_path, out) == first
    assert f"exists: {first.relative_to(tmp_path)}" in err
    assert the_run(tmp_path, command("run", counting, "--fresh")[1]) != first
    assert (first / "manifest.json").read_bytes() == before


def test_a_failed_run_says_so(counting, command, tmp_path):
    text = counting.read_text()
    counting.write_text(text.replace("value - expected", "value - 1 / 0"))
    code, _, err = command("run", counting)
    assert code == 1
    assert "ZeroDivisionError" in err
    (path,) = tmp_path.glob("runs/counting/*/manifest.json")
    assert json.loads(path.read_text())["status"] == "failed"


def test_draw_redraws_from_disk_alone(counting, command, tmp_path):
    folder = the_run(tmp_path, command("run", counting)[1])
    (folder / "index.html").unlink()
    assert command("draw", folder)[0] == 2  # what a manifest says is not run
    assert command("draw", folder, "--file", counting)[0] == 0
    assert (folder / "index.html").exists()
    assert command("verify", folder)[0] == 0


def test_a_run_whose_tables_were_other_ones_is_not_drawn(counting, command, tmp_path):
    folder = the_run(tmp_path, command("run", counting)[1])
    counting.write_text(counting.read_text().replace('"number": "', '"share?": "", "figure": "'))
    code, _, err = command("draw", folder, "--file", counting)
    assert code == 2
    assert "table 'numbers' has no column 'figure'" in err
    assert "run it again" in err
    assert (folder / "index.html").exists()


def test_a_run_that_only_failed_to_draw_is_drawn_once_that_is_mended(counting, command, tmp_path):
    text = counting.read_text()
    counting.write_text(
        text.replace(
            "def figures(self, results):", "def figures(self, results):\n        raise ValueError"
        )
    )
    code, _, err = command("run", counting)
    (path,) = tmp_path.glob("runs/counting/*/manifest.json")
    assert json.loads(path.read_text())["status"] == "failed"
    assert code == 1
    assert err.splitlines()[-1].endswith(
        f"then: draw runs/counting/{path.parent.name} --file {counting}"
    )
    counting.write_text(text)
    assert command("draw", path.parent, "--file", counting)[0] == 0
    assert manifest(path.parent)["status"] == "finished"
    assert "error" not in manifest(path.parent)
    assert command("verify", path.parent)[0] == 0


def test_a_run_that_failed_before_it_had_measured_is_not_drawn(counting, command, tmp_path):
    text = counting.read_text()
    counting.write_text(
        text.replace(
            "def measure(self, model):", "def measure(self, model):\n        raise ValueError"
        )
    )
    assert command("run", counting)[0] == 1
    (path,) = tmp_path.glob("runs/counting/*/manifest.json")
    counting.write_text(text)
    code, _, err = command("draw", path.parent)
    assert (code, err.count("run it to its end first")) == (2, 1)


def test_a_suite_skips_what_is_finished(counting, command, tmp_path):
    points = "".join(f'[[run]]\nexperiment = "counting.py"\ncount = {count}\n' for count in (3, 4))
    (tmp_path / "two.toml").write_text(points)
    suite = ("suite", "two.toml", "--file", counting)
    code, dry, _ = command(*suite, "--dry-run")
    assert code == 0
    assert [line.split("--")[1] for line in dry.splitlines()] == ["count 3", "count 4"]
    assert not (tmp_path / "runs").exists()
    first = command(*suite)[1].splitlines()
    assert command(*suite)[1].splitlines() == first
    assert len(list(tmp_path.glob("runs/counting/*"))) == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "head_contribution"], "did you mean 'head_contributions'?"),
        (["rnu"], "did you mean 'run'?"),
        (["run", "counting.py", "--coutn", "3"], "did you mean 'count'?"),
        (["run", "counting.py", "--count", "0"], "field count: Input should be greater than"),
        (["run", "counting.py", "--count", "x"], "command line: counting, field count: "),
        (["run", "counting.py", "--count", "1", "2"], "--count takes one value, got 2"),
        (["run", "counting.py", "--preset", "none.toml"], "none.toml: no such file"),
        (["run", "counting.py", "--preset", "."], ".: is a directory"),
        (["run", "counting.py", "--count"], "--count needs a value"),
        (["run", "counting.py", "--device", "gpu"], "field device: give cpu, mps, cuda"),
        (["run", "addition_accuracy", "--device", "cuda:99"], "device cuda:99: "),
        (["new", "MyQuestion"], "use lower_case_words"),
        (["run", "missing.py"], "missing.py: no such file"),
        (["suite", "counting.py"], "counting.py: not a TOML file"),
        (["draw", "."], "no run here"),
        (["check", "adder_6d_2"], "adder_6d_2l"),
        (["new", "not-a-name"], "is no name for a file"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(words, expected, counting, command):
    code, _, err = command(*words)
    lines = err.splitlines()
    assert (code, len(lines)) == (2, 1)
    assert lines[0].startswith("error: ")
    assert expected in lines[0]


def test_precedence_is_default_preset_command_line(counting, command, tmp_path):
    (tmp_path / "preset.toml").write_text("count = 3\nseed = 5\n")
    _, out, _ = command("run", counting, "--preset", "preset.toml", "--count", "4")
    fields = manifest(the_run(tmp_path, out))["fields"]
    assert (fields["count"], fields["seed"], fields["batch_size"]) == (4, 5, 32)


def test_the_command_in_the_manifest_repeats_the_run(counting, command, tmp_path):
    told = manifest(the_run(tmp_path, command("run", counting, "--count", 4, "--seed", 9)[1]))
    words = told["command"].split()[3:]
    again = manifest(the_run(tmp_path, command(*words)[1]))
    assert again["hash"] == told["hash"]


def test_browse_serves_the_gallery_read_only_on_the_loopback(counting, start, command):
    import urllib.error
    import urllib.request

    command("run", counting)
    process = start("browse", "--serve")
    process.stdout.readline()
    url = process.stdout.readline().split()[0]
    assert url.startswith("http://127.0.0.1:")
    page = urllib.request.urlopen(url, timeout=10).read().decode()
    assert "What do the whole numbers add up to?" in page
    with pytest.raises(urllib.error.HTTPError, match="501"):
        urllib.request.urlopen(urllib.request.Request(url, b"x", method="PUT"), timeout=10)


def test_a_file_that_a_field_names_is_part_of_the_hash(tmp_path):
    from experiments._runs.finding import find
    from experiments._runs.manifest import run_hash

    kind, hashes = find("head_contributions"), []
    for text in ("one", "two", "one"):
        for name, header in (("texts.txt", ""), ("texts.csv", "id\n")):
            (tmp_path / name).write_text(header + text)
        files = tmp_path / "texts.txt", tmp_path / "texts.csv:id"
        hashes.append([run_hash(kind(model="adder_6d_1l", prompts_file=f)) for f in files])
    for first, second, third in zip(*hashes, strict=True):
        assert first == third != second
