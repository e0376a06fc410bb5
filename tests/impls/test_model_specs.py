"""What models cost, against closed forms written out again: parameters, operations, bytes of keys and values and of states."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bench.harness.case import Case, InvalidCase
from impls import Batch, LSTMStackSpec, MinLSTMSpec, Spec, SSMSpec, TransformerSpec
from impls.batch import InvalidBatch, check_batch
from impls.params import random_params
from impls.specs.recurrent import InvalidSpec, spec_from_dict, spec_to_dict

WIDTH, LAYERS = 64, 3
MODELS: list[Spec] = [
    TransformerSpec(WIDTH, WIDTH, LAYERS, num_heads=4),
    TransformerSpec(7, WIDTH, LAYERS, num_heads=8, num_kv_heads=2, feed_forward_size=100, window=5, dtype="float16"),
    LSTMStackSpec(7, WIDTH, LAYERS),
    MinLSTMSpec(7, WIDTH, LAYERS, dtype="float64"),
    SSMSpec(7, WIDTH, LAYERS, expand=3, state_size=8),
]
ids = [spec.cell for spec in MODELS]


@pytest.mark.parametrize("spec", MODELS, ids=ids)
def test_parameters_are_those_of_the_module(spec: Any) -> None:
    from impls.frameworks.torch.models import build

    params = random_params(spec)
    module = build(spec, params)
    shapes = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    assert shapes == spec.parameter_shapes() == {name: value.shape for name, value in params.items()}
    assert spec.parameter_count() == sum(value.numel() for value in module.parameters())
    assert all(np.all(value != 0) for value in params.values())


def test_weights_in_closed_form() -> None:
    norms = (2 * LAYERS + 1) * WIDTH
    assert MODELS[0].parameter_count() == 12 * WIDTH**2 * LAYERS + norms
    stack = LSTMStackSpec(WIDTH, WIDTH, LAYERS)
    assert stack.parameter_count() == (8 * WIDTH**2 + 8 * WIDTH) * LAYERS + (LAYERS + 1) * WIDTH
    assert MinLSTMSpec(WIDTH, WIDTH, LAYERS).parameter_count() == (4 * WIDTH**2 + 3 * WIDTH) * LAYERS + (LAYERS + 1) * WIDTH


@pytest.mark.parametrize(("heads", "kv_heads"), [(8, 0), (8, 8), (8, 2), (8, 1)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_keys_and_values_in_bytes(heads: int, kv_heads: int, dtype: Any) -> None:
    """2·L·n_kv·d_head·t·itemsize·B, and it equals the weights' bytes at t = 6d/B · n_q/n_kv."""
    spec = TransformerSpec(WIDTH, WIDTH, LAYERS, dtype=dtype, num_heads=heads, num_kv_heads=kv_heads)
    of_kv, item = kv_heads or heads, {"float32": 4, "bfloat16": 2}[dtype]
    for context, batch in ((1, 1), (17, 1), (4096, 32)):
        assert spec.state_bytes(batch, context) == 2 * LAYERS * of_kv * (WIDTH // heads) * context * item * batch
    if of_kv == heads:
        weights = spec.product_weights() * item
        assert weights == 12 * WIDTH**2 * LAYERS * item
        for batch in (1, 2, 32):
            assert spec.state_bytes(batch, 6 * WIDTH // batch) == weights


def test_a_window_bounds_the_cache_and_the_operations() -> None:
    spec = replace(MODELS[0], window=16)
    assert isinstance(spec, TransformerSpec)
    assert spec.state_bytes(2, 10**6) == spec.state_bytes(2, 16) == MODELS[0].state_bytes(2, 16)
    full = MODELS[0].sequence_flops(16)
    beyond = 2 * spec.product_weights() + 4 * LAYERS * WIDTH * 16
    assert spec.sequence_flops(20) == full + 4 * beyond


def test_operations_by_context() -> None:
    """Attention costs as much as the rest at a context of 6d, in the mean over a causal sequence at 12d − 1."""
    spec = MODELS[0]
    rest = 2 * 12 * WIDTH**2 * LAYERS
    assert spec.flops_per_token(context=6 * WIDTH) == 2 * rest
    steps = 12 * WIDTH - 1
    assert spec.sequence_flops(steps) == 2 * rest * steps
    assert spec.sequence_flops(steps, backward=True) == 3 * spec.sequence_flops(steps)
    assert replace(spec, bidirectional=True).sequence_flops(6 * WIDTH) == 2 * rest * 6 * WIDTH
    assert spec.sequence_flops(40) == sum(spec.flops_per_token(context=t + 1) for t in range(40))
    for recurrent in MODELS[2:]:
        assert recurrent.sequence_flops(40) == 40 * recurrent.flops_per_token(context=10**6)


@pytest.mark.parametrize(("spec", "each"), [(MODELS[2], 2 * WIDTH * 4), (MODELS[3], WIDTH * 8), (MODELS[4], 8 * 3 * WIDTH * 4)])
def test_states_do_not_grow(spec: Spec, each: int) -> None:
    assert spec.state_bytes(5, 1) == spec.state_bytes(5, 10**6) == LAYERS * 5 * each


def test_keys_and_values_outgrow_an_lstms_state_at_once() -> None:
    """12d² = 8H² at H = 1.2247d: 2dt > 2H from t = 1.2247."""
    transformer, lstm = TransformerSpec(2000, 2000, num_heads=20), LSTMStackSpec(2450, 2450)
    assert lstm.parameter_count() == pytest.approx(transformer.parameter_count(), rel=1e-2)
    assert transformer.state_bytes(1, 1) < lstm.state_bytes(1) < transformer.state_bytes(1, 2)


@pytest.mark.parametrize("spec", MODELS, ids=ids)
@pytest.mark.parametrize("phase", ["forward", "forward_backward", "step"])
def test_a_case_of_a_model(spec: Spec, phase: Any) -> None:
    case = Case(spec, 12, 2, phase, initial_state=bool(spec.state_shapes(1)))
    assert Case.from_dict(case.to_dict()) == case and spec_from_dict(spec_to_dict(spec)) == spec
    counts = case.counts()
    assert all(value > 0 for value in counts.values())
    assert counts["state_bytes"] == spec.state_bytes(2, 12)
    if phase == "step":
        assert counts["flops"] == 2 * spec.flops_per_token(context=12)
        assert counts["least_bytes"] >= spec.parameter_bytes() + spec.state_bytes(2, 12)


def test_keys_tell_models_apart() -> None:
    base = TransformerSpec(4, 8, num_heads=2)
    changes: list[dict[str, Any]] = [
        {"num_heads": 4}, {"num_kv_heads": 1}, {"feed_forward_size": 9}, {"window": 3}, {"bidirectional": True},
        {"num_layers": 2},
    ]  # fmt: skip
    specs = [base, *(replace(base, **change) for change in changes), LSTMStackSpec(4, 8), MinLSTMSpec(4, 8), SSMSpec(4, 8),
             SSMSpec(4, 8, expand=3), SSMSpec(4, 8, state_size=3)]  # fmt: skip
    assert len({Case(spec, 3, 1).key for spec in specs}) == len(specs)
    assert Case(base, 3, 1).key == "transformer-I4-H8-heads2-T3-B1-forward-float32-cpu"


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"num_heads": 3}, "hidden_size 8 must be a multiple of num_heads 3"),
        ({"num_heads": 0}, "num_heads must be at least 1; got 0"),
        ({"num_heads": 4, "num_kv_heads": 3}, "num_heads 4 must be a multiple of num_kv_heads 3"),
        ({"num_heads": 8}, "must be even, since rotation takes features in pairs; got 1"),
        ({"window": -1}, "window must be at least 0; got -1"),
        ({"window": 4, "bidirectional": True}, "a window of 4 tokens looks back; ask for window=0"),
        ({"dtype": "float8"}, "dtype must be one of"),
    ],
)
def test_a_transformer_that_cannot_be(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        TransformerSpec(4, 8, **sizes)


def test_a_transformer_starts_from_nothing() -> None:
    spec = TransformerSpec(4, 8)
    with pytest.raises(InvalidBatch, match="a transformer has no hidden state; leave h0 and grad_h_n out"):
        check_batch(spec, Batch(x=np.zeros((3, 2, 4)), h0=np.zeros((1, 2, 8))))
    with pytest.raises(InvalidCase, match="a transformer starts from no state but an empty cache"):
        Case(spec, 3, 2, initial_state=True)
