"""The items of `gpu-check`, in the order in which they run, and what each may cost. Imports no framework.

The module `bench.gpu_check.<name>` has `parts(station)`, what there is to measure with its parameters, and
`measure(station, …)`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from results.record import EMULATED_METRIC, Measurement

if TYPE_CHECKING:
    from bench.gpu_check.station import DeviceContext

STUDY = "gpu_"  # what the records of an item begin their study's name with
EMULATED_UNIT = "emulated"  # none is a number of a GPU
PROBE, EMULATION = "probe", "emulation"  # stand in the place of a backend


Source = Literal["measured", "modelled"]


@dataclass(frozen=True, slots=True)
class Item:
    """predicted: seconds on one H100, and whether that was measured there (2026-11-26, commit 093f531 repaired) or modelled.

    budget: when it is spent, the parts left are recorded as not measured. first: before the grid of sizes, else after it.
    """

    question: str
    predicted: float
    source: Source
    budget: float
    first: bool = False
    part_seconds: float = 60.0  # after which a part counts as hanging


# Outputs and gradients first: what is wrong need not be timed. The first item of each group starts the worker.
ITEMS: dict[str, Item] = {
    "correctness": Item("is every shipped kernel configuration right on this GPU?", 17, "measured", 60, first=True),
    "operators": Item("is the PyTorch module right: compiled, packed, captured?", 26, "measured", 60, first=True),
    "sends": Item("how long does a send take, how many bytes a cycle arrive?", 8, "measured", 25),
    "exchange": Item("what does an exchange over the whole GPU cost, three ways?", 1, "measured", 15, part_seconds=20),
    "products": Item("how many products does a multiprocessor issue a cycle?", 1, "measured", 15),
    "occupancy": Item("how many clusters of each size are resident at once?", 20, "modelled", 30),
    "variants": Item("what do memory plans, a streaming step, packing and gates cost?", 15, "modelled", 25),
    "algorithms": Item("which of cuDNN's algorithms does nn.LSTM take, by size?", 40, "modelled", 45),
    "sanitizer": Item("does compute-sanitizer find anything on small shapes?", 30, "modelled", 40, part_seconds=40),
}


@dataclass(frozen=True, slots=True)
class Part:
    """One thing to measure: its key within the item and plain values.

    A part that answers an assumed constant names it: `constant`, the file it is `written_in`, the `assumed` value, and which
    of all its answers counts (`takes`: least or greatest).
    """

    key: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    measurements: tuple[Measurement, ...]
    provenance: dict[str, str] = field(default_factory=dict)


def assumption(constant: str, written_in: str, assumed: float, takes: str) -> dict[str, Any]:
    return {"constant": constant, "written_in": written_in, "assumed": assumed, "takes": takes}


def parts(name: str, station: DeviceContext) -> list[dict[str, Any]]:
    """Every part of an item, as plain values."""
    found: Iterable[Part] = importlib.import_module(f"bench.gpu_check.{name}").parts(station)
    device = {"device": "cpu" if station.emulated else "cuda"}
    return [asdict(replace(part, parameters=device | part.parameters)) for part in found]


def measure(name: str, station: DeviceContext, key: str) -> dict[str, Any]:
    """One part's measurements and provenance; under the emulation no metric keeps the name it has on a GPU."""
    found: Found = importlib.import_module(f"bench.gpu_check.{name}").measure(station, key)
    measurements, provenance = found.measurements, dict(found.provenance)
    if station.emulated:
        measurements = tuple(replace(item, metric=EMULATED_METRIC + item.metric, unit=EMULATED_UNIT) for item in measurements)
        provenance["emulated"] = "true"
    return {"measurements": [asdict(item) for item in measurements], "provenance": provenance}
