"""What the commands say about the machine before they measure, who holds it and that it is noisy; and the options for that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lstm_bench.terminal import say

if TYPE_CHECKING:
    from bench.machine.noise import Reading

Wait = Annotated[bool, typer.Option("--wait", help="Wait where another run is measuring here, instead of refusing.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print cases, backends and predicted time; measure nothing, and need no GPU.")
]


@contextmanager
def announced(wait: bool = False, read: Callable[[], Reading] | None = None) -> Iterator[None]:
    """Measure under this: a busy device is waited for if `wait`, and a noisy machine is said, once, when the device is ours.

    Args:
        wait: wait for a run that holds the device; without it `bench.machine.lock.DeviceBusy` is raised.
        read: takes the reading of the machine's noise; `bench.machine.noise.read` if None.
    """
    from bench.machine import lock, noise

    said: list[str | None] = []

    def on_acquired() -> None:
        if not said:  # a command that measures several runs takes the device for each
            said.append(noise.sentence((read or noise.read)()))
            if said[0]:
                say(said[0])

    with lock.policy(lock.Policy(say if wait else None, on_acquired)):
        yield


def say_noise_of(paths: Sequence[Path]) -> None:
    """Say that the machine was noisy while these runs were measured, where their conditions show it."""
    from bench.machine import noise
    from results import store

    if said := noise.sentence_after([record for path in paths for record in store.read(path).records]):
        say(said)
