"""Figures: what is in the table is what is drawn, and nothing in it can break the drawing."""

import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from tests.viz import samples
from viz import (
    Drawing,
    Widget,
    along_text,
    attention_patterns,
    bars,
    cell_grid,
    colored_tokens,
    curves,
    head_grid,
    heat_map,
    model_map,
    point_map,
    scatter,
)
from viz.canvas import PHONE
from viz.style import PAPER, color_map, theme


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text"))]


def grid_of(figure: Figure, panel: int = 0) -> np.ndarray:
    mesh = figure.axes[panel].collections[0]
    return np.ma.filled(mesh.get_array().astype(float), np.nan)


def test_every_figure_is_saved_whole(saved, drawings):
    names = {"figure.svg", "figure-dark.svg", "figure.png", "thumb.png"}
    names |= {"data.csv", "data.parquet", "figure.json"}
    for title in drawings:
        told = json.loads((saved / title / "figure.json").read_text())
        phone = {"phone.svg", "phone-dark.svg"} if told["phone"] else set()
        assert {path.name for path in (saved / title).iterdir()} == names | phone
        assert told["title"] == title
        assert told["alt"]
        assert told["width"] <= 712, "wider than a page on a desk shows half as large again"


def test_panels_that_stand_side_by_side_stand_below_one_another_on_a_phone(tmp_path):
    rows = pd.DataFrame({"x": [0, 1, 2] * 3, "y": range(9), "part": np.repeat(list("abc"), 3)})
    curves(rows, "x", "y", facet="part", caption="Three.").save(tmp_path / "three", "Three")
    told = json.loads((tmp_path / "three" / "figure.json").read_text())
    assert told["phone"][0] <= PHONE * 96 < told["width"]
    assert told["phone"][1] > 2 * told["height"]
    drawn = (tmp_path / "three" / "phone.svg").read_text()
    assert f'width="{PHONE * 72:g}pt"' in drawn, "an SVG counts in points"
    small = Drawing("Few.", rows, lambda: Figure(figsize=(3, 2)))
    own = Drawing("One's own.", rows, lambda: Figure(figsize=(9, 2)))
    for name, drawing in (("small", small), ("own", own)):  # no panels of ours to lay out anew
        drawing.save(tmp_path / name, name)
        assert json.loads((tmp_path / name / "figure.json").read_text())["phone"] is None
        assert not (tmp_path / name / "phone.svg").exists()


def test_svg_text_is_outlines_and_asks_for_no_font(saved, drawings):
    for title in drawings:
        for name in ("figure.svg", "figure-dark.svg"):
            svg = (saved / title / name).read_text()
            assert "<text" not in svg
            assert "onload" not in svg.replace("<!--", "").split("<defs>")[0]


def test_the_same_drawing_gives_the_same_bytes(tmp_path, saved, drawings):
    drawings["Loss by layer"].save(tmp_path, "Loss by layer")
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (saved / "Loss by layer" / path.name).read_bytes(), path.name


def test_downloads_carry_the_raw_text(saved):
    csv = pd.read_csv(saved / "Hostile tokens/data.csv", keep_default_na=False, na_values=[])
    parquet = pd.read_parquet(saved / "Hostile tokens/data.parquet")
    raw = [token if token != "\ud83d" else r"\ud83d" for token in samples.HOSTILE]
    assert parquet["token"].tolist() == raw
    assert csv["token"].tolist() == raw


def test_both_themes_have_their_own_paper(drawings):
    for name in ("light", "dark"):
        figure = drawings["Loss by layer"].figure(name)
        assert to_hex(figure.get_facecolor()) == PAPER[name]


def test_no_setting_outlives_a_drawing(drawings):
    import matplotlib

    before = dict(matplotlib.rcParams)
    drawings["Loss by layer"].figure("dark")
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(("layers", "heads"), [(2, 4), (30, 9), (32, 32)])
def test_a_head_grid_shows_each_head_where_it_is(layers, heads):
    table = samples.heads(layers, heads).sample(frac=1, random_state=0)
    figure = head_grid(table, "projection_share", facet="phase", caption="").figure()
    titles = [axis.get_title(loc="left") for axis in figure.axes[:2]]
    assert set(titles) == {"prompt", "generated"}
    for panel, phase in enumerate(titles):
        part = table[table["phase"] == phase]
        expected = np.full((layers, heads), np.nan)
        expected[part["layer"], part["head"]] = part["projection_share"]
        np.testing.assert_array_equal(grid_of(figure, panel), expected)


