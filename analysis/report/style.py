"""How a backend looks, everywhere: one colour, one marker, one dash. Colour alone never carries what a mark means."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

# Sentinels that `analysis.report.svg` turns into CSS, so that one drawing serves light, dark and print.
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
    colour: str
    marker: str
    dash: Dash


# In the order in which they are listed. The last two run on a GPU only and share a colour with one that runs on a CPU only.
_KNOWN = {
    "torch": Style(PALETTE[0], "o", DASHES[0]),
    "torch_compile": Style(PALETTE[5], "P", DASHES[0]),
    "torch_loop": Style(PALETTE[6], "X", DASHES[0]),
    "jax": Style(PALETTE[1], "s", DASHES[0]),
    "flax": Style(PALETTE[4], "v", DASHES[0]),
    "onnxruntime": Style(PALETTE[2], "D", DASHES[0]),
    "numpy": Style(PALETTE[7], "p", DASHES[0]),
    "cuda": Style(PALETTE[3], "^", DASHES[0]),
    "cudnn": Style(PALETTE[2], "h", DASHES[1]),
    "jax_cudnn": Style(PALETTE[7], "d", DASHES[1]),
}


def style(backend: str) -> Style:
    """The look of a backend. A name not known here gets one by its name alone, the same in every report everywhere."""
    if backend in _KNOWN:
        return _KNOWN[backend]
    number = zlib.crc32(backend.encode())
    return Style(PALETTE[number % 8], MARKERS[number // 8 % 8], DASHES[1 + number // 64 % 3])


def colour(backend: str) -> str:
    return style(backend).colour


def ordered(backends: Iterable[str]) -> list[str]:
    """Distinct backends in the one order of every legend and table: the known ones, then the others by name."""
    places = {name: place for place, name in enumerate(_KNOWN)}
    return sorted(set(backends), key=lambda name: (places.get(name, len(places)), name))
