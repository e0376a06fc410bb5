"""What a case takes on a GPU, beside its samples and with them: for forecasts. Imports no framework.

Rounded from the seconds of the records of runs 182516 (LSTM stack by cuDNN), 182611 (Transformer), 173700, 182414 and 182710
(throughput) on one H100 80GB HBM3 with 16 cores, 2026-11-26, and from the same day's grid of layers in CUDA graphs. Those runs
drew their data on the host. What was not measured there, scans and 32 bits, is estimated, and says so.
"""

from __future__ import annotations

from bench.harness.case import Case
from impls import MinLSTMSpec, SSMSpec, TransformerSpec

START_SECONDS = 8.0  # by which a worker's first case is longer than a later one: 4.2 to 9.9 s, 7.6 in the mean of 8 workers
CEILINGS_SECONDS = 5.0  # peaks of the machine in one data type: 3.5 to 4.7 s, once 7.3
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
ONE_WAY = 0.4  # of both ways
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
    spec, ways = case.spec, 1.0 if case.phase == "forward_backward" else ONE_WAY
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
