"""Copies of runs in object storage, or wherever else fsspec writes: s3://, gs://, abfs://, memory://, file://.

A run is written to the disk first, where every outcome is safe as soon as it exists, and copied when it ends.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from results.store import StoreError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

INSTALL = "pip install 'lstm-bench[fleet]'"


def require(url: str) -> None:
    """Raise `StoreError` where nothing could be copied to the address, before what is to be copied costs time."""
    _opened(url)


def send(paths: Sequence[Path], root: Path, url: str) -> list[str]:
    """Copy runs, each to the place that it has below the folder of runs.

    Args:
        paths: files of runs below `root`.
        url: of a folder, which is made where it is missing.

    Returns: the address of each copy.

    Raises `StoreError`; the runs themselves are untouched.
    """
    system, folder = _opened(url)
    addresses = []
    for path in paths:
        place = f"{folder.rstrip('/')}/{path.resolve().relative_to(root.resolve()).as_posix()}"
        try:
            system.makedirs(place.rpartition("/")[0], exist_ok=True)
            system.put_file(str(path), place)
            if system.size(place) != path.stat().st_size:
                raise OSError("the copy is shorter than the run")
        except Exception as error:  # every kind of storage has kinds of its own
            raise StoreError(
                f"cannot copy {path} to {url} ({type(error).__name__}: {error}); it is kept where it is"
            ) from error
        addresses.append(str(system.unstrip_protocol(place)))
    return addresses


def _opened(url: str) -> tuple[AbstractFileSystem, str]:
    if importlib.util.find_spec("fsspec") is None:
        raise StoreError(f"copying to {url} needs fsspec, which is not installed here; install it with: {INSTALL}")
    from fsspec.core import url_to_fs

    try:
        return url_to_fs(url)
    except (ImportError, ValueError, OSError) as error:
        raise StoreError(f"cannot write to {url}: {error}") from error
