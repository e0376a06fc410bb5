"""TF32 or exact float32: PyTorch's switches, old and new, and one rule for the kernels and the products around them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from impls.cuda.torch import layer, ops
from impls.cuda.torch.module import LSTM
from impls.cuda.torch.ops import lstm_layer, products, tf32_allowed, tf32_for
from tests.impls.cuda.test_ops import arguments, leaves

BACKENDS = torch.backends


@pytest.fixture(autouse=True)
def switches_as_they_were():
    """The new ones are inherited downwards, so they are put back from the outermost in."""
    yield
    BACKENDS.fp32_precision = BACKENDS.cudnn.fp32_precision = "none"
    BACKENDS.cuda.matmul.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    BACKENDS.cudnn.allow_tf32 = True


def switch_of_everything(value):
    BACKENDS.fp32_precision = value


def switch_of_cudnn(value):
    BACKENDS.cudnn.fp32_precision = value


def switch_of_rnns(value):
    BACKENDS.cudnn.rnn.fp32_precision = value


def old_switch(value):
    BACKENDS.cudnn.allow_tf32 = value == "tf32"


@pytest.mark.parametrize("switch", [switch_of_everything, switch_of_cudnn, switch_of_rnns, old_switch])
def test_every_switch_is_understood_also_by_a_compiled_module(switch, monkeypatch):
    """Forward and backward read it when they run, so that a graph that was compiled under one value follows another."""
    seen, traces = [], []
    monkeypatch.setattr(ops, "tf32_for", lambda x, asked: seen.append(asked is None and tf32_allowed()) or False)

    def compiler(graph, inputs):
        traces.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(LSTM(4, 3), backend=compiler, fullgraph=True)
    for value in ("ieee", "tf32", "ieee"):
        if switch in (switch_of_everything, switch_of_cudnn):
            BACKENDS.cudnn.rnn.fp32_precision = "none"
        switch(value)
        assert tf32_allowed() == (value == "tf32")
        seen.clear()
        compiled(torch.zeros(2, 1, 4))[0].sum().backward()
        assert seen == [value == "tf32"] * 2 and len(traces) == 1


@pytest.mark.parametrize("asked, switch, on_gpu, expected", [
    (None, "tf32", True, True), (None, "ieee", True, False), (None, "tf32", False, False),
    (True, "ieee", True, True), (True, "ieee", False, True), (False, "tf32", True, False),
])  # fmt: skip
def test_who_decides(asked, switch, on_gpu, expected):
    BACKENDS.cudnn.rnn.fp32_precision = switch
    assert tf32_for(SimpleNamespace(is_cuda=on_gpu), asked) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("around", ["none", "ieee", "tf32"])
@pytest.mark.parametrize("tf32", [False, True])
def test_products_follow_the_kernels_and_the_switch_is_put_back(tf32, around):
    BACKENDS.cuda.matmul.fp32_precision = around
    with pytest.raises(KeyError), products(tf32):
        assert (BACKENDS.cuda.matmul.fp32_precision == "tf32") == tf32
        raise KeyError
    assert BACKENDS.cuda.matmul.fp32_precision == around


def test_a_switch_that_was_inherited_still_inherits():
    BACKENDS.cuda.matmul.fp32_precision = "none"
    BACKENDS.fp32_precision = "ieee"
    with products(True):
        pass
    BACKENDS.fp32_precision = "tf32"
    assert BACKENDS.cuda.matmul.fp32_precision == "tf32"


@pytest.mark.parametrize(
    "design, tf32, mode",
    [("auto", False, "ieee"), ("tensor_step", True, "tf32"), ("gemm_step", True, "tf32"), ("step", True, "ieee")],
)
def test_the_operators_multiply_all_in_one_mode(design, tf32, mode, monkeypatch):
    """That of their kernels: the design step multiplies exactly also where TF32 is allowed."""
    seen = []

    def spy(name):
        real = getattr(layer, name)

        def wrapper(*given, **named):
            seen.append((name, BACKENDS.cuda.matmul.fp32_precision))
            return real(*given, **named)

        monkeypatch.setattr(layer, name, wrapper)

    spy("forward"), spy("backward")
    BACKENDS.cuda.matmul.fp32_precision = "ieee" if mode == "tf32" else "tf32"
    given = arguments(design=design, tf32=tf32)
    y = lstm_layer(*given.values())[0]
    torch.autograd.grad(y.sum(), leaves(given))
    assert seen == [(name, mode) for name in ("forward", "backward")]
