"""What a page says of related experiments' runs on the same model."""

import pytest

from tests.viz import samples
from viz.beside import beside
from viz.page import write_page

OWN = {"experiment": "information_flow", "related": ["flow_faithfulness"]}
OTHER = {"experiment": "flow_faithfulness", "headline": "The rule “<b>” comes nearest. More."}


@pytest.fixture
def runs(tmp_path):
    runs = tmp_path / "runs"
    samples.write_run(runs, "20260201T", {}, {}, **OTHER)
    samples.write_run(runs, "20260301T", {}, {}, **OTHER)
    return runs


def test_the_newest_run_on_the_same_model_is_told_and_linked(runs):
    folder, manifest = samples.write_run(runs, "mine", {}, {}, **OWN)
    assert [at for at, _ in beside(folder, manifest)] == ["flow_faithfulness/20260301T"]
    page = write_page(folder, manifest).read_text("utf-8")
    assert '<a href="../../flow_faithfulness/20260301T/index.html">flow_faithfulness</a>' in page
    assert "<b>” comes nearest" not in page
    assert "comes nearest. More" not in page, "the first sentence says it"
    assert (folder / "../../flow_faithfulness/20260301T/manifest.json").exists()


@pytest.mark.parametrize(
    "changed",
    [{"status": "running"}, {"model": samples.manifest()["model"] | {"sha256": "00" * 32}},
     {"model": samples.manifest()["model"] | {"name": "other"}}],
)  # fmt: skip
def test_other_weights_and_unfinished_runs_are_not(tmp_path, changed):
    samples.write_run(tmp_path / "runs", "one", {}, {}, **OTHER | changed)
    folder, manifest = samples.write_run(tmp_path / "runs", "mine", {}, {}, **OWN)
    assert beside(folder, manifest) == []
    assert "Of this model" not in write_page(folder, manifest).read_text("utf-8")


def test_a_damaged_run_is_left_out(runs):
    (runs / "flow_faithfulness/20260301T/manifest.json").write_text("{", "utf-8")
    folder, manifest = samples.write_run(runs, "mine", {}, {}, **OWN)
    assert [at for at, _ in beside(folder, manifest)] == ["flow_faithfulness/20260201T"]
    assert beside(folder / "moved", manifest) == []
