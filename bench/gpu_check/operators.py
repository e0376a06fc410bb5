"""The PyTorch module as its users call it, against float64: eager, compiled, packed, on a stream of its own, in a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from bench.gpu_check.items import Found, Part
from bench.gpu_check.station import DeviceContext
from bench.harness.case import Case
from bench.worker import agreement
from bench.worker.prepare import Skip
from impls import LSTMSpec
from impls.batch import filled
from impls.cuda.torch.module import LSTM
from impls.specs.recurrent import require_recurrent
from results.record import Measurement

STEPS, BATCH = 5, 3
DTYPES = ("bfloat16", "float32")
WAYS = ("eager", "compiled", "packed", "side_stream", "captured")
OF_A_GPU = ("side_stream", "captured")
WARM_UP_CALLS = 3  # on a side stream before a capture, as PyTorch's notes on CUDA graphs ask

State = tuple[Tensor, Tensor]
Call = Callable[[Tensor, State], tuple[Tensor, State]]


def parts(station: DeviceContext) -> Iterator[Part]:
    for dtype in DTYPES[: 1 if station.emulated else None]:
        for way in WAYS:
            yield Part(f"{way}-{dtype}", {"way": way, "dtype": dtype})


def measure(station: DeviceContext, key: str) -> Found:
    """The largest error of outputs, states or gradients, as a share of what is allowed."""
    way, dtype = key.split("-")
    if station.emulated and way in OF_A_GPU:
        raise Skip("not measured: streams and CUDA graphs are a GPU's")
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    spec = LSTMSpec(8, 72, 2, bidirectional=True, dtype=dtype, device="cpu" if station.emulated else "cuda")  # pyright: ignore[reportArgumentType]
    case = Case(spec, STEPS, BATCH, "forward_backward", ragged=way == "packed", initial_state=True)
    share = agreement.check_against(_Trial(case, station.bench.device).answer(way), case)
    return Found((Measurement("error_share", "of what is allowed", (share,)),), station.provenance() | {"way": way})


class _Trial:
    """A module with the case's weights, and the case's tensors as leaves of autograd."""

    def __init__(self, case: Case, device: torch.device) -> None:
        params, batch = case.data()
        spec = require_recurrent(case.spec)
        full = filled(spec, batch)
        dtype = getattr(torch, spec.stored_dtype)
        put: Any = lambda value: torch.tensor(np.asarray(value), dtype=dtype, device=device)  # noqa: E731
        self.module = LSTM(
            spec.input_size, spec.hidden_size, spec.num_layers, bidirectional=spec.bidirectional, dtype=dtype, device=device
        )
        self.module.load_state_dict({name: put(value) for name, value in params.items()})
        self.leaves = {name: put(getattr(full, name)).requires_grad_() for name in ("x", "h0", "c0")}
        self.cotangents = [put(value) for value in (full.grad_y, full.grad_h_n, full.grad_c_n)]
        self.lengths = None if batch.lengths is None else torch.tensor(batch.lengths)

    def answer(self, way: str) -> agreement.Answer:
        """What the module says and sends back, called in this way."""
        run = {"side_stream": self._on_a_side_stream, "captured": self._captured}.get(way, self._run)
        call: Call = {"compiled": torch.compile(self.module, fullgraph=True), "packed": self._packed}.get(way, self.module)
        outputs, gradients = run(call)
        names = [*self.leaves, *(name for name, _ in self.module.named_parameters())]
        found = dict(zip(("outputs", "h_n", "c_n"), outputs, strict=True))
        found |= {f"gradient of {name}": value for name, value in zip(names, gradients, strict=True)}
        return {name: value.detach().double().cpu().numpy() for name, value in found.items()}

    def _run(self, call: Call) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        y, (h_n, c_n) = call(self.leaves["x"], (self.leaves["h0"], self.leaves["c0"]))
        wanted = [*self.leaves.values(), *self.module.parameters()]
        return (y, h_n, c_n), torch.autograd.grad([y, h_n, c_n], wanted, self.cotangents)

    def _packed(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        assert self.lengths is not None
        y, last = self.module(pack_padded_sequence(x, self.lengths, enforce_sorted=False), state)
        return pad_packed_sequence(y, total_length=x.shape[0])[0], last

    def _on_a_side_stream(self, call: Call):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            found = self._run(call)
        torch.cuda.current_stream().wait_stream(side)
        return found

    def _captured(self, call: Call):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_CALLS):
                self._run(call)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = self._run(call)
        for tensor in (*found[0], *found[1]):
            tensor.detach().fill_(torch.nan)  # only a replay can put it right
        graph.replay()
        torch.cuda.synchronize()
        return found
