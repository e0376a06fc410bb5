"""Networks in one direction, in both, and as two independent stacks (ELMo); what of the future each reads; and generation."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from bench.harness.case import Case
from impls import LSTMSpec, UnknownName
from impls.frameworks.torch import models
from impls.params import random_params
from impls.specs.residual import ModelSpec
from lstm_bench.errors import UserError
from results.record import Measurement

Network = Callable[[Tensor], Tensor]  # x [T, B, I] to y [T, B, O]


class TwoStacks(nn.Module):
    """ELMo (Peters et al. 2018, section 3.1): a stack of LSTMs read forwards and one read backwards, which never meet.

    `torch.nn.LSTM(bidirectional=True)` is another network: from its second layer on each direction reads both of those below.
    """

    def __init__(self, inputs: int, width: int, layers: int) -> None:
        super().__init__()
        self.ahead, self.back = (nn.LSTM(inputs, width, layers) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """x [T, B, I] to y [T, B, 2H], the forward stack's part first."""
        return torch.cat([self.ahead(x)[0], self.back(x.flip(0))[0].flip(0)], -1)


class Direction(nn.Module):
    """An LSTM of a kind in `KINDS`, x [T, B, I] to y [T, B, O]."""

    def __init__(self, kind: str, spec: LSTMSpec) -> None:
        """kind: `one` and `both` as the spec has them, `two_stacks` of the spec's size each."""
        super().__init__()
        if kind not in KINDS:
            raise UnknownName("kind", kind, KINDS)
        sizes = (spec.input_size, spec.hidden_size, spec.num_layers)
        self.kind = kind
        self.lstm = TwoStacks(*sizes) if kind == "two_stacks" else nn.LSTM(*sizes, bidirectional=kind == "both")
        self.output_size = spec.hidden_size * (1 if kind == "one" else 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.lstm(x)
        return y if self.kind == "two_stacks" else y[0]

    @property
    def reads_the_future(self) -> bool:
        return self.kind != "one"


KINDS = ("one", "both", "two_stacks")


# Leakage: how much an output depends on inputs that come after it, exactly.


def jacobian(network: Network, x: Tensor) -> Tensor:
    """∂y_t/∂x_s of one sequence x [T, I], its largest absolute value over features: [T, T], rows t and columns s."""
    found = torch.autograd.functional.jacobian(lambda values: network(values[:, None])[:, 0], x)
    assert isinstance(found, Tensor)
    return found.abs().amax((1, 3))


def by_offset(largest: Tensor) -> np.ndarray:
    """The largest of each diagonal s − t = −(T − 1) … T − 1 of [T, T]."""
    steps = len(largest)
    return np.array([float(largest.diagonal(offset).max()) for offset in range(1 - steps, steps)])


def networks_read(case: Case, seed: int) -> Network:
    """The network of a leakage case, in float64. Its factor `read`: `all` outputs; or of an LSTM in both directions, or of two
    stacks, `forward`: the forward half, which ELMo takes for a causal language model."""
    torch.manual_seed(seed)
    kind, spec = str(case.factor("direction")), case.spec
    if isinstance(spec, ModelSpec):
        params = random_params(spec, seed)
        model = models.build(spec, params)  # pyright: ignore[reportArgumentType]
        return lambda x: model(x)[0]
    assert isinstance(spec, LSTMSpec)
    network = Direction(kind, spec).double()
    width = spec.hidden_size
    return network if case.factor("read") == "all" else lambda x: network(x)[..., :width]


def measure_leakage(case: Case) -> Iterator[Measurement]:
    """`future_leakage` first: the largest |∂y_t/∂x_{t+j}| over j > 0, a seed each; then `leakage_by_offset`, over seeds, for
    j from −(T − 1) to T − 1, and `leakage_matrix`, the first seed's [T, T] row by row."""
    found = []
    for seed in range(int(case.factor("seeds"))):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(case.steps, case.spec.input_size, generator=generator, dtype=torch.float64)
        found.append(jacobian(networks_read(case, seed), x))
    offsets = np.max([by_offset(each) for each in found], axis=0)
    future = [float(by_offset(each)[case.steps :].max()) for each in found]
    yield Measurement("future_leakage", "1", tuple(future), (1,) * len(found))
    yield Measurement("leakage_by_offset", "1", tuple(offsets.tolist()))
    yield Measurement("leakage_matrix", "1", tuple(found[0].flatten().tolist()))


# Identities: an LSTM in both directions against plain ones.


def measure_identity(case: Case) -> Iterator[Measurement]:
    """One sample a seed, of the case's factor `identity` and in its data type:

    one_layer   nn.LSTM(bidirectional) of one layer against two plain LSTMs; contrast: the backward one not turned back
    two_stacks  nn.LSTM(bidirectional) whose directions are cut apart against ELMo's stacks; contrast: not cut apart
    """
    both = {"one_layer": _of_one_layer, "two_stacks": _of_two_stacks}
    found = [both[str(case.factor("identity"))](case, seed) for seed in range(int(case.factor("seeds")))]
    errors, contrasts = zip(*found, strict=True)
    yield Measurement("identity_error", "1", errors)
    yield Measurement("identity_contrast", "1", contrasts)


def _sides(case: Case, seed: int) -> tuple[nn.LSTM, TwoStacks, Tensor]:
    """An LSTM in both directions, two stacks with its weights as far as they have them, and an input."""
    torch.manual_seed(seed)
    spec = case.spec
    sizes = (spec.input_size, spec.hidden_size, spec.num_layers)
    dtype = getattr(torch, spec.dtype)
    both, apart = nn.LSTM(*sizes, bidirectional=True).to(dtype), TwoStacks(*sizes).to(dtype)
    own = dict(both.named_parameters())
    with torch.no_grad():
        halves = slice(None, spec.hidden_size), slice(-spec.hidden_size, None)
        for stack, ending, part in ((apart.ahead, "", halves[0]), (apart.back, "_reverse", halves[1])):
            for name, value in stack.named_parameters():
                there = own[name + ending]
                value.copy_(there if there.shape == value.shape else there[:, part])
    return both, apart, torch.randn(case.steps, case.batch, spec.input_size, dtype=dtype)


@torch.no_grad()
def _of_one_layer(case: Case, seed: int) -> tuple[float, float]:
    both, apart, x = _sides(case, seed)
    found = both(x)[0]
    unturned = torch.cat([apart.ahead(x)[0], apart.back(x.flip(0))[0]], -1)
    return _apart(found, apart(x)), _apart(found, unturned)


@torch.no_grad()
def _of_two_stacks(case: Case, seed: int) -> tuple[float, float]:
    both, apart, x = _sides(case, seed)
    mixed = both(x)[0]
    width = case.spec.hidden_size
    for layer in range(1, case.spec.num_layers):
        getattr(both, f"weight_ih_l{layer}")[:, width:] = 0
        getattr(both, f"weight_ih_l{layer}_reverse")[:, :width] = 0
    return _apart(both(x)[0], apart(x)), _apart(mixed, apart(x))


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


# Generation: a token at a time, each read before the next is drawn.


class CannotGenerate(UserError, ValueError):
    """A network whose prediction of a token has read the token."""


class NextToken(nn.Module):
    """Tokens [T, B] to logits [T, B, V] of the next one."""

    def __init__(self, kind: str, spec: LSTMSpec, vocabulary: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embedding = nn.Embedding(vocabulary, spec.input_size)
            self.network = Direction(kind, spec)
            self.readout = nn.Linear(self.network.output_size, vocabulary)
        self.to(spec.device)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.readout(self.network(self.embedding(tokens)))

    @torch.no_grad()
    def generate(self, prefix: Tensor, steps: int, generator: torch.Generator) -> Tensor:
        """Tokens [T + steps, B] that go on from the prefix [T, B].

        Raises:
            CannotGenerate: the network reads in both directions.
        """
        if self.network.reads_the_future:
            raise CannotGenerate(
                f"asked to generate with an LSTM of kind {self.network.kind}, which reads the tokens after the "
                "one it predicts, and these do not exist yet; generate with an LSTM in one direction (kind one)"
            )
        tokens = prefix
        for _ in range(steps):
            likely = self(tokens)[-1].softmax(-1)
            tokens = torch.cat([tokens, torch.multinomial(likely, 1, generator=generator).T])
        return tokens
