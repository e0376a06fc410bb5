"""Launches on a GPU through the CUDA driver, on PyTorch's current stream: no host synchronisation, fit for a CUDA graph.

First ran on an H100 (driver 580, CUDA 13.0) on 2026-11-26, which asked for the cluster attribute and the context below.
"""

from __future__ import annotations

import ctypes
import importlib
import threading
from collections.abc import Callable
from functools import cache
from typing import Any, TypedDict

import torch

from impls import Unavailable
from impls.cuda.runtime import Kernel, Launch
from impls.cuda.runtime.compile import architecture, compiler_version, cubin

REMEDY = "pip install cuda-bindings (version 13) and NVIDIA's driver"
DEFAULT_SHARED_LIMIT = 48 << 10  # more has to be asked for
PORTABLE_CLUSTER = 8  # larger clusters have to be asked for
# What the driver answers to a cluster, or to shared memory, that the device does not have.
ASKING = ("cuFuncSetAttribute", "cuOccupancyMaxActiveClusters")
NO_ROOM = ("CUDA_ERROR_INVALID_CLUSTER_SIZE", "CUDA_ERROR_INVALID_VALUE", "CUDA_ERROR_NOT_SUPPORTED")


class DriverError(RuntimeError):
    """The CUDA driver returned an error; the message is its own, with the call."""

    def __init__(self, call: str, name: str) -> None:
        super().__init__(f"{call} failed: {name}")
        self.call, self.name = call, name


class NoRoom(DriverError):
    """The device does not have what a kernel needs: see `NO_ROOM`."""


class Room(TypedDict):
    """What `choose` and `choose_stream` ask of a device."""

    resident: Callable[[Kernel], int]
    shared_limit: int


@cache
def bindings() -> Any:
    try:
        return importlib.import_module("cuda.bindings.driver")
    except ImportError as error:
        raise Unavailable(f"launching the CUDA kernels needs {error.name}, which is not installed; {REMEDY}") from error


def missing() -> str | None:
    """Why nothing can be launched here, as a sentence with its remedy, or None."""
    if not torch.cuda.is_available():
        return (
            "PyTorch finds no CUDA device here; run on a machine with an NVIDIA GPU and a PyTorch built for CUDA, "
            "or use the backends numpy, torch or jax"
        )
    try:
        bindings()
        architecture(torch.cuda.get_device_capability())
        return _too_old(driver_version(), compiler_version())
    except Unavailable as reason:
        return str(reason)


def driver_version() -> tuple[int, int]:
    """Of CUDA, as the driver supports it."""
    driver = bindings()
    try:
        version = require("cuDriverGetVersion", driver.cuDriverGetVersion())
    except (RuntimeError, OSError) as reason:  # cuda-bindings is there, the driver it wraps is not or does not answer
        raise Unavailable(f"launching the CUDA kernels needs NVIDIA's driver: {reason}; {REMEDY}") from reason
    return version // 1000, version % 1000 // 10


def _too_old(driver: tuple[int, int], compiler: str) -> str | None:
    """NVRTC's machine code runs on every driver of its own major version of CUDA, and on later ones."""
    needed = int(compiler.removeprefix("nvrtc ").partition(".")[0])
    if driver[0] >= needed:
        return None
    return (
        f"NVIDIA's driver here supports CUDA {driver[0]}.{driver[1]}, and {compiler} makes code for CUDA {needed}; install a "
        f"driver for CUDA {needed} or newer (nvidia-smi shows what it supports)"
    )


class Driver:
    """A launcher for tensors on a CUDA device."""

    def __call__(self, launch: Launch) -> None:
        device = launch.writes[0].device
        with torch.cuda.device(device):
            enter_context(device.index)
            function = _function(launch.kernel, device.index)
            start(launch, function, torch.cuda.current_stream(device).cuda_stream)


def room() -> Room:
    """Of the current device, for `choose` and `choose_stream`."""
    return {"resident": resident_clusters, "shared_limit": shared_limit(torch.cuda.current_device())}


@cache
def shared_limit(device: int) -> int:
    """Bytes of shared memory that one block may ask for: 227 KiB on an H100, 99 KiB on GPUs for desktops."""
    driver = bindings()
    handle = require("cuDeviceGet", driver.cuDeviceGet(device))
    wanted = driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
    return require("cuDeviceGetAttribute", driver.cuDeviceGetAttribute(wanted, handle))


def resident_clusters(kernel: Kernel) -> int:
    """How many clusters of the kernel can work at once on the current device without sharing a multiprocessor where they
    are single blocks; 0 if none fits, or the device knows no such cluster. Of a cooperative kernel all that fit count, as it
    waits for all of its blocks."""
    device = torch.device("cuda", torch.cuda.current_device())
    if kernel.shared_bytes > shared_limit(device.index):
        return 0
    if kernel.cluster_blocks == 1 and not kernel.cooperative:
        return torch.cuda.get_device_properties(device).multi_processor_count
    try:
        return occupancy(kernel, device)
    except NoRoom:
        return 0


