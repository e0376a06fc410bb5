"""A stream that never ends: does its memory grow, and does its state drift from what float64 makes of the same tokens?"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench import prepare
from bench.case import Case
from results.record import Measurement

LOOKS = 10  # evenly over the stream


def measure(backend: str, case: Case) -> Iterator[Measurement]:
    """Streams the case's factor `tokens` through it and through its float64 twin, in step, and looks ten times.

    state_error    largest |state − float64 state| over the largest |float64 state|
    state_size     largest |state|; raises `prepare.Rejected` where it is not finite
    resident       bytes of the process, Linux only
    """
    own = prepare.load(case, backend)
    twin = prepare.load(replace(case, spec=replace(case.spec, dtype="float64")), backend)
    each = int(case.factor("tokens")) // LOOKS
    errors, sizes, resident = [], [], []
    for _ in range(LOOKS):
        for prepared in (own, twin):
            for _ in range(each):
                prepared.call()
            prepared.wait()
        found, right = _state(own), _state(twin)
        if not np.isfinite(found).all():
            raise prepare.Rejected(f"{backend}: the state is no number after {each * (len(errors) + 1)} tokens")
        errors.append(float(np.abs(found - right).max() / np.abs(right).max()))
        sizes.append(float(np.abs(found).max()))
        gc.collect()
        resident.append(_resident_bytes())
    yield Measurement("state_error", "1", tuple(errors))
    yield Measurement("state_size", "1", tuple(sizes))
    yield Measurement("resident", "B", tuple(resident))


def _state(prepared: prepare.Prepared) -> np.ndarray:
    return np.concatenate([value.ravel().astype(np.float64) for value in prepared.loaded.final_state().values()])


def _resident_bytes() -> float:
    status = Path("/proc/self/status")
    if not status.exists():
        raise prepare.Skip("the memory of a process is read from /proc, which is Linux's; run there")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return 1024.0 * int(line.split()[1])
