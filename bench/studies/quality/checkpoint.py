"""Checkpoints: written whole or not at all, sealed by a hash, read only by the configuration that wrote them."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from pathlib import Path
from typing import Any

import torch

SEAL = b"lstm-bench checkpoint 1\n"  # then the SHA-256 of what follows


class BadCheckpoint(RuntimeError):
    """A checkpoint of another configuration, or one that cannot be read; the message says which and what to do."""


def save(path: Path, configuration: dict[str, Any], state: dict[str, Any]) -> None:
    """Beside its place first, on the disk, and only then in it: a kill at any moment leaves the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    content = io.BytesIO()
    torch.save({"configuration": configuration, "state": state}, content)
    with beside.open("wb") as file:
        file.write(SEAL + hashlib.sha256(content.getvalue()).digest() + content.getvalue())
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def load(path: Path, configuration: dict[str, Any]) -> dict[str, Any]:
    """The state that `save` was given. Raises `BadCheckpoint`."""
    try:
        found = torch.load(io.BytesIO(_unsealed(path.read_bytes())), map_location="cpu", weights_only=True)
        there, state = found["configuration"], found["state"]
    except (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError, KeyError, TypeError) as error:
        raise BadCheckpoint(
            f"checkpoint {path} cannot be read: it is half written or damaged ({type(error).__name__}); "
            "delete it to train from the beginning"
        ) from error
    differing = sorted(name for name in {*there, *configuration} if there.get(name) != configuration.get(name))
    if differing:
        said = ", ".join(f"{name} {there.get(name)!r}, here {configuration.get(name)!r}" for name in differing)
        raise BadCheckpoint(f"checkpoint {path} is of another training: {said}; delete it to train from the beginning")
    return state


def _unsealed(content: bytes) -> bytes:
    start = len(SEAL) + hashlib.sha256().digest_size
    if content[: len(SEAL)] != SEAL or content[len(SEAL) : start] != hashlib.sha256(content[start:]).digest():
        raise ValueError("its seal is broken")
    return content[start:]
