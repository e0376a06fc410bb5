"""The drop-in module against `torch.nn.LSTM` itself."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from impls.cuda.torch.module import LSTM, _sent

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


@pytest.mark.parametrize(
    "options, autocast, compiler",
    [
        ({"num_layers": 2, "bidirectional": True}, False, "aot_eager"), ({"proj_size": 3}, True, "aot_eager"),
        ({"proj_size": 3}, True, "inductor"),
    ],
    ids=str,
)  # fmt: skip
def test_compiles_as_one_graph(options, autocast, compiler):
    _, ours = pair(**options)
    compiled = torch.compile(copy.deepcopy(ours), fullgraph=True, backend=compiler)
    answers = []
    for module in (ours, compiled):
        x = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            y = module(x)[0]
        answers.append((y, *torch.autograd.grad(y.float().square().sum(), [x, *module.parameters()])))
    assert answers[1][0].dtype == (torch.bfloat16 if autocast else torch.float32)
    tolerance = {"rtol": 2e-2, "atol": 2e-2} if autocast else {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(answers[1], answers[0], **tolerance)


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1)])
def test_modules_of_several_depths_compile_in_one_process(order):
    """Where Dynamo meets another number of layers it may take the number for a variable."""
    torch._dynamo.reset()
    for layers in order:
        _, ours = pair(num_layers=layers)
        x = torch.randn(5, 3, 4)
        close(torch.compile(ours, fullgraph=True, backend="aot_eager")(x)[0], ours(x)[0])


@pytest.fixture(scope="module")
def traced(tmp_path_factory) -> dict[str, dict]:
    program = Path(__file__).with_name("traced_on_fake_cuda.py")
    command = [sys.executable, str(program), str(tmp_path_factory.mktemp("guard"))]
    root = Path(__file__).parents[3]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=root, env=os.environ | {"PYTHONPATH": str(root)})
    assert not ran.returncode, ran.stderr
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    return {line.pop("name"): line for line in lines}


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("options", ["plain", "deep", "projected", "autocast"])
def test_on_a_gpu_it_compiles_as_one_graph_that_reads_no_switch(traced, options, backend):
    """With fake tensors of a GPU: Dynamo sees the module as it does on a real one."""
    dtype = "torch.bfloat16" if options == "autocast" else "torch.float32"
    assert traced[f"{options}, {backend}"] == {"devices": ["cuda:0"], "dtype": dtype, "read": []}


def test_an_untraceable_module_or_a_read_switch_is_seen(traced):
    assert "torch.backends.cudnn.rnn" in traced["reading_a_switch"]["read"]
    assert "graph_break" in traced["asking_what_is_available"]["failed"]


@pytest.mark.parametrize("compiler", ["aot_eager", "inductor"])
def test_packed_sequences_compile(compiler):
    """Not as one graph: the sizes of a pack are data on the host."""
    _, ours = pair()
    packed = pack_padded_sequence(torch.randn(6, 4, 4), torch.tensor([6, 4, 4, 1]))
    found, last = torch.compile(copy.deepcopy(ours), backend=compiler)(packed)
    expected, right = ours(packed)
    close((found.data, last), (expected.data, right))


def test_dropout_is_that_of_pytorch():
    theirs, ours = pair(num_layers=3, dropout=0.5, bidirectional=True)
    x, answers = torch.randn(5, 3, 4), []
    for module in (theirs, ours):
        torch.manual_seed(1)
        y = module.train()(x)[0]
        answers.append((y, *torch.autograd.grad(y.square().sum(), list(module.parameters()))))
    close(answers[1], answers[0])
    assert (answers[1][0] - ours.eval()(x)[0]).abs().max() > 1e-3


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "proj_size": 3}], ids=str)
@pytest.mark.parametrize("memory", ["saved", "rebuilt"])
def test_autocast_computes_in_its_dtype(memory, options, inside):
    """Forward and backward, also where the backward pass runs inside of autocast; gradients come in the parameters' dtype."""
    _, ours = pair(**options)
    ours.memory = memory
    x, leaves = torch.randn(5, 3, 4, requires_grad=True), list(ours.parameters())
    expected = ours(x)[0]
    right = torch.autograd.grad(expected.square().sum(), [x, *leaves])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = ours(x)[0]
        loss = y.float().square().sum()
        found = torch.autograd.grad(loss, [x, *leaves]) if inside else None
    found = found or torch.autograd.grad(loss, [x, *leaves])
    assert y.dtype == torch.bfloat16 and all(grad.dtype == torch.float32 for grad in found)
    torch.testing.assert_close(y.float(), expected, rtol=2e-2, atol=2e-2)
    for grad, wanted in zip(found, right, strict=True):
        assert (grad - wanted).norm() <= 0.03 * wanted.norm() + 1e-3


