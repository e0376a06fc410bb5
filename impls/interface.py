"""What every backend promises: a module with `RUNS`, `refuses` and `load`, and what `load` returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol

from impls.specs.recurrent import Spec

if TYPE_CHECKING:  # so that what only names backends imports no NumPy
    import numpy as np

    from impls.batch import Batch
    from impls.params import Params

Phase = Literal["forward", "forward_backward", "step"]
Launch = Literal["eager", "graph"]  # how a call's kernels are launched: one by one, or all by one CUDA graph
GRAPH_OF = "graph of "  # stands in provenance before what a graph replays


class Loaded(Protocol):
    """A network on its device with its parameters and one batch resident.

    `forward`, `forward_backward` and `step` may return before the device is done; `wait` may not.
    Everything below `wait` is never timed.
    """

    def forward(self) -> None:
        """The whole batch, inference only: nothing is kept for a backward pass."""
        ...

    def forward_backward(self) -> None:
        """One training step's gradients: forward, then the batch's cotangents sent back through it."""
        ...

    def step(self) -> None:
        """One streaming step of every sequence: reads x[t mod T], carries the state on from the last step."""
        ...

    def wait(self) -> None:
        """Return once everything launched before has finished on the device."""
        ...

    def outputs(self) -> np.ndarray:
        """Outputs of the last call on the host: [T, B, D·R], or [1, B, D·R] after `step`."""
        ...

    def final_state(self) -> dict[str, np.ndarray]:
        """State after the last call: `h_n` [L·D, B, R], and for an LSTM `c_n` [L·D, B, H]."""
        ...

    def gradients(self) -> dict[str, np.ndarray]:
        """Of the last `forward_backward`: every parameter under its own name, and `x`, `h0`, (LSTM) `c0`."""
        ...

    def provenance(self) -> dict[str, str]:
        """What really ran. The key `ran` must be one of the backend's `RUNS`; further keys are free."""
        ...


class Remembers(Loaded, Protocol):
    """A loaded network whose stream can be set to where the batch leaves it. One whose cost grows with context has to."""

    def prefill(self) -> None:
        """As T calls of `step` from the start would, in one pass; the next `step` reads x[0] again."""
        ...


class Advances(Loaded, Protocol):
    """A loaded network whose stream can take many tokens in one call."""

    def advance(self, tokens: int) -> None:
        """As so many calls of `step`, the states of all layers carried on. Raises `ValueError` unless `tokens` divides T."""
        ...


class Widens(Loaded, Protocol):
    """A loaded network that can go on with another number of streams, to see how many fit."""

    def widen(self, streams: int, context: int) -> None:
        """So many streams with `context` tokens behind each; tokens and states are zero. Lets go of those before first."""
        ...


class SupportsGraph(Loaded, Protocol):
    """A loaded network whose calls can be captured in a CUDA graph. One of a backend whose `LAUNCHES` say so has to."""

    def capture(self, phase: Phase) -> Callable[[], None]:
        """A function that does as a call of `phase` does, by launching one CUDA graph. Captures at its first call.

        The graph reads the inputs and weights where they lie, so it follows what is changed in place. Outputs, final state
        and gradients are read as after the call itself. `provenance` after it says "graph of …" in `ran`, and only if a graph
        was seen to be launched. Raises `Unavailable` where the network cannot be captured.
        """
        ...


class Backend(Protocol):
    """A module `impls/backends/<name>.py`; the file name is the name everybody uses.

    RUNS       what may legitimately run under this name; anything else is a fall-back and is never timed.
    DEVICES    optional, a literal: the devices it can ever run on, so that it need not be imported to be refused.
    CELLS      optional, a literal: the cells it can ever run, likewise.
    PHASES     optional, a literal: the phases it can ever run, likewise.
    FRAMEWORK  optional, a literal of one name: the framework that holds the device's memory, where several backends share it.
    LAUNCHES   optional, a literal: how its kernels can be launched, likewise; only "eager" if it names none. With "graph"
               in it, what `load` returns `SupportsGraph`, and what runs is one of `RUNS` after "graph of ".
    """

    RUNS: tuple[str, ...]

    def refuses(self, spec: Spec, phase: Phase, ragged: bool) -> str | None:
        """A full sentence with the remedy where this backend cannot do what is asked, else None."""
        ...

    def load(self, spec: Spec, params: Params, batch: Batch) -> Loaded: ...


def allowed_runs(backend: Backend, launch: Launch) -> tuple[str, ...]:
    """What may legitimately run where a backend's kernels are launched so."""
    return tuple(GRAPH_OF + name for name in backend.RUNS) if launch == "graph" else backend.RUNS
