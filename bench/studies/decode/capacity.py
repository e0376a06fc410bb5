"""How many streams a GPU holds at once: twice as many until memory runs out, then the middle, until the two are close."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import cast

import impls
from bench import costs
from bench.harness.case import Case
from bench.worker import prepare
from impls import SupportsBatchResize
from results.record import Measurement

CLOSE = 16  # the answer is known to a sixteenth


def measure(backend: str, case: Case) -> Iterator[Measurement]:
    """Holds streams with the case's T tokens behind each, their states zero, and takes one step of all of them.

    streams       the most that ran
    streams_over  the fewest that ran out of memory; whatever else goes wrong is raised
    free_bytes    of the device before the weights were loaded
    """
    if case.spec.device != "cuda":
        raise prepare.Skip("streams are counted in the memory of a GPU, which is no one else's; ask for device=cuda")
    free = costs.free_bytes("cuda")
    loaded = cast(SupportsBatchResize, impls.get(backend).load(case.spec, *replace(case, steps=1).data()))

    def fits(streams: int) -> bool:
        try:
            loaded.widen(streams, case.steps)
            loaded.step()
            loaded.wait()
        except Exception as error:
            if not costs.ran_out(error):
                raise
            return False
        return True

    most, over = bounds(fits)
    yield Measurement("streams", "1", (float(most),))
    yield Measurement("streams_over", "1", (float(over),))
    if free is not None:
        yield Measurement("free_bytes", "B", (float(free),))


def bounds(fits: Callable[[int], bool]) -> tuple[int, int]:
    """The most known to fit (0 if not even one does) and the fewest known not to."""
    low, high = 0, 1
    while fits(high):
        low, high = high, 2 * high
    while high - low > max(1, low // CLOSE):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low, high
