"""One run at a time on a device: two would measure each other."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import systems


class DeviceBusy(RuntimeError):
    """Another run holds the device; the message names its process."""


_held: set[Path] = set()


@contextmanager
def device_lock(device: str, folder: Path | None = None, inner: bool = False) -> Iterator[None]:
    """Hold the lock of `device` (cpu or cuda); it is freed when this process ends, however it ends.

    inner: be content if this process holds it already, as what measures is inside of what made the results' file.
    """
    if sys.platform == "win32":
        raise systems.UnsupportedSystem
    import fcntl

    path = (folder or Path(tempfile.gettempdir())) / f"lstm-bench-{device}.lock"
    if inner and path in _held:
        yield
        return
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 32).decode(errors="replace").strip() or "unknown"
            raise DeviceBusy(
                f"another run (process {holder}) is measuring on {device}; two at once would measure each other. "
                "Wait until it ends, or stop it"
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        _held.add(path)
        yield
    finally:
        _held.discard(path)
        os.close(handle)
