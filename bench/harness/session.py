"""Starting a run and finishing one that was interrupted."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.harness.plan import TEXT, Plan
from bench.harness.run import ChooseMore, Interrupted, Listener, Run
from bench.machine import environment
from bench.machine.lock import device_lock
from bench.processes.code import HERE, Code, SourceInfo
from bench.studies.quality.sources import InvalidCorpus, corpus_name, of_file
from lstm_bench.errors import ExitCode, UserError
from results import store
from results.record import Footer, Header
from results.store import StoreError


class NothingToResume(UserError, RuntimeError):
    """No interrupted run of this machine was found."""


class ClockWentBackwards(UserError, RuntimeError):
    """A run would seem older than one that was made before it.

    An error, since names and dates of runs and `--resume` follow the clock, although the points of a history follow the
    commits.
    """

    exit_code = ExitCode.CLOCK


def start(
    plan: Plan,
    root: Path,
    listener: Listener,
    code: Code = HERE,
    source: SourceInfo | None = None,
    *,
    corpus: Path | None = None,
    after: Iterable[Header] = (),
    on_file: Callable[[Path], object] = lambda path: None,
    choose_more: ChooseMore | None = None,
) -> tuple[Path, Footer]:
    """Carry out a plan from the beginning.

    Args:
        plan: what to measure.
        root: folder of runs, below which a file is made.
        listener: told what happens.
        code: what the workers run.
        source: what that code says of itself and of the machine; asked of this process if None.
        corpus: the file whose hash the plan has, if it has one.
        after: the runs that this one joins.
        on_file: told the run's file once it is there, before anything is measured.
        choose_more: what further replicates measure, where the plan adds some.

    Returns: the run's file and its last line.

    Raises:
        InvalidCorpus: the corpus is too short, or no case reads it.
        ClockWentBackwards: a run of `after` on this machine began later than now; nothing is measured then.
        DeviceBusy: another run holds the device.
        Interrupted: Ctrl-C; what was measured is kept.
    """
    if corpus is not None:
        require_corpus(plan, corpus)
    source = source or _describe(plan)
    with device_lock(plan.device):  # before the file, so that a busy device leaves none
        now = datetime.now(UTC)
        _check_clock(now, [one.started for one in after if one.machine == source.machine])
        header = Header(
            run=f"{now:%H%M%S}-{plan.name}",
            started=now.isoformat(timespec="seconds"),
            protocol=source.protocol,
            machine=source.machine,
            environment=source.environment,
            plan=plan.to_dict(),
            claims=tuple(replace(claim, study=its.name) for its in plan.studies if plan.cases(its) for claim in its.claims),
        )
        writer = store.create(root, header)
        try:
            on_file(writer.path)
            return writer.path, Run(plan, writer, listener, code=code, corpus=corpus, choose_more=choose_more).execute()
        except KeyboardInterrupt as stop:
            raise Interrupted(writer.path) from stop
        finally:
            writer.close()


def _check_clock(now: datetime, earlier: Sequence[str]) -> None:
    newest = max(map(datetime.fromisoformat, earlier), default=now)
    if newest > now:
        raise ClockWentBackwards(
            f"this machine's clock says {now:%Y-%m-%d %H:%M:%S} UTC, and a stored run of it began at "
            f"{newest.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC; set the clock, or move that run away if its date is wrong"
        )


def require_corpus(plan: Plan, corpus: Path) -> None:
    """Raise `InvalidCorpus` where no case of the plan reads text, or the longest window that one asks for is not there."""
    windows = [case.steps + 1 for its in plan.studies for case in plan.cases(its) if TEXT in case.factors]
    if not windows:
        where = f" that passes {' and '.join(plan.filters)}" if plan.filters else ""
        raise InvalidCorpus(
            f"no case of {', '.join(plan.study_names)}{where} reads text, so that the corpus {corpus} would not be read; leave "
            "out --corpus, or choose cases of source=text of the studies quality and context"
        )
    of_file(corpus, max(windows))


def resume(
    root: Path,
    listener: Listener,
    corpus: Path | None = None,
    on_file: Callable[[Path], object] = lambda path: None,
    choose_more: ChooseMore | None = None,
) -> tuple[Path, Footer]:
    """Finish the newest unfinished run below `root`; what it has already measured stays as it is.

    Args:
        root: folder of runs.
        listener: told what happens.
        corpus: the user's corpus, where the run reads one.
        on_file: told the run's file before anything is measured.
        choose_more: what further replicates measure, where the plan adds some and the run had not chosen yet.

    Returns: the run's file and its last line.

    Raises:
        NothingToResume: no run below the folder is unfinished.
        StoreError: machine, protocol or corpus have changed since.
        Interrupted: Ctrl-C; what was measured is kept.
    """
    unfinished = [run for run in map(store.read, reversed(store.find(root))) if not run.finished]
    if not unfinished:
        out = shlex.quote(str(root))
        raise NothingToResume(f"no unfinished run below {root}; start one with: lstm-bench run quick --out {out}")
    run = unfinished[0]
    plan = Plan.from_dict(run.header.plan)
    here, there = _identity(_describe(plan)), _identity(run.header)
    if here != there:
        raise StoreError(f"{run.path} was begun with {there}, this is {here}; their numbers do not compare: start a new run")
    given = corpus_name(corpus) if corpus else ""
    if given != plan.corpus:
        named = [f"the corpus {name}" if name else "no corpus" for name in (plan.corpus, given)]
        raise StoreError(f"{run.path} was begun with {named[0]}, this is {named[1]}; name the same file with --corpus, or none")
    on_file(run.path)
    return run.path, finish(run.path, plan, listener, corpus=corpus, choose_more=choose_more)


def finish(
    path: Path,
    plan: Plan,
    listener: Listener,
    code: Code = HERE,
    corpus: Path | None = None,
    *,
    choose_more: ChooseMore | None = None,
) -> Footer:
    """Measure what an interrupted run still lacks; nothing where another process has finished it meanwhile."""
    with device_lock(plan.device):  # a run that is still going holds it, and is not written to
        run = store.read(path)
        if run.finished and run.footer is not None:
            return run.footer
        writer = store.Writer(path)
        try:
            return Run(plan, writer, listener, run.records, code=code, corpus=corpus, choose_more=choose_more).execute()
        except KeyboardInterrupt as stop:
            raise Interrupted(path) from stop
        finally:
            writer.close()


def same(header: Header, plan: Plan, source: SourceInfo) -> bool:
    """Whether a run asked the same on the same machine with the same software."""
    return _identity(header) == _identity(source) and Plan.from_dict(header.plan) == plan


def _identity(of: Header | SourceInfo) -> dict[str, Any]:
    return {"machine": of.machine, "protocol": of.protocol} | environment.continues(of.environment)


def _describe(plan: Plan) -> SourceInfo:
    described = environment.describe(plan.threads)
    return SourceInfo(environment.PROTOCOL, environment.machine_name(described), described, [])
