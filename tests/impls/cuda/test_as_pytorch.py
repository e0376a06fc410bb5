"""Calls of the drop-in module beside the same calls of `torch.nn.LSTM`: the same results, or the same kind of error.

What PyTorch's own tests of `nn.LSTM` cover: shapes, sizes of zero, states, packing, dtypes, defaults, state dict, copies,
equivalence with `nn.LSTMCell`, and errors.
"""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence

from impls.cuda.torch.module import LSTM

pytestmark = pytest.mark.filterwarnings(
    "ignore:LSTM with projections is not supported with oneDNN", "ignore:dropout option adds dropout after all but last"
)
Class = type[nn.LSTM] | type[LSTM]


def outcome(call: Callable[[Class], Any], kind: Class) -> Any:
    """What a call returns with weights drawn from one seed, or the exception."""
    torch.manual_seed(0)
    try:
        return call(kind)
    except Exception as error:
        return error


def flat(answer) -> list[Tensor]:
    y, (h_n, c_n) = answer
    return [*((y.data, y.batch_sizes) if isinstance(y, PackedSequence) else (y,)), h_n, c_n]


def drawn(*shape: int, dtype=torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def states(*shape: int, **like) -> tuple[Tensor, Tensor]:
    return drawn(*shape, **like), drawn(*shape, **like) * 0.5


X = (5, 3, 4)
RIGHT: dict[str, Callable[[Class], Any]] = {
    "no sequence": lambda kind: kind(4, 7)(drawn(5, 0, 4)),
    "no sequence, all options": lambda kind: kind(4, 7, 2, bidirectional=True, proj_size=3)(drawn(5, 0, 4)),
    "no sequence, with states": lambda kind: kind(4, 7)(drawn(5, 0, 4), states(1, 0, 7)),
    "no sequence, batch first": lambda kind: kind(4, 7, batch_first=True)(drawn(0, 5, 4)),
    "one step": lambda kind: kind(4, 7)(drawn(1, 3, 4)),
    "one unit": lambda kind: kind(4, 1)(drawn(*X)),
    "one input": lambda kind: kind(1, 7)(drawn(5, 3, 1)),
    "unbatched": lambda kind: kind(4, 7)(drawn(5, 4)),
    "unbatched, batch first": lambda kind: kind(4, 7, batch_first=True)(drawn(5, 4)),
    "unbatched, with states": lambda kind: kind(4, 7, 2, bidirectional=True)(drawn(5, 4), states(4, 7)),
    "unbatched, states in one tensor": lambda kind: kind(4, 7)(drawn(5, 4), drawn(2, 1, 7)),
    "states as a list": lambda kind: kind(4, 7)(drawn(*X), list(states(1, 3, 7))),
    "states, batch first": lambda kind: kind(4, 7, batch_first=True)(drawn(3, 5, 4), states(1, 3, 7)),
    "arguments by name": lambda kind: kind(input_size=4, hidden_size=7)(input=drawn(*X), hx=states(1, 3, 7)),
    "a transposed input": lambda kind: kind(4, 7)(drawn(4, 3, 5).permute(2, 1, 0)),
    "an expanded input": lambda kind: kind(4, 7)(drawn(1, 1, 4).expand(5, 3, 4)),
    "every second step": lambda kind: kind(4, 7)(drawn(10, 3, 4)[::2]),
    "float64": lambda kind: kind(4, 7, dtype=torch.float64)(drawn(*X, dtype=torch.float64)),
    "double()": lambda kind: kind(4, 7).double()(drawn(*X, dtype=torch.float64)),
    "one layer with dropout": lambda kind: kind(4, 7, dropout=0.5)(drawn(*X)),
    "dropout of everything": lambda kind: kind(4, 7, 2, dropout=1.0)(drawn(*X)),
    "dropout in eval": lambda kind: kind(4, 7, 2, dropout=0.5).eval()(drawn(*X)),
    "a packed sequence": lambda kind: kind(4, 7)(pack_padded_sequence(drawn(*X), torch.tensor([5, 3, 1]))),
    "a packed sequence, unsorted": lambda kind: kind(4, 7)(
        pack_padded_sequence(drawn(*X), torch.tensor([1, 5, 3]), enforce_sorted=False), states(1, 3, 7)
    ),
    "a packed sequence, batch first": lambda kind: kind(4, 7, batch_first=True)(
        pack_padded_sequence(drawn(3, 5, 4), torch.tensor([5, 3, 1]), batch_first=True)
    ),
    "one sequence, packed": lambda kind: kind(4, 7)(pack_sequence([drawn(5, 4)])),
    "a packed sequence, states as a list": lambda kind: kind(4, 7)(pack_sequence([drawn(5, 4)]), list(states(1, 1, 7))),
    "on meta": lambda kind: kind(4, 7, 2, bidirectional=True, device="meta")(drawn(*X).to("meta")),
    "no sequence on meta": lambda kind: kind(4, 7, device="meta")(drawn(5, 0, 4).to("meta")),
}


@pytest.mark.parametrize("name", RIGHT)
def test_the_same_results(name):
    expected, found = (outcome(RIGHT[name], kind) for kind in (nn.LSTM, LSTM))
    assert not isinstance(expected, Exception), expected
    assert not isinstance(found, Exception), found
    for right, ours in zip(flat(expected), flat(found), strict=True):
        assert ours.shape == right.shape and ours.dtype == right.dtype and ours.device == right.device
        if not right.is_meta:
            torch.testing.assert_close(ours, right, rtol=1e-4, atol=1e-5)


def test_gradients_of_no_sequence_are_zeros():
    for kind in (nn.LSTM, LSTM):
        torch.manual_seed(0)
        module, x = kind(4, 7), drawn(5, 0, 4).requires_grad_()
        module(x)[0].sum().backward()
        assert x.grad is not None and x.grad.shape == x.shape
        assert all(leaf.grad is not None and not leaf.grad.any() for leaf in module.parameters())


Pair = tuple[Tensor, Tensor]
WRONG: dict[str, Callable[[Class], Any]] = {
    "no step": lambda kind: kind(4, 7)(drawn(0, 3, 4)),
    "no step, unbatched": lambda kind: kind(4, 7)(drawn(0, 4)),
    "nothing at all": lambda kind: kind(4, 7)(drawn(0, 0, 4)),
    "no unit": lambda kind: kind(4, 0),
    "no layer": lambda kind: kind(4, 7, num_layers=0),
    "fewer than no units": lambda kind: kind(4, -1),
    "a projection to less than nothing": lambda kind: kind(4, 7, proj_size=-1),
    "a projection as large as the layer": lambda kind: kind(4, 7, proj_size=7),
    "units that are no whole number": lambda kind: kind(4, 7.0),
    "dropout above 1": lambda kind: kind(4, 7, dropout=2.0),
    "dropout that is a bool": lambda kind: kind(4, 7, dropout=True),
    "an unknown option": lambda kind: kind(4, 7, nonlinearity="relu"),
    "1D": lambda kind: kind(4, 7)(drawn(4)),
    "4D": lambda kind: kind(4, 7)(drawn(1, *X)),
    "other inputs": lambda kind: kind(4, 7)(drawn(5, 3, 5)),
    "an input of float64": lambda kind: kind(4, 7)(drawn(*X, dtype=torch.float64)),
    "an input of float16": lambda kind: kind(4, 7)(drawn(*X, dtype=torch.float16)),
    "whole numbers": lambda kind: kind(4, 7)(torch.zeros(X, dtype=torch.int64)),
    "complex numbers": lambda kind: kind(4, 7)(torch.zeros(X, dtype=torch.complex64)),
    "a sparse input": lambda kind: kind(4, 7)(drawn(*X).to_sparse()),
    "another device": lambda kind: kind(4, 7, device="meta")(drawn(*X)),
    "a list": lambda kind: kind(4, 7)([[1.0] * 4]),
    "an array": lambda kind: kind(4, 7)(drawn(*X).numpy()),
    "None": lambda kind: kind(4, 7)(None),
    "states in one tensor": lambda kind: kind(4, 7)(drawn(*X), drawn(2, 1, 3, 7)),
    "one state": lambda kind: kind(4, 7)(drawn(*X), drawn(1, 3, 7)),
    "one state in a tuple": lambda kind: kind(4, 7)(drawn(*X), (drawn(1, 3, 7),)),
    "no state in a tuple": lambda kind: kind(4, 7)(drawn(*X), ()),
    "three states": lambda kind: kind(4, 7)(drawn(*X), (drawn(1, 3, 7),) * 3),
    "states that are None": lambda kind: kind(4, 7)(drawn(*X), (None, None)),
    "one state that is None": lambda kind: kind(4, 7)(drawn(*X), (drawn(1, 3, 7), None)),
    "states of two forms": lambda kind: kind(4, 7)(drawn(*X), (drawn(1, 3, 7), drawn(1, 7))),
    "states without a batch": lambda kind: kind(4, 7)(drawn(*X), states(1, 7)),
    "states of float64": lambda kind: kind(4, 7)(drawn(*X), states(1, 3, 7, dtype=torch.float64)),
    "states of too few sequences": lambda kind: kind(4, 7)(drawn(*X), states(1, 2, 7)),
    "states of too many layers": lambda kind: kind(4, 7)(drawn(*X), states(2, 3, 7)),
    "states of the wrong size": lambda kind: kind(4, 7, proj_size=3)(drawn(*X), states(1, 3, 7)),
    "batched states for one sequence": lambda kind: kind(4, 7)(drawn(5, 4), states(1, 1, 7)),
    "a bias that is a number": lambda kind: kind(4, 7, bias=1),
    "a pack and states of too few sequences": lambda kind: kind(4, 7)(
        pack_sequence([drawn(5, 4), drawn(3, 4)]), states(1, 1, 7)
    ),
    "a state dict of another size": lambda kind: kind(4, 7).load_state_dict(kind(4, 6).state_dict()),
    "a state dict with a layer too many": lambda kind: kind(4, 7).load_state_dict(kind(4, 7, 2).state_dict()),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_same_kind_of_error(name):
    """The same type, or a subclass of it that says more."""
    expected, found = (outcome(WRONG[name], kind) for kind in (nn.LSTM, LSTM))
    assert isinstance(expected, Exception), expected
    assert isinstance(found, type(expected)), (expected, found)
    assert str(found)


@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"bias": False}, {"batch_first": True}], ids=str)
def test_a_layer_is_a_loop_over_the_cell(options):
    torch.manual_seed(0)
    module = LSTM(4, 7, dtype=torch.float64, **options)
    x = drawn(*X, dtype=torch.float64)
    found, (h_n, _) = module(x)
    steps = x.unbind(1 if module.batch_first else 0)
    outputs, last = [], []
    for suffix in ("l0", "l0_reverse")[: 1 + module.bidirectional]:
        cell = nn.LSTMCell(4, 7, bias=module.bias, dtype=torch.float64)
        names = [name for name, _ in cell.named_parameters()]
        cell.load_state_dict({name: getattr(module, f"{name}_{suffix}") for name in names})
        state, of_direction = None, []
        for step in steps[::-1] if suffix.endswith("reverse") else steps:
            state = cell(step, state)
            of_direction.append(state[0])
        outputs.append(torch.stack(of_direction[::-1] if suffix.endswith("reverse") else of_direction))
        last.append(of_direction[-1])
    expected = torch.cat(outputs, 2)
    torch.testing.assert_close(found, expected.transpose(0, 1) if module.batch_first else expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(h_n, torch.stack(last), rtol=1e-10, atol=1e-12)


def through_bytes(module: nn.Module) -> nn.Module:
    stream = io.BytesIO()
    torch.save(module, stream)
    return torch.load(io.BytesIO(stream.getvalue()), weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), through_bytes, copy.copy])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "proj_size": 3}], ids=str)
