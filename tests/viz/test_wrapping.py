"""Figures made elsewhere become drawings with their data, or are refused in one line."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import seaborn as sns
import seaborn.objects as so
from circuitsvis.activations import text_neuron_activations
from circuitsvis.attention import attention_heads, attention_pattern
from circuitsvis.tokens import colored_tokens
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from tests.viz import samples
from viz import Drawing, as_drawing, texts_of

POINTS = pd.DataFrame(
    {"x": [0.0, 1.0, 2.0, 3.0], "y": [1.0, 4.0, 9.0, 16.0], "kind": ["a", "a", "b", "b"]}
)
TOKENS = ["<s>", " the", "<svg/onload=alert(1)>", "cat"]


def marks(drawing: Drawing, kind: str) -> pd.DataFrame:
    return drawing.data[drawing.data["kind"] == kind]


def lined() -> Figure:
    figure = Figure(figsize=(4, 3))
    axis = figure.subplots()
    axis.plot(POINTS["x"], POINTS["y"], label="squares")
    axis.bar(["one", "two"], [3.0, 5.0])
    return figure


SEABORN = {
    "FacetGrid": lambda: sns.relplot(POINTS, x="x", y="y", col="kind"),
    "PairGrid": lambda: sns.pairplot(POINTS[["x", "y"]]),
    "JointGrid": lambda: sns.jointplot(POINTS, x="x", y="y"),
    "ClusterGrid": lambda: sns.clustermap(np.arange(9.0).reshape(3, 3)),
    "Axes": lambda: sns.scatterplot(POINTS, x="x", y="y", ax=Figure().subplots()),
    "Plot": lambda: so.Plot(POINTS, "x", "y").add(so.Dot()),
}


def test_a_drawing_stays_what_it_is(drawings):
    drawing = drawings["Loss by layer"]
    assert as_drawing("Any", drawing) is drawing


def test_a_matplotlib_figure_brings_its_numbers():
    drawing = as_drawing("Squares", lined())
    line = marks(drawing, "line")
    assert line["series"].unique().tolist() == ["squares"]
    assert marks(drawing, "bar")["value"].tolist() == [3.0, 5.0]
    assert marks(drawing, "bar")["x"].tolist() == ["one", "two"]
    assert drawing.caption == "Squares"


def test_a_caption_of_its_own_is_kept():
    figure = lined()
    figure.caption = "What squares do."
    assert as_drawing("Squares", figure).caption == "What squares do."
    table = POINTS.copy()
    table.attrs["caption"] = "Four points."
    assert as_drawing("Points", table).caption == "Four points."


def test_what_was_drawn_elsewhere_stands_on_white_in_both_themes(tmp_path):
    before = plt.get_fignums()
    drawing = as_drawing("Squares", plt.subplots()[1].plot([1, 2], [3, 4])[0].axes)
    drawing.save(tmp_path, "Squares")
    light, dark = ((tmp_path / f"figure{end}.svg").read_text() for end in ("", "-dark"))
    assert light == dark
    assert "#13171f" not in dark
    assert json.loads((tmp_path / "figure.json").read_text())["on_white"] is True
    assert plt.get_fignums() == before, "pyplot keeps none of them"
    read = pd.read_parquet(tmp_path / "data.parquet")
    assert read[["x", "y"]].to_numpy().tolist() == [[1, 3], [2, 4]]


@pytest.mark.parametrize("name", SEABORN)
def test_everything_of_seaborn_is_wrapped(name, tmp_path):
    drawing = as_drawing(name, SEABORN[name]())
    drawing.save(tmp_path, name)
    if name == "ClusterGrid":
        assert sorted(marks(drawing, "cell")["value"]) == sorted(np.arange(9.0))
    else:
        found = marks(drawing, "point")
        points = set(found[["x", "y"]].itertuples(index=False, name=None))
        assert set(zip(POINTS["x"], POINTS["y"], strict=True)) <= points


def test_a_heat_map_of_seaborn_and_an_image_bring_their_cells():
    values = np.array([[0.1, 0.2], [0.3, np.nan]])
    axis = sns.heatmap(values, ax=Figure().subplots())
    image = Figure().subplots().imshow(values).axes
    for thing in (axis, image):
        cells = marks(as_drawing("Cells", thing), "cell").set_index(["y", "x"])["value"]
        np.testing.assert_array_equal(cells.unstack().to_numpy(float), values)


def test_a_token_that_is_no_formula_is_drawn(tmp_path):
    figure = lined()
    figure.axes[0].set_title(r"$\frac$")
    as_drawing("Odd", figure).save(tmp_path, "Odd")


@pytest.mark.parametrize(
    ("figure", "kind", "values"),
    [
        (go.Figure(go.Bar(x=["<b>a</b>", "c"], y=[1.0, 2.0])), "bar", [1.0, 2.0]),
        (go.Figure(go.Bar(x=[1.0, 2.0], y=["a", "c"], orientation="h")), "bar", ["a", "c"]),
        (go.Figure(go.Scatter(x=[1, 2], y=[3.0, 4.0], mode="markers")), "point", [3.0, 4.0]),
        (go.Figure([go.Scatter(y=[3.0, 4.0], name="a"), go.Scatter(y=[5.0, 6.0], name="b")]),
         "point", [3.0, 4.0, 5.0, 6.0]),
    ],
)  # fmt: skip
def test_plotly_becomes_a_widget_with_a_still_twin(figure, kind, values, tmp_path):
    drawing = as_drawing("Traces", figure)
    drawing.save(tmp_path, "Traces")
    assert marks(drawing, kind)["y"].tolist() == values
    assert drawing.widget.library == "plotly"
    assert "template" not in drawing.widget.props["layout"]
    assert "<b>" not in json.dumps(drawing.widget.props, ensure_ascii=False)
    assert to_hex(drawing.figure("dark").get_facecolor()) == "#13171f"


def test_a_plotly_heat_map_has_a_twin_with_the_same_cells():
    values = [[0.1, 0.2, 0.3], [0.4, 0.5, None]]
    drawing = as_drawing("Cells", go.Figure(go.Heatmap(z=values, x=["a", "b", "c"])))
    shown = np.ma.filled(drawing.figure().axes[0].collections[0].get_array(), np.nan)
    np.testing.assert_array_equal(shown, np.array(values, dtype=float))
    assert drawing.data["x"].tolist() == ["a", "b", "c"] * 2


def test_circuitsvis_tokens_are_harmless_and_have_a_twin(tmp_path):
    drawing = as_drawing("Text", colored_tokens(TOKENS, [0.25, 0.26, 0.27, 0.28]))
    drawing.save(tmp_path, "Text")
    assert drawing.widget.component == "ColoredTokens"
    assert all("<" + "\u2060" in token for token in drawing.widget.props["tokens"] if "<" in token)
    assert drawing.data["token"].tolist() == TOKENS
    colours = drawing.widget.props["colors"]
    assert colours[0] == "#ffffff"
    assert colours[-1] == "#164195"
    assert (drawing.widget.legend["low"], drawing.widget.legend["high"]) == ("0.25", "0.28")


@pytest.mark.parametrize("heads", [1, 3])
def test_circuitsvis_attention_has_a_twin(heads, tmp_path):
    square = np.tril(np.ones((4, 4))) / np.arange(1, 5)[:, None]
    shown = attention_pattern(TOKENS, square) if heads == 1 else attention_heads(
        np.stack([square] * heads), TOKENS, ["<b>0</b>", "1", "2"])  # fmt: skip
    drawing = as_drawing("Attention", shown)
    drawing.save(tmp_path, "Attention")
    assert drawing.data["attention"].sum() == pytest.approx(4 * heads)
    assert drawing.data["head"].nunique() == heads
    assert "<b>" not in json.dumps(drawing.widget.props, ensure_ascii=False)
    mesh = drawing.figure().axes[0].collections[0].get_array()
    np.testing.assert_allclose(np.ma.filled(mesh, 0.0), np.tril(square), atol=5e-5)


def test_a_table_is_drawn_in_words(tmp_path):
    table = pd.DataFrame({"l2_norm": [0.80639, -0.00177], "token": ["</s>", " a"], "is_sink": True})
    drawing = as_drawing("Table", table)
    drawing.save(tmp_path, "Table")
    said = texts_of(drawing)
    assert {"0.806", "−0.00177", "</s>", "␣a", "yes", "is sink"} <= set(said)
    assert not any("_" in text for text in said)
    long = as_drawing("Long", pd.DataFrame({"n": range(100)}))
    assert "24 of 100 rows" in long.caption
    assert len(long.data) == 100


@pytest.mark.parametrize(
    ("thing", "told"),
    [
        ("a string", "is a str, which cannot be drawn"),
        ([1, 2], "is a list, which cannot be drawn"),
        (None, "is a NoneType, which cannot be drawn"),
        (pd.DataFrame({"x": []}), "without rows"),
        (Figure(), "shows nothing"),
        (go.Figure(), "shows nothing"),
        (go.Figure(go.Pie(values=[1, 2])), "'pie': use bar, scatter"),
        (text_neuron_activations(["a", "b"], np.zeros((2, 1, 1))), "no still twin"),
        (colored_tokens(["a", "b"], [0.5]), "one value for each token"),
    ],
)
def test_anything_else_is_refused_in_one_line(thing, told):
    with pytest.raises(ValueError, match=told) as refused:
        as_drawing("Odd", thing)
    assert "\n" not in str(refused.value)


def test_a_number_that_is_none_is_refused():
    with pytest.raises(ValueError, match="drop or fill"):
        as_drawing("Odd", colored_tokens(["a"], [float("nan")]))


def test_no_figure_of_ours_shows_an_underscore(drawings):
    for title in sorted(set(drawings) - {"Agreement with the block"}):
        assert [text for text in texts_of(drawings[title]) if "_" in text] == [], title


def test_an_underscore_in_a_figure_is_found():
    grid = samples.estimates().assign(measure="l2_norm")
    drawing = as_drawing("Odd", sns.stripplot(grid, x="measure", y="low", ax=Figure().subplots()))
    assert "l2_norm" in texts_of(drawing)
