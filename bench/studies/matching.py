"""Two architectures of the same size: the width at which one costs what the other costs, within a tolerance that is stated.

A comparison says by what it is matched: parameters, operations a token, or the measured time of a call. Matching by one
leaves the others apart, and the record keeps what was matched and how well.

On a GPU a match is also aligned: a model is compared at sizes its kernels are made for, at the price of a wider tolerance.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bench.harness.case import Case, Factor
from bench.worker import prepare
from bench.worker.prepare import Prepared
from bench.worker.timing import calls_per_sample, clock_for, interleaved
from impls import LSTMSpec, LSTMStackSpec, Spec, TransformerSpec
from impls.specs.residual import Device
from lstm_bench.errors import UserError

By = Literal["parameters", "flops", "time"]
Cost = Callable[[Spec], float]
TOLERANCE: dict[Device, float] = {"cpu": 0.01, "cuda": 0.02}
TIME_TOLERANCE = 0.05  # what so few samples of a width can tell apart
WIDEST = 1 << 16
SAMPLES = 9


@dataclass(frozen=True, slots=True)
class Alignment:
    """Which sizes a match may have.

    width         the model width is a multiple of it
    head_size     features of every attention head, so that the number of heads follows the width; 0 keeps the number of heads
    feed_forward  the feed-forward width is a multiple of it; 0 tunes it freely, where 4 times the width misses
    ratio         least and greatest feed-forward width over model width
    """

    width: int = 1
    head_size: int = 0
    feed_forward: int = 0
    ratio: tuple[float, float] = (0.0, float("inf"))

    def allows(self, spec: Spec) -> bool:
        """Whether the spec has such sizes."""
        if spec.hidden_size % self.width:
            return False
        if not isinstance(spec, TransformerSpec) or not self.head_size:
            return True
        low, high = self.ratio
        return (
            spec.head_size == self.head_size
            and spec.inner_size % self.feed_forward == 0
            and low <= spec.inner_size / spec.hidden_size <= high
        )


UNALIGNED = Alignment()
USUAL_RATIO = 4.0  # of feed-forward width to model width (Vaswani et al. 2017, table 3)
# 16-bit products reach tensor cores' full rate at sizes in multiples of 64 (128 bytes, NVIDIA's guide to matrix
# multiplication), and the flash-attention kernels are made for head sizes of 64 and 128. Scans have no product inside their
# recurrence, so their widths matter less; an LSTM's is in multiples of the 8 that a tensor core reads at once.
TRANSFORMER_ON_GPU = Alignment(width=64, head_size=64, feed_forward=64, ratio=(2.0, 6.0))
SCAN_ON_GPU = Alignment(width=16)
LSTM_ON_GPU = Alignment(width=8)


def alignment_of(spec: Spec) -> Alignment:
    """What sizes a match may have on the spec's device: any on a CPU."""
    if spec.device == "cpu":
        return UNALIGNED
    if isinstance(spec, TransformerSpec):
        return TRANSFORMER_ON_GPU
    return LSTM_ON_GPU if isinstance(spec, LSTMSpec | LSTMStackSpec) else SCAN_ON_GPU


class Unmatched(UserError, ValueError):
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


def by_parameters(spec: Spec, like: Spec, tolerance: float | None = None) -> Match:
    """`spec` at the size of as many parameters as `like` has.

    Args:
        spec: The architecture, its depth, dtype and device; its sizes are replaced, aligned as `alignment_of` says.
        like: What it is matched to.
        tolerance: By how much it may cost more or less; `TOLERANCE` of the device if left out.

    Raises:
        Unmatched: No allowed size is within the tolerance.
    """
    return match(spec, "parameters", lambda of: of.parameter_count(), like.parameter_count(), tolerance)


def by_flops(spec: Spec, like: Spec, context: int = 1, tolerance: float | None = None) -> Match:
    """`spec` at the size of as many operations a token as `like`, each after `context` tokens. Raises `Unmatched`."""
    wanted = like.flops_per_token(context=context)
    return match(spec, "flops", lambda of: of.flops_per_token(context=context), wanted, tolerance)


def by_time(case: Case, spec: Spec, backend: str, tolerance: float = TIME_TOLERANCE, beside: str | None = None) -> Match:
    """`spec` at the width whose call lasts as long here as the case's, both timed in rounds at every width that is tried.

    beside: the backend that runs `spec`; the case's if left out.

    Raises `Unmatched`, as it will where the clock cannot tell the tolerance apart.
    """
    own = prepare.load(case, backend)

    def share(of: Spec) -> float:
        return ratio(*interleaved_times([prepare.load(replace(case, spec=of), beside or backend), own]))

    found = match(spec, "time", share, 1.0, tolerance)
    seconds = statistics.median(interleaved_times([own])[0])
    return replace(found, wanted=seconds, found=found.found * seconds)


