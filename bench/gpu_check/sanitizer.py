"""compute-sanitizer's memcheck and racecheck over small shapes of every design."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator

from bench.gpu_check.items import Found, Part
from bench.gpu_check.station import DeviceContext, open_station
from bench.worker.prepare import Rejected, Skip
from results.record import Measurement

TOOL = "compute-sanitizer"
TOOLS = ("memcheck", "racecheck")
SMALL = ("step-float32-saved", "tensor_step-bfloat16-N8-saved", "cluster-bfloat16-H64-C1-N8,8-saved",
         "cluster-bfloat16-H128-C2-N8,8-saved", "cluster-float16-H128-C4-N8,8-rebuilt", "stream-bfloat16-C8-N4",
         "tensor_step-bfloat16-both-saved")  # fmt: skip
FOUND = 9  # the exit code that the tool is asked for where it has found something
SECONDS = 35.0


def parts(station: DeviceContext) -> Iterator[Part]:
    for tool in TOOLS:
        yield Part(tool, {"tool": tool})


def measure(station: DeviceContext, key: str) -> Found:
    if station.emulated:
        raise Skip("not measured: compute-sanitizer watches a GPU; the emulation checks memory and its order by itself")
    if shutil.which(TOOL) is None:
        raise Skip("not measured: compute-sanitizer is not on the PATH; it comes with the CUDA toolkit, install that")
    command = [TOOL, "--tool", key, "--error-exitcode", str(FOUND), sys.executable, "-m", "bench.gpu_check.sanitizer"]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise Skip(f"not measured: {key} took longer than the {SECONDS:.0f} s it has") from None
    said = (done.stdout + done.stderr)[-1500:]
    if done.returncode:
        raise Rejected(f"compute-sanitizer --tool {key} ended with {done.returncode}: {said}")
    return Found((Measurement("errors", "errors", (0.0,)),), station.provenance() | {"tool": key})


def small_shapes() -> None:
    """What runs under the tool."""
    from bench.gpu_check import correctness

    station = open_station(emulated=False)
    for key in SMALL:
        correctness.measure(station, key)


if __name__ == "__main__":
    small_shapes()
