"""Whether a case can fit in memory, said before it is tried."""

from __future__ import annotations

from pathlib import Path

from bench import costs
from bench.harness.case import Case
from bench.machine import system
from impls import SSMSpec

OUT_OF_MEMORY = ("OutOfMemoryError", "MemoryError", "ArrayMemoryError")
HOST_LIMIT = 4 << 30  # bytes of host memory that a case may take at cpu scale
FRAMEWORK_BYTES = 600 << 20  # of a worker that has imported PyTorch or JAX and run its first call
CONTEXT_BYTES = 1 << 30  # of a CUDA context with a framework's libraries loaded: 0.5 GB and more
ABOVE_LEAST = 5  # times the bound that stored peaks reach: from 2.4 (an LSTM by PyTorch) to 4.8 (the same compiled)


class DoesNotFit(MemoryError):
    """The least that a case needs is more than there is; the message has both numbers."""


def least_device_bytes(case: Case) -> int:
    """A lower bound by the closed forms: what certainly does not fit is not tried, what may fit is."""
    return case.model_bytes() + _scan_bytes(case)


def _scan_bytes(case: Case) -> int:
    """Of a state-space model's scan, by the arrays of a value for each step, channel and state: coefficients and states, and
    for training the factors of the coefficients, in each layer; then, in one layer at a time, the scan's own gradients.

    `model_bytes` has one such array a layer in training.
    """
    if not isinstance(case.spec, SSMSpec) or case.phase == "step":
        return 0
    spec = case.spec
    array = case.tokens * spec.state_size * spec.channels * spec.item_bytes
    return array * (4 * spec.num_layers + 3 if case.phase == "forward_backward" else 3)


def least_host_bytes(case: Case) -> int:
    """Inputs and cotangents as they are drawn, in float64; on a CPU also what the network itself takes."""
    spec, tokens = case.spec, case.steps * case.batch
    features = spec.input_size + (spec.output_size if case.phase == "forward_backward" else 0)
    return 8 * (tokens * features + spec.parameter_count()) + (least_device_bytes(case) if spec.device == "cpu" else 0)


def expected_host_bytes(case: Case) -> int:
    """The peak of a worker with its framework: no bound but a prediction on the high side, from peaks that runs have stored.

    A case with a `source` also judges its language model, piece by piece, by logits in two precisions.
    """
    judged = 0
    if "source" in dict(case.factors) and case.spec.device == "cpu":
        judged = 3 * 8 * costs.TOKENS_AT_ONCE * costs.vocabulary(case)
    return FRAMEWORK_BYTES + ABOVE_LEAST * least_host_bytes(case) + judged


def free_bytes(device: str) -> int | None:
    """Free on GPU 0 by NVML, or available to this process on the host (Linux), its control group's limit included; None where
    neither can be told."""
    if device == "cuda":
        try:
            module, gpu = system.first_gpu()
        except system.NoNVML:
            return None
        return int(module.nvmlDeviceGetMemoryInfo(gpu).free)
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return None
    line = next(line for line in meminfo.read_text(encoding="utf-8").splitlines() if line.startswith("MemAvailable"))
    available, allowed = 1024 * int(line.split()[1]), system.free_bytes()
    return available if allowed is None else min(available, allowed)


def at_once(case: Case, count: int) -> int:
    """How many of `count` workers can hold the case on GPU 0 at the same time; at least one. All where nothing is known."""
    free = free_bytes("cuda")
    if free is None:
        return count
    return max(1, min(count, free // (CONTEXT_BYTES + ABOVE_LEAST * least_device_bytes(case))))


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


def ran_out(error: BaseException) -> bool:
    """Whether this is what Python, PyTorch or XLA raise where memory does not suffice, on the host or on the device."""
    names = {kind.__name__ for kind in type(error).__mro__}
    exhausted = "RESOURCE_EXHAUSTED" in str(error) or "not enough memory" in str(error)  # XLA's and PyTorch's CPU words
    return exhausted or bool(names & set(OUT_OF_MEMORY))
