"""JAX's binding of cuDNN's LSTM on a CPU: JAX's own lowering and XLA as they are, and NumPy in the place of cuDNN.

As cuDNN, it is handed addresses and takes every array for batch-first and row-major, whatever layout XLA gave it.
"""

from __future__ import annotations

import ctypes
import subprocess
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.experimental import rnn
from jax.interpreters import mlir

from impls import Batch
from impls.backends import jax_cudnn
from impls.backends import numpy as numpy_backend
from impls.specs.recurrent import Recurrent

SOURCE = """
#include "xla/ffi/api/ffi.h"
namespace ffi = xla::ffi;
static void (*call)(int, void**, void**) = nullptr;
extern "C" void set_call(void (*chosen)(int, void**, void**)) { call = chosen; }
static ffi::Error run(int backward, ffi::RemainingArgs given, ffi::RemainingRets wanted) {
    void *arguments[16], *results[16];
    for (size_t i = 0; i < given.size(); ++i) arguments[i] = given.get<ffi::AnyBuffer>(i)->untyped_data();
    for (size_t i = 0; i < wanted.size(); ++i) results[i] = (*wanted.get<ffi::AnyBuffer>(i))->untyped_data();
    call(backward, arguments, results);
    return ffi::Error::Success();
}
using Text = std::string_view;
static ffi::Error run_forward(ffi::RemainingArgs given, ffi::RemainingRets wanted, Text) { return run(0, given, wanted); }
static ffi::Error run_backward(ffi::RemainingArgs given, ffi::RemainingRets wanted, Text) { return run(1, given, wanted); }
#define BINDING ffi::Ffi::Bind().RemainingArgs().RemainingRets().Attr<Text>("opaque")
XLA_FFI_DEFINE_HANDLER_SYMBOL(forward, run_forward, BINDING);
XLA_FFI_DEFINE_HANDLER_SYMBOL(backward, run_backward, BINDING);
"""
RESERVED = 1  # floats of workspace and of what the forward pass keeps for the backward pass
CALL = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_void_p))


class FakeCudnn:
    """Serves one network and sizes at a time: set `spec`, `steps`, `batch` before a call. `raised`: what went wrong in one."""

    spec: Recurrent
    steps: int
    batch: int

    def __init__(self, folder: Path) -> None:
        source, built = folder / "fake_cudnn_rnn.cpp", folder / "fake_cudnn_rnn.so"
        source.write_text(SOURCE)
        command = ["g++", "-std=c++17", "-O0", "-w", "-shared", "-fPIC", f"-I{jax.ffi.include_dir()}"]
        subprocess.run([*command, str(source), "-o", str(built)], check=True)
        self.library, self.calls, self.raised = ctypes.CDLL(str(built)), [], []
        self.called = CALL(self._called)  # kept, since the library keeps its address
        self.library.set_call(self.called)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """For the platform "cpu", on which JAX has no lowering of these."""
        sizes = lambda *_: (RESERVED, RESERVED)  # noqa: E731
        monkeypatch.setattr(rnn.gpu_rnn, "compute_rnn_workspace_reserve_space_sizes", sizes, raising=False)
        descriptor = SimpleNamespace(build_rnn_descriptor=lambda *_: b"")
        for name, primitive, lowering in (
            ("forward", rnn.rnn_fwd_p, rnn.gpu_rnn._rnn_fwd_lowering),
            ("backward", rnn.rnn_bwd_p, rnn.gpu_rnn._rnn_bwd_lowering),
        ):
            target = "fakednn_rnn_ffi" if name == "forward" else "fakednn_rnn_bwd_ffi"
            jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(getattr(self.library, name)), platform="cpu")
            mlir.register_lowering(primitive, partial(lowering, descriptor, "fake"), platform="cpu")

    def _called(self, backward: int, arguments, results) -> None:
        try:
            self.calls.append("backward" if backward else "forward")
            (self._backward if backward else self._forward)(arguments, results)
        except Exception as error:  # it cannot pass through C
            self.raised.append(error)

    def _shapes(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Of x, y, a state and the weights."""
        spec, size = self.spec, sum(int(np.prod(shape)) for shape in self.spec.parameter_shapes().values())
        states = (spec.num_layers * spec.num_directions, self.batch, spec.hidden_size)
        return (self.batch, self.steps, spec.input_size), (self.batch, self.steps, spec.output_size), states, (size,)

    def _network(self, x, h0, c0, weights, lengths, **cotangents) -> numpy_backend.Network:
        batch = Batch(x.swapaxes(0, 1), h0, c0, lengths, **cotangents)
        return numpy_backend.Network(self.spec, jax_cudnn.unpack(self.spec, weights), batch)

    def _forward(self, arguments, results) -> None:
        x, y, state, weights = self._shapes()
        given = [_at(arguments[i], shape) for i, shape in enumerate((x, state, state, weights))]
        network = self._network(*given, _at(arguments[4], (self.batch,), np.int32))
        network.forward()
        last = network.final_state()
        for i, value in enumerate((network.outputs().swapaxes(0, 1), last["h_n"], last["c_n"])):
            _at(results[i], (y, state, state)[i])[...] = value

    def _backward(self, arguments, results) -> None:
        x, y, state, weights = self._shapes()
        grad_y, grad_h, grad_c, *given = (
            _at(arguments[i], shape) for i, shape in enumerate((y, state, state, x, state, state, weights, y))
        )
        cotangents = {"grad_y": grad_y.swapaxes(0, 1), "grad_h_n": grad_h, "grad_c_n": grad_c}
        network = self._network(*given[:4], _at(arguments[10], (self.batch,), np.int32), **cotangents)
        network.forward_backward()
        np.testing.assert_allclose(given[4], network.outputs().swapaxes(0, 1), atol=1e-6)  # y as the forward pass gave it
        found = network.gradients()
        packed = jax_cudnn.pack(self.spec, found)
        for i, value in enumerate((found["x"].swapaxes(0, 1), found["h0"], found["c0"], packed)):
            _at(results[i], (x, state, state, weights)[i])[...] = value


def _at(address: int, shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
    """The array that lies there, row-major."""
    kind = np.ctypeslib.as_ctypes_type(np.dtype(dtype)) * int(np.prod(shape))
    return np.ctypeslib.as_array(kind.from_address(address)).reshape(shape)
