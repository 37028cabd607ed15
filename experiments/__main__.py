"""The command line: `python -m experiments`, also installed as `carrylens`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments import _commands
from experiments._contract.errors import UsageError
from experiments._runs.registry import did_you_mean


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line."""

    def error(self, message: str) -> None:
        raise UsageError(message)


def main(words: Sequence[str] | None = None) -> int:
    """Carry out one command; 0 if it succeeded, 1 if a check failed, 2 if it was asked wrongly."""
    words = list(sys.argv[1:] if words is None else words)
    try:
        return _dispatch(words)
    except _refusals() as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted. The same command goes on where this stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 141


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
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)

    def command(act, *, help_option: bool = True) -> argparse.ArgumentParser:
        name, line = act.__name__.rstrip("_"), act.__doc__.splitlines()[0]
        sub = commands.add_parser(name, help=line, description=line, add_help=help_option)
        sub.set_defaults(act=act)
        return sub

    command(_commands.list_)
    run = command(_commands.run, help_option=False)
    run.add_argument("names", nargs="*", metavar="NAME|FILE")
    run.add_argument("--preset", type=Path)
    run.add_argument("--fresh", action="store_true")
    run.add_argument("--help", "-h", action="store_true")
    suite = command(_commands.suite)
    suite.add_argument("file", type=Path)
    suite.add_argument("--dry-run", action="store_true")
    command(_commands.draw).add_argument("folder", type=Path, metavar="RUN")
    command(_commands.verify).add_argument("folder", type=Path, metavar="RUN")
    command(_commands.browse).add_argument("--serve", action="store_true")
    command(_commands.models)
    command(_commands.check).add_argument("model")
    command(_commands.new).add_argument("name")
    command(_commands.doctor)
    return parser, commands.choices


if __name__ == "__main__":
    sys.exit(main())
