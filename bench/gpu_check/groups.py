"""The groups of checks of `gpu-check`, in the order in which they run, and what each may cost. Imports no framework."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from impls import backends
from results.record import EMULATED_METRIC, Measurement

if TYPE_CHECKING:
    from bench.gpu_check.device import DeviceContext

STUDY = "gpu_"  # what the records of a group begin their study's name with
EMULATED_UNIT = "emulated"  # none is a number of a GPU
PROBE, EMULATION = "probe", "emulation"  # stand in the place of a backend
EMULATED_FOLDER, EMULATED_BACKEND = Path(__file__).parent / "emulated_backend", "cuda_emulated"

Source = Literal["measured", "modelled"]
Reduction = Literal["least", "greatest"]


@dataclass(frozen=True, slots=True)
class CheckGroup:
    """Checks that answer one question.

    Args:
        question: what is asked.
        predicted: seconds on one H100.
        source: whether `predicted` was measured there (2026-11-26, commit 093f531 repaired) or modelled.
        budget: seconds after which the checks left are recorded as not measured.
        module: of `bench.gpu_check`; its `IMPLEMENTATIONS` has an entry of the group's name.
        first: before the grid of sizes, else after it.
        check_seconds: after which a check counts as hanging.
    """

    question: str
    predicted: float
    source: Source
    budget: float
    module: str
    first: bool = False
    check_seconds: float = 60.0


# Outputs and gradients first: what is wrong need not be timed. The first group before and after the grid starts the worker.
GROUPS: dict[str, CheckGroup] = {
    "correctness": CheckGroup("is every shipped kernel configuration right on this GPU?", 17, "measured", 60, "numerics", True),
    "operators": CheckGroup("is the PyTorch module right: compiled, packed, captured?", 26, "measured", 60, "numerics", True),
    "sends": CheckGroup("how long does a send take, how many bytes a cycle arrive?", 8, "measured", 25, "timings"),
    "exchange": CheckGroup(
        "what does an exchange over the whole GPU cost, three ways?", 1, "measured", 15, "timings", check_seconds=20
    ),
    "products": CheckGroup("how many products does a multiprocessor issue a cycle?", 1, "measured", 15, "timings"),
    "occupancy": CheckGroup("how many clusters of each size are resident at once?", 20, "modelled", 30, "timings"),
    "variants": CheckGroup("what do memory plans, a streaming step, packing and gates cost?", 15, "modelled", 25, "timings"),
    "algorithms": CheckGroup("which of cuDNN's algorithms does nn.LSTM take, by size?", 40, "modelled", 45, "tools"),
    "sanitizer": CheckGroup(
        "does compute-sanitizer find anything on small shapes?", 30, "modelled", 40, "tools", check_seconds=40
    ),
}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to measure: its key within the group and plain values.

    A check that answers an assumed constant names it in its parameters (see `assumption`).
    """

    key: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check measured, and what ran."""

    measurements: tuple[Measurement, ...]
    provenance: dict[str, str] = field(default_factory=dict)


class Implementation(NamedTuple):
    """The checks of a group on a device, and how the one with a key is measured."""

    list_checks: Callable[[DeviceContext], Iterable[Check]]
    measure: Callable[[DeviceContext, str], CheckResult]


def assumption(constant: str, written_in: str, assumed: float, reduction: Reduction) -> dict[str, Any]:
    """Parameters that name a constant of the cost model, the file it stands in, its value, and which of all answers counts."""
    return {"constant": constant, "written_in": written_in, "assumed": assumed, "takes": reduction}


def list_checks(group: str, context: DeviceContext) -> list[dict[str, Any]]:
    """Every check of a group, as plain values."""
    device = {"device": context.device_name}
    checks = _implementation(group).list_checks(context)
    return [asdict(replace(check, parameters=device | check.parameters)) for check in checks]


def measure(group: str, context: DeviceContext, key: str) -> dict[str, Any]:
    """One check's measurements and provenance; under the emulation no metric keeps the name it has on a GPU."""
    result = _implementation(group).measure(context, key)
    measurements, provenance = result.measurements, dict(result.provenance)
    if context.emulated:
        measurements = tuple(replace(one, metric=EMULATED_METRIC + one.metric, unit=EMULATED_UNIT) for one in measurements)
        provenance["emulated"] = "true"
    return {"measurements": [asdict(one) for one in measurements], "provenance": provenance}


def _implementation(group: str) -> Implementation:
    """Imported where it runs: it needs PyTorch."""
    known: Mapping[str, Implementation] = importlib.import_module(f"bench.gpu_check.{GROUPS[group].module}").IMPLEMENTATIONS
    return known[group]


def register_emulated_backend() -> None:
    """Make the backend `cuda_emulated` known, here and in the workers this process starts.

    Emulated runs alone do this: nobody is to time the emulation by accident.
    """
    known = [path for path in os.environ.get("LSTM_BENCH_BACKENDS", "").split(os.pathsep) if path]
    if str(EMULATED_FOLDER) not in known:
        os.environ["LSTM_BENCH_BACKENDS"] = os.pathsep.join([*known, str(EMULATED_FOLDER)])
    if str(EMULATED_FOLDER) not in backends.__path__:
        backends.__path__.append(str(EMULATED_FOLDER))
