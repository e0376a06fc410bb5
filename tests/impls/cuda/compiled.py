"""Kernels compiled by NVRTC, each once for a target in all tests of a process."""

from __future__ import annotations

from functools import cache

from impls.cuda.runtime import Kernel
from impls.cuda.runtime.compile import Compiled, compile_kernel


@cache
def compiled(kernel: Kernel, target: str) -> Compiled:
    return compile_kernel(kernel, target)
