"""The file of a new experiment, and its test, to start from."""

from __future__ import annotations

from pathlib import Path
from string import Template

EXPERIMENT = Template('''"""How long is each head's result, on average over the tokens of a few prompts?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments import Claim, Experiment, Results

if TYPE_CHECKING:
    from models import Model
    from viz import Drawing


class $kind(Experiment):
    """Tables: `heads` (layer, head, l2_norm)."""

    prompts: list[str] = ["12+34=46", "95+17=112"]
    """Texts the model reads."""

    def measure(self, model: Model) -> Results:
        """The mean length of every head's result."""
        ...

    def figures(self, results: Results) -> dict[str, Drawing]:
        """A heat-map of heads."""
        ...

    def claims(self, results: Results) -> list[Claim]:
        """What the numbers answer."""
        ...
''')


def write_experiment(name: str, folder: Path) -> list[Path]:
    raise NotImplementedError
