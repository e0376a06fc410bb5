"""Which lags networks learn to bridge, and how their gradients decay while they learn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.harness.case import Case, InvalidCase
from bench.studies.gradients import attenuation, cells, inits
from bench.studies.horizon import tasks
from bench.studies.horizon.tasks import ALPHABET, COPIED, TASKS, Task, first_symbol
from bench.studies.horizon.training import Networks
from results.metrics import LOG_GRADIENT_AFTER
from results.record import Measurement

# The tasks' sequences, sampled for many networks at once: inputs [T, S, B, I] and targets [answers, S, B].

Sampler = Callable[[int, int, int, torch.Generator], tuple[Tensor, Tensor]]


def sample_batch(task: Task, lag: int, seeds: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One fresh batch for each of the networks, on the generator's device; targets are classes, or numbers."""
    return _SAMPLERS[task.name](lag, seeds, batch, generator)


def _whole(low: int, high: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniform on low … high, both included."""
    return torch.randint(low, high + 1, shape, generator=generator, device=generator.device)


def _one_hot(symbols: Tensor, size: int) -> Tensor:
    return torch.nn.functional.one_hot(symbols, size).float()


def _recall(lag: int, seeds: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One of two symbols, then `lag` distractors; say at the last step which it was.

    The latch problem of Bengio, Simard & Frasconi 1994 with the random distractors of Hochreiter & Schmidhuber 1997, task 2c.
    """
    symbols = _whole(2, ALPHABET + 1, (lag + 1, seeds, batch), generator)
    symbols[0] = _whole(0, 1, (seeds, batch), generator)
    return _one_hot(symbols, ALPHABET + 2), symbols[:1]


def _adding(lag: int, seeds: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A number in [0, 1) and a mark at each step, two of them marked, one in each half; say their sum at the last step.

    Hochreiter & Schmidhuber 1997, task 4, in the form of Arjovsky, Shah & Bengio 2016. Always to say 1 has an error of 1/6.
    """
    steps = lag + 1
    numbers = torch.rand((steps, seeds, batch), generator=generator, device=generator.device)
    marks, total = torch.zeros_like(numbers), torch.zeros_like(numbers[:1])
    for low, high in ((0, steps // 2 - 1), (steps // 2, steps - 1)):
        at = _whole(low, high, (1, seeds, batch), generator)
        marks.scatter_(0, at, 1.0)
        total += numbers.gather(0, at)
    return torch.stack((numbers, marks), -1), total


def _copy(lag: int, seeds: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """`COPIED` symbols, blanks, a mark, and as many blanks during which to say them again, each `lag` steps after it came.

    Hochreiter & Schmidhuber 1997 and Arjovsky, Shah & Bengio 2016; here the answers alone are scored, not the blanks.
    """
    blank, mark = ALPHABET, ALPHABET + 1
    symbols = torch.full((lag + COPIED, seeds, batch), blank, device=generator.device)
    copied = _whole(0, ALPHABET - 1, (COPIED, seeds, batch), generator)
    symbols[:COPIED], symbols[lag - 1] = copied, mark
    return _one_hot(symbols, ALPHABET + 2), copied


def _temporal_order(lag: int, seeds: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """E, distractors a to d, B; among them X or Y twice, after 1 to 2 and 5 to 6 tenths; say which of XX, XY, YX, YY.

    Hochreiter & Schmidhuber 1997, task 6a, with T from the lag instead of 100 to 110.
    """
    steps = TASKS["temporal_order"].steps(lag)
    symbols = _whole(0, 3, (steps, seeds, batch), generator)
    symbols[0], symbols[-1] = 6, 7
    answer = torch.zeros((1, seeds, batch), dtype=torch.long, device=generator.device)
    first = first_symbol(steps)
    for low, high in ((first, max(first, 2 * steps // 10)), (steps // 2, 6 * steps // 10)):
        which = _whole(0, 1, (1, seeds, batch), generator)
        symbols.scatter_(0, _whole(low, high, (1, seeds, batch), generator), 4 + which)
        answer = 2 * answer + which
    return _one_hot(symbols, ALPHABET), answer


_SAMPLERS: dict[str, Sampler] = {"recall": _recall, "adding": _adding, "copy": _copy, "temporal_order": _temporal_order}


# How long a lag can be learnt: networks trained from scratch at one lag after the other, shortest first.
#
# Every lag has seeds of its own, so that the trials are independent and their successes binomial. The climb ends after the
# first lag that none of its networks has learnt, once there are enough lags for a fit.

WINDOW = 10  # updates whose batches, all fresh, are averaged to say that a task is learnt
LEAST_LAGS = 3  # tried in any case: fewer leave nothing to fit
REACH_STEPS = 400  # length at which the gradient's horizon of the same networks is measured
REACH_BATCH = 4
SEPARATOR = "/"  # between the lags of a case: 5/7/10


@dataclass(slots=True)
class Trained:
    """Of the networks at one lag: updates until learnt (NaN: not within the budget), and what went wrong, by seed."""

    lag: int
    updates: np.ndarray
    notes: list[str]

    @property
    def learnt(self) -> np.ndarray:
        return np.isfinite(self.updates)


def measure_learning(case: Case) -> Iterator[Measurement]:
    """Blocks are lags, in the order of `trained_lag`; samples within one are its networks.

    longest_learnt   the last lag that at least half of the networks learnt, 0 if none
    learnt           1 or 0       updates   until learnt; the whole budget where not
    then `lag`, `log_gradient` as in `attenuation`, of the first lag's networks before training, on the task's own inputs
    """
    task, lags = tasks.get(str(case.factor("task"))), ladder(case)
    budget, seeds = int(case.factor("updates")), int(case.factor("seeds"))
    found: list[Trained] = []
    for place, lag in enumerate(lags):
        found.append(train(case, task, lag, range(place * seeds, (place + 1) * seeds)))
        if len(found) >= LEAST_LAGS and not found[-1].learnt.any():
            break
    halves = [float(each.lag) for each in found if 2 * each.learnt.sum() >= seeds]
    yield Measurement("longest_learnt", "step", (max(halves, default=0.0),))
    yield Measurement("trained_lag", "step", tuple(float(each.lag) for each in found))
    blocks = (seeds,) * len(found)
    notes = tuple(note for each in found for note in each.notes)
    learnt = np.concatenate([each.learnt for each in found]).astype(float)
    updates = np.concatenate([np.nan_to_num(each.updates, nan=float(budget)) for each in found])
    yield Measurement("learnt", "1", tuple(learnt.tolist()), blocks, notes)
    yield Measurement("updates", "1", tuple(updates.tolist()), blocks)
    yield from reach(case, task)


def ladder(case: Case) -> list[int]:
    """The case's lags. Raises `InvalidCase` where one is beyond its steps, or below what the task can ask."""
    task = tasks.get(str(case.factor("task")))
    if case.spec.input_size != task.inputs:
        raise InvalidCase(
            f"the task {task.name} has {task.inputs} inputs, the network {case.spec.input_size}; ask for {task.inputs}"
        )
    try:
        lags = [int(text) for text in str(case.factor("lags")).split(SEPARATOR)]
    except ValueError:
        raise InvalidCase(f"lags must be whole numbers joined by {SEPARATOR}, as 5/7/10; got {case.factor('lags')!r}") from None
    if lags != sorted(set(lags)) or lags[0] < task.least_lag:
        raise InvalidCase(f"the lags of {task.name} must rise from {task.least_lag} or more; got {case.factor('lags')}")
    for lag in lags:
        if task.steps(lag) > case.steps:
            raise InvalidCase(
                f"lag {lag} of {task.name} needs {task.steps(lag)} steps and lies beyond the {case.steps} of {case.key}; "
                "ask for a shorter lag or more steps"
            )
    return lags


def train(case: Case, task: Task, lag: int, seeds: range) -> Trained:
    """All seeds as one batch, which those leave that have learnt or gone wrong, until the case's `updates` are spent."""
    networks = Networks(case.spec, str(case.factor("init")), seeds, task, float(case.factor("rate")))
    generator = torch.Generator(case.spec.device).manual_seed(1_000_003 * (case.seed + 1) + lag)
    dtype, truncation = networks.parameters[0].dtype, int(case.factor("truncation"))
    done, notes, left = np.full(len(seeds), np.nan), [], np.arange(len(seeds))
    recent = torch.full((WINDOW, len(seeds)), torch.nan, dtype=dtype)
    for update in range(1, int(case.factor("updates")) + 1):
        x, target = sample_batch(task, lag, len(left), case.batch, generator)
        score, finite = (each.cpu() for each in networks.update(x.to(dtype), target, truncation))
        recent[update % WINDOW] = score
        learnt = _learnt(task, recent.mean(0)) & finite
        done[left[learnt.numpy()]] = update
        notes += [
            f"the loss or its gradient is not finite at lag {lag} for seed {seeds[number]}, update {update}"
            for number in left[~finite.numpy()]
        ]
        stay = finite & ~learnt
        if not stay.any():
            break
        if not stay.all():
            networks.keep(stay)
            recent, left = recent[:, stay], left[stay.numpy()]
    return Trained(lag, done, notes)


def _learnt(task: Task, score: Tensor) -> Tensor:
    return score <= tasks.SQUARED_ERROR if task.squared else score >= tasks.SHARE_RIGHT


def reach(case: Case, task: Task) -> Iterator[Measurement]:
    """The attenuation curve of the first lag's networks, untrained, on the task's inputs."""
    init, seeds = str(case.factor("init")), int(case.factor("seeds"))
    generator = torch.Generator(case.spec.device).manual_seed(case.seed)
    steps = max(case.steps, REACH_STEPS)
    lag = next(lag for lag in range(steps, 0, -1) if task.steps(lag) <= steps)
    x, _ = sample_batch(task, lag, seeds, REACH_BATCH, generator)
    weights = [inits.params(case.spec, init, seed) for seed in range(seeds)]
    path = cells.run(case.spec, init, weights, x.double())
    readout = np.random.default_rng([case.seed, 5]).standard_normal((seeds, REACH_BATCH, case.spec.hidden_size))
    u = torch.from_numpy(readout / np.linalg.norm(readout, axis=-1, keepdims=True)).to(x.device)
    lags = inits.lags(len(x))
    cotangent = (u, *(torch.zeros_like(u) for _ in range(path.parts - 1)))
    yield cells.lags_measured(lags)
    yield cells.measurement(
        "log_gradient", "nat", inits.by_seed(attenuation.sweep(path, cotangent, lags)["log_gradient"]), lags
    )


# Attenuation through training: the curve before networks learn to recall, on the way, and after.
#
# The networks, the task and the training, in the case's format, are those of study `horizon`; the curve is the gradient
# studies', in float64, of the weights as they then are.

TASK = "recall"
BATCH, TESTED = 32, 256  # sequences an update, and at the end
LOOKS = (0.0, 0.25, 1.0)  # of the updates, at which the curve is taken


def measure_training_curves(case: Case) -> Iterator[Measurement]:
    """`accuracy` first, at the end and the lag that was trained, by seed; then `log_gradient_after_<updates>` by seed at the
    kept lags, on sequences of the task T steps long."""
    lag, updates, seeds = (int(case.factor(name)) for name in ("lag", "updates", "seeds"))
    inits.require_lag(lag, case)
    task, init, lags = tasks.get(TASK), str(case.factor("init")), inits.lags(case.steps)
    networks = Networks(case.spec, init, range(seeds), task, float(case.factor("rate")))
    generator = torch.Generator(case.spec.device).manual_seed(case.seed)
    dtype = networks.parameters[0].dtype
    x = sample_batch(task, case.steps - 1, seeds, case.batch, generator)[0].double()
    u = torch.from_numpy(np.stack([inits.readout(case, seed) for seed in range(seeds)])).to(x)
    found, done = [], 0
    for after in sorted({round(share * updates) for share in LOOKS}):
        for _ in range(after - done):
            inputs, wanted = sample_batch(task, lag, seeds, BATCH, generator)
            networks.update(inputs.to(dtype), wanted, 0)
        done = after
        path = cells.kind(case.spec, init)(cells.Weights(*(each.double() for each in networks.parameters[:4])), x)
        cotangent = (u, *(torch.zeros_like(u) for _ in range(path.parts - 1)))
        logs = attenuation.sweep(path, cotangent, lags)["log_gradient"]
        found.append(cells.measurement(LOG_GRADIENT_AFTER.name(after), "nat", inits.by_seed(logs), lags))
    inputs, wanted = sample_batch(task, lag, seeds, TESTED, generator)
    accuracy, _ = networks.gradients(inputs.to(dtype), wanted, 0)
    yield Measurement("accuracy", "1", tuple(accuracy.tolist()), (1,) * seeds)
    yield cells.lags_measured(lags)
    yield from found
