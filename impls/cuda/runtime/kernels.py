"""What is compiled and launched: a kernel's source, its compile-time constants, its threads and shared memory."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

FOLDER = Path(__file__).parents[1] / "csrc"
HEADERS = ("device.cuh", "device_ptx.cuh", "storage.cuh", "exact.cuh")


class Refused(ValueError):
    """Sizes that no kernel of this folder takes; the message says which and what would do."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One function of one source file with its compile-time constants fixed.

    cluster       blocks of the thread-block cluster along x as which it is launched. None: its code has no cluster instruction.
                  One block is a cluster too: cluster instructions are illegal in a kernel that was launched without any.
    shared_bytes  dynamic shared memory of a block
    cooperative   its blocks wait for each other through global memory: launched only if all are resident at once
    """

    source: str
    function: str
    defines: tuple[tuple[str, str], ...]
    threads: int
    shared_bytes: int
    cluster: int | None = None
    cooperative: bool = False

    @property
    def cluster_blocks(self) -> int:
        """Blocks that are launched together: 1 where there is no cluster."""
        return self.cluster or 1

    def options(self) -> list[str]:
        """The constants as compiler options, the same for NVRTC and g++."""
        own = (("THREADS", str(self.threads)), ("SHARED_BYTES", str(self.shared_bytes)))
        return [f"-D{name}={value}" for name, value in (*self.defines, *own)]

    def text(self) -> str:
        return (FOLDER / self.source).read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Launch:
    """A kernel, its grid in blocks, its one argument, and every tensor the argument points into.

    Raises a ValueError for a grid that is no whole number of the kernel's clusters; the driver refuses such a launch.
    """

    kernel: Kernel
    grid: tuple[int, int, int]
    arguments: ctypes.Structure
    reads: Sequence[Tensor]
    writes: Sequence[Tensor]

    def __post_init__(self) -> None:
        if self.grid[0] % self.kernel.cluster_blocks:
            raise ValueError(
                f"{self.kernel.function}: a grid of {self.grid[0]} blocks along x is no whole number of clusters of "
                f"{self.kernel.cluster_blocks}"
            )


class Launcher(Protocol):
    """Whatever runs a launch: the driver on a GPU, or the emulation on a CPU."""

    def __call__(self, launch: Launch) -> None: ...


def pointer(tensor: Tensor | None, offset: int = 0) -> int | None:
    """Where the tensor's element `offset` lies; null for none."""
    return None if tensor is None else tensor.data_ptr() + offset * tensor.element_size()
