"""Models on every backend that runs them, against the float64 oracle; and the oracle against finite differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import impls
from bench.harness.case import Case
from bench.worker.agreement import Disagreement, answer, check, check_against
from bench.worker.prepare import Skip, prepare
from impls import Batch, LSTMStackSpec, MinLSTMSpec, Spec, SSMSpec, TransformerSpec
from impls.batch import InvalidBatch
from impls.frameworks.torch import models as torch_models
from impls.specs.residual import InvalidSpec
from tests.impls.test_conformance import backend_for
from tests.impls.test_oracle import nudged

RUN_ALL = ("numpy", "torch")
RUN_SOME = (*RUN_ALL, "jax", "cudnn")
IN_JAX = ("transformer", "lstm_stack")
SPECS: list[Spec] = [
    TransformerSpec(6, 6, num_heads=1),
    TransformerSpec(5, 48, num_layers=2, num_heads=6, num_kv_heads=2),
    TransformerSpec(16, 16, num_layers=2, num_heads=2, num_kv_heads=1, feed_forward_size=31, window=4),
    TransformerSpec(9, 16, num_layers=2, bidirectional=True),
    LSTMStackSpec(5, 33, num_layers=2),
    LSTMStackSpec(1, 5),
    MinLSTMSpec(5, 33, num_layers=2),
    SSMSpec(5, 16, num_layers=2, state_size=5),
    SSMSpec(7, 7, expand=1, state_size=1),
]
SIZES = [(1, 3), (13, 2), (32, 1)]
CASES = [
    Case(spec, *SIZES[index % 3], "forward_backward", initial_state=bool(spec.state_shapes(1)))
    for index, spec in enumerate(SPECS)
]


def each(phase: str) -> list:
    return [
        pytest.param(name, replace(case, phase=phase), id=f"{name}-{case.key}")
        for name in RUN_SOME
        for case in CASES
        if not (phase == "step" and case.spec.bidirectional)
    ]


@pytest.mark.parametrize(("name", "case"), [*each("forward_backward"), *each("forward"), *each("step")])
def test_answers_as_the_oracle(name: str, case: Case) -> None:
    loaded = backend_for(name, case).load(case.spec, *case.data())
    check_against(answer(loaded, case), case)
    assert loaded.provenance()["ran"] in impls.get(name).RUNS
    if case.phase != "step":
        check_against(answer(loaded, case), case)  # a second call neither adds up gradients nor carries a state on


@pytest.mark.parametrize("name", RUN_SOME)
@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
@pytest.mark.parametrize("spec", [SPECS[1], LSTMStackSpec(5, 32, 2), MinLSTMSpec(5, 32, 2), SSMSpec(5, 16, 2)],
                         ids=lambda spec: spec.cell)  # fmt: skip
def test_computes_in_other_dtypes(name: str, dtype: str, spec: Spec) -> None:
    case = Case(replace(spec, dtype=dtype), 12, 3, "forward_backward")
    check_against(answer(backend_for(name, case).load(case.spec, *case.data()), case), case)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.cell)
def test_gradients_are_finite_differences(spec: Spec) -> None:
    case = Case(replace(spec, dtype="float64"), 4, 2, "forward_backward", initial_state=bool(spec.state_shapes(1)))
    params, batch = case.data()
    random = np.random.default_rng(3)
    last = {f"grad_{letter}_n": random.standard_normal(shape) for letter, shape in spec.state_shapes(2).items()}
    batch = replace(batch, **last)

    def loss(params: impls.Params, batch: Batch) -> float:
        loaded = impls.get("numpy").load(case.spec, params, batch)
        loaded.forward()
        pairs = [
            (loaded.outputs(), batch.grad_y),
            *((value, last[f"grad_{name}"]) for name, value in loaded.final_state().items()),
        ]
        return sum(float(np.sum(value * cotangent)) for value, cotangent in pairs if cotangent is not None)

    loaded = impls.get("numpy").load(case.spec, params, batch)
    loaded.forward_backward()
    for name, gradient in loaded.gradients().items():
        for index in random.permutation(gradient.size)[:3]:
            ahead, behind = (loss(*nudged(params, batch, name, index, by)) for by in (1e-6, -1e-6))
            assert gradient.flat[index] == pytest.approx((ahead - behind) / 2e-6, rel=2e-6, abs=2e-7), name


STREAMS = [SPECS[1], SPECS[2], LSTMStackSpec(5, 33, 2), SSMSpec(5, 16, 2)]


@pytest.mark.parametrize(
    ("name", "spec"),
    [(name, spec) for name in RUN_ALL for spec in STREAMS] + [("jax", spec) for spec in STREAMS[:2]],
    ids=lambda value: getattr(value, "cell", value),
)
def test_a_stream_goes_on_where_the_batch_ended(name: str, spec: Spec) -> None:
    """After `prefill` as after T steps; then the ring is full, and both go on through the batch from its start."""
    case = Case(replace(spec, dtype="float64"), 6, 2, "step")
    stepped, filled = (impls.get(name).load(case.spec, *case.data()) for _ in range(2))
    for _ in range(6):
        stepped.step()
    filled.prefill()  # pyright: ignore[reportAttributeAccessIssue]
    for _ in range(9):
        stepped.step()
        filled.step()
        np.testing.assert_allclose(filled.outputs(), stepped.outputs(), rtol=1e-10, atol=1e-12)


def test_beyond_its_capacity_a_cache_is_a_sliding_window() -> None:
    """One layer, where attention to the last C tokens is all a window is: T = 4 C tokens of a model with a window of C."""
    spec = TransformerSpec(8, 8, num_heads=2, dtype="float64")
    case = Case(spec, 5, 2, "step")
    params, batch = case.data()
    repeated = replace(batch, x=np.concatenate([batch.x] * 4))
    windowed = impls.get("numpy").load(replace(spec, window=5), params, repeated)
    windowed.forward()
    for name in (*RUN_ALL, "jax"):
        found = answer(impls.get(name).load(spec, params, batch), replace(case, steps=10))  # streams twice as many
        np.testing.assert_allclose(found["outputs"], windowed.outputs(), rtol=1e-10, atol=1e-12)


def test_looking_does_not_disturb_a_cache() -> None:
    case = Case(TransformerSpec(4, 8), 3, 2, "step")
    looked_at, undisturbed = (impls.get("torch").load(case.spec, *case.data()) for _ in range(2))
    for _ in range(7):
        looked_at.step()
        assert looked_at.provenance()["ran"] in ("flash", "math")
        undisturbed.step()
        assert (looked_at.outputs() == undisturbed.outputs()).all()


@pytest.mark.parametrize("steps", [1, 2, 3, 31, 32, 33, 127])
def test_the_parallel_scan_is_the_sequential_one(steps: int) -> None:
    random = torch.Generator().manual_seed(steps)
    a, b = (torch.randn(steps, 2, 5, generator=random, dtype=torch.float64) for _ in range(2))
    a, h = a.sigmoid(), torch.randn(2, 5, generator=random, dtype=torch.float64)
    inputs = [value.requires_grad_() for value in (a, b, h)]
    cotangent = torch.randn(steps, 2, 5, generator=random, dtype=torch.float64)
    results = [way(*inputs) for way in (torch_models.sequential, torch_models.parallel)]
    torch.testing.assert_close(*results, rtol=1e-14, atol=1e-14)
    for by_steps, at_once in zip(*(torch.autograd.grad(result, inputs, cotangent) for result in results), strict=True):
        torch.testing.assert_close(at_once, by_steps, rtol=1e-13, atol=1e-13)


def test_a_scan_that_forgets_its_start_is_noticed() -> None:
    a, b, h = torch.full((4, 1), 0.5), torch.ones(4, 1), torch.ones(1)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(torch_models.parallel(a, b, 0 * h), torch_models.sequential(a, b, h))


@pytest.mark.parametrize("name", [name for name in impls.names() if name != "null"])
@pytest.mark.parametrize("spec", [SPECS[3], TransformerSpec(4, 8), LSTMStackSpec(4, 8), MinLSTMSpec(4, 8), SSMSpec(4, 8)],
                         ids=lambda spec: spec.cell)  # fmt: skip
def test_what_is_not_run_is_refused_in_a_sentence(name: str, spec: Spec) -> None:
    try:
        backend = impls.get(name)
    except impls.Unavailable as error:
        pytest.skip(str(error))
    for phase, ragged in (("forward", False), ("forward_backward", True), ("step", False)):
        reason = backend.refuses(spec, phase, ragged)
        assert (reason is None) if (name in RUN_ALL and not ragged and not spec.bidirectional) else reason is None or (
            len(reason.split()) > 6 and any(remedy in reason for remedy in ("ask for", "the backends", "install"))
        )  # fmt: skip
        if ragged:
            assert reason is not None


def test_jax_runs_two_of_the_models_and_says_so_of_the_others() -> None:
    backend = impls.get("jax")
    for spec in SPECS:
        for phase in ("forward", "forward_backward", *(() if spec.bidirectional else ("step",))):
            reason = backend.refuses(spec, phase, False) or ""
            assert (not reason) if spec.cell in IN_JAX else f"and no {spec.cell}; the backends numpy and torch run" in reason
    with pytest.raises(InvalidSpec, match="no minlstm"):
        backend.load(MinLSTMSpec(4, 8), *Case(MinLSTMSpec(4, 8), 3, 2).data())


def test_jax_tells_apart_the_positions_of_a_long_stream() -> None:
    """Angles in float32 would be off by 0.06 at the millionth token."""
    import jax

    from impls.frameworks.jax import models as jax_models

    positions = np.array([1_000_003, 2_000_000_011])
    with jax.enable_x64(True):
        cos, sin = jax_models.rotation(jax.numpy.asarray(positions), 8, jax.numpy.dtype("float32"))
    angles = positions[:, None] * 10_000.0 ** (-np.arange(0, 8, 2) / 8)
    np.testing.assert_allclose(np.asarray(cos), np.cos(angles), atol=1e-6)
    np.testing.assert_allclose(np.asarray(sin), np.sin(angles), atol=1e-6)


def test_jax_keeps_one_ring_and_no_more() -> None:
    case = Case(SPECS[2], 9, 2, "step")
    loaded = prepare(case, "jax").loaded
    assert loaded.cache_bytes() == case.spec.state_bytes(2, 9)  # pyright: ignore[reportAttributeAccessIssue]
    before = loaded.ring[1][0][0]  # pyright: ignore[reportAttributeAccessIssue]
    loaded.step()
    loaded.wait()
    assert before.is_deleted()  # given back to XLA, which writes the token into it


def test_an_encoder_is_refused_for_decoding() -> None:
    with pytest.raises(Skip, match="a bidirectional network cannot stream: its output at t needs the inputs after t"):
        prepare(Case(SPECS[3], 4, 2, "step"), "torch")


def test_lengths_are_refused() -> None:
    case = Case(SPECS[4], 4, 2)
    params, batch = case.data()
    with pytest.raises(InvalidBatch, match="a lstm_stack takes sequences of full length; leave lengths out"):
        impls.get("torch").load(case.spec, params, replace(batch, lengths=np.array([4, 1])))


@pytest.mark.parametrize("phase", ["forward", "forward_backward", "step"])
def test_the_one_door_opens_for_models(phase: impls.Phase) -> None:
    for spec in (TransformerSpec(4, 8), MinLSTMSpec(4, 8)):
        prepared = prepare(Case(spec, 40, 2, phase), "torch")
        assert prepared.provenance["ran"] in ("flash", "math", "scan")


def test_attention_to_the_future_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate bites: a Transformer whose mask was forgotten is a wrong answer."""
    from impls.frameworks.torch import models as torch_models

    right = torch_models.attend
    monkeypatch.setattr(torch_models, "attend", lambda query, key, value, causal: right(query, key, value, False))
    with pytest.raises(Disagreement, match="outputs is off by"):
        check(impls.get("torch"), Case(TransformerSpec(4, 8), 6, 2))
