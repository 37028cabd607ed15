"""A PatchingResult of TransformerLens becomes a run that can be opened and drawn again."""

import numpy as np
import pandas as pd
import pytest
import torch

from experiments import UsageError, import_patching, open_run
from experiments._runs.run import redraw
from lenses.statistics.intervals import bootstrap

patching = pytest.importorskip("transformer_lens.patching")
if not hasattr(patching, "PatchingResult"):
    pytest.skip("values by example came with TransformerLens 4.2", allow_module_level=True)

LAYERS, HEADS, EXAMPLES = 2, 3, 8


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def result(axes=("layer", "head_index"), examples=EXAMPLES, **given):
    """Of a sweep over layers and heads, in which L1H2 changes the metric by 3."""
    values = torch.randn(LAYERS, HEADS, examples, generator=torch.Generator().manual_seed(0))
    values[1, 2] += 3
    index = pd.DataFrame(list(np.ndindex(LAYERS, HEADS)), columns=list(axes))
    stated = {"metric_names": ["metric"], "reduced": False, "baseline": torch.ones(examples)}
    return patching.PatchingResult(values + 1, list(axes), index, **{**stated, **given})


def test_it_becomes_a_run_with_intervals_and_a_page():
    found = import_patching(result(), question="Which head moves the subject?", label="mine")
    patches = found.tables["patches"].set_index(["layer", "head"])
    one = result().values[1, 2].numpy() - 1
    expected = bootstrap(one)
    row = patches.loc[1, 2]
    assert (row["effect"], row["low"]) == pytest.approx((expected.estimate, expected.low))
    assert row["q"] < 0.05
    assert found.headline.startswith("Of 6 patches, layer 1, head 2 changes the metric most: ")
    assert found.claims[0].sentence == "1 of 6 patches change the metric beyond chance."
    assert "Which head moves the subject?" in found.page.read_text("utf-8")
    assert set(found.figures) == {"Change of the metric", "Strongest, change of the metric"}
    assert open_run("mine").headline == found.headline
    assert (
        import_patching(result(), question="Which head moves the subject?").folder == found.folder
    )


def test_it_is_drawn_again_from_disk():
    found = import_patching(result(), question="Which?")
    redraw(found.folder)
    assert open_run(found.folder).headline == found.headline
    assert "import_patching" in found.manifest["command"]


def test_positions_metrics_and_no_baseline():
    two = torch.randn(2, LAYERS, HEADS, EXAMPLES)
    given = {"metric_names": ["logit_diff", "kl"], "has_metric_axis": True, "baseline": None}
    sweep = result(("layer", "pos"), **given)
    sweep.values = two
    found = import_patching(sweep, question="Where?")
    assert found.tables["patches"]["effect"].iloc[0] == pytest.approx(two[0, 0, 0].mean().item())
    assert found.tables["patches"]["q"].isna().all()
    assert "Metric: logit diff" in found.figures


def test_without_examples_there_are_no_intervals():
    sweep = result(reduced=True, baseline=torch.tensor(1.0))
    sweep.values = sweep.values.mean(-1)
    found = import_patching(sweep, question="Which?")
    assert found.tables["patches"]["low"].isna().all()
    assert found.tables["patches"]["n"].tolist() == [1] * 6


def test_what_is_none_is_refused_in_a_line():
    with pytest.raises(UsageError, match="got a Tensor; give the PatchingResult"):
        import_patching(torch.zeros(3), question="Which?")
    with pytest.raises(UsageError, match="swept over 'neuron'"):
        import_patching(result(("layer", "neuron")), question="Which?")
