"""The published walkthrough as its text has it, and the corrected one; each fault in one alone."""

import numpy as np
import pytest

from lenses.flow.walkthrough import (
    FAULTS,
    corrected,
    embeddings,
    fault_table,
    published,
)
from prompts.walkthrough import SENTENCES, numbered, vocabulary, words

EMBEDDED = embeddings(3)


@pytest.mark.parametrize("name", SENTENCES)
def test_published_is_what_its_lines_compute(name):
    """Step by step, from its description: mean of the last three, exp, softmax of that."""
    known = vocabulary()
    last = np.mean([EMBEDDED[known.index(word)] for word in words(name)[-3:]], axis=0)
    scores = [last @ EMBEDDED[number] / 3**0.5 for number in numbered(name)]
    twice = np.exp(np.exp(scores) - np.exp(scores).max())
    walk = published(name, EMBEDDED)
    assert walk.probabilities == pytest.approx(twice / twice.sum())
    assert walk.weights == pytest.approx(np.exp(scores))
    assert walk.after == pytest.approx(np.exp(scores) - np.exp(scores).max())
    assert walk.names == known[: len(words(name))]
    assert walk.context is None


@pytest.mark.parametrize("name", SENTENCES)
def test_corrected_is_attention_over_the_window(name):
    said = words(name)
    walk = corrected(name, EMBEDDED)
    assert walk.window == walk.keys == said[-4:-1]
    scores = walk.embedded @ walk.embedded[-1] / 3**0.5
    weights = np.exp(scores) / np.exp(scores).sum()
    assert walk.weights == pytest.approx(weights)
    context = sum(w * row for w, row in zip(weights, walk.embedded, strict=True))
    assert walk.context == pytest.approx(context)
    logits = EMBEDDED @ context
    assert walk.probabilities == pytest.approx(np.exp(logits) / np.exp(logits).sum())
    assert walk.names == walk.means == vocabulary()


def test_corrected_goes_to_any_word():
    assert corrected("fox", EMBEDDED, current="The").window == ["The"]
    assert corrected("fox", EMBEDDED, current="fox").window == ["quick", "brown", "fox"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_shows_in_the_published_code_alone(fault):
    measure = FAULTS[fault].measure
    for name in list(SENTENCES)[1:]:
        assert measure(published, name, EMBEDDED) > 1e-6
        assert measure(corrected, name, EMBEDDED) < 1e-12


def test_names_are_right_by_luck_in_the_first_sentence():
    assert FAULTS["first sentence"].measure(published, "fox", EMBEDDED) == 0


def test_the_table_counts_runs():
    table = fault_table(4, 0).set_index("fault")
    assert table.index.tolist() == list(FAULTS)
    assert table["n"].tolist() == [12, 12, 12, 8, 12, 12, 12, 12]
    assert (table["shown"] == table["n"]).all()
    assert (table["mended"] == 0).all()
    sums = [published(n, embeddings(s)).weights.sum() for s in range(4) for n in SENTENCES]
    assert table["size"]["no sum"] == pytest.approx(np.mean(sums) - 1)
