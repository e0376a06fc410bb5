"""A group of `gpu-check` of six checks, the second of which launches a kernel that fails as LSTM_BENCH_FAULT says."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator

from bench.gpu_check.device import DeviceContext
from bench.gpu_check.groups import Check, CheckResult, Implementation
from impls.cuda.runtime.driver import DriverError
from results.record import Measurement


def list_checks(context: DeviceContext) -> Iterator[Check]:
    for number in range(6):
        yield Check(f"part-{number}", {"number": number})


def measure(context: DeviceContext, key: str) -> CheckResult:
    how, faulty, error, library = os.environ["LSTM_BENCH_FAULT"].split(",")
    driver = ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
    if driver.fake_launch(int(error) * (key == f"part-{faulty}"), how == "late"):
        raise DriverError("cuLaunchKernelEx", "CUDA_ERROR_ILLEGAL_INSTRUCTION")
    return CheckResult((Measurement("time", "s", (1.0,)),), context.provenance())


IMPLEMENTATIONS = {"faulty": Implementation(list_checks, measure)}
