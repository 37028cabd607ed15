"""What each command of the command line does.

Each imports what it needs when it is asked for, so that `list` and `--help` answer at once.
"""

import functools
import http.server
import keyword
import re
from argparse import Namespace

from experiments._contract.errors import UsageError
from experiments._runs import registry
from experiments._runs.words import split

RUN_USAGE = "usage: run NAME|FILE [NAME ...] [--preset FILE] [--fresh] [--FIELD VALUE ...]"


def list_(_: Namespace) -> int:
    """Show every experiment and the question it asks."""
    names = registry.names()
    width = max(map(len, names), default=0)
    for name in names:
        print(f"{name:<{width}}  {registry.question(name)}")
    return 0


def run(asked: Namespace) -> int:
    """Run experiments by name or by file; `run NAME --help` shows an experiment's fields."""
    if asked.help or not asked.names:
        return _run_help(asked.names)
    for name in asked.names:
        registry.refuse_unknown_fields(name, split(asked.rest), "command line")
    from experiments._runs.answer import answer_lines
    from experiments._runs.arguments import configure
    from experiments._runs.finding import find
    from experiments._runs.manifest import manifest_of
    from experiments._runs.run import RUNS
    from experiments._runs.run import run as run_one
    from viz import write_gallery

    kinds = [find(name) for name in asked.names]
    for experiment in [configure(kind, asked.preset, asked.rest) for kind in kinds]:
        folder = run_one(experiment, fresh=asked.fresh)
        write_gallery(RUNS)
        print(*answer_lines(folder, manifest_of(folder)), folder, sep="\n", flush=True)
    return 0


def suite(asked: Namespace) -> int:
    """Run what a TOML file lists; what is finished is skipped, what is broken off is resumed."""
    from experiments._runs.suite import read_suite, run_suite

    points = read_suite(asked.file)
    if not asked.dry_run:
        return run_suite(points)
    from experiments._runs.manifest import command

    for point in points:
        print(command(point))
    return 0


def draw(asked: Namespace) -> int:
    """Draw a finished run anew from its stored numbers."""
    from experiments._runs.run import redraw

    redraw(asked.folder)
    print(asked.folder)
    return 0


def verify(asked: Namespace) -> int:
    """Compare every file of a run with the manifest."""
    from experiments._runs.manifest import manifest_of
    from experiments._runs.manifest import verify as differences

    problems = differences(asked.folder)
    for problem in problems:
        print(problem)
    if not problems:
        print(f"{asked.folder}: {len(manifest_of(asked.folder)['files'])} files, all as written")
    return 1 if problems else 0


def browse(asked: Namespace) -> int:
    """Rebuild the gallery and print its path; with --serve, serve it on 127.0.0.1."""
    from experiments._runs.run import RUNS
    from viz import write_gallery

    RUNS.mkdir(exist_ok=True)
    print(write_gallery(RUNS).resolve(), flush=True)
    if asked.serve:
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=RUNS)
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            print(f"http://127.0.0.1:{server.server_port}/ until Ctrl-C", flush=True)
            server.serve_forever()
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
        print(f"\n{name}: {registry.question(name)}\n")
        for field in registry.field_help(name):
            print(f"  --{field.name.replace('_', '-')} {field.annotation} = {field.default}")
            print(f"      {field.help}")
    return 0
