"""What the adapter assumes of FlashRNN 1.0.8, against a stub with its signature and layouts; and its refusals.

Where the package is installed, its own implementation in PyTorch is asked too. Its kernels do not run here.
"""

from __future__ import annotations

import inspect
import sys
from functools import partial
from types import ModuleType

import pytest
import torch
from torch import Tensor

from bench.harness.case import Case
from bench.worker import agreement
from impls import LSTMSpec, Unavailable
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


def stub(Wx, R, b, states=None, function="lstm", config=None, backend="cuda_fused", dtype="bfloat16"):
    """`flashrnn.flashrnn` of release 1.0.8: its signature, and of its configuration what decides if a kernel is found."""
    batch, _, gates, heads, hidden = Wx.shape
    assert (function, backend, gates, R.shape, b.shape) == (
        "lstm",
        "cuda_fused",
        4,
        (4, heads, hidden, hidden),
        (4, heads, hidden),
    )
    assert states.shape == (2, batch, 1, heads, hidden) and config is None
    assert {str(t.dtype).removeprefix("torch.") for t in (Wx, R, b, states)} == {dtype}
    tile = 16 if dtype == "float32" or -(-batch // 8) % 2 == 0 else 32
    if hidden % tile:
        raise ValueError("No working solution of constraints for CUDA module")
    return stand_in(Wx, R, b, states)


@pytest.fixture
def installed(monkeypatch) -> None:
    """The stub in the package's place, on a CPU."""
    package, inner = ModuleType("flashrnn"), ModuleType("flashrnn.flashrnn")
    package.flashrnn = inner.flashrnn = stub  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flashrnn", package)
    monkeypatch.setitem(sys.modules, "flashrnn.flashrnn", inner)
    monkeypatch.setattr(flashrnn, "DEVICES", ("cpu",))
    monkeypatch.setattr(flashrnn, "_missing", lambda: None)


@pytest.mark.parametrize("hidden, batch, dtype", [(32, 3, "bfloat16"), (16, 16, "float16"), (64, 8, "bfloat16")])
@pytest.mark.parametrize("phase", ["forward", "forward_backward", "step"])
def test_it_is_called_as_its_release_is(installed, hidden, batch, dtype, phase):
    case = Case(LSTMSpec(5, hidden, dtype=dtype), 3, batch, phase, initial_state=True)
    agreement.check_against(agreement.answer(flashrnn.load(case.spec, *case.data()), case), case)


@pytest.mark.parametrize("hidden, batch, part", [
    (16, 3, "multiples of 32 for a batch of 3, not 16"), (48, 24, "multiples of 32"), (24, 16, "multiples of 16 for a batch of")
])  # fmt: skip
def test_a_size_without_a_kernel_is_refused_first(installed, hidden, batch, part):
    case = Case(LSTMSpec(5, hidden, dtype="bfloat16"), 3, batch)
    with pytest.raises(Unavailable, match=part):
        flashrnn.load(case.spec, *case.data())


@pytest.mark.parametrize("phase", ["forward", "forward_backward", "step"])
def test_its_own_implementation_agrees(phase):
    package = pytest.importorskip("flashrnn.flashrnn", reason="FlashRNN is not installed: pip install flashrnn")
    assert list(inspect.signature(package.flashrnn).parameters) == list(inspect.signature(stub).parameters)
    case = Case(LSTMSpec(5, 7), 6, 3, phase, initial_state=True)
    kernel = partial(package.flashrnn, function="lstm", backend="vanilla", dtype="float32")
    network = flashrnn.network(case.spec, *case.data(), kernel, lambda _: {"ran": "vanilla"})
    agreement.check_against(agreement.answer(network, case), case)


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


def test_a_size_that_no_batch_makes_right_is_refused(monkeypatch):
    monkeypatch.setattr(flashrnn, "_missing", lambda: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    asked = LSTMSpec(8, 24, dtype="bfloat16", device="cuda")
    assert "multiples of 16, not 24" in (flashrnn.refuses(asked, "forward", False) or "")
    assert flashrnn.refuses(LSTMSpec(8, 48, dtype="bfloat16", device="cuda"), "forward", False) is None


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

    assert (
        flashrnn.what_ran(Ran("aten::linear", "void flashrnn_fused::FLASHRNNCellFusedForward<true>(unsigned int)"))["ran"]
        in flashrnn.RUNS
    )  # type: ignore[arg-type]
    assert flashrnn.what_ran(Ran("aten::linear"))["ran"] not in flashrnn.RUNS  # type: ignore[arg-type]
