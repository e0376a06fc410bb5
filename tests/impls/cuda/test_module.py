"""The drop-in module against `torch.nn.LSTM` itself."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from impls.backends._cuda.module import LSTM

# PyTorch says so of its own LSTM.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
OPTIONS = [
    {}, {"num_layers": 2, "bidirectional": True}, {"num_layers": 2, "bidirectional": True, "proj_size": 3},
    {"bias": False}, {"batch_first": True}, {"num_layers": 3, "dropout": 0.5},
]  # fmt: skip


def pair(**options):
    torch.manual_seed(0)
    theirs, ours = torch.nn.LSTM(4, 7, **options), LSTM(4, 7, **options)
    ours.load_state_dict(theirs.state_dict())
    return theirs.eval(), ours.eval()


def states(module, batch):
    shape = (module.num_layers * (2 if module.bidirectional else 1), batch, 7)
    return torch.randn(*shape[:2], module.proj_size or 7), torch.randn(shape)


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_same_constructor_state_dict_call_and_gradients(options):
    theirs, ours = pair(**options)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    x = torch.randn(5, 3, 4)
    start = states(theirs, 5 if theirs.batch_first else 3)
    answers = []
    for module in (theirs, ours):
        leaf = x.clone().requires_grad_()
        y, (h_n, c_n) = module(leaf, start)
        gradients = torch.autograd.grad((y.square().sum() + h_n.sum() + c_n.square().sum()), [leaf, *module.parameters()])
        answers.append((y, h_n, c_n, *gradients))
    close(answers[1], answers[0])


@pytest.mark.parametrize("proj_size", [0, 3])
@pytest.mark.parametrize("enforce_sorted", [True, False])
def test_packed_sequences(enforce_sorted, proj_size):
    theirs, ours = pair(num_layers=2, bidirectional=True, proj_size=proj_size)
    lengths = [6, 4, 4, 1] if enforce_sorted else [1, 6, 4, 4]
    packed = pack_padded_sequence(torch.randn(6, 4, 4), torch.tensor(lengths), enforce_sorted=enforce_sorted)
    start = states(theirs, 4)
    (expected, last), (found, our_last) = theirs(packed, start), ours(packed, start)
    close(our_last, last)
    close(pad_packed_sequence(found)[0], pad_packed_sequence(expected)[0])
    assert torch.equal(found.batch_sizes, expected.batch_sizes)


def test_unbatched_input_and_no_state():
    theirs, ours = pair()
    x = torch.randn(5, 4)
    close(ours(x), theirs(x))
    close(ours(x, (torch.ones(1, 7), torch.ones(1, 7))), theirs(x, (torch.ones(1, 7), torch.ones(1, 7))))


def test_compiles_as_one_graph():
    _, ours = pair(num_layers=2, bidirectional=True)
    x = torch.randn(5, 3, 4, requires_grad=True)
    compiled = torch.compile(copy.deepcopy(ours), fullgraph=True, backend="aot_eager")
    close(compiled(x), ours(x))
    gradients = [torch.autograd.grad(module(x)[0].square().sum(), x) for module in (compiled, ours)]
    close(*gradients)


def test_autocast_computes_in_its_dtype():
    _, ours = pair()
    x = torch.randn(5, 3, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, _ = ours(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), ours(x)[0], rtol=2e-2, atol=2e-2)


def test_what_cannot_be_done_is_said():
    _, ours = pair()
    with pytest.raises(ValueError, match="2D or 3D"):
        ours(torch.randn(1, 1, 1, 4))
    with pytest.raises(RuntimeError, match="layer-directions"):
        ours(torch.randn(5, 3, 4), (torch.zeros(2, 3, 7), torch.zeros(2, 3, 7)))
    with pytest.raises(RuntimeError, match="like the input"):
        ours(torch.randn(5, 3, 4), (torch.zeros(1, 7), torch.zeros(1, 7)))


def test_design_and_memory_can_be_chosen(monkeypatch):
    seen = []

    def layer(x, weight_ih, weight_hh, bias, h0, c0, lengths, training, design, memory, tf32):
        seen.append((design, memory))
        return x, h0, c0, None, None

    monkeypatch.setattr("impls.backends._cuda.module.lstm_layer", layer)
    LSTM(4, 7, design="step", memory="rebuilt")(torch.randn(2, 1, 4))
    LSTM(4, 7)(torch.randn(2, 1, 4))
    assert seen == [("step", "rebuilt"), ("auto", "saved")]
