"""The primer at its default size, with the timings of a few repeats."""

import numpy as np
import pandas as pd
import pytest

from experiments import Claim, Results
from experiments.attention_primer import AttentionPrimer
from lenses.flow.described_noun import SENTENCE, noun_rows
from lenses.flow.walkthrough import FAULTS
from lenses.statistics.intervals import wilson
from models.planted.copy import planted_copy
from prompts.walkthrough import SENTENCES, words


@pytest.fixture(scope="module")
def experiment():
    return AttentionPrimer(repeats=6, longest=512)


@pytest.fixture(scope="module")
def results(experiment) -> Results:
    return experiment.measure(None)


@pytest.fixture(scope="module")
def claims(experiment, results):
    return experiment.claims(results)


def test_every_fault_is_named_and_held_against_the_corrected_code(claims):
    faults = [claim for claim in claims if claim.family]
    assert [claim.label for claim in faults] == [fault.label for fault in FAULTS.values()]
    assert {claim.verdict for claim in faults} == {"holds"}
    assert {claim.null for claim in faults} == {0}
    assert {claim.estimate for claim in faults} == {1}
    assert not any("{" in claim.sentence for claim in faults)


def test_a_fault_that_is_mended_does_not_hold(experiment, results):
    mended = results.tables["faults"].assign(shown=0)
    faults = experiment.claims(Results({**results.tables, "faults": mended}, results.arrays))
    assert {claim.verdict for claim in faults if claim.family} == {"fails"}


def test_one_head_knows_the_sentences_and_no_network_without_one(claims):
    known, more = (claim for claim in claims if "next words" in claim.sentence)
    assert (known.verdict, known.estimate, known.n) == ("holds", 1, 5)
    assert known.null == 0
    assert known.low == pytest.approx(wilson(5, 5)[0])
    assert more.verdict == "holds"
    assert (more.estimate, more.n) == (1, 5)


def test_before_training_nothing_is_claimed(experiment, results):
    said = results.tables["next_words"]
    first = said[said["network"] == "untrained"].assign(network="attention")
    rest = said[said["network"] != "attention"]
    only = Results({**results.tables, "next_words": pd.concat([rest, first])}, results.arrays)
    known, more = (c for c in experiment.claims(only) if "next words" in c.sentence)
    assert known.verdict == "fails"
    assert more.verdict == "fails"


def test_checks_pass_and_see_an_error(experiment, results, claims):
    checks = [claim for claim in claims if claim.check]
    assert len(checks) == 9
    assert {claim.verdict for claim in checks} == {"holds"}
    assert sum("NumPy and torch agree" in claim.sentence for claim in checks) == 6
    off = results.tables["agreement"].assign(error=2e-6)
    wrong = experiment.claims(Results({**results.tables, "agreement": off}, results.arrays))
    assert [c.verdict for c in wrong if c.check].count("fails") == 7


def test_heads_at_once_are_faster(experiment, results, claims):
    together = next(claim for claim in claims if "32 heads" in claim.sentence)
    seconds = results.arrays["heads_seconds"]
    assert seconds.shape == (6, 6, 2)
    assert together.estimate == pytest.approx((seconds[:, -1, 0] / seconds[:, -1, 1]).mean())
    assert np.median(seconds[:, -1, 0]) > np.median(seconds[:, -1, 1])


def test_the_pattern_is_the_square(experiment, results):
    growth = results.tables["growth"]
    assert growth["words"].tolist() == [64, 128, 256, 512]
    assert (growth["bytes"] == 4 * growth["words"] ** 2).all()
    seconds = np.tile(1e-9 * growth["words"].to_numpy(float) ** 2, (6, 1))
    assert _power(experiment, results, growth, seconds).estimate == pytest.approx(2)
    assert _power(experiment, results, growth[:3], seconds[:, :3]).verdict == "not tested"


def _power(experiment, results, growth, seconds) -> Claim:
    arrays = {**results.arrays, "pattern_seconds": seconds}
    claims = experiment.claims(Results({**results.tables, "growth": growth}, arrays))
    return next(claim for claim in claims if "time of a pattern" in claim.sentence)


def test_the_headline_has_the_numbers(experiment, results):
    said = experiment.headline(results)
    assert "A trained head predicts 20 of 20 next words; without attention, 19." in said
    assert "its weights sum to 12." in said


def test_steps_are_drawn_in_order(experiment, results):
    titles = list(experiment.figures(results))
    numbers = [int(title.split(".")[0]) for title in titles if title[0].isdigit()]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(1, 12))
    for name in SENTENCES:
        assert f"1. The published walkthrough, and corrected: {name}" in titles


def test_every_matrix_is_in_the_table(results):
    matrices = results.tables["matrices"]
    shapes = matrices.groupby(["example", "step"])[["row", "column"]].nunique()
    n = len(words("seashells"))
    assert shapes.loc[("trained seashells", "Weights")].tolist() == [n, n]
    assert shapes.loc[("trained seashells", "Next word")].tolist() == [n, 22]
    assert shapes.loc[("notes", "Map to keys")].tolist() == [4, 3]
    assert shapes.loc[("cross", "Weights")].tolist() == [n, len(words("pizza"))]
    assert shapes.loc[("fox published", "Attention weights")].tolist() == [1, 9]
    assert shapes.loc[("fox corrected", "Attention weights")].tolist() == [1, 3]


def test_a_model_that_is_given_reads_what_describes_a_noun(experiment, results):
    model, _ = planted_copy([SENTENCE], ["fluffy"], loud=10.0)
    matrices = pd.concat([results.tables["matrices"], *noun_rows(model)])
    read = Results({**results.tables, "matrices": matrices}, results.arrays)
    drawn = experiment.figures(read).keys() - experiment.figures(results).keys()
    assert drawn == {"12. A language model reads what describes a noun"}
    assert experiment.claims(read) == experiment.claims(results)
