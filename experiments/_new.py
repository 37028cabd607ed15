"""The file of a new experiment, and its test, to start from."""

from pathlib import Path
from string import Template

from experiments._contract.errors import UsageError
from viz.files import write_atomically

TEMPLATES = Path(__file__).parent / "_templates"


def write_experiment(name: str, folder: Path) -> list[Path]:
    """Write `experiments/NAME.py` and its test below a folder; they run as they are.

    Raises:
        UsageError: one of the files is there already.
    """
    kind = "".join(word.capitalize() for word in name.split("_"))
    targets = {
        "experiment.py.txt": folder / "experiments" / f"{name}.py",
        "test.py.txt": folder / "tests" / "experiments" / f"test_{name}.py",
    }
    for target in targets.values():
        if target.exists():
            raise UsageError(f"{target}: is there already; choose another name")
    for template, target in targets.items():
        text = Template((TEMPLATES / template).read_text("utf-8"))
        write_atomically(target, text.substitute(name=name, kind=kind).encode())
    return list(targets.values())
