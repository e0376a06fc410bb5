"""The kernels' arguments as C structures: fields in the order of the .cu files, where each is described."""

from __future__ import annotations

import ctypes
from typing import Any

from torch import Tensor

from impls.cuda.runtime.kernels import pointer

Structure = type[ctypes.Structure]


def _structures(name: str, arrays: str, numbers: str) -> tuple[Structure, Structure]:
    """One direction's arrays, and the whole argument with room for two directions."""
    fields = [(array, ctypes.c_void_p) for array in arrays.split()]
    # Any: that a C structure times two is an array of two, type checkers do not know.
    direction: Any = type(f"{name}Direction", (ctypes.Structure,), {"_fields_": [*fields, ("reverse", ctypes.c_longlong)]})
    scalars = [(number, ctypes.c_int) for number in numbers.split()]
    whole = type(f"{name}Arguments", (ctypes.Structure,), {"_fields_": [("directions", direction * 2), *scalars]})
    return direction, whole


LAYOUTS = {
    "cluster_forward": _structures(
        "ClusterForward", "weights projected h0 c0 lengths y gates cells h_n c_n", "steps batch hidden y_stride"
    ),
    "cluster_backward": _structures(
        "ClusterBackward",
        "weights gates cells c0 grad_y grad_h_n grad_c_n lengths grad_gates grad_h0 grad_c0",
        "steps batch hidden y_stride rebuilt",
    ),
    "step_forward": _structures(
        "StepForward", "weights projected h c lengths y gates cells", "steps batch hidden y_stride step"
    ),
    "step_backward": _structures(
        "StepBackward",
        "weights gates cells c0 grad_y lengths grad_gates grad_h grad_c",
        "steps batch hidden y_stride rebuilt step",
    ),
}


def arguments(
    layout: str, directions: list[dict[str, Tensor | None]], offsets: list[dict[str, int]], **numbers: int
) -> ctypes.Structure:
    """Fill a layout. `offsets` moves an array's pointer by so many elements; the second direction runs in reverse."""
    direction, whole = LAYOUTS[layout]
    filled = whole()
    for index, arrays in enumerate(directions):
        values = {name: pointer(tensor, offsets[index].get(name, 0)) for name, tensor in arrays.items()}
        filled.directions[index] = direction(**values, reverse=index)
    for name, number in numbers.items():
        setattr(filled, name, number)
    return filled