def interleaved_times(each: Sequence[Prepared], samples: int = SAMPLES) -> list[list[float]]:
    """Seconds of a call of each, warm, in rounds."""
    clocks = [clock_for(prepared) for prepared in each]
    return interleaved(clocks, [calls_per_sample(clock) for clock in clocks], samples)


def ratio(own: Sequence[float], its: Sequence[float]) -> float:
    """The median over rounds of own time over its."""
    return statistics.median(one / other for one, other in zip(own, its, strict=True))


def match(spec: Spec, by: By, cost: Cost, wanted: float, tolerance: float | None = None) -> Match:
    """Of the allowed sizes the one whose cost is nearest to what is wanted.

    Where a Transformer's feed-forward is aligned as well, several widths have one within the tolerance: that is taken whose
    feed-forward is nearest to four times the model width.

    `cost` grows with every size. The input size follows the width where the two are equal in `spec`. Raises `Unmatched`.
    """
    tolerance = TOLERANCE[spec.device] if tolerance is None else tolerance
    aligned = isinstance(spec, TransformerSpec) and alignment_of(spec).head_size
    near = list(_pairs(spec, cost, wanted) if aligned else _widths(spec, cost, wanted))
    found = [Match(each, by, wanted, cost(each)) for each in near]
    within = [each for each in found if abs(each.mismatch) <= tolerance]
    if not within:
        best = min(found, key=lambda each: abs(each.mismatch))
        raise Unmatched(
            f"no {spec.cell} has {wanted:.6g} {_UNITS[by]} within {tolerance:.1%}: the nearest, of width "
            f"{best.spec.hidden_size}, has {best.found:.6g} ({best.mismatch:+.1%}); ask for larger sizes or a wider tolerance"
        )
    return min(within, key=lambda each: (_unusual(each.spec) if aligned else 0.0, abs(each.mismatch)))


def _widths(spec: Spec, cost: Cost, wanted: float) -> Iterator[Spec]:
    """The two widths on either side of what is wanted; a Transformer that misses tunes its feed-forward."""
    width = _last(lambda size: cost(at_width(spec, size)) <= wanted, step(spec))
    yield from (at_width(spec, size) for size in (width, width + step(spec)) if size)
    if isinstance(spec, TransformerSpec) and width:
        narrow = at_width(spec, width)
        inner = _last(lambda size: cost(replace(narrow, feed_forward_size=size)) <= wanted, 1)
        yield from (replace(narrow, feed_forward_size=size) for size in (inner, inner + 1) if size)


def _pairs(spec: Spec, cost: Cost, wanted: float) -> Iterator[Spec]:
    """For every aligned width the aligned feed-forward within the ratio that comes nearest to what is wanted; at least one."""
    alignment, width = alignment_of(spec), 0
    unit, (low, high) = alignment.feed_forward, alignment.ratio
    while width < WIDEST:
        width += alignment.width
        narrow = at_width(spec, width)
        least, most = (unit * whole for whole in (math.ceil(low * width / unit), math.floor(high * width / unit)))
        inner = _last(lambda size, of=narrow: cost(replace(of, feed_forward_size=size)) <= wanted, unit)
        sizes = {min(max(size, least), most) for size in (inner, inner + unit)}
        yield min((replace(narrow, feed_forward_size=size) for size in sizes), key=lambda of: abs(cost(of) - wanted))
        if inner <= least:  # a wider one only costs more
            return


def _unusual(spec: Spec) -> float:
    """How far the feed-forward is from the usual ratio, as the logarithm of a factor."""
    assert isinstance(spec, TransformerSpec)
    return abs(math.log(spec.inner_size / spec.hidden_size / USUAL_RATIO))


_UNITS: dict[By, str] = {"parameters": "parameters", "flops": "operations a token", "time": "times the seconds of the call"}


def at_width(spec: Spec, width: int) -> Spec:
    """`spec` with another model width; its heads keep their number, or their size where the alignment gives one."""
    tied = {"input_size": width} if spec.input_size == spec.hidden_size else {}
    head_size = alignment_of(spec).head_size
    heads = {"num_heads": width // head_size} if isinstance(spec, TransformerSpec) and head_size else {}
    return replace(spec, hidden_size=width, **tied, **heads)


def step(spec: Spec) -> int:
    """By what a width can change: a Transformer's, where its number of heads is kept, by a whole even number a head."""
    alignment = alignment_of(spec)
    return 2 * spec.num_heads if isinstance(spec, TransformerSpec) and not alignment.head_size else alignment.width


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
