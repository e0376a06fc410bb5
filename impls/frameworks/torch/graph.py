"""Which kernels ran, by PyTorch's profiler, and calls captured in a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar, cast

import torch
from torch import Tensor

from impls import Unavailable, frameworks
from impls.interface import GRAPH_OF, Phase

# What a call runs, by PyTorch's profiler.


def names_of(call: Callable[[], None], device: torch.device) -> list[str]:
    """Every operator, call of CUDA's runtime and kernel of one call; the call may have been seen by another process of the run
    (see `impls.frameworks`)."""
    return frameworks.profiled_names(lambda: _seen(call, device))


def _seen(call: Callable[[], None], device: torch.device) -> list[str]:
    if device.type != "cuda":
        # `torch.profiler` would import 800 modules on first use, among them Dynamo: more than a second a process.
        profile = torch.autograd.profiler.profile()
        with profile:
            call()
        return [event.name for event in profile.function_events or ()]
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        call()
        torch.cuda.synchronize(device)
    return [event.name for event in profile.events() or ()]


# CUDA graphs of a network of PyTorch tensors: captured once, then replayed, so that the host launches one thing a call.
#
# A graph repeats kernels on the addresses they were captured with. Inputs and weights are read where they lie; outputs,
# states and gradients are the same tensors after every replay; a streaming step's token is copied to where the graph reads
# it, and the state it leaves lies where the next replay begins.

LAUNCH = "GraphLaunch"  # cudaGraphLaunch of the runtime, cuGraphLaunch of the driver
WARM_UPS = 3  # what libraries allocate, compile and choose at first, they may not do while a graph is captured


Answer = TypeVar("Answer")


class Graph(Protocol):
    """What was captured; nothing of it has run yet."""

    def replay(self) -> None: ...


class Replay(Generic[Answer]):
    """A call that launches one graph.

    body: what is captured, at the first call; returns the tensors it leaves its answer in.
    show: what is done with them after each launch.
    prepare: puts in place what the graph reads, before each launch.
    undo: asked before capturing; returns what undoes one run of `body`.
    scale: multiplies the inputs in place. While a graph is captured they are not those it will be launched on, so that what
           is fixed then (a number that Python computed, a tensor that the graph does not write) gives a wrong answer later.
    """

    def __init__(
        self,
        device: torch.device,
        body: Callable[[], Answer],
        show: Callable[[Answer], None],
        prepare: Callable[[], None] = lambda: None,
        undo: Callable[[], Callable[[], None]] = lambda: lambda: None,
        scale: Callable[[float], object] = lambda factor: None,
    ) -> None:
        self.device, self.body, self.show, self.prepare, self.undo, self.scale = device, body, show, prepare, undo, scale
        self.graph: Graph | None = None
        self.answer: Answer | None = None

    def __call__(self) -> None:
        self.prepare()
        graph = self.graph
        if graph is None:
            graph = self.graph = self._captured()
        graph.replay()
        self.show(cast(Answer, self.answer))

    def _captured(self) -> Graph:
        restore = self.undo()

        def body() -> None:
            self.answer = None  # lets go of the last run's before there is another
            self.answer = self.body()

        self.scale(-2.0)
        try:
            graph = record(body, restore, self.device)
        finally:
            self.scale(-0.5)  # exact: by powers of two
        restore()  # what Python counted while it was captured
        return graph


class GraphCalls:
    """A network's calls that launch graphs, one for each phase.

    make: a call of the phase, not yet captured.
    done: told of a call after each time it was made.
    """

    def __init__(self, make: Callable[[Phase], Callable[[], None]], done: Callable[[Callable[[], None]], None]) -> None:
        self.make, self.done = make, done
        self.calls: dict[Phase, Callable[[], None]] = {}
        self.captured: dict[Phase, Callable[[], None]] = {}

    def of(self, phase: Phase) -> Callable[[], None]:
        """The same function every time it is asked for."""

        def call() -> None:
            if phase not in self.captured:
                self.captured[phase] = self.make(phase)
            self.captured[phase]()
            self.done(call)

        return self.calls.setdefault(phase, call)

    def phase_of(self, call: Callable[[], None]) -> Phase | None:
        """The phase that this call launches a graph of, or None."""
        return next((phase for phase, own in self.calls.items() if own is call), None)

    def forget(self) -> None:
        """What was captured reads tensors that are no longer the network's; the next call captures anew."""
        self.captured.clear()


def record(body: Callable[[], None], restore: Callable[[], None], device: torch.device) -> Graph:
    """The graph of what `body` launches on the device, captured as PyTorch's notes on CUDA graphs ask.

    body: is run `WARM_UPS` times on a stream of its own, then captured on that stream, for which cuBLAS then has its workspace.
    restore: undoes one run of it.
    """
    if device.type != "cuda":
        raise Unavailable(f"a CUDA graph is launched on a GPU, not on {device.type}; ask for launch=eager")
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            body()
            restore()
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side):
        body()
    return graph


def ran(names: Sequence[str], inside: str) -> str:
    """For `provenance`: what a call that left these names in the profiler ran, by what its graph was captured from."""
    return GRAPH_OF + inside if any(LAUNCH in name for name in names) else f"no graph, but {inside}"


def copy(into: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for own, new in zip(into, values, strict=True):
        own.copy_(new)


def copier(values: Sequence[Tensor]) -> Callable[[], None]:
    """Copies what these tensors hold now back into them."""
    with torch.inference_mode():
        kept = [value.clone() for value in values]

    def restore() -> None:
        with torch.inference_mode():
            copy(values, kept)

    return restore
