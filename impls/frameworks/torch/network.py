"""What the PyTorch backends share: tensors on the device, the timed calls, a look at what ran, and the textbook loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from impls import Unavailable, refusals
from impls.batch import SCALE, Batch, Draw, check_batch, filled, hashed_sum
from impls.frameworks.torch import graph
from impls.interface import Phase
from impls.params import Params, check_params
from impls.specs.recurrent import Spec, require_recurrent

State = tuple[Tensor, ...]  # h [L·D, B, R], and for an LSTM c [L·D, B, H]
Run = Callable[[Tensor, State], tuple[Tensor, State]]  # x [T, B, I] and the first state to y [T, B, D·R] and the last
Seen = TypeVar("Seen")
DRAWN_AT_ONCE = 1 << 22  # values; of each some 30 bytes are in use meanwhile
MODULES = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}


def no_cuda(spec: Spec) -> str | None:
    return refusals.no_cuda(spec, "torch", torch.cuda.is_available())


def check(spec: Spec, params: Params, batch: Batch) -> None:
    """Raise unless the data fit the spec and its device is here; then multiply as the spec says."""
    if reason := no_cuda(spec):
        raise Unavailable(reason)
    check_params(spec, params)
    check_batch(spec, batch)
    multiply_in(spec)


def multiply_in(spec: Spec) -> None:
    """Whether float32 products may be TF32, for this process. PyTorch's defaults are yes in cuDNN and no in cuBLAS."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = spec.dtype == "tensorfloat32"


def on_device(spec: Spec, value: np.ndarray | Draw) -> Tensor:
    return placed(value, getattr(torch, spec.stored_dtype), torch.device(spec.device))


