"""Launches on a GPU through the CUDA driver, on PyTorch's current stream: no host synchronisation, fit for a CUDA graph.

Not yet run on any GPU.
"""

from __future__ import annotations

import ctypes
import importlib
from functools import cache
from typing import Any

import torch

from impls import Unavailable
from impls.backends._cuda.compile import architecture, cubin
from impls.backends._cuda.kernels import Kernel, Launch

REMEDY = "pip install cuda-bindings (version 13) and NVIDIA's driver"
DEFAULT_SHARED_LIMIT = 48 << 10  # more has to be asked for
PORTABLE_CLUSTER = 8  # larger clusters have to be asked for


class DriverError(RuntimeError):
    """The CUDA driver returned an error; the message is its own, with the call."""


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
    except Unavailable as reason:
        return str(reason)
    return None


class Driver:
    """A launcher for tensors on a CUDA device."""

    def __call__(self, launch: Launch) -> None:
        driver, device = bindings(), launch.writes[0].device
        with torch.cuda.device(device):
            function = _function(launch.kernel, device.index)
            config = driver.CUlaunchConfig()
            config.gridDimX, config.gridDimY, config.gridDimZ = launch.grid
            config.blockDimX, config.blockDimY, config.blockDimZ = launch.kernel.threads, 1, 1
            config.sharedMemBytes = launch.kernel.shared_bytes
            config.hStream = torch.cuda.current_stream(device).cuda_stream
            if launch.kernel.cluster > 1:
                config.attrs = [_cluster_attribute(driver, launch.kernel.cluster)]
                config.numAttrs = 1
            # cuLaunchKernelEx copies the argument before it returns, so the caller may change it at once.
            pointers = (ctypes.c_void_p * 1)(ctypes.addressof(launch.arguments))
            _require(driver, "cuLaunchKernelEx", driver.cuLaunchKernelEx(config, function, ctypes.addressof(pointers), 0))


def _cluster_attribute(driver: Any, blocks: int) -> Any:
    attribute = driver.CUlaunchAttribute()
    attribute.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION
    attribute.value.clusterDim.x, attribute.value.clusterDim.y, attribute.value.clusterDim.z = blocks, 1, 1
    return attribute


@cache
def _function(kernel: Kernel, device: int) -> Any:
    """The kernel loaded into the device's primary context, which is PyTorch's and current here. Kept for the process."""
    driver = bindings()
    path = cubin(kernel, architecture(torch.cuda.get_device_capability(device)))
    torch.cuda.current_stream(device).query()  # makes PyTorch create the context, if nothing has yet
    module = _require(driver, "cuModuleLoadData", driver.cuModuleLoadData(path.read_bytes()))
    function = _require(driver, "cuModuleGetFunction", driver.cuModuleGetFunction(module, kernel.function.encode()))
    attributes = driver.CUfunction_attribute
    if kernel.shared_bytes > DEFAULT_SHARED_LIMIT:
        wanted = attributes.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        _require(driver, "cuFuncSetAttribute", driver.cuFuncSetAttribute(function, wanted, kernel.shared_bytes))
    if kernel.cluster > PORTABLE_CLUSTER:
        wanted = attributes.CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED
        _require(driver, "cuFuncSetAttribute", driver.cuFuncSetAttribute(function, wanted, 1))
    return function


def _require(driver: Any, call: str, returned: Any) -> Any:
    """The call's value. Raises `DriverError`, or PyTorch's own error where memory ran out."""
    error, *values = returned
    if error == driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
        raise torch.cuda.OutOfMemoryError(f"{call}: out of memory on the GPU")
    if error.value:
        _, text = driver.cuGetErrorString(error)
        raise DriverError(f"{call} failed: {text.decode() if text else error.name}")
    return values[0] if values else None
