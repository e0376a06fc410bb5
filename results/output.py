"""What is written: numbers with units, text made safe for Markdown, HTML and CSV, and files written whole or not at all."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))


def format_significant(value: float, significant: int = 3) -> str:
    """A plain decimal number with so many significant digits and no exponent: 0.0123, 1.20, 12 300."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    rounded = abs(float(f"{value:.{significant - 1}e}"))  # 9.9996 with three digits is 10.0, not 10.00
    decimals = max(significant - 1 - math.floor(math.log10(rounded)), 0)
    text = f"{value:.{decimals}f}"
    return f"{float(text):,.{decimals}f}".replace(",", " ")  # a thin space would break filters typed on a keyboard


def format_si(value: float, unit: str) -> str:
    """With the SI prefix that leaves 1 to 999 before the point; without one where the unit is said in words."""
    if " " in unit:
        return f"{format_significant(value)} {unit}"
    if value == 0 or not math.isfinite(value):
        return f"{value:g} {unit}"
    size = abs(float(f"{value:.2e}"))
    factor, prefix = next(((f, p) for f, p in _PREFIXES if size >= f), _PREFIXES[-1])
    return f"{format_significant(value / factor)} {prefix}{unit}"


def format_duration(seconds: float) -> str:
    """A length of time in two units at most: 45 s, 3 min 20 s, 1 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest and minutes < 10 else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


# Text from elsewhere (a backend's message, a host's name, a file) as text that any terminal and file can hold.

# Control characters but tab and newline, lone surrogates, and what changes the direction of the text around it.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
# The same in a line of JSON, as escapes of which there may be any, or as they are.
SUSPECT = re.compile(rf"\\[bfr]|\\u(?:00[01789]|061|20[026]|d[89a-f]|fef)|{_UNSEEN.pattern}", re.IGNORECASE)


def visible(text: str) -> str:
    """The text with every unseen character written as Python would escape it, such as \\x1b."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def visible_in(value: Any) -> Any:
    """The same for every text in a value of JSON, keys included."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {visible(name): visible_in(item) for name, item in value.items()}
    if isinstance(value, list):
        return [visible_in(item) for item in value]
    return value


def without_html(text: str) -> str:
    """As text of a Markdown page, which may hold HTML; once more changes nothing."""
    return text.replace("<", "&lt;")


def in_markdown(text: str) -> str:
    """As a cell of a Markdown table: one line, no column of its own, no HTML."""
    return without_html(text).replace("|", "\\|").replace("\r", " ").replace("\n", " ")


def in_csv(text: str) -> str:
    """As a cell of a CSV file, which a spreadsheet must not take for a formula (OWASP, CSV injection)."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


# Files that are there whole or as they were before.


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to, which takes its place at the end; after an error nothing has changed."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file that is there whole, or as it was before."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
