"""A streaming step of PyTorch's as a CUDA graph: captured once, then replayed, so that the host launches one thing a token.

A graph repeats kernels on the addresses it was captured with: the token is copied to where it reads, and the state it leaves
lies where the next replay begins. A Transformer's step has fixed shapes once its cache is full (see `transformer.Cache`); until
then, steps run as PyTorch launches them. Never run: no GPU has been at hand, and the tests replay by a stand-in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from impls import Unavailable, refusals
from impls.backend import Phase
from impls.backends import _torch
from impls.backends._torch_residual import Streaming

LAUNCH = "GraphLaunch"  # cudaGraphLaunch of the runtime, cuGraphLaunch of the driver
PREFIX = "graph of "
WARM_UPS = 3  # what libraries allocate and choose at first, they may not do while a graph is captured

Seen = TypeVar("Seen")


class Graph(Protocol):
    """What was captured; nothing of it has run yet."""

    def replay(self) -> None: ...


Capture = Callable[[Callable[[], None], Callable[[], None]], Graph]


def refuses_phase(phase: Phase) -> str | None:
    return refusals.phase(phase, "step")


def runs(eager: tuple[str, ...]) -> tuple[str, ...]:
    """What may run, from what may run without a graph."""
    return tuple(PREFIX + name for name in eager)


def capture(body: Callable[[], None], restore: Callable[[], None]) -> Graph:
    """Of what `body` launches on the device; it is run before, on a stream of its own, as capturing wants it, and undone."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            body()
            restore()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        body()
    return graph


class Replayed:
    """A network whose steps are replayed wherever they repeat. Knows no other phase.

    capture: given a step and what undoes one; returns the step's graph.
    """

    def __init__(self, network: _torch.Network, capture: Capture = capture) -> None:
        self.network, self.capture = network, capture
        self.wait, self.outputs, self.final_state = network.wait, network.outputs, network.final_state
        if network.device.type == "cuda":
            self.cuda_stream_timed = True
        self.graph: Graph | None = None
        with torch.inference_mode():
            self.token = network.tokens[0].clone()
            self.state = tuple(value.clone() for value in network.stream)

    def step(self) -> None:
        network = self.network
        if isinstance(network, Streaming) and network.cache.passed < network.cache.capacity:
            network.step()
            return
        with torch.inference_mode():
            self.graph = self.graph or self._captured()
            self.token.copy_(network.tokens[network.position % len(network.tokens)])
            self.graph.replay()
        network.position += 1
        if isinstance(network, Streaming):
            network.cache.passed += 1

    def prefill(self) -> None:
        """As of `Remembers`; the state is a new one, so the graph of the old is of no use."""
        self.network.prefill()
        self.graph, self.state = None, tuple(value.clone() for value in self.network.stream)

    def forward(self) -> None:
        raise Unavailable(refuses_phase("forward"))

    def forward_backward(self) -> None:
        raise Unavailable(refuses_phase("forward_backward"))

    def gradients(self) -> dict[str, np.ndarray]:
        raise Unavailable(refuses_phase("forward_backward"))

    def _captured(self) -> Graph:
        network = self.network
        if network.select:
            network.select()
        self.token.copy_(network.tokens[network.position % len(network.tokens)])
        restore = self._restore()
        graph = self.capture(self._body, restore)
        restore()  # what Python counted while it was captured
        network.stream = network.last = self.state
        return graph

    def _body(self) -> None:
        """One step from the token to `network.y`, its state put where it was found."""
        network = self.network
        if isinstance(network, Streaming):
            network.y = network.model.step(self.token, network.cache)
            return
        network.y, after = network.run(self.token, self.state)
        for own, new in zip(self.state, after, strict=True):
            own.copy_(new)

    def _restore(self) -> Callable[[], None]:
        """Undoes one step from here. In a cache it leaves what was written: the next step writes there before it reads."""
        network = self.network
        if not isinstance(network, Streaming):
            return _copier(self.state)
        passed, back = network.cache.passed, _copier((network.cache.position,))

        def restore() -> None:
            back()
            network.cache.passed = passed

        return restore

    def provenance(self) -> dict[str, str]:
        """What a step runs without its graph, whose replay shows no operator; a graph's if a replay is seen to launch it."""
        launched = self.graph is not None and any(LAUNCH in name for name in self._aside(self.step, self.network.names_run))
        found = self._aside(self.network.step, self.network.provenance)
        return found | {"ran": (PREFIX if launched else "no graph, but ") + found["ran"]}

    def _aside(self, call: Callable[[], None], look: Callable[[], Seen]) -> Seen:
        """What `look` finds where the network's last call is `call`; it leaves no trace in the stream."""
        network = self.network
        position, y, last = network.position, network.y, network.last
        with torch.inference_mode():
            kept, restore = y.clone(), self._restore()
            network.again = call
            found = look()
            restore()
            y.copy_(kept)
        network.position, network.y, network.last = position, y, last
        return found


def _copier(values: tuple[Tensor, ...]) -> Callable[[], None]:
    """Copies what these tensors hold now back into them."""
    kept = [value.clone() for value in values]

    def restore() -> None:
        for value, old in zip(values, kept, strict=True):
            value.copy_(old)

    return restore
