"""The drop-in module in training loops: through `.backward()` its parameters receive what those of `torch.nn.LSTM` receive."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from tests.impls.cuda.twins import modules

OPTIONS = [{}, {"num_layers": 2, "bidirectional": True}, {"proj_size": 3}, {"bias": False}]
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
HOOKED = 3.0


def inputs(count: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(5, 3, 4, dtype=torch.float64, generator=generator) for _ in range(count)]


def loss(module: nn.Module, x: Tensor, hx=None) -> Tensor:
    y, (h_n, c_n) = module(x, hx)
    return y.square().sum() + h_n.sum() + c_n.square().sum()


def gradients(module: nn.Module) -> dict[str, Tensor]:
    """Of the module itself, wherever it is wrapped."""
    last = {name.split(".")[-1]: leaf.grad for name, leaf in module.named_parameters()}
    return {name: grad for name, grad in last.items() if grad is not None}


def memory_of(tensor: Tensor) -> range:
    return range(tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes)


def overlapping(tensors: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
    for (one, left), (other, right) in itertools.combinations(tensors.items(), 2):
        a, b = memory_of(left), memory_of(right)
        if a.start < b.stop and b.start < a.stop:
            yield one, other


def one_backward(module: nn.Module) -> None:
    loss(module, inputs()[0]).backward()


def accumulated(module: nn.Module) -> None:
    for x in inputs(3):
        loss(module, x).backward()


def twice_through_one_graph(module: nn.Module) -> None:
    value = loss(module, inputs()[0])
    value.backward(retain_graph=True)
    value.backward()


def called_twice_in_one_graph(module: nn.Module) -> None:
    one, other = inputs()
    (loss(module, one) + loss(module, other)).backward()


def clipped(module: nn.Module) -> None:
    one_backward(module)
    nn.utils.clip_grad_norm_(module.parameters(), 1.0)


def clipped_by_value(module: nn.Module) -> None:
    accumulated(module)
    nn.utils.clip_grad_value_(module.parameters(), 0.1)


def unscaled(module: nn.Module) -> None:
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)  # type: ignore[attr-defined]
    scaler.scale(loss(module, inputs()[0])).backward()
    scaler.unscale_(optimizer)


def truncated(module: nn.Module) -> None:
    state = None
    for x in inputs(3):
        y, state = module(x, state)
        y.square().sum().backward()
        state = tuple(tensor.detach() for tensor in state)


def hooked(module: nn.Module) -> None:
    for leaf in module.parameters():
        leaf.register_hook(lambda grad: grad * HOOKED)
    accumulated(module)


def hooked_in_place_after_accumulation(module: nn.Module) -> None:
    for leaf in module.parameters():
        leaf.register_post_accumulate_grad_hook(_triple)
    accumulated(module)


def _triple(leaf: Tensor) -> None:
    assert leaf.grad is not None
    leaf.grad.mul_(HOOKED)


def recomputed(module: nn.Module) -> None:
    loss(lambda x, hx: checkpoint(module, x, hx, use_reentrant=False), inputs()[0]).backward()  # type: ignore[arg-type]


def zeroed_in_place(module: nn.Module) -> None:
    one_backward(module)
    module.zero_grad(set_to_none=False)
    one_backward(module)


def set_to_none(module: nn.Module) -> None:
    one_backward(module)
    module.zero_grad(set_to_none=True)
    one_backward(module)


def frozen_but_for_one_bias(module: nn.Module) -> None:
    for name, leaf in module.named_parameters():
        leaf.requires_grad_(name in ("bias_hh_l0", "weight_hh_l0"))
    accumulated(module)


def with_its_weights_changed_in_between(module: nn.Module) -> None:
    """Of the first segment the gradients at its own weights."""
    for x in inputs():
        value = loss(module, x)
        value.backward()
        with torch.no_grad():
            for leaf in module.parameters():
                leaf.add_(0.1)


USES = [
    one_backward, accumulated, twice_through_one_graph, called_twice_in_one_graph, clipped, clipped_by_value, unscaled,
    truncated, hooked, hooked_in_place_after_accumulation, recomputed, zeroed_in_place, set_to_none, frozen_but_for_one_bias,
    with_its_weights_changed_in_between,
]  # fmt: skip


def compare(use: Callable[[nn.Module], None], theirs: nn.Module, ours: nn.Module) -> None:
    use(theirs)
    use(ours)
    expected, found = gradients(theirs), gradients(ours)
    assert found.keys() == expected.keys() and found
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    assert list(overlapping(found)) == []


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradients_of_the_parameters(options, use):
    compare(use, *modules(**options))


@pytest.mark.parametrize("compiler", ["aot_eager", "inductor"])
@pytest.mark.parametrize("use", [one_backward, accumulated, clipped, truncated, hooked], ids=lambda use: use.__name__)
def test_gradients_of_the_parameters_of_a_compiled_module(compiler, use):
    theirs, ours = modules(num_layers=2, bidirectional=True)
    compare(use, theirs, torch.compile(ours, backend=compiler))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def process_group(tmp_path_factory):
    store = torch.distributed.FileStore(str(tmp_path_factory.mktemp("group") / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("as_views", [False, True])
def test_gradients_under_distributed_data_parallel(process_group, as_views):
    wrapped = [
        DistributedDataParallel(module, gradient_as_bucket_view=as_views)
        for module in modules(num_layers=2, bidirectional=True)
    ]
    compare(accumulated, *wrapped)


@pytest.mark.parametrize("optimizer", [
    lambda leaves: torch.optim.SGD(leaves, 0.05, momentum=0.9, weight_decay=0.01),
    lambda leaves: torch.optim.SGD(leaves, 0.05, foreach=True),
    lambda leaves: torch.optim.AdamW(leaves, 0.05), lambda leaves: torch.optim.AdamW(leaves, 0.05, foreach=True),
    lambda leaves: torch.optim.Adagrad(leaves, 0.05),
])  # fmt: skip
@pytest.mark.parametrize("clip", [False, True])
def test_five_steps_of_an_optimizer_lead_to_the_same_weights(optimizer, clip):
    theirs, ours = modules(num_layers=2)
    for module in (theirs, ours):
        steps = optimizer(list(module.parameters()))
        for number, x in enumerate(inputs(5)):
            loss(module, x).backward()
            if clip:
                nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            steps.step()
            steps.zero_grad(set_to_none=number % 2 == 0)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=1e-8, atol=1e-10)


def test_a_shared_buffer_would_be_seen():
    """What the test of overlapping memory has to find: the gradients of a sum of stacked biases, as the module once had it."""
    one, other = (torch.zeros(4, requires_grad=True) for _ in range(2))
    (torch.stack([one]) + torch.stack([other])).square().sum().backward()
    assert list(overlapping({"one": one.grad, "other": other.grad})) == [("one", "other")]  # type: ignore[dict-item]


class Weightless(nn.Module):
    """An LSTM whose weights are made by another network, so that none is a parameter of its own."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = [module]
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x: Tensor, hx=None):
        weights = {name: leaf.detach() * self.scale for name, leaf in self.module[0].named_parameters()}
        return torch.func.functional_call(self.module[0], weights, (x, hx))


