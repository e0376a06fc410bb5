"""A CUDA driver of two devices that do not exist. It writes down what it is asked, and refuses what the real one refused.

What it refuses was seen on an H100 with driver 580: a call that needs a context before a thread has one, a grid that is no
whole number of clusters, and, as a sticky error, cluster instructions in a kernel that was launched without a cluster. (The
real driver reports that last one at a later call, since a launch is asynchronous.)
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from impls.cuda.runtime import Kernel, driver
from tests.impls.cuda.compiled import compiled

real = pytest.importorskip("cuda.bindings.driver", reason="pip install cuda-bindings")

SUCCESS = real.CUresult.CUDA_SUCCESS
OF_A_CONTEXT = ("cuModuleLoadData", "cuModuleGetFunction", "cuFuncSetAttribute", "cuLaunchKernelEx",
                "cuOccupancyMaxActiveClusters", "cuOccupancyMaxActiveBlocksPerMultiprocessor")  # fmt: skip
OTHERS = ("cuDeviceGet", "cuDeviceGetAttribute", "cuDriverGetVersion", "cuDevicePrimaryCtxRetain", "cuCtxSetCurrent")
CLUSTER_CODE = re.compile(rb"barrier\.cluster|mapa|shared::cluster")
CACHED = (driver._function, driver._primary_context, driver.occupancy, driver.shared_limit)


class Devices:
    """Two of them. `events` is what happened, with the device that was current then; `refused` what to refuse besides.

    A device has a primary context once somebody made it; a thread has a current one once it entered one.
    """

    def __init__(self, folder: Path) -> None:
        self.current, self.events, self.active, self.shared_limit, self.version = 0, [], 6, 227 << 10, 13000
        self.refused: dict[str, str] = {}
        self.sticky: str | None = None
        self.contexts: set[int] = set()
        self.of_thread = threading.local()
        self.codes: list[bytes] = []
        self.folder = folder
        self.bindings = SimpleNamespace(**{name: getattr(real, name) for name in dir(real) if name.startswith("CU")})
        for call in (*OF_A_CONTEXT, *OTHERS):
            setattr(self.bindings, call, lambda *arguments, call=call: self.answer(call, arguments))

    def answer(self, call: str, arguments: tuple) -> tuple:
        self.events.append((call, self.current, *arguments))
        if refusal := self.refused.get(call) or self._refusal(call, arguments):
            return (getattr(real.CUresult, refusal),)
        given: dict[str, tuple[Any, ...]] = {
            "cuDeviceGet": arguments, "cuDeviceGetAttribute": (self.shared_limit,), "cuDriverGetVersion": (self.version,),
            "cuOccupancyMaxActiveClusters": (self.active,), "cuOccupancyMaxActiveBlocksPerMultiprocessor": (2,),
        }  # fmt: skip
        if call == "cuModuleLoadData":
            self.codes.append(arguments[0])
            return SUCCESS, len(self.codes) - 1
        if call == "cuModuleGetFunction":  # its number tells the module and the device
            return SUCCESS, real.CUfunction(100 * (arguments[0] + 1) + self.current)
        if call == "cuDevicePrimaryCtxRetain":
            self.contexts.add(arguments[0])
            return SUCCESS, real.CUcontext(1000 + arguments[0])
        if call == "cuCtxSetCurrent":
            self.of_thread.context = int(arguments[0]) - 1000
        return SUCCESS, *given.get(call, ())

    def _refusal(self, call: str, arguments: tuple) -> str | None:
        if call not in OF_A_CONTEXT:
            return None
        if self.sticky:
            return self.sticky
        if getattr(self.of_thread, "context", None) != self.current:
            return "CUDA_ERROR_INVALID_CONTEXT"
        if call != "cuLaunchKernelEx":
            return None
        config, function, *_ = arguments
        attributes = config.attrs[: config.numAttrs] if config.numAttrs else []
        kinds = real.CUlaunchAttributeID
        clusters = [a.value.clusterDim.x for a in attributes if a.id == kinds.CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION]
        if any(config.gridDimX % cluster for cluster in clusters):
            return "CUDA_ERROR_INVALID_CLUSTER_SIZE"
        if not clusters and CLUSTER_CODE.search(self.codes[int(function) // 100 - 1]):
            self.sticky = "CUDA_ERROR_ILLEGAL_INSTRUCTION"
        return self.sticky

    @contextlib.contextmanager
    def device(self, device: torch.device) -> Iterator[None]:
        """As `torch.cuda.device`: the runtime is called only where another device is current, and then makes a context."""
        before = self.current
        self._switch(torch.device(device).index)
        yield
        self._switch(before)

    def _switch(self, index: int) -> None:
        if index != self.current:
            self.current = self.of_thread.context = index
            self.contexts.add(index)

    def cubin(self, kernel: Kernel, target: str) -> Path:
        """PTX in place of machine code, so that a launch can be judged by what the code does; the source's own text for a
        kernel that is made up."""
        path = self.folder / "code"
        made_up = not kernel.source.endswith(".cu")
        path.write_bytes(kernel.source.encode() if made_up else compiled(kernel, target).assembly.encode())
        return path

    def launches(self) -> list[tuple[int, int, int]]:
        """Of each: the device that was current, the device of the function, the stream."""
        return [(at, int(function) % 100, int(config.hStream)) for call, at, config, function, *_ in
                (event for event in self.events if event[0] == "cuLaunchKernelEx")]  # fmt: skip


def install(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[Devices]:
    """Two devices in the place of the driver and of what is asked of `torch.cuda`, in a process that has no context yet."""
    made = Devices(folder)
    for cached in CACHED:
        cached.cache_clear()
    monkeypatch.setattr(driver, "_entered", threading.local())
    monkeypatch.setattr(driver, "bindings", lambda: made.bindings)
    monkeypatch.setattr(driver, "cubin", made.cubin)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device", made.device)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: made.current)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=100 + device.index))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=0: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(multi_processor_count=78))
    yield made
    for cached in CACHED:
        cached.cache_clear()