def test_signed_values_are_centred_on_zero_and_panels_share_a_scale():
    table = samples.heads(3, 4)
    figure = head_grid(table, "projection_share", facet="phase", caption="").figure()
    ends = {figure.axes[panel].collections[0].get_clim() for panel in (0, 1)}
    most = table["projection_share"].abs().max()
    assert ends == {(-most, most)}


def test_undefined_heads_are_hatched_and_said():
    figure = head_grid(samples.heads(2, 4), "projection_share", facet="phase", caption="").figure()
    assert any(patch.get_hatch() for patch in figure.axes[0].patches)
    assert any("hatched" in text for text in texts(figure))
    whole = head_grid(samples.heads(2, 4), "l2_norm", facet="phase", caption="").figure()
    assert not any("hatched" in text for text in texts(whole))


def test_a_grid_of_one_value_and_one_without_any_are_drawn():
    same = pd.DataFrame({"layer": [0, 0], "head": [0, 1], "cosine": [0.5, 0.5]})
    head_grid(same, "cosine", caption="").figure().draw_without_rendering()
    none = same.assign(cosine=np.nan)
    head_grid(none, "cosine", caption="").figure().draw_without_rendering()


def test_cells_say_errors_and_number_and_none_is_lost_in_rounding():
    table = pd.DataFrame(
        {"place": [0, 1, 1], "run": [0, 0, 1], "carry": [0, 0, 0], "n": [2000, 2000, 50],
         "accuracy": [1.0, 0.9999, 0.02]}
    )  # fmt: skip
    figure = cell_grid(table, caption="").figure()
    said = texts(figure)
    assert {"0\n2,000", ".001\n2,000", ".980\n50"} <= set(said)
    np.testing.assert_allclose(grid_of(figure), [[0.0001, 0.0], [0.98, np.nan]], atol=1e-9)


def test_a_band_that_would_flatten_the_lines_is_cut_and_says_so():
    rows = pd.DataFrame({"gate": [0, 1, 2], "loss": [0.0, 1.0, 2.0], "low": [-0.1, 0.9, 1.8],
                         "high": [0.1, 1.2, 18_000.0]})  # fmt: skip
    figure = curves(rows, "gate", "loss", caption="").figure()
    assert figure.axes[0].get_ylim() == pytest.approx((-0.1, 3))
    assert "bands go on from −0.1 to 18,000" in texts(figure)
    figure = curves(rows.assign(high=rows["loss"] + 9), "gate", "loss", caption="").figure()
    assert figure.axes[0].get_ylim()[1] > 11
    assert not [text for text in texts(figure) if "bands" in text]


def test_the_worst_cell_is_told_in_words():
    table = pd.DataFrame(
        {"place": [0, 1, 2], "run": [0, 0, 0], "carry": [0, 0, 0], "n": [2000, 2000, 100],
         "accuracy": [1.0, 0.9999, 0.57]}
    )  # fmt: skip
    drawing = cell_grid(table, caption="")
    figure = drawing.figure()
    assert {"0\n2,000", ".001\n2,000", ".430\n100"} <= set(texts(figure))
    np.testing.assert_allclose(grid_of(figure), [[0.43, 0.0001, 0.0]], atol=1e-9)
    assert "wrong" in drawing.alt
    assert "0.430, at place 2" in drawing.alt


def test_units_stand_on_the_right_as_digits_are_written():
    figure = cell_grid(samples.cells(), caption="").figure()
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == list("6543210")


def test_correlations_are_written_in_their_panel():
    drawing = scatter(samples.points(100), "l2_norm", "cosine", facet="phase",
                      correlations=samples.correlations(), caption="")  # fmt: skip
    figure = drawing.figure()
    for axis in figure.axes:
        words = "r = 0.42  ρ = 0.38  τ = 0.27" if axis.get_title(loc="left") == "prompt" else (
            "r = 0.61  ρ = 0.58  τ = 0.41")  # fmt: skip
        assert any(words in text.get_text() for text in axis.texts)


def test_two_correlations_for_one_panel_are_refused():
    twice = pd.concat([samples.correlations()] * 2)
    drawing = scatter(samples.points(100), "l2_norm", "cosine", facet="phase",
                      correlations=twice, caption="")  # fmt: skip
    with pytest.raises(ValueError, match="choose one"):
        drawing.figure()


