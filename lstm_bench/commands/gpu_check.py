"""`lstm-bench gpu-check`: whether our kernels are right and fast on a GPU, and what they assume of it, within eight minutes."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lstm_bench.device_policy import DryRun, Wait

if TYPE_CHECKING:
    from bench.harness.plan import Plan


def gpu_check(
    *,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of results (default: ./results/runs).")] = None,
    check: Annotated[list[str] | None, typer.Option("--check", help="Only this check, without a time limit.")] = None,
    emulate: Annotated[bool, typer.Option("--emulate", help="Emulate them on a CPU; measures nothing of a GPU.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Finish the newest interrupted run instead.")] = False,
    autotune: Annotated[
        bool, typer.Option("--autotune", help="Time all kernels for the layers below; the selector then takes the fastest.")
    ] = False,
    hidden: Annotated[list[int] | None, typer.Option("--hidden", min=1, help="Hidden size to autotune for.")] = None,
    batch: Annotated[list[int] | None, typer.Option("--batch", min=1, help="Batch size to autotune for.")] = None,
    dtype: Annotated[str, typer.Option("--dtype", help="bfloat16, float16 or tensorfloat32, to autotune for.")] = "bfloat16",
    directions: Annotated[int, typer.Option("--directions", min=1, max=2, help="To autotune for.")] = 1,
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="Limit of autotuning.")] = 60.0,
    dry_run: DryRun = False,
    wait: Wait = False,
) -> None:
    """Check our CUDA kernels on a GPU: outputs and gradients, time against cuDNN by size, assumptions on the hardware.

    Ends within eight minutes with a table to paste. Exit code 1 where anything failed.
    """
    from bench.gpu_check.groups import register_emulated_backend
    from bench.harness import gpu_check as gpu_check_plan
    from bench.harness import session
    from bench.machine import environment, system
    from impls import Unavailable
    from lstm_bench import device_policy
    from lstm_bench.errors import ExitCode, UserError
    from lstm_bench.views import dry_run as dry_runs
    from lstm_bench.views import gpu_check as views_gpu_check
    from lstm_bench.views import progress, run_summary
    from results import store
    from results.output import format_duration

    gpu_missing = (
        "gpu-check found no NVIDIA GPU (NVML lists none); run it on a machine with one, or prove the command itself with "
        "--emulate, which measures nothing of a GPU"
        if not (emulate or resume) and environment.gpu_list() == []
        else None
    )
    if not dry_run:
        system.require_measuring()
        if gpu_missing:
            raise Unavailable(gpu_missing)
    elif resume:
        raise UserError("--dry-run plans a new check, and --resume goes on with one; leave one of them out")
    if autotune:
        tune(
            [(size, number) for size in hidden or () for number in batch or ()],
            dtype,
            directions,
            seconds,
            emulate=emulate,
            dry_run=dry_run,
        )
        return
    if hidden or batch:
        raise UserError("--hidden and --batch belong to --autotune, which is not given; add it, or leave them out")
    if dry_run:
        plan = gpu_check_plan.make(check or (), emulate)
        if emulate:
            register_emulated_backend()
        announce(plan)
        return dry_runs.show(dry_runs.values(plan) | {"predicted": [], "obstacle": gpu_missing})
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


def tune(
    sizes: list[tuple[int, int]], dtype: str, directions: int, seconds: float, *, emulate: bool, dry_run: bool = False
) -> None:
    """Autotune for every hidden size with every batch, and write the table that the selector reads."""
    from lstm_bench.errors import UserError

    if not sizes:
        raise UserError("--autotune needs at least one --hidden and one --batch, for example: --hidden 512 --batch 32")
    if dtype not in ("bfloat16", "float16", "tensorfloat32"):
        raise UserError(f"no data type {dtype!r} to autotune for; choose from bfloat16, float16, tensorfloat32")
    if dry_run:
        from lstm_bench.views.dry_run import NOTHING_MEASURED

        named = ", ".join(f"H={hidden} B={batch}" for hidden, batch in sizes)
        print(f"would time every configuration of our kernels that can run {named} in {dtype}, within {seconds:.0f} s")
        return print(NOTHING_MEASURED)
    from bench.gpu_check import tune as tuning
    from bench.gpu_check.device import open_context
    from bench.machine.lock import device_lock
    from impls.cuda.select import tuned

    with device_lock("cpu" if emulate else "cuda"):
        context = open_context(emulate)
        layers = [tuning.Layer(hidden, batch, directions, dtype) for hidden, batch in sizes]
        times = tuning.tune(context, layers, seconds, print)
        path = tuned.write(context.provenance()["on"], times)
    print(path)
    if emulate:
        print("EMULATED: these are times of this CPU; no GPU reads that table.", file=sys.stderr)


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
