"""A stand-in for a CUDA graph on a CPU: it records PyTorch's operators with the very tensors they read and wrote.

As a CUDA graph it repeats operators on addresses, not Python: a number that Python computed while it was captured stays what it
was, and a tensor that no operator writes to is read as it is. What was captured has not run: what it wrote over is put back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from impls.cuda.runtime import Launch, Launcher


class Graph(TorchDispatchMode):
    """launches: whether a replay shows itself to the profiler, as CUDA's does."""

    capturing: ClassVar[Graph | None] = None

    def __init__(
        self, body: Callable[[], None], restore: Callable[[], None], device: torch.device, launches: bool = True
    ) -> None:
        super().__init__()
        assert device.type == "cpu"
        for _ in range(3):
            body()
            restore()
        self.launches, self.recorded, self.replays = launches, [], 0
        self.before: list[tuple[Tensor, Tensor]] = []
        Graph.capturing = self
        try:
            with self:
                body()
        finally:
            Graph.capturing = None
        with torch.inference_mode():
            for written, value in reversed(self.before):
                written.copy_(value)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        names = [each.name for each in func._schema.arguments if each.alias_info is not None and each.alias_info.is_write]
        places = [index for index, each in enumerate(func._schema.arguments) if each.name in names]
        self.before += [(args[place], args[place].clone()) for place in places if place < len(args)]
        found = func(*args, **kwargs)
        self.keep(func, args, kwargs, found)
        return found

    def keep(self, func: Any, args: Any, kwargs: Any, found: Any) -> None:
        self.recorded.append((func, args, kwargs, found, torch.is_inference_mode_enabled(), torch.is_grad_enabled()))

    def replay(self) -> None:
        self.replays += 1
        if not self.launches:
            self._replay()
            return
        with torch.profiler.record_function("cudaGraphLaunch"):
            self._replay()

    def _replay(self) -> None:
        for func, args, kwargs, found, infers, differentiates in self.recorded:
            # Below autograd, as when it was recorded. Some operators keep less for a backward pass that nobody wants.
            with torch.inference_mode(infers), torch.set_grad_enabled(differentiates), torch._C._AutoDispatchBelowAutograd():
                again = func(*args, **kwargs)
                self._put(found, again)

    @staticmethod
    def _put(found: Any, again: Any) -> None:
        for old, new in zip(tree_leaves(found), tree_leaves(again), strict=True):
            if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                old.copy_(new)


class Recorded:
    """A launcher whose launches are part of the graph that is captured, with the arguments as they were then."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher

    def __call__(self, launch: Launch) -> None:
        graph = Graph.capturing
        with _disable_current_modes():
            if graph is not None:
                graph.before += [(tensor, tensor.clone()) for tensor in launch.writes]
            self.launcher(launch)
        if graph is not None:
            kept = replace(launch, arguments=type(launch.arguments).from_buffer_copy(launch.arguments))
            graph.keep(self.launcher, (kept,), {}, None)


class Repeated:
    """For compiled functions, which Dynamo does not call while operators are recorded: a replay runs Python again.

    It hides what a graph may get wrong and shows only that a call is captured, launched and told of.
    """

    def __init__(self, body: Callable[[], None], restore: Callable[[], None], device: torch.device) -> None:
        for _ in range(3):
            body()
            restore()
        self.body, self.replays = body, 0

    def replay(self) -> None:
        self.replays += 1
        with torch.profiler.record_function("cudaGraphLaunch"):
            self.body()