def test_copies_give_the_same(options, copied):
    module, x = LSTM(4, 7, design="step", memory="rebuilt", **options), drawn(*X)
    other = copied(module)
    assert (other.design, other.memory) == ("step", "rebuilt") and list(other.state_dict()) == list(module.state_dict())
    torch.testing.assert_close(flat(other(x)), flat(module(x)), rtol=0, atol=0)


@pytest.mark.parametrize("assign", [False, True])
def test_state_dicts_go_both_ways(assign):
    theirs, ours = nn.LSTM(4, 7, 2, proj_size=3), LSTM(4, 7, 2, proj_size=3)
    x = drawn(*X)
    ours.load_state_dict(theirs.state_dict(), assign=assign)
    torch.testing.assert_close(flat(ours(x)), flat(theirs(x)), rtol=1e-4, atol=1e-5)
    again = nn.LSTM(4, 7, 2, proj_size=3)
    again.load_state_dict(ours.state_dict(), assign=assign)
    torch.testing.assert_close(flat(again(x)), flat(theirs(x)), rtol=1e-5, atol=1e-6)


def test_new_modules_are_drawn_as_those_of_pytorch_are():
    weights = []
    for kind in (nn.LSTM, LSTM):
        torch.manual_seed(3)
        weights.append(kind(4, 7, 2, bidirectional=True).state_dict())
    torch.testing.assert_close(weights[1], weights[0], rtol=0, atol=0)


