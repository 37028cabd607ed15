"""Every kind of causal model is read as plain transformers reads it, or refused in one line.

`ARCHITECTURES=docs/architectures.md pytest tests/models/test_architectures.py` writes the page.
"""

import os
from pathlib import Path

import pytest
import torch

from models import ModelError, load
from models.readout import unembedding
from models.text import continue_text, tokenize
from tests.models.architectures import MADE
from tests.models.tiny import save

PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"
HEAD = """# Architectures

One tiny model with random weights of each of these kinds was made from its config, loaded, checked
for every identity and held against plain transformers: the log-probabilities that our own readout
makes of the last state agree to 1e-4, and continuations are the same. A kind that cannot be taken
apart into heads and states is refused when it is loaded, in one line. Written by
`ARCHITECTURES=docs/architectures.md pytest tests/models/test_architectures.py`.

| kind | verdict |
|---|---|
"""
TEXT = "12 + 7 = 19; the sea is calm"
TURNED_AWAY: dict[str, str] = {}


def row(name: str, refusal: str) -> str:
    """A line of the page."""
    return f"| {name} | {f'refused: {refusal}' if refusal else 'read'} |\n"


def on_page() -> dict[str, str]:
    """What the page says of each kind."""
    after = len(HEAD.splitlines())
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text("utf-8").splitlines()[after:]]
    return dict(rows)


@pytest.fixture(scope="module", autouse=True)
def page():
    """Write the page when all kinds were tried and the environment asks for it."""
    yield
    if (target := os.environ.get("ARCHITECTURES")) and len(TURNED_AWAY) == len(MADE):
        rows = "".join(row(name, TURNED_AWAY[name]) for name in MADE)
        Path(target).write_text(HEAD + rows, "utf-8")


@torch.no_grad()
def assert_reads_as_plain(model, plain) -> None:
    """Through our own readout of the last state, and token by token in a continuation."""
    ids = tokenize(model, TEXT)
    last = f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"
    state = model.run_with_cache(torch.tensor([ids]), names_filter=[last])[1][last]
    found, expected = unembedding(model)(state), plain(torch.tensor([ids])).logits
    torch.testing.assert_close(found.log_softmax(-1), expected.log_softmax(-1), rtol=0, atol=1e-4)
    row = list(ids)
    for _ in range(3):
        row.append(int(plain(torch.tensor([row])).logits[0, -1].argmax()))
    new = continue_text(model, [ids, ids[:7]], 3)[0]
    assert new == row[len(ids) :][: len(new)]
    assert len(new) == 3 or row[len(ids) + len(new)] == 0


@pytest.mark.parametrize("name", MADE)
def test_kind_is_read_as_plain_transformers_or_refused_in_one_line(name, tmp_path):
    plain = MADE[name]()
    folder = save(tmp_path / "tiny", plain)
    TURNED_AWAY[name] = ""
    try:
        model = load(str(folder))
    except ModelError as refusal:
        said = str(refusal)
        assert "\n" not in said
        assert said.startswith("tiny: ")
        TURNED_AWAY[name] = said.removeprefix("tiny: ").split(";")[0].replace(str(tmp_path), "")
    else:
        assert_reads_as_plain(model, plain)
    if "ARCHITECTURES" not in os.environ:
        assert on_page()[name].split(":")[0] == ("refused" if TURNED_AWAY[name] else "read")


def test_the_page_has_at_least_40_kinds_that_are_read():
    if "ARCHITECTURES" not in os.environ:
        said = on_page()
        assert list(said) == list(MADE)
        assert sum(verdict == "read" for verdict in said.values()) >= 40
