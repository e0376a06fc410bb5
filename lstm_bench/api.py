"""The commands as functions: each measures or reads like the command of its name, and returns what that shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from lstm_bench import import_paths

if TYPE_CHECKING:
    import pandas as pd

    from bench.harness.case import Case
    from bench.harness.plan import Plan
    from bench.harness.run import Listener
    from lstm_bench.commands.compare import Outcome
    from results.record import Footer, Record
    from results.store import Run

__all__ = ["compare", "load", "run"]


@overload
def run(
    what: str = ...,
    *,
    backends: str | Sequence[str] = ...,
    where: str | Sequence[str] = ...,
    out: Path | str | None = ...,
    resume: bool = ...,
    threads: int | None = ...,
    replicates: int | None = ...,
    scale: str | None = ...,
    time_budget: float | None = ...,
    seed: int = ...,
    corpus: Path | str | None = ...,
    like: Path | str = ...,
    like_options: Mapping[str, Any] | None = ...,
    fleet: None = ...,
    wait: bool = ...,
    show: bool = ...,
) -> Run: ...
@overload
def run(
    what: str = ...,
    *,
    backends: str | Sequence[str] = ...,
    where: str | Sequence[str] = ...,
    out: Path | str | None = ...,
    resume: bool = ...,
    threads: int | None = ...,
    replicates: int | None = ...,
    scale: str | None = ...,
    seed: int = ...,
    corpus: Path | str | None = ...,
    fleet: str,
    wait: bool = ...,
    show: bool = ...,
) -> list[Run]: ...
def run(
    what: str = "quick",
    *,
    backends: str | Sequence[str] = (),
    where: str | Sequence[str] = (),
    out: Path | str | None = None,
    resume: bool = False,
    threads: int | None = None,
    replicates: int | None = None,
    scale: str | None = None,
    time_budget: float | None = None,
    seed: int = 0,
    corpus: Path | str | None = None,
    like: Path | str = "",
    like_options: Mapping[str, Any] | None = None,
    fleet: str | None = None,
    wait: bool = False,
    show: bool = True,
) -> Run | list[Run]:
    """Measure a suite or a study, as `lstm-bench run` does: in fresh processes, every outcome on disk as soon as it exists.

    Args:
        what: a suite (smoke, quick, cpu, gpu) or a study (throughput, memory, ...).
        backends: only this one, or these; all that the suite has if empty.
        where: only cases that pass this filter, or these, as `hidden_size=256` or `batch<=8`.
        out: folder of results; `./results/runs` if None.
        resume: finish the newest interrupted run in `out` instead; of the others only `corpus` and `wait` count then.
        threads: processors that every backend may use; all if None.
        replicates: fresh processes a case; if None the suite's number, and in `quick` more where a ranking is open.
        scale: for a study, the suite at whose scale it is measured.
        time_budget: total seconds, spent where the intervals are widest.
        seed: of the order in which cases run.
        corpus: file of text or any bytes to train on, instead of Python's own source.
        like: a model of yours, whose LSTMs are measured in place of the suite's cases: a file, or `package.module:Class`.
        like_options: of that model: `steps`, `batch`, lists `phase`, `dtype` and `like_arg`, as of the command.
        fleet: measure on the machines of the Ray cluster at this address, `auto`, or on `local:3` nodes of this machine (a
            test), without `time_budget` and `like`; `resume` then goes on with the newest unfinished run of the same plan.
        wait: wait where another run is measuring here, instead of raising `DeviceBusy`.
        show: tell on standard error how far it is, and what it has measured.

    Returns:
        The run: `records` with samples in seconds and bytes, `header` with plan and environment, `path`. Of a fleet a list of
        runs, one for each kind of machine.

    Raises:
        impls.UnknownName: no such suite, study, backend or parameter.
        bench.harness.case.InvalidFilter: a filter that cannot be read, or that no case passes.
        bench.harness.plan.InvalidPlan: a number of threads, replicates or seconds that cannot be.
        bench.like.UnreadableModel: the LSTMs of the model cannot be read.
        bench.studies.quality.sources.InvalidCorpus: the corpus is too short, or nothing reads it.
        impls.Unavailable: it needs a GPU, and there is none.
        bench.machine.system.UnsupportedSystem: on Windows.
        bench.machine.lock.DeviceBusy: another run is measuring here.
        bench.harness.session.NothingToResume: there is no interrupted run.
        bench.harness.session.Interrupted: Ctrl-C, as a `KeyboardInterrupt`; its `path` is the run as far as it went.
        lstm_bench.commands.fleet.StoppedFleet: the same on a fleet; its `paths` are the runs as far as they went.
        lstm_bench.commands.fleet.NoRay, NotOnAFleet: Ray is not installed, or a fleet does not have what was asked.
        bench.fleet.head.FleetError: no machine of the fleet can measure, or no unfinished run of it is there.
        results.store.StoreError: results cannot be written or read there.
        lstm_bench.import_paths.ForeignPackage: files of the current folder stand in for this project's packages.

    Example:
        >>> run = lstm_bench.run("smoke", backends=["numpy", "torch"])  # doctest: +SKIP
        >>> [record.backend for record in run.records if record.status == "ok"]  # doctest: +SKIP
    """
    import_paths.require_own()
    from bench.machine import system
    from lstm_bench import terminal
    from lstm_bench.commands import fleet as fleets
    from lstm_bench.commands import like as likes
    from lstm_bench.views import run_summary
    from results import store

    say = terminal.say if show else lambda _: None
    if fleet is not None:
        if like or like_options or time_budget is not None:
            raise fleets.NotOnAFleet("time_budget and like are of runs on this machine; leave out fleet, or them")
        with _listening(show, wait) as listener:
            ended = fleets.run(
                fleet, what, listener, say, backends=_several(backends), where=_several(where), out=_path(out), resume=resume,
                threads=threads, replicates=replicates, scale=scale, seed=seed, corpus=_path(corpus), wait=wait,
            )  # fmt: skip
        runs = [store.read(path) for path, _ in ended]
        for line in (line for one, (_, last) in zip(runs, ended, strict=True) for line in run_summary.lines(one, last)):
            say(line)
        return runs
    system.require_measuring()
    cases = likes.cases(what, str(like), say=say, **(like_options or {}))
    of_model: dict[str, Any] = {"like": cases} if cases else {}
    with _listening(show, wait) as listener:
        measured, footer = measured_run(
            listener, say, what, **of_model,
            backends=_several(backends), where=_several(where), out=_path(out), resume=resume, time_budget=time_budget,
            threads=threads, replicates=replicates, scale=scale, seed=seed, corpus=_path(corpus),
        )  # fmt: skip
    if show:
        for line in (*run_summary.lines(measured, footer), *run_summary.rankings(measured)):
            terminal.say(line)
    return measured


def measured_run(
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
    like: Sequence[Case] = (),
    on_file: Callable[[Path], object] = lambda path: None,
) -> tuple[Run, Footer]:
    """Measure, or finish the newest interrupted run if `resume`; the other arguments are those of `lstm_bench.run`.

    Args:
        listener: hears how far the run is.
        say: is told, before anything is measured, what the run is predicted to take.
        like: cases of a user's model, in place of those of the suite.
        on_file: is told the run's file once it is there.

    Returns:
        The run as it is on disk, and its last line.
    """
    from bench.harness import forecast, plan, session
    from results import store

    root = out or store.ROOT
    if resume:
        path, footer = session.resume(root, listener, corpus, on_file, further_replicates)
        return store.read(path), footer
    chosen = planned(
        what, backends, where,
        threads=threads, replicates=replicates, time_budget=time_budget, scale=scale, seed=seed, corpus=corpus, like=like,
    )  # fmt: skip
    plan.require_device(chosen)
    for line in forecast.statement(chosen):
        say(line)
    path, footer = session.start(chosen, root, listener, corpus=corpus, on_file=on_file, choose_more=further_replicates)
    return store.read(path), footer


def further_replicates(path: Path, seconds: float, longer: float) -> list[tuple[set[tuple[str, str, str]], float]]:
    """What further replicates of a run measure where a ranking is open; see `findings.further_replicates`."""
    from analysis.report import findings  # pandas, which no run needs before

    return findings.further_replicates(path, seconds, longer)


def planned(
    what: str, backends: Sequence[str] = (), where: Sequence[str] = (), *, corpus: Path | None = None, **options: Any
) -> Plan:
    """The plan that `measured_run` carries out; options: those of `bench.harness.plan.make`."""
    from bench.harness import plan, session
    from bench.studies.quality.sources import corpus_name

    chosen = plan.make(what, backends, where, corpus=corpus_name(corpus) if corpus else "", adapt=True, **options)
    if corpus is not None:
        session.require_corpus(chosen, corpus)
    return chosen


@overload
def load(path: Path | str | None = None, *, out: Path | str | None = None, as_frame: Literal[False] = False) -> Run: ...
@overload
def load(path: Path | str | None = None, *, out: Path | str | None = None, as_frame: Literal[True]) -> pd.DataFrame: ...
def load(path: Path | str | None = None, *, out: Path | str | None = None, as_frame: bool = False) -> Run | pd.DataFrame:
    """Read a run from disk.

    Args:
        path: its file, or a folder that holds no other; the newest run in `out` if None.
        out: folder of results; `./results/runs` if None.
        as_frame: return its samples as a table of pandas.

    Returns:
        The run: `records` with samples in seconds and bytes, `header`, `footer`, `path`. With `as_frame` one row a sample, as
        `lstm-bench export` writes them: study, case and its parameters, backend, replicate, metric, unit, value and so on; what
        was skipped or failed has one row with its reason and no value.

    Raises:
        results.store.StoreError: there is none, or more than one.
        results.store.Corrupt: the file is no run.
        lstm_bench.import_paths.ForeignPackage: files of the current folder stand in for this project's packages.

    Example:
        >>> samples = lstm_bench.load(as_frame=True)  # doctest: +SKIP
        >>> samples[samples["metric"] == "time"].groupby(["case", "backend"])["value"].median()  # doctest: +SKIP
    """
    import_paths.require_own()
    from results import store

    run = store.newest(_path(out) or store.ROOT) if path is None else store.only(Path(path))
    if not as_frame:
        return store.read(run)
    from analysis.report import export

    return export.samples([run])


def compare(
    base: str | Path,
    new: str | Path = ".",
    *,
    suite: str = "quick",
    backends: str | Sequence[str] = (),
    where: str | Sequence[str] = (),
    out: Path | str | None = None,
    resume: bool = False,
    memory: bool = True,
    statistic: str | None = None,
    calibrations: Path | str | None = None,
    threads: int | None = None,
    scale: str | None = None,
    seed: int = 0,
    repository: Path | str | None = None,
    backends_path: str | None = None,
    build_environments: bool = False,
    wait: bool = False,
    show: bool = True,
) -> Outcome:
    """Decide whether one side is slower than another, as `lstm-bench compare` does: pairs of fresh processes, interleaved.

    Args:
        base, new: two git revisions, two runs on disk, or two backends as `backend:torch`; `.` is the checkout as it is.
        suite: suite or study whose cases are compared.
        backends, where, threads, scale, seed, wait, show: as of `run`.
        out: folder of comparisons; `./results/comparisons` if None.
        resume: finish the same comparison where it was interrupted.
        memory: compare peak memory too.
        statistic: of a side's samples in a pair (median, p25, min); the calibration's if None.
        calibrations: folder of calibrations; `./results/certificates` if None.
        repository: git repository of the revisions; the current folder's if None.
        backends_path: in a repository of your own, the file or folder of backends that is taken from each revision.
        build_environments: install each revision with pip into an environment of its own.

    Returns:
        `rows`, one for each case, backend and metric: base and new in `unit`, and the `decision`, whose `verdict` is SLOWER,
        FASTER, SAME, UNDECIDED or UNCOMPARABLE, and whose `change` is new over base with its bounds `low` and `high`. `overall`
        is the decision on their geometric mean; `paths` are the two runs; `exit_code` is 1 where something is slower, 0 where
        nothing is, 3 where nothing was decided.

    Raises:
        lstm_bench.commands.compare.UnclearSides, bench.regression.revisions.RevisionError: the sides cannot be compared as
            asked.
        analysis.regression.comparison.NotComparable: runs of different machines or of nothing in common.
        analysis.statistics.ratios.UnknownLocation: no such statistic.
        And what `run` raises.

    Example:
        >>> outcome = lstm_bench.compare("backend:torch", "backend:jax", suite="smoke")  # doctest: +SKIP
        >>> [(row.key.case, row.decision.verdict) for row in outcome.rows if row.metric == "time"]  # doctest: +SKIP
    """
    import_paths.require_own()
    from lstm_bench import device_policy
    from lstm_bench.commands.compare import kind
    from lstm_bench.commands.regression_commands import compared

    with _listening(show, wait) as listener:
        outcome = compared(
            str(base), str(new), listener,
            suite=suite, backend=_several(backends), where=_several(where), out=_path(out), resume=resume, memory=memory,
            statistic=statistic, calibrations=_path(calibrations), threads=threads, scale=scale, seed=seed,
            repository=_path(repository), backends_path=backends_path, build_environments=build_environments,
        )  # fmt: skip
    if show and kind(str(base)) != "run":
        device_policy.say_noise_of(outcome.paths)
    return outcome


@contextmanager
def _listening(show: bool, wait: bool) -> Iterator[Listener]:
    """What a command shows while it measures, or nothing; under it a busy device is waited for if `wait`."""
    from bench.machine import lock
    from lstm_bench import device_policy
    from lstm_bench.views import progress

    with ExitStack() as stack:
        if show:
            display = stack.enter_context(progress.for_terminal())
            stack.enter_context(device_policy.announced(wait))
            yield display
        else:
            stack.enter_context(lock.policy(lock.Policy((lambda _: None) if wait else None)))
            yield Quiet()


class Quiet:
    """A listener that shows nothing."""

    def on_planned(self, study: str, records: int) -> None:
        pass

    def on_status(self, text: str) -> None:
        pass

    def on_records(self, records: Sequence[Record]) -> None:
        pass


def _several(given: str | Sequence[str]) -> list[str]:
    """One string is one name, and not its letters."""
    return [given] if isinstance(given, str) else list(given)


def _path(given: Path | str | None) -> Path | None:
    return None if given is None else Path(given)
