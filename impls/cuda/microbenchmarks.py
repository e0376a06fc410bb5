"""Probes: small kernels that measure what the plans assume of a GPU. Each checks what it exchanged, then returns cycles.

Under the emulation the same sources prove that what they exchange is right and ordered; their cycles mean nothing there.

They include the kernels' own device.cuh, so that what is timed is the very instruction that the kernels use.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from impls.cuda.runtime import BFLOAT16, TENSORFLOAT32, Kernel, Launch, Launcher, Storage, pointer

CLUSTERS = (2, 4, 8, 16)
WARP = 32
INGRESS_THREADS, GRID_THREADS = 256, 256
INGRESS_PAYLOADS = (128, 2048)  # 16-byte words that arrive at a block a step, its own share included
Way = Literal["BARRIER", "COUNTER", "LETTERS"]
WAYS: tuple[Way, ...] = ("BARRIER", "COUNTER", "LETTERS")
MULTIPLIED = (BFLOAT16, TENSORFLOAT32)  # float16 is issued as bfloat16 is
CHAINS = (1, 2, 4)
GROUP_COLUMNS = (8, 16, 32)
GROUP_THREADS = 128
WRAP = 1 << 32


class WrongExchange(AssertionError):
    """What a probe exchanged is not what was sent: its cycles mean nothing."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Where probes run: a launcher, and the device its tensors live on."""

    launcher: Launcher
    device: torch.device

    def zeros(self, *shape: int, dtype: torch.dtype = torch.int32) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=self.device)


def latency_kernel(cluster: int) -> Kernel:
    return Kernel("probe_latency.cu", "probe_latency", (("CLUSTER", str(cluster)),), WARP, 32, cluster)


def latency(bench: Bench, cluster: int, trips: int) -> float:
    """Cycles one `send` takes from the first to the last block of a cluster, the wait for it included."""
    cycles, token = bench.zeros(1, dtype=torch.int64), bench.zeros(1)
    arrays = {"cycles": cycles, "token": token}
    _launch(bench, latency_kernel(cluster), cluster, arrays, {"trips": trips}, writes=[cycles, token])
    if token.item() != 2 * trips:
        raise WrongExchange(f"the token came back as {token.item()} after {trips} trips; it must be {2 * trips}")
    return cycles.item() / (2 * (trips - 1))


def ingress_kernel(cluster: int, payload: int, threads: int = INGRESS_THREADS) -> Kernel:
    """`payload` 16-byte words from each block to each other one."""
    defines = (("CLUSTER", str(cluster)), ("PAYLOAD", str(payload)))
    return Kernel("probe_ingress.cu", "probe_ingress", defines, threads, 2 * cluster * payload * 16 + 16, cluster)


def ingress(
    bench: Bench, cluster: int, payload: int, steps: int, *, check: bool, clusters: int = 1, threads: int = INGRESS_THREADS
) -> float:
    """Cycles a step in which every block of a cluster takes `payload` words of 16 bytes from each other one."""
    blocks = cluster * clusters
    cycles, sums = bench.zeros(blocks, dtype=torch.int64), bench.zeros(blocks, threads)
    numbers = {"steps": steps, "check": int(check)}
    kernel = ingress_kernel(cluster, payload, threads)
    _launch(bench, kernel, blocks, {"cycles": cycles, "sums": sums}, numbers, writes=[cycles, sums])
    ranks, words = np.arange(cluster), np.arange(payload)
    read = np.arange(steps) if check else np.arange(max(0, steps - 2), steps)
    of_rank = (read[:, None] * 65536 + words).sum() + len(read) * payload * ranks * 4096
    _compare(sums, np.tile(of_rank.sum() - of_rank, clusters))
    return cycles.max().item() / (steps - 2)


def grid_kernel(way: Way, payload: int, threads: int = GRID_THREADS) -> Kernel:
    defines = (("WAY", way), ("PAYLOAD", str(payload)))
    return Kernel("probe_grid.cu", "probe_grid", defines, threads, 0, cooperative=True)


def grid(bench: Bench, way: Way, blocks: int, payload: int, steps: int, threads: int = GRID_THREADS) -> float:
    """Cycles a step in which every block of a grid writes `payload` words of 16 bytes and reads those of all."""
    words, counter = bench.zeros(2, blocks, payload, 4), bench.zeros(1)
    cycles, sums = bench.zeros(blocks, dtype=torch.int64), bench.zeros(blocks, threads)
    arrays = {"words": words, "counter": counter, "cycles": cycles, "sums": sums}
    kernel = grid_kernel(way, payload, threads)
    _launch(bench, kernel, blocks, arrays, {"steps": steps, "blocks": blocks}, writes=[*arrays.values()])
    values = np.arange(blocks)[:, None] * 256 + np.arange(payload)
    of_all = sum(int((values + step * 65536).sum()) for step in range(steps))
    _compare(sums, np.full(blocks, of_all))
    return cycles.max().item() / (steps - 2)