def test_few_points_are_drawn_each_and_many_as_density():
    few = scatter(samples.points(300), "l2_norm", "cosine", caption="").figure()
    assert len(few.axes[0].collections[0].get_offsets()) == 300
    many = scatter(samples.points(9000), "l2_norm", "cosine", caption="").figure()
    assert many.axes[0].collections[0].get_array().sum() == 9000


def test_a_line_of_one_point_is_seen():
    table = pd.DataFrame({"layer": [0], "share": [0.5]})
    (line,) = curves(table, "layer", "share", caption="").figure().axes[0].lines
    assert line.get_marker() == "o"


def test_long_labels_of_a_colour_bar_have_room():
    table = pd.DataFrame({"layer": [0, 0], "head": [0, 1], "share": [0.99975, 0.9999]})
    ends = {"low": 0.99975, "high": 0.9999}
    figure = heat_map(table, "layer", "head", "share", caption="", **ends).figure()
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    names = [name for name in figure.axes[-1].get_xticklabels() if name.get_text()]
    boxes = sorted((box.x0, box.x1) for box in (n.get_window_extent(renderer) for n in names))
    assert len(boxes) > 1
    assert all(left[1] < right[0] for left, right in pairwise(boxes))


def test_curves_and_bars_draw_their_intervals():
    table = samples.learning()
    figure = curves(table, "step", "loss", series="layer", caption="").figure()
    line = figure.axes[0].lines[1]
    np.testing.assert_array_equal(line.get_ydata(), table[table["layer"] == 1]["loss"])
    assert len(figure.axes[0].collections) == 3
    plain = curves(table.drop(columns=["low", "high"]), "step", "loss", series="layer", caption="")
    assert not plain.figure().axes[0].collections
    dots = bars(samples.estimates(), "measure", "estimate", series="phase", caption="").figure()
    segments = dots.axes[0].collections[0].get_segments()
    expected = samples.estimates().query("phase == 'prompt'")
    np.testing.assert_allclose([s[:, 0] for s in segments], expected[["low", "high"]])


def test_many_series_are_steps_of_a_scale():
    table = pd.concat([samples.learning().assign(layer=i) for i in range(12)])
    figure = curves(table, "step", "loss", series="layer", caption="").figure()
    assert len({line.get_color() for line in figure.axes[0].lines}) == 12


def test_text_is_cut_into_lines_and_the_first_generated_token_is_marked():
    table = samples.along(samples.TEXT * 2, 5)
    figure = along_text(table, "cosine", caption="").figure()
    expected = table.pivot(index="layer", columns="pos", values="cosine").to_numpy()
    shown = np.hstack([grid_of(figure, 0), grid_of(figure, 1)])
    np.testing.assert_array_equal(shown, expected)
    first = table.loc[table["phase"] == "generated", "pos"].min()
    line, place = divmod(first, grid_of(figure, 0).shape[1])
    (mark,) = (mark for axis in figure.axes[:2] for mark in axis.lines)
    assert mark in list(figure.axes[line].lines)
    assert mark.get_xdata()[0] == place


def test_lines_of_text_are_alike_in_length_so_that_no_token_stands_alone():
    table = pd.DataFrame({"layer": 0, "pos": range(33), "token": "a", "share": np.arange(33.0)})
    figure = along_text(table, "share", caption="").figure()
    assert [grid_of(figure, line).shape[1] for line in (0, 1)] == [17, 16]


@pytest.mark.parametrize(
    ("length", "heads", "library", "component"),
    [
        (21, 1, "circuitsvis", "AttentionPattern"),
        (64, 4, "circuitsvis", "AttentionHeads"),
        (65, 2, "plotly", ""),
    ],
)
def test_attention_has_the_widget_that_can_carry_it(length, heads, library, component):
    tokens = (samples.TEXT * 4)[:length]
    drawing = attention_patterns(samples.attention(length, 1, heads), tokens, caption="")
    assert (drawing.widget.library, drawing.widget.component) == (library, component)
    expected = np.zeros((length, length))
    first = drawing.data.query("head == 0")
    expected[first["query"], first["key"]] = first["attention"]
    shown = np.nan_to_num(grid_of(drawing.figure()))
    np.testing.assert_array_equal(shown, expected)


def test_widgets_hold_rounded_numbers_and_harmless_labels(drawings):
    props = drawings["Hostile tokens"].widget.props
    table = drawings["Hostile tokens"].data
    np.testing.assert_allclose(props["values"], table["l2_norm"], atol=5e-5)
    assert all(len(str(value)) <= 7 for value in props["values"])
    assert all("<" + "\u2060" in token for token in props["tokens"] if "<" in token)


