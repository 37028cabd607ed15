"""A run is another run once any file that it was measured with has changed."""

import pytest

from experiments._runs import sources
from experiments._runs.sources import ROOT, files_behind, source_hash

TREE = {
    "experiments/asking.py": "from lenses.near import seen\n",
    "lenses/__init__.py": "",
    "lenses/near.py": "def seen():\n    from lenses.deep import far\n    return far.seen()\n",
    "lenses/deep/__init__.py": "",
    "lenses/deep/far.py": "from prompts import facts\nimport viz\n",
    "lenses/unused.py": "",
    "prompts/__init__.py": "",
    "prompts/facts.py": "",
    "prompts/facts.toml": "",
    "viz/__init__.py": "",
}


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    for name, text in TREE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    return tmp_path


def touched(checkout, name: str) -> bool:
    """Whether another line in a file changes the hash of the experiment."""
    asking = checkout / "experiments" / "asking.py"
    before = source_hash(asking)
    with (checkout / name).open("a") as file:
        file.write("# another line\n")
    return source_hash(asking) != before


@pytest.mark.parametrize(
    "name",
    ["experiments/asking.py", "lenses/near.py", "lenses/deep/far.py", "lenses/deep/__init__.py",
     "prompts/facts.toml"],
)  # fmt: skip
def test_a_file_that_is_imported_near_or_far_changes_the_hash(checkout, name):
    assert touched(checkout, name)


@pytest.mark.parametrize("name", ["lenses/unused.py", "viz/__init__.py"])
def test_what_is_not_imported_or_only_draws_does_not(checkout, name):
    assert not touched(checkout, name)


def test_it_does_not_matter_where_the_checkout_lies(checkout, tmp_path_factory, monkeypatch):
    here = source_hash(checkout / "experiments" / "asking.py")
    moved = tmp_path_factory.mktemp("elsewhere") / "moved"
    checkout.rename(moved)
    monkeypatch.setattr(sources, "ROOT", moved)
    assert source_hash(moved / "experiments" / "asking.py") == here


def test_a_file_outside_the_checkout_is_followed_into_it(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text("import beside\nfrom lenses.heads.contributions import contributions\n")
    (tmp_path / "beside.py").write_text("")
    behind = files_behind(mine)
    assert {mine, tmp_path / "beside.py", ROOT / "models" / "parts.py"} <= set(behind)


def test_real_experiments_reach_their_lenses_their_model_and_their_texts():
    behind = files_behind(ROOT / "experiments" / "prompt_relevance.py")
    names = {path.relative_to(ROOT).as_posix() for path in behind}
    assert {"lenses/patching/knock_out.py", "models/text.py", "prompts/relevance.toml"} <= names
    assert not any(name.startswith(("viz/", "experiments/_runs/")) for name in names)
