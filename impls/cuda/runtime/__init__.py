"""What is compiled and launched: a kernel's source, constants, data types and arguments."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

# What is compiled and launched: a kernel's source, its compile-time constants, its threads and shared memory.

FOLDER = Path(__file__).parents[1] / "csrc"
HEADERS = ("device.cuh", "device_ptx.cuh", "lstm_pointwise.cuh", "storage.cuh", "exact.cuh", "grid.cuh")


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


class LaunchFailed(RuntimeError):
    """A persistent-grid kernel gave up waiting for another of its blocks; what it wrote from there on is NaN."""


def status_of(device: torch.device) -> Tensor:
    """[1], the word in which persistent-grid kernels on this device report that they failed, for the whole process.

    It lies in memory of the host, so looking at it waits for nothing, and in one place, so that CUDA graphs may write to it.
    `cuda` without a number is the current device.
    """
    is_current = device.type == "cuda" and device.index is None
    return _status(torch.device("cuda", torch.cuda.current_device()) if is_current else device)


@cache
def _status(device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # else nobody outside of it could ever write to it
        return torch.zeros(1, dtype=torch.int32, pin_memory=device.type == "cuda")


def raise_if_failed(device: torch.device) -> None:
    """Raise `LaunchFailed` if a kernel on this device has reported since the last call; kernels that still run may yet."""
    status = status_of(device)
    if code := int(status.item()):
        status.zero_()
        raise LaunchFailed(
            f"a persistent-grid kernel on {device} gave up: block {code - 1} waited too long for what another block computes; "
            "its results are NaN. Does a debugger or another program hold the GPU back? design='tensor_step' has no such waits"
        )


class Launcher(Protocol):
    """Whatever runs a launch: the driver on a GPU, or the emulation on a CPU."""

    def __call__(self, launch: Launch) -> None: ...


def pointer(tensor: Tensor | None, offset: int = 0) -> int | None:
    """Where the tensor's element `offset` lies; null for none."""
    return None if tensor is None else tensor.data_ptr() + offset * tensor.element_size()


# How a dtype is stored and multiplied: the Python side of storage.cuh.


@dataclass(frozen=True, slots=True)
class Storage:
    """`name` is the C++ type; `per_word` values share a 32-bit word of a fragment."""

    name: str
    dtype: torch.dtype
    per_word: int

    @property
    def item_bytes(self) -> int:
        return 4 // self.per_word


BFLOAT16 = Storage("Bfloat16", torch.bfloat16, 2)
FLOAT16 = Storage("Float16", torch.float16, 2)
TENSORFLOAT32 = Storage("Tensorfloat32", torch.float32, 1)
STORAGES = {storage.name: storage for storage in (BFLOAT16, FLOAT16, TENSORFLOAT32)}


# The kernels' arguments as C structures: fields in the order of the .cu files, where each is described.

Structure = type[ctypes.Structure]


def _structures(name: str, arrays: str, numbers: str) -> tuple[Structure, Structure]:
    """One direction's arrays, and the whole argument with room for two directions."""
    fields = [(array, ctypes.c_void_p) for array in arrays.split()]
    # Any: that a C structure times two is an array of two, type checkers do not know.
    direction: Any = type(f"{name}Direction", (ctypes.Structure,), {"_fields_": [*fields, ("reverse", ctypes.c_longlong)]})
    scalars = [(number, ctypes.c_int) for number in numbers.split()]
    whole = type(f"{name}Arguments", (ctypes.Structure,), {"_fields_": [("directions", direction * 2), *scalars]})
    return direction, whole


LAYOUTS = {
    "cluster_forward": _structures(
        "ClusterForward", "weights projected h0 c0 lengths y gates cells h_n c_n", "steps batch hidden y_stride columns"
    ),
    "cluster_backward": _structures(
        "ClusterBackward",
        "weights gates cells c0 grad_y grad_h_n grad_c_n lengths grad_gates grad_h0 grad_c0",
        "steps batch hidden y_stride recompute columns pitch",
    ),
    "grid_forward": _structures(
        "GridForward",
        "weights projected h0 c0 lengths y gates cells h_n c_n exchange status",
        "steps batch hidden y_stride groups rounds columns",
    ),
    "grid_backward": _structures(
        "GridBackward",
        "weights gates cells c0 grad_y grad_h_n grad_c_n lengths grad_gates grad_h0 grad_c0 exchange status",
        "steps batch hidden y_stride recompute groups rounds columns",
    ),
    "step_forward": _structures(
        "StepForward", "weights projected h h_next c c_next lengths y gates cells", "steps batch hidden y_stride step"
    ),
    "tensor_step_forward": _structures(
        "TensorStepForward", "weights projected h h_next c c_next lengths y gates cells",
        "steps batch hidden y_stride pitch step",
    ),
    "gemm_step_forward": _structures(
        "GemmStepForward", "gates c c_next h h_next lengths y cells", "rows hidden y_stride step save"
    ),
    "gemm_step_backward": _structures(
        "GemmStepBackward",
        "gates cells c_before grad_y product lengths grad_gates grad_h grad_c grad_h_next grad_c_next",
        "rows hidden y_stride step recompute",
    ),
    "step_backward": _structures(
        "StepBackward",
        "weights gates cells c0 grad_y lengths grad_gates grad_h grad_c grad_h_next grad_c_next",
        "steps batch hidden y_stride recompute step",
    ),
}  # fmt: skip


def arguments(layout: str, directions: Sequence[Mapping[str, int | None]], **numbers: int) -> Any:
    """Fill a layout with each direction's pointers; the second direction runs in reverse."""
    direction, whole = LAYOUTS[layout]
    filled = whole()
    for index, pointers in enumerate(directions):
        filled.directions[index] = direction(**pointers, reverse=index)
    for name, number in numbers.items():
        setattr(filled, name, number)
    return filled
