"""The peaks of this machine: a large matrix product and a large copy, the roof of the roofline."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np

from results.record import Measurement

GEMM_SIZE = {"cpu": 2048, "cuda": 8192}
COPY_BYTES = {"cpu": 1 << 28, "cuda": 1 << 31}  # far beyond any cache
REPEATS = 7


def measure(device: str, dtype: str) -> Iterator[Measurement]:
    """`gemm` in FLOP/s and `copy` in B/s (read plus written), 7 samples each, on random data."""
    operations = _numpy_operations(dtype) if device == "cpu" else _torch_operations(dtype)
    size = GEMM_SIZE[device]
    for (metric, unit, work), operation in zip(
        (("gemm", "FLOP/s", 2 * size**3), ("copy", "B/s", 2 * COPY_BYTES[device])), operations, strict=True
    ):
        operation()
        yield Measurement(metric, unit, tuple(work / _seconds(operation) for _ in range(REPEATS)))


def _seconds(operation: Callable[[], None]) -> float:
    started = time.perf_counter()
    operation()
    return time.perf_counter() - started


def _numpy_operations(dtype: str) -> tuple[Callable[[], None], Callable[[], None]]:
    random, size = np.random.default_rng(0), GEMM_SIZE["cpu"]
    a, b = (random.standard_normal((size, size)).astype(dtype) for _ in range(2))
    out = np.empty_like(a)
    source = np.tile(random.integers(0, 255, 1 << 20, dtype=np.uint8), COPY_BYTES["cpu"] >> 20)
    target = np.empty_like(source)
    return lambda: void(np.matmul(a, b, out=out)), lambda: np.copyto(target, source)


def _torch_operations(dtype: str) -> tuple[Callable[[], None], Callable[[], None]]:
    import torch

    tf32 = dtype == "tensorfloat32"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    size, kind = GEMM_SIZE["cuda"], torch.float32 if tf32 else getattr(torch, dtype)
    a, b = (torch.randn(size, size, device="cuda").to(kind) for _ in range(2))
    out = torch.empty_like(a)
    source = torch.randint(0, 255, (COPY_BYTES["cuda"],), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)

    def waited(work: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            work()
            torch.cuda.synchronize()

        return run

    return waited(lambda: torch.matmul(a, b, out=out)), waited(lambda: target.copy_(source))


def void(_: object) -> None:
    """Drop a value."""