@pytest.mark.parametrize("change", [
    lambda module: module.weight_hh_l0.data.mul_(2), lambda module: module.bias_ih_l0.data.numpy().fill(0.5),
    lambda module: setattr(module, "weight_ih_l0", nn.Parameter(module.weight_ih_l0.detach() * 3)),
    lambda module: nn.init.zeros_(module.bias_hh_l0), lambda module: module.apply(lambda m: m.reset_parameters()),
    lambda module: module.weight_hh_l0.set_(module.weight_hh_l0.detach() * 2),
])  # fmt: skip
def test_the_next_call_sees_every_kind_of_write(change):
    """Through `.data` and NumPy no version counter moves."""
    torch.manual_seed(0)
    theirs, ours = nn.LSTM(4, 7), LSTM(4, 7)
    ours.load_state_dict(theirs.state_dict())
    x = drawn(*X)
    with torch.no_grad():
        before = ours(x)[0]
        for module in (theirs, ours):
            torch.manual_seed(1)
            change(module)
        found, expected = ours(x)[0], theirs(x)[0]
    assert (found - before).abs().max() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("call", [
    lambda module: module(torch.ones(5, 3, 4, device="cpu", dtype=torch.float32)),
    lambda module: module(pack_padded_sequence(torch.ones(5, 3, 4, device="cpu", dtype=torch.float32), LENGTHS)),
    lambda module: module(torch.ones(5, 4, device="cpu", dtype=torch.float32)),
])  # fmt: skip
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "proj_size": 3}], ids=str)
def test_defaults_of_device_and_dtype_reach_nothing(call, options):
    """Everything is made where the input is: a tensor on the default device, here meta, would end in an error."""
    module = LSTM(4, 7, device="cpu", dtype=torch.float32, **options)
    expected = flat(call(module))
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            y, (h_n, c_n) = call(module)
            torch.autograd.grad((y.data if isinstance(y, PackedSequence) else y).sum() + h_n.sum(), list(module.parameters()))
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(flat((y, (h_n, c_n))), expected, rtol=0, atol=0)


