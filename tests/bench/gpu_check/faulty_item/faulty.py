"""An item of `gpu-check` of six parts, the second of which launches a kernel that fails as LSTM_BENCH_FAULT says."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator

from bench.gpu_check.items import Found, Part
from bench.gpu_check.station import DeviceContext
from impls.cuda.runtime.driver import DriverError
from results.record import Measurement


def parts(station: DeviceContext) -> Iterator[Part]:
    for number in range(6):
        yield Part(f"part-{number}", {"number": number})


def measure(station: DeviceContext, key: str) -> Found:
    how, faulty, error, library = os.environ["LSTM_BENCH_FAULT"].split(",")
    driver = ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
    if driver.fake_launch(int(error) * (key == f"part-{faulty}"), how == "late"):
        raise DriverError("cuLaunchKernelEx", "CUDA_ERROR_ILLEGAL_INSTRUCTION")
    return Found((Measurement("time", "s", (1.0,)),), station.provenance())
