"""Measuring a suite or a study into a run on disk: what the command `run` and `lstm_bench.run` both do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.harness.run import Listener
    from results.record import Footer
    from results.store import Run


def measured(
    listener: Listener,
    say: Callable[[str], None],
    what: str = "quick",
    *,
    backends: Sequence[str] = (),
    where: Sequence[str] = (),
    out: Path | None = None,
    resume: bool = False,
    time_budget: float | None = None,
    threads: int | None = None,
    replicates: int | None = None,
    scale: str | None = None,
    seed: int = 0,
    corpus: Path | None = None,
) -> tuple[Run, Footer]:
    """Measure, or finish the newest interrupted run if `resume`; the other arguments are those of `lstm_bench.run`.

    Args:
        listener: hears how far the run is.
        say: is told, before anything is measured, what the run is predicted to take.

    Returns:
        The run as it is on disk, and its last line.
    """
    from bench.harness import forecast, plan, session
    from bench.studies.quality.sources import corpus_name
    from results import store

    root = out or store.ROOT
    if resume:
        path, footer = session.resume(root, listener, corpus)
        return store.read(path), footer
    chosen = plan.make(
        what, backends, where,
        threads=threads, replicates=replicates, time_budget=time_budget, scale=scale, seed=seed,
        corpus=corpus_name(corpus) if corpus else "",
    )  # fmt: skip
    plan.require_device(chosen)
    for line in forecast.statement(chosen):
        say(line)
    path, footer = session.start(chosen, root, listener, corpus=corpus)
    return store.read(path), footer
