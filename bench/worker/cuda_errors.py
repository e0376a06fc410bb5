"""Sticky CUDA errors: after one of them every later CUDA call of the process fails, so the process has to be replaced.

Two independent signs are read: what an exception says, and what the driver answers when it is asked to synchronise. Imports no
framework, and loads no driver that the process has not loaded itself.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Iterator
from typing import NamedTuple


class Sticky(NamedTuple):
    """An error as the driver and the runtime name it, and the text that cuGetErrorString and cudaGetErrorString give."""

    driver: str
    runtime: str
    text: str


# By their number, which driver and runtime share. Those whose documentation (CUDA 13, CUresult and cudaError_t) says that the
# process must be terminated or the context destroyed, and the two uncorrectable memory and link errors, of which it says
# nothing and after which data on the device cannot be believed either.
STICKY = {
    214: Sticky("CUDA_ERROR_ECC_UNCORRECTABLE", "cudaErrorECCUncorrectable", "uncorrectable ECC error encountered"),
    220: Sticky(
        "CUDA_ERROR_NVLINK_UNCORRECTABLE", "cudaErrorNvlinkUncorrectable",
        "uncorrectable NVLink error detected during the execution",
    ),
    226: Sticky(
        "CUDA_ERROR_CONTAINED", "cudaErrorContained", "Invalid access of peer GPU memory over nvlink or a hardware error"
    ),
    700: Sticky("CUDA_ERROR_ILLEGAL_ADDRESS", "cudaErrorIllegalAddress", "an illegal memory access was encountered"),
    702: Sticky("CUDA_ERROR_LAUNCH_TIMEOUT", "cudaErrorLaunchTimeout", "the launch timed out and was terminated"),
    710: Sticky("CUDA_ERROR_ASSERT", "cudaErrorAssert", "device-side assert triggered"),
    714: Sticky("CUDA_ERROR_HARDWARE_STACK_ERROR", "cudaErrorHardwareStackError", "hardware stack error"),
    715: Sticky("CUDA_ERROR_ILLEGAL_INSTRUCTION", "cudaErrorIllegalInstruction", "an illegal instruction was encountered"),
    716: Sticky("CUDA_ERROR_MISALIGNED_ADDRESS", "cudaErrorMisalignedAddress", "misaligned address"),
    717: Sticky(
        "CUDA_ERROR_INVALID_ADDRESS_SPACE", "cudaErrorInvalidAddressSpace",
        "operation not supported on global/shared address space",
    ),
    718: Sticky("CUDA_ERROR_INVALID_PC", "cudaErrorInvalidPc", "invalid program counter"),
    719: Sticky("CUDA_ERROR_LAUNCH_FAILED", "cudaErrorLaunchFailure", "unspecified launch failure"),
    721: Sticky("CUDA_ERROR_TENSOR_MEMORY_LEAK", "cudaErrorTensorMemoryLeak", "tensor memory not completely freed"),
    810: Sticky(
        "CUDA_ERROR_MPS_CLIENT_TERMINATED", "cudaErrorMpsClientTerminated", "the MPS client has been terminated by the server"
    ),
    911: Sticky(
        "CUDA_ERROR_EXTERNAL_DEVICE", "cudaErrorExternalDevice", "an async error has occured in external entity outside of CUDA"
    ),
}  # fmt: skip
DRIVER = "libcuda.so.1"
CORRUPTED = "context_corrupted"  # the key of a worker's reply that has CUDA's name for what corrupted its context


def corrupted(error: BaseException | None) -> str | None:
    """CUDA's name for what made this process useless for CUDA, or None.

    error: what the work that has just ended raised, None where it raised nothing. Returns once the GPU has finished all work of
    this process, so that an asynchronous error belongs to the work that caused it.
    """
    found = context_error()
    return (sticky_error(error) if error else None) or found


def sticky_error(error: BaseException) -> str | None:
    """The driver's name of the sticky error that an exception, or one that led to it, reports; else None.

    Understands CUDA's own names and numbers wherever they stand (our `DriverError`, XLA, `torch.AcceleratorError.error_code`),
    and CUDA's texts in a message that speaks of CUDA (PyTorch, Triton, ONNX Runtime).
    """
    for one in _chain(error):
        code = getattr(one, "error_code", None)
        if type(one).__name__ == "AcceleratorError" and code in STICKY:
            return STICKY[code].driver
        if name := named_in(str(one)):
            return name
    return None


def named_in(text: str) -> str | None:
    """The driver's name of the first sticky error in the table that a text names, or describes while it speaks of CUDA."""
    words = set(re.findall(r"\w+", text))
    for sticky in STICKY.values():
        if sticky.driver in words or sticky.runtime in words:
            return sticky.driver
    if "cuda" in text.lower():
        return next((sticky.driver for sticky in STICKY.values() if sticky.text in text), None)
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and those it was raised from, while handling of, or as a group of."""
    waiting, seen = [error], set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [cause for cause in (one.__context__, one.__cause__) if cause is not None]
        waiting += getattr(one, "exceptions", ())


def context_error() -> str | None:
    """Wait for all work of this process's primary CUDA contexts; the driver's name for the error it answers with, or None.

    PyTorch, JAX and ONNX Runtime all work in the primary contexts. Where the process has none, nothing is waited for and none
    is made. Any error counts: the driver refuses to synchronise a context only where work in it failed, or where a capture of a
    CUDA graph was left open, and neither can be used for the next case.
    """
    driver = _loaded_driver()
    count = ctypes.c_int()
    if driver is None or driver.cuDeviceGetCount(ctypes.byref(count)):
        return None
    for number in range(count.value):
        device, flags, active = ctypes.c_int(), ctypes.c_uint(), ctypes.c_int()
        status = driver.cuDeviceGet(ctypes.byref(device), number)
        status = status or driver.cuDevicePrimaryCtxGetState(device, ctypes.byref(flags), ctypes.byref(active))
        if not status and active.value:
            status = _synchronise(driver, device)
        if status:
            return _name_of(driver, status)
    return None


def _synchronise(driver: ctypes.CDLL, device: ctypes.c_int) -> int:
    context = ctypes.c_void_p()
    if status := driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device):
        return status
    status = driver.cuCtxPushCurrent_v2(context)
    if not status:
        status = driver.cuCtxSynchronize()
        driver.cuCtxPopCurrent_v2(ctypes.byref(context))
    driver.cuDevicePrimaryCtxRelease_v2(device)
    return status


def _name_of(driver: ctypes.CDLL, status: int) -> str:
    name = ctypes.c_char_p()
    if driver.cuGetErrorName(status, ctypes.byref(name)) or name.value is None:
        return f"CUDA error {status}"
    return name.value.decode()


def _loaded_driver() -> ctypes.CDLL | None:
    """NVIDIA's driver, if a framework of this process has loaded it."""
    if sys.platform == "win32":  # whose driver has another name, and where nothing is measured
        return None
    try:
        return ctypes.CDLL(DRIVER, mode=os.RTLD_NOLOAD | os.RTLD_NOW)
    except OSError:
        return None
