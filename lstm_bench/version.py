"""The version of this package."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed

UNINSTALLED = "0+checkout"  # a checkout that is not installed has no metadata to ask


def version() -> str:
    try:
        return installed("lstm-bench")
    except PackageNotFoundError:
        return UNINSTALLED