def multiply_kernel(storage: Storage, warps: int, chains: int, columns: int = 0) -> Kernel:
    """`columns`: 0 for `mma` on 8 columns, else what four warps multiply together (sm_90a only)."""
    defines = (
        ("STORAGE", storage.name), ("KIND", f"GROUP_{storage.name.upper()}"),
        ("CHAINS", str(chains)), ("COLUMNS", str(columns)),
    )  # fmt: skip
    return Kernel("probe_multiply.cu", "probe_multiply", defines, WARP * warps, max(columns // 8, 1) * 256)


def multiply(bench: Bench, storage: Storage, warps: int, chains: int, rounds: int, columns: int = 0) -> float:
    """Floating-point operations a cycle that one multiprocessor does."""
    depth = 8 * storage.per_word
    random = np.random.default_rng(0)
    a, b = random.integers(-2, 3, (16, depth)), random.integers(-2, 3, (depth, 8))
    left, right = _fragments(storage, a, b)
    left, right = left.to(bench.device), right.to(bench.device)
    cycles, sums = bench.zeros(warps, dtype=torch.int64), bench.zeros(WARP * warps, 4, dtype=torch.float32)
    kernel = multiply_kernel(storage, warps, chains, columns)
    arrays = {"a": left, "b": right, "cycles": cycles, "sums": sums}
    _launch(bench, kernel, 1, arrays, {"rounds": rounds}, reads=[left, right], writes=[cycles, sums])
    expected = (a @ b).reshape(2, 8, 4, 2).transpose(1, 2, 0, 3).reshape(WARP, 4) * rounds
    if not np.array_equal(sums.cpu().numpy(), np.tile(expected, (warps, 1)).astype(np.float32)):
        raise WrongExchange(f"{kernel.function} with {storage.name} and {columns or 8} columns multiplied wrongly")
    products = rounds * (warps * chains * 8 if not columns else warps * columns)  # in columns of 16 rows
    return 2 * 16 * depth * products / cycles.max().item()


def kernels() -> list[tuple[Kernel, bool]]:
    """Every configuration that `gpu-check` measures, and whether sm_90a alone can run it."""
    chosen: list[tuple[Kernel, bool]] = [(latency_kernel(cluster), False) for cluster in CLUSTERS]
    chosen += [(ingress_kernel(c, total // c), False) for c in CLUSTERS for total in INGRESS_PAYLOADS[1:]]
    chosen += [(grid_kernel(way, 8), False) for way in WAYS]
    for storage in MULTIPLIED:
        chosen += [(multiply_kernel(storage, 8, chains), False) for chains in CHAINS]
        chosen += [(multiply_kernel(storage, 8, 1, columns), True) for columns in GROUP_COLUMNS]
    return chosen


def _fragments(storage: Storage, a: np.ndarray, b: np.ndarray) -> tuple[Tensor, Tensor]:
    """A [16, depth] as [32 lanes, 4] and B [depth, 8] as [2, 32 lanes], in words (docs/cuda.md draws them)."""
    per_word = storage.per_word
    left = a.reshape(2, 8, 2, 4, per_word).transpose(1, 3, 2, 0, 4)  # row, pair | half of k, half of rows
    right = b.reshape(2, 4, per_word, 8).transpose(0, 3, 1, 2)  # half of k | column, pair
    words = (torch.from_numpy(np.ascontiguousarray(value)).to(storage.dtype).view(torch.int32) for value in (left, right))
    lanes, halves = words
    return lanes.reshape(WARP, 4).contiguous(), halves.reshape(2, WARP).contiguous()


def _compare(sums: Tensor, expected: np.ndarray) -> None:
    """What all threads of each block read, added up modulo 2³²."""
    found = sums.cpu().numpy().astype(np.int64).sum(axis=1) % WRAP
    if not np.array_equal(found, expected.astype(np.int64) % WRAP):
        raise WrongExchange(f"blocks read words that add up to {found.tolist()}; sent were {(expected % WRAP).tolist()}")


def _launch(
    bench: Bench, kernel: Kernel, blocks: int, arrays: dict[str, Tensor], numbers: dict[str, int], *,
    reads: Sequence[Tensor] = (), writes: Sequence[Tensor],
) -> None:  # fmt: skip
    fields = [(name, ctypes.c_void_p) for name in arrays] + [(name, ctypes.c_int) for name in numbers]
    layout = type("Arguments", (ctypes.Structure,), {"_fields_": fields})
    filled = layout(*(pointer(tensor) for tensor in arrays.values()), *numbers.values())
    bench.launcher(Launch(kernel, (blocks, 1, 1), filled, reads, writes))
