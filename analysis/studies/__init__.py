"""A folder a study: its statistics and figures.

They are found by what a topic's modules define. `__init__.py`, its statistics: QUANTITIES, by name, each an
`analysis.statistics.quantities.Quantity`, which claims may be judged by. `figures.py`: SECTION, the id and the title of the
group that its figures join, and FIGURES, by name, each drawn of a section's series and records, or None where there is nothing
to show; perhaps TABLE, a function of the series that makes a table, with a sentence about it, and CARDS, one that
makes cards.
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


def topics() -> Iterator[tuple[str, ModuleType]]:
    """The name and the package of each topic, in the report's order."""
    names = sorted(path.parent.name for folder in __path__ for path in Path(folder).glob("*/__init__.py"))
    for name in sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER)):
        yield name, importlib.import_module(f"{__name__}.{name}")


def modules(name: str) -> Iterator[tuple[str, ModuleType]]:
    """Each topic that has a module of this name (`figures`, `tables`) with the module, in the report's order."""
    for topic, package in topics():
        if any((Path(folder) / f"{name}.py").exists() for folder in package.__path__):
            yield topic, importlib.import_module(f"{package.__name__}.{name}")


def with_figures() -> Iterator[ModuleType]:
    """The modules `figures` of all topics that have figures for the report, in its order."""
    return (module for _, module in modules("figures") if hasattr(module, "SECTION"))
