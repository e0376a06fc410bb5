"""Streams side by side that fork from PyTorch's current one and join it again, by events alone: fit for a CUDA graph."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, Self

import torch

# Lower numbers go first where blocks of several streams wait for a multiprocessor: what others wait for is on side streams.
PRIORITY = -1


class Lanes:
    """What runs side by side on a device, numbered; lane 0 is the stream that was current.

    A context manager: at its start every lane waits for what the current stream was given before, at its end the current
    stream waits for every lane. So memory that was allocated before it may be used in every lane and freed after it. Here, for
    the CPU, everything runs at once and in order.
    """

    def __init__(self, device: torch.device, count: int, purpose: str) -> None:
        self.device, self.count, self.purpose = device, count, purpose

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def on(self, lane: int) -> AbstractContextManager[object]:
        """Inside, the lane's stream is the current one."""
        return nullcontext()

    def mark(self, lane: int) -> Any:
        """The end of what the lane was given so far, to `wait` for."""
        return None

    def wait(self, lane: int, mark: Any) -> None:
        """What the lane is given from now on starts after the mark."""


class CudaLanes(Lanes):
    """On a GPU; nothing here waits on the host."""

    def __enter__(self) -> Self:
        current = torch.cuda.current_stream(self.device)
        sides = [_side(self.device, current.cuda_stream, number, self.purpose) for number in range(1, self.count)]
        self.streams = [current, *sides]
        for side in sides:
            side.wait_stream(current)
        return self

    def __exit__(self, *error: object) -> None:
        current, *sides = self.streams
        for side in sides:
            current.wait_stream(side)

    def on(self, lane: int) -> AbstractContextManager[object]:
        return torch.cuda.stream(self.streams[lane]) if lane else nullcontext()

    def mark(self, lane: int) -> torch.cuda.Event:
        event = torch.cuda.Event()
        event.record(self.streams[lane])
        return event

    def wait(self, lane: int, mark: torch.cuda.Event) -> None:
        self.streams[lane].wait_event(mark)


@cache
def _side(device: torch.device, of: int, number: int, purpose: str) -> torch.cuda.Stream:
    """Kept for the process, for each stream that forks, since a stream's workspace of cuBLAS is made when it is first used."""
    return torch.cuda.Stream(device, priority=PRIORITY)


def lanes(device: torch.device, count: int, purpose: str) -> Lanes:
    """`count` of them; one alone is the current stream. purpose: forks inside of others share no stream where theirs differ."""
    return (CudaLanes if device.type == "cuda" else Lanes)(device, count, purpose)
