"""What importing costs: a model's libraries come in when a model is built, not before."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = (
    *("models", "models.text", "models.protocol", "models.parts", "models.passes", "models.card"),
    *("models.readout", "models.loading", "models.native", "models.verification"),
    *(
        f"models.planted.{path.stem}"
        for path in sorted((ROOT / "models/planted").glob("[a-z]*.py"))
    ),
)
SLOW = ("transformers", "transformer_lens")


@pytest.mark.parametrize("first", [["from models import Model"], [f"import {n}" for n in NAMES]])
def test_importing_models_imports_no_model_library(first):
    looked = f"assert not [name for name in {SLOW} if name in sys.modules]"
    code = "; ".join(["import sys", *first, looked])
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
