"""A whole network of one spec with its weights and one batch on the device: what the harness times."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from impls.backends._cuda import layer, recurrence
from impls.backends._cuda.kernels import Launcher
from impls.backends._cuda.plan import Plan
from impls.batch import Batch, filled
from impls.params import Params
from impls.spec import Spec


class Network:
    """Weights are put into the kernels' order once when loaded and again by every `forward_backward`, where in training
    they would have changed."""

    def __init__(self, spec: Spec, params: Params, batch: Batch, plan: Plan, launcher: Launcher, device: torch.device) -> None:
        self.spec, self.plan, self.launcher, self.device = spec, plan, launcher, device
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
        self.y, self.last = self.x, (self.h0, self.c0)
        self.found: dict[str, Tensor] = {}

    def forward(self) -> None:
        self._run(self.weights, self.x, self.h0, self._wide(self.c0), self.lengths, training=False)

    def forward_backward(self) -> None:
        weights = [layer.pack(self.plan, *stacked) for stacked in self.stacked]
        results = self._run(weights, self.x, self.h0, self._wide(self.c0), self.lengths, training=True)
        grad, self.found, grad_h0, grad_c0 = self.grad_y, {}, [], []
        for depth in reversed(range(self.spec.num_layers)):
            part = self._part(depth)
            below = results[depth - 1].y if depth else self.x
            found = layer.backward(
                self.plan, self.launcher, *self.stacked[depth], below, self.h0[part], self._wide(self.c0[part]), self.lengths,
                results[depth], grad, self._wide(self.grad_h_n[part]), self._wide(self.grad_c_n[part]),
            )  # fmt: skip
            self._keep(found, depth)
            grad_h0.insert(0, found.h0)
            grad_c0.insert(0, found.c0)
            grad = found.x
        self.found |= {"x": grad, "h0": torch.cat(grad_h0), "c0": torch.cat(grad_c0)}

    def step(self) -> None:
        x = self.x[self.position % len(self.x)][None]
        self._run(self.weights, x, *self.stream, self.one_step, training=False)
        self.stream = self.last
        self.position += 1

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def outputs(self) -> np.ndarray:
        return _on_host(self.y)

    def final_state(self) -> dict[str, np.ndarray]:
        return {"h_n": _on_host(self.last[0]), "c_n": _on_host(self.last[1])}

    def gradients(self) -> dict[str, np.ndarray]:
        return {name: _on_host(value) for name, value in self.found.items()}

    def provenance(self) -> dict[str, str]:
        return {
            "ran": self.plan.design, "plan": self.plan.words(), "chosen_because": self.plan.reason, "torch": torch.__version__,
        }  # fmt: skip

    def _run(self, weights, x, h0, c0, lengths, training: bool) -> list[recurrence.Result]:
        """All layers; c0 wide. Leaves y and the last states behind."""
        results = []
        for depth, packed in enumerate(weights):
            part = self._part(depth)
            results.append(layer.forward(self.plan, self.launcher, packed, x, h0[part], c0[part], lengths, training))
            x = results[-1].y
        self.y = x
        self.last = torch.cat([result.h_n for result in results]), torch.cat([result.c_n for result in results])
        return results

    def _keep(self, found: layer.Gradients, depth: int) -> None:
        for direction in range(self.spec.num_directions):
            suffix = self.spec.suffixes()[depth * self.spec.num_directions + direction]
            self.found[f"weight_ih_{suffix}"] = found.weight_ih[direction]
            self.found[f"weight_hh_{suffix}"] = found.weight_hh[direction]
            if self.spec.bias:
                self.found[f"bias_ih_{suffix}"] = self.found[f"bias_hh_{suffix}"] = found.bias[direction]

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
        return torch.tensor(value, dtype=getattr(torch, self.spec.dtype), device=self.device)

    def _wide(self, value: Tensor) -> Tensor:
        return value.to(recurrence.wide(value.dtype))


def _on_host(value: Tensor) -> np.ndarray:
    """A fresh array; 16-bit floats become float32, which NumPy knows and which holds them exactly."""
    kept = value if value.dtype in (torch.float32, torch.float64) else value.float()
    return np.array(kept.cpu().numpy())
