"""Projection folded into the recurrent weight, forward and backward, in every design, against the oracle."""

from __future__ import annotations

import pytest
import torch

from bench.worker.agreement import Disagreement
from impls.cuda.torch import layer
from tests.impls.cuda.emulated import case, check, cluster_plan, step_plan, tensor_step_plan

PLANS = {
    "cluster": lambda dtype, memory: cluster_plan(dtype, 16, 1, memory),
    "tensor_step": tensor_step_plan,
    "step": step_plan,
}


@pytest.mark.parametrize("memory", ["saved", "rebuilt"])
@pytest.mark.parametrize(
    "design, dtype",
    [("cluster", "bfloat16"), ("cluster", "float16"), ("tensor_step", "bfloat16"), ("step", "float32"), ("step", "float64")],
)
def test_projected_layers_train(design, dtype, memory):
    check(case(16, 6, 3, dtype, num_layers=2, bidirectional=True, proj_size=5), PLANS[design](dtype, memory))


def test_projected_layers_stream_layer_by_layer():
    check(case(16, 3, 2, "bfloat16", phase="step", num_layers=2, proj_size=3), tensor_step_plan("bfloat16"))


def test_a_start_forgotten_is_seen(monkeypatch):
    monkeypatch.setattr(layer, "fold_inputs", lambda x, h0, lengths: torch.cat([x, x.new_zeros(*x.shape[:2], 5)], 2))
    with pytest.raises(Disagreement):
        check(case(16, 6, 3, "float32", phase="forward", proj_size=5), step_plan("float32"))
