"""The probes' own sources: right under the emulation, wrong without any one of their barriers, compiled without spilling."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch

from impls.cuda import microbenchmarks
from impls.cuda.emulator import Emulation, RuleBroken
from impls.cuda.microbenchmarks import Bench, WrongExchange
from impls.cuda.runtime import BFLOAT16, FOLDER, STORAGES, Launcher
from tests.impls.cuda.compiled import compiled
from tests.impls.cuda.emulated import Rewritten

ORDERING = re.compile(
    r"\b(?:block_barrier|cluster_barrier|transfer_\w+|grid_fence|counter_add|counter_release|group_begin|group_end)\([^;]*\);"
    r"|while \(counter_\w+\([^;]*\{\}"
)


def emulated(launcher: Launcher | None = None) -> Bench:
    return Bench(launcher or Emulation(3), torch.device("cpu"))


def of_grid(way: microbenchmarks.Way) -> Callable[[Bench], float]:
    return lambda bench: microbenchmarks.grid(bench, way, blocks=3, payload=2, steps=6, threads=32)


RUNS: dict[str, Callable[[Bench], float]] = {
    "probe_latency.cu": lambda bench: microbenchmarks.latency(bench, 4, 5),
    "probe_ingress.cu": lambda bench: microbenchmarks.ingress(bench, 2, 3, 6, check=True, clusters=2, threads=64),
    "probe_grid.cu": of_grid("BARRIER"),
    "probe_multiply.cu": lambda bench: microbenchmarks.multiply(bench, BFLOAT16, 4, 1, 3, 16),
}
# What each way of the grid's exchange does not compile, or does not need, is left out of its places.
FOREIGN = {"BARRIER": ("counter_release", "counter_acquire"), "COUNTER": ("grid_fence", "counter_add", "counter_read")}


def places() -> list:
    found = []
    for source, run in RUNS.items():
        spans = [match for match in ORDERING.finditer((FOLDER / source).read_text())]
        if source != "probe_grid.cu":
            found += [pytest.param(source, run, match.span(), id=f"{source}-{n}") for n, match in enumerate(spans)]
            continue
        *shared, last = spans  # the last barrier is that of the letters alone
        for way, foreign in FOREIGN.items():
            own = [match for match in shared if not any(name in match.group() for name in foreign)]
            found += [pytest.param(source, of_grid(way), m.span(), id=f"{way}-{n}") for n, m in enumerate(own)]
        found.append(pytest.param(source, of_grid("LETTERS"), last.span(), id="LETTERS-0"))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_probes_exchange_what_they_say(seed):
    bench = emulated(Emulation(seed))
    for run in (*RUNS.values(), of_grid("COUNTER"), of_grid("LETTERS")):
        assert run(bench) > 0


@pytest.mark.parametrize("storage", STORAGES.values(), ids=lambda storage: storage.name)
def test_products_are_right_in_every_storage(storage):
    assert microbenchmarks.multiply(emulated(), storage, 1, 2, 3) > 0
    assert microbenchmarks.multiply(emulated(), storage, 4, 1, 3, 8) > 0


@pytest.mark.parametrize("source, run, span", places())
def test_without_any_one_barrier_a_rule_is_broken(source, run, span):
    start, end = span
    with pytest.raises((RuleBroken, WrongExchange)):
        for seed in range(4):  # under some order of threads
            run(emulated(Rewritten(source, lambda text: text[:start] + ";" + text[end:], seed)))


@pytest.mark.parametrize(
    "source, right, wrong",
    [
        ("probe_latency.cu", "token + 1, 0", "token + 2, 0"),
        ("probe_ingress.cu", "rank * 4096u + word", "rank * 4096u"),
        ("probe_grid.cu", "block * 256u + i", "block * 256u"),
        ("probe_multiply.cu", "multiply_group<KIND, COLUMNS>(sum, a, 0)", "multiply_group<KIND, COLUMNS>(sum, a, 256)"),
    ],
)
def test_a_wrong_exchange_is_no_measurement(source, right, wrong):
    def rewrite(text):
        assert right in text
        return text.replace(right, wrong)

    if wrong.endswith("256)"):  # the second tile in place of the first, and nothing in place of the second
        with pytest.raises(RuleBroken):
            RUNS[source](emulated(Rewritten(source, rewrite)))
    else:
        with pytest.raises(WrongExchange):
            RUNS[source](emulated(Rewritten(source, rewrite)))


@pytest.mark.parametrize("target", ["sm_80", "sm_90a", "sm_100"])
def test_probes_compile_and_spill_nothing(target):
    pytest.importorskip("cuda.bindings.nvrtc", reason="NVRTC is not installed: pip install cuda-bindings nvidia-cuda-nvrtc")
    for kernel, hopper_alone in microbenchmarks.kernels():
        if (hopper_alone and target != "sm_90a") or (kernel.cluster is not None and target == "sm_80"):
            continue
        assert compiled(kernel, target).spill_bytes == 0, kernel
