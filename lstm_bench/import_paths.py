"""Whose packages are imported: `impls`, `bench`, `analysis` and `results` are common words, and a user may have their own."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from lstm_bench.errors import UserError

OWN = ("impls", "bench", "analysis", "results")
HOME = Path(__file__).resolve().parent.parent  # the folder that holds `lstm_bench`, and so the others


class ForeignPackage(UserError, RuntimeError):
    """A package of ours that Python would take from elsewhere; the message gives both paths."""


def prefer_own() -> None:
    """Put the folder that holds `lstm_bench` first, so that files of the current folder do not stand in for our packages.

    For the command line alone: in a program that imports `lstm_bench` Python's path is not ours to change.

    Raises:
        ForeignPackage: One of them still comes from elsewhere.
    """
    if sys.path[:1] != [str(HOME)]:
        sys.path.insert(0, str(HOME))
    require_own()


def require_own() -> None:
    """Check where Python takes our packages from; nothing is imported, and no path is changed.

    Raises:
        ForeignPackage: One of them comes from elsewhere.
    """
    for name in OWN:
        found, own = _found(name), HOME / name
        if found is None or own not in (found, *found.parents):
            place = "nowhere" if found is None else str(found)
            raise ForeignPackage(
                f"Python takes the package {name} from {place}, and lstm-bench needs its own at {own}; rename the other one, "
                "take it off Python's path, or install lstm-bench into an environment of its own"
            )


def _found(name: str) -> Path | None:
    """Where Python would take a package from, or has taken it from; nothing is imported."""
    if name in sys.modules:
        place = getattr(sys.modules[name], "__file__", None)
    else:
        found = importlib.util.find_spec(name)
        place = None if found is None else found.origin or next(iter(found.submodule_search_locations or ()), None)
    return None if place is None else Path(place).resolve()
