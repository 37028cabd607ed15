"""What each command of the command line does.

Each imports what it needs when it is asked for, so that `list` and `--help` answer at once.
"""

import json
import keyword
import re
from argparse import Namespace
from pathlib import Path

from experiments._contract.errors import UsageError
from experiments._contract.progress import be_silent
from experiments._runs import registry
from experiments._runs.folders import RUNS, folder_of, slug
from experiments._runs.starting import importing
from experiments._runs.words import leading, split

RUN_USAGE = """usage: run NAME|FILE [NAME ...] [--FIELD VALUE ...]

  --preset FILE   fields from a TOML file; those of the command line win
  --label TEXT    a name for the run, by which other commands find it
  --fresh         run anew, even if an identical run is finished or was broken off
  --shard I/N     be one of N processes that share the run; `merge` makes it of their pieces
  --quiet         print nothing but the run's folder
  --json          print the run as JSON, a line each, and no progress"""


def list_(asked: Namespace) -> int:
    """Show every experiment: models and time, how many tables, and the question it asks."""
    found = [registry.summary(name) for name in registry.names()]
    if asked.json:
        print(json.dumps([vars(one) for one in found], indent=1))
        return 0
    name, runs_on = (max((len(vars(one)[k]) for one in found), default=0) for k in COLUMNS)
    for one in found:
        tables = f"{one.tables:>2} table{'s' if one.tables != 1 else ' '}"
        print(f"{one.name:<{name}}  {one.runs_on:<{runs_on}}  {tables}  {one.question}")
    return 0


COLUMNS = ("name", "runs_on")


def run(asked: Namespace) -> int:
    """Run experiments by name or by file; `run NAME --help` shows an experiment's fields."""
    more, words = leading(asked.rest)
    names = [*asked.names, *more]
    if asked.help or not names:
        return _run_help(names)
    for name in names:
        registry.refuse_unknown_fields(name, split(words), "command line")
    silent = asked.quiet or asked.json
    if silent:
        be_silent()
    with importing(", ".join(names), said=not silent):
        from experiments._runs.answer import answer_lines, as_json
        from experiments._runs.arguments import configure
        from experiments._runs.finding import find
        from experiments._runs.opened import started
        from experiments._runs.run import load_for_good
        from experiments._runs.shards import shard_of, work

        kinds = [find(name) for name in names]
    for experiment in [configure(kind, asked.preset, words) for kind in kinds]:
        if asked.shard:
            print(work(experiment, shard_of(asked.shard), load_for_good), flush=True)
            continue
        options = {"fresh": asked.fresh, "label": asked.label}
        done = started(experiment, loader=load_for_good, **options)
        if asked.json:
            print(json.dumps(as_json(done.folder, done.manifest)), flush=True)
            continue
        lines = [] if asked.quiet else answer_lines(done.folder, done.manifest)
        print(*lines, done.shown, sep="\n", flush=True)
    return 0


def suite(asked: Namespace) -> int:
    """Run what a TOML file lists; what is finished is skipped, what is broken off is resumed."""
    with importing(str(asked.suite), said=not asked.dry_run):
        from experiments._runs.suite import LastModel, read_suite, run_by_processes, run_suite

        _import(asked.file)
        points = read_suite(asked.suite)
    if asked.dry_run:
        from experiments._runs.manifest import command

        print(*map(command, points), sep="\n")
    elif asked.shard:
        from experiments._runs.shards import shard_of, share

        for folder in share(points, shard_of(asked.shard), LastModel()):
            print(folder, flush=True)
    elif asked.on:
        from experiments._runs.cluster import run_on_dask

        run_on_dask(points, asked.scheduler)
    else:
        if asked.jobs != 1:
            run_by_processes(min(asked.jobs, len(points)), asked.suite, asked.file)
        run_suite(points)
    return 0


def merge(asked: Namespace) -> int:
    """Make the runs whose pieces `--shard` made: those in FOLDER, or all below runs/."""
    from experiments._runs.shards import folders_of_pieces, merge
    from experiments._runs.suite import LastModel
    from viz import write_gallery

    _import(asked.file)
    found, loader = asked.pieces or folders_of_pieces(), LastModel()
    if not found:
        raise UsageError(f"{RUNS}/ holds no pieces: make some with run or suite, and --shard I/N")
    for folder in found:
        print(merge(folder, loader), flush=True)
    write_gallery(RUNS)
    return 0


def _import(files: list[Path]) -> None:
    """Import experiment files that the command line names: no other file may have them run."""
    from experiments._runs.finding import find

    for file in files:
        find(str(file.resolve()))


def show(asked: Namespace) -> int:
    """Show a run: what was asked, the answer, tables, figures, and the command."""
    from experiments._runs.answer import as_json, show_lines
    from experiments._runs.manifest import manifest_of

    folder = folder_of(asked.run)
    told = manifest_of(folder)
    if asked.json:
        print(json.dumps(as_json(folder, told), indent=1))
    else:
        print(*show_lines(folder, told), folder, sep="\n")
    return 0


