"""The command line: `python -m experiments`, also installed as `carrylens`."""

import sys

if __name__ == "__main__" and sys.path[0] != __file__.rpartition("/experiments/")[0]:
    # A torch.py or models.py in the current folder must not stand in for the library or for ours.
    sys.path += [__file__.rpartition("/experiments/")[0], sys.path.pop(0)]

import argparse
import errno
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from experiments import _commands
from experiments._contract.errors import UsageError
from experiments._contract.stopping import stopped_by_signals
from experiments._runs.registry import did_you_mean

RUN = "RUN"
LONGEST = 960
"""Characters of a line that says why something was refused."""
FORMATS = ("pdf", "svg", "png", "csv")


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line."""

    def error(self, message: str) -> None:
        """Raise UsageError instead of ending the process."""
        raise UsageError(message)


class _Version(argparse.Action):
    """Prints the version, which is looked up only then, and ends."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"carrylens {version('carrylens')}")
        parser.exit()


def main(words: Sequence[str] | None = None) -> int:
    """Carry out one command; 0 if it succeeded, 1 if a check failed, 2 if it was asked wrongly."""
    words = list(sys.argv[1:] if words is None else words)
    try:
        with stopped_by_signals():
            _refuse_unreadable(words)
            return _dispatch(words)
    except KeyboardInterrupt as stop:
        print("Interrupted. The same command goes on where this stopped.", file=sys.stderr)
        return getattr(stop, "code", 130)
    except BrokenPipeError:
        sys.stderr.close()
        return 141
    except _refusals() as error:
        told = "; ".join([str(error), *getattr(error, "__notes__", [])])
        return _refused(told, getattr(error, "code", 2))
    except Exception as error:
        line = _fault(error)
        if line is None:
            raise
        code = 2 if getattr(error, "errno", None) == errno.ENAMETOOLONG else 3
        return _refused("; ".join([line, *getattr(error, "__notes__", [])]), code)


def _refuse_unreadable(words: Sequence[str]) -> None:
    """Refuse words that no file's name and no text can have."""
    for word in words:
        if "\0" in word or any("\ud800" <= sign <= "\udfff" for sign in word):
            raise UsageError(f"{word[:40]!r}: is not text in UTF-8, or holds a NUL; type it again")


def _refused(line: str, code: int) -> int:
    told = " ".join(line.split())
    if len(told) > LONGEST:
        told = f"{told[: LONGEST // 2]} [...] {told[-LONGEST // 2 :]}"
    print(f"error: {told}", file=sys.stderr)
    return code


def _fault(error: Exception) -> str | None:
    """A fault of the machine in one line; None for a fault of ours, which shows its traceback."""
    from experiments._runs.faults import told

    return told(error)


def _refusals() -> tuple[type[Exception], ...]:
    """What is answered in one line; asked for only where something was raised, to start fast."""
    from models import ModelError

    return UsageError, ModelError


def _dispatch(words: list[str]) -> int:
    known = list(_parser()[1])
    if words and not words[0].startswith("-") and words[0] not in known:
        raise UsageError(f"no command {words[0]!r}{did_you_mean(words[0], known)}; see --help")
    parser, _ = _parser()
    arguments, rest = parser.parse_known_args(words)
    if rest and arguments.act is not _commands.run:
        raise UsageError(f"unrecognised: {' '.join(rest)}")
    arguments.rest = rest
    return arguments.act(arguments)


def _parser() -> tuple[_Parser, dict[str, argparse.ArgumentParser]]:
    parser = _Parser(prog="python -m experiments", description=__doc__)
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)

    def command(act, *, help_option: bool = True) -> argparse.ArgumentParser:
        name, line = act.__name__.rstrip("_"), act.__doc__.splitlines()[0]
        # Abbreviations would swallow fields: a field `lab` is not the option --label.
        options = {"add_help": help_option, "allow_abbrev": False}
        sub = commands.add_parser(name, help=line, description=line, **options)
        sub.set_defaults(act=act)
        return sub

    _with_json(command(_commands.list_))
    _run_options(command(_commands.run, help_option=False))
    suite = command(_commands.suite)
    suite.add_argument("suite", type=Path, metavar="FILE")
    _names_files(suite)
    suite.add_argument("--dry-run", action="store_true", help="print the commands only")
    by = suite.add_mutually_exclusive_group()
    by.add_argument("--jobs", type=int, default=1, metavar="N", help="run by N processes at once")
    by.add_argument("--shard", metavar="I/N", help="be one of N processes that share the runs")
    by.add_argument("--on", choices=("dask",), help="have the workers of a cluster run it")
    suite.add_argument("--scheduler", metavar="ADDRESS", help="a cluster's; else one is made here")
    merge = _names_files(command(_commands.merge))
    merge.add_argument("pieces", nargs="*", type=Path, metavar="FOLDER")
    show = _with_json(command(_commands.show))
    show.add_argument("run", metavar=RUN, help="its folder, a beginning of its hash, or its label")
    compare = _with_json(command(_commands.compare))
    compare.add_argument("runs", nargs=2, metavar=RUN)
    _export_options(_names_files(command(_commands.export)))
    draw = _names_files(command(_commands.draw))
    draw.add_argument("run", metavar=RUN)
    command(_commands.verify).add_argument("runs", nargs="+", metavar=RUN)
    command(_commands.rm).add_argument("runs", nargs="+", metavar=RUN)
    command(_commands.browse).add_argument("--serve", action="store_true")
    command(_commands.models)
    command(_commands.check).add_argument("model")
    command(_commands.new).add_argument("name")
    command(_commands.doctor)
    return parser, commands.choices


def _names_files(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    told = "an experiment's file that the run or suite names: it is imported only if named here too"
    options = {"type": Path, "action": "append", "default": [], "metavar": "EXPERIMENT.py"}
    command.add_argument("--file", help=told, **options)
    return command


def _with_json(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    command.add_argument("--json", action="store_true", help="print JSON, for programs")
    return command


def _run_options(run: argparse.ArgumentParser) -> None:
    """Options that every experiment has; `run NAME --help` explains them with its fields."""
    run.add_argument("names", nargs="*", metavar="NAME|FILE")
    run.add_argument("--preset", type=Path)
    run.add_argument("--label", default="")
    run.add_argument("--shard", metavar="I/N")
    for flag in ("--fresh", "--quiet", "--json"):
        run.add_argument(flag, action="store_true")
    run.add_argument("--help", "-h", action="store_true")


def _export_options(export: argparse.ArgumentParser) -> None:
    export.add_argument("run", metavar=RUN)
    export.add_argument("figure", nargs="?", metavar="TITLE", help="the first one if left out")
    export.add_argument("--format", choices=FORMATS, help="pdf, or what --out ends in")
    export.add_argument("--width", type=float, help="inches: 3.3 is a column of many journals")
    export.add_argument("--title", default="", help="words above the figure")
    export.add_argument("--out", type=Path, help="the file to write")


if __name__ == "__main__":
    sys.exit(main())
