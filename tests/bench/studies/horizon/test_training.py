"""One update of many networks is what autograd and `torch.optim.Adam` do with each of them alone."""

from __future__ import annotations

import pytest
import torch

from bench.studies.gradients import cells
from bench.studies.horizon import tasks, training
from bench.studies.horizon.learning import sample_batch
from bench.studies.horizon.training import LARGEST_NORM, Networks
from impls import GRUSpec, LSTMSpec, RNNSpec

LAG, BATCH, SEEDS, RATE = 6, 4, 3, 1e-2
KINDS = {"rnn": (RNNSpec, torch.nn.RNN), "gru": (GRUSpec, torch.nn.GRU), "lstm": (LSTMSpec, torch.nn.LSTM)}


def networks(cell: str, task: str = "recall", init: str = "pytorch") -> Networks:
    chosen = tasks.get(task)
    spec = KINDS[cell][0](chosen.inputs, 5, dtype="float64")
    return Networks(spec, init, range(SEEDS), chosen, RATE)


def data(task: str) -> tuple[torch.Tensor, torch.Tensor]:
    x, target = sample_batch(tasks.get(task), LAG, SEEDS, BATCH, torch.Generator().manual_seed(3))
    return x.double(), target


def alone(of: Networks, cell: str, seed: int) -> tuple[torch.nn.Module, torch.nn.Linear]:
    """The same network in PyTorch's own modules."""
    w_x, w_h, b_x, b_h, w_y, b_y = (each[seed] for each in of.parameters)
    module = KINDS[cell][1](w_x.shape[0], 5).double()
    readout = torch.nn.Linear(5, w_y.shape[1]).double()
    with torch.no_grad():
        for parameter, value in zip(module.parameters(), (w_x.T, w_h.T, b_x[0], b_h[0]), strict=True):
            parameter.copy_(value)
        readout.weight.copy_(w_y.T)
        readout.bias.copy_(b_y[0])
    return module, readout


def loss(module, readout, task: str, x: torch.Tensor, target: torch.Tensor, seed: int) -> torch.Tensor:
    outputs, _ = module(x[:, seed])
    answers = readout(outputs[-tasks.get(task).answers :])
    if tasks.get(task).squared:
        return torch.nn.functional.mse_loss(answers[..., 0], target[:, seed].double())
    return torch.nn.functional.cross_entropy(answers.flatten(0, 1), target[:, seed].flatten())


def as_ours(theirs: torch.Tensor, ours: torch.Tensor) -> torch.Tensor:
    return (theirs.mT if theirs.ndim == 2 else theirs).reshape(ours.shape)


@pytest.mark.parametrize("task", tasks.TASKS)
@pytest.mark.parametrize("cell", KINDS)
def test_updates_are_those_of_each_network_alone(cell, task):
    many = networks(cell, task)
    modules = [alone(many, cell, seed) for seed in range(SEEDS)]
    x, target = data(task)
    for seed, (module, readout) in enumerate(modules):
        own = [*module.parameters(), *readout.parameters()]
        optimiser = torch.optim.Adam(own, lr=RATE)
        for _ in range(3):
            optimiser.zero_grad()
            loss(module, readout, task, x, target, seed).backward()
            torch.nn.utils.clip_grad_norm_(own, LARGEST_NORM)
            optimiser.step()
    for _ in range(3):
        many.update(x, target, 0)
    for seed, (module, readout) in enumerate(modules):
        theirs = [parameter.detach() for parameter in (*module.parameters(), *readout.parameters())]
        for ours, their in zip(many.parameters, theirs, strict=True):
            assert torch.allclose(ours[seed], as_ours(their, ours[seed]), atol=1e-6)


@pytest.mark.parametrize("cell", KINDS)
def test_truncated_gradients_are_those_of_a_detached_state(cell):
    many, kept = networks(cell), 3
    x, target = data("recall")
    _, found = many.gradients(x, target, kept)
    for seed in range(SEEDS):
        module, readout = alone(many, cell, seed)
        _, state = module(x[:-kept, seed])
        state = tuple(part.detach() for part in state) if cell == "lstm" else state.detach()
        outputs, _ = module(x[-kept:, seed], state)
        torch.nn.functional.cross_entropy(readout(outputs[-1]), target[0, seed]).backward()
        theirs = [parameter.grad for parameter in (*module.parameters(), *readout.parameters())]
        for ours, their in zip(found, theirs, strict=True):
            assert torch.allclose(ours[seed], as_ours(their, ours[seed]), atol=1e-12)


def test_the_lean_lstm_is_the_one_the_gradient_studies_walk():
    many = networks("lstm", init="forget:1")
    x, target = data("recall")
    for _ in range(2):  # its memory is used again
        _, lean = many.gradients(x, target, 0)
    many.bptt = training.PathBPTT(cells.LSTMPath)
    for ours, theirs in zip(lean, many.gradients(x, target, 0)[1], strict=True):
        assert torch.allclose(ours, theirs, atol=1e-14)


def test_rectified_units_are_trained_where_the_init_has_them():
    many = networks("rnn", init="irnn")
    x, _ = data("recall")
    hidden = many.bptt.forward(cells.Weights(*many.parameters[:4]), x)
    assert hidden.min() == 0


def test_a_network_that_goes_wrong_leaves_the_others_alone():
    one, two = networks("lstm"), networks("lstm")
    x, target = data("recall")
    two.parameters[1][1] = torch.inf
    for _ in range(2):
        one.update(x, target, 0)
        score, finite = two.update(x, target, 0)
    assert finite.tolist() == [True, False, True] and score[1].isnan()
    for ours, theirs in zip(one.parameters, two.parameters, strict=True):
        assert torch.equal(ours[[0, 2]], theirs[[0, 2]])
