"""How everything drawn looks: colours, markers, axes, and figures as SVG for light, dark and print."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from html import escape

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from analysis.report import words

# How a backend looks, everywhere: one colour, one marker, one dash. Colour alone never carries what a mark means.

# Sentinels that `analysis.report.drawing` turns into CSS, so that one drawing serves light, dark and print.
INK = "#010203"
GRID = "#040506"
PAPER = "#070809"
FAINT = "#0a0b0c"
UNDECIDED = "#0d0e0f"

# Eight colours as far apart as they get in OKLab under normal, protanopic, deuteranopic and tritanopic sight (Machado 2009),
# all with a contrast of at least 2.4 on white and on near-black. tests/analysis/report/test_style.py measures both.
PALETTE = ("#d46512", "#6778e5", "#18b4e8", "#ac350c", "#4b4cb5", "#df948a", "#7b436a", "#9b6e92")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "p")
Dash = tuple[int, tuple[float, ...]]
DASHES: tuple[Dash, ...] = ((0, ()), (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))


@dataclass(frozen=True, slots=True)
class Style:
    """colour: on a light page; dark: on a dark one."""

    colour: str
    marker: str
    dash: Dash
    dark: str = ""


# In the order in which they are listed. Each colour has a contrast of at least 4.5 on its paper; sixteen cannot be told apart
# by colour alone, so that a marker or the label of a row says which it is.
_KNOWN = {
    "torch": Style("#c43b10", "o", DASHES[0], "#f74807"),
    "torch_compile": Style("#5b3f01", "P", DASHES[0], "#f9c635"),
    "torch_loop": Style("#4c0610", "<", DASHES[0], "#fe9a9a"),
    "torch_graph": Style("#4f2200", "p", DASHES[0], "#f39523"),
    "jax": Style("#190abb", "s", DASHES[0], "#6584dd"),
    "flax": Style("#2e768e", "v", DASHES[0], "#62eafd"),
    "onnxruntime": Style("#8945f1", "D", DASHES[0], "#b69afc"),
    "numpy": Style("#3b404b", "^", DASHES[0], "#948489"),
    "cuda": Style("#3a7a5f", "*", DASHES[0], "#4b9758"),
    "cudnn": Style("#587110", "h", DASHES[0], "#d6fc07"),
    "cudnn_graph": Style("#015e4e", "H", DASHES[0], "#9cfee5"),
    "jax_cudnn": Style("#2c0763", "d", DASHES[0], "#6c76ff"),
    "fla": Style("#721485", "X", DASHES[0], "#e13fc5"),
    "flashrnn": Style("#cb228e", ">", DASHES[0], "#f87fb8"),
    "xlstm": Style("#076fb8", "8", DASHES[0], "#8cc7ff"),
}
OTHER = Style("#212730", "o", DASHES[0], "#d4cdbf")


def style(backend: str) -> Style:
    """The look of a backend. One not known here has a neutral colour, and by its name alone a marker and a dash."""
    if backend in _KNOWN:
        return _KNOWN[backend]
    number = zlib.crc32(backend.encode())
    return replace(OTHER, marker=MARKERS[number % 8], dash=DASHES[1 + number // 8 % 3])


def colour(backend: str) -> str:
    """As the page's CSS has it."""
    return css(style(backend).colour)


def ordered(backends: Iterable[str]) -> list[str]:
    """Distinct backends in the one order of every legend and table: the known ones, then the others by name."""
    places = {name: place for place, name in enumerate(_KNOWN)}
    return sorted(set(backends), key=lambda name: (places.get(name, len(places)), name))


# How an architecture looks and what it is called, in every figure that compares language models.

ARCHITECTURE_NAMES = {"transformer": "Transformer", "lstm_stack": "LSTM", "minlstm": "minLSTM", "ssm": "state space"}
LOOKS = {
    "transformer": (PALETTE[1], "s"), "lstm_stack": (PALETTE[0], "o"), "minlstm": (PALETTE[4], "v"), "ssm": (PALETTE[2], "D"),
}  # fmt: skip


