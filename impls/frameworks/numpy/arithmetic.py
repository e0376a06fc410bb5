"""Arithmetic of the float64 reference: rounding to a dtype, and a tape of operations for derivatives.

Instead of a hand-written backward pass for each of four models; independent of PyTorch and JAX, and tested against finite
differences for every model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

# Activations, and products as tensor cores round them.

# By how much the sigmoids and tanhs of the NumPy backend are off: not at all, but inside of `off_by`.
#
# An implementation with approximate activations, as GPU libraries have them, is the naive implementation by which float32 is
# judged: see `bench.worker.agreement`.


class Off(NamedTuple):
    """What is added to every value of a sigmoid, and of a tanh."""

    sigmoid: float
    tanh: float


_off: Off | None = None


def off() -> Off | None:
    """What holds now."""
    return _off


@contextmanager
def off_by(amounts: Off | None) -> Iterator[None]:
    """Every activation is off by these amounts inside. For one thread."""
    global _off
    before, _off = _off, amounts
    try:
        yield
    finally:
        _off = before


def move_sigmoid(values: np.ndarray) -> None:
    """Move results of a sigmoid, in place, by what holds now."""
    if _off is not None:
        values += values.dtype.type(_off.sigmoid)


def move_tanh(values: np.ndarray) -> None:
    """Move results of a tanh, in place, by what holds now."""
    if _off is not None:
        values += values.dtype.type(_off.tanh)


# Arrays of float32 whose matrix products are TF32's: each operand is rounded to 10 bits of mantissa, sums are float32.
#
# What a tensor core does, naively: the yardstick by which answers in TF32 are judged (see `bench.worker.agreement`).


def rounded(value: np.ndarray) -> np.ndarray:
    """To nearest, ties away from zero, as `cvt.rna.tf32` does (PTX manual)."""
    bits = np.ascontiguousarray(value, np.float32).view(np.uint32)
    return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


class TensorFloat32(np.ndarray):
    """Behaves as its float32 values do, but for `matmul`."""

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        plain = [value.view(np.ndarray) if isinstance(value, TensorFloat32) else value for value in inputs]
        if ufunc is np.matmul:
            plain = [rounded(value) for value in plain]
        if out is not None:
            options["out"] = tuple(value.view(np.ndarray) for value in out)
        found = getattr(ufunc, method)(*plain, **options)
        if out is not None:
            return out[0]
        return found.view(TensorFloat32) if isinstance(found, np.ndarray) else found


# Arrays that remember how they were made, so that gradients follow from the chain rule: all of NumPy that the models need.
#
# Each operation computes 16-bit floats in float32 and rounds what it returns, as PyTorch's and XLA's do. Where no operand is
# `needed`, nothing is remembered.

Pull = Callable[[np.ndarray], np.ndarray]  # the cotangent of a result to that of one operand


class Value:
    """array: of the dtype everything is stored in. made_of: the operands whose gradients are needed, with their pulls."""

    __slots__ = ("array", "made_of", "needed")

    def __init__(self, array: np.ndarray, made_of: Sequence[tuple[Value, Pull]] = (), needed: bool = False) -> None:
        self.array = array
        self.made_of = [(operand, pull) for operand, pull in made_of if operand.needed]
        self.needed = needed or bool(self.made_of)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def __len__(self) -> int:
        return len(self.array)

    def __add__(self, other: Value) -> Value:
        total = wide(self) + wide(other)
        return made(self, total, (self, _summed_to(self.shape)), (other, _summed_to(other.shape)))

    def __neg__(self) -> Value:
        return made(self, -wide(self), (self, np.negative))

    def __sub__(self, other: Value) -> Value:
        return self + -other

    def __mul__(self, other: Value) -> Value:
        a, b = wide(self), wide(other)
        to_a, to_b = _summed_to(self.shape), _summed_to(other.shape)
        return made(self, a * b, (self, lambda grad: to_a(grad * b)), (other, lambda grad: to_b(grad * a)))

    def __truediv__(self, other: Value) -> Value:
        a, b = wide(self), wide(other)
        to_a, to_b = _summed_to(self.shape), _summed_to(other.shape)
        return made(self, a / b, (self, lambda grad: to_a(grad / b)), (other, lambda grad: to_b(-grad * a / (b * b))))

    def __matmul__(self, other: Value) -> Value:
        a, b = wide(self), wide(other)
        to_a, to_b = _summed_to(self.shape), _summed_to(other.shape)
        pulls = (
            (self, lambda grad: to_a(grad @ np.swapaxes(b, -1, -2))),
            (other, lambda grad: to_b(np.swapaxes(a, -1, -2) @ grad)),
        )
        return made(self, a @ b, *pulls)

    def __getitem__(self, where: Any) -> Value:
        def pull(grad: np.ndarray) -> np.ndarray:
            whole = np.zeros(self.shape, grad.dtype)
            whole[where] = grad
            return whole

        return Value(self.array[where], [(self, pull)])

    def reshape(self, *shape: int) -> Value:
        return Value(self.array.reshape(shape), [(self, lambda grad: grad.reshape(self.shape))])

    def transpose(self, *axes: int) -> Value:
        return Value(self.array.transpose(axes), [(self, lambda grad: grad.transpose(np.argsort(axes)))])

    def split(self, parts: int) -> list[Value]:
        """Equal parts of the last axis."""
        size = self.shape[-1] // parts
        return [self[..., part * size : (part + 1) * size] for part in range(parts)]


def wide(value: Value) -> np.ndarray:
    return value.array.astype(np.float32) if value.array.itemsize == 2 else value.array


def made(like: Value, array: np.ndarray, *made_of: tuple[Value, Pull]) -> Value:
    return Value(array.astype(like.array.dtype, copy=False), made_of)


def _summed_to(shape: tuple[int, ...]) -> Pull:
    """Undo a broadcast: add up over the axes along which a value was repeated."""

    def pull(grad: np.ndarray) -> np.ndarray:
        grad = grad.sum(tuple(range(grad.ndim - len(shape))))
        return grad.sum(tuple(axis for axis, size in enumerate(shape) if size == 1 and grad.shape[axis] > 1), keepdims=True)

    return pull


def _elementwise(function: Callable[[np.ndarray], np.ndarray], slope: Callable[[np.ndarray, np.ndarray], np.ndarray]):
    """An operation of one operand; `slope` is given the operand and the result."""

    def operation(x: Value) -> Value:
        array = wide(x)
        result = function(array)
        return made(x, result, (x, lambda grad: grad * slope(array, result)))

    return operation


def _tanh(x: np.ndarray) -> np.ndarray:
    found = np.tanh(x)
    move_tanh(found)
    return found


def _sigmoid(x: np.ndarray) -> np.ndarray:
    found = 0.5 * np.tanh(0.5 * x) + 0.5
    move_sigmoid(found)
    return found


tanh = _elementwise(_tanh, lambda x, y: 1 - y * y)
exp = _elementwise(np.exp, lambda x, y: y)
expm1 = _elementwise(np.expm1, lambda x, y: y + 1)
sigmoid = _elementwise(_sigmoid, lambda x, y: y * (1 - y))
softplus = _elementwise(lambda x: np.logaddexp(x, x.dtype.type(0)), lambda x, y: _sigmoid(x))
silu = _elementwise(lambda x: x * _sigmoid(x), lambda x, y: _silu_slope(x))


def _silu_slope(x: np.ndarray) -> np.ndarray:
    gate = _sigmoid(x)
    return gate * (1 + x * (1 - gate))


def _gelu_inner(x: np.ndarray) -> np.ndarray:
    return _tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))


def _gelu_slope(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    inner = _gelu_inner(x)
    return 0.5 * (1 + inner) + 0.5 * x * (1 - inner * inner) * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)


gelu = _elementwise(lambda x: 0.5 * x * (1 + _gelu_inner(x)), _gelu_slope)  # Hendrycks & Gimpel 2016, section 2


def linear(x: Value, weight: Value) -> Value:
    """x [..., I] and weight [O, I] to [..., O]."""
    return x @ weight.transpose(1, 0)


def softmax(x: Value, allowed: np.ndarray) -> Value:
    """Over the last axis, of those that are `allowed` (an array of bool that broadcasts to x)."""
    scores = np.where(allowed, wide(x), -np.inf)
    raised = np.exp(scores - scores.max(-1, keepdims=True))
    share = raised / raised.sum(-1, keepdims=True)
    return made(x, share, (x, lambda grad: share * (grad - (grad * share).sum(-1, keepdims=True))))


def layer_norm(x: Value, weight: Value, epsilon: float = 1e-5) -> Value:
    """Over the last axis, with a weight and no bias (Ba et al. 2016)."""
    array, scale = wide(x), wide(weight)
    centred = array - array.mean(-1, keepdims=True)
    over = 1 / np.sqrt((centred * centred).mean(-1, keepdims=True) + epsilon)
    unit = centred * over

    def pull(grad: np.ndarray) -> np.ndarray:
        inner = grad * scale
        return over * (inner - inner.mean(-1, keepdims=True) - unit * (inner * unit).mean(-1, keepdims=True))

    return made(x, unit * scale, (x, pull), (weight, lambda grad: _summed_to(weight.shape)(grad * unit)))


def concatenate(values: Sequence[Value], axis: int) -> Value:
    ends = np.cumsum([value.shape[axis] for value in values])
    pulls = [
        (value, lambda grad, end=end, size=value.shape[axis]: np.take(grad, range(end - size, end), axis))
        for value, end in zip(values, ends, strict=True)
    ]
    return Value(np.concatenate([value.array for value in values], axis), pulls)


def stack(values: Sequence[Value]) -> Value:
    """Along a new first axis."""
    pulls = [(value, lambda grad, index=index: grad[index]) for index, value in enumerate(values)]
    return Value(np.stack([value.array for value in values]), pulls)


def gradients(results: Sequence[tuple[Value, np.ndarray]], wanted: Sequence[Value]) -> list[np.ndarray]:
    """Of Σ ⟨result, cotangent⟩ by each of the wanted values, zeros where it does not depend on one; in their dtypes."""
    found: dict[int, np.ndarray] = {}
    for result, cotangent in results:
        found[id(result)] = found.get(id(result), 0) + cotangent
    for value in reversed(_in_order([result for result, _ in results])):
        grad = found[id(value)].astype(value.array.dtype)
        for operand, pull in value.made_of:
            passed = pull(grad.astype(np.float32) if grad.itemsize == 2 else grad)
            found[id(operand)] = found[id(operand)] + passed if id(operand) in found else passed
    zeros = np.zeros(1)
    return [np.broadcast_to(found.get(id(value), zeros), value.shape).astype(value.array.dtype) for value in wanted]


def _in_order(results: Sequence[Value]) -> list[Value]:
    """Everything the results were made of, each after its operands."""
    order: list[Value] = []
    seen: set[int] = set()
    waiting = [(value, False) for value in results if value.needed]
    while waiting:
        value, operands_done = waiting.pop()
        if operands_done:
            order.append(value)
        elif id(value) not in seen:
            seen.add(id(value))
            waiting.append((value, True))
            waiting += [(operand, False) for operand, _ in value.made_of]
    return order
