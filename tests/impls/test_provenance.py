"""What ran is found out, not assumed."""

from __future__ import annotations

import pytest
import torch

import impls
from bench.case import Case
from impls import GRUSpec, LSTMSpec


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
