"""What the page's script draws is what the figure shows: points, names, bounds, ticks."""

from __future__ import annotations

import io

import pytest

from analysis.report.data import MOST_POINTS, chart
from analysis.report.drawing import DASHES, INK, PAPER, legend, log_units, look, panels, style


@pytest.fixture(scope="module")
def drawn():
    with look():
        figure, grid = panels(2)
        left, right = grid[0]
        own, other = style("torch"), style("a new backend")
        left.plot([1, 10, 100], [2e3, 3e3, 5e3], color=own.colour, marker=own.marker, linestyle=own.dash, mec=PAPER)
        left.vlines([10], [2.5e3], [3.5e3], color=own.colour, lw=1)
        left.fill_between([1, 100], [1e3, 1e3], [2e3, 3e3], color=own.colour, alpha=0.2)
        left.axvline(20, color=INK)
        left.set(xscale="log", yscale="log", title="", xlabel="batch", ylabel="tokens/s")
        left.set_title("One")
        log_units(left.yaxis, "", 1e3, 5e3)
        right.plot(range(1000), range(1000), color=other.colour, linestyle=DASHES[2])
        right.text(0.5, 0.5, "not measured", transform=right.transAxes, ha="center")
        right.grid(False)
        legend(figure, ["torch"])
        figure.savefig(io.StringIO(), format="svg")
    return chart(figure)


def test_lines_have_their_points_names_and_looks(drawn):
    lines = drawn["panels"][0]["lines"]
    (line,) = [each for each in lines if each["name"]]
    assert line["name"] == "torch" and line["points"] == [[1, 2000], [10, 3000], [100, 5000]]
    assert line["stroke"] == "var(--b-torch, #c43b10)" and line["symbol"] == "circle" and line["dash"] == ""
    bar = next(each for each in lines if each["points"] == [[10, 2500], [10, 3500]])
    assert bar["name"] == "" and bar["stroke"] == line["stroke"]
    rule = next(each for each in lines if each["stroke"] == "currentColor")
    assert [point[0] for point in rule["points"]] == [20, 20]
    low, high = sorted(drawn["panels"][0]["y"]["domain"])
    assert sorted(point[1] for point in rule["points"]) == pytest.approx([low, high], rel=1e-2), "as high as the panel"


def test_axes_have_labels_ticks_and_grids(drawn):
    first, second = drawn["panels"]
    assert (first["title"], first["x"]["label"], first["y"]["label"]) == ("One", "batch", "tokens/s")
    assert first["x"]["type"] == first["y"]["type"] == "log" and [1000.0, "1 k"] in first["y"]["ticks"]
    assert first["x"]["grid"] and not second["x"]["grid"]
    assert second["y"]["label"] == "tokens/s", "of the panel that it shares the axis with"
    assert drawn["keys"][0] == {"name": "torch", "stroke": "var(--b-torch, #c43b10)", "dash": "", "symbol": "circle"}


def test_areas_and_texts_lie_where_the_figure_has_them(drawn):
    (area,) = drawn["panels"][0]["areas"]
    assert area["opacity"] == 0.2 and [1.0, 1000.0] in area["points"] and [100.0, 3000.0] in area["points"]
    (text,) = drawn["panels"][1]["texts"]
    assert text["text"] == "not measured" and text["anchor"] == "middle"
    assert text["x"] == pytest.approx(sum(drawn["panels"][1]["x"]["domain"]) / 2, rel=1e-2)


def test_long_lines_are_thinned_and_keep_their_ends(drawn):
    (line,) = drawn["panels"][1]["lines"]
    assert len(line["points"]) == MOST_POINTS and line["points"][0] == [0, 0] and line["points"][-1] == [999, 999]
    assert line["dash"] == "2.4 2.4" and line["name"] == "", "the legend has no line that looks so"


def test_points_without_a_line_are_all_shown():
    figure, ((axes,),) = panels(1)
    axes.plot(range(300), range(300), "o", linestyle="none")
    found = chart(figure)
    assert found is not None
    assert len(found["panels"][0]["lines"][0]["points"]) == 300 > MOST_POINTS


@pytest.mark.parametrize("draw", ["scatter", "pcolormesh"])
def test_a_figure_with_other_marks_is_shown_as_it_is(draw):
    figure, grid = panels(1)
    getattr(grid[0][0], draw)(*{"scatter": ([1], [1]), "pcolormesh": ([[1, 2], [3, 4]],)}[draw])
    figure.savefig(io.StringIO(), format="svg")
    assert chart(figure) is None
