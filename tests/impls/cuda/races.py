"""Which accesses to memory the streams of a call do not order: a recorder in the place of `streams.lanes`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from impls.cuda.runtime import Launch
from impls.cuda.runtime.streams import Lanes

Clock = dict[int, int]  # of each lane how much of it has been waited for
UNIT = 2  # bytes, the least item
# What each kernel touches of a row through its pointers: (bytes a unit; None: of the layer's dtype), gates of it, or y's pitch.
READS = {
    "lstm_gemm_step_forward": ("gates", "c", "h", "lengths"),
    "lstm_gemm_step_backward": ("gates", "cells", "c_before", "grad_y", "product", "grad_h", "grad_c", "lengths"),
}
WRITES = {
    "lstm_gemm_step_forward": ("c_next", "h_next", "y", "cells"),
    "lstm_gemm_step_backward": ("grad_gates", "grad_h_next", "grad_c_next"),
}
FLOATS = {"c", "c_next", "cells", "c_before", "grad_h", "grad_c", "grad_h_next", "grad_c_next"}


WAITING = ("aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::masked_select", "aten::equal")


class Race(AssertionError):
    """Two accesses of different lanes that nothing orders, memory that a side lane allocates, or a wait on the host."""


@dataclass
class Recorder:
    """A launcher that computes nothing, and what the lanes are given, in the order of a vector clock a lane.

    without: what the lanes leave out, of `fork`, `join` and `wait`; with a number, the waits of that lane alone.
    may_allocate: lanes beside that of the caller may, since their memory is kept until they were joined.
    """

    item: int = 2
    without: str = ""
    may_allocate: bool = False
    lane: int = 0
    clocks: dict[int, Clock] = field(default_factory=lambda: {0: {0: 0}})
    sides: dict[tuple[int, int, str], int] = field(default_factory=dict)  # lanes by what `streams._side` keeps them by
    kept: list[Tensor] = field(default_factory=list)  # all, so that no address stands for two of them
    written: dict[int, tuple[int, int]] = field(default_factory=dict)
    read: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    lanes_used: set[int] = field(default_factory=set)

    def __call__(self, launch: Launch) -> None:
        arguments, name = launch.arguments, launch.kernel.function
        of, rows, hidden = arguments.directions[0], arguments.rows, arguments.hidden
        self._begin()

        def places(names: tuple[str, ...]) -> Iterator[int]:
            for each in names:
                start = getattr(of, each)
                if start is None:
                    continue
                item = 4 if each in FLOATS else self.item
                width = hidden * (4 if each in ("gates", "grad_gates") else 1) * item
                width = 4 if each == "lengths" else width
                pitch = arguments.y_stride * item if each in ("y", "grad_y") else width
                for row in range(rows):
                    yield from range(start + row * pitch, start + row * pitch + width, UNIT)

        for place in places(READS[name]):
            self.reads(place)
        written = WRITES[name] + (("gates",) if name.endswith("forward") and arguments.save else ())
        for place in places(written):
            self.writes(place)

    def _begin(self) -> None:
        self.lanes_used.add(self.lane)
        clock = self.clocks[self.lane]
        clock[self.lane] = clock.get(self.lane, 0) + 1

    def reads(self, place: int) -> None:
        self._after(self.written.get(place), "reads what")
        self.read.setdefault(place, []).append((self.lane, self.clocks[self.lane][self.lane]))

    def writes(self, place: int) -> None:
        self._after(self.written.get(place), "writes over what")
        for access in self.read.pop(place, ()):
            self._after(access, "writes over what is read and")
        self.written[place] = self.lane, self.clocks[self.lane][self.lane]

    def _after(self, access: tuple[int, int] | None, what: str) -> None:
        if access is not None and self.clocks[self.lane].get(access[0], 0) < access[1]:
            raise Race(f"lane {self.lane} {what} lane {access[0]} touches, and waits for it nowhere")

    def lanes(self, device: torch.device, count: int, purpose: str) -> Lanes:
        """In the place of `streams.lanes`."""
        return _Recorded(self, count, purpose)


class _Recorded(Lanes):
    def __init__(self, recorder: Recorder, count: int, purpose: str) -> None:
        super().__init__(torch.device("cpu"), count, purpose)
        self.recorder = recorder

    def __enter__(self):
        of, sides, clocks = self.recorder.lane, self.recorder.sides, self.recorder.clocks
        self.ids = [of, *(sides.setdefault((of, number, self.purpose), len(sides) + 1) for number in range(1, self.count))]
        for side in self.ids[1:]:
            _merge(clocks.setdefault(side, {}), {} if self.recorder.without == "fork" else clocks[of])
        return self

    def __exit__(self, *error: object) -> None:
        for side in self.ids[1:] if self.recorder.without != "join" else ():
            _merge(self.recorder.clocks[self.ids[0]], self.recorder.clocks[side])

    @contextmanager
    def on(self, lane: int) -> Iterator[None]:
        before, self.recorder.lane = self.recorder.lane, self.ids[lane]
        yield
        self.recorder.lane = before

    def mark(self, lane: int) -> Clock:
        return dict(self.recorder.clocks[self.ids[lane]])

    def wait(self, lane: int, mark: Clock) -> None:
        if self.recorder.without not in ("wait", f"wait {lane}"):
            _merge(self.recorder.clocks[self.ids[lane]], mark)


def _merge(clock: Clock, other: Clock) -> None:
    for lane, count in other.items():
        clock[lane] = max(clock.get(lane, 0), count)


class Watch(TorchDispatchMode):
    """Tells the recorder what PyTorch's operators read and write."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.name() in WAITING:
            raise Race(f"{func} waits on the host, which no capture allows")
        given = list(zip(func._schema.arguments, args, strict=False))
        given += [(each, kwargs[each.name]) for each in func._schema.arguments if each.name in kwargs]
        tensors = [(each, value) for each, value in given if isinstance(value, Tensor)]
        returned = func(*args, **kwargs)
        if all(each.alias_info is not None and not each.alias_info.is_write for each in func._schema.returns):
            return returned  # a view
        recorder = self.recorder
        recorder._begin()
        for argument, value in tensors:
            is_written = argument.alias_info is not None and argument.alias_info.is_write
            for place in places_of(value):
                (recorder.writes if is_written else recorder.reads)(place)
        inside = {value.untyped_storage().data_ptr() for _, value in tensors}
        if isinstance(returned, Tensor) and returned.untyped_storage().data_ptr() not in inside:
            recorder.kept.append(returned)
            if recorder.lane and not recorder.may_allocate:
                raise Race(f"lane {recorder.lane} allocates by {func}")
            for place in places_of(returned):
                recorder.writes(place)
        return returned


def places_of(tensor: Tensor) -> list[int]:
    """The address of each unit of a tensor."""
    if not tensor.numel():
        return []
    item, base = tensor.element_size(), tensor.untyped_storage().data_ptr()
    sizes, strides = tensor.shape, tensor.stride()
    offsets = torch.zeros((), dtype=torch.int64) + tensor.storage_offset()
    for size, stride in zip(sizes, strides, strict=True):
        offsets = offsets[..., None] + torch.arange(size) * stride
    starts = base + offsets.flatten() * item
    return (starts[:, None] + torch.arange(0, item, UNIT)).flatten().tolist()
