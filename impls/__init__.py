"""What can be run: specs, the interface of backends, and one file per backend.

Importing this imports no framework, and NumPy only when `Batch` or `Params` is read.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import pkgutil
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from impls import backends
from impls.interface import Backend as Backend
from impls.interface import Launch as Launch
from impls.interface import Loaded as Loaded
from impls.interface import Phase as Phase
from impls.interface import SupportsBatchResize as SupportsBatchResize
from impls.interface import SupportsGraph as SupportsGraph
from impls.interface import SupportsMultiStep as SupportsMultiStep
from impls.interface import SupportsPrefill as SupportsPrefill
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
    "Backend",
    "BackendFacts",
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
    "SSMSpec",
    "Spec",
    "SupportsBatchResize",
    "SupportsGraph",
    "SupportsMultiStep",
    "SupportsPrefill",
    "TransformerSpec",
    "Unavailable",
    "UnknownName",
    "Unsupported",
    "built_in",
    "facts",
    "get",
    "names",
    "offered",
    "searched",
    "table",
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
    """Sizes that a backend cannot run, found when it is called; the message begins with "unsupported: " and says what
    to use."""


class UnknownName(UserError, ValueError):
    """A name that is none of the choices; the message lists them and the nearest match."""

    def __init__(self, kind: str, name: str, choices: Iterable[str]) -> None:
        choices = sorted(choices)
        near = difflib.get_close_matches(name, choices, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        super().__init__(f"no {kind} {name!r}{hint}; choose from {', '.join(choices)}")


def names() -> list[str]:
    """The names of all backends, sorted: the files of `impls/backends` and of the folders `searched`. Imports none of them."""
    return _modules(backends.__path__)


def _modules(folders: Iterable[str]) -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(folders) if not module.name.startswith("_"))


def offered(device: str) -> list[str]:
    """The names of the backends that are measured on a device where none is named: all but those that run on request alone."""
    return [name for name, known in table().items() if not known.on_request and device not in known.on_request_on]


def built_in() -> list[str]:
    """The names of the backends that come with lstm-bench."""
    return _modules(_BUILT_IN)


@contextmanager
def searched(folders: Iterable[Path]) -> Iterator[None]:
    """Within the block, know the backends of these folders beside the built-in ones, and no others.

    Args:
        folders: each file in them is a backend; of several with one name the first counts.
    """
    before = list(backends.__path__)
    backends.__path__[:] = [*_BUILT_IN, *map(str, folders)]
    try:
        yield
    finally:
        backends.__path__[:] = before


@dataclass(frozen=True, slots=True)
class BackendFacts:
    """What a backend's file says of the backend in literals; reading it imports nothing.

    Attributes:
        name: of the file.
        summary: the first line of its docstring.
        devices, cells, dtypes, phases: all that it can ever run; everything there is where the file names none.
        launches: how its kernels can be launched; only "eager" where it names none.
        framework: which holds the device's memory, its own name where it names none.
        packages: that it imports beside those every installation has.
        distribution: what pip installs for its own `PACKAGE`, the package's name where the file names none.
        on_request: whether it is measured only if it is named.
        on_request_on: the devices on which it is measured only if it is named.
        precision: what it computes in, where that is less exact than the data type of its cases; else None.
    """

    name: str
    summary: str
    devices: tuple[Device, ...]
    cells: tuple[str, ...]
    dtypes: tuple[DType, ...]
    phases: tuple[Phase, ...]
    launches: tuple[Launch, ...]
    framework: str
    packages: tuple[str, ...]
    distribution: str | None
    on_request: bool = False
    on_request_on: tuple[str, ...] = ()
    precision: str | None = None

    def install_command(self, package: str) -> str:
        """The command that installs one of its packages."""
        own = package == self.packages[-1] and self.distribution
        return f"pip install {shlex.quote(own or package)}"


def table() -> dict[str, BackendFacts]:
    """The static facts of every backend, by its name."""
    return {name: facts(name) for name in names()}


def facts(name: str) -> BackendFacts:
    """The static facts of a backend, read from its file without importing it.

    Raises:
        UnknownName: there is no such backend.
        SyntaxError, ValueError: its file cannot be read, or a fact is no literal.
    """
    found = importlib.util.find_spec(f"impls.backends.{name}") if name in names() else None
    if found is None or found.origin is None:
        raise UnknownName("backend", name, names())
    path = Path(found.origin)
    return _read(name, path, path.stat().st_mtime_ns)


@cache
def _read(name: str, path: Path, modified: int) -> BackendFacts:
    """Of a file as it was at that time; a run asks for each backend's facts at every case."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    framework, package = _strings(tree, "FRAMEWORK"), _strings(tree, "PACKAGE")
    return BackendFacts(
        name,
        (ast.get_docstring(tree) or "").partition("\n")[0],
        cast(tuple[Device, ...], _strings(tree, "DEVICES") or get_args(Device)),
        _strings(tree, "CELLS") or tuple(CELLS),
        cast(tuple[DType, ...], _strings(tree, "DTYPES") or get_args(DType)),
        cast(tuple[Phase, ...], _strings(tree, "PHASES") or get_args(Phase)),
        cast(tuple[Launch, ...], _strings(tree, "LAUNCHES") or ("eager",)),
        (framework or (name,))[0],
        (*framework, *package),
        (*_strings(tree, "DISTRIBUTION"), *package, None)[0],
        _literal(tree, "ON_REQUEST") is True,
        _strings(tree, "ON_REQUEST_ON"),
        (*_strings(tree, "PRECISION"), None)[0],
    )


def _strings(tree: ast.Module, variable: str) -> tuple[str, ...]:
    """What a file assigns to a variable as a literal: a string, or a tuple or dict of them; empty where it does not."""
    value = _literal(tree, variable)
    return () if value is None else (value,) if isinstance(value, str) else tuple(value)


def _literal(tree: ast.Module, variable: str) -> Any:
    """What a file assigns to a variable as a literal; None where it does not."""
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == variable:
            return ast.literal_eval(statement.value)
    return None


def get(name: str) -> Backend:
    """Import a backend.

    Raises:
        UnknownName: there is no such backend.
        Unavailable: a package that it imports is missing or broken.
    """
    if name not in names():
        raise UnknownName("backend", name, names())
    try:
        return cast(Backend, importlib.import_module(f"impls.backends.{name}"))
    except ImportError as error:
        package = (error.name or str(error)).split(".")[0]
        raise Unavailable(f"{name} needs the package {package}: {error}. Install it with: pip install {package}") from error
