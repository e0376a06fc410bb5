"""Second derivatives and transforms of functions through the drop-in module: right, by plain PyTorch, which is said."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from impls.cuda.torch import ops
from impls.cuda.torch.module import LSTM
from impls.cuda.torch.ops import lstm_layer
from tests.impls.cuda.twins import modules

pytestmark = [
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
    pytest.mark.filterwarnings("ignore:There is a performance drop because we have not yet implemented the batching rule"),
]
SAID = "run through plain PyTorch operations"
OPTIONS = [{}, {"num_layers": 2, "bidirectional": True, "proj_size": 3}, {"bias": False, "batch_first": True}]
Y = 0  # of a module's answer
SMALL = (3, 2, 4)  # x whose whole Jacobian is asked for: the emulation runs once for each of its elements


@pytest.fixture(autouse=True)
def fresh_dynamo():
    """Dynamo leaves code alone for good once it met it inside of a transform."""
    torch._dynamo.reset()


def drawn(seed: int = 1, *shape: int) -> Tensor:
    return torch.randn(*(shape or (5, 3, 4)), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def of_weights(module: nn.Module, x: Tensor):
    """y as a function of the module's weights, and those weights."""
    weights = {name: leaf.detach() for name, leaf in module.named_parameters()}
    return lambda weights: torch.func.functional_call(module, weights, (x,))[Y], weights


def by_differences(function, x: Tensor, tangent: Tensor) -> Tensor:
    return (function(x + 1e-6 * tangent) - function(x - 1e-6 * tangent)).detach() / 2e-6


def double_backward(module: nn.Module) -> list[Tensor]:
    x = drawn().requires_grad_()
    y, (h_n, c_n) = module(x)
    (grad,) = torch.autograd.grad(y.square().sum() + h_n.sum() + c_n.square().sum(), x, create_graph=True)
    grad.square().sum().backward()
    return [leaf.grad for leaf in (x, *module.parameters()) if leaf.grad is not None]


def gradient_penalty_of_weights(module: nn.Module) -> list[Tensor]:
    leaves = list(module.parameters())
    grads = torch.autograd.grad(module(drawn())[Y].square().sum(), leaves, create_graph=True)
    torch.stack([grad.square().sum() for grad in grads]).sum().backward()
    return [leaf.grad for leaf in leaves if leaf.grad is not None]


def batched_gradients(module: nn.Module) -> list[Tensor]:
    return [torch.autograd.functional.jacobian(lambda x: module(x)[Y], drawn(1, *SMALL), vectorize=True)]


def func_grad(module: nn.Module) -> list[Tensor]:
    run, weights = of_weights(module, drawn())
    return list(torch.func.grad(lambda weights: run(weights).square().sum())(weights).values())


def func_vjp(module: nn.Module) -> list[Tensor]:
    y, back = torch.func.vjp(lambda x: module(x)[Y], drawn())
    return [y, *back(torch.ones_like(y))]


def func_jacrev(module: nn.Module) -> list[Tensor]:
    return [torch.func.jacrev(lambda x: module(x)[Y])(drawn())]


def func_hessian(module: nn.Module) -> list[Tensor]:
    return [torch.func.hessian(lambda x: module(x)[Y].sum())(drawn(1, 2, 2, 4))]


REVERSE = [
    double_backward, gradient_penalty_of_weights, func_grad, func_vjp, func_jacrev, func_hessian,
]  # fmt: skip


@pytest.mark.parametrize("use", REVERSE, ids=lambda use: use.__name__)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_derivatives_are_those_of_pytorch_and_the_way_is_named(options, use):
    theirs, ours = modules(**options)
    expected = use(theirs)
    with pytest.warns(UserWarning, match=SAID):
        found = use(ours)
    assert found and len(found) == len(expected)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_batched_gradients_run_on_the_kernels_one_by_one(options):
    theirs, ours = modules(**options)
    torch.testing.assert_close(batched_gradients(ours), batched_gradients(theirs), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.filterwarnings(f"ignore:.*{SAID}")
def test_forward_mode_is_that_of_finite_differences(options):
    """`torch.nn.LSTM` itself has none for some of these on a CPU."""
    _, ours = modules(**options)
    x, tangent = drawn(), drawn(2)
    expected = by_differences(lambda x: ours(x)[Y], x, tangent)
    assert expected.abs().max() > 0.01
    _, found = torch.func.jvp(lambda x: ours(x)[Y], (x,), (tangent,))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)
    with forward_ad.dual_level():
        dual = forward_ad.unpack_dual(ours(forward_ad.make_dual(x, tangent))[Y]).tangent
    assert dual is not None
    torch.testing.assert_close(dual, expected, rtol=1e-6, atol=1e-7)
    small = drawn(1, *SMALL)
    whole = torch.func.jacfwd(lambda x: ours(x)[Y])(small)
    torch.testing.assert_close(whole, torch.autograd.functional.jacobian(lambda x: ours(x)[Y], small), rtol=1e-8, atol=1e-10)


@pytest.mark.filterwarnings(f"ignore:.*{SAID}")
@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"])
def test_forward_mode_along_a_weight(name):
    _, ours = modules()
    run, weights = of_weights(ours, drawn())
    tangent = drawn(3, *weights[name].shape)

    def along(value: Tensor) -> Tensor:
        return run(weights | {name: value})

    _, found = torch.func.jvp(along, (weights[name],), (tangent,))
    torch.testing.assert_close(found, by_differences(along, weights[name], tangent), rtol=1e-6, atol=1e-7)


