"""What the adapter assumes of xLSTM 2.0.6's CUDA cell, against a stub of its configuration and parameters; and its refusals.

Where the package is installed, its own implementation in PyTorch is asked too. Its kernels do not run here.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, fields
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from bench.harness.case import Case
from bench.worker import agreement
from impls import LSTMSpec
from impls.backends import xlstm


class Cell(nn.Module):
    """What `sLSTMCell_cuda` keeps and computes for one head and function "lstm": input SBGNH, output SBH."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self._recurrent_kernel_ = nn.Parameter(torch.zeros(1, hidden, 4 * hidden))
        self._bias_ = nn.Parameter(torch.zeros(4 * hidden))

    def product(self, h: Tensor) -> Tensor:
        return h @ self._recurrent_kernel_[0]

    def forward(self, input: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        assert state.shape == (2, input.shape[1], input.shape[2] // 4)
        assert self.training == torch.is_grad_enabled() and self._bias_.dtype == torch.float32
        h, c = state
        found = []
        for projected in input:
            i, f, z, o = (projected + self.product(h) + self._bias_).chunk(4, dim=-1)
            c = f.sigmoid() * c + i.sigmoid() * z.tanh()
            h = o.sigmoid() * c.tanh()
            found.append(h)
        return torch.stack(found), torch.stack([h, c])


@dataclass
class Config:
    """The fields of release 2.0.6's `sLSTMCellConfig` that are set here, with its defaults."""

    hidden_size: int = -1
    num_heads: int = 4
    backend: str = "cuda"
    function: str = "slstm"
    batch_size: int = 8
    input_shape: str = "BSGNH"
    output_shape: str = "BNSH"
    dtype: str = "bfloat16"
    dtype_b: str | None = "float32"
    enable_automatic_mixed_precision: bool = True


class OfConfig(Cell):
    """`sLSTMCell(config)`, and what its kernel refuses: other dtypes, and another batch than it was compiled for."""

    def __init__(self, config: Config) -> None:
        super().__init__(config.hidden_size)
        assert (config.num_heads, config.backend, config.function) == (1, "cuda", "lstm")
        assert (config.input_shape, config.output_shape) == ("SBGNH", "SBH") and not config.enable_automatic_mixed_precision
        self._recurrent_kernel_ = nn.Parameter(self._recurrent_kernel_.to(getattr(torch, config.dtype)))
        self.config = config

    def product(self, h: Tensor) -> Tensor:
        return (h.to(self._recurrent_kernel_.dtype) @ self._recurrent_kernel_[0]).float()

    def forward(self, input: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        dtypes = {input.dtype, state.dtype, self._recurrent_kernel_.dtype}
        assert dtypes == {getattr(torch, self.config.dtype)} and self._bias_.dtype == getattr(torch, str(self.config.dtype_b))
        assert input.shape[1:] == (self.config.batch_size, 4 * self.config.hidden_size)
        y, last = super().forward(input, state)
        return y.to(input.dtype), last.to(input.dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("phase", ["forward", "forward_backward", "step"])
def test_it_is_built_and_called_as_its_release_is(phase, dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("xlstm.blocks.slstm.cell")
    module.sLSTMCellConfig, module.sLSTMCell = Config, OfConfig  # type: ignore[attr-defined]
    for name in ("xlstm", "xlstm.blocks", "xlstm.blocks.slstm"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(xlstm, "DEVICES", ("cpu",))
    monkeypatch.setattr(xlstm, "_missing", lambda: None)
    case = Case(LSTMSpec(5, 7, dtype=dtype), 4, 3, phase, initial_state=True)
    agreement.check_against(agreement.answer(xlstm.load(case.spec, *case.data()), case), case)


@pytest.mark.parametrize("phase", ["forward", "forward_backward", "step"])
def test_its_own_implementation_agrees(phase) -> None:
    """Its `vanilla` cell with weights in the layout of its CUDA cell, turned by the package's own functions."""
    cells = pytest.importorskip("xlstm.blocks.slstm.cell", reason="xlstm is not installed: pip install xlstm")
    forward = importlib.import_module("xlstm.blocks.slstm.src.vanilla").slstm_forward

    class Vanilla(cells.sLSTMCell_vanilla):
        def _impl(self, training, input, state):
            of_cuda = cells.sLSTMCell_cuda
            kernel = self._recurrent_kernel_ext2int(of_cuda._recurrent_kernel_int2ext(self, self._recurrent_kernel_))
            bias = self._bias_ext2int(of_cuda._bias_int2ext(self, self._bias_))
            return forward(input, state, kernel, bias, self.pointwise, constants=self.config.constants)[0]

    assert {field.name for field in fields(Config)} <= {field.name for field in fields(cells.sLSTMCellConfig)}
    case = Case(LSTMSpec(5, 7), 6, 3, phase, initial_state=True)
    asked = cells.sLSTMCellConfig(**xlstm.configuration(case.spec, 3))
    shapes = {name: tuple(p.shape) for name, p in cells.sLSTMCell_cuda(asked, skip_backend_init=True).named_parameters()}
    assert shapes == {name: tuple(p.shape) for name, p in Cell(7).named_parameters()}
    network = xlstm.network(case.spec, *case.data(), Vanilla(asked))
    agreement.check_against(agreement.answer(network, case), case)


class Transposed(Cell):
    def product(self, h: Tensor) -> Tensor:
        size = h.shape[-1]
        return (self._recurrent_kernel_[0].view(size, 4, size).permute(2, 1, 0).reshape(size, -1).T @ h.T).T


class Swapped(Cell):
    def forward(self, input: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(input, state.flip(0))


@pytest.mark.parametrize("phase", ["forward", "forward_backward", "step"])
@pytest.mark.parametrize("bias", [True, False])
def test_layouts_are_converted_both_ways(phase, bias: bool) -> None:
    case = Case(LSTMSpec(5, 7, bias=bias), 6, 3, phase, initial_state=True)
    network = xlstm.network(case.spec, *case.data(), Cell(7))
    agreement.check_against(agreement.answer(network, case), case)


@pytest.mark.parametrize("wrong", [Transposed, Swapped])
def test_another_layout_would_be_seen(wrong: type[Cell]) -> None:
    case = Case(LSTMSpec(5, 7), 6, 3, initial_state=True)
    with pytest.raises(agreement.Disagreement):
        agreement.check_against(agreement.answer(xlstm.network(case.spec, *case.data(), wrong(7)), case), case)


def test_it_is_asked_for_an_lstm_of_one_head() -> None:
    asked = xlstm.configuration(LSTMSpec(5, 7, dtype="bfloat16", device="cuda"), 3)
    assert (asked["function"], asked["num_heads"], asked["backend"], asked["dtype"]) == ("lstm", 1, "cuda", "bfloat16")
    assert (asked["hidden_size"], asked["batch_size"], asked["enable_automatic_mixed_precision"]) == (7, 3, False)


@pytest.mark.parametrize(
    ("asked", "ragged", "part"),
    [
        ({"dtype": "tensorfloat32"}, False, "not in tensorfloat32"),
        ({"num_layers": 2}, False, "a single layer"),
        ({"bidirectional": True}, False, "one direction"),
        ({}, True, "knows no lengths"),
        ({"device": "cpu"}, False, "runs on cuda, not on cpu"),
    ],
)
def test_refusals(asked, ragged: bool, part: str) -> None:
    reason = xlstm.refuses(LSTMSpec(8, 8, **({"device": "cuda"} | asked)), "forward", ragged)
    assert reason is not None and part in reason


def test_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    reason = xlstm.refuses(LSTMSpec(8, 8, device="cuda"), "forward", False)
    assert reason is not None and "pip install xlstm" in reason


def test_a_kernel_that_did_not_run_is_a_fall_back() -> None:
    ran = [["void slstm::SLSTMPointwiseForward<false>(int, int)"], ["aten::linear"]]
    networks = [SimpleNamespace(names_run=lambda names=names: names) for names in ran]
    assert [xlstm.what_ran(each)["ran"] in xlstm.RUNS for each in networks] == [True, False]  # pyright: ignore[reportArgumentType]
