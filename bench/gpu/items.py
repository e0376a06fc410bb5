"""The items of `gpu-check`, in the order in which they run, and what each may cost. Imports no framework.

The module `bench.gpu.<name>` has `parts(station)`, what there is to measure with its parameters, and `measure(station, …)`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from results.record import EMULATED_METRIC, Measurement

if TYPE_CHECKING:
    from bench.gpu.station import Station

STUDY = "gpu_"  # what the records of an item begin their study's name with
EMULATED_UNIT = "emulated"  # none is a number of a GPU
PROBE, EMULATION = "probe", "emulation"  # stand in the place of a backend


@dataclass(frozen=True, slots=True)
class Item:
    """predicted: seconds on one H200, modelled. budget: when it is spent, the parts left are recorded as not measured."""

    letter: str
    question: str
    predicted: float
    budget: float
    part_seconds: float = 60.0  # after which a part counts as hanging


ITEMS: dict[str, Item] = {
    "occupancy": Item("a", "how many clusters of each size are resident at once?", 30, 50),
    "sends": Item("b", "how long does a send take, and how many bytes a cycle arrive?", 15, 30),
    "exchange": Item("c", "what does an exchange over the whole grid cost, three ways?", 10, 20, 20),
    "products": Item("d", "how many products does a multiprocessor issue a cycle?", 15, 25),
    "algorithms": Item("e", "which of cuDNN's algorithms does nn.LSTM take at each point of the grid?", 40, 50),
    "correctness": Item("f", "is every shipped configuration right on this GPU?", 60, 80),
    "operators": Item("f", "does the PyTorch module answer right, compiled, packed, captured?", 30, 50),
    "sanitizer": Item("f", "does compute-sanitizer find anything on small shapes?", 30, 40, 40),
    "variants": Item("g", "what do memory plans, a streaming step, packed sequences and gates cost?", 15, 25),
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


def parts(name: str, station: Station) -> list[dict[str, Any]]:
    """Every part of an item, as plain values."""
    found: Iterable[Part] = importlib.import_module(f"bench.gpu.{name}").parts(station)
    device = {"device": "cpu" if station.emulated else "cuda"}
    return [asdict(replace(part, parameters=device | part.parameters)) for part in found]


def measure(name: str, station: Station, key: str) -> dict[str, Any]:
    """One part's measurements and provenance; under the emulation no metric keeps the name it has on a GPU."""
    found: Found = importlib.import_module(f"bench.gpu.{name}").measure(station, key)
    measurements, provenance = found.measurements, dict(found.provenance)
    if station.emulated:
        measurements = tuple(replace(item, metric=EMULATED_METRIC + item.metric, unit=EMULATED_UNIT) for item in measurements)
        provenance["emulated"] = "true"
    return {"measurements": [asdict(item) for item in measurements], "provenance": provenance}
