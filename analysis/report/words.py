"""Numbers and lists as a reader wants them: three significant digits, SI prefixes, units beside values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

PHASES = {"forward": "inference", "forward_backward": "training", "step": "streaming"}
PHASE_TITLES = {
    "forward": "Inference (forward)",
    "forward_backward": "Training (forward and backward)",
    "step": "Streaming (one token)",
}
LAUNCHES = {"eager": "eager", "graph": "CUDA graph"}
LOCATIONS = {"median": "median", "lower_quartile": "lower quartile", "minimum": "minimum"}
NOT_MEASURED = "not measured"
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))


def digits(value: float, significant: int = 3) -> str:
    """A plain decimal number with so many significant digits and no exponent: 0.0123, 1.20, 12 300."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = max(significant - 1 - math.floor(math.log10(abs(value))), 0)
    text = f"{value:.{decimals}f}"
    return f"{float(text):,.{decimals}f}".replace(",", " ")  # a thin space would break filters typed on a keyboard


def scaled(value: float, unit: str) -> str:
    """With the SI prefix that leaves 1 to 999 before the point; without one where the unit is said in words."""
    if " " in unit:
        return f"{digits(value)} {unit}"
    if value == 0 or not math.isfinite(value):
        return f"{value:g} {unit}"
    size = abs(float(f"{value:.2e}"))
    factor, prefix = next(((f, p) for f, p in _PREFIXES if size >= f), _PREFIXES[-1])
    return f"{digits(value / factor)} {prefix}{unit}"


def percent(share: float) -> str:
    """A share as percent with two significant digits: 0.54 %, 3.2 %, 41 %."""
    return f"{digits(100 * share, 2)} %"


def spread(log_half_width: float) -> str:
    """Half the width of an interval of log ratios: ±3.2 %, or a factor where percent would mislead."""
    if log_half_width < 0.2:
        return f"±{percent(math.expm1(log_half_width))}"
    return f"a factor of {digits(math.exp(log_half_width), 2)}"


def sentence(text: str) -> str:
    """With a capital letter."""
    return text[:1].upper() + text[1:]


def launched(what: str, launch: str) -> str:
    """A backend as its kernels were launched: cudnn, or cudnn (CUDA graph)."""
    return what if launch == "eager" else f"{what} ({LAUNCHES.get(launch, launch)})"


def count(number: int, noun: str, plural: str = "") -> str:
    """1 case, 2 cases."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def listed(names: Iterable[str], last: str = "and") -> str:
    """a, b and c."""
    names = list(names)
    return f" {last} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def rate(value: float) -> str:
    """Tokens a second: 79.6 k tokens/s."""
    return f"{scaled(value, '').rstrip()} tokens/s"


def sizes(row: dict[str, object], leave_out: Sequence[str] = ()) -> str:
    """A case's sizes for a reader: H256 L2 T64 B8, the input size only where it differs from H."""
    parts = [str(row["cell"]).upper()] if "cell" not in leave_out and row.get("cell") not in (None, "lstm") else []
    letters = (
        ("hidden_size", "H"),
        ("input_size", "I"),
        ("num_layers", "L"),
        ("proj_size", "P"),
        ("steps", "T"),
        ("batch", "B"),
    )
    for name, letter in letters:
        value = row.get(name)
        # A step of a recurrent network costs the same wherever in the stream it is.
        if name == "steps" and row.get("phase") == "step" and row.get("cell") in ("lstm", "gru", "rnn"):
            continue
        hidden = (name == "input_size" and value == row.get("hidden_size")) or (name == "num_layers" and value == 1)
        if not hidden and name not in leave_out and isinstance(value, int | float) and value == value and value:
            parts.append(f"{letter}{value:g}")
    for name, word in (("bidirectional", "bi"), ("ragged", "ragged"), ("initial_state", "state")):
        if row.get(name) is True:
            parts.append(word)
    if "launch" not in leave_out and row.get("launch") == "graph":
        parts.append("graph")
    if row.get("bias") is False:
        parts.append("no bias")
    return " ".join(parts)
