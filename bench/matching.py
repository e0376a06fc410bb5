"""Two architectures of the same size: the width at which one costs what the other costs, within a tolerance that is stated.

A comparison says by what it is matched: parameters, operations a token, or the measured time of a call. Matching by one
leaves the others apart, and the record keeps what was matched and how well.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bench import prepare
from bench.case import Case, Factor
from bench.clock import calls_per_sample, clock_for
from bench.prepare import Prepared
from impls import Spec, TransformerSpec

By = Literal["parameters", "flops", "time"]
Cost = Callable[[Spec], float]
TOLERANCE = 0.01
TIME_TOLERANCE = 0.05  # what so few samples of a width can tell apart
WIDEST = 1 << 16
SAMPLES = 9


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


def by_time(case: Case, spec: Spec, backend: str, tolerance: float = TIME_TOLERANCE) -> Match:
    """`spec` at the width whose call lasts as long here as the case's, both timed in turns at every width that is tried.

    Raises `Unmatched`, as it will where the clock cannot tell the tolerance apart.
    """
    own = prepare.load(case, backend)

    def share(of: Spec) -> float:
        return ratio(*in_turns([prepare.load(replace(case, spec=of), backend), own]))

    found = match(spec, "time", share, 1.0, tolerance)
    seconds = statistics.median(in_turns([own])[0])
    return replace(found, wanted=seconds, found=found.found * seconds)


def in_turns(each: Sequence[Prepared], samples: int = SAMPLES) -> list[list[float]]:
    """Seconds of a call of each, warm, one sample after the other's so that drift hits all alike."""
    clocks = [clock_for(prepared) for prepared in each]
    calls = [calls_per_sample(clock) for clock in clocks]
    rounds = [[clock.sample(count) for clock, count in zip(clocks, calls, strict=True)] for _ in range(samples)]
    return [list(column) for column in zip(*rounds, strict=True)]


def ratio(own: Sequence[float], its: Sequence[float]) -> float:
    """The median over rounds of own time over its."""
    return statistics.median(one / other for one, other in zip(own, its, strict=True))


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