def test_small_numbers_are_not_rounded_to_nothing_and_large_ones_stay_exact():
    table = pd.DataFrame({"token": ["a", "b", "c"], "cosine": [0.0000123456, -0.5, 123456.0]})
    drawing = colored_tokens(table, "cosine", caption="")
    assert drawing.widget.props["values"] == [1.235e-05, -0.5, 123456.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_widget_refuses_what_is_no_number(bad):
    table = pd.DataFrame({"token": ["a", "b"], "cosine": [0.5, bad]})
    with pytest.raises(ValueError, match="drop or fill"):
        colored_tokens(table, "cosine", caption="")


def test_a_missing_column_and_an_empty_table_are_refused_by_name():
    with pytest.raises(ValueError, match="no column 'cosine'"):
        head_grid(samples.heads(2, 2), "cosine", caption="")
    with pytest.raises(ValueError, match="without rows"):
        head_grid(samples.heads(2, 2).iloc[:0], "l2_norm", caption="")


def test_a_drawing_of_ones_own_needs_three_things(tmp_path):
    drawing = Drawing("Mine.", pd.DataFrame({"x": [1]}), lambda: Figure(figsize=(3, 2)))
    drawing.save(tmp_path / "mine", "Mine")
    told = json.loads((tmp_path / "mine/figure.json").read_text())
    assert (told["library"], told["width"], told["height"]) == (None, 288, 192)
    assert told["alt"] == "Mine."
    with pytest.raises(AttributeError):
        drawing.caption = "Yours."
    assert Widget("plotly", "", {}).props == {}


def test_a_heat_map_shows_each_cell_where_it_is():
    table = samples.flips().sample(frac=1, random_state=0)
    figure = heat_map(table, "place", "pos", "flip", facet="kind", caption="").figure()
    for panel, axis in enumerate(figure.axes[:2]):
        part = table[table["kind"] == axis.get_title(loc="left")]
        expected = np.full((4, 12), np.nan)
        expected[part["place"], part["pos"]] = part["flip"]
        np.testing.assert_array_equal(grid_of(figure, panel), expected)
        assert any(patch.get_hatch() for patch in axis.patches), "place 2 is undefined"


def test_a_heat_map_keeps_the_order_of_words_and_sorts_numbers():
    table = pd.DataFrame(
        {"kind": ["z", "z", "a", "a"], "layer": [10, 2, 10, 2], "flip": [1.0, 2.0, 3.0, 4.0]}
    )
    figure = heat_map(table, "kind", "layer", "flip", caption="").figure()
    np.testing.assert_array_equal(grid_of(figure), [[2, 1], [4, 3]])
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["z", "a"]
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["2", "10"]


@pytest.mark.parametrize(
    ("values", "options", "ends"),
    [
        ([-1.0, 0.0, 0.5], {}, (-1, 1)),
        ([0.0, 0.2, 0.5], {}, (0, 0.5)),
        ([0.0, 0.2, 0.5], {"low": 0, "high": 1}, (0, 1)),
        ([-0.1, 0.2, 0.5], {"low": 0, "high": 1}, (0, 1)),
        ([-0.1, 0.2, 0.5], {"high": 1}, (-1, 1)),
        ([0.1, 0.2, 0.5], {"diverging": True}, (-0.5, 0.5)),
        ([-0.1, -0.2, -0.5], {"diverging": True}, (-0.5, 0.5)),
    ],
)
def test_the_scale_of_a_heat_map(values, options, ends):
    table = pd.DataFrame({"layer": 0, "head": range(3), "flip": values})
    figure = heat_map(table, "layer", "head", "flip", caption="", **options).figure()
    assert figure.axes[0].collections[0].get_clim() == ends


def test_a_scale_begins_at_zero_and_that_of_shares_ends_at_one():
    table = pd.DataFrame({"layer": [0, 0], "head": [0, 1]})
    for values, name, ends in (
        ([2.0, 4.0], "l2_norm", (0, 4)),
        ([0.6, 0.8], "share", (0, 1)),
        ([0.1, 0.2], "share", (0, 0.2)),
        ([-4.0, -2.0], "l2_norm", (-4, 4)),
    ):
        figure = head_grid(table.assign(**{name: values}), name, caption="").figure()
        assert figure.axes[0].collections[0].get_clim() == ends  # fmt: skip


@pytest.mark.parametrize(
    ("values", "extend"),
    [([-7.54, 0.5], "min"), ([0.1, 0.9], "neither"), ([0.5, 3.0], "max"), ([-1.0, 2.0], "both")],
)
def test_a_scale_marks_what_lies_beyond_it(values, extend):
    table = pd.DataFrame({"layer": [0, 0], "head": [0, 1], "gain": values})
    figure = heat_map(table, "layer", "head", "gain", caption="", low=0, high=1).figure()
    assert figure.axes[0].collections[0].colorbar.extend == extend


@pytest.mark.parametrize("name", ["light", "dark"])
def test_zero_is_the_paper_in_every_scale_of_colours(name):
    with theme(name):
        assert to_hex(color_map(centred=False)(0.0)) == PAPER[name]
        assert to_hex(color_map(centred=True)(0.5)) == PAPER[name]
        deepest = color_map(centred=False)(1.0)
    assert max(deepest[:3]) > 0.5, "a hue, not black"


def test_places_stand_as_digits_are_written():
    table = pd.DataFrame({"layer": 0, "place": [0, 1, 2], "flip": [0.1, 0.2, 0.3]})
    figure = heat_map(table, "layer", "place", "flip", caption="").figure()
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["2", "1", "0"]


def test_two_layers_are_points_side_by_side_and_no_line():
    rows = [(layer, line, 0.5) for layer in (0, 1) for line in ("a", "b")]
    table = pd.DataFrame(rows, columns=["layer", "line", "score"])
    table = table.assign(low=0.4, high=0.6)
    axis = curves(table, "layer", "score", series="line", caption="").figure().axes[0]
    assert {line.get_linestyle() for line in axis.lines} == {"None"}
    first, second = (line.get_xdata() for line in axis.lines)
    assert (first < second).all()
    assert list(axis.get_xticks()) == [0, 1]


@pytest.mark.parametrize(
    ("layers", "whole"),
    [([0, 0.5, 7, 12.5, 18], True), ([0, 7, 18], True), ([0, 0.5, 1, 1.5], False),
     ([0.2, 7.3, 18.0], False)],
)  # fmt: skip
def test_layers_are_marked_at_whole_numbers_also_where_halves_are_drawn(layers, whole):
    rows = pd.DataFrame({"layers passed": layers, "share": np.linspace(0, 0.4, len(layers))})
    drawn = curves(rows, "layers passed", "share", caption="Shares.")
    axis = drawn.figure().axes[0]
    locator = axis.xaxis.get_major_locator()
    assert locator._integer is whole


def test_shares_have_an_axis_from_zero_to_one_and_a_reference_is_dashed():
    table = pd.DataFrame({"layer": range(4), "accuracy": [0.5, 0.6, 0.7, 0.8]})
    axis = curves(table, "layer", "accuracy", caption="", reference=0.1).figure().axes[0]
    assert axis.get_ylim() == (-0.03, 1.03)
    assert axis.lines[-1].get_linestyle() == "--"
    dots = bars(table.assign(kind="a"), "layer", "accuracy", caption="").figure().axes[0]
    assert dots.get_xlim() == (-0.03, 1.03)


def test_the_heads_of_one_layer_are_named_by_number_below_its_heading(drawings):
    data = samples.attention(21, 1, 4).assign(layer=24)
    drawing = attention_patterns(data, samples.TEXT, caption="")
    assert drawing.heading == "Layer 24, by head"
    assert drawing.widget.props["attentionHeadNames"] == ["0", "1", "2", "3"]
    several = drawings["Attention of four heads"]
    assert several.heading == ""
    assert several.widget.props["attentionHeadNames"] == ["L0H0", "L0H1", "L1H0", "L1H1"]


def test_words_are_written_into_the_cells_they_belong_to():
    table = samples.decoded(12)
    figure = heat_map(table, "layer", "digit", "probability", text="word", caption="").figure()
    written = [text.get_text() for text in figure.axes[0].texts]
    assert len(written) == len(table)
    assert written[table["word"].tolist().index("万")] == "万"


def test_cells_in_which_nothing_is_written_are_drawn():
    table = samples.decoded(3).assign(word="")
    heat_map(table, "layer", "digit", "probability", text="word", caption="").figure()


def test_two_rows_for_one_cell_are_refused():
    twice = pd.concat([samples.flips()] * 2)
    with pytest.raises(ValueError, match="two rows for one cell of place, pos"):
        heat_map(twice, "place", "pos", "flip", caption="")


def boxes(figure: Figure) -> set[tuple[float, str]]:
    axis = figure.axes[0]
    names = [label.get_text() for label in axis.get_xticklabels()]
    return {(names[round(t.get_position()[0])], t.get_text()) for t in axis.texts}


def test_a_model_map_shows_the_components_with_a_role_at_their_tokens():
    figure = model_map(samples.found(), caption="").figure()
    assert boxes(figure) == {("=", "0"), ("0", "0"), ("0", "1"), ("0", "M"), ("4", "1")}
    colours = {patch.get_facecolor() for patch in figure.axes[0].patches}
    assert len(colours) == 4, "one for each role"
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [
        "carry", "own sum", "both", "over nines"]  # fmt: skip


def test_a_model_in_which_nothing_was_found_is_drawn_without_boxes():
    nothing = samples.found().assign(role="none")
    figure = model_map(nothing, caption="").figure()
    assert not figure.axes[0].patches
    assert not figure.legends


def test_an_unknown_role_is_refused():
    odd = samples.found().assign(role="chief")
    with pytest.raises(ValueError, match="unknown role 'chief'"):
        model_map(odd, caption="")


def test_a_category_of_numbers_is_named_and_one_of_words_is_not():
    table = pd.DataFrame({"place": [0, 1], "kind": ["lost", "made"], "accuracy": [0.5, 0.7]})
    named = [bars(table, by, "accuracy", caption="").figure().axes[0] for by in ("place", "kind")]
    assert [axis.get_ylabel() for axis in named] == ["decimal place (0 = units)", ""]


def test_ranks_spread_by_their_logarithm_are_named_as_numbers():
    table = pd.DataFrame({"depth": [0, 1, 2], "rank": [10_000, 100, 1]})
    axis = curves(table, "depth", "rank", caption="", log_y=True).figure().axes[0]
    at = [axis.transData.transform((0, rank))[1] for rank in table["rank"]]
    assert at[0] - at[1] == pytest.approx(at[1] - at[2])
    assert axis.yaxis.get_major_formatter()(10_000) == "10,000"


def test_steps_spread_by_their_logarithm_show_step_zero():
    table = pd.DataFrame({"step": [0, 10, 100, 1000], "loss": [2.3, 1.0, 0.5, 0.1]})
    axis = curves(table, "step", "loss", caption="", log_x=True).figure().axes[0]
    at = [axis.transData.transform((step, 0))[0] for step in table["step"]]
    assert at == sorted(at)
    assert at[3] - at[2] == pytest.approx(at[2] - at[1])
    assert axis.get_xlim()[0] == 0


def test_a_band_lies_behind_its_category_and_is_named() -> None:
    """Of two measures, random weights reach 0 to 1 and 2 to 3."""
    table = pd.DataFrame(
        {
            "measure": ["a", "b"],
            "lead": [1.5, 0.5],
            "band_low": [0.0, 2.0],
            "band_high": [1.0, 3.0],
        },
        index=[0, 0],
    )
    drawing = bars(table, "measure", "lead", caption="", band="random weights")
    figure = drawing.figure()
    (band,) = figure.axes[0].collections
    assert [line.tolist() for line in band.get_segments()] == [[[0, 0], [1, 0]], [[2, 1], [3, 1]]]
    assert [text.get_text() for text in figure.legends[-1].get_texts()] == ["random weights"]
    assert drawing.alt.endswith("Highest a (1.5), lowest b (0.5).")


def test_many_panels_stand_beside_each_other_and_name_their_axes_once() -> None:
    rows = [(panel, x, x) for panel in "abc" for x in range(4)]
    table = pd.DataFrame(rows, columns=["panel", "step", "loss"])
    figure = curves(table, "step", "loss", facet="panel", caption="").figure()
    assert len({axis.get_subplotspec().rowspan.start for axis in figure.axes}) == 1
    assert [bool(axis.get_ylabel()) for axis in figure.axes] == [True, False, False]
    assert figure.get_supxlabel() == "step"
    assert figure.get_figwidth() < 10


def test_titles_of_neighbours_are_wrapped_and_no_line_ends_before_a_per_cent_sign():
    rows, titles = pd.DataFrame({"x": [0, 1], "y": [0, 1], "name": ["a", "b"]}), []
    for told in ("place 1, 1 layer (97 %)", "place 0, embedding (40 %)"):
        figure = point_map(rows.assign(of=told), "x", "y", "name", facet="of", caption="").figure()
        titles.append(figure.axes[0].get_title(loc="left"))
    assert titles == ["place 1, 1 layer\n(97\xa0%)", "place 0, embedding\n(40\xa0%)"]
