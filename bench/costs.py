"""What cases cost, told before they run: time as recorded on an H100 or by their operations, and a lower bound of memory."""

from __future__ import annotations

from pathlib import Path

from bench.harness.case import Case
from bench.machine import system
from impls import MinLSTMSpec, Spec, SSMSpec, TransformerSpec

# What a case takes on a GPU, beside its samples and with them: for forecasts. Imports no framework.
#
# Rounded from the seconds of the records of runs 182516 (LSTM stack by cuDNN), 182611 (Transformer), 173700, 182414 and
# 182710 (throughput) on one H100 80GB HBM3 with 16 cores, 2026-11-26, and from the same day's grid of layers in CUDA graphs.
# Those runs drew their data on the host. What was not measured there, scans and 32 bits, is estimated, and says so.

# By which a worker's first case is longer than a later one: 4.2 to 9.9 s, 7.6 in the mean of 8 workers.
START_SECONDS_H100 = 8.0
PEAKS_SECONDS = 5.0  # peaks of the machine in one data type: 3.5 to 4.7 s, once 7.3
CASE_SECONDS = 1.3  # of a later case, whatever its size: 1.1 to 1.8 s where little is drawn and calls are short
VALUE_SECONDS = 2.2e-8  # to draw a value in float64 on the host, round it and send it
CALLS = 20  # a case makes: one to load, one under the profiler, those that check the wait, warm-up and two rounds
PROFILED_STEP_SECONDS = 1e-3  # that the profiler takes for the launches of one step of a layer, where each step has its own
FLOPS = {"bfloat16": 6e13, "float16": 6e13, "tensorfloat32": 3e13, "float32": 2e13, "float64": 1e13}  # 73e12 in bfloat16
LSTM_STEP_SECONDS = 8e-6  # one layer's step both ways in 16 bits at H = 768, B = 1 by our kernels; in proportion to H
CUDNN_STEP_SECONDS = 4e-5  # the same by cuDNN in bfloat16, eager: 33 to 47 µs at H = 512
EXACT_STEP_SECONDS = 3e-5  # the same in 32 and 64 bits; estimated
LAUNCHED_STEP_SECONDS = 1.5e-4  # a streaming step of one layer, launched eagerly: 50 to 100 µs by cuDNN
SCAN_PASSES, BYTES = 40, 2e12  # over the states of a scan, both ways; bytes a second. Estimated
ONE_WAY_H100 = 0.4  # of both ways
HALF_PRODUCT_SECONDS = 7e-9  # of two numbers in float16 by NumPy, the reference in that dtype; the reduced case has 36 tokens
ENERGY_SECONDS = 3.0  # the window of the board's counter, and the rest before it


def case_seconds(case: Case, cudnn: bool = False, calls: int = CALLS) -> float:
    """One later case in a worker, from drawing its data to its last sample. cudnn: an LSTM by cuDNN, step by step."""
    spec, training = case.spec, case.phase == "forward_backward"
    drawn = case.steps * case.batch * (spec.input_size + (spec.output_size if training else 0)) + 2 * spec.parameter_count()
    products = 36 * spec.flops_per_token(backward=training) / 2 if spec.dtype == "float16" else 0
    launches = case.steps * spec.num_layers if cudnn and case.phase != "step" else 0
    seconds = CASE_SECONDS + drawn * VALUE_SECONDS + products * HALF_PRODUCT_SECONDS
    return seconds + calls * call_seconds(case, cudnn) + launches * PROFILED_STEP_SECONDS


def call_seconds(case: Case, cudnn: bool = False) -> float:
    """One call: its products at a rate that large ones reach, and what cannot be had in parallel."""
    spec, ways = case.spec, 1.0 if case.phase == "forward_backward" else ONE_WAY_H100
    if case.phase == "step":
        return LAUNCHED_STEP_SECONDS * spec.num_layers
    seconds = case.counts()["flops"] / FLOPS[spec.dtype]
    if isinstance(spec, SSMSpec | MinLSTMSpec):
        states = spec.state_size * spec.channels if isinstance(spec, SSMSpec) else spec.hidden_size
        return seconds + ways * spec.num_layers * SCAN_PASSES * case.tokens * states * spec.item_bytes / BYTES
    if isinstance(spec, TransformerSpec):
        return seconds
    step = LSTM_STEP_SECONDS * spec.hidden_size / 768
    if cudnn:
        step = CUDNN_STEP_SECONDS
    if spec.dtype not in ("bfloat16", "float16"):
        step = max(step, EXACT_STEP_SECONDS)
    return seconds + ways * case.steps * spec.num_layers * spec.num_directions * step


# What training and judging a language model takes, told before it starts. Imports no framework.
#
# CPU: rounded from the stored runs of `quality` and `context` on one core of an AMD EPYC. CUDA, in bfloat16 by autocast: a
# worker's start and an LSTM's step are an H100's (19 µs at H = 768, B = 64 by our kernels; 2026-11-26), the rest is
# estimated, no GPU has run it.

VOCABULARIES = {"text": 256}  # the generated sources have 16 tokens
GENERATED = 16
RATE = {"cpu": 8e10, "cuda": 2.5e13}  # FLOP/s of products in float32; on a GPU in bfloat16, casts and small sizes in it
SECONDS_A_STEP = {"cpu": 1.7e-5, "cuda": 2.5e-5}  # of one layer of an LSTM, both ways
SECONDS_A_TOKEN = {"cpu": 5e-6, "cuda": 1.5e-8}  # of one layer of a Transformer, both ways, beside its products
SECONDS_A_LOGIT = {"cpu": 7e-9, "cuda": 3e-11}
START_SECONDS_TRAINING = {"cpu": 2.0, "cuda": 10.0}
ONE_WAY_TRAINING = {"cpu": 0.6, "cuda": 1 / 3}  # of both ways; on a CPU pieces of so many tokens leave the caches
UPDATE_SECONDS = {"cpu": 5e-4, "cuda": 4e-3}  # optimiser, clipping, drawing windows
TOKENS_AT_ONCE = 16_384  # on which a model is judged
POINTS = 6  # of the curve of held-out loss, each at twice the updates of the one before, the last at the end


def vocabulary(case: Case) -> int:
    return VOCABULARIES.get(str(case.factor("source")), GENERATED)


def flops_per_token(spec: Spec, vocabulary: int, steps: int) -> int:
    """Operations of training on one token of a window of `steps`, the head's product included (see `impls.specs.residual`)."""
    return spec.sequence_flops(steps, backward=True) // steps + 6 * vocabulary * spec.hidden_size


def update_seconds(case: Case, steps: int, batch: int) -> float:
    """One update on `batch` windows of `steps` tokens."""
    spec, device, tokens = case.spec, case.spec.device, steps * batch
    found = UPDATE_SECONDS[device] + tokens * flops_per_token(spec, vocabulary(case), steps) / RATE[device]
    found += tokens * vocabulary(case) * SECONDS_A_LOGIT[device]
    if spec.cell == "transformer":
        return found + tokens * spec.num_layers * SECONDS_A_TOKEN[device]
    return found + steps * spec.num_layers * SECONDS_A_STEP[device]


def judging_seconds(case: Case, steps: int, windows: int) -> float:
    """One pass over so many windows without gradients, in pieces of `TOKENS_AT_ONCE`."""
    at_once = max(1, min(windows, TOKENS_AT_ONCE // steps))
    return windows / at_once * ONE_WAY_TRAINING[case.spec.device] * update_seconds(case, steps, at_once)


# Whether a case can fit in memory, said before it is tried.

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
        judged = 3 * 8 * TOKENS_AT_ONCE * vocabulary(case)
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
