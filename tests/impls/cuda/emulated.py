"""Checks of whole networks whose kernels run under the emulation, and launchers that run a changed source."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from bench.harness.case import Case
from bench.worker import agreement
from impls import LSTMSpec
from impls.cuda import emulator
from impls.cuda.emulator import Emulation
from impls.cuda.runtime import BFLOAT16, FLOAT16, FOLDER, TENSORFLOAT32, Launch, Launcher
from impls.cuda.select import Memory, Plan
from impls.cuda.select.cluster import BackwardShape, ForwardShape
from impls.cuda.select.steps import ExactSteps, GemmSteps, TensorSteps
from impls.cuda.torch.network import Network

INCLUDE = re.compile(r'^#include "([\w.]+)"$', re.MULTILINE)
STORAGES = {"bfloat16": BFLOAT16, "float16": FLOAT16, "tensorfloat32": TENSORFLOAT32}


class Remembering(Case):
    """A case whose forget gates stay near one: their bias is 6, so that errors of the cell state accumulate."""

    @property
    def key(self) -> str:
        return f"{super().key} remembering"

    def data(self):
        params, batch = super().data()
        hidden = self.spec.hidden_size
        for name, value in params.items():
            if name.startswith("bias_ih"):
                value[hidden : 2 * hidden] += 6.0
        return params, batch


@dataclass(slots=True)
class Rewritten:
    """A launcher that changes the text of one kernel source before it is built."""

    source: str
    rewrite: Callable[[str], str]
    seed: int = 0

    def __call__(self, launch: Launch) -> None:
        kernel = launch.kernel
        text = self.rewrite(kernel.text()) if kernel.source == self.source else kernel.text()
        emulator.run(launch, emulator.library(text, tuple(kernel.options())), self.seed)


def with_headers(text: str) -> str:
    """A kernel's source with the headers of the arithmetic in place of their includes, so that they can be changed with it."""
    included = set()

    def content(match: re.Match[str]) -> str:
        name = match[1]
        if name == "device.cuh" or name in included:
            return match[0] if name == "device.cuh" else ""
        included.add(name)
        return INCLUDE.sub(content, (FOLDER / name).read_text(encoding="utf-8").replace("#pragma once", ""))

    return INCLUDE.sub(content, text)


def check(case: Case, plan: Plan, launcher: Launcher | None = None) -> None:
    """Raise `Disagreement` unless the emulated network answers as the float64 oracle does, within the policy."""
    params, batch = case.data()
    network = Network(case.spec, params, batch, plan, launcher or Emulation(), torch.device("cpu"))
    agreement.check_against(agreement.answer(network, case), case)


def cluster_plan(dtype: str, hidden: int, cluster: int, memory: Memory = "saved", *, back: Mapping = {}, **shape) -> Plan:
    """A plan for tests: H padded to what each kernel needs; the cut of the backward kernel is `back`."""
    depth = 16 * STORAGES[dtype].per_word * shape.get("split", 1) * shape.get("stages", 1)
    multiple = math.lcm(depth, 8 * cluster)
    forward = ForwardShape(storage=STORAGES[dtype], hidden=-(-hidden // multiple) * multiple, cluster=cluster, **shape)
    return Plan(forward, backward_shape(dtype, hidden, cluster, **back), STORAGES[dtype].dtype, memory, "for a test")


def backward_shape(dtype: str, hidden: int, cluster: int, **cut) -> BackwardShape:
    """H padded to what the cluster needs; few warps unless `cut` says otherwise, since every thread is emulated."""
    padded = -(-hidden // (16 * cluster)) * 16 * cluster
    return BackwardShape(**({"storage": STORAGES[dtype], "hidden": padded, "cluster": cluster, "warps": min(cluster, 4)} | cut))


def tensor_step_plan(dtype: str, memory: Memory = "saved", tiles: int = 1) -> Plan:
    steps = TensorSteps(STORAGES[dtype], tiles)
    return Plan(steps, steps, STORAGES[dtype].dtype, memory, "for a test")


def gemm_step_plan(dtype: str, memory: Memory = "saved", parts: int = 1, rows: int = 1024) -> Plan:
    steps = GemmSteps(STORAGES[dtype], parts, rows)
    return Plan(steps, steps, STORAGES[dtype].dtype, memory, "for a test")


def step_plan(dtype: str, memory: Memory = "saved") -> Plan:
    steps = ExactSteps(getattr(torch, dtype))
    return Plan(steps, steps, steps.dtype, memory, "for a test")


def case(hidden: int, steps: int, batch: int, dtype: str = "bfloat16", phase="forward_backward", of=Case, **spec) -> Case:
    """Always with initial states; ragged wherever there is more than one step."""
    return of(
        LSTMSpec(5, hidden, dtype=dtype, **spec), steps, batch, phase, ragged=phase != "step" and steps > 1, initial_state=True
    )
