"""The PyTorch operators: registered whole, differentiable, and with a sentence for every wrong call."""

from __future__ import annotations

import pytest
import torch

from impls.backends._cuda.kernels import Refused
from impls.backends._cuda.ops import check, launcher_for, lstm_layer

STEPS, BATCH, INPUTS = 3, 3, 4


def arguments(
    dtype=torch.float32, hidden=16, directions=2, bias=True, training=True, design="step", memory="saved", tf32=False, grad=True
):
    torch.manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape).mul(0.3).to(dtype).requires_grad_(grad)

    rows, states = 4 * hidden, (directions, BATCH, hidden)
    return {
        "x": draw(STEPS, BATCH, INPUTS), "weight_ih": draw(directions, rows, INPUTS),
        "weight_hh": draw(directions, rows, hidden),
        "bias": draw(directions, rows) if bias else None, "h0": draw(*states), "c0": draw(*states),
        "lengths": torch.tensor([STEPS, 1, 2], dtype=torch.int32), "training": training, "design": design, "memory": memory,
        "tf32": tf32,
    }  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"memory": "rebuilt"}, {"bias": False, "directions": 1}, {"training": False, "grad": False},
        {"dtype": torch.bfloat16, "design": "cluster"}, {"dtype": torch.float16, "memory": "rebuilt", "design": "cluster"},
        {"design": "cluster", "tf32": True}, {"design": "tensor_step", "tf32": True},
    ],
    ids=str,
)  # fmt: skip
def test_opcheck(changes):
    torch.library.opcheck(lstm_layer, tuple(arguments(**changes).values()))


@pytest.mark.parametrize("memory", ["saved", "rebuilt"])
def test_gradients_are_those_of_finite_differences(memory):
    given = arguments(torch.float64, hidden=3, memory=memory)
    inputs = [given.pop(name) for name in ("x", "weight_ih", "weight_hh", "bias", "h0", "c0")]

    def run(*tensors):
        return lstm_layer(*tensors, *given.values())[:3]

    torch.autograd.gradcheck(run, inputs, fast_mode=True)


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
    for name in ("x", "weight_ih", "weight_hh", "bias", "h0", "c0"):
        given[name] = torch.stack([given[name], torch.full_like(given[name], torch.nan)], -1)[..., 0]
    torch.testing.assert_close(lstm_layer(*given.values())[0], expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    "name, value, complaint",
    [
        ("x", torch.zeros(0, BATCH, INPUTS), "no empty axis"),
        ("x", torch.zeros(STEPS, 0, INPUTS), "no empty axis"),
        ("x", torch.zeros(STEPS, BATCH, INPUTS + 1), "weight_ih must have shape"),
        ("x", torch.zeros(STEPS, BATCH, INPUTS, dtype=torch.float64), "must be the same"),
        ("h0", torch.zeros(1, BATCH, 16), "h0 must have shape"),
        ("weight_hh", torch.zeros(3, 64, 16), "weight_hh must be"),
        ("lengths", torch.zeros(BATCH, dtype=torch.int64), "lengths must be"),
    ],
)
def test_a_wrong_call_is_told_so(name, value, complaint):
    with pytest.raises(RuntimeError, match=complaint):
        lstm_layer(*(arguments(grad=False) | {name: value}).values())


def test_tensors_on_two_devices_and_devices_without_kernels():
    given = [value for value in arguments(grad=False).values() if not isinstance(value, str | bool)]
    given[5] = given[5].to("meta")  # c0
    with pytest.raises(RuntimeError, match="on one device; got cpu, meta"):
        check(*given)
    with pytest.raises(RuntimeError, match="not on meta"):
        launcher_for(torch.device("meta"))


def test_lengths_on_another_device_are_told_so():
    given = [value for value in arguments(grad=False).values() if not isinstance(value, str | bool)]
    given[6] = given[6].to("meta")
    with pytest.raises(RuntimeError, match="on one device; got cpu, meta"):
        check(*given)


def test_one_tensor_may_be_two_arguments():
    given = arguments(grad=False)
    given["c0"] = given["h0"].clone()
    expected = lstm_layer(*given.values())[:3]
    kept = given["h0"].clone()
    found = lstm_layer(*(given | {"c0": given["h0"]}).values())[:3]
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    assert torch.equal(given["h0"], kept)


def test_an_unknown_or_impossible_design_is_refused():
    with pytest.raises(Refused, match="choose from auto, cluster, tensor_step, step"):
        lstm_layer(*arguments(design="fast").values())
    with pytest.raises(Refused, match="exact float32"):
        lstm_layer(*arguments(design="cluster").values())


def test_an_inference_call_has_no_gradient_to_give():
    y = lstm_layer(*arguments(training=False).values())[0]
    with pytest.raises(RuntimeError, match="called for inference"):
        y.sum().backward()
