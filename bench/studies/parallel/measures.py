"""What the study `parallel` measures: rounds and what they cost by count, agreement with stepping, and seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bench.harness.case import Case
from bench.studies.gradients import inits
from bench.studies.parallel import counts, newton
from bench.worker import prepare, timing
from impls import Batch, Params
from results.record import Measurement

SAMPLES = 3  # a seed, of which the median stands
SEQUENTIAL = {"cpu": ("onnxruntime", "torch", "jax"), "cuda": ("cuda", "cudnn")}  # of which the fastest is taken
LONGEST_LOOP = 4096  # steps that a loop of PyTorch calls is timed on: a tenth of a millisecond each
SAME = 1e-4  # of float32, between the states of both ways, none of which exceeds 1


@dataclass(frozen=True, slots=True)
class Network:
    """One seed's layer in float64. x [T, I], w [I, 4H], bias [4H]; recurrent as `newton.Cell` has it; params: the same layer
    in full, as backends have it."""

    x: Tensor
    w: Tensor
    bias: Tensor
    recurrent: Tensor
    params: Params

    def inputs(self) -> Tensor:
        return self.x @ self.w + self.bias

    def to(self, like: Case, dtype: torch.dtype) -> Network:
        x, w, bias, recurrent = (each.to(like.spec.device, dtype) for each in (self.x, self.w, self.bias, self.recurrent))
        return Network(x, w, bias, recurrent, self.params)


def network(case: Case, seed: int) -> Network:
    """Weights by the factors init and gain, which multiplies W_hh, and normal inputs, of one sequence.

    The diagonals of a diagonal cell are uniform in ±gain: PyTorch's rule, ±1/√fan-in, for the single unit each one reads.
    """
    params = dict(inits.params(case.spec, str(case.factor("init")), seed))
    hidden, gain = case.spec.hidden_size, float(case.factor("gain"))
    if case.factor("weights") == "diagonal":
        diagonals = np.random.default_rng([seed, 6]).uniform(-gain, gain, 4 * hidden)
        recurrent = torch.from_numpy(diagonals)
        params["weight_hh_l0"] = np.concatenate([np.diag(each) for each in np.split(diagonals, 4)])
    else:
        params["weight_hh_l0"] = params["weight_hh_l0"] * gain
        recurrent = torch.from_numpy(params["weight_hh_l0"].T.copy())
    return Network(
        torch.from_numpy(inits.inputs(case, seed)[:, 0]), torch.from_numpy(params["weight_ih_l0"].T.copy()),
        torch.from_numpy(params["bias_ih_l0"] + params["bias_hh_l0"]), recurrent, params,
    )  # fmt: skip


def _by_seed(values: dict[str, list[float]], units: dict[str, str], notes: Sequence[str] = ()) -> Iterator[Measurement]:
    for name, samples in values.items():
        yield Measurement(name, units.get(name, "1"), tuple(samples), (1,) * len(samples), tuple(notes))


def _cell(case: Case, of: Network) -> newton.Cell:
    return newton.Cell(of.inputs(), of.recurrent, str(case.factor("jacobian")))


# Rounds, and from them work, critical path, memory and processors.


def measure_rounds(case: Case) -> Iterator[Measurement]:
    """By seed, in float64; a seed that did not converge is noted and stands at the limit, and so does what follows from it.

    rounds, residual; difference: the first seed's largest from the states of stepping
    newton_path: operations on the critical path; path_ratio: of stepping over Newton's
    work_ratio, memory_ratio: operations and values kept, Newton's over stepping's
    processors: from which on Newton's is the faster by count; only where its path is the shorter one in every seed
    """
    hidden, diagonal = case.spec.hidden_size, case.factor("weights") == "diagonal"
    stepped = counts.stepped(hidden, case.steps, diagonal)
    values: dict[str, list[float]] = {}
    notes, needed = [], []
    for seed in range(int(case.factor("seeds"))):
        own = network(case, seed).to(case, torch.float64)
        cell = _cell(case, own)
        found = newton.solve(cell, cell.zeros())
        if not found.converged:
            notes.append(f"seed {seed} had not converged after {found.rounds} rounds: its residual was {found.residual:.1e}")
        spent = counts.newton(hidden, case.steps, found.rounds, diagonal, cell.name)
        needed.append(counts.processors(stepped, spent))
        row = {
            "rounds": float(found.rounds), "residual": found.residual, "newton_path": float(spent.path),
            "path_ratio": stepped.path / spent.path, "work_ratio": spent.work / stepped.work,
            "memory_ratio": spent.values / stepped.values,
        }  # fmt: skip
        if seed == 0 and found.converged:
            of_stepping = newton.sequential_states(cell.inputs, cell.recurrent)
            row["difference"] = float((found.states - of_stepping).abs().max())
        for name, value in row.items():
            values.setdefault(name, []).append(value)
    yield from _by_seed(values, {}, notes)
    enough = [each for each in needed if each is not None]
    if len(enough) == len(needed):
        yield from _by_seed({"processors": enough}, {}, notes)


# Agreement with stepping, of states and gradients.


def measure_agreement(case: Case) -> Iterator[Measurement]:
    """By seed and data type the largest difference from stepping of the states, and, where the Jacobian is exact, of the
    gradients, relative to the largest gradient; they come from one scan and from PyTorch's automatic differentiation."""
    values: dict[str, list[float]] = {}
    for dtype, suffix in ((torch.float64, ""), (torch.float32, "_float32")):
        for seed in range(int(case.factor("seeds"))):
            cell = _cell(case, network(case, seed).to(case, dtype))
            found = newton.solve(cell, cell.zeros())
            leaves = [each.clone().requires_grad_() for each in (cell.inputs, cell.recurrent)]
            states = newton.sequential_states(*leaves)
            values.setdefault(f"state_error{suffix}", []).append(float((found.states - states.detach()).abs().max()))
            if cell.exact:
                drawn = np.random.default_rng([seed, 5]).standard_normal((case.steps, case.spec.hidden_size))
                grad_h = torch.from_numpy(drawn).to(states)
                (states.chunk(2, -1)[0] * grad_h).sum().backward()
                errors = [
                    float((own - leaf.grad).abs().max() / leaf.grad.abs().max())
                    for own, leaf in zip(cell.gradients(found.states, grad_h), leaves, strict=True)
                    if leaf.grad is not None
                ]
                values.setdefault(f"gradient_error{suffix}", []).append(max(errors))
    yield from _by_seed(values, {})