def as_replica(module: nn.Module) -> nn.Module:
    """As `torch.nn.parallel.replicate` makes it: weights that are tensors of a graph, and no parameters."""
    leaves = dict(module.named_parameters())
    replica = module._replicate_for_data_parallel()  # type: ignore[operator]
    replica._parameters = {}
    for name, leaf in leaves.items():
        setattr(replica, name, leaf.clone())
    return replica


def test_a_replica_of_data_parallel_trains():
    answers = []
    for module in modules():
        loss(as_replica(module), inputs()[0]).backward()
        answers.append(gradients(module))
    torch.testing.assert_close(answers[1], answers[0], rtol=1e-9, atol=1e-11)


def test_weights_made_by_another_network_train_it():
    scales = []
    for module in modules():
        made = Weightless(module)
        loss(made, inputs()[0]).backward()
        scales.append(made.scale.grad)
    torch.testing.assert_close(scales[1], scales[0], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["weight_hh_l0", "weight_ih_l0"])
def test_parametrized_weights_train(name):
    answers = []
    for module in modules():
        nn.utils.parametrizations.weight_norm(module, name)
        module.double()
        loss(module, inputs()[0]).backward()
        answers.append({name: leaf.grad for name, leaf in module.named_parameters()})
    torch.testing.assert_close(answers[1], answers[0], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("requires_grad", [("x",), ("h",), ("c",), ("x", "c")])
def test_inputs_and_states_alone_receive_gradients(requires_grad):
    answers = []
    for module in modules():
        module.requires_grad_(False)
        x = inputs()[0].clone()
        given = {"x": x, "h": torch.ones(1, 3, 7, dtype=x.dtype), "c": torch.full((1, 3, 7), 0.5, dtype=x.dtype)}
        for name in requires_grad:
            given[name].requires_grad_()
        loss(module, given["x"], (given["h"], given["c"])).backward()
        answers.append([given[name].grad for name in requires_grad])
    torch.testing.assert_close(answers[1], answers[0], rtol=1e-9, atol=1e-11)


def test_nothing_is_kept_for_a_backward_pass_that_cannot_come():
    _, ours = modules()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor), lambda tensor: tensor):
        ours(inputs()[0])
        assert kept
        kept.clear()
        copy.deepcopy(ours).requires_grad_(False)(inputs()[0])
        with torch.no_grad():
            ours(inputs()[0])
    assert not kept