def mark_architectures(cell: str) -> Line2D:
    colour, marker = LOOKS[cell]
    return Line2D([], [], color=colour, marker=marker, label=ARCHITECTURE_NAMES[cell])


def optimum() -> Line2D:
    return Line2D([], [], color=INK, lw=1.1, linestyle=(0, (4, 2)), label="best possible")


def source(name: str) -> str:
    """`hmm:100` as a reader wants it."""
    rule, _, number = name.partition(":")
    known = {"text": "Text", "hmm": f"Hidden Markov, {number} tokens a state", "copy": f"Copies, lag up to {number}"}
    return known.get(rule, name)


# What every figure shares: the grid of panels, quiet axes, one legend, units on ticks, the caption beside the drawing.

PANEL_WIDTH, PANEL_HEIGHT, LEGEND_WIDTH = 3.55, 2.75, 1.35  # inches; the last of one entry of a legend


@dataclass(frozen=True, slots=True)
class Drawing:
    """caption: one sentence or two of what is seen, computed from the data."""

    figure: Figure
    title: str
    caption: str


def look() -> AbstractContextManager[None]:
    """Matplotlib settings under which figures are drawn: text stays text, ink and grid are sentinels of this module."""
    return matplotlib.rc_context(
        {
            "font.size": 9, "axes.titlesize": 9.5, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.titlepad": 8,
            "axes.labelsize": 9, "text.color": INK, "axes.labelcolor": INK, "axes.titlecolor": INK, "axes.edgecolor": FAINT,
            "axes.linewidth": 0.8, "axes.facecolor": "none", "axes.spines.top": False, "axes.spines.right": False,
            "axes.grid": True, "axes.axisbelow": True, "grid.color": GRID, "grid.linewidth": 0.8, "xtick.color": FAINT,
            "ytick.color": FAINT, "xtick.labelcolor": INK, "ytick.labelcolor": INK, "xtick.labelsize": 8.5,
            "ytick.labelsize": 8.5, "figure.facecolor": "none",
            "legend.frameon": False, "legend.labelcolor": INK, "legend.fontsize": 9,
            "lines.linewidth": 1.6, "lines.markersize": 5.5, "svg.fonttype": "none", "svg.hashsalt": "lstm-bench",
        }
    )  # fmt: skip


def panels(columns: int, rows: int = 1, height: float = PANEL_HEIGHT, share_y: bool = True) -> tuple[Figure, list[list[Axes]]]:
    """A figure of rows × columns panels, each of the same size whatever their number."""
    # One column alone needs room for its axis labels and legend.
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08, wspace=0.03, hspace=0.06)
    figure = Figure(figsize=(PANEL_WIDTH * columns + 0.4 + 0.8 * (columns == 1), height * rows + 0.5), layout=layout)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=share_y)
    return figure, [list(row) for row in axes]


def legend(figure: Figure, backends: Iterable[str], more: Sequence[Line2D] = ()) -> None:
    """One legend above all panels."""
    handles = [legend_entry(name) for name in ordered(backends)] + list(more)
    columns = max(int(figure.get_figwidth() / LEGEND_WIDTH), 2)
    figure.legend(
        handles=handles, loc="outside upper left", ncols=min(len(handles), columns), handlelength=1.8, columnspacing=1.6
    )


def legend_entry(backend: str) -> Line2D:
    own = style(backend)
    return Line2D(
        [],
        [],
        color=own.colour,
        marker=own.marker,
        linestyle=own.dash,
        markeredgecolor=PAPER,
        markeredgewidth=0.6,
        label=backend,
    )


