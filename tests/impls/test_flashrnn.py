"""FlashRNN's layouts, against a stand-in with its signature; and its refusals. Its kernels are run by nobody here."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bench import agreement
from bench.case import Case
from impls import LSTMSpec
from impls.backends import flashrnn


def stand_in(wx: Tensor, r: Tensor, b: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    """What `flashrnn(Wx, R, b, states)` computes, of [B, T, G, N, D], [G, N, D, P], [G, N, D], [S, B, 1, N, D]: its README."""
    h, c = states[0, :, 0], states[1, :, 0]  # [B, N, D]
    found = []
    for step in range(wx.shape[1]):
        z = wx[:, step] + torch.einsum("gndp,bnp->bgnd", r, h) + b
        i, f, g, o = z.unbind(1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        found.append(torch.stack([h, c]))
    every = torch.stack(found, dim=2)
    return every, every[:, :, -1:]


@pytest.mark.parametrize("phase", ["forward", "forward_backward", "step"])
@pytest.mark.parametrize("bias", [True, False])
def test_layouts_are_converted_both_ways(phase, bias):
    case = Case(LSTMSpec(5, 7, bias=bias), 6, 3, phase, initial_state=True)
    params, batch = case.data()
    network = flashrnn.network(case.spec, params, batch, stand_in, lambda _: {"ran": "stand-in"})
    agreement.check_against(agreement.answer(network, case), case)


def test_a_transposed_recurrent_matrix_would_be_seen():
    case = Case(LSTMSpec(5, 7), 6, 3, initial_state=True)
    params, batch = case.data()

    def transposed(wx, r, b, states):
        return stand_in(wx, r.transpose(2, 3), b, states)

    network = flashrnn.network(case.spec, params, batch, transposed, lambda _: {"ran": "stand-in"})
    with pytest.raises(agreement.Disagreement):
        agreement.check_against(agreement.answer(network, case), case)


@pytest.mark.parametrize(
    "asked, ragged, part",
    [
        ({"dtype": "float32"}, False, "computes in bfloat16, float16, tensorfloat32, not in float32"),
        ({"num_layers": 2}, False, "a single layer"),
        ({"bidirectional": True}, False, "one direction"),
        ({}, True, "knows no lengths"),
        ({"device": "cpu"}, False, "runs on cuda, not on cpu"),
    ],
)
def test_refusals(asked, ragged, part):
    reason = flashrnn.refuses(LSTMSpec(8, 8, **({"dtype": "bfloat16", "device": "cuda"} | asked)), "forward", ragged)
    assert reason is not None and part in reason


def test_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(flashrnn, "PACKAGE", "no_such_package")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    reason = flashrnn.refuses(LSTMSpec(8, 8, dtype="bfloat16", device="cuda"), "forward", False)
    assert reason is not None and "pip install flashrnn" in reason


def test_a_kernel_that_did_not_run_is_a_fall_back():
    class Ran:
        def __init__(self, *names: str) -> None:
            self.names = names

        def names_run(self) -> list[str]:
            return list(self.names)

    assert flashrnn.what_ran(Ran("aten::linear", "void flashrnn_fused_forward<...>"))["ran"] in flashrnn.RUNS  # type: ignore[arg-type]
    assert flashrnn.what_ran(Ran("aten::linear"))["ran"] not in flashrnn.RUNS  # type: ignore[arg-type]
