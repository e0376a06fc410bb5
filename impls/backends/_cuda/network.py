"""A whole network of one spec with its weights and one batch on the device: what the harness times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from impls.backends._cuda import layer, recurrence
from impls.backends._cuda.kernels import Launcher
from impls.backends._cuda.plan import Plan
from impls.batch import Batch, filled
from impls.params import Params
from impls.spec import Recurrent


@dataclass(frozen=True, slots=True)
class Answer:
    y: Tensor  # [T, B, D·H]
    state: tuple[Tensor, Tensor]  # h_n, c_n [L·D, B, H], c_n wide
    gradients: dict[str, Tensor]


Compute = Callable[[], Answer]
Record = Callable[[Compute], Compute]


class Network:
    """`record` turns a computation into one that replays its launches, where there is one for every time step.

    Weights are put into the kernels' order once when loaded and again by every `forward_backward`, where in training
    they would have changed."""

    def __init__(
        self, spec: Recurrent, params: Params, batch: Batch, plan: Plan, launcher: Launcher, device: torch.device,
        record: Record | None = None,
    ) -> None:  # fmt: skip
        self.spec, self.plan, self.launcher, self.device, self.record = spec, plan, launcher, device, record
        self.cuda_stream_timed = device.type == "cuda"
        full = filled(spec, batch)
        states = (spec.num_layers * spec.num_directions, batch.batch, spec.hidden_size)
        self.x, self.grad_y = self._put(full.x), self._put(full.grad_y)
        self.h0, self.c0, self.grad_h_n, self.grad_c_n = (
            self._put(np.zeros(states) if value is None else value)
            for value in (full.h0, full.c0, full.grad_h_n, full.grad_c_n)
        )
        lengths = np.full(batch.batch, batch.steps) if batch.lengths is None else batch.lengths
        self.lengths = torch.tensor(lengths, dtype=torch.int32, device=device)
        self.one_step = torch.ones_like(self.lengths)
        self.stacked = [self._stacked(params, depth) for depth in range(spec.num_layers)]
        self.weights = [layer.pack(plan, *stacked) for stacked in self.stacked]
        self.stream, self.position = (self.h0, self._wide(self.c0)), 0
        self.recorded: dict[Compute, Compute] = {}
        self.latest = Answer(self.x, (self.h0, self.c0), {})

    def forward(self) -> None:
        self.latest = self._call(self._forward)

    def forward_backward(self) -> None:
        self.latest = self._call(self._forward_backward)

    def _call(self, compute: Compute) -> Answer:
        if self.record is None:
            return compute()
        if compute not in self.recorded:
            self.recorded[compute] = self.record(compute)
        return self.recorded[compute]()

    def _forward(self) -> Answer:
        return self._run(self.weights, self.x, self.h0, self._wide(self.c0), self.lengths, training=False)[0]

    def _forward_backward(self) -> Answer:
        weights = [layer.pack(self.plan, *stacked) for stacked in self.stacked]
        answer, results = self._run(weights, self.x, self.h0, self._wide(self.c0), self.lengths, training=True)
        grad, gradients, grad_h0, grad_c0 = self.grad_y, answer.gradients, [], []
        for depth in reversed(range(self.spec.num_layers)):
            part = self._part(depth)
            below = results[depth - 1].y if depth else self.x
            found = layer.backward(
                self.plan, self.launcher, *self.stacked[depth], below, self.h0[part], self._wide(self.c0[part]), self.lengths,
                results[depth], grad, self._wide(self.grad_h_n[part]), self._wide(self.grad_c_n[part]),
            )  # fmt: skip
            gradients |= self._named(found, depth)
            grad_h0.insert(0, found.h0)
            grad_c0.insert(0, found.c0)
            grad = found.x
        gradients |= {"x": grad, "h0": torch.cat(grad_h0), "c0": torch.cat(grad_c0)}
        return answer

    def step(self) -> None:
        x = self.x[self.position % len(self.x)][None]
        self.latest, _ = self._run(self.weights, x, *self.stream, self.one_step, training=False)
        self.stream = self.latest.state
        self.position += 1

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def outputs(self) -> np.ndarray:
        return _on_host(self.latest.y)

    def final_state(self) -> dict[str, np.ndarray]:
        return {"h_n": _on_host(self.latest.state[0]), "c_n": _on_host(self.latest.state[1])}

    def gradients(self) -> dict[str, np.ndarray]:
        return {name: _on_host(value) for name, value in self.latest.gradients.items()}

    def provenance(self) -> dict[str, str]:
        return {
            "ran": self.plan.design, "plan": self.plan.words(), "chosen_because": self.plan.reason, "torch": torch.__version__,
        }  # fmt: skip

    def _run(self, weights, x, h0, c0, lengths, training: bool) -> tuple[Answer, list[recurrence.Result]]:
        """All layers; c0 wide."""
        results = []
        for depth, packed in enumerate(weights):
            part = self._part(depth)
            results.append(layer.forward(self.plan, self.launcher, packed, x, h0[part], c0[part], lengths, training))
            x = results[-1].y
        state = torch.cat([result.h_n for result in results]), torch.cat([result.c_n for result in results])
        return Answer(x, state, {}), results

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

    def _stacked(self, params: Params, depth: int) -> tuple[Tensor, Tensor, Tensor | None]:
        suffixes = self.spec.suffixes()[self._part(depth)]
        of = {
            name: np.stack([params[f"{name}_{suffix}"] for suffix in suffixes])
            for name in ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if self.spec.bias else ()))
        }
        bias = self._put(of["bias_ih"] + of["bias_hh"]) if self.spec.bias else None
        return self._put(of["weight_ih"]), self._put(of["weight_hh"]), bias

    def _part(self, depth: int) -> slice:
        return slice(depth * self.spec.num_directions, (depth + 1) * self.spec.num_directions)

    def _put(self, value: np.ndarray | None) -> Tensor:
        return torch.tensor(value, dtype=getattr(torch, self.spec.stored_dtype), device=self.device)

    def _wide(self, value: Tensor) -> Tensor:
        return value.to(recurrence.wide(value.dtype))


def _on_host(value: Tensor) -> np.ndarray:
    """A fresh array; 16-bit floats become float32, which NumPy knows and which holds them exactly."""
    kept = value if value.dtype in (torch.float32, torch.float64) else value.float()
    return np.array(kept.cpu().numpy())