def log_values(axis: Axis, values: Iterable[float]) -> None:
    """A logarithmic axis with a tick at each measured value, thinned where they would touch."""
    ticks = sorted(set(values))
    while len(ticks) > 7:
        ticks = ticks[::2]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def log_units(axis: Axis, unit: str, low: float, high: float) -> None:
    """A logarithmic axis with SI prefixes, with ticks at 1, 2, 5 where it spans little, then at 1 and 3, then at 1."""
    axis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if high / low <= 16 else (1, 3) if high / low <= 300 else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value, unit)))
    axis.set_minor_formatter(NullFormatter())
    axis.set_minor_locator(NullLocator())


def short(value: float, unit: str) -> str:
    """A round number as ticks want it: 10 k, 2 ms."""
    number, _, rest = words.format_si(value, unit).partition(" ")
    number = number.rstrip("0").rstrip(".") if "." in number else number
    return f"{number} {rest}".rstrip()


LEAST_OF_A_LINE = 3  # values: fewer are drawn as dumbbells


def dumbbells(axes: Axes, ends: Mapping[str, tuple[float, float]], looks: Mapping[str, Style], unit: str) -> None:
    """A row for each name: its value at the smaller of two sizes (hollow) and at the larger one."""
    for place, (name, (first, last)) in enumerate(ends.items()):
        own = looks[name]
        axes.plot([first, last], [place, place], color=own.colour, lw=1.6, alpha=0.5)
        axes.plot(first, place, own.marker, mfc=PAPER, mec=own.colour, mew=1.2, ms=6.5, zorder=3)
        axes.plot(last, place, own.marker, color=own.colour, mec=own.colour, ms=6.5, zorder=3)
        axes.text(1.02, place, short(last, unit), transform=axes.get_yaxis_transform(), va="center", fontsize=8)
    axes.set_xscale("log")
    values = [value for pair in ends.values() for value in pair]
    axes.set_xlim(min(values) / 1.5, max(values) * 1.5)
    log_units(axes.xaxis, unit, min(values), max(values))
    axes.set_yticks(range(len(ends)), list(ends))
    axes.set_ylim(len(ends) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")


def blank(axes: Iterable[Axes]) -> None:
    """Take unused panels away."""
    for each in axes:
        each.set_axis_off()


# Matplotlib's SVG made fit for a page: real text, ink that follows the page, no clashing identifiers, nothing external.

POINTS_PER_INCH = 72
_VARIABLES = {own: f"--b-{name.replace('_', '-')}" for name, own in (*_KNOWN.items(), ("other", OTHER))}
_CSS = {
    INK: "currentColor",
    GRID: "var(--grid, #e4e4de)",
    PAPER: "var(--paper, #ffffff)",
    FAINT: "var(--faint, #a9adb3)",
    UNDECIDED: "var(--undecided, #ecece7)",
} | {own.colour: f"var({variable}, {own.colour})" for own, variable in _VARIABLES.items()}
DARK = " ".join(f"{variable}: {own.dark};" for own, variable in _VARIABLES.items())  # declarations of CSS; light is the default


def css(colour: str) -> str:
    """A colour of a drawing as the page has it, light or dark."""
    return _CSS.get(colour, colour)


# A file of its own is shown as an image, which sees the reader's colour scheme but not the page's style.
_ALONE = (
    "<style>svg { color: #1b1d21; font-family: system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif }"
    " @media (prefers-color-scheme: dark) { svg { color: #e7e7e3; --grid: #2a2e35; --paper: #14161a; --faint: #6d727b;"
    f" --undecided: #262a31; {DARK} }} }}</style>"
)


def inline(figure: Figure, name: str, title: str) -> str:
    """An <svg> element for an HTML page. name prefixes every id, so that many figures can share a page."""
    text = io.StringIO()
    with look():
        figure.savefig(
            text, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    for drawn, shown in _CSS.items():
        svg = svg.replace(drawn, shown)
    svg = re.sub(r"font: (?:(\w+) )?([\d.]+px) [^;\"]*", lambda found: _font(found[1], found[2]), svg)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    svg = re.sub(r' xmlns:xlink="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'(?<= )(?:d|x|y)="[^"]*"', lambda found: _DECIMALS.sub(_shortened, found[0]), svg)
    svg = re.sub(r"\n\s+", "\n", re.sub(r' transform="rotate\(-0 [^"]*"', "", svg))
    svg = re.sub(r' d="[^"]*"', lambda found: re.sub(r"\s*([MLCQz])\s*", r"\1", found[0]), _without_idle_groups(svg))
    svg = re.sub(r' style="[^"]*"', lambda found: re.sub(r"([;:,]) ", r"\1", found[0]), svg)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{name}-", svg)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(title)}" viewBox="{_view_box(svg)}">'
    return re.sub(r"<svg[^>]*>", head, svg, count=1)


def _without_idle_groups(svg: str) -> str:
    """Without the names that nothing refers to, and the groups that then say nothing: a fourth of the text."""
    used = set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", svg)
    kept: list[str] = []
    idle: list[bool] = []  # of the groups that are open
    for token in re.split(r"(<g\b[^>]*>\n?|</g>\n?)", svg):
        if token.startswith("</g>"):
            said_nothing = idle.pop()
        elif token.startswith("<g") and not token.rstrip().endswith("/>"):
            idle.append(token.rstrip() == "<g>")
            said_nothing = idle[-1]
        else:
            said_nothing = token.rstrip() == "<g/>"
        if not said_nothing:
            kept.append(token)
    return "".join(kept)


_DECIMALS = re.compile(r"-?\d+\.\d{3,}")


def _shortened(found: re.Match[str]) -> str:
    """To a hundredth of a point, which nobody sees."""
    return f"{float(found[0]):.2f}".rstrip("0").rstrip(".")


def alone(svg: str) -> str:
    """An inline <svg> as a file of its own, light or dark by the reader's choice."""
    start = svg.index(">") + 1
    return svg[:start] + _ALONE + svg[start:]


def _font(weight: str | None, size: str) -> str:
    return f"font-size: {size}" + (f"; font-weight: {weight}" if weight else "")


def _view_box(svg: str) -> str:
    found = re.search(r'viewBox="([^"]+)"', svg)
    return found[1] if found else "0 0 100 100"


PER_NAT = 0.4342944819032518  # 1 / ln 10
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def decade_ticks(axes: Axes, exponents: Sequence[int]) -> None:
    """For sizes plotted as logarithms to base 10, since many of them are no floating-point number."""
    axes.set_yticks(exponents, [f"10{str(tick).translate(_RAISED)}" if tick else "1" for tick in exponents])
    axes.tick_params(labelleft=True)


# How an initialisation looks and what it is called, in every figure of the gradient studies.

INIT_NAMES = {
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


def init_name(init: str) -> str:
    """`forget:3` as "forget bias 3"."""
    rule, colon, number = init.partition(":")
    if not colon:
        return INIT_NAMES.get(init, init)
    return f"{_PREFIXES.get(rule, rule + ' ')}{number}" + (" steps" if rule == "chrono" else "")


def init_style(init: str, place: int) -> tuple[str, Dash]:
    """Colour and dash; an unknown init gets one by its place among those drawn."""
    return _LOOKS.get(init, (PALETTE[place % len(PALETTE)], DASHES[1 + place // len(PALETTE) % 3]))


def init_order(init: str) -> int:
    """Where it stands in a list: frameworks after what papers prescribe, unknown ones last."""
    order = [*_LOOKS, *INIT_NAMES]
    return order.index(init) if init in order else len(order)


def mark_init(init: str, place: int, cell: str = "") -> Line2D:
    colour, dash = init_style(init, place)
    return Line2D([], [], color=colour, linestyle=dash, label=f"{cell.upper()} {init_name(init)}".strip())


def legend_outside(axes: Axes, handles: list[Line2D]) -> None:
    """A legend below the panel it belongs to, in two columns."""
    axes.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(-0.02, -0.2), ncols=2, handlelength=1.8, columnspacing=1.2,
        fontsize=8.5, borderaxespad=0.0,
    )  # fmt: skip
