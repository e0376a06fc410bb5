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
    """A network on its device with its weights and one batch: what a backend's `load` returns.

    Shapes: T steps, B sequences, I inputs, H units, P the projection, R = P or H, L layers, D directions. `forward`,
    `forward_backward` and `step` may return before the device is done; `wait` may not. What stands below `wait` is never timed.
    """

    def forward(self) -> None:
        """Compute the outputs and final state of the whole batch, for inference: nothing is kept for a backward pass."""
        ...

    def forward_backward(self) -> None:
        """Compute the gradients of one training step: forward, then the batch's cotangents backward."""
        ...

    def step(self) -> None:
        """Compute one step of every sequence from x[t mod T], t the number of steps so far, and carry the state on."""
        ...

    def wait(self) -> None:
        """Return when everything launched before has finished on the device."""
        ...

    def outputs(self) -> np.ndarray:
        """Copy the outputs of the last call to the host.

        Returns:
            [T, B, D·R] after a whole batch, [1, B, D·R] after `step`; 16-bit values as float32 or as they are.
        """
        ...

    def final_state(self) -> dict[str, np.ndarray]:
        """Copy the state after the last call to the host.

        Returns:
            `h_n` [L·D, B, R], and for an LSTM `c_n` [L·D, B, H]; of other cells those of `spec.state_shapes` with `_n`.
        """
        ...

    def gradients(self) -> dict[str, np.ndarray]:
        """Copy the gradients of the last `forward_backward` to the host.

        Returns:
            every parameter's under its own name and in its shape, and those of `x` [T, B, I], `h0` [L·D, B, R] and, for an
            LSTM, `c0` [L·D, B, H].
        """
        ...

    def provenance(self) -> dict[str, str]:
        """Say what really ran, found by looking (a profiler, a counter of launches) and not from what was asked.

        Returns:
            `ran`, one of the backend's `RUNS`; further keys (versions, plans) are free.
        """
        ...


class SupportsPrefill(Loaded, Protocol):
    """A loaded network whose `step` can start behind the whole batch. One whose cost of a step grows with context has to."""

    def prefill(self) -> None:
        """Leave the state that T calls of `step` would leave, in one pass over the batch; the next `step` reads x[0]."""
        ...


class SupportsMultiStep(Loaded, Protocol):
    """A loaded network that takes several steps in one call."""

    def advance(self, tokens: int) -> None:
        """Compute as many steps as `tokens` calls of `step` would, the states of all layers carried on.

        Args:
            tokens: number of steps; a divisor of T.

        Raises:
            ValueError: `tokens` does not divide T.
        """
        ...


class SupportsBatchResize(Loaded, Protocol):
    """A loaded network that continues with another number of sequences, to find how many fit on the device."""

    def widen(self, streams: int, context: int) -> None:
        """Replace the sequences by others, with inputs and states of zeros; the memory of those before is freed first.

        Args:
            streams: number of sequences, the new B.
            context: tokens that each has behind it.
        """
        ...


class SupportsGraph(Loaded, Protocol):
    """A loaded network whose calls can be captured in a CUDA graph. One of a backend whose `LAUNCHES` say so has to."""

    def capture(self, phase: Phase) -> Callable[[], None]:
        """Give a function that does what a call of `phase` does by launching one CUDA graph, captured at its first call.

        The graph reads the inputs and weights where they lie, so it follows what is changed in place. Outputs, final state
        and gradients are read as after the call itself. `provenance` after it says "graph of …" in `ran`, and only if a graph
        was seen to be launched.

        Args:
            phase: the call: `forward`, `forward_backward` or `step`.

        Returns:
            the function, the same at every request.

        Raises:
            Unavailable: the network cannot be captured, or its device has no graphs.
        """
        ...


class Backend(Protocol):
    """A module `impls/backends/<name>.py`; the file's name is the backend's.

    All but RUNS are optional; each is a literal that is read without importing the file (`impls.facts`).

    Attributes:
        RUNS: what may run under this name; anything else is a fall-back and is never timed.
        DEVICES: the devices it can ever run on.
        CELLS: the cells it can ever run.
        DTYPES: the data types it can ever compute in.
        PHASES: the phases it can ever run.
        LAUNCHES: how its kernels can be launched; only "eager" if it names none. With "graph" in it, what `load` returns
            `SupportsGraph`, and what runs is one of `RUNS` after "graph of ".
        FRAMEWORK: one name: the framework that holds the device's memory, where several backends share it.
        PACKAGE: the package that it imports beside its framework.
        DISTRIBUTION: what pip installs for that package, where it has another name.
        ON_REQUEST: True where it is measured only if it is named, and belongs to no suite.
        ON_REQUEST_ON: the devices on which that holds, where it does not on all.
        PRECISION: what it computes in, where that is less exact than the data type of its cases: "int8". Its answers are held
            to the tolerance of that precision, its metrics are named `reduced_…`, and it is ranked with no other backend.
    """

    RUNS: tuple[str, ...]

    def refuses(self, spec: Spec, phase: Phase, ragged: bool) -> str | None:
        """Say why this backend cannot run a network here.

        Args:
            spec: the network, its device and data type.
            phase: the call.
            ragged: whether sequences have lengths of their own.

        Returns:
            a sentence with the remedy, or None where it can.
        """
        ...

    def load(self, spec: Spec, params: Params, batch: Batch) -> Loaded:
        """Put a network with its weights and one batch on its device.

        Args:
            spec: the network, its device and data type.
            params: float64 weights under the names and in the shapes of `spec.parameter_shapes()`.
            batch: float64 inputs, states and cotangents; all are cast to the spec's data type.

        Raises:
            Unavailable: the device or a package is missing.
            InvalidParams, InvalidBatch: the data do not fit the spec.
        """
        ...


def allowed_runs(backend: Backend, launch: Launch) -> tuple[str, ...]:
    """What may run where a backend's kernels are launched so: its `RUNS`, after "graph of " for a graph."""
    return tuple(GRAPH_OF + name for name in backend.RUNS) if launch == "graph" else backend.RUNS
