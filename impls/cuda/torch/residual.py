"""Residual stacks of LSTMs (`LSTMStackSpec`) on these kernels: PyTorch's own norms and sums, our layers between them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from impls.batch import Batch
from impls.cuda.runtime.kernels import Refused
from impls.cuda.select.plan import Design, Memory, Plan
from impls.cuda.torch import layer, ops, recurrence
from impls.cuda.torch.module import LSTM, State
from impls.cuda.torch.precision import tf32_for
from impls.cuda.torch.stream import Stream
from impls.cuda.torch.streaming import stream_for
from impls.frameworks.torch import models, residual
from impls.frameworks.torch import network as torch_network
from impls.params import Params
from impls.specs.residual import LSTMStackSpec


class CachedLSTM(LSTM):
    """One layer of the drop-in module that packs its weights once for as long as they stay as they are.

    Without gradients it runs on the packed weights; a single step takes the streaming kernel where that has room. With
    gradients, or under autocast, it is the drop-in module, which packs at every call as training must.

    ran: of the last call, the kernels by the name of their design, and their plan.
    """

    def __init__(self, inputs: int, hidden: int, design: Design = "auto", memory: Memory = "saved") -> None:
        super().__init__(inputs, hidden, design=design, memory=memory)
        self.ran: dict[str, str] = {}
        self._packed_from: object = None
        self._packed: dict[Plan, layer.Weights] = {}
        self._streamed: dict[Stream, tuple[Tensor, Tensor]] = {}
        self._streams: dict[int, Stream | None] = {}

    def forward(self, input: Tensor | PackedSequence, hx: State | None = None):
        """As of the drop-in; kept weights serve input [T, B, I] with states h and c [1, B, H]."""
        if isinstance(input, PackedSequence) or hx is None:
            return super().forward(input, hx)
        if torch.is_grad_enabled() or torch.is_autocast_enabled(input.device.type):
            self._say(self._plan(input))
            return super().forward(input, hx)
        self._forget_if_changed()
        h, c = hx
        found = self._step(input, h, c) if len(input) == 1 and self.design == "auto" else None
        return self._sequence(input, h, c) if found is None else found

    def _step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, State] | None:
        """One token in one launch, or None where the streaming kernel has no room."""
        weight_ih, weight_hh, bias = self._weights(0)
        if x.shape[1] not in self._streams:
            self._streams[x.shape[1]] = _stream(weight_ih, self.hidden_size, x.shape[1])
        stream = self._streams[x.shape[1]]
        if stream is None:
            return None
        if stream not in self._streamed:
            self._streamed[stream] = stream.pack([(weight_ih[0], weight_hh[0], None if bias is None else bias[0])])
        self.ran = {"ran": "stream", "plan": stream.words(), "chosen_because": "one launch can do the layer"}
        # The kernel changes its states in place; those it is given belong to the caller.
        h, c = h.clone(), c.to(torch.float32, copy=True)
        weights, biases = self._streamed[stream]
        y = stream.advance(ops.launcher_for(x.device), weights, biases, x.contiguous(), h, c)
        return y, (h, c.to(x.dtype))

    def _sequence(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, State]:
        plan = self._plan(x)
        self._say(plan)
        with ops.as_planned(plan, x):
            if plan not in self._packed:
                self._packed[plan] = layer.pack(plan, *self._weights(0))
            lengths = torch.full((x.shape[1],), len(x), dtype=torch.int32, device=x.device)
            h, c = h.contiguous(), c.to(recurrence.wide(x.dtype)).contiguous()
            found = layer.run(plan, ops.launcher_for(x.device), [self._packed[plan]], [None], x.contiguous(), h, c, lengths)
        return found.outputs[-1], (found.h_n, found.c_n.to(x.dtype))

    def _plan(self, x: Tensor) -> Plan:
        return ops.planned(self.hidden_size, x.shape[1], 1, x.dtype, x.device, self.design, self.memory, tf32_for(x))

    def _say(self, plan: Plan) -> None:
        self.ran = {"ran": plan.design, "plan": plan.words(), "chosen_because": plan.reason}

    def _forget_if_changed(self) -> None:
        """Weights that were replaced or changed in place, by an optimiser say, are packed anew."""
        version = tuple((weight.data_ptr(), weight._version) for weight in self.parameters())
        if version != self._packed_from:
            self._packed_from = version
            self._packed.clear()
            self._streamed.clear()
            self._streams.clear()


def _stream(weight_ih: Tensor, hidden: int, batch: int) -> Stream | None:
    try:
        return stream_for(weight_ih, hidden, 1, batch)
    except Refused:
        return None


def load(
    spec: LSTMStackSpec, params: Params, batch: Batch, design: Design = "auto", memory: Memory = "saved"
) -> torch_network.Network:
    """The stack with its weights and one batch on the spec's device."""
    torch_network.check(spec, params, batch)
    model = models.build(spec, params, lambda inputs, hidden: CachedLSTM(inputs, hidden, design, memory))
    return torch_network.Network(spec, dict(model.named_parameters()), batch, model, what_ran)


def what_ran(network: torch_network.Network) -> dict[str, str]:
    """Of every layer the kernels that its last call planned, each seen among what PyTorch's profiler saw on a GPU."""
    names = set(network.names_run())
    model = network.run
    assert isinstance(model, models.LSTMStack)
    said = [of.ran for of in (block.lstm for block in model.blocks()) if isinstance(of, CachedLSTM)]
    return said[0] | {"ran": named(names, {of["ran"] for of in said}, network.device.type == "cuda")}


def named(names: set[str], planned: set[str], on_gpu: bool) -> str:
    """What ran: the planned designs, and whatever else computed an LSTM; of a design whose kernel a GPU did not run, that."""
    others = {kernel for operator, kernel in residual.KERNELS.items() if operator in names}
    missing = {f"no {design}" for design in planned if on_gpu and not any(name.startswith(f"lstm_{design}") for name in names)}
    return "+".join(sorted((planned if not missing else missing) | others))
