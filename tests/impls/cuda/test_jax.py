"""The JAX function against a float64 layer of `torch.nn.LSTM`: values and gradients, under jit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

jax = pytest.importorskip("jax", reason="pip install jax")

from impls.backends._cuda.jax import _stream, lstm  # noqa: E402


@pytest.mark.parametrize("memory", ["saved", "rebuilt"])
def test_values_and_gradients_under_jit(memory):
    torch.manual_seed(0)
    theirs = torch.nn.LSTM(3, 5, bidirectional=True).double()
    x, h0, c0 = torch.randn(4, 2, 3).double(), torch.randn(2, 2, 5).double(), torch.randn(2, 2, 5).double()
    named = dict(theirs.named_parameters())
    of = lambda name: torch.stack([named[f"{name}_l0"], named[f"{name}_l0_reverse"]])  # noqa: E731
    given = [x, of("weight_ih"), of("weight_hh"), of("bias_ih") + of("bias_hh"), h0, c0]
    arrays = [jax.numpy.asarray(tensor.detach().float().numpy()) for tensor in given]
    lengths = jax.numpy.full(2, 4, jax.numpy.int32)

    def loss(*arrays):
        y, h_n, c_n = lstm(*arrays, lengths, memory=memory)
        return (y**2).sum() + h_n.sum() + (c_n**2).sum(), (y, h_n, c_n)

    ours, values = jax.jit(jax.grad(loss, argnums=range(6), has_aux=True))(*arrays)
    leaves = [x.requires_grad_(), h0.requires_grad_(), c0.requires_grad_()]
    y, (h_n, c_n) = theirs(leaves[0], (leaves[1], leaves[2]))
    ((y**2).sum() + h_n.sum() + (c_n**2).sum()).backward()
    expected = [x.grad, *(torch.stack([named[f"{n}_l0{end}"].grad for end in ("", "_reverse")])
                          for n in ("weight_ih", "weight_hh", "bias_ih")), h0.grad, c0.grad]  # fmt: skip
    for found, right in zip([*values, *ours], [y.detach(), h_n.detach(), c_n.detach(), *expected], strict=True):
        np.testing.assert_allclose(np.asarray(found), right, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.asarray(jax.jit(lstm)(*arrays, lengths)[0]), y.detach(), rtol=1e-4, atol=1e-5)


def test_it_runs_on_xlas_stream(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "ExternalStream", lambda stream, device: asked.append((stream, device)))
    _stream(type("Context", (), {"stream": 77})(), torch.device("cuda", 1))
    assert asked == [(77, torch.device("cuda", 1))]
    assert _stream(type("Context", (), {"stream": 77})(), torch.device("cpu")) is None
