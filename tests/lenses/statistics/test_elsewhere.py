"""What is chosen on other texts, against a loop that leaves each out."""

import numpy as np

from lenses.statistics.elsewhere import best_elsewhere, held_out, of_choice


def test_the_best_is_chosen_on_other_texts():
    gains = np.array([[0.9, 0.0, 0.2], [0.0, 0.3, 0.2], [0.0, 0.4, 0.2]])
    # Of the others' means, the first text sees (0, .35, .2), the second (.45, .2, .2).
    assert held_out(gains).tolist() == [0.0, 0.0, 0.0]
    assert held_out(np.array([[0.1, 0.5], [0.2, 0.4]])).tolist() == [0.5, 0.4]
    assert np.isnan(held_out(np.array([[0.1, 0.5]]))).all()
    assert np.isnan(held_out(np.full((3, 2), np.nan))).all()
    assert np.isnan(held_out(np.zeros((3, 0)))).all()


def test_a_text_has_no_say_in_its_choice():
    rng = np.random.default_rng(0)
    gains = rng.normal(size=(6, 2, 5))
    gains[rng.random(gains.shape) < 0.2] = np.nan
    gains[0, 0] = np.nan
    chosen = best_elsewhere(gains)
    for text, cell in np.ndindex(6, 2):
        others = np.delete(gains[:, cell], text, axis=0)
        assert chosen[text, cell] == np.nanargmax(np.nanmean(others, axis=0))
        assert np.array_equal(
            held_out(gains)[text, cell], gains[text, cell, chosen[text, cell]], equal_nan=True
        )
        poisoned = gains.copy()
        poisoned[text, cell] = 100 * np.arange(5)
        assert best_elsewhere(poisoned)[text, cell] == chosen[text, cell]
    assert np.array_equal(of_choice(-gains, chosen), -held_out(gains), equal_nan=True)


def test_of_what_is_noise_the_best_elsewhere_gains_nothing():
    gains = np.random.default_rng(1).normal(size=(40, 200, 30))
    # A little less than nothing: what is high in a text is chosen less often for it.
    assert -0.1 < held_out(gains).mean() < 0.0
    assert gains.mean(0).max(-1).mean() > 0.25, "the best on the same texts would gain"
