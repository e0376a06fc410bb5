"""The commands as functions: each measures or reads like the command of its name, and returns what that shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lstm_bench import import_paths

if TYPE_CHECKING:
    from lstm_bench.commands.compare import Outcome
    from results.record import Record
    from results.store import Run

__all__ = ["compare", "load", "run"]


def run(
    what: str = "quick",
    *,
    backends: Sequence[str] = (),
    where: Sequence[str] = (),
    out: Path | str | None = None,
    threads: int | None = None,
    replicates: int | None = None,
    scale: str | None = None,
    time_budget: float | None = None,
    seed: int = 0,
) -> Run:
    """Measure a suite or a study, as `lstm-bench run` does. Every outcome is on disk as soon as it exists.

    Args:
        what: a suite (smoke, quick, cpu, gpu) or a study (throughput, memory, ...).
        backends: only these; all that the suite has if empty.
        where: only cases like `hidden_size=256` or `batch<=8`.
        out: folder of results; `./results/runs` if None.
        threads: processors that every backend may use; all if None.
        replicates: fresh processes a case; the suite's number if None.
        scale: for a study, the suite at whose scale it is measured.
        time_budget: total seconds, spent where the intervals are widest.
        seed: of the order in which cases run.

    Returns:
        The run: `records` with samples in seconds and bytes, `header` with plan and environment, `path`.

    Raises:
        impls.UnknownName, bench.case.InvalidCase, bench.filters.InvalidFilter: something is asked for that is not there.
        impls.Unavailable: it needs a GPU, and there is none.
        bench.lock.DeviceBusy: another run is measuring here.
        bench.session.Interrupted: Ctrl-C; its `path` is the run as far as it went.
        lstm_bench.import_paths.ForeignPackage: files of the current folder stand in for this project's packages.

    Example:
        >>> run = lstm_bench.run("smoke", backends=["numpy", "torch"])  # doctest: +SKIP
    """
    import_paths.require_own()
    from bench import plan, session, systems
    from results import store

    systems.require_measuring()
    chosen = plan.make(
        what, list(backends), list(where),
        threads=threads, replicates=replicates, time_budget=time_budget, scale=scale, seed=seed,
    )  # fmt: skip
    plan.require_device(chosen)
    path, _ = session.start(chosen, Path(out) if out else store.ROOT, Quiet())
    return store.read(path)


def load(path: Path | str | None = None, *, out: Path | str | None = None) -> Run:
    """Read a run from disk.

    Args:
        path: its file; the newest below `out` if None.
        out: folder of results; `./results/runs` if None.

    Returns:
        The run: `records`, `header`, `footer`; `lstm-bench export` writes every sample of it as a table.

    Raises:
        results.store.StoreError: there is none, or the file is damaged.
    """
    import_paths.require_own()
    from results import store

    if path is not None:
        return store.read(Path(path))
    root = Path(out) if out else store.ROOT
    found = store.find(root)
    if not found:
        raise store.StoreError(f"no run below {root}; measure first with: lstm-bench run quick")
    return store.read(found[-1])


def compare(
    base: str,
    new: str = ".",
    *,
    suite: str = "quick",
    backends: Sequence[str] = (),
    where: Sequence[str] = (),
    out: Path | str | None = None,
    threads: int | None = None,
    scale: str | None = None,
    repository: Path | str | None = None,
    backends_path: str | None = None,
) -> Outcome:
    """Decide whether one side is slower than another, as `lstm-bench compare` does.

    Args:
        base, new: two git revisions, two runs on disk, or two backends as `backend:torch`; `.` is the checkout as it is.
        suite: suite or study whose cases are compared.
        backends, where, threads, scale: as of `run`.
        out: folder of comparisons; `./results/comparisons` if None.
        repository: git repository of the revisions; the current folder's if None.
        backends_path: in a repository of your own, the file or folder of backends that is taken from each revision.

    Returns:
        `rows`, one for each case, backend and metric, with the decision, ratio and interval; `overall`; `exit_code` 1 where
        something is slower.

    Raises:
        lstm_bench.commands.compare.UnclearSides, bench.revisions.RevisionError: the sides cannot be compared as asked.
        analysis.comparison.NotComparable: runs of different machines or of nothing in common.
        And what `run` raises.
    """
    import_paths.require_own()
    from lstm_bench.commands.over_time import compared

    return compared(
        base, new, Quiet(), suite=suite, backend=list(backends), where=list(where), out=Path(out) if out else None,
        threads=threads, scale=scale, repository=Path(repository) if repository else None, backends_path=backends_path,
    )  # fmt: skip


class Quiet:
    """A listener that shows nothing."""

    def expect(self, study: str, records: int) -> None:
        pass

    def doing(self, text: str) -> None:
        pass

    def recorded(self, records: Sequence[Record]) -> None:
        pass
