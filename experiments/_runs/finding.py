"""The class of an experiment, imported."""

import importlib
import importlib.util
import sys
from hashlib import sha256
from pathlib import Path
from types import ModuleType

from experiments._contract.errors import UsageError
from experiments._contract.experiment import Experiment
from experiments._runs.registry import FOLDER, installed, names, own, source
from experiments._runs.sources import remember

FOREIGN = "experiment_files"
"""In front of the module names of experiments whose files are given by path."""


def find(name: str) -> type[Experiment]:
    """The class of an experiment, imported.

    Raises:
        UsageError: the file is missing, does not import, or holds no experiment or several.
    """
    path = source(name)
    remember(path)
    if name in installed() and name not in own():
        return installed()[name].load()
    return _class_in(_import(path), path)


def _class_in(module: ModuleType, path: Path) -> type[Experiment]:
    local = [c for c in vars(module).values() if isinstance(c, type) and issubclass(c, Experiment)]
    found = [c for c in local if c.__module__ == module.__name__]
    if len(found) != 1:
        raise UsageError(f"{path}: holds {len(found)} Experiment classes, expected one")
    if lacks := sorted(getattr(found[0], "__abstractmethods__", ())):
        raise UsageError(f"{path}: {found[0].__name__} lacks {', '.join(lacks)}; write it")
    return found[0]


def registered(name: str, where: str) -> type[Experiment]:
    """The class of an experiment that a manifest or a suite names: registered, or imported before.

    What such a file says is data: it never decides what code is run.

    Raises:
        UsageError: it names the file of an experiment that the user has not named.
    """
    if name in names() or not (name.endswith(".py") or "/" in name):
        return find(name)
    path = Path(name).expanduser().resolve()
    for module in list(sys.modules.values()):
        file = Path(getattr(module, "__file__", None) or "")
        if file.stem == path.stem and file.resolve() == path:
            return _class_in(module, path)
    raise UsageError(
        f"{where}: names the file {name[:200]}, which is not run because a file says so; if you "
        f"trust it, name it too: --file {name[:200]}"
    )


def _import(path: Path) -> ModuleType:
    if path.is_relative_to(FOLDER):
        inside = path.relative_to(FOLDER).with_suffix("").parts
        return importlib.import_module(".".join(("experiments", *inside)))
    # A name of its own: a file called torch.py must not stand in for torch, nor one for another.
    name = f"{FOREIGN}.{sha256(bytes(path)).hexdigest()[:12]}.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UsageError(f"{path}: does not import: {reason}") from error
    return module
