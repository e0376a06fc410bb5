"""The peaks of this machine, the roofs of the roofline: a large matrix product, and copies of arrays of several sizes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np

from results.record import Measurement

GEMM_SIZE = {"cpu": 2048, "cuda": 8192}
# Bytes copied by metric: far beyond any cache; half of what a cache holds with its source and target.
COPIES = {
    "cpu": {"copy": 1 << 28, "copy_l3": 4 << 20, "copy_l2": 256 << 10},
    "cuda": {"copy": 1 << 31, "copy_l2": 8 << 20},
}
REPEATS = 7
LEAST_BYTES = 1 << 28  # copied in a sample: a small array many times, or the clock would be what is measured

Operation = Callable[[], None]


def measure(device: str, dtype: str) -> Iterator[Measurement]:
    """`gemm` in FLOP/s and copies in B/s (read plus written), 7 samples each, on random data."""
    plain = device == "cpu" and dtype in ("float32", "float64")  # NumPy has no other that it multiplies fast
    product = _product(dtype) if plain else _product_by_torch(device, dtype)
    yield Measurement("gemm", "FLOP/s", _rates(2 * GEMM_SIZE[device] ** 3, product))
    for metric, size in COPIES[device].items():
        repeats = max(1, LEAST_BYTES // size)
        copy = _copy_on_gpu(size) if device == "cuda" else _copy(size)
        yield Measurement(metric, "B/s", _rates(2 * size * repeats, _repeated(copy, repeats, device)))


def _rates(work: int, operation: Operation) -> tuple[float, ...]:
    operation()
    return tuple(work / _seconds(operation) for _ in range(REPEATS))


def _seconds(operation: Operation) -> float:
    started = time.perf_counter()
    operation()
    return time.perf_counter() - started


def _repeated(operation: Operation, repeats: int, device: str) -> Operation:
    def run() -> None:
        for _ in range(repeats):
            operation()
        if device == "cuda":
            _wait()

    return run


def _wait() -> None:
    import torch

    torch.cuda.synchronize()


def _product(dtype: str) -> Operation:
    random, size = np.random.default_rng(0), GEMM_SIZE["cpu"]
    a, b = (random.standard_normal((size, size)).astype(dtype) for _ in range(2))
    out = np.empty_like(a)
    return lambda: _drop(np.matmul(a, b, out=out))


def _product_by_torch(device: str, dtype: str) -> Operation:
    import torch

    tf32, size = dtype == "tensorfloat32", GEMM_SIZE[device]
    if device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = tf32
    kind = torch.float32 if tf32 else getattr(torch, dtype)
    a, b = (torch.randn(size, size, device=device).to(kind) for _ in range(2))
    out = torch.empty_like(a)
    return _repeated(lambda: _drop(torch.matmul(a, b, out=out)), 1, device)


def _copy(size: int) -> Operation:
    block = np.random.default_rng(0).integers(0, 255, min(size, 1 << 20), dtype=np.uint8)
    source = np.tile(block, size // len(block))
    target = np.empty_like(source)
    return lambda: np.copyto(target, source)


def _copy_on_gpu(size: int) -> Operation:
    import torch

    source = torch.randint(0, 255, (size,), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return lambda: _drop(target.copy_(source))


def _drop(_: object) -> None:
    """A call's value is not wanted."""
