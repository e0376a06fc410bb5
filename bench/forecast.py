"""What a plan will take, told before it starts: seconds, and the largest peak of memory beside what is free."""

from __future__ import annotations

from collections.abc import Callable

from bench import room, study
from bench.case import Case
from bench.plan import Plan

GIGABYTE = 1e9
FIXED_SECONDS = {"cpu": 20.0, "cuda": 60.0}  # starting workers, ceilings, the harness's own price


def seconds(plan: Plan) -> float | None:
    """Predicted for the whole plan; None where one of its studies makes no forecast."""
    total = FIXED_SECONDS[plan.device]
    for name in plan.studies:
        chosen = study.get(name)
        if plan.scale in chosen.seconds:
            total += chosen.seconds[plan.scale]
            continue
        if chosen.forecast is None:
            return None
        # On a CPU what is measured alone goes side by side, a processor each (see `bench.run`).
        beside = plan.threads if plan.device == "cpu" else 1
        for case in plan.cases(name):
            times = chosen.times_alone(case) / beside if chosen.measures_alone(case) else plan.replicates
            total += chosen.forecast(case) * times
    return total


def statement(plan: Plan) -> list[str]:
    """One sentence each about time, about memory, and about what will not fit; none where no forecast is made."""
    predicted = seconds(plan)
    if predicted is None:
        return []
    cases = [case for name in plan.studies for case in plan.cases(name)]
    said = [f"predicted: about {predicted / 60:.1f} min for {len(cases)} cases"]
    said += [_largest(cases, "host", room.least_host_bytes, "cpu")]
    if plan.device == "cuda":
        said.append(_largest(cases, "device", room.least_device_bytes, "cuda"))
    return said


def _largest(cases: list[Case], where: str, least: Callable[[Case], int], device: str) -> str:
    free = room.free_bytes(device)
    worst = max(cases, key=least)
    text = f"predicted peak of {where} memory: at least {least(worst) / GIGABYTE:.2g} GB ({worst.key})"
    if free is None:
        return f"{text}; how much is free is not known"
    beyond = sum(least(case) > free for case in cases)
    return f"{text}; {free / GIGABYTE:.3g} GB free" + (f"; {beyond} cases will not fit and are not tried" if beyond else "")
