"""The PyTorch operators: registered whole, differentiable, and with a sentence for every wrong call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from impls.cuda.runtime import Refused
from impls.cuda.torch.ops import EMULATE, lstm_layer, lstm_layer_backward

STEPS, BATCH, INPUTS = 3, 3, 4
WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
TENSORS = ("x", *WEIGHTS, *(f"{name}_reverse" for name in WEIGHTS), "h0", "c0", "lengths")
Given = dict[str, Any]


def arguments(
    dtype=torch.float32, hidden=16, directions=2, biases=2, training=True, design="step", memory="saved", tf32=False, grad=True,
    states=True, ragged=True,
) -> Given:  # fmt: skip
    """biases: how many a direction."""
    torch.manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape).mul(0.3).to(dtype).requires_grad_(grad)

    rows, of_state = 4 * hidden, (directions, BATCH, hidden)
    given = dict.fromkeys(TENSORS) | {"x": draw(STEPS, BATCH, INPUTS)}
    for ending in ("", "_reverse")[:directions]:
        given |= {f"weight_ih{ending}": draw(rows, INPUTS), f"weight_hh{ending}": draw(rows, hidden)}
        given |= {f"{name}{ending}": draw(rows) for name in ("bias_ih", "bias_hh")[:biases]}
    if states:
        given |= {"h0": draw(*of_state), "c0": draw(*of_state)}
    if ragged:
        given["lengths"] = torch.tensor([STEPS, 1, 2], dtype=torch.int32)
    return given | {"training": training, "design": design, "memory": memory, "tf32": tf32}


def leaves(given: Given) -> list[Tensor]:
    return [given[name] for name in TENSORS[:-1] if given[name] is not None]


def with_leaves(given: Given, tensors: Sequence[Tensor]) -> Given:
    """The same call on other tensors, in the order of `leaves`."""
    return given | dict(zip((name for name in TENSORS[:-1] if given[name] is not None), tensors, strict=True))


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"memory": "rebuilt"}, {"biases": 0, "directions": 1}, {"training": False, "grad": False}, {"biases": 1},
        {"states": False, "ragged": False}, {"states": False, "ragged": False, "training": False, "grad": False},
        {"dtype": torch.bfloat16, "design": "cluster"}, {"dtype": torch.float16, "memory": "rebuilt", "design": "cluster"},
        {"design": "cluster", "tf32": True}, {"design": "tensor_step", "tf32": True},
        {"dtype": torch.bfloat16, "design": "gemm_step"},
    ],
    ids=str,
)  # fmt: skip
def test_opcheck(changes):
    torch.library.opcheck(lstm_layer, tuple(arguments(**changes).values()))


def test_opcheck_of_the_backward_operator():
    torch.library.opcheck(lstm_layer_backward, tuple(backward_arguments()))


@pytest.mark.parametrize("memory", ["saved", "rebuilt"])
def test_gradients_are_those_of_finite_differences(memory):
    for options in ({}, {"states": False, "ragged": False, "biases": 1}):
        given = arguments(torch.float64, hidden=3, memory=memory, **options)

        def run(*tensors, given=given):
            return lstm_layer(*with_leaves(given, tensors).values())[:3]

        torch.autograd.gradcheck(run, leaves(given), fast_mode=True)


@pytest.mark.parametrize("fast", ["cluster", "tensor_step"])
def test_tf32_is_near_and_not_exact(fast):
    exact, rounded = (
        lstm_layer(*arguments(tf32=tf32, design=design).values())[0] for tf32, design in ((False, "step"), (True, fast))
    )
    error = (exact - rounded).abs().max()
    # W_hh and h are each rounded to 11 bits: at most 2^-11 of |W||h| summed over H, here far below 16 · 0.3 · 2^-10.
    assert 0 < error < 5e-3


def test_strided_arguments_give_the_same():
    given = arguments(grad=False)
    expected = lstm_layer(*given.values())[0]

    def strided(tensor: Tensor) -> Tensor:
        other = torch.nan if tensor.is_floating_point() else -1
        return torch.stack([tensor, torch.full_like(tensor, other)], -1)[..., 0]

    given = with_leaves(given, [strided(tensor) for tensor in leaves(given)]) | {"lengths": strided(given["lengths"])}
    torch.testing.assert_close(lstm_layer(*given.values())[0], expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    "name, value, complaint",
    [
        ("x", torch.zeros(0, BATCH, INPUTS), "T and I at least 1"),
        ("x", torch.zeros(STEPS, BATCH, 0), "T and I at least 1"),
        ("x", torch.zeros(STEPS, 0, INPUTS), "h0 must have shape"),
        ("x", torch.zeros(STEPS, BATCH, INPUTS + 1), "weight_ih must have shape"),
        ("x", torch.zeros(STEPS, BATCH, INPUTS, dtype=torch.float64), "must be torch.float64 where x is"),
        (
            "x",
            torch.zeros(STEPS, BATCH, INPUTS, dtype=torch.complex64),
            "lstm_layer: x must be float32, .*; got torch.complex64",
        ),
        ("h0", torch.zeros(1, BATCH, 16), "h0 must have shape"),
        ("weight_hh", torch.zeros(63, 16), r"weight_hh must be \[4H, H\]"),
        ("weight_hh_reverse", torch.zeros(64, 15), "weight_hh must have shape"),
        ("weight_hh_reverse", None, "the same weights and biases of both directions"),
        ("bias_hh", None, "the same weights and biases of both directions"),
        ("bias_ih_reverse", torch.zeros(63), "bias must have shape"),
        ("lengths", torch.zeros(BATCH, dtype=torch.int64), "lengths must be torch.int32"),
        ("lengths", torch.zeros(BATCH + 1, dtype=torch.int32), "lengths must have shape"),
    ],
)
def test_a_wrong_call_is_told_so(name, value, complaint):
    with pytest.raises(RuntimeError, match=complaint):
        lstm_layer(*(arguments(grad=False) | {name: value}).values())


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_on_another_device_is_refused(name):
    given = arguments(grad=False)
    given[name] = given[name].to("meta")  # with it the dispatcher takes the fake implementation
    with pytest.raises(RuntimeError, match="lstm_layer: expected all tensors on one device; got cpu, meta"):
        lstm_layer(*given.values())


@pytest.mark.parametrize("position", range(3 + len(TENSORS) + 3))
def test_a_backward_tensor_on_another_device_is_refused(position):
    given = backward_arguments()
    given[position] = given[position].to("meta")
    with pytest.raises(RuntimeError, match="lstm_layer_backward: expected all tensors on one device; got cpu, meta"):
        lstm_layer_backward(*given)


@pytest.mark.parametrize("position, name", [(0, "grad_y"), (1, "grad_h_n"), (2, "grad_c_n"), (15, "y"), (17, "cells")])
def test_a_wrong_shape_or_dtype_in_the_backward_pass_is_told_so(position, name):
    for change in (lambda tensor: tensor[..., :-1], lambda tensor: tensor.double()):
        given = backward_arguments()
        given[position] = change(given[position])
        with pytest.raises(RuntimeError, match=f"lstm_layer_backward: {name} must"):
            lstm_layer_backward(*given)


def backward_arguments() -> list:
    """In the operator's order: three gradients, the inputs, what was kept of the forward pass, and the choice."""
    given = arguments(grad=False)
    y, h_n, c_n, gates, cells = lstm_layer(*given.values())
    return [y, h_n, c_n, *(given[name] for name in TENSORS), y, gates, cells, *list(given.values())[-3:]]


