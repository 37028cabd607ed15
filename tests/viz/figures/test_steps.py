"""Matrices one after another: every number written, one step at a time in the interactive twin."""

import numpy as np
import pandas as pd
import pytest

from viz import step_by_step, texts_of

DATA = pd.DataFrame(
    [
        ("first", "a", "x", 1.0, "1 = 1"), ("first", "a", "y", -2.0, ""),
        ("first", "b", "x", 0.5, ""), ("first", "b", "y", np.nan, ""),
        ("second", "a", "long name", 12.34, ""),
    ],
    columns=["step", "row", "column", "value", "how"],
)  # fmt: skip
ABOUT = {"first": "This comes first.", "second": "Then this."}


def test_the_still_picture_has_every_number_once():
    drawn = step_by_step(DATA, about=ABOUT, caption="")
    shown = texts_of(drawn)
    for text in ("first", "second", "1.00", "−2.00", "0.50", "12", "long name"):
        assert text in shown
    assert shown.count("1.00") == 1
    figure = drawn.figure("dark")
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles == ["first", "second"]
    first, second = (axis.get_position() for axis in figure.axes)
    wide = [axis.get_position().width for axis in figure.axes]
    assert wide[0] == pytest.approx(2 * wide[1])  # cells are of one size
    assert not first.overlaps(second)


def test_matrices_stay_inside_the_figure():
    many = pd.DataFrame(
        [
            (f"step {step}", f"row {row}", f"c{column}", float(column))
            for step, wide in enumerate((6, 6, 6, 3, 40))
            for row in range(3)
            for column in range(wide)
        ],
        columns=["step", "row", "column", "value"],
    )
    about = dict.fromkeys(many["step"], "x")
    figure = step_by_step(many, about=about, caption="").figure()
    boxes = [axis.get_position() for axis in figure.axes]
    ends = np.array([[*box.p0, *box.p1] for box in boxes]).round(9)
    assert ends.min() >= 0
    assert ends.max() <= 1
    pairs = [(a, b) for n, a in enumerate(boxes) for b in boxes[:n]]
    assert not any(a.overlaps(b) for a, b in pairs)


def test_headings_that_are_wider_than_their_matrix_do_not_meet():
    steps = [f"Mixed values, {word} a mask" for word in ("without", "with", "once more without")]
    long = pd.DataFrame([(step, "a", "1", 1.0) for step in steps], columns=list(DATA)[:4])
    figure = step_by_step(long, about=dict.fromkeys(steps, "x"), caption="").figure()
    figure.draw_without_rendering()
    boxes = [axis._left_title.get_window_extent() for axis in figure.axes]
    pairs = [(a, b) for n, a in enumerate(boxes) for b in boxes[:n]]
    assert not any(a.overlaps(b) for a, b in pairs)
    assert max(box.x1 for box in boxes) <= figure.bbox.x1


def widget(**how):
    return step_by_step(DATA, about=ABOUT, caption="", **how).widget.props


def test_the_slider_shows_one_step_and_says_what_it_is():
    props = widget(first="second")
    assert [trace["visible"] for trace in props["data"]] == [False, True]
    (slider,) = props["layout"]["sliders"]
    assert slider["active"] == 1
    assert [step["label"] for step in slider["steps"]] == ["1. first", "2. second"]
    seen, layout = slider["steps"][0]["args"]
    assert seen == {"visible": [True, False]}
    assert layout["title.text"] == "This comes first."
    assert layout["xaxis.ticktext"] == ["x", "y"]
    assert layout["yaxis.range"] == [1.5, -0.5]  # rows from top to bottom
    assert props["layout"]["title"]["text"] == "Then this."
    assert props["layout"]["xaxis"]["ticktext"] == ["long name"]


def test_a_cell_is_pointed_at():
    first = widget(hover="how")["data"][0]
    assert first["customdata"][0] == ["a, x: 1.00<br>1 = 1", "a, y: −2.00"]
    assert first["z"] == [[1.0, -2.0], [0.5, None]]
    assert first["text"] == [["1.00", "−2.00"], ["0.50", ""]]
    assert (first["zmin"], first["zmax"]) == (-2, 2)


def test_sides_stand_beside_each_other():
    both = pd.concat([DATA.assign(side="left"), DATA[:2].assign(side="right")])
    drawn = step_by_step(both, about=ABOUT, caption="", side="side")
    left, second, right = drawn.widget.props["data"]
    assert (left["xaxis"], second["xaxis"], right["xaxis"]) == ("x", "x", "x2")
    steps = drawn.widget.props["layout"]["sliders"][0]["steps"]
    assert steps[0]["args"][0]["visible"] == [True, False, True]
    assert steps[1]["args"][1]["xaxis2.visible"] is False  # nothing on the right at this step
    ends = [steps[0]["args"][1][f"{axis}.domain"] for axis in ("xaxis", "xaxis2")]
    assert 0 == ends[0][0] < ends[0][1] < ends[1][0] < ends[1][1] == 1
    assert "first: left" in drawn.alt
    assert "first: right" in drawn.alt


def test_hostile_names_are_shown_and_do_nothing():
    rows = pd.DataFrame(
        [("s", r"$\a", "<b>x", 1.0, "<img>"), ("s", "a\nb", "<b>x", -0.001, "")],
        columns=["step", "row", "column", "value", "how"],
    )
    drawn = step_by_step(rows, about={"s": "<i>y</i>"}, caption="", hover="how")
    assert {r"$\a", "a⏎b", "0.00"} <= set(texts_of(drawn))
    props = drawn.widget.props
    assert props["layout"]["title"]["text"] == "<\u2060i>y<\u2060/i>"
    assert props["data"][0]["customdata"][0] == ["$\\a, <\u2060b>x: 1.00<br><\u2060img>"]
    assert props["layout"]["xaxis"]["ticktext"] == ["<\u2060b>x"]


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="two rows for one cell of step, row, column"):
        step_by_step(pd.concat([DATA, DATA]), about=ABOUT, caption="")
    with pytest.raises(ValueError, match="what is computed at step 'second'"):
        step_by_step(DATA, about={"first": "x"}, caption="")
    with pytest.raises(ValueError, match="no column 'value'"):
        step_by_step(DATA.drop(columns="value"), about=ABOUT, caption="")