LENGTHS = torch.tensor([5, 3, 1])


def test_factories_follow_the_defaults():
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            module = LSTM(4, 7)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(leaf.is_meta and leaf.dtype == torch.float64 for leaf in module.parameters())


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "proj_size": 3, "dropout": 0.5}], ids=str)
def test_to_torch_is_an_lstm_of_pytorch_on_the_same_parameters(options):
    ours = LSTM(4, 7, **options).eval()
    theirs, x = ours.to_torch(), drawn(*X)
    assert type(theirs) is nn.LSTM and not theirs.training
    assert all(one is other for one, other in zip(theirs.parameters(), ours.parameters(), strict=True))
    torch.testing.assert_close(flat(theirs(x)), flat(ours(x)), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        ours.weight_hh_l0.mul_(2)
    torch.testing.assert_close(flat(theirs(x)), flat(ours(x)), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*torch.ao.quantization:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*(TypedStorage|quantiz|deprecated).*")
def test_quantization_takes_what_to_torch_gives():
    ours, x = LSTM(4, 7).eval(), drawn(*X)
    quantized = torch.ao.quantization.quantize_dynamic(nn.Sequential(ours.to_torch()), {nn.LSTM}, dtype=torch.qint8)
    assert "quantized" in type(quantized[0]).__module__
    torch.testing.assert_close(quantized(x)[0], ours(x)[0], rtol=0.1, atol=0.05)
