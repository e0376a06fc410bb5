"""Every way to write a weight is seen by the next call; while the module is frozen none is, until `train` or `unfreeze`."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from impls.cuda.torch.module import LSTM
from tests.impls.cuda.twins import modules

OPTIONS = [{}, {"num_layers": 2, "bidirectional": True, "proj_size": 3}]
NAMES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")


def drawn() -> Tensor:
    return torch.randn(3, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def called(module: nn.Module) -> Tensor:
    with torch.no_grad():
        return module(drawn())[0]


def by_an_optimizer(leaf: nn.Parameter) -> None:
    leaf.grad = torch.ones_like(leaf)
    torch.optim.SGD([leaf], 0.1).step()


def by_copy(leaf: nn.Parameter) -> None:
    with torch.no_grad():
        leaf.copy_(leaf * 1.5 + 0.1)


def through_data(leaf: nn.Parameter) -> None:
    leaf.data.mul_(1.5).add_(0.1)


def through_numpy(leaf: nn.Parameter) -> None:
    leaf.detach().numpy()[...] += 0.1


def by_other_data(leaf: nn.Parameter) -> None:
    leaf.data = leaf.detach() * 1.5 + 0.1


WRITES = [by_an_optimizer, by_copy, through_data, through_numpy, by_other_data]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("write", WRITES, ids=lambda write: write.__name__)
def test_a_write_is_seen_by_the_next_call(write, name):
    theirs, ours = (module.eval() for module in modules())
    before = called(ours)
    write(getattr(ours, name))
    theirs.load_state_dict(ours.state_dict())
    after = called(ours)
    assert not torch.equal(after, before)
    torch.testing.assert_close(after, called(theirs), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("end", [LSTM.train, LSTM.unfreeze, nn.Module.requires_grad_], ids=lambda end: end.__name__)
@pytest.mark.parametrize("write", WRITES, ids=lambda write: write.__name__)
def test_a_write_is_not_seen_while_frozen(write, end):
    """Into any of the weights. What is no end is there for comparison."""
    _, ours = modules()
    before = called(ours.eval().freeze())
    for name in NAMES:
        write(getattr(ours, name))
        assert torch.equal(called(ours), before)
    ours.eval()  # no end either
    assert torch.equal(called(ours), before)
    end(ours)
    assert torch.equal(called(ours), before) == (end is nn.Module.requires_grad_)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_frozen_it_computes_the_same(options):
    theirs, ours = (module.eval() for module in modules(**options))
    unfrozen = called(ours)
    torch.testing.assert_close(called(ours.freeze()), unfrozen, rtol=0, atol=0)
    torch.testing.assert_close(called(ours), called(theirs), rtol=1e-10, atol=1e-12)


def test_a_state_dict_is_seen_and_not_while_frozen():
    theirs, ours = (module.eval() for module in modules())
    other = {name: value * 1.5 for name, value in ours.state_dict().items()}
    before = called(ours.freeze())
    ours.load_state_dict(other)
    assert torch.equal(called(ours), before)
    theirs.load_state_dict(other)
    torch.testing.assert_close(called(ours.freeze()), called(theirs), rtol=1e-10, atol=1e-12)
    ours.unfreeze().load_state_dict({name: value / 1.5 for name, value in other.items()})
    torch.testing.assert_close(called(ours), before, rtol=1e-10, atol=1e-12)


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.scale


@pytest.mark.parametrize("frozen", [False, True])
def test_what_a_parametrization_computes(frozen):
    _, ours = modules()
    scaled = Scaled()
    parametrize.register_parametrization(ours, "weight_hh_l0", scaled)
    ours.eval()
    if frozen:
        ours.freeze()
    before = called(ours)
    scaled.scale.data.mul_(1.5)
    assert torch.equal(called(ours), before) == frozen
    assert not torch.equal(called(ours.unfreeze()), before)


def test_a_functional_call_is_refused_while_frozen():
    """Weights that are given are never passed over."""
    theirs, ours = (module.eval() for module in modules())
    weights = {name: value * 1.5 for name, value in ours.state_dict().items()}
    run = lambda module: torch.func.functional_call(module, weights, (drawn(),))[0]  # noqa: E731
    with torch.no_grad():
        torch.testing.assert_close(run(ours), run(theirs), rtol=1e-10, atol=1e-12)
        ours.freeze()
        with pytest.raises(RuntimeError, match="frozen, and called with other parameters"):
            run(ours)
        before = called(ours)
        torch.testing.assert_close(run(ours.unfreeze()), run(theirs), rtol=1e-10, atol=1e-12)
    assert torch.equal(called(ours), before)


def test_an_assigned_parameter_is_refused_while_frozen():
    _, ours = modules()
    ours.eval().freeze()
    ours.weight_hh_l0 = nn.Parameter(ours.weight_hh_l0.detach() * 1.5)
    with pytest.raises(RuntimeError, match="after assigning a parameter"):
        called(ours)
    called(ours.freeze())


def test_freezing_takes_the_weights_of_its_own_moment():
    """And not those of the first call after it."""
    _, ours = modules()
    before = called(ours.eval())
    ours.freeze()
    through_data(ours.weight_hh_l0)
    assert torch.equal(called(ours), before)
    assert not torch.equal(called(ours.freeze()), before), "taken anew"


def test_a_module_in_training_is_not_frozen():
    _, ours = modules()
    with pytest.raises(RuntimeError, match=r"training mode, where weights change; call eval\(\) first"):
        ours.freeze()
    called(ours)


def test_gradients_of_frozen_weights_are_refused_others_right():
    theirs, ours = (module.eval() for module in modules())
    ours.freeze()
    with pytest.raises(RuntimeError, match="no gradient reaches its parameters"):
        ours(drawn())
    grads = []
    for module in (theirs, ours):
        module.requires_grad_(False)
        x = drawn().requires_grad_()
        grads.append(torch.autograd.grad(module(x)[0].square().sum(), x)[0])
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("move", [nn.Module.float, lambda module: module.to(torch.bfloat16)], ids=["float", "to"])
def test_moved_or_converted_it_is_frozen_anew(move: Callable[[nn.Module], nn.Module]):
    _, ours = modules()
    ours.eval().freeze()
    through_data(ours.weight_hh_l0)
    dtype = next(move(ours).parameters()).dtype
    with torch.no_grad():
        before = ours(drawn().to(dtype))[0]
        through_data(ours.weight_hh_l0)
        assert torch.equal(ours(drawn().to(dtype))[0], before) and before.dtype == dtype
        assert not torch.equal(ours.unfreeze()(drawn().to(dtype))[0], before)


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))], ids=["copy", "pickle"]
)
def test_a_copy_is_frozen_by_itself(duplicate: Callable[[LSTM], LSTM]):
    _, ours = modules()
    ours.eval().freeze()
    other = duplicate(ours)
    before = called(other)
    through_data(ours.weight_hh_l0)
    through_data(other.weight_hh_l0)
    assert torch.equal(called(other), before) and torch.equal(called(ours.unfreeze()), called(other.unfreeze()))
    assert not torch.equal(called(other), before)


def test_its_parent_ends_it_by_training():
    _, ours = modules()
    parent = nn.ModuleList([ours]).eval()
    before = called(ours.freeze())
    through_data(ours.weight_hh_l0)
    parent.eval()
    assert torch.equal(called(ours), before)
    parent.train()
    assert not torch.equal(called(ours), before)


@pytest.mark.parametrize("compiler", ["eager", "aot_eager"])
def test_a_compiled_module_notices_both(compiler):
    _, ours = modules()
    torch._dynamo.reset()
    compiled = torch.compile(ours.eval(), fullgraph=True, backend=compiler)
    before = called(compiled)
    ours.freeze()
    torch.testing.assert_close(called(compiled), before, rtol=0, atol=0)
    through_data(ours.weight_hh_l0)
    assert torch.equal(called(compiled), before)
    weights = {name: value * 1.5 for name, value in ours.state_dict().items()}
    run = torch.compile(lambda weights, x: torch.func.functional_call(ours, weights, (x,))[0], backend=compiler)
    with torch.no_grad(), pytest.raises(RuntimeError, match="frozen, and called with other parameters"):
        run(weights, drawn())
    ours.unfreeze()
    assert not torch.equal(called(compiled), before)
