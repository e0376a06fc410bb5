"""Where the checks run: a GPU through the driver, or the emulation on a CPU."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

import torch

from impls import Unavailable
from impls.cuda.emulator import Emulation
from impls.cuda.microbenchmarks import Bench
from impls.cuda.runtime import Kernel, driver
from impls.cuda.runtime.compile import architecture, compiler_version
from impls.cuda.torch import ops

IMAGINED_MULTIPROCESSORS = 3


@dataclass(frozen=True, slots=True)
class DeviceContext:
    """target: the architecture that is compiled for. multiprocessors: of the GPU; of an imagined one under the emulation."""

    bench: Bench
    emulated: bool
    target: str
    multiprocessors: int

    @property
    def device_name(self) -> Literal["cpu", "cuda"]:
        return "cpu" if self.emulated else "cuda"

    @property
    def has_clusters(self) -> bool:
        """Whether the target has thread-block clusters: compute capability 9.0 and newer."""
        return not self.target.startswith("sm_8")

    def resident_clusters(self, kernel: Kernel) -> int:
        """How many clusters (blocks where there are none) of this kernel are resident at once."""
        if self.emulated:
            return max(1, self.multiprocessors // kernel.cluster_blocks)
        return driver.occupancy(kernel, self.bench.device)

    def provenance(self) -> dict[str, str]:
        where = "host emulation" if self.emulated else torch.cuda.get_device_name(self.bench.device)
        return {"ran": "emulation" if self.emulated else "cuda", "on": where, "target": self.target}


def open_context(emulated: bool) -> DeviceContext:
    """Raises `Unavailable` where there is neither."""
    if emulated:
        os.environ[ops.EMULATE] = "1"  # the operators too
        torch.use_deterministic_algorithms(True)  # fills empty tensors with NaN: what a kernel leaves out is seen
        return DeviceContext(Bench(Emulation(), torch.device("cpu")), True, "sm_90a", IMAGINED_MULTIPROCESSORS)
    if reason := driver.missing():
        raise Unavailable(reason)
    compiler_version()
    device = torch.device("cuda", torch.cuda.current_device())
    properties = torch.cuda.get_device_properties(device)
    target = architecture(torch.cuda.get_device_capability(device))
    return DeviceContext(Bench(driver.Driver(), device), False, target, properties.multi_processor_count)
