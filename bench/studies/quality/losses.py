"""Quality at a size: learning rates tried, the best one's seeds trained, their curves, and their loss by token index."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.costs import flops_per_token
from bench.harness.case import Case, InvalidCase
from bench.harness.study import get_paths
from bench.studies.gradients import cells
from bench.studies.quality import sources
from bench.studies.quality.sources import Source
from bench.studies.quality.training import HELD_OUT_SEED, Diverged, Settings, Training, precision_notes
from results.record import Measurement

SEPARATOR = "/"  # between the learning rates of a case: 0.003/0.01


def measure(case: Case) -> Iterator[Measurement]:
    """Blocks are seeds. `loss` first: nats a token on held-out windows after training; then

    learning_rate, trial_loss   those tried with the first seed; one that diverged is left out and named in the notes
    curve_tokens, curve_flops   of training, where the curve has its points; curve_seconds and curve_loss by seed
    loss_by_index               by seed, T values: from the second token of a window, whose context is one token
    optimum_by_index            the least possible on the same windows, where it is known
    """
    source = sources.of_case(case, case.steps + 1)
    first, trials = best_rate(case, source)
    rate = first.settings.learning_rate
    trained = [first, *(training(case, source, rate, seed) for seed in range(1, int(case.factor("seeds"))))]
    for each in trained[1:]:
        each.run(kept(case, each))
    found = [each.losses(int(case.factor("judged"))) for each in trained]
    loss = cells.measurement("loss", "nat", [np.array([each.mean()]) for each in found])
    yield replace(loss, notes=(*loss.notes, *precision_notes(case.spec)))
    yield of_source(source)
    yield from trials
    yield from learning_curves(case, source, trained)
    yield cells.measurement("loss_by_index", "nat", [each.mean(1) for each in found])
    windows = source.held_out(np.random.default_rng(HELD_OUT_SEED), case.steps + 1, int(case.factor("judged")))
    best = source.optimum(windows)
    if best is not None:
        yield cells.measurement("optimum_by_index", "nat", [best[1:].mean(1)])
    discard(case)


def best_rate(case: Case, source: Source) -> tuple[Training, list[Measurement]]:
    """The training with the best rate of those tried with the first seed. Raises `Diverged` where none has a finite loss."""
    tried: list[Training] = []
    notes: list[str] = []
    for rate in rates(case):
        own = training(case, source, rate, 0)
        try:
            own.run(kept(case, own))
        except Diverged as error:
            notes.append(str(error))
        else:
            tried.append(own)
    if not tried:
        raise Diverged(f"no learning rate of {case.factor('rates')} gave a finite loss: {notes[-1]}")
    losses = [own.curve[-1].loss for own in tried]
    trials = [
        Measurement("learning_rate", "1", tuple(own.settings.learning_rate for own in tried), notes=tuple(notes)),
        cells.measurement("trial_loss", "nat", [np.array(losses)]),
    ]
    return tried[int(np.argmin(losses))], trials


def rates(case: Case) -> list[float]:
    text = str(case.factor("rates"))
    try:
        found = [float(each) for each in text.split(SEPARATOR)]
    except ValueError:
        found = []
    if not found or min(found) <= 0:
        raise InvalidCase(f"rates must be positive numbers joined by {SEPARATOR}, as 0.003/0.01; got {text!r}")
    return found


def training(case: Case, source: Source, rate: float, seed: int) -> Training:
    updates, judged = int(case.factor("updates")), int(case.factor("judged"))
    return Training(case.spec, source, Settings(case.steps, case.batch, updates, rate, case.seed * 1000 + seed, judged))


def learning_curves(case: Case, source: Source, trained: list[Training]) -> Iterator[Measurement]:
    tokens = np.array([point.updates * case.steps * case.batch for point in trained[0].curve], float)
    yield cells.measurement("curve_tokens", "1", [tokens])
    yield cells.measurement("curve_flops", "1", [tokens * flops_per_token(case.spec, source.vocabulary, case.steps)])
    yield cells.measurement("curve_seconds", "s", [np.array([point.seconds for point in own.curve]) for own in trained])
    yield cells.measurement("curve_loss", "nat", [np.array([point.loss for point in own.curve]) for own in trained])


def of_source(source: Source) -> Measurement:
    """What the numbers depend on, by hash."""
    return Measurement("source_bytes", "B", (float(getattr(source, "size", 0)),), notes=(f"sha256 {source.digest}",))


def kept(case: Case, of: Training) -> Path | None:
    """Where its checkpoint is; None where none are kept."""
    folder = get_paths().checkpoints
    settings = of.settings
    return None if folder is None else folder / f"{_stem(case)}-{settings.learning_rate:g}-{settings.seed}.pt"


def discard(case: Case) -> None:
    """The case is measured: its checkpoints have served."""
    folder = get_paths().checkpoints
    for path in folder.glob(f"{_stem(case)}-*.pt") if folder else ():
        path.unlink()


def _stem(case: Case) -> str:
    return hashlib.sha256(case.key.encode()).hexdigest()[:16]