def test_all_on_meta_gives_shapes():
    given = arguments()
    given = with_leaves(given, [tensor.to("meta") for tensor in leaves(given)]) | {"lengths": given["lengths"].to("meta")}
    y, h_n, c_n, _, _ = lstm_layer(*given.values())
    assert y.is_meta and y.shape == (STEPS, BATCH, 32) and h_n.shape == c_n.shape == (2, BATCH, 16)


def test_without_a_gpu_or_the_emulation_it_refuses(monkeypatch):
    monkeypatch.delenv(EMULATE)
    with pytest.raises(RuntimeError, match=r"run on cuda, not on cpu; .* use torch\.nn\.LSTM .*LSTM_BENCH_EMULATE=1"):
        lstm_layer(*arguments().values())


@pytest.mark.parametrize("memory", ["saved", "rebuilt"])
def test_lengths_beyond_the_sequence_count_as_its_ends(memory):
    wild, tame = (torch.tensor(lengths, dtype=torch.int32) for lengths in ([STEPS + 4, -9, -1, 0], [STEPS, 0, 0, 0]))
    answers = []
    for lengths in (wild, tame):
        given = arguments(memory=memory) | {"lengths": lengths}
        for name, axis in (("x", 1), ("h0", 1), ("c0", 1)):
            given[name] = torch.cat([given[name], given[name][:, :1]], axis).detach().requires_grad_()
        y, h_n, c_n, _, _ = lstm_layer(*given.values())
        loss = y.square().sum() + h_n.sum() + c_n.square().sum()
        answers.append([y, h_n, c_n, *torch.autograd.grad(loss, leaves(given))])
    assert all(torch.equal(*pair) for pair in zip(*answers, strict=True))
    y, h_n = answers[0][:2]
    assert not y[:, 1:].any() and torch.equal(h_n[:, 1:], given["h0"][:, 1:])


