"""How many streams fit in a gigabyte beside the weights, over the context each has behind it."""

from __future__ import annotations

import pandas as pd

from analysis import decode, words
from analysis.decode import NAMES
from analysis.figures.decode import curves, mark
from analysis.figures.drawing import Drawing, look, panels


def draw(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`."""
    found = decode.streams(series)
    if not found:
        return None
    with look():
        figure, grid = panels(1, height=3.3)
        curves(grid[0][0], found, lambda each: each.streams(), "", "")
        grid[0][0].set_ylabel("streams a gigabyte")
        figure.legend(handles=[mark(each) for each in found], loc="outside upper left", ncols=2)
    context = f"{found[0].contexts[-1]:.0f}"
    parts = [f"{NAMES[each.model]} {words.digits(float(each.streams()[-1]))}" for each in found]
    caption = f"By the bytes of their states in closed form, each {context} tokens in: {', '.join(parts)}."
    return Drawing(figure, "Streams that fit in a gigabyte", caption)
