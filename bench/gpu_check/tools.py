"""What other tools say on this GPU: which algorithm cuDNN takes, and whether compute-sanitizer finds anything."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator

import numpy as np

import impls
from bench.gpu_check.device import DeviceContext, open_context
from bench.gpu_check.groups import Check, CheckResult, Implementation
from bench.studies.goal import BATCHES, DTYPES, HIDDEN, STEPS
from bench.worker.prepare import NotMeasured, Rejected
from impls import Batch, LSTMSpec
from impls.frameworks.torch.network import Network
from results.record import Measurement

# Which of cuDNN's algorithms `nn.LSTM` takes at each point of the goal grid, by the names of the kernels it ran.


def algorithm_checks(context: DeviceContext) -> Iterator[Check]:
    """Small sizes first, since time may run out."""
    for hidden in HIDDEN[: 1 if context.emulated else None]:
        for batch in BATCHES[: 1 if context.emulated else None]:
            for dtype in ("bfloat16",) if context.emulated else DTYPES:
                sizes = {"hidden_size": hidden, "batch": batch, "dtype": dtype, "steps": 4 if context.emulated else STEPS}
                yield Check(f"H{hidden}-B{batch}-{dtype}", sizes)


def measure_algorithm(context: DeviceContext, key: str) -> CheckResult:
    """Values are zero: no time is taken, and the choice depends on sizes alone."""
    sizes = next(check.parameters for check in algorithm_checks(context) if check.key == key)
    hidden, batch = sizes["hidden_size"], sizes["batch"]
    spec = LSTMSpec(hidden, hidden, dtype=sizes["dtype"], device=context.device_name)
    backend = impls.get("torch" if context.emulated else "cudnn")
    if reason := backend.refuses(spec, "forward_backward", False):
        raise impls.Unavailable(reason)
    params = {name: np.zeros(shape) for name, shape in spec.parameter_shapes().items()}
    data = Batch(x=np.zeros((sizes["steps"], batch, hidden)), grad_y=np.zeros((sizes["steps"], batch, hidden)))
    network = backend.load(spec, params, data)
    assert isinstance(network, Network)
    provenance, counts = context.provenance(), []
    for phase in ("forward", "forward_backward"):
        getattr(network, phase)()
        ran = network.provenance()
        provenance |= {f"{phase} algorithm": ran.get("algorithm", ran["ran"]), "cudnn": ran.get("cudnn", "none")}
        counts.append(float(len(network.names_run())))
    return CheckResult((Measurement("operations", "operations", tuple(counts)),), provenance)


# compute-sanitizer's memcheck and racecheck over small shapes of every design.

TOOL = "compute-sanitizer"
TOOLS = ("memcheck", "racecheck")
SMALL = ("step-float32-saved", "tensor_step-bfloat16-N8-saved", "cluster-bfloat16-H64-C1-N8,8-saved",
         "cluster-bfloat16-H128-C2-N8,8-saved", "cluster-float16-H128-C4-N8,8-rebuilt", "stream-bfloat16-C8-N4",
         "tensor_step-bfloat16-both-saved", "gemm_step-bfloat16-P2-saved")  # fmt: skip
FOUND = 9  # the exit code that the tool is asked for where it has found something
SECONDS = 35.0


def sanitizer_checks(context: DeviceContext) -> Iterator[Check]:
    for tool in TOOLS:
        yield Check(tool, {"tool": tool})


def measure_sanitizer(context: DeviceContext, key: str) -> CheckResult:
    if context.emulated:
        raise NotMeasured("compute-sanitizer watches a GPU; the emulation checks memory and its order by itself")
    if shutil.which(TOOL) is None:
        raise NotMeasured("compute-sanitizer is not on the PATH; it comes with the CUDA toolkit, install that")
    command = [TOOL, "--tool", key, "--error-exitcode", str(FOUND), sys.executable, "-m", "bench.gpu_check.tools"]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise NotMeasured(f"{key} took longer than the {SECONDS:.0f} s it has") from None
    output = (done.stdout + done.stderr)[-1500:]
    if done.returncode:
        raise Rejected(f"compute-sanitizer --tool {key} ended with {done.returncode}: {output}")
    return CheckResult((Measurement("errors", "errors", (0.0,)),), context.provenance() | {"tool": key})


def small_shapes() -> None:
    """What runs under the tool."""
    from bench.gpu_check import numerics

    context = open_context(emulated=False)
    for key in SMALL:
        numerics.measure_kernel(context, key)


IMPLEMENTATIONS = {
    "algorithms": Implementation(algorithm_checks, measure_algorithm),
    "sanitizer": Implementation(sanitizer_checks, measure_sanitizer),
}


if __name__ == "__main__":
    small_shapes()
