"""Host time and operators of a call of the drop-in module whose kernels are not launched, beside `torch.nn.LSTM`.

    python -m tests.perf.host_cost [REVISION] [REPETITIONS]     from the checkout, on an otherwise idle machine

Tiny tensors of the CPU, so that what is timed is the host's work. Each repetition is a fresh process for the revision and one
for this checkout, in alternating order, on one processor; inside of a process our module and PyTorch's take turns. Both launch
nothing on a GPU: ours calls a launcher that does nothing, and PyTorch's computes its few numbers, which is in its time.
"""

from __future__ import annotations

import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch._library.custom_ops import OPDEFS
from torch.utils._python_dispatch import TorchDispatchMode

# This file also runs beside the code of an older revision, so that it asks little of it.

ROOT = Path(__file__).parents[2]
BEFORE = "6580bdb"  # the last revision that packed weights by PyTorch's operators
INPUTS, HIDDEN, STEPS, BATCH = 8, 16, 1, 1
CALLS: dict[str, tuple[dict[str, Any], bool]] = {  # options of the module, and whether it trains
    "inference": ({}, False), "inference, two directions": ({"bidirectional": True}, False),
    "inference, two layers": ({"num_layers": 2}, False), "training": ({}, True),
    "training, two directions": ({"bidirectional": True}, True),
}  # fmt: skip
TURN, TURNS = 100, 30  # calls of a module in a row, and how often
Found = dict[str, dict[str, float]]  # of each call: operators, and seconds of ours and of PyTorch's


class Operators(TorchDispatchMode):
    """The names of all operators dispatched inside, also by our own operators."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        self.names.append(name)
        if name in OPDEFS:  # one of ours: its body, watched too
            with self:
                return OPDEFS[name]._init_fn(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def nothing(launch: object) -> None:
    """A launcher."""


@contextmanager
def launching(launcher: Callable[[Any], None]) -> Iterator[None]:
    """Our operators call this launcher, whatever the device."""
    from impls.cuda.torch import ops

    before = ops.launcher_for
    ops.launcher_for = lambda device: launcher
    try:
        yield
    finally:
        ops.launcher_for = before


def call_of(module: torch.nn.Module, training: bool, dtype: torch.dtype = torch.bfloat16) -> Callable[[], object]:
    x = torch.randn(STEPS, BATCH, INPUTS, dtype=dtype)

    def infer() -> object:
        with torch.no_grad():
            return module(x)

    return (lambda: module(x)[0].sum().backward()) if training else infer


def seconds(calls: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of each call, in turns."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(TURNS + 1):
        for name in calls if turn % 2 else reversed(list(calls)):
            for _ in range(TURN):
                started = time.perf_counter()
                calls[name]()
                if turn:  # the first warms up
                    taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(each) for name, each in taken.items()}


def measured() -> Found:
    """Of the code that is imported here."""
    from impls.cuda.torch.module import LSTM

    torch.set_num_threads(1)
    found: Found = {}
    with launching(nothing):
        for name, (options, training) in CALLS.items():
            kind = {"dtype": torch.bfloat16, **options}
            ours = call_of(LSTM(INPUTS, HIDDEN, **kind), training)
            theirs = call_of(torch.nn.LSTM(INPUTS, HIDDEN, **kind), training)
            ours()
            with Operators() as watched:
                ours()
            found[name] = {"operators": len(watched.names), **seconds({"ours": ours, "theirs": theirs})}
    return found


def in_process(root: Path, cpu: int) -> Found:
    """Measured with the code of that folder, in a fresh process on one processor."""
    command = [sys.executable, str(Path(__file__).resolve()), "--here"]
    pinned = ["taskset", "--cpu-list", str(cpu), *command]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    run = subprocess.run(pinned, cwd=root, env=os.environ | threads | {"PYTHONPATH": str(root)}, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(run.stderr[-1000:])
    return json.loads(run.stdout.splitlines()[-1])


def table(before: list[Found], after: list[Found]) -> list[str]:
    """Medians over the repetitions; of ratios in brackets their range. Each is of one process, or of two neighbours."""
    lines = [
        "| call | operators before | after | µs before | after | nn.LSTM | before/nn.LSTM | after/nn.LSTM | before/after |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in after[0]:
        old, new = [each[name] for each in before], [each[name] for each in after]
        times = [statistics.median(each[key] for each in rows) for rows, key in ((old, "ours"), (new, "ours"), (new, "theirs"))]
        ratios = [
            [each["ours"] / each["theirs"] for each in old], [each["ours"] / each["theirs"] for each in new],
            [one["ours"] / other["ours"] for one, other in zip(old, new, strict=True)],
        ]  # fmt: skip
        cells = [name, f"{old[0]['operators']:.0f}", f"{new[0]['operators']:.0f}", *(f"{each * 1e6:.0f}" for each in times)]
        cells += [f"{statistics.median(each):.2f} [{min(each):.2f}, {max(each):.2f}]" for each in ratios]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main(revision: str = BEFORE, repetitions: str = "5") -> None:
    cpu = min(os.sched_getaffinity(0))
    before: list[Found] = []
    after: list[Found] = []
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", "--format=zip", revision], cwd=ROOT, check=True, capture_output=True).stdout
        with zipfile.ZipFile(io.BytesIO(archive)) as files:
            files.extractall(folder)
        sides = [(before, Path(folder)), (after, ROOT)]
        for number in range(int(repetitions)):
            for side, root in sides if number % 2 else reversed(sides):
                side.append(in_process(root, cpu))
    print("\n".join(table(before, after)))


if __name__ == "__main__":
    if sys.argv[1:] == ["--here"]:
        print(json.dumps(measured()))
    else:
        main(*sys.argv[1:])
