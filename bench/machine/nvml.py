"""NVML, the driver's own account of the GPU: opened in one place, so that a machine without it is told in one sentence."""

from __future__ import annotations

from typing import Any


class NoNVML(RuntimeError):
    """NVML is not here or does not answer; the message says which."""


def first_gpu() -> tuple[Any, Any]:
    """The module `pynvml`, opened, and its handle of GPU 0. Raises `NoNVML`."""
    try:
        import pynvml
    except ImportError as error:
        raise NoNVML(f"the package nvidia-ml-py is missing ({error}); install it with: pip install nvidia-ml-py") from error
    try:
        pynvml.nvmlInit()
        return pynvml, pynvml.nvmlDeviceGetHandleByIndex(0)
    except pynvml.NVMLError as error:
        raise NoNVML(f"NVML does not answer: {error}") from error
