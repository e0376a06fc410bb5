"""The one place where numbers, units and lists become text for readers: significant digits, SI prefixes, intervals, plurals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from results.output import format_si, format_significant

if TYPE_CHECKING:
    from analysis.statistics.ratios import Ratio
    from analysis.statistics.seeds import Estimate

PHASES = {"forward": "inference", "forward_backward": "training", "step": "streaming"}
PHASE_TITLES = {
    "forward": "Inference (forward)",
    "forward_backward": "Training (forward and backward)",
    "step": "Streaming (one token)",
}
LAUNCHES = {"eager": "eager", "graph": "CUDA graph"}
STATISTICS = {"median": "median", "lower_quartile": "lower quartile", "minimum": "minimum"}
NOT_MEASURED = "not measured"
# A decision on a backend and the next one, of the next one.
BESIDE_FASTER = {"faster": "slower", "within": "within 5 %", "open": "not separated", "slower": "faster"}
# Labels that records and findings carry, for a reader.
NOTES = {
    "no_steady_state": "warm-up not converged", "unsteady_ratio": "unstable ratio", "host_bound": "host-bound",
}  # fmt: skip
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def format_percent(share: float, significant: int = 2) -> str:
    """A share as percent: 0.54 %, 3 %, 3.2 %, 41 %, 15 000 %."""
    return f"{format_significant(100 * share, significant).removesuffix('.0')} %"


def format_half_width(log_half_width: float) -> str:
    """Half the width of an interval of log ratios: ±3.2 %, or a factor where percent would mislead."""
    if log_half_width < 0.2:
        return f"±{format_percent(math.expm1(log_half_width))}"
    return f"a factor of {format_significant(math.exp(log_half_width), 2)}"


def format_number(value: float, significant: int = 3) -> str:
    """A number of any size: whole ones without a point, very small and very large ones with a power of ten: 8.3 × 10⁻¹³."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if 1e-3 <= abs(value) < 1e7:
        whole = value == round(value) or abs(value) >= 1000
        if whole and abs(value) < 1e4:
            return f"{value:.0f}"
        return f"{value:,.0f}".replace(",", " ") if whole else format_significant(value, significant)
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa.removesuffix('.0')} × 10{str(int(exponent)).translate(_SUPERSCRIPTS)}"


def format_ratio(ratio: Ratio) -> str:
    """1.83× [1.79, 1.87], or without the interval that a single replicate cannot give."""
    return format_factor(ratio.value, ratio.low, ratio.high)


def format_factor(value: float, low: float | None, high: float | None, significant: int = 3) -> str:
    """1.83× [1.79, 1.87]; without an interval where a bound is missing."""
    number, *bounds = ("" if each is None else format_significant(each, significant) for each in (value, low, high))
    return f"{number}× [{bounds[0]}, {bounds[1]}]" if all(bounds) else f"{number}×"


def no_interval(ratio: Ratio) -> str:
    """The reason why a ratio has no interval, or nothing where it has one."""
    if ratio.low is not None:
        return ""
    return "one replicate: no interval" if ratio.replicates == 1 else "no two replicates have every case: no interval"


def format_estimate(found: Estimate, unit: str = "", exact: bool = False) -> str:
    """An estimate with its interval, or why there is none.

    Args:
        found: over seeds or replicates.
        unit: that stands behind the number; "×" without a space.
        exact: of a quantity that may be counted; then a value that is its own interval stands alone.

    Returns:
        `12 steps [11, 13]`, `> 511 steps [above 498]` where it lies beyond what was measured, `< 64 steps` where below.
    """
    behind = unit if unit in ("", "×") else f" {unit}"
    why = f" ({found.why})" if found.why else ""
    if found.value is None and found.beyond is not None:
        low = "" if found.low is None or found.low == found.beyond else f" [above {format_number(found.low)}]"
        return f"> {format_number(found.beyond)}{behind}{low}{why}"
    if found.value is None and found.high is not None:
        return f"< {format_number(found.high)}{behind}{why}"
    if found.value is None:
        return found.why or NOT_MEASURED
    if exact and found.low == found.high:
        return f"{format_number(found.value, 2)}{why}"
    low = "?" if found.low is None else format_number(found.low)
    high = f"> {format_number(found.beyond)}" if found.beyond is not None else "?"
    high = high if found.high is None else format_number(found.high)
    return f"{format_number(found.value)}{behind} [{low}, {high}]{why}"


def format_note(label: str) -> str:
    """A label of a measurement for a reader: warm-up not converged, host-bound."""
    return NOTES.get(label, label.replace("_", " "))


def capitalised(text: str) -> str:
    """With a capital letter."""
    return text[:1].upper() + text[1:]


def with_launch_mode(what: str, launch: str) -> str:
    """A backend as its kernels were launched: cudnn, or cudnn (CUDA graph)."""
    return what if launch == "eager" else f"{what} ({LAUNCHES.get(launch, launch)})"


def format_count(number: int, noun: str, plural: str = "") -> str:
    """1 case, 2 cases."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def join_list(names: Iterable[str], last: str = "and") -> str:
    """a, b and c."""
    names = list(names)
    return f" {last} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def format_rate(value: float) -> str:
    """Tokens a second: 79.6 k tokens/s."""
    return f"{format_si(value, '').rstrip()} tokens/s"


def format_sizes(row: dict[str, object], leave_out: Sequence[str] = ()) -> str:
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
