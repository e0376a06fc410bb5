"""What ran is found out, not assumed."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch

import impls
from bench.harness.case import Case
from bench.worker import prepare
from impls import GRUSpec, LSTMSpec, LSTMStackSpec, TransformerSpec, Unsupported
from impls.frameworks.torch import residual


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")
@pytest.mark.parametrize(
    ("spec", "ragged", "ran"),
    [
        (LSTMSpec(3, 4), False, "onednn"),
        (LSTMSpec(3, 4), True, "aten"),
        (LSTMSpec(3, 4, dtype="float64"), False, "aten"),
        (GRUSpec(3, 4), False, "aten"),
    ],
)
def test_torch_tells_onednn_from_its_own_loop(spec: impls.Spec, ragged: bool, ran: str) -> None:
    case = Case(spec, 5, 2, ragged=ragged)
    loaded = impls.get("torch").load(spec, *case.data())
    loaded.forward()
    assert loaded.provenance()["ran"] == ran


def test_looking_does_not_disturb_a_stream() -> None:
    case = Case(LSTMSpec(3, 4), 5, 2, "step")
    loaded, undisturbed = (impls.get("torch").load(case.spec, *case.data()) for _ in range(2))
    for _ in range(3):
        loaded.step()
        loaded.provenance()
        undisturbed.step()
    loaded.step()
    undisturbed.step()
    assert (loaded.outputs() == undisturbed.outputs()).all()


@pytest.mark.parametrize(
    ("kernels", "expected"),
    [
        (["aten::_cudnn_rnn", "void RNN_blockPersist_fp_LSTM_HMMA<__half, 128>"], "persistent"),
        (["aten::_cudnn_rnn", "void LSTM_elementWise_fp<float, float, float>", "sm90_xmma_gemm_f32f32_nt"], "standard"),
        (["void elemWiseRNNcell<__half>(int)", "nvjet_hsh_64x8_64x16_4x1_v_bz_TNT"], "standard"),
        (["void RNN_blockPersist_fp_LSTM<float>", "void LSTM_elementWise_bp1<float>"], "persistent+standard"),
        (["void at::native::elementwise_kernel<128>", "cutlass_80_warpspecialized_persistent_gemm"], "unrecognised among"),
    ],
)
def test_cudnn_names_its_algorithm(kernels: list[str], expected: str) -> None:
    from impls.backends import cudnn

    assert cudnn.algorithm(kernels).startswith(expected)


BASE = TransformerSpec(64, 512, num_heads=8, feed_forward_size=2048, dtype="bfloat16", device="cuda")
FLASH, EFFICIENT, MATH, CUDNN = (
    f"aten::_scaled_dot_product_{name}"
    for name in ("flash_attention", "efficient_attention", "attention_math", "cudnn_attention")
)


class Profiled:
    """A Transformer on a GPU, as far as provenance looks at it: what the profiler saw of its last call."""

    def __init__(self, spec: TransformerSpec, names: list[str], last: str = "forward_backward") -> None:
        self.spec, self.names, self.inputs = spec, names, torch.zeros(128, 2, 64)
        self.device = torch.device("cpu")  # where this test reads outputs
        self.last_call = getattr(self, last)

    def names_run(self) -> list[str]:
        return self.names

    def forward(self) -> None: ...

    def forward_backward(self) -> None: ...

    def step(self) -> None: ...

    def wait(self) -> None: ...

    def outputs(self) -> np.ndarray:
        return np.zeros((128, 2, 512))

    def provenance(self) -> dict[str, str]:
        return residual.what_ran(self)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("changed", "last", "operators", "ran"),
    [
        ({}, "forward_backward", [FLASH], "flash"),
        ({}, "forward", [CUDNN], "cudnn_attention"),
        ({"dtype": "float16"}, "forward", [FLASH], "flash"),
        ({"num_kv_heads": 1}, "forward", [FLASH], "flash"),
        ({}, "step", [EFFICIENT], "efficient"),  # one query has nothing to gain from flash
        ({}, "step", [MATH], "math"),
        ({"dtype": "float32"}, "forward", [EFFICIENT], "efficient"),  # no flash kernel in 32 bits
        ({"dtype": "tensorfloat32"}, "forward_backward", [EFFICIENT], "efficient"),
        ({"window": 64}, "forward", [EFFICIENT], "efficient"),  # a mask
        ({"hidden_size": 640, "num_heads": 2}, "forward", [EFFICIENT], "efficient"),  # heads of 320
    ],
)
def test_the_attention_that_ran_is_named(changed: dict, last: str, operators: list[str], ran: str) -> None:
    network = Profiled(replace(BASE, **changed), [*operators, "aten::mm"], last)
    assert network.provenance()["ran"] == ran and ran in impls.get("torch").RUNS


@pytest.mark.parametrize(
    ("changed", "operators", "ran"),
    [
        ({}, [MATH], "math"),
        ({}, [EFFICIENT], "efficient"),
        ({}, [FLASH, MATH], "flash+math"),
        ({}, [], "aten"),
        ({"window": 128}, [EFFICIENT], "efficient"),  # as long as the sequence: no mask
        ({"hidden_size": 416}, [MATH], "math"),  # heads of 52 are padded, and have flash too
    ],
)
@pytest.mark.parametrize("last", ["forward", "forward_backward"])
def test_attention_that_could_be_flash_and_is_not_is_rejected(changed: dict, operators: list[str], ran: str, last: str) -> None:
    spec = replace(BASE, **changed)
    network, phase = Profiled(spec, [*operators, "aten::mm"], last), cast(impls.Phase, last)
    case = Case(spec, 128, 2, phase)
    prepared = prepare.Prepared(
        case, "torch", case.data(), cast(impls.Loaded, network), network.forward, network.wait, 0, 0, {}
    )
    said = re.escape(
        f"torch fell back: '{ran}, though heads of {spec.head_size} in bfloat16 have flash and cudnn_attention' ran"
    )
    with pytest.raises(prepare.Rejected, match=said):
        prepare.verify(prepared)


def test_on_a_cpu_any_attention_may_run() -> None:
    network = Profiled(replace(BASE, device="cpu"), [MATH], "forward")
    assert network.provenance()["ran"] == "math"


def test_the_last_call_says_whether_it_was_a_step() -> None:
    """What the rule looks at, on a network that exists."""
    case = Case(TransformerSpec(4, 8), 3, 2)
    loaded = impls.get("torch").load(case.spec, *case.data())
    for name, stepped in (("forward", False), ("step", True), ("forward_backward", False), ("step", True), ("prefill", False)):
        getattr(loaded, name)()
        assert (loaded.last_call == loaded.step) is stepped  # pyright: ignore[reportAttributeAccessIssue]


def test_a_gpu_that_has_no_flash_kernel_may_run_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    ran = {}
    for capability in ((7, 5), (8, 0)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda found=capability: found)
        ran[capability] = Profiled(BASE, [EFFICIENT]).provenance()["ran"]
    assert ran[7, 5] == "efficient" and ran[8, 0] not in impls.get("torch").RUNS


def test_cudnn_refuses_too_long_a_sequence_and_still_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a CPU, where the network is PyTorch's own: the limit stands before whatever computes."""
    from impls.backends import cudnn

    monkeypatch.setattr(cudnn, "LONGEST", 5)
    monkeypatch.setattr(cudnn.torch_network, "no_cuda", lambda spec: None)
    monkeypatch.setattr(cudnn, "_no_cudnn", lambda spec: None)
    monkeypatch.setattr(cudnn, "DEVICES", ("cpu",))
    for spec in (LSTMSpec(3, 4), GRUSpec(3, 4), LSTMStackSpec(3, 4, 2)):
        params, batch = Case(spec, 6, 2, "forward_backward").data()
        network = cudnn.load(spec, params, batch)
        for call in (network.forward, network.forward_backward, network.prefill, lambda own=network: own.advance(6)):
            with pytest.raises(
                Unsupported, match=r"^unsupported: cuDNN runs sequences of at most 5 steps; got 6 .*cuda or torch"
            ):
                call()
        network.step()
        network.advance(3)
        assert np.isfinite(network.outputs()).all()
        shorter = cudnn.load(spec, *Case(spec, 5, 2, "forward_backward").data())
        shorter.forward_backward()
        assert np.isfinite(shorter.outputs()).all()


def test_what_is_unsupported_is_a_typed_outcome() -> None:
    """A worker says `skipped` with the reason, as where a backend cannot run at all."""
    from bench.worker import __main__ as worker

    def refuses() -> dict:
        raise Unsupported("unsupported: 6 steps; ask for 5")

    reply, _ = worker._answer(refuses, {})
    assert reply == {"status": "skipped", "skip": "unsupported", "reason": "unsupported: 6 steps; ask for 5"}
