"""What is drawn of separability: means by layer, and the most separable first."""

import pandas as pd

from lenses.digits.shown import separable_at, separable_by_layer

ROWS = pd.DataFrame([
    {"what": "digits", "modulus": 5, "layer": layer, "place": place, "accuracy": accuracy,
     "shuffled": 0.2, "chance": 0.2, "spike": 0.3, "p": p}
    for layer, place, accuracy, p in ((0, 0, 0.2, 0.9), (0, 1, 0.4, 0.3), (1, 0, 0.8, 0.01))
])  # fmt: skip


def test_a_layer_is_the_mean_of_its_places():
    drawn = separable_by_layer(ROWS).set_index(["series", "layer"])["share"]
    assert drawn["linear classifier", 0] == 0.30000000000000004
    assert drawn["linear classifier", 1] == 0.8
    assert drawn["share on the circle", 0] == 0.3
    assert set(separable_by_layer(ROWS)["remainder"]) == {"digits mod 5"}


def test_the_most_separable_comes_first():
    ((key, rows),) = separable_at(ROWS).items()
    assert key == ("digits", 5)
    assert rows["accuracy"].tolist() == [0.8, 0.4, 0.2]