# Seconds, beside the fastest sequential backend here and a loop of PyTorch calls.


def measure_time(case: Case) -> Iterator[Measurement]:
    """By seed, medians of samples taken in rounds; one sequence in float32, W x + b included.

    newton_time; sequential_time, of the fastest backend, which is noted with what else was tried; loop_time, on at most
    `LONGEST_LOOP` steps and forward alone; rounds. A training step (phase `forward_backward`) has all gradients too.

    Raises `prepare.Skip` where no sequential backend or no such device is here, `prepare.Rejected` where the answers differ.
    """
    prepare.require_device(case.spec.device)
    trains = case.phase == "forward_backward"
    own = [network(case, seed).to(case, torch.float32) for seed in range(int(case.factor("seeds")))]
    grad = np.random.default_rng([0, 5]).standard_normal((case.steps, 1, case.spec.hidden_size))
    grad_h = torch.from_numpy(grad[:, 0]).to(own[0].x)
    batch = Batch(inits.inputs(case, 0), grad_y=grad if trains else None)
    fastest, notes = _fastest(replace(case, factors=()), own[0].params, batch)
    values: dict[str, list[float]] = {}
    for seed, each in enumerate(own):
        found = evaluate(case, each, grad_h)
        if seed == 0:
            difference = float(
                np.abs(found.states[:, : case.spec.hidden_size].cpu().numpy() - fastest.loaded.outputs()[:, 0]).max()
            )
            if not difference <= SAME:
                raise prepare.Rejected(
                    f"Newton's states differ from those of {fastest.backend} by {difference:.2g}, above {SAME}"
                )
        if not found.converged:
            raise prepare.Rejected(f"Newton's method had not converged after {found.rounds} rounds in float32")
        clocks: dict[str, timing.Clock] = {
            "newton_time": _newton_clock(case, each, grad_h),
            "sequential_time": timing.clock_for(fastest),
        }
        if not trains and case.steps <= LONGEST_LOOP:
            clocks["loop_time"] = timing.WallClock(lambda of=each: loop_call(of), _waiting(case))
        for name, seconds in _in_rounds(clocks).items():
            values.setdefault(name, []).append(seconds)
        values.setdefault("rounds", []).append(float(found.rounds))
    units = {"newton_time": "s", "sequential_time": "s", "loop_time": "s"}
    for name, samples in values.items():
        noted = tuple(notes) if name == "sequential_time" else ()
        yield Measurement(name, units.get(name, "1"), tuple(samples), (1,) * len(samples), noted)


