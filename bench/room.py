"""Whether a case can fit in memory, said before it is tried."""

from __future__ import annotations

from pathlib import Path

from bench import nvml
from bench.case import Case

HOST_LIMIT = 4 << 30  # bytes of host memory that a case may take


class DoesNotFit(MemoryError):
    """The least that a case needs is more than there is; the message has both numbers."""


def least_device_bytes(case: Case) -> int:
    """A lower bound by the closed forms: what certainly does not fit is not tried, what may fit is."""
    return case.model_bytes()


def least_host_bytes(case: Case) -> int:
    """Inputs and cotangents as they are drawn, in float64; on a CPU also what the network itself takes."""
    spec, tokens = case.spec, case.steps * case.batch
    features = spec.input_size + (spec.output_size if case.phase == "forward_backward" else 0)
    return 8 * (tokens * features + spec.parameter_count()) + (least_device_bytes(case) if spec.device == "cpu" else 0)


def free_bytes(device: str) -> int | None:
    """Free on GPU 0 by NVML, or available to this process on the host (Linux); None where neither can be told."""
    if device == "cuda":
        try:
            module, gpu = nvml.first_gpu()
        except nvml.NoNVML:
            return None
        return int(module.nvmlDeviceGetMemoryInfo(gpu).free)
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return None
    line = next(line for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable"))
    return 1024 * int(line.split()[1])


def require(case: Case) -> None:
    """Raise `DoesNotFit` where the case needs more than is free."""
    needs = [("host", least_host_bytes(case), free_bytes("cpu"))]
    if case.spec.device == "cuda":
        needs.append(("device", least_device_bytes(case), free_bytes("cuda")))
    for where, least, free in needs:
        if free is not None and least > free:
            raise DoesNotFit(
                f"predicted: needs at least {least / 1e9:.3g} GB of {where} memory ({least} bytes), {free / 1e9:.3g} GB "
                f"({free} bytes) are free; not tried. Ask for fewer steps, a smaller batch or a narrower network"
            )
