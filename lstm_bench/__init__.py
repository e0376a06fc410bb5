"""The command line and the public Python API. Importing it imports no framework: each name is loaded when it is first used.

import lstm_bench

table = lstm_bench.measure({"mine": f, "theirs": g})     # your own callables, interleaved, with intervals
run = lstm_bench.run("smoke")                            # as `lstm-bench run smoke`
run = lstm_bench.load()                                  # the newest run on disk
outcome = lstm_bench.compare("main", ".")                # as `lstm-bench compare main`
layer = lstm_bench.LSTM(256, 512)                        # a drop-in for torch.nn.LSTM on our CUDA kernels
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from impls.cuda.torch.module import LSTM
    from lstm_bench.api import compare, load, run
    from lstm_bench.measuring import measure

    __version__: str

__all__ = ["LSTM", "__version__", "compare", "load", "measure", "run"]
if not TYPE_CHECKING and importlib.util.find_spec("torch") is None:
    __all__.remove("LSTM")  # lest `from lstm_bench import *` fail where PyTorch is not installed

_PLACES = {
    "LSTM": "impls.cuda.torch.module",
    "compare": "lstm_bench.api", "load": "lstm_bench.api", "run": "lstm_bench.api",
    "measure": "lstm_bench.measuring",
}  # fmt: skip


UNINSTALLED = "0+checkout"  # the version of a checkout that is not installed, which has no metadata to ask


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("lstm-bench")
    except PackageNotFoundError:
        return UNINSTALLED


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lstm_bench import import_paths

    import_paths.require_own()
    try:
        return getattr(importlib.import_module(_PLACES[name]), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ModuleNotFoundError(
            f"lstm_bench.{name} needs PyTorch, which is not installed here; install it with: pip install torch", name="torch"
        ) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
