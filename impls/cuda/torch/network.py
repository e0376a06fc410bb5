"""A whole network with its weights and one batch on the device, recurrent or residual: what the harness times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from impls.batch import Batch, Draw, filled
from impls.cuda.runtime import Launcher, Refused, raise_if_failed
from impls.cuda.select import Design, Memory, Plan
from impls.cuda.torch import layer, ops, recurrence
from impls.cuda.torch.layer import Layer, fold, fold_weights, run
from impls.cuda.torch.module import LSTM, State
from impls.cuda.torch.ops import tf32_for
from impls.cuda.torch.recurrence import Parameters
from impls.cuda.torch.stream import GridStream, Stream
from impls.cuda.torch.streaming import stream_for
from impls.frameworks.torch import graph, models, residual
from impls.frameworks.torch import network as torch_network
from impls.frameworks.torch.network import placed
from impls.interface import Phase
from impls.params import Params
from impls.specs.recurrent import Recurrent
from impls.specs.residual import LSTMStackSpec

# Recurrent networks.


@dataclass(frozen=True, slots=True)
class Answer:
    y: Tensor  # [T, B, D·H]
    state: tuple[Tensor, Tensor]  # h_n, c_n [L·D, B, H], c_n wide
    gradients: dict[str, Tensor]


class Network:
    """wavefront: steps of a chunk of time that the layers hand on at inference (`layer.wavefront`); 0 for layer after layer.

    `stream` runs `step` in one launch for all layers; without it a step takes a launch and a GEMM a layer.

    What a forward kernel needs of the weights (biases added, another order) is made once when loaded and again by every
    `forward_backward`, where in training they would have changed."""

    def __init__(
        self, spec: Recurrent, params: Params, batch: Batch, plan: Plan, launcher: Launcher, device: torch.device, *,
        stream: Stream | GridStream | None = None, wavefront: int = 0,
    ) -> None:  # fmt: skip
        if wavefront and (spec.bidirectional or getattr(spec, "proj_size", 0)):
            raise Refused("a wavefront is of layers of one direction without projection; ask for wavefront=0")
        self.wavefront = wavefront if spec.num_layers > 1 else 0
        self.spec, self.plan, self.launcher, self.device = spec, plan, launcher, device
        self.cuda_stream_timed = device.type == "cuda"
        full = filled(spec, batch)
        self.x, self.grad_y = self._put(full.x), self._put(full.grad_y)
        self.h0, self.c0, self.grad_h_n, self.grad_c_n = (
            self._put(value) for value in (full.h0, full.c0, full.grad_h_n, full.grad_c_n)
        )
        lengths = batch.lengths
        self.lengths = None if lengths is None else torch.tensor(lengths, dtype=torch.int32, device=device)
        self.parameters = [self._parameters(params, depth) for depth in range(spec.num_layers)]
        self.projections = [self._projection(params, depth) for depth in range(spec.num_layers)]
        self.weights = self._packed()
        self.state, self.position = (self.h0.clone(), self._wide(self.c0).clone()), 0
        self.stream, self.stream_weights = stream, None
        self.latest = Answer(self.x, (self.h0, self.c0), {})
        self.last_call: Callable[[], None] = self.forward
        self.graphs = graph.GraphCalls(self._replay, self._called)

    def forward(self) -> None:
        self.latest = self._forward()
        self._called(self.forward)

    def forward_backward(self) -> None:
        self.latest = self._forward_backward()
        self._called(self.forward_backward)

    def capture(self, phase: Phase) -> Callable[[], None]:
        """As of `SupportsGraph`."""
        return self.graphs.of(phase)

    def _called(self, call: Callable[[], None]) -> None:
        self.last_call = call

    def _replay(self, phase: Phase) -> Callable[[], None]:
        """A call whose graph is yet to be captured."""
        if phase == "step":
            return self._replay_step()
        body = self._forward if phase == "forward" else self._forward_backward
        return graph.Replay(self.device, body, self._show, scale=self.x.mul_)

    def _show(self, answer: Answer) -> None:
        self.latest = answer

    def _replay_step(self) -> Callable[[], None]:
        """The token is copied to where the graph reads it; the state lies in the same tensors before and after."""
        token, state = self.x[:1].clone(), (self.state[0].clone(), self.state[1].clone())

        def prepare() -> None:
            token.copy_(self._token())
            if self.state is not state:  # set meanwhile by an eager step
                graph.copy(state, self.state)
                self.state = state

        def body() -> Answer:
            answer = self._step(token, state)
            if answer.state is not state:
                graph.copy(state, answer.state)
            return Answer(answer.y, state, {})

        def show(answer: Answer) -> None:
            self.latest = answer
            self.position += 1

        undo = partial(graph.copier, state)
        return graph.Replay(self.device, body, show, prepare, undo, token.mul_)

    def _forward(self) -> Answer:
        return self._run(self.weights, self.x, self.h0, self._wide(self.c0), self.lengths, training=False)[0]

    def _forward_backward(self) -> Answer:
        weights = self._packed()
        answer, results, outputs = self._run(weights, self.x, self.h0, self._wide(self.c0), self.lengths, training=True)
        grad, gradients, grad_h0, grad_c0 = self.grad_y, answer.gradients, [], []
        for depth in reversed(range(self.spec.num_layers)):
            below = outputs[depth - 1] if depth else self.x
            named, found = self._backward(depth, below, results[depth], grad)
            gradients |= named
            grad_h0.insert(0, found.h0)
            grad_c0.insert(0, found.c0)
            grad = found.x
        gradients |= {"x": grad, "h0": torch.cat(grad_h0), "c0": torch.cat(grad_c0)}
        return answer

    def step(self) -> None:
        self.latest = self._step(self._token(), self.state)
        self.state = self.latest.state
        self.position += 1
        self._called(self.step)

    def _token(self) -> Tensor:
        at = self.position % len(self.x)
        return self.x[at : at + 1]

    def _step(self, x: Tensor, state: tuple[Tensor, Tensor]) -> Answer:
        """With a stream the state is changed in place, else the answer's is a new one."""
        if self.stream is None:
            return self._run(self.weights, x, *state, None, training=False)[0]
        if self.stream_weights is None:
            layers = [(ih[0], hh[0], layer.sum_biases(bias, 1)[0]) for ih, hh, bias in self.parameters]
            self.stream_weights = self.stream.pack(layers)
        return Answer(self.stream.advance(self.launcher, self.stream_weights, x, *state), state, {})

    def advance(self, tokens: int) -> None:
        """As so many calls of `step`, by the kernels for whole sequences. Raises `ValueError` unless `tokens` divides T."""
        if len(self.x) % tokens:
            raise ValueError(f"tokens must divide the batch's {len(self.x)} steps; got {tokens}")
        at = self.position % len(self.x)
        x = self.x[at : at + tokens]
        self.latest, _, _ = self._run(self.weights, x, *self.state, None, training=False)
        self.state = self.latest.state
        self.position += tokens

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        raise_if_failed(self.device)

    def outputs(self) -> np.ndarray:
        return _on_host(self.latest.y)

    def final_state(self) -> dict[str, np.ndarray]:
        return {"h_n": _on_host(self.latest.state[0]), "c_n": _on_host(self.latest.state[1])}

    def gradients(self) -> dict[str, np.ndarray]:
        return {name: _on_host(value) for name, value in self.latest.gradients.items()}

    def provenance(self) -> dict[str, str]:
        waves = f"; inference as a wavefront of {self.wavefront} steps" if self.wavefront else ""
        found = {
            "ran": self.plan.design, "plan": self.plan.words() + waves, "chosen_because": self.plan.reason,
            "torch": torch.__version__,
        } | ({} if self.stream is None or not self.position else {"ran": "stream", "plan": self.stream.words()})  # fmt: skip
        phase = self.graphs.phase_of(self.last_call)
        return found if phase is None else found | {"ran": graph.ran(self._names_run(phase), found["ran"])}

    def _names_run(self, phase: Phase) -> list[str]:
        """Of the last call, which launched a graph, made once more; it leaves no trace in the answer and the stream."""
        restore = graph.copier((self.latest.y, *self.state) if phase == "step" else ())
        position = self.position
        names = graph.names_of(self.last_call, self.device)
        restore()
        self.position = position
        return names

    def _run(self, weights, x, h0, c0, lengths, training: bool) -> tuple[Answer, list[recurrence.Result], list[Tensor]]:
        """All layers; c0 wide. The recurrences' results, and each layer's output."""
        if self.wavefront and not training and len(x) > self.wavefront:
            states = {"lengths": lengths, "chunk": self.wavefront}
            y, h_n, c_n = layer.wavefront(self.plan, self.launcher, weights, x, (h0, c0), **states)
            return Answer(y, (h_n, c_n), {}), [], [y]
        given = self.plan, self.launcher, weights, x, h0, c0
        found = run(*given, lengths=lengths, projections=self.projections, training=training)
        return Answer(found.outputs[-1], (found.h_n, found.c_n), {}), found.results, found.outputs

    def _backward(
        self, depth: int, below: Tensor, result: recurrence.Result, grad_y: Tensor
    ) -> tuple[dict[str, Tensor], layer.Gradients]:
        """Gradients of a layer's parameters under their own names, and all of them."""
        part, (weight_ih, weight_hh, bias), projection = self._part(depth), self.parameters[depth], self.projections[depth]
        h0, grad_h_n, grad_c_n = self.h0[part], self.grad_h_n[part], self._wide(self.grad_c_n[part])
        c0 = self._wide(self.c0[part])
        if projection is None:
            found = layer.backward(
                self.plan, self.launcher, self.parameters[depth], below, (h0, c0),
                lengths=self.lengths, result=result, grads=(grad_y, self._wide(grad_h_n), grad_c_n),
            )  # fmt: skip
            return self._named(found, depth), found
        whole = Layer(below, list(weight_ih), list(weight_hh), projection, h0, self.lengths)
        x, folded_ih, folded_hh = fold(below, weight_ih, weight_hh, projection, h0, self.lengths)
        grad_m, grad_m_n, late_hr, late_h0 = whole.backward_outputs(result.y, result.h_n, grad_y, grad_h_n)
        found = layer.backward(
            self.plan, self.launcher, (folded_ih, folded_hh, bias), x, (None, c0), lengths=self.lengths,
            result=result, grads=(grad_m.contiguous(), self._wide(grad_m_n).contiguous(), grad_c_n),
        )  # fmt: skip
        grad_x, grad_ih, grad_hh, grad_hr, grad_h0 = whole.backward_inputs(found.x, found.weight_ih, found.weight_hh)
        found = layer.Gradients(grad_x, grad_ih, grad_hh, found.bias, grad_h0 + late_h0, found.c0)
        named = {
            f"weight_hr_{suffix}": early + late
            for suffix, early, late in zip(self.spec.suffixes()[part], grad_hr, late_hr, strict=True)
        }
        return self._named(found, depth) | named, found

    def _named(self, found: layer.Gradients, depth: int) -> dict[str, Tensor]:
        """Gradients of a layer's parameters under their own names."""
        named = {}
        for direction in range(self.spec.num_directions):
            suffix = self.spec.suffixes()[depth * self.spec.num_directions + direction]
            named[f"weight_ih_{suffix}"] = found.weight_ih[direction]
            named[f"weight_hh_{suffix}"] = found.weight_hh[direction]
            if self.spec.bias:
                named[f"bias_ih_{suffix}"] = named[f"bias_hh_{suffix}"] = found.bias[direction]
        return named

    def _parameters(self, params: Params, depth: int) -> Parameters:
        suffixes = self.spec.suffixes()[self._part(depth)]

        weight_ih, weight_hh = ([self._put(params[f"{name}_{end}"]) for end in suffixes] for name in ("weight_ih", "weight_hh"))
        bias = [self._put(params[f"bias_ih_{end}"] + params[f"bias_hh_{end}"]) for end in suffixes] if self.spec.bias else []
        return weight_ih, weight_hh, bias

    def _projection(self, params: Params, depth: int) -> list[Tensor] | None:
        """W_hr [P, H] of each direction, or None."""
        if not getattr(self.spec, "proj_size", 0):
            return None
        return [self._put(params[f"weight_hr_{suffix}"]) for suffix in self.spec.suffixes()[self._part(depth)]]

    def _packed(self) -> list[layer.Weights]:
        packed = []
        for (weight_ih, weight_hh, bias), projection in zip(self.parameters, self.projections, strict=True):
            if projection is not None:
                weight_ih, weight_hh = fold_weights(weight_ih, weight_hh, projection)
            packed.append(layer.pack(self.plan, self.launcher, (weight_ih, weight_hh, bias)))
        return packed

    def _part(self, depth: int) -> slice:
        return slice(depth * self.spec.num_directions, (depth + 1) * self.spec.num_directions)

    def _put(self, value: np.ndarray | Draw | None) -> Tensor:
        assert value is not None  # `filled` leaves no gap for an LSTM
        return placed(value, getattr(torch, self.spec.stored_dtype), self.device)

    def _wide(self, value: Tensor) -> Tensor:
        return value.to(recurrence.wide(value.dtype))


