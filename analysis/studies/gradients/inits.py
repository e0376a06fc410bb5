"""How an initialisation looks and what it is called, in every figure of the gradient studies."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.report.drawing import DASHES, PALETTE, Dash

NAMES = {
    "pytorch": "PyTorch default", "orthogonal": "orthogonal", "irnn": "IRNN (identity, rectified)", "keras": "Keras",
    "flax": "Flax", "tensorflow1": "TensorFlow 1", "jozefowicz": "Jozefowicz: default + 1",
}  # fmt: skip
_PREFIXES = {"gaussian": "Gaussian, gain ", "forget": "forget bias ", "chrono": "chrono, "}
# Each appears with others of its cell only, so two cells may share a colour.
_LOOKS: dict[str, tuple[str, Dash]] = {
    "pytorch": (PALETTE[0], DASHES[0]), "orthogonal": (PALETTE[1], DASHES[0]), "irnn": (PALETTE[6], DASHES[0]),
    "gaussian:0.5": (PALETTE[2], DASHES[1]), "gaussian:1": (PALETTE[4], DASHES[0]), "gaussian:1.5": (PALETTE[3], DASHES[0]),
    "forget:0": (PALETTE[3], DASHES[1]), "forget:1": (PALETTE[1], DASHES[0]), "forget:2": (PALETTE[2], DASHES[0]),
    "forget:3": (PALETTE[4], DASHES[0]), "forget:5": (PALETTE[5], DASHES[0]), "chrono:784": (PALETTE[6], DASHES[0]),
}  # fmt: skip


def name(init: str) -> str:
    """`forget:3` as "forget bias 3"."""
    rule, colon, number = init.partition(":")
    if not colon:
        return NAMES.get(init, init)
    return f"{_PREFIXES.get(rule, rule + ' ')}{number}" + (" steps" if rule == "chrono" else "")


def look(init: str, place: int) -> tuple[str, Dash]:
    """Colour and dash; an unknown init gets one by its place among those drawn."""
    return _LOOKS.get(init, (PALETTE[place % len(PALETTE)], DASHES[1 + place // len(PALETTE) % 3]))


def place(init: str) -> int:
    """Where it stands in a list: frameworks after what papers prescribe, unknown ones last."""
    order = [*_LOOKS, *NAMES]
    return order.index(init) if init in order else len(order)


def mark(init: str, place: int, cell: str = "") -> Line2D:
    colour, dash = look(init, place)
    return Line2D([], [], color=colour, linestyle=dash, label=f"{cell.upper()} {name(init)}".strip())


def beside(axes: Axes, handles: list[Line2D]) -> None:
    """A legend below the panel it belongs to, in two columns."""
    axes.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(-0.02, -0.2), ncols=2, handlelength=1.8, columnspacing=1.2,
        fontsize=8.5, borderaxespad=0.0,
    )  # fmt: skip
