"""`lstm-bench gpu-check`: whether our kernels are right and fast on a GPU, and what they assume of it, within eight minutes."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lstm_bench.device_policy import Wait

if TYPE_CHECKING:
    from bench.harness.plan import Plan


def gpu_check(
    out: Annotated[Path | None, typer.Option("--out", help="Folder of results (default: ./results/runs).")] = None,
    check: Annotated[list[str] | None, typer.Option("--check", help="Only this check, without a time limit.")] = None,
    emulate: Annotated[bool, typer.Option("--emulate", help="Emulate them on a CPU; measures nothing of a GPU.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Finish the newest interrupted run instead.")] = False,
    wait: Wait = False,
) -> None:
    """Check our CUDA kernels on a GPU: outputs and gradients, time against cuDNN by size, assumptions on the hardware.

    Ends within eight minutes with a table to paste. Exit code 1 where anything failed.
    """
    from bench.harness import gpu_check as gpu_check_plan
    from bench.harness import session
    from bench.machine import environment, system
    from impls import Unavailable
    from lstm_bench import device_policy
    from lstm_bench.errors import ExitCode
    from lstm_bench.views import gpu_check as views_gpu_check
    from lstm_bench.views import progress, run_summary
    from results import store
    from results.output import format_duration

    system.require_measuring()
    if not (emulate or resume) and environment.gpu_list() == []:
        raise Unavailable(
            "gpu-check found no NVIDIA GPU (NVML lists none); run it on a machine with one, or prove the command itself with "
            "--emulate, which measures nothing of a GPU"
        )
    root = out or store.ROOT
    try:
        with progress.for_terminal() as display, device_policy.announced(wait):
            if resume:
                path, footer = session.resume(root, display)
            else:
                plan = gpu_check_plan.make(check or (), emulate)
                announce(plan)
                path, footer = session.start(plan, root, display)
    except session.Interrupted as stop:
        print(run_summary.interrupted(stop.path, "gpu-check", out=out), file=sys.stderr)
        sys.exit(ExitCode.INTERRUPTED)
    run = store.read(path)
    print("\n".join(views_gpu_check.lines(run)))
    print(path)
    counted = Counter(record.status for record in run.records)
    said = f"{counted['ok']} measured, {counted['skipped']} skipped, {counted['failed']} failed"
    note = f"; {footer.note}" if footer.note else ""
    print(f"{said} in {format_duration(footer.seconds)}{note}", file=sys.stderr)
    if counted["failed"]:
        sys.exit(1)


def announce(plan: Plan) -> None:
    """What will be done in which order, and how long it should take and may take, before it starts."""
    from bench.harness import gpu_check as gpu_check_plan
    from lstm_bench.views import tables
    from results.output import format_duration

    if plan.emulated:
        print("EMULATED: the kernels run on this CPU, nothing of a GPU is measured, and every record says so.")
        return
    rows, shown = gpu_check_plan.predicted(plan), []
    for row in rows:
        at_most = "no limit" if row.at_most is None else f"{row.at_most:.0f} s"
        shown.append((row.name, row.question, f"{row.predicted:.0f} s ({row.source})", at_most))
    tables.table(("check", "question", "predicted", "at most"), shown)
    total = sum(row.predicted if row.at_most is None else min(row.predicted, row.at_most) for row in rows)
    limit = (
        "" if plan.time_budget is None else f"; ends after {format_duration(plan.time_budget)}, and says what was not reached"
    )
    print(f"predicted {format_duration(total)} in all, by what was measured on one H100 or modelled{limit}")