@torch.no_grad()
def evaluate(case: Case, of: Network, grad_h: Tensor) -> newton.Solution:
    """One forward pass, or training step, by Newton's method."""
    cell = _cell(case, of)
    found = newton.solve(cell, cell.zeros())
    if case.phase == "forward_backward":
        gates, _ = cell.gradients(found.states, grad_h)
        _ = of.x.T @ gates, gates.sum(0), gates @ of.w.T
    return found


def _newton_clock(case: Case, of: Network, grad_h: Tensor) -> timing.WallClock:
    def call() -> None:
        evaluate(case, of, grad_h)

    return timing.WallClock(call, _waiting(case))


def step_by_step(inputs: Tensor, recurrent: Tensor) -> Tensor:
    """The last h, [1, H], by a loop of PyTorch calls, without what only Newton's method needs of each step."""
    h = c = inputs.new_zeros(1, inputs.shape[1] // 4)
    for row in inputs:
        i, f, g, o = (row + (h.repeat(1, 4) * recurrent if recurrent.ndim == 1 else h @ recurrent)).chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
    return h


@torch.no_grad()
def loop_call(of: Network) -> None:
    """One forward pass by that loop."""
    step_by_step(of.inputs(), of.recurrent)


def _waiting(case: Case) -> Callable[[], None]:
    return torch.cuda.synchronize if case.spec.device == "cuda" else lambda: None


def _fastest(case: Case, params: Params, batch: Batch) -> tuple[prepare.Prepared, list[str]]:
    """The sequential backend of the least time, and a sentence on each that was tried."""
    tried: dict[str, prepare.Prepared] = {}
    notes = []
    for name in SEQUENTIAL[case.spec.device]:
        try:
            prepare.validate_backend(case, name)
            tried[name] = prepare.load(case, name, (params, batch))
        except prepare.Skip as reason:
            notes.append(f"{name} was not tried: {reason}")
    if not tried:
        raise prepare.Skip(f"no sequential backend to compare with: {'; '.join(notes)}")
    seconds = _in_rounds({name: timing.clock_for(each) for name, each in tried.items()})
    best = min(seconds, key=lambda name: seconds[name])
    notes.append(f"by {best}; " + ", ".join(f"{name} {value:.3g} s" for name, value in seconds.items()))
    return tried[best], notes


def _in_rounds(clocks: dict[str, timing.Clock]) -> dict[str, float]:
    """Median seconds of each, in rounds; each waits until the threads of the one before have stopped spinning."""
    counted = {name: timing.calls_per_sample(clock) for name, clock in clocks.items()}
    samples: dict[str, list[float]] = {name: [] for name in clocks}
    for _ in range(SAMPLES):
        for name, clock in clocks.items():
            time.sleep(timing.SETTLE_SECONDS)
            samples[name].append(clock.sample(counted[name]))
    return {name: float(np.median(each)) for name, each in samples.items()}