def _on_host(value: Tensor) -> np.ndarray:
    """A fresh array; 16-bit floats become float32, which NumPy knows and which holds them exactly."""
    kept = value if value.dtype in (torch.float32, torch.float64) else value.float()
    return np.array(kept.cpu().numpy())


# Residual stacks of LSTMs (`LSTMStackSpec`) on these kernels: PyTorch's own norms and sums, our layers between them.


class SteppedLSTM(LSTM):
    """One layer of the drop-in module that can take a single step by the streaming kernel.

    It does once `keep` was called, without gradients and autocast and where that kernel has room. Else it is the drop-in.

    ran: of the last call, the kernels by the name of their design, and their plan.
    """

    def __init__(self, inputs: int, hidden: int, design: Design = "auto", memory: Memory = "saved") -> None:
        super().__init__(inputs, hidden, design=design, memory=memory)
        self.ran: dict[str, str] = {}
        self._kept: tuple[Stream | GridStream, tuple[Tensor, ...]] | None = None

    def keep(self, batch: int) -> None:
        """Pack the weights as they are now for steps of so many sequences: changes are not noticed until it is called again."""
        self._kept = None
        if self.design != "auto":
            return
        (weight_ih, weight_hh, bias), _ = self._weights(0)
        with torch.no_grad():
            try:
                stream = stream_for(weight_ih[0], self.hidden_size, 1, batch, tf32=tf32_for(weight_ih[0]))
                self._kept = stream, stream.pack([(weight_ih[0], weight_hh[0], layer.sum_biases(bias, 1)[0])])
            except Refused:  # `ran` then names the kernels that do the step
                return

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._kept = None  # of another device or dtype
        return super()._apply(fn, recurse)

    def forward(self, input: Tensor | PackedSequence, hx: State | None = None):
        """As of the drop-in; kept weights serve one step with states h and c [1, B, H]."""
        if isinstance(input, PackedSequence) or hx is None:
            return super().forward(input, hx)
        plain = not torch.is_grad_enabled() and not torch.is_autocast_enabled(input.device.type)
        if plain and self._kept is not None and len(input) == 1:
            return self._step(input, *hx, *self._kept)
        sizes = self.hidden_size, input.shape[1], 1, input.dtype, input.device
        plan = ops.planned(*sizes, design=self.design, memory=self.memory, tf32=tf32_for(input))
        self.ran = {"ran": plan.design, "plan": plan.words(), "chosen_because": plan.reason}
        return super().forward(input, hx)

    def _step(
        self, x: Tensor, h: Tensor, c: Tensor, stream: Stream | GridStream, packed: tuple[Tensor, ...]
    ) -> tuple[Tensor, State]:  # fmt: skip
        self.ran = {"ran": "stream", "plan": stream.words(), "chosen_because": "one launch can do the layer"}
        # The kernel changes its states in place; those it is given belong to the caller.
        h, c = h.clone(), c.to(torch.float32, copy=True)
        y = stream.advance(ops.launcher_for(x.device), packed, x.contiguous(), h, c)
        return y, (h, c.to(x.dtype))


