"""Two architectures of the same size: the width at which one costs what the other costs, within a tolerance that is stated.

A comparison says by what it is matched: parameters, operations a token, or the measured time of a call. Matching by one
leaves the others apart, and the record keeps what was matched and how well.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from bench import prepare
from bench.case import Case, Factor
from bench.clock import calls_per_sample, clock_for
from impls import Spec, TransformerSpec

By = Literal["parameters", "flops", "time"]
Cost = Callable[[Spec], float]
TOLERANCE = 0.01
WIDEST = 1 << 16
SAMPLES = 21


class Unmatched(ValueError):
    """No size costs what was asked within the tolerance; the message names the nearest."""


@dataclass(frozen=True, slots=True)
class Match:
    """spec costs `found` where `wanted` was asked, by what `by` names."""

    spec: Spec
    by: By
    wanted: float
    found: float

    @property
    def mismatch(self) -> float:
        """By how much of what was asked it costs more, or (below zero) less."""
        return self.found / self.wanted - 1

    @property
    def factors(self) -> tuple[tuple[str, Factor], ...]:
        """For a case, whose key and record then say what was matched."""
        return ("matched", self.by), ("mismatch", float(f"{self.mismatch:.2g}"))


def by_parameters(spec: Spec, like: Spec, tolerance: float = TOLERANCE) -> Match:
    """`spec` at the width of as many parameters as `like` has. Raises `Unmatched`."""
    return match(spec, "parameters", lambda of: of.parameter_count(), like.parameter_count(), tolerance)


def by_flops(spec: Spec, like: Spec, context: int = 1, tolerance: float = TOLERANCE) -> Match:
    """`spec` at the width of as many operations a token as `like`, each after `context` tokens. Raises `Unmatched`."""
    wanted = like.flops_per_token(context=context)
    return match(spec, "flops", lambda of: of.flops_per_token(context=context), wanted, tolerance)


def by_time(case: Case, spec: Spec, backend: str, tolerance: float = TOLERANCE) -> Match:
    """`spec` at the width whose call lasts as long here as the case's. Raises `Unmatched`, as it will where the clock cannot
    tell 1 % apart."""

    def seconds(of: Spec) -> float:
        return median_seconds(replace(case, spec=of), backend)

    return match(spec, "time", seconds, seconds(case.spec), tolerance)


def median_seconds(case: Case, backend: str) -> float:
    """Median seconds of one call of a loaded case, warm."""
    clock = clock_for(prepare.load(case, backend))
    calls = calls_per_sample(clock)
    return statistics.median(clock.sample(calls) for _ in range(SAMPLES))


def match(spec: Spec, by: By, cost: Cost, wanted: float, tolerance: float = TOLERANCE) -> Match:
    """The nearest of the two widths on either side of what is wanted; a Transformer that misses tunes its feed-forward.

    `cost` grows with width. The input size follows the width where the two are equal in `spec`. Raises `Unmatched`.
    """
    width = _last(lambda size: cost(at_width(spec, size)) <= wanted, step(spec))
    near = [at_width(spec, size) for size in (width, width + step(spec)) if size]
    if isinstance(spec, TransformerSpec) and width:
        narrow = at_width(spec, width)
        inner = _last(lambda size: cost(replace(narrow, feed_forward_size=size)) <= wanted, 1)
        near += [replace(narrow, feed_forward_size=size) for size in (inner, inner + 1) if size]
    found = [Match(each, by, wanted, cost(each)) for each in near]
    best = min(found, key=lambda each: abs(each.mismatch))
    if not abs(best.mismatch) <= tolerance:
        raise Unmatched(
            f"no {spec.cell} has {wanted:.6g} {_UNITS[by]} within {tolerance:.1%}: the nearest, of width "
            f"{best.spec.hidden_size}, has {best.found:.6g} ({best.mismatch:+.1%}); ask for larger sizes or a wider tolerance"
        )
    return best


_UNITS: dict[By, str] = {"parameters": "parameters", "flops": "operations a token", "time": "seconds a call"}


def at_width(spec: Spec, width: int) -> Spec:
    tied = {"input_size": width} if spec.input_size == spec.hidden_size else {}
    return replace(spec, hidden_size=width, **tied)


def step(spec: Spec) -> int:
    """By what a width can change: a Transformer's by a whole even number a head."""
    return 2 * spec.num_heads if isinstance(spec, TransformerSpec) else 1


def _last(fits: Callable[[int], bool], unit: int) -> int:
    """The largest multiple of `unit` that fits, by doubling and then bisecting; 0 if none does."""
    if not fits(unit):
        return 0
    low = 1
    while low * unit < WIDEST and fits(2 * low * unit):
        low *= 2
    high = 2 * low
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle * unit) else (low, middle)
    return low * unit