@pytest.mark.parametrize("proj_size", [0, 3])
def test_autocast_leaves_float64_alone_as_pytorch_does(proj_size):
    theirs, ours = (module.double() for module in pair(proj_size=proj_size))
    x = torch.randn(5, 3, 4, dtype=torch.float64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected, found = theirs(x), ours(x)
    assert found[0].dtype == expected[0].dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_it_runs_on_meta(options):
    theirs, ours = (module.to("meta") for module in pair(**options))
    x = torch.empty(5, 3, 4, device="meta")
    for found, expected in zip(_flat(ours(x)), _flat(theirs(x)), strict=True):
        assert found.is_meta and found.shape == expected.shape and found.dtype == expected.dtype


def _flat(answer):
    y, (h_n, c_n) = answer
    return y, h_n, c_n


WRONG = [  # input, states
    (torch.zeros(1, 1, 1, 4), None), (torch.zeros(5, 3, 5), None), (torch.zeros(5, 3, 4, dtype=torch.float64), None),
    (torch.zeros(5, 3, 4), [(2, 3, 3), (2, 3, 7)]), (torch.zeros(5, 3, 4), [(1, 3, 7), (1, 3, 7)]),
    (torch.zeros(5, 3, 4), [(1, 3, 3), (1, 2, 7)]), (torch.zeros(5, 3, 4), [(1, 3), (1, 7)]),
    (torch.zeros(0, 3, 4), None),
]  # fmt: skip


@pytest.mark.parametrize("x, sizes", WRONG)
def test_a_wrong_call_raises_pytorchs_kind_of_error(x, sizes):
    theirs, ours = pair(proj_size=3)
    given = (x,) if sizes is None else (x, tuple(map(torch.zeros, sizes)))
    with pytest.raises((RuntimeError, ValueError)) as theirs_said:
        theirs(*given)
    with pytest.raises(theirs_said.type) as said:
        ours(*given)
    assert "weight_ih" not in str(said.value)


@pytest.mark.parametrize("sizes, complaint", [
    ([(1, 3, 7), (1, 3, 7)], r"hx\[0\] of size \(1, 3, 3\), got \[1, 3, 7\]"),
    ([(1, 3, 3), (1, 2, 7)], r"hx\[1\] of size \(1, 3, 7\), got \[1, 2, 7\]"),
    ([(3, 3), (3, 7)], "like the input"),
])  # fmt: skip
def test_wrong_states_are_named(sizes, complaint):
    with pytest.raises(RuntimeError, match=complaint):
        pair(proj_size=3)[1](torch.zeros(5, 3, 4), tuple(map(torch.zeros, sizes)))


def test_a_wrong_pack_is_told_so():
    _, ours = pair()
    packed = pack_padded_sequence(torch.zeros(5, 2, 5), torch.tensor([5, 3]))
    with pytest.raises(RuntimeError, match="Expected 4, got 5"):
        ours(packed)
    packed = pack_padded_sequence(torch.zeros(5, 2, 4), torch.tensor([5, 3]))
    with pytest.raises(RuntimeError, match=r"hx\[0\] of size \(1, 2, 7\), got \[1, 3, 7\]"):
        ours(packed, (torch.zeros(1, 3, 7), torch.zeros(1, 3, 7)))


def test_indices_of_a_pack_are_sent_without_waiting():
    asked = []

    class Host:
        def pin_memory(self):
            asked.append("pinned")
            return self

        def to(self, device, non_blocking=False):
            asked.append((device, non_blocking))

    _sent(Host(), torch.device("cuda", 1))  # type: ignore[arg-type]
    assert asked == ["pinned", (torch.device("cuda", 1), True)]


def test_tf32_is_left_to_the_operators(monkeypatch):
    """Which read PyTorch's switch when they run: see test_precision.py."""
    seen = []
    monkeypatch.setattr("impls.cuda.torch.module.lstm_layer", lambda *given: seen.append(given[-1]) or (given[0],) * 3)
    LSTM(4, 7)(torch.randn(2, 1, 4))
    assert seen == [None]


def test_design_and_memory_can_be_chosen(monkeypatch):
    seen = []

    def layer(x, *given):
        seen.append(given[-3:-1])
        return x, x, x, None, None

    monkeypatch.setattr("impls.cuda.torch.module.lstm_layer", layer)
    LSTM(4, 7, design="step", memory="rebuilt")(torch.randn(2, 1, 4))
    LSTM(4, 7)(torch.randn(2, 1, 4))
    assert seen == [("step", "rebuilt"), ("auto", "saved")]
