"""Pieces made by several processes, also when some are killed, give what one process gives."""

import multiprocessing
import os
import random
import re
import signal
import time
from pathlib import Path

import pytest

from experiments import UsageError
from experiments._runs.arguments import build
from experiments._runs.finding import find
from experiments._runs.registry import names
from experiments._runs.run import run
from experiments._runs.shards import folders_of_pieces, merge, shard_of, work
from tests.experiments._runs.conftest import STUDY

fork = multiprocessing.get_context("fork")
FEW = 9


def numbers_of(folder: Path) -> dict[str, bytes]:
    """The bytes of every table and array of a run."""
    files = (*folder.glob("tables/*.parquet"), *folder.glob("arrays/*"))
    return {path.name: path.read_bytes() for path in files}


def begin(experiment, turn: int, of: int):
    """A process that works on a shard."""
    process = fork.Process(target=work, args=(experiment, shard_of(f"{turn + 1}/{of}")))
    process.start()
    return process


@pytest.mark.parametrize("of", [1, 2, 3, 7])
def test_any_number_of_shards_merged_equals_one_run(study, of):
    experiment = study(pause=0.02)
    processes = [begin(experiment, turn, of) for turn in range(of)]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    (folder,) = folders_of_pieces()
    assert len(list(folder.glob("*/0*.safetensors"))) == 2 * FEW
    merged = merge(folder)
    assert not folder.exists()
    once = run(experiment, fresh=True)
    assert once != merged
    assert numbers_of(once) == numbers_of(merged)
    assert set(numbers_of(once)) == {"numbers.parquet", "moments.parquet", "last.safetensors"}


def killed_at_random(experiment, draw: random.Random) -> None:
    """Three shards, of which one is killed at a random moment."""
    processes = [begin(experiment, turn, 3) for turn in range(3)]
    time.sleep(draw.uniform(0, experiment.pause * 8))
    os.kill(processes[draw.randrange(3)].pid, signal.SIGKILL)
    for process in processes:
        process.join()
    assert sorted(process.exitcode for process in processes)[1:] == [0, 0]


@pytest.mark.parametrize("times", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_a_shard_that_is_killed_changes_nothing(study, times):
    once = numbers_of(run(study(pause=0.02)))
    for number in range(times):
        experiment = study(pause=0.02, seed=number + 1)  # so that each has pieces of its own
        killed_at_random(experiment, random.Random(number))
        (folder,) = folders_of_pieces()
        assert numbers_of(merge(folder)) == once


def test_shards_share_the_work(study, capfd):
    processes = [begin(study(pause=0.05), turn, 3) for turn in range(3)]
    for process in processes:
        process.join()
    made = re.findall(r"(\d+) of 18 pieces made here", capfd.readouterr().err)
    assert len(made) == 3
    assert min(map(int, made)) > 0
    assert sum(map(int, made)) == 2 * FEW


def test_what_is_missing_is_made_when_merged(study):
    experiment = study()
    work(experiment, shard_of("1/2"))
    (folder,) = folders_of_pieces()
    gone = sorted(folder.glob("*/000003-*"))[0]
    gone.unlink()
    assert numbers_of(merge(folder)) == numbers_of(run(experiment, fresh=True))


def test_a_damaged_piece_and_two_that_differ_are_refused(study):
    work(study(), shard_of("1/1"))
    (folder,) = folders_of_pieces()
    piece = sorted(folder.glob("*/000003-*"))[0]
    whole = piece.read_bytes()
    piece.write_bytes(whole[:-1] + b"x")
    with pytest.raises(UsageError, match=f"{piece.name}: damaged; delete it"):
        merge(folder)
    piece.write_bytes(whole)
    piece.with_name("000003-other.safetensors").write_bytes(whole)
    with pytest.raises(UsageError, match=r"are one batch of 'study .*' and differ"):
        merge(folder)


def test_pieces_of_other_code_are_refused(study, tmp_path):
    work(study(), shard_of("1/1"))
    (folder,) = folders_of_pieces()
    (tmp_path / "study.py").write_text(STUDY + "\n")
    with pytest.raises(UsageError, match="pieces of other code, files or weights"):
        merge(folder)


def test_a_batch_that_looks_back_is_not_the_same(study):
    """So the test over all experiments below can fail."""
    work(study(leak=True), shard_of("1/1"))
    (folder,) = folders_of_pieces()
    assert numbers_of(merge(folder)) != numbers_of(run(study(leak=True), fresh=True))


def test_what_goes_on_from_batch_to_batch_says_so(counting, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    experiment = build(find(str(counting)), {}, "test")
    with pytest.raises(UsageError, match=r"'counting numbers' cannot be cut .*: Total goes on"):
        work(experiment, shard_of("1/2"))
    emergence = build(find("carry_emergence"), {}, "test")
    with pytest.raises(UsageError, match=r"is one piece \(each step of training needs"):
        work(emergence, shard_of("1/2"))


@pytest.mark.parametrize("words", ["0/3", "4/3", "1", "a/b", "1/0", "-1/2"])
def test_a_shard_is_one_of_several(words):
    with pytest.raises(UsageError, match="give I/N, such as 2/7"):
        shard_of(words)


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_every_experiment_that_can_be_cut_gives_the_same(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    kind = find(name)
    if kind.in_one_piece:
        pytest.skip(kind.in_one_piece)
    model = {"model": "adder_6d_1l"} if kind.needs_model else {}
    experiment = build(kind, {**kind.quick, **model}, "test")
    work(experiment, shard_of("1/2"))
    (folder,) = folders_of_pieces()
    merged = numbers_of(merge(folder))
    once = numbers_of(run(experiment, fresh=True))
    differ = {name for name in once if once[name] != merged[name]}
    assert {name for name in differ if "_seconds" not in name} == set()  # times are measured anew
    assert merged.keys() == once.keys()
