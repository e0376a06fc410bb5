"""The JAX function against a float64 layer of `torch.nn.LSTM`: values and gradients, under jit."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch

jax = pytest.importorskip("jax", reason="pip install jax")

from torch.utils.dlpack import DLDeviceType  # noqa: E402

from impls.cuda import jax as module  # noqa: E402
from impls.cuda.jax import lstm  # noqa: E402

CASES = [  # memory, design, dtype, bias, tolerance
    ("saved", "auto", "float32", True, 1e-4), ("rebuilt", "auto", "float32", True, 1e-4),
    ("saved", "auto", "float32", False, 1e-4),
    ("saved", "cluster", "bfloat16", True, 0.05), ("rebuilt", "cluster", "bfloat16", False, 0.05),
]  # fmt: skip


@pytest.mark.parametrize("memory, design, dtype, bias, tolerance", CASES)
def test_values_and_gradients_under_jit(memory, design, dtype, bias, tolerance):
    torch.manual_seed(0)
    theirs = torch.nn.LSTM(3, 5, bidirectional=True, bias=bias).double()
    x, h0, c0 = torch.randn(4, 2, 3).double(), torch.randn(2, 2, 5).double(), torch.randn(2, 2, 5).double()
    named = dict(theirs.named_parameters())
    of = lambda name: torch.stack([named[f"{name}_l0"], named[f"{name}_l0_reverse"]])  # noqa: E731
    given = [x, of("weight_ih"), of("weight_hh"), *([of("bias_ih") + of("bias_hh")] if bias else []), h0, c0]
    arrays = [jax.numpy.asarray(tensor.detach().float().numpy(), dtype=dtype) for tensor in given]
    lengths = jax.numpy.full(2, 4, jax.numpy.int32)

    def layer(*arrays):
        arrays = arrays if bias else (*arrays[:3], None, *arrays[3:])
        return lstm(*arrays, lengths=lengths, memory=memory, design=design)

    def loss(*arrays):
        y, h_n, c_n = layer(*arrays)
        return (y**2).sum() + h_n.sum() + (c_n**2).sum(), (y, h_n, c_n)

    ours, values = jax.jit(jax.grad(loss, argnums=range(len(arrays)), has_aux=True))(*arrays)
    leaves = [x.requires_grad_(), h0.requires_grad_(), c0.requires_grad_()]
    y, (h_n, c_n) = theirs(leaves[0], (leaves[1], leaves[2]))
    ((y**2).sum() + h_n.sum() + (c_n**2).sum()).backward()
    expected = [x.grad, *(torch.stack([named[f"{n}_l0{end}"].grad for end in ("", "_reverse")])
                          for n in ("weight_ih", "weight_hh", *(["bias_ih"] if bias else []))), h0.grad, c0.grad]  # fmt: skip
    for found, right in zip([*values, *ours], [y.detach(), h_n.detach(), c_n.detach(), *expected], strict=True):
        assert found.dtype == dtype
        near(found, right, tolerance)
    near(jax.jit(layer)(*arrays)[0], y.detach(), tolerance)


def near(found, right, tolerance):
    """Of the largest value: the gradients in bfloat16 are sums of rounded terms."""
    error = np.abs(np.asarray(found, dtype=np.float64) - right.numpy()).max()
    assert error <= tolerance * np.abs(right.numpy()).max(), error


def arguments(**changes):
    zeros = jax.numpy.zeros
    given = {"x": zeros((4, 2, 3)), "weight_ih": zeros((1, 20, 3)), "weight_hh": zeros((1, 20, 5)), "bias": None,
             "h0": zeros((1, 2, 5)), "c0": zeros((1, 2, 5)), "lengths": zeros(2, jax.numpy.int32)}  # fmt: skip
    return given | changes


@pytest.mark.parametrize("changes, complaint", [
    ({"h0": np.zeros((1, 3, 5), np.float32)}, r"lstm: h0 must have shape \[1, 2, 5\]; got \[1, 3, 5\]"),
    ({"bias": np.zeros((1, 5), np.float32)}, "lstm: bias must have shape"),
    ({"c0": np.zeros((1, 2, 5), np.float16)}, "lstm: c0 must be torch.float32"),
    ({"lengths": np.zeros(2, np.int16)}, "lstm: lengths must be torch.int32"),
    ({"x": np.zeros((4, 2, 3), np.complex64)}, "lstm: x must be float32"),
    ({"x": np.zeros((4, 2, 3), jax.numpy.float8_e4m3b11fnuz)}, "PyTorch knows no float8_e4m3b11fnuz"),
])  # fmt: skip
def test_what_does_not_fit_is_said_before_anything_runs(changes, complaint):
    with pytest.raises(RuntimeError, match=complaint):
        jax.jit(lstm)(**arguments(**changes))


def test_it_takes_its_buffers_over_on_xlas_stream(monkeypatch):
    asked, context = [], SimpleNamespace(stream=77)
    on = lambda kind, index: SimpleNamespace(__dlpack_device__=lambda: (kind, index))  # noqa: E731
    monkeypatch.setattr(torch.cuda, "ExternalStream", lambda stream, device: asked.append((stream, device)))
    module._stream(context, on(DLDeviceType.kDLCUDA, 1))
    assert asked == [(77, torch.device("cuda", 1))]
    assert module._stream(context, on(DLDeviceType.kDLCPU, 0)) is None

    events = []

    @contextlib.contextmanager
    def inside(stream):
        events.append("enter")
        yield
        events.append("leave")

    real = torch.from_dlpack
    monkeypatch.setattr(torch.cuda, "stream", inside)
    monkeypatch.setattr(torch, "from_dlpack", lambda buffer: events.append("take") or real(buffer))
    jax.block_until_ready(lstm(**arguments()))
    assert events[0] == "enter" and events[-1] == "leave" and events.count("take") == 7 + 3