def compare(asked: Namespace) -> int:
    """Show what differs between two runs: fields, weights, versions, claims and tables."""
    from experiments._runs.comparing import compare as compared
    from experiments._runs.opened import open_run

    found = compared(*map(open_run, asked.runs))
    print(json.dumps(found.as_json(), indent=1) if asked.json else "\n".join(found.lines()))
    return 0


def export(asked: Namespace) -> int:
    """Write one figure of a run for a paper, or its data as CSV."""
    from experiments._runs.opened import open_run
    from viz.export import FORMATS
    from viz.export import export as write

    run = open_run(asked.run)
    _import(asked.file)
    title, drawing = run.figure(asked.figure)
    ends = asked.format or (asked.out.suffix[1:] if asked.out else "pdf")
    if ends not in FORMATS:
        raise UsageError(f"{asked.out}: ends in none of {', '.join(FORMATS)}; or say --format")
    if asked.width is not None and not 0.5 <= asked.width <= 40:
        raise UsageError(f"--width {asked.width:g}: give inches between 0.5 and 40")
    path = asked.out or Path(f"{run.manifest['experiment']}-{slug(title)}")
    path = path if path.suffix == f".{ends}" else path.with_name(f"{path.name}.{ends}")
    print(write(drawing, path, width=asked.width, title=asked.title))
    return 0


def draw(asked: Namespace) -> int:
    """Draw a finished run anew from its stored numbers."""
    from experiments._runs.run import redraw

    folder = folder_of(asked.run)
    _import(asked.file)
    redraw(folder)
    print(folder)
    return 0


def verify(asked: Namespace) -> int:
    """Compare every file of runs with their manifests."""
    from experiments._runs.manifest import manifest_of
    from experiments._runs.manifest import verify as differences

    problems = 0
    for folder in map(folder_of, asked.runs):
        found = differences(folder)
        if not found:
            print(f"{folder}: {len(manifest_of(folder)['files'])} files, all as written")
        for problem in found:
            print(problem)
        problems += len(found)
    return 1 if problems else 0


def rm(asked: Namespace) -> int:
    """Delete runs for good."""
    from experiments._runs.run import delete
    from viz import write_gallery

    for folder in list(map(folder_of, asked.runs)):
        delete(folder)
        print(f"deleted {folder}")
    if RUNS.is_dir():
        write_gallery(RUNS)
    return 0


def browse(asked: Namespace) -> int:
    """Rebuild the gallery and print its path; with --serve, serve it on 127.0.0.1."""
    from viz import write_gallery

    RUNS.mkdir(exist_ok=True)
    print(write_gallery(RUNS).resolve(), flush=True)
    if asked.serve:
        from experiments._serve import serve

        serve(RUNS)
    return 0


def models(_: Namespace) -> int:
    """Show every model card."""
    from models import cards

    for card in cards():
        print(f"{card.name:<18} {card.source:<13} {card.licence:<20} {card.notes}")
    return 0


def check(asked: Namespace) -> int:
    """Load a model and show what it was checked for, what was read and what was ignored."""
    from models import examined

    model = examined(asked.model)
    for identity in model.identities:
        verdict = "ok" if identity.ok else "FAILS"
        print(f"{verdict:<6} {identity.error:<10.3g} <= {identity.tolerance:<8.3g} {identity.name}")
    print(*model.read_report, sep="\n")
    return 0 if all(identity.ok for identity in model.identities) else 1


def new(asked: Namespace) -> int:
    """Write a new experiment's file and its test."""
    from experiments._new import write_experiment

    if not re.fullmatch(r"[a-z][a-z0-9_]*", asked.name) or keyword.iskeyword(asked.name):
        raise UsageError(f"{asked.name!r} is no name for a file: use lower_case_words")
    for path in write_experiment(asked.name, registry.FOLDER.parent):
        print(path)
    return 0


def doctor(_: Namespace) -> int:
    """Look at this machine: versions, accelerator, fonts, browser, disk."""
    from experiments._doctor import findings

    ok = True
    for finding in findings():
        print(f"{'ok' if finding.ok else 'look':<5} {finding.what}")
        ok &= finding.ok or not finding.needed
    return 0 if ok else 1


def _run_help(names: list[str]) -> int:
    print(RUN_USAGE)
    if not names:
        print("The experiments are:", ", ".join(registry.names()))
    for name in names:
        one = registry.summary(name)
        print(f"\n{name}: {one.question}\n")
        if one.runs_on:
            print(f"Runs on: {one.runs_on}\n")
        for field in registry.field_help(name):
            bounds = f", {field.bounds}" if field.bounds else ""
            option = f"--{field.name.replace('_', '-')}"
            print(f"  {option} {field.annotation} = {field.default}{bounds}")
            print(f"      {field.help}")
        print("\nTables:")
        for table in registry.table_help(name):
            print(f"  {table.name}: {table.about}{f' (by {table.key})' if table.key else ''}")
    return 0
