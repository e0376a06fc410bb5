"""What every spec is made of: sizes that are checked, data types, devices, and the error that says what is allowed."""

from __future__ import annotations

from typing import Literal, get_args

# tensorfloat32: stored in float32, multiplied by tensor cores that round each operand to 10 bits of mantissa.
DType = Literal["float32", "float64", "bfloat16", "float16", "tensorfloat32"]
Device = Literal["cpu", "cuda"]
ITEM_BYTES: dict[str, int] = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2, "tensorfloat32": 4}


def stored(dtype: DType) -> str:
    """The dtype of arrays in memory, by the name NumPy, PyTorch and JAX share."""
    return "float32" if dtype == "tensorfloat32" else dtype


class InvalidSpec(ValueError):
    """A size, dtype or device that no network can have; the message says what was asked and what is allowed."""


def require_sizes(spec: object, *names: str, at_least: int = 1) -> None:
    """Raise `InvalidSpec` unless each of these fields is a whole number of at least so much."""
    for name in names:
        value = getattr(spec, name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidSpec(f"{name} must be a whole number; got {value!r}")
        if value < at_least:
            raise InvalidSpec(f"{name} must be at least {at_least}; got {value}")


def require_choices(spec: object) -> None:
    """Raise `InvalidSpec` unless the spec's dtype and device are known."""
    for name, choices in (("dtype", get_args(DType)), ("device", get_args(Device))):
        if getattr(spec, name) not in choices:
            raise InvalidSpec(f"{name} must be one of {', '.join(choices)}; got {getattr(spec, name)!r}")