def load(
    spec: LSTMStackSpec, params: Params, batch: Batch, design: Design = "auto", memory: Memory = "saved"
) -> torch_network.Network:
    """The stack with its weights and one batch on the spec's device."""
    torch_network.check(spec, params, batch)
    model = models.build(spec, params, lambda inputs, hidden: SteppedLSTM(inputs, hidden, design, memory))
    for each in model.modules():
        if isinstance(each, SteppedLSTM):
            each.keep(batch.batch)
    return torch_network.Network(spec, dict(model.named_parameters()), batch, model, what_ran)


def what_ran(network: torch_network.Network) -> dict[str, str]:
    """Of every layer the kernels that its last call planned, each seen among what PyTorch's profiler saw on a GPU."""
    names = set(network.names_run())
    model = network.run
    assert isinstance(model, models.LSTMStack)
    layers = [block.lstm.ran for block in model.blocks() if isinstance(block.lstm, SteppedLSTM)]
    return layers[0] | {"ran": named(names, {layer["ran"] for layer in layers}, network.device.type == "cuda")}


def named(names: set[str], planned: set[str], on_gpu: bool) -> str:
    """What ran: the planned designs, and whatever else computed an LSTM; of a design whose kernel a GPU did not run, that."""
    others = {kernel for operator, kernel in residual.KERNELS.items() if operator in names}
    missing = {f"no {design}" for design in planned if on_gpu and not any(name.startswith(f"lstm_{design}") for name in names)}
    return "+".join(sorted((planned if not missing else missing) | others))
