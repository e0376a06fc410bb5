"""What a language model computes in on a GPU, as far as a CPU can run it: autocast, fast attention, our kernels emulated."""

from __future__ import annotations

import copy
import shutil
from contextlib import nullcontext

import pytest
import torch
from torch.nn import functional

from bench.studies import context as context_study
from bench.studies import quality as quality_study
from bench.studies.context import windows
from bench.studies.quality import losses, training
from bench.studies.quality.training import LanguageModel
from impls import LSTMStackSpec, Spec, TransformerSpec, Unavailable
from impls.cuda.runtime import driver
from impls.cuda.torch import ops
from impls.cuda.torch.network import SteppedLSTM
from impls.frameworks.torch import models as torch_models
from impls.params import random_params

TRANSFORMER = TransformerSpec(16, 16, 2, num_heads=2)
LSTM = LSTMStackSpec(16, 16, 2)
TOKENS = torch.randint(0, 16, (7, 3), generator=torch.Generator().manual_seed(0))


def models(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> tuple[LanguageModel, LanguageModel]:
    """The same in float32, and as on a GPU: on the CPU under autocast, with our kernels emulated."""
    plain = LanguageModel(spec, 16, 0)
    monkeypatch.setenv(ops.EMULATE, "1")
    monkeypatch.setattr(training, "layer_for", lambda spec: SteppedLSTM)
    reduced = LanguageModel(spec, 16, 0)

    monkeypatch.setattr(
        training, "products", lambda like: training.in_bfloat16("cpu") if like is reduced.like else nullcontext()
    )
    return plain, reduced


@pytest.mark.skipif(shutil.which("g++") is None, reason="the emulation of the CUDA kernels needs g++")
@pytest.mark.parametrize("spec", [TRANSFORMER, LSTM], ids=lambda spec: spec.cell)
def test_it_trains_as_in_float32_up_to_bfloat16(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for model in models(spec, monkeypatch):
        logits = model(TOKENS[:-1])
        assert logits.dtype == torch.float32, "the head and the loss are not rounded"
        loss = functional.cross_entropy(logits.flatten(0, 1), TOKENS[1:].flatten())
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        assert all(gradient.dtype == torch.float32 for gradient in gradients)
        found.append((loss, *gradients))
    (right, *right_gradients), (loss, *gradients) = found
    assert loss.item() == pytest.approx(right.item(), rel=0.02) and loss.item() != right.item(), "it was rounded"
    for own, its in zip(gradients, right_gradients, strict=True):
        assert torch.linalg.vector_norm(own - its) <= 0.1 * torch.linalg.vector_norm(its)


@pytest.mark.skipif(shutil.which("g++") is None, reason="the emulation of the CUDA kernels needs g++")
def test_after_training_our_layers_also_compute_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient's size over lags is taken from a copy in float64, whose kept weights are not the trained one's."""
    plain, ours = models(LSTM, monkeypatch)
    with torch.no_grad():
        ours(TOKENS)
    doubles = [copy.deepcopy(model).double() for model in (plain, ours)]
    answers = []
    for double in doubles:
        vectors = double.embedding[TOKENS].detach().requires_grad_()
        logits = double.from_vectors(vectors)
        answers.append((logits, *torch.autograd.grad(logits.square().sum(), [vectors])))
    torch.testing.assert_close(answers[1], answers[0], rtol=1e-9, atol=1e-12)


def test_attention_that_no_fast_kernel_runs_is_an_error() -> None:
    query = torch.randn(1, 2, 5, 8)
    with training.in_bfloat16("cpu"):
        functional.scaled_dot_product_attention(query, query, query, is_causal=True)
        with pytest.warns(UserWarning), pytest.raises(RuntimeError, match="No available kernel"):
            functional.scaled_dot_product_attention(query, query, query, dropout_p=0.5)
    functional.scaled_dot_product_attention(query, query, query, dropout_p=0.5)


def test_on_a_cpu_nothing_is_changed() -> None:
    model = LanguageModel(LSTM, 16, 0)
    assert [type(block.lstm) for block in model.body.blocks()] == [torch.nn.LSTM] * 2  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
    with training.products(model.like):
        assert not torch.is_autocast_enabled("cpu")
    assert training.precision_notes(LSTM) == ()
    body = torch_models.build(LSTM, random_params(LSTM, 0))  # pyright: ignore[reportArgumentType]
    vectors = model.embedding[TOKENS]
    torch.testing.assert_close(model.from_vectors(vectors), body(vectors)[0] @ model.head.T, rtol=0, atol=0)


def test_where_a_gpu_cannot_run_our_kernels_that_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "missing", lambda: "NVRTC is not installed; pip install cuda-bindings")
    spec = LSTMStackSpec(16, 16, device="cuda")
    with pytest.raises(Unavailable, match="runs on the backend cuda on a GPU: NVRTC is not installed"):
        training.layer_for(spec)
    assert training.layer_for(TransformerSpec(16, 16, device="cuda")) is SteppedLSTM, "it has none"
    monkeypatch.setattr(driver, "missing", lambda: None)
    assert training.layer_for(spec) is SteppedLSTM


def test_records_of_a_gpu_say_what_was_computed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every probe at gpu scale, on the case as it is, its trainings replaced by a CPU's of the smallest size."""
    small = next(case for case in quality_study.CASES["smoke"] if case.spec.cell == "lstm_stack")
    of_context = next(case for case in context_study.CASES["smoke"] if case.factor("probe") == "context")
    of_recall = next(case for case in context_study.CASES["smoke"] if case.factor("probe") == "recall")
    for module in (losses, windows):
        monkeypatch.setattr(module, "precision_notes", lambda spec: ("said",))
    for measure, case in (
        (losses.measure, small),
        (windows.measure_windows, of_context),
        (windows.measure_recall, of_recall),
    ):
        assert next(iter(measure(case))).notes[-1:] == ("said",)
    monkeypatch.undo()
    on_gpu = {case.spec for study in (quality_study, context_study) for case in study.CASES["gpu"]}
    assert {training.precision_notes(spec) for spec in on_gpu} == {
        ("bfloat16 by autocast", "LSTM by cuda"), ("bfloat16 by autocast", "attention by flash or cuDNN"),
    }  # fmt: skip
