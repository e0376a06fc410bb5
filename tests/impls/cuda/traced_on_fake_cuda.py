"""Traces the drop-in module with tensors of a GPU that does not exist, and prints what happened, a JSON object a line.

A program of its own, since it gives PyTorch a device guard for CUDA, which a build without CUDA lacks, and watches the
switches of `torch.backends`: to run in a process that does nothing else. Its argument is a folder for the guard's library.
"""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import CDLL
from pathlib import Path

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from impls.cuda.torch import module
from impls.cuda.torch.module import LSTM

GUARD = """
#include <c10/core/impl/DeviceGuardImplInterface.h>
using Guard = c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::CUDA>;
static c10::impl::DeviceGuardImplRegistrar registered(c10::DeviceType::CUDA, new Guard());
"""
OPTIONS: dict[str, dict] = {
    "plain": {}, "deep": {"num_layers": 2, "bidirectional": True, "batch_first": True}, "projected": {"proj_size": 3},
    "autocast": {"num_layers": 2, "proj_size": 3},
}  # fmt: skip
BACKENDS = ("eager", "aot_eager")


def give_cuda_a_guard(folder: Path) -> None:
    if torch.backends.cuda.is_built():
        return
    source, built = folder / "guard.cpp", folder / "guard.so"
    source.write_text(GUARD)
    root = Path(torch.__file__).parent
    flags = [f"-I{root / 'include'}", f"-L{root / 'lib'}", "-lc10", f"-Wl,-rpath,{root / 'lib'}"]
    subprocess.run(["g++", "-std=c++20", "-O0", "-w", "-shared", "-fPIC", str(source), "-o", str(built), *flags], check=True)
    CDLL(str(built))


@contextmanager
def switches_read() -> Iterator[list[str]]:
    """The names of the switches of `torch.backends` that are read inside."""
    read: list[str] = []
    kinds = {type(vars(type(holder))["fp32_precision"]) for holder in (torch.backends.cudnn, torch.backends.cudnn.rnn)}
    kinds |= {torch.backends.ContextProp}
    before = {kind: kind.__get__ for kind in kinds}

    def spy(kind: type) -> Callable:
        def get(prop, holder, owner=None):
            read.append(getattr(holder, "__name__", str(owner)))
            return before[kind](prop, holder, owner)

        return get

    for kind in kinds:
        kind.__get__ = spy(kind)  # type: ignore[attr-defined]
    try:
        yield read
    finally:
        for kind, get in before.items():
            kind.__get__ = get  # type: ignore[attr-defined]


def on_cuda(mode: FakeTensorMode, tensor: Tensor) -> Tensor:
    return FakeTensor(mode, tensor.detach().to("meta"), torch.device("cuda:0"))


def traced(options: dict, backend: str, autocast: bool) -> dict:
    """Where the outputs of a module lie that was compiled as one graph, and what it read while being traced.

    For training where Dynamo alone traces, for inference where AOTAutograd does too: without a GPU, autograd has no thread.
    """
    mode, lstm = FakeTensorMode(), LSTM(4, 7, **options)
    for name, weight in list(lstm.named_parameters()):
        setattr(lstm, name, torch.nn.Parameter(on_cuda(mode, weight)))
    x = on_cuda(mode, torch.zeros(5, 3, 4)).requires_grad_()
    torch._dynamo.reset()
    compiled = torch.compile(lstm, fullgraph=True, backend=backend)
    training = backend == "eager"
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    torch.set_autocast_enabled("cuda", autocast)  # `torch.autocast` would look for a GPU first
    with mode, switches_read() as read, torch.set_grad_enabled(training):
        y, (h_n, c_n) = compiled(x)
    assert y.requires_grad == training
    return {"devices": sorted({str(t.device) for t in (y, h_n, c_n)}), "dtype": str(y.dtype), "read": read}


def attempt(name: str, *arguments) -> None:
    try:
        found = traced(*arguments)
    except Exception as error:
        found = {"failed": f"{type(error).__name__}: {error}"[:2000]}
    print(json.dumps({"name": name, **found}))


def reading_a_switch(x: Tensor) -> torch.dtype | None:
    return x.dtype if torch.backends.cudnn.rnn.fp32_precision == "tf32" else None


def asking_what_is_available(x: Tensor) -> torch.dtype | None:
    return None if torch.amp.is_autocast_available(x.device.type) else x.dtype


def beyond_dynamo(device_type: str) -> bool:
    """In the place of `torch.amp.is_autocast_available`, which the Dynamo of PyTorch 2.11 cannot trace and a later one can."""
    torch._dynamo.graph_break()
    return True


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    give_cuda_a_guard(Path(sys.argv[1]))
    torch.amp.is_autocast_available = beyond_dynamo
    for backend in BACKENDS:
        for name, options in OPTIONS.items():
            attempt(f"{name}, {backend}", options, backend, name == "autocast")
    for wrong in (reading_a_switch, asking_what_is_available):
        module._autocast_dtype = wrong
        attempt(wrong.__name__, {}, "eager", False)