def placed(value: np.ndarray | Draw, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The values on the device; what can be computed there is not sent there."""
    if isinstance(value, Draw):
        return drawn(value, dtype, device)
    if not any(value.strides):  # one number, as `filled` leaves zeros
        return torch.full(value.shape, float(value.flat[0]), dtype=dtype, device=device)
    return torch.tensor(value, dtype=dtype, device=device)


def drawn(draw: Draw, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The values of `draw`, computed on the device in pieces, so that little memory beyond the result is ever used."""
    values = torch.empty(draw.size, dtype=dtype, device=device)
    for first in range(0, draw.size, DRAWN_AT_ONCE):
        last = min(first + DRAWN_AT_ONCE, draw.size)
        positions = torch.arange(first, last, dtype=torch.int32, device=device)
        values[first:last] = hashed_sum(positions, draw.key) / SCALE
    return values.view(draw.shape)


def leaves(spec: Spec, params: Params) -> dict[str, Tensor]:
    """The parameters on the device, each a leaf that wants its gradient."""
    return {name: on_device(spec, value).requires_grad_() for name, value in params.items()}


def module(spec: Spec, params: Params) -> torch.nn.RNNBase:
    """`torch.nn.LSTM`, `GRU` or `RNN` with these weights."""
    spec = require_recurrent(spec)
    sizes = {"proj_size": getattr(spec, "proj_size", 0)} if spec.cell == "lstm" else {}
    network = MODULES[spec.cell](
        spec.input_size, spec.hidden_size, spec.num_layers, bias=spec.bias, bidirectional=spec.bidirectional,
        dtype=getattr(torch, spec.stored_dtype), device=spec.device, **sizes,
    )  # fmt: skip
    network.load_state_dict({name: on_device(spec, value) for name, value in params.items()})
    return network


def module_run(network: Any, batch: Batch) -> Run:
    """Call the module, or its quantized copy, as users do: padded input and output, packed inside where there are lengths."""
    lstm = network.mode == "LSTM"
    lengths = torch.from_numpy(np.full(batch.batch, batch.steps) if batch.lengths is None else batch.lengths.astype(np.int64))

    def run(x: Tensor, state: State) -> tuple[Tensor, State]:
        y, last = network(x, state if lstm else state[0])
        return y, last if lstm else (last,)

    def run_packed(x: Tensor, state: State) -> tuple[Tensor, State]:
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
        y, last = network(packed, state if lstm else state[0])
        padded, _ = torch.nn.utils.rnn.pad_packed_sequence(y, total_length=len(x))
        return padded, last if lstm else (last,)

    return run if batch.lengths is None else run_packed


def no_graph(batch: Batch) -> str | None:
    """Why `module_run` cannot be captured in a CUDA graph, or None."""
    if batch.lengths is None:
        return None
    return (
        "packing sequences copies their order from the host at every call, which a CUDA graph cannot; ask for full lengths, "
        "for launch=eager, or use the backends torch_loop or cuda"
    )


class Network:
    """One batch and the weights on their device, and a function `run` that computes the network.

    set_flags  called before every timed call, for a switch of PyTorch that is global to the process (cuDNN on or off)
    what_ran   looks at the finished network, for `provenance`
    no_graph   why its calls cannot be captured in a CUDA graph, if they cannot
    """

    def __init__(
        self,
        spec: Spec,
        weights: Mapping[str, Tensor],
        batch: Batch,
        run: Run,
        what_ran: Callable[[Network], dict[str, str]],
        *,
        set_flags: Callable[[], None] | None = None,
        no_graph: str | None = None,
    ) -> None:
        self.spec, self.run, self.what_ran, self.set_flags, self.no_graph = spec, run, what_ran, set_flags, no_graph
        self.weights, self.device = dict(weights), torch.device(spec.device)
        if self.device.type == "cuda":
            self.cuda_stream_timed = True
        full = filled(spec, batch)
        names = [f"{letter}0" for letter in spec.state_shapes(batch.batch)]
        self.x = on_device(spec, full.x).requires_grad_()
        self.initial_state: State = tuple(on_device(spec, getattr(full, name)).requires_grad_() for name in names)
        self.grad_inputs = self.weights | {"x": self.x} | dict(zip(names, self.initial_state, strict=True))
        self.grad_input_tensors = tuple(self.grad_inputs.values())
        cotangents = (full.grad_y, batch.grad_h_n, batch.grad_c_n)[: 1 + len(names)]
        self.cotangents = [None if value is None else on_device(spec, value) for value in cotangents]
        self.inputs = self.x.detach()
        self.tokens = self.inputs.split(1)
        # Made in inference mode, as every later state is: torch.compile compiles anew for a tensor of the other kind.
        with torch.inference_mode():
            self.inference_state: State = tuple(value.clone() for value in self.initial_state)
        self.stream, self.position = self.inference_state, 0
        self.y, self.last = self.x, self.initial_state
        self.grads: tuple[Tensor, ...] = ()
        self.last_call: Callable[[], None] = self.forward
        self.graphs = graph.GraphCalls(self._replay, self._called)

    def forward(self) -> None:
        self.y, self.last = self._forward()
        self.last_call = self.forward

    def _forward(self) -> tuple[Tensor, State]:
        if self.set_flags:
            self.set_flags()
        with torch.inference_mode():
            return self.run(self.inputs, self.inference_state)

    def forward_backward(self) -> None:
        self.y, self.last, self.grads = self._forward_backward()
        self.last_call = self.forward_backward

    def _forward_backward(self) -> tuple[Tensor, State, tuple[Tensor, ...]]:
        if self.set_flags:
            self.set_flags()
        y, last = self.run(self.x, self.initial_state)
        pairs = [pair for pair in zip((y, *last), self.cotangents, strict=True) if pair[1] is not None]
        outputs, cotangents = zip(*pairs, strict=True)
        return y, last, torch.autograd.grad(outputs, self.grad_input_tensors, cotangents)

    def prefill(self) -> None:
        """Set the stream to where the batch leaves it, as T calls of `step` from its start would."""
        self.forward()
        self.stream, self.position = self.last, len(self.tokens)

    def step(self) -> None:
        if self.set_flags:
            self.set_flags()
        with torch.inference_mode():
            self.y, self.stream = self.run(self.tokens[self.position % len(self.tokens)], self.stream)
        self.position += 1
        self.last, self.last_call = self.stream, self.step

    def advance(self, tokens: int) -> None:
        if len(self.inputs) % tokens:
            raise ValueError(f"tokens must divide the batch's {len(self.inputs)} steps; got {tokens}")
        if self.set_flags:
            self.set_flags()
        place = self.position % len(self.inputs)
        with torch.inference_mode():
            self.y, self.stream = self.run(self.inputs[place : place + tokens], self.stream)
        self.position += tokens
        self.last = self.stream

    def capture(self, phase: Phase) -> Callable[[], None]:
        """As of `SupportsGraph`."""
        if self.no_graph:
            raise Unavailable(self.no_graph)
        return self.graphs.of(phase)

    def _called(self, call: Callable[[], None]) -> None:
        self.last_call = call

    def _replay(self, phase: Phase) -> Callable[[], None]:
        """A call whose graph is yet to be captured."""
        if phase == "step":
            return self._replay_step()
        return self._replay_forward() if phase == "forward" else self._replay_training()

    def _replay_forward(self) -> Callable[[], None]:
        def show(answer: tuple[Tensor, State]) -> None:
            self.y, self.last = answer

        return graph.Replay(self.device, self._forward, show, scale=self.inputs.mul_)

    def _replay_training(self) -> Callable[[], None]:
        def body() -> tuple[Tensor, State, tuple[Tensor, ...]]:
            y, last, found = self._forward_backward()
            return y.detach(), tuple(value.detach() for value in last), found

        def show(answer: tuple[Tensor, State, tuple[Tensor, ...]]) -> None:
            self.y, self.last, self.grads = answer

        return graph.Replay(self.device, body, show, scale=self.inputs.mul_)

    def _replay_step(self) -> Callable[[], None]:
        """The token is copied to where the graph reads it; the state lies in the same tensors before and after."""
        token = self.tokens[0].clone()
        with torch.inference_mode():
            state = tuple(value.clone() for value in self.stream)

        def prepare() -> None:
            token.copy_(self.tokens[self.position % len(self.tokens)])
            if self.stream is not state:  # set meanwhile by an eager call
                with torch.inference_mode():
                    graph.copy(state, self.stream)
                self.stream = state

        def body() -> Tensor:
            if self.set_flags:
                self.set_flags()
            with torch.inference_mode():
                y, after = self.run(token, state)
                graph.copy(state, after)
            return y

        def show(y: Tensor) -> None:
            self.y, self.last = y, state
            self.position += 1

        return graph.Replay(self.device, body, show, prepare, lambda: graph.copier(state), token.mul_)

    def widen(self, streams: int, context: int) -> None:
        like = {"dtype": self.inputs.dtype, "device": self.device}
        self.stream = self.last = ()
        self.graphs.forget()
        self.y = self.x
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        with torch.inference_mode():
            self.inputs = torch.zeros(1, streams, self.spec.input_size, **like)
            self.stream = tuple(torch.zeros(shape, **like) for shape in self.spec.state_shapes(streams).values())
        self.tokens, self.position = (self.inputs,), 0

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def outputs(self) -> np.ndarray:
        return on_host(self.y)

    def final_state(self) -> dict[str, np.ndarray]:
        return dict(zip(("h_n", "c_n"), map(on_host, self.last), strict=False))

    def gradients(self) -> dict[str, np.ndarray]:
        return dict(zip(self.grad_inputs, map(on_host, self.grads), strict=True))

    def provenance(self) -> dict[str, str]:
        tf32 = {"tf32": "allowed" if torch.backends.cuda.matmul.allow_tf32 else "off"} if self.device.type == "cuda" else {}
        phase = self.graphs.phase_of(self.last_call)
        found = self.what_ran(self) if phase is None else self._what_graph_ran(phase)
        return found | tf32 | {"torch": torch.__version__}

    def _what_graph_ran(self, phase: Phase) -> dict[str, str]:
        """What the phase runs eagerly, since a replay shows no operator; a graph's if a call is seen to launch one."""
        call = self.last_call
        names = self._aside(phase, call, self.names_run)
        found = self._aside(phase, getattr(self, phase), lambda: self.what_ran(self))
        self.last_call = call
        return found | {"ran": graph.ran(names, found["ran"])}

    def _aside(self, phase: Phase, call: Callable[[], None], look: Callable[[], Seen]) -> Seen:
        """What `look` finds where the last call is `call`; it leaves no trace in the answer and the stream."""
        kept, position = (self.y, self.last, self.grads, self.stream), self.position
        restore = graph.copier((self.y, *self.stream) if phase == "step" else ())  # a replay writes over them
        self.last_call = call
        found = look()
        restore()
        (self.y, self.last, self.grads, self.stream), self.position = kept, position
        return found

    def names_run(self) -> list[str]:
        """Every operator and CUDA kernel of the last call, found by making it once more under PyTorch's profiler."""
        stream, position = self.stream, self.position
        names = graph.names_of(self.last_call, self.device)
        self.stream, self.position = stream, position
        return names


def on_host(value: Tensor) -> np.ndarray:
    """A fresh array; 16-bit floats become float32, which NumPy knows and which holds them exactly."""
    value = value.detach()
    wide = value if value.dtype in (torch.float32, torch.float64) else value.float()
    return np.array(wide.cpu().numpy())


# The textbook LSTM loop in PyTorch: one call of a step function per step, layer and direction.

# x [B, I], h [B, R], c [B, H], (W_ih, W_hh, b_ih or None, b_hh or None, W_hr or None), valid [B, 1] or None; to y, h, c
Step = Callable[..., tuple[Tensor, Tensor, Tensor]]
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


def step(x, h, c, weights, valid) -> tuple[Tensor, Tensor, Tensor]:
    """One step of one layer; where a sequence is past its length, y is zero and the state stays."""
    weight_ih, weight_hh, bias_ih, bias_hh, weight_hr = weights
    z = x @ weight_ih.T + h @ weight_hh.T
    if bias_ih is not None:
        z = z + bias_ih + bias_hh
    i, f, g, o = z.chunk(4, dim=1)
    new_c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    new_h = torch.sigmoid(o) * torch.tanh(new_c)
    if weight_hr is not None:
        new_h = new_h @ weight_hr.T
    if valid is None:
        return new_h, new_h, new_c
    return new_h * valid, torch.where(valid, new_h, h), torch.where(valid, new_c, c)


def loop_run(spec: Spec, weights: dict[str, Tensor], batch: Batch, step: Step) -> Run:
    """The whole network as a loop over `step`."""
    layers = [tuple(weights.get(f"{name}_{suffix}") for name in NAMES) for suffix in require_recurrent(spec).suffixes()]
    lengths = None if batch.lengths is None else torch.as_tensor(batch.lengths, device=spec.device)
    steps = torch.arange(batch.steps, device=spec.device)[:, None]
    valid = [None] * batch.steps if lengths is None else list((steps < lengths)[..., None])

    def layer(index: int, inputs: list[Tensor], h: Tensor, c: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        order = range(len(inputs))
        outputs = list(inputs)
        for t in reversed(order) if index % spec.num_directions else order:
            outputs[t], h, c = step(inputs[t], h, c, layers[index], valid[t])
        return outputs, h, c

    def run(x: Tensor, state: State) -> tuple[Tensor, State]:
        below, (h0, c0) = list(x.unbind(0)), (value.unbind(0) for value in state)
        h_n, c_n = list(h0), list(c0)
        for depth in range(spec.num_layers):
            directions = []
            for index in range(depth * spec.num_directions, (depth + 1) * spec.num_directions):
                outputs, h_n[index], c_n[index] = layer(index, below, h0[index], c0[index])
                directions.append(outputs)
            if spec.bidirectional:
                below = [torch.cat(pair, dim=1) for pair in zip(*directions, strict=True)]
            else:
                below = directions[0]
        return torch.stack(below), (torch.stack(h_n), torch.stack(c_n))

    return run
