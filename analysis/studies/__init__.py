"""A folder a study: its statistics and figures.

They are found by what a topic's modules define. `figures.py`: SECTION, the id and the title of the group that its figures join,
and FIGURES, by name, each drawn of a section's series and records, or None where there is nothing to show. `statistics.py`:
QUANTITIES, by name, each an `analysis.statistics.quantities.Quantity`, which claims may be judged by.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

ORDER = ("gradients", "horizon", "cost", "decode", "scaling", "quality", "context")  # others come after, by name


def of_series(draws: dict[str, Callable[[Any], Any]]) -> dict[str, Callable[[Any, Any], Any]]:
    """Figures that need no more than what was measured; the records also hold what failed."""
    return {name: lambda series, _, draw=draw: draw(series) for name, draw in draws.items()}


def modules(name: str) -> Iterator[tuple[str, ModuleType]]:
    """Each topic that has a module of this name (`statistics`, `figures`, `tables`) with the module, in the report's order."""
    topics = sorted(path.parent.name for folder in __path__ for path in Path(folder).glob(f"*/{name}.py"))
    for topic in sorted(topics, key=lambda topic: ORDER.index(topic) if topic in ORDER else len(ORDER)):
        yield topic, importlib.import_module(f"{__name__}.{topic}.{name}")


def with_figures() -> Iterator[ModuleType]:
    """The modules `figures` of all topics that have figures for the report, in its order."""
    return (module for _, module in modules("figures") if hasattr(module, "SECTION"))
