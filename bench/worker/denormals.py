"""Flush denormal numbers to zero on this thread and every thread it starts, for every framework alike."""

from __future__ import annotations

import ctypes
import mmap
import platform
import sys

import numpy as np

# ldmxcsr [rdi]; ret — the one instruction that sets the SSE control register (Intel SDM, volume 2).
_LOAD_MXCSR = bytes([0x0F, 0xAE, 0x17, 0xC3])
_FLUSH_AND_ZERO = 0x1F80 | 0x8000 | 0x0040  # default exception masks, flush-to-zero, denormals-are-zero


def flush() -> bool:
    """Switch flushing on; returns whether denormals really are flushed now, found out by trying."""
    if sys.platform == "linux" and platform.machine() == "x86_64":
        with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as page:
            page.write(_LOAD_MXCSR)
            view = ctypes.c_char.from_buffer(page)
            control = ctypes.c_uint32(_FLUSH_AND_ZERO)
            ctypes.CFUNCTYPE(None, ctypes.c_void_p)(ctypes.addressof(view))(ctypes.addressof(control))
            del view
    smallest = np.array([1e-40], np.float32)
    return float((smallest * np.float32(0.5))[0]) == 0.0
