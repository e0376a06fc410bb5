"""`lstm-bench gpu-check`: everything that our kernels assume of a GPU, asked of one in under nine minutes."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from bench.plan import Plan
    from results.record import Record


def gpu_check(
    out: Annotated[Path | None, typer.Option("--out", help="Folder of results (default: results/runs).")] = None,
    item: Annotated[list[str] | None, typer.Option("--item", help="Only this item, without a limit of time.")] = None,
    emulate: Annotated[bool, typer.Option("--emulate", help="Prove the command on a CPU; measures nothing of a GPU.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Finish the newest interrupted run instead.")] = False,
) -> None:
    """Ask a GPU everything our CUDA kernels assume: residency, sends, exchange, products, answers, then the goal grid."""
    from bench import environment, gpu_plan, session
    from impls import Unavailable
    from lstm_bench import duration, progress
    from results import store

    if not (emulate or resume) and not environment.gpu_list():
        raise Unavailable(
            "gpu-check found no NVIDIA GPU (NVML lists none); run it on a machine with one, or prove the command itself with "
            "--emulate, which measures nothing of a GPU"
        )
    root = out or store.ROOT
    with progress.for_terminal() as display:
        if resume:
            path, footer = session.resume(root, display)
        else:
            plan = gpu_plan.make(item or (), emulate)
            announce(plan)
            path, footer = session.start(plan, root, display)
    records = store.read(path).records
    summarise(records)
    print(path)
    counted = Counter(record.status for record in records)
    said = f"{counted['ok']} measured, {counted['skipped']} skipped, {counted['failed']} failed"
    note = f"; {footer.note}" if footer.note else ""
    print(f"{said} in {duration.spoken(footer.seconds)}{note}", file=sys.stderr)
    if counted["failed"]:
        sys.exit(1)


def announce(plan: Plan) -> None:
    """What will be done and how long it should take, before it starts."""
    from bench import gpu_plan
    from lstm_bench import views
    from lstm_bench.duration import spoken

    rows, total = [], 0.0
    for letter, name, question, seconds, allowed in gpu_plan.predicted(plan):
        total += min(seconds, seconds if allowed is None else allowed)
        rows.append((f"({letter})", name, question, spoken(seconds), "no limit" if allowed is None else spoken(allowed)))
    if plan.emulated:
        print("EMULATED: the kernels run on this CPU, nothing of a GPU is measured, and every record says so.")
        return
    views.table(("", "item", "question", "predicted (model)", "at most"), rows)
    print(f"predicted {spoken(total)} in all; what does not fit is written down as not measured")


def summarise(records: Sequence[Record]) -> None:
    """Each item's outcomes, then each assumed constant with what to change."""
    from analysis import constants, words
    from lstm_bench import views

    outcomes: dict[str, Counter[str]] = {}
    for record in records:
        if record.study.startswith("gpu_") or record.study == "goal":
            unmeasured = record.status == "skipped" and record.reason.startswith("not measured")
            outcomes.setdefault(record.study, Counter())["not measured" if unmeasured else record.status] += 1
    states = ("ok", "failed", "skipped", "not measured")
    views.table(("item", *states), [(name, *(str(count[state]) for state in states)) for name, count in outcomes.items()])
    found = constants.answers(records)
    if not found:
        return
    rows = [
        (
            answer.constant,
            words.digits(answer.assumed),
            "–" if answer.measured is None else f"{words.digits(answer.measured)} {answer.unit}",
            answer.verdict,
        )
        for answer in found
    ]
    views.table(("constant", "assumed", "measured", "what to change"), rows)
    answered = sum(answer.measured is not None for answer in found)
    print(f"{answered} of {len(found)} open constants answered")