@pytest.mark.parametrize("design, hidden", [("cluster", 16), ("tensor_step", 16), ("tensor_step", 19), ("step", 19)])
@pytest.mark.parametrize("memory", ["saved", "rebuilt"])
def test_nothing_counts_as_zero_states_and_whole_sequences(memory, design, hidden):
    """And no gradient of the last states as one of zeros."""
    answers = []
    for given_all in (False, True):
        given = arguments(torch.bfloat16, hidden, design=design, memory=memory, states=False, ragged=False)
        weights = leaves(given)
        if given_all:
            given |= {name: torch.zeros(2, BATCH, hidden, dtype=torch.bfloat16) for name in ("h0", "c0")}
            given["lengths"] = torch.full((BATCH,), STEPS, dtype=torch.int32)
        y, h_n, c_n, _, _ = lstm_layer(*given.values())
        loss = y.float().square().sum() + (0 * (h_n + c_n)).sum() if given_all else y.float().square().sum()
        answers.append([y, h_n, c_n, *torch.autograd.grad(loss, weights)])
    assert all(torch.equal(*pair) for pair in zip(*answers, strict=True))


def test_states_in_the_middle_of_memory_are_read_rightly():
    """Kernels read 16 bytes at once, and a view may begin anywhere."""
    given = arguments(torch.bfloat16, design="tensor_step", grad=False, directions=1)
    expected = lstm_layer(*given.values())[:3]
    for name in ("h0", "weight_hh"):
        moved = torch.cat([torch.zeros(1, dtype=torch.bfloat16), given[name].flatten()])[1:].view(given[name].shape)
        assert moved.data_ptr() % 16
        given[name] = moved
    assert all(torch.equal(*pair) for pair in zip(lstm_layer(*given.values())[:3], expected, strict=True))


def test_autocast_does_not_reach_into_the_operators():
    """Called in float32 they stay in float32: forward, and a backward pass that runs inside of autocast."""
    answers = []
    for inside in (False, True):
        given = arguments()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=inside):
            y = lstm_layer(*given.values())[0]
            answers.append([y, *torch.autograd.grad(y.square().sum(), leaves(given))])
    assert all(found.dtype == torch.float32 and torch.equal(found, right) for right, found in zip(*answers, strict=True))


def test_a_bias_hh_alone_is_told_so():
    given = arguments(grad=False, directions=1) | {"bias_ih": None}
    with pytest.raises(RuntimeError, match="bias_hh without bias_ih"):
        lstm_layer(*given.values())


def test_every_gradient_is_its_own_memory():
    found = [grad for grad in lstm_layer_backward(*backward_arguments()) if grad.numel()]
    assert len(found) == len(TENSORS) - 1 and len({grad.untyped_storage().data_ptr() for grad in found}) == len(found)


def test_one_tensor_may_be_two_arguments():
    given = arguments(grad=False)
    given["c0"] = given["h0"].clone()
    expected = lstm_layer(*given.values())[:3]
    kept = given["h0"].clone()
    found = lstm_layer(*(given | {"c0": given["h0"]}).values())[:3]
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    assert torch.equal(given["h0"], kept)


def test_an_unknown_or_impossible_design_is_refused():
    with pytest.raises(Refused, match="choose from auto, cluster, grid, gemm_step, tensor_step, step"):
        lstm_layer(*arguments(design="fast").values())
    with pytest.raises(Refused, match="exact float32"):
        lstm_layer(*arguments(design="cluster").values())


def test_an_inference_call_has_no_gradient_to_give():
    y = lstm_layer(*arguments(training=False).values())[0]
    with pytest.raises(RuntimeError, match="called for inference"):
        y.sum().backward()
