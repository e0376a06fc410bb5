"""An axis of sizes in powers of ten whose values are plotted as logarithms, since many of them are no floating-point number."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

PER_NAT = 0.4342944819032518  # 1 / ln 10
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def ticks(axes: Axes, exponents: Sequence[int]) -> None:
    axes.set_yticks(exponents, [f"10{str(tick).translate(_RAISED)}" if tick else "1" for tick in exponents])
    axes.tick_params(labelleft=True)
