"""What the adapter assumes of flash-linear-attention 0.6.0, against a stub with its signature; and its refusals.

Where the package is installed, its own implementation in PyTorch is asked too. Its kernel does not run here.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Tensor

from bench.harness.case import Case
from bench.worker import agreement
from impls import LSTMSpec, MinLSTMSpec
from impls.backends import fla


def fused_recurrent_hgrn(
    x: Tensor, g: Tensor, initial_state: Tensor | None = None, output_final_state: bool = False, cu_seqlens: None = None
) -> tuple[Tensor, Tensor | None]:
    """Release 0.6.0's signature and what it documents: x, g [B, T, D], initial_state [B, D]; h = exp(g)·h + x."""
    assert x.shape == g.shape and x.is_contiguous() and g.is_contiguous() and cu_seqlens is None
    assert initial_state is None or initial_state.dtype == x.dtype == g.dtype
    h = (torch.zeros_like(x[:, 0]) if initial_state is None else initial_state).float()  # and so it stays between steps
    assert h.shape == x[:, 0].shape
    found = []
    for step in range(x.shape[1]):
        h = g[:, step].float().exp() * h + x[:, step]
        found.append(h.to(x.dtype))
    return torch.stack(found, dim=1), found[-1] if output_final_state else None


def ignores_the_state(x: Tensor, g: Tensor, initial_state: Tensor, output_final_state: bool):
    return fused_recurrent_hgrn(x, g, None, output_final_state)


def decays_by_g_itself(x: Tensor, g: Tensor, initial_state: Tensor, output_final_state: bool):
    return fused_recurrent_hgrn(x, g.exp(), initial_state, output_final_state)


def case_of(phase) -> Case:
    return Case(MinLSTMSpec(5, 7, 2), 6, 3, phase, initial_state=True)


@pytest.mark.parametrize("phase", ["forward", "forward_backward", "step"])
def test_its_recurrence_is_a_minlstms(phase) -> None:
    case = case_of(phase)
    network = fla.network(case.spec, *case.data(), fused_recurrent_hgrn)
    agreement.check_against(agreement.answer(network, case), case)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("phase", ["forward", "forward_backward", "step"])
def test_it_is_found_and_called_as_in_its_release(phase, dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("fla.ops.hgrn")
    module.fused_recurrent_hgrn = fused_recurrent_hgrn  # type: ignore[attr-defined]
    for name in ("fla", "fla.ops"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(fla, "DEVICES", ("cpu",))
    monkeypatch.setattr(fla, "_missing", lambda: None)
    case = Case(MinLSTMSpec(5, 7, 2, dtype=dtype), 6, 3, phase, initial_state=True)
    agreement.check_against(agreement.answer(fla.load(case.spec, *case.data()), case), case)


def test_its_own_implementation_agrees() -> None:
    hgrn = pytest.importorskip("fla.ops.hgrn", reason="flash-linear-attention is not installed: pip install 'fla-core[cuda]'")
    naive = importlib.import_module("fla.ops.hgrn.naive").naive_recurrent_hgrn
    assert list(inspect.signature(hgrn.fused_recurrent_hgrn).parameters) == list(
        inspect.signature(fused_recurrent_hgrn).parameters
    )
    case = case_of("forward_backward")
    agreement.check_against(agreement.answer(fla.network(case.spec, *case.data(), naive), case), case)


@pytest.mark.parametrize("kernel", [ignores_the_state, decays_by_g_itself])
def test_another_recurrence_would_be_seen(kernel) -> None:
    case = case_of("forward")
    with pytest.raises(agreement.Disagreement):
        agreement.check_against(agreement.answer(fla.network(case.spec, *case.data(), kernel), case), case)


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        (LSTMSpec(8, 8, device="cuda"), "runs minlstm and no lstm"),
        (MinLSTMSpec(8, 8, dtype="float64", device="cuda"), "not in float64"),
        (MinLSTMSpec(8, 8), "runs on cuda, not on cpu"),
    ],
)
def test_refusals(spec, part: str) -> None:
    assert part in (fla.refuses(spec, "forward", False) or "")


def test_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    reason = fla.refuses(MinLSTMSpec(8, 8, device="cuda"), "forward", False)
    assert reason is not None and "pip install 'fla-core[cuda]'" in reason


def test_a_kernel_that_did_not_run_is_a_fall_back() -> None:
    ran = [
        SimpleNamespace(names_run=lambda names=names: names) for names in (["fused_recurrent_hgrn_fwd_kernel"], ["aten::mul"])
    ]
    found = [fla.what_ran(each)["ran"] in fla.RUNS for each in ran]  # pyright: ignore[reportArgumentType]
    assert found == [True, False]
