"""The class of an experiment, imported."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from experiments._contract.errors import UsageError
from experiments._contract.experiment import Experiment
from experiments._runs.registry import FOLDER, installed, own, source

FOREIGN = "experiment_files"
"""In front of the module names of experiments whose files are given by path."""


def find(name: str) -> type[Experiment]:
    """The class of an experiment, imported.

    Raises:
        UsageError: the file is missing, does not import, or holds no experiment or several.
    """
    path = source(name)
    if name in installed() and name not in own():
        return installed()[name].load()
    module = _import(path)
    local = [c for c in vars(module).values() if isinstance(c, type) and issubclass(c, Experiment)]
    found = [c for c in local if c.__module__ == module.__name__]
    if len(found) != 1:
        raise UsageError(f"{path}: holds {len(found)} Experiment classes, expected one")
    return found[0]


def _import(path: Path) -> ModuleType:
    if path.parent == FOLDER:
        return importlib.import_module(f"experiments.{path.stem}")
    # A name of its own: a file called torch.py must not stand in for torch.
    name = f"{FOREIGN}.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UsageError(f"{path}: does not import: {reason}") from error
    return module