@cache
def occupancy(kernel: Kernel, device: torch.device) -> int:
    """How many clusters (blocks where there are none) of this kernel the device holds at once."""
    driver = bindings()
    with torch.cuda.device(device):
        enter_context(torch.cuda.current_device())
        function = _function(kernel, torch.cuda.current_device())
        if kernel.cluster_blocks > 1:
            config = configuration(kernel, (kernel.cluster_blocks, 1, 1), 0)
            return require("cuOccupancyMaxActiveClusters", driver.cuOccupancyMaxActiveClusters(function, config))
        asked = driver.cuOccupancyMaxActiveBlocksPerMultiprocessor(function, kernel.threads, kernel.shared_bytes)
        blocks = require("cuOccupancyMaxActiveBlocksPerMultiprocessor", asked)
        return blocks * torch.cuda.get_device_properties(device).multi_processor_count


def start(launch: Launch, function: Any, stream: int) -> None:
    """Enqueue the launch on a stream of the current context."""
    driver, config = bindings(), configuration(launch.kernel, launch.grid, stream)
    # The driver copies the argument before it returns, so the caller may change it at once.
    pointers = (ctypes.c_void_p * 1)(ctypes.addressof(launch.arguments))
    require("cuLaunchKernelEx", driver.cuLaunchKernelEx(config, function, ctypes.addressof(pointers), 0))


def configuration(kernel: Kernel, grid: tuple[int, int, int], stream: int) -> Any:
    driver = bindings()
    config = driver.CUlaunchConfig()
    config.gridDimX, config.gridDimY, config.gridDimZ = grid
    config.blockDimX, config.blockDimY, config.blockDimZ = kernel.threads, 1, 1
    config.sharedMemBytes, config.hStream = kernel.shared_bytes, stream
    attributes = []
    if kernel.cooperative:
        attribute = driver.CUlaunchAttribute()
        attribute.id, attribute.value.cooperative = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_COOPERATIVE, 1
        attributes.append(attribute)
    if kernel.cluster is not None:
        attribute = driver.CUlaunchAttribute()
        attribute.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION
        size = attribute.value.clusterDim
        size.x, size.y, size.z = kernel.cluster, 1, 1
        attributes.append(attribute)
    if attributes:
        config.attrs, config.numAttrs = attributes, len(attributes)
    return config


def allow(kernel: Kernel, function: Any) -> None:
    """Ask for what a function may not do by default: much shared memory, a cluster of 16."""
    driver = bindings()
    names = driver.CUfunction_attribute
    if kernel.shared_bytes > DEFAULT_SHARED_LIMIT:
        wanted = names.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        require("cuFuncSetAttribute", driver.cuFuncSetAttribute(function, wanted, kernel.shared_bytes))
    if kernel.cluster_blocks > PORTABLE_CLUSTER:
        wanted = names.CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED
        require("cuFuncSetAttribute", driver.cuFuncSetAttribute(function, wanted, 1))


_entered = threading.local()


def enter_context(device: int) -> None:
    """Make the device's primary context current in this thread, creating it where nothing has yet.

    A process that has only asked PyTorch for properties has no context, nor has a thread that has not yet called the runtime;
    without one, every driver call that loads or launches fails. The primary context is the one that PyTorch uses. Once entered,
    PyTorch's own changes of the device keep it right, so that later calls for the same device do nothing.
    """
    devices = _entered.__dict__.setdefault("devices", set())
    if device not in devices:
        require("cuCtxSetCurrent", bindings().cuCtxSetCurrent(_primary_context(device)))
        devices.add(device)


@cache
def _primary_context(device: int) -> Any:
    """Created if need be, and kept for the process."""
    driver = bindings()
    handle = require("cuDeviceGet", driver.cuDeviceGet(device))
    return require("cuDevicePrimaryCtxRetain", driver.cuDevicePrimaryCtxRetain(handle))


@cache
def _function(kernel: Kernel, device: int) -> Any:
    """The kernel loaded into the device's primary context, which is PyTorch's and current here (`enter_context`). Kept for the
    process."""
    driver = bindings()
    code = cubin(kernel, architecture(torch.cuda.get_device_capability(device))).read_bytes()
    module = require("cuModuleLoadData", driver.cuModuleLoadData(code))
    function = require("cuModuleGetFunction", driver.cuModuleGetFunction(module, kernel.function.encode()))
    allow(kernel, function)
    return function


def require(call: str, returned: Any) -> Any:
    """The call's value. Raises `DriverError`, or PyTorch's own error where memory ran out."""
    driver, (error, *values) = bindings(), returned
    if error == driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
        raise torch.OutOfMemoryError(f"{call}: out of memory on the GPU")
    if error.value:
        raise (NoRoom if call in ASKING and error.name in NO_ROOM else DriverError)(call, error.name)
    return values[0] if values else None