@pytest.mark.filterwarnings(f"ignore:.*{SAID}")
def test_gradients_a_sample_and_ensembles():
    _, ours = modules(num_layers=2)
    x = drawn()
    run_on, weights = torch.func.functional_call, {name: leaf.detach() for name, leaf in ours.named_parameters()}

    def loss(weights, sample: Tensor) -> Tensor:
        return run_on(ours, weights, (sample[:, None],))[Y].square().sum()

    found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 1))(weights, x)
    for sample in range(x.shape[1]):
        expected = torch.autograd.grad(ours(x[:, sample : sample + 1])[Y].square().sum(), list(ours.parameters()))
        torch.testing.assert_close([found[name][sample] for name in weights], list(expected), rtol=1e-8, atol=1e-10)
    many = [ours, LSTM(4, 7, num_layers=2, dtype=torch.float64)]
    stacked, _ = torch.func.stack_module_state(many)  # type: ignore[arg-type]
    answers = torch.func.vmap(lambda weights: run_on(ours, weights, (x,))[Y])(stacked)
    torch.testing.assert_close(answers, torch.stack([module(x)[Y] for module in many]), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.filterwarnings(f"ignore:.*{SAID}")
def test_a_compiled_transform_is_right(backend):
    """A tangent of zero would be the silent mistake."""
    _, ours = modules()
    x, tangent = drawn(), drawn(2)
    compiled = torch.compile(lambda x, t: torch.func.jvp(lambda x: ours(x)[Y], (x,), (t,))[1], backend=backend)
    expected = by_differences(lambda x: ours(x)[Y], x, tangent)
    torch.testing.assert_close(compiled(x, tangent), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("fullgraph", [False, True])
@pytest.mark.filterwarnings(f"ignore:.*{SAID}")
def test_a_transform_of_a_compiled_module_is_right_or_an_error(fullgraph):
    """Dynamo itself refuses to be transformed; where it may, it leaves the call to eager mode."""
    _, ours = modules()
    x, tangent = drawn(), drawn(2)
    compiled = torch.compile(ours, fullgraph=fullgraph, backend="aot_eager")
    try:
        _, found = torch.func.jvp(lambda x: compiled(x)[Y], (x,), (tangent,))
    except RuntimeError as error:
        assert "functorch" in str(error) or "no compiled frames" in str(error)
    else:
        torch.testing.assert_close(found, by_differences(lambda x: ours(x)[Y], x, tangent), rtol=1e-6, atol=1e-7)


def test_a_dual_tensor_in_compiled_code_is_an_error():
    """Not a tangent of None, which counts as zero."""
    _, ours = modules()
    compiled = torch.compile(ours.requires_grad_(False), fullgraph=True, backend="aot_eager")
    compiled(drawn())  # in its first run PyTorch's own check fails
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="call the module uncompiled"):
        compiled(forward_ad.make_dual(drawn(), drawn(2)))


def test_a_second_derivative_of_a_compiled_module_is_an_error():
    _, ours = modules()
    compiled, x = torch.compile(ours, fullgraph=True, backend="aot_eager"), drawn().requires_grad_()
    (grad,) = torch.autograd.grad(compiled(x)[Y].sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="does not currently support double backward"):
        grad.square().sum().backward()


def test_the_profiler_names_the_plain_layer():
    _, ours = modules()
    with torch.profiler.profile() as profile, pytest.warns(UserWarning, match=SAID):
        func_grad(ours)
    names = {event.key for event in profile.key_averages()}
    assert ops.NAME in names and "lstm_bench::lstm_layer" not in names
    with torch.profiler.profile() as profile:
        ours(drawn())[Y].sum().backward()
    names = {event.key for event in profile.key_averages()}
    assert ops.NAME not in names and "lstm_bench::lstm_layer" in names


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("directions, projected", [(1, 0), (2, 0), (2, 3)])
@pytest.mark.parametrize("given_states", [True, False])
def test_the_plain_layer_is_the_operators(given_states, dtype, directions, projected):
    """Also for sequences of several lengths, one of them empty; and without states and lengths."""
    torch.manual_seed(0)
    hidden, shown = 7, projected or 7

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape).mul(0.4).to(dtype)

    def drawn_each(*shape: int, times: int = 1) -> list[Tensor]:
        return [draw(*shape) for _ in range(directions * times)]

    rows = 4 * hidden
    weights = drawn_each(rows, 4), drawn_each(rows, shown), drawn_each(rows, times=2)
    states = (draw(directions, 4, shown), draw(directions, 4, hidden)) if given_states else (None, None)
    given, options = (
        (draw(5, 4, 4), weights, *states),
        {
            "weight_hr": drawn_each(projected, hidden) if projected else None,
            "lengths": torch.tensor([5, 0, 3, 1], dtype=torch.int32) if given_states else None,
        },
    )
    found = ops.plain_lstm_layer(*given, **options)
    expected = LSTM._layer(*given, **options, choice=("step", "saved", False))
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
    assert [tensor.dtype for tensor in found] == [dtype] * 3
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_the_operator_itself_has_no_second_derivative_by_mistake():
    """gradgradcheck compares with finite differences of the kernels' own first derivatives."""
    torch.manual_seed(0)
    shapes = [(2, 2, 2), (12, 2), (12, 3), (12,), (12,), (1, 2, 3), (1, 2, 3)]
    tensors = [torch.randn(*shape, dtype=torch.float64).mul(0.5).requires_grad_() for shape in shapes]
    lengths = torch.tensor([2, 1], dtype=torch.int32)
    with pytest.warns(UserWarning, match=SAID):
        torch.autograd.gradgradcheck(
            lambda x, ih, hh, one, other, h0, c0: lstm_layer(
                x, ih, hh, one, other, None, None, None, None, h0, c0, lengths, True, "step", "saved", False
            )[:3],
            tensors,
            fast_mode=True,
        )
