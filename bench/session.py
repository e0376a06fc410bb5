"""Starting a run and finishing one that was interrupted."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from bench import environment, study
from bench.plan import Plan
from bench.run import Listener, Run
from results import store
from results.record import Footer, Header
from results.store import StoreError


class NothingToResume(RuntimeError):
    """No interrupted run of this machine was found."""


def start(plan: Plan, root: Path, listener: Listener) -> tuple[Path, Footer]:
    """Carry out a plan from the beginning; returns the run's file and its last line."""
    now = datetime.now(UTC)
    described = environment.describe(plan.threads)
    header = Header(
        run=f"{now:%H%M%S}-{plan.name}",
        started=now.isoformat(timespec="seconds"),
        protocol=environment.PROTOCOL,
        machine=environment.machine_name(described),
        environment=described,
        plan=plan.to_dict(),
        claims=tuple(claim for name in plan.studies if plan.cases(name) for claim in study.get(name).verdicts),
    )
    path = store.new_path(root, header)
    writer = store.Writer(path)
    try:
        writer.append(header)
        return path, Run(plan, writer, listener).execute()
    finally:
        writer.close()


def resume(root: Path, listener: Listener) -> tuple[Path, Footer]:
    """Finish the newest unfinished run below `root`; what it has already measured stays as it is.

    Raises `NothingToResume`, or `StoreError` where machine or protocol have changed since.
    """
    unfinished = [run for run in map(store.read, reversed(store.find(root))) if not run.finished]
    if not unfinished:
        raise NothingToResume(f"no unfinished run below {root}; start one with: lstm-bench run quick --out {root}")
    run = unfinished[0]
    plan = Plan.from_dict(run.header.plan)
    described = environment.describe(plan.threads)
    here = environment.machine_name(described), environment.PROTOCOL, described["packages"]
    there = run.header.machine, run.header.protocol, run.header.environment.get("packages")
    if here != there:
        raise StoreError(f"{run.path} was begun with {there}, this is {here}; their numbers do not compare: start a new run")
    writer = store.Writer(run.path)
    try:
        return run.path, Run(plan, writer, listener, run.records).execute()
    finally:
        writer.close()
