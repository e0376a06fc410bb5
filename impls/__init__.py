"""WHAT can be run: specs, the backend interface, and one file per backend. Imports no framework, and NumPy when needed."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import pkgutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from impls import backends
from impls.interface import Advances as Advances
from impls.interface import Backend as Backend
from impls.interface import Launch as Launch
from impls.interface import Loaded as Loaded
from impls.interface import Phase as Phase
from impls.interface import Remembers as Remembers
from impls.interface import SupportsGraph as SupportsGraph
from impls.interface import Widens as Widens
from impls.specs.recurrent import CELLS, Device, DType
from impls.specs.recurrent import GRUSpec as GRUSpec
from impls.specs.recurrent import LSTMSpec as LSTMSpec
from impls.specs.recurrent import LSTMStackSpec as LSTMStackSpec
from impls.specs.recurrent import MinLSTMSpec as MinLSTMSpec
from impls.specs.recurrent import RNNSpec as RNNSpec
from impls.specs.recurrent import Spec as Spec
from impls.specs.recurrent import SSMSpec as SSMSpec
from impls.specs.recurrent import TransformerSpec as TransformerSpec
from lstm_bench.errors import UserError

if TYPE_CHECKING:
    from impls.batch import Batch as Batch
    from impls.params import Params as Params

__all__ = [
    "Advances",
    "Backend",
    "Batch",
    "GRUSpec",
    "LSTMSpec",
    "LSTMStackSpec",
    "Launch",
    "Loaded",
    "MinLSTMSpec",
    "Params",
    "Phase",
    "RNNSpec",
    "Remembers",
    "SSMSpec",
    "Spec",
    "SupportsGraph",
    "TransformerSpec",
    "Unavailable",
    "UnknownName",
    "Unsupported",
    "Widens",
    "built_in",
    "cells",
    "devices",
    "dtypes",
    "framework",
    "get",
    "launches",
    "names",
    "packages",
    "phases",
    "searched",
    "source",
]


def __getattr__(name: str) -> Any:
    """`Batch` and `Params`, whose modules import NumPy."""
    if name in ("Batch", "Params"):
        return getattr(importlib.import_module(f"impls.{name.lower()}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


_BUILT_IN = [str(Path(__file__).parent / "backends")]


class Unavailable(UserError, RuntimeError):
    """A backend that exists but cannot run here; the message says why and what to install."""


class Unsupported(Unavailable):
    """Sizes that a backend cannot run, found out when it is called; the message begins with "unsupported: " and says what to
    use."""


class UnknownName(UserError, ValueError):
    """A name that is none of the choices; the message lists them and the nearest match."""

    def __init__(self, kind: str, name: str, choices: Iterable[str]) -> None:
        choices = sorted(choices)
        near = difflib.get_close_matches(name, choices, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        super().__init__(f"no {kind} {name!r}{hint}; choose from {', '.join(choices)}")


def names() -> list[str]:
    """Every backend's name, read from the folder `impls/backends`; imports none of them."""
    return _modules(backends.__path__)


def _modules(folders: Iterable[str]) -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(folders) if not module.name.startswith("_"))


def built_in() -> list[str]:
    """The names of the backends that come with lstm-bench."""
    return _modules(_BUILT_IN)


@contextmanager
def searched(folders: Iterable[Path]) -> Iterator[None]:
    """Within the block the backends of these folders are known beside the built-in ones, and no others; the first one of a
    name counts."""
    before = list(backends.__path__)
    backends.__path__[:] = [*_BUILT_IN, *map(str, folders)]
    try:
        yield
    finally:
        backends.__path__[:] = before


def source(name: str) -> ast.Module:
    """A backend's file, read and not run."""
    found = importlib.util.find_spec(f"impls.backends.{name}") if name in names() else None
    if found is None or found.origin is None:
        raise UnknownName("backend", name, names())
    path = Path(found.origin)
    return _parsed(path, path.stat().st_mtime_ns)


@cache
def _parsed(path: Path, modified: int) -> ast.Module:
    """A file as it was at that time; a run asks each backend's facts for every case."""
    return ast.parse(path.read_text(encoding="utf-8"))


def devices(name: str) -> tuple[str, ...]:
    """The devices a backend can ever run on: its `DEVICES`, all if it names none. Imports nothing, so it costs nothing
    to leave out a backend whose framework takes seconds to import."""
    return _literal(name, "DEVICES") or get_args(Device)


def cells(name: str) -> tuple[str, ...]:
    """The cells a backend can ever run: its `CELLS`, all if it names none. Imports nothing."""
    return _literal(name, "CELLS") or tuple(CELLS)


def dtypes(name: str) -> tuple[DType, ...]:
    """The data types a backend can ever compute in: its `DTYPES`, all if it names none. Imports nothing."""
    return cast(tuple[DType, ...], tuple(_literal(name, "DTYPES")) or get_args(DType))


def packages(name: str) -> tuple[str, ...]:
    """The packages that a backend's file says it needs: its `FRAMEWORK` and its `PACKAGE`. Imports nothing."""
    package = _literal(name, "PACKAGE")
    return (*_literal(name, "FRAMEWORK"), *([package] if isinstance(package, str) else package))


def phases(name: str) -> tuple[Phase, ...]:
    """The phases a backend can ever run: its `PHASES`, all if it names none. Imports nothing."""
    return cast(tuple[Phase, ...], _literal(name, "PHASES") or get_args(Phase))


def framework(name: str) -> str:
    """The framework a backend computes with: its `FRAMEWORK`, its own name if it names none. Imports nothing."""
    return (_literal(name, "FRAMEWORK") or (name,))[0]


def launches(name: str) -> tuple[Launch, ...]:
    """How a backend's kernels can be launched: its `LAUNCHES`, only eagerly if it names none. Imports nothing."""
    return cast(tuple[Launch, ...], _literal(name, "LAUNCHES") or ("eager",))


def _literal(name: str, variable: str) -> tuple[str, ...]:
    """A tuple (or string, or dict) that a backend's file assigns in so many words; empty where it does not."""
    for statement in source(name).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == variable:
            return ast.literal_eval(statement.value)
    return ()


def get(name: str) -> Backend:
    """Import one backend. Raises `UnknownName`, or `Unavailable` where its framework is missing or broken."""
    if name not in names():
        raise UnknownName("backend", name, names())
    try:
        return cast(Backend, importlib.import_module(f"impls.backends.{name}"))
    except ImportError as error:
        package = (error.name or str(error)).split(".")[0]
        raise Unavailable(f"{name} needs the package {package}: {error}. Install it with: pip install {package}") from error
