"""A stream that never ends: does its memory grow, and does its state drift from what float64 makes of the same tokens?"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from bench.harness.case import Case
from bench.worker import memory, prepare
from impls import SupportsMultiStep
from results.record import Measurement

LOOKS = 10  # evenly over the stream


def measure(backend: str, case: Case) -> Iterator[Measurement]:
    """Streams the case's factor `tokens` through it and through its float64 twin, in step, and looks ten times.

    Factor `piece` says how many tokens a call takes: 1 for phase `step`.

    state_error    largest |state − float64 state| over the largest |float64 state|
    state_size     largest |state|; raises `prepare.Rejected` where it is not finite
    resident       bytes of the process, Linux only
    device_used    bytes in use on the whole device, on CUDA only
    """
    own = prepare.load(case, backend)
    twin = prepare.load(replace(case, spec=replace(case.spec, dtype="float64")), backend)
    tokens, piece = int(case.factor("tokens")), int(case.factor("piece"))
    if tokens % (LOOKS * piece):
        raise ValueError(f"tokens must be a multiple of {LOOKS} looks of whole pieces of {piece} tokens; got {tokens}")
    streams = [(prepared, _call(prepared, piece)) for prepared in (own, twin)]
    found: dict[str, list[float]] = {}
    for look in range(1, LOOKS + 1):
        for prepared, call in streams:
            for _ in range(tokens // LOOKS // piece):
                call()
            prepared.wait()
        state, right = _state(own), _state(twin)
        if not np.isfinite(state).all():
            raise prepare.Rejected(f"{backend}: the state is no number after {look * tokens // LOOKS} tokens")
        looked = {"state_error": np.abs(state - right).max() / np.abs(right).max(), "state_size": np.abs(state).max()}
        for name, value in (looked | _bytes_used(case)).items():
            found.setdefault(name, []).append(float(value))
    for name, values in found.items():
        yield Measurement(name, "1" if name.startswith("state") else "B", tuple(values))


def _call(prepared: prepare.Prepared, piece: int) -> Callable[[], None]:
    if prepared.case.phase == "step":
        return prepared.call
    advance = cast(SupportsMultiStep, prepared.loaded).advance
    return lambda: advance(piece)


def _state(prepared: prepare.Prepared) -> np.ndarray:
    return np.concatenate([value.ravel().astype(np.float64) for value in prepared.loaded.final_state().values()])


def _bytes_used(case: Case) -> dict[str, float]:
    gc.collect()
    used = {"resident": _resident_bytes()}
    return used | ({"device_used": memory.device_bytes()} if case.spec.device == "cuda" else {})


def _resident_bytes() -> float:
    status = Path("/proc/self/status")
    if not status.exists():
        raise prepare.Skip("the memory of a process is read from /proc, which is Linux's; run there")
    line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmRSS"))
    return 1024.0 * int(line.split()[1])
