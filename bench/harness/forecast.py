"""What a plan will take, told before it starts: seconds, and the largest peak of memory beside what is free."""

from __future__ import annotations

from collections.abc import Callable

from bench import costs
from bench.harness.case import Case
from bench.harness.plan import Plan
from bench.harness.study import REFERENCE, Study
from bench.worker import prepare
from results.output import format_duration

GIGABYTE = 1e9
# Of a replicate's workers: on a CPU side by side, on a GPU as if one after the other.
START_SECONDS = {"cpu": 4.0, "cuda": costs.START_SECONDS_H100}
PEAKS_SECONDS = {"cpu": 2.0, "cuda": costs.PEAKS_SECONDS}  # of one dtype
# Of a case on a GPU, in the first replicate alone. JAX's was measured on an H100 (run 182414: 1.35 s), torch.compile's is
# assumed.
COMPILING_SECONDS = {"torch_compile": 6.0, "jax": 1.4, "flax": 1.4, "jax_cudnn": 1.4}
HARNESS_SECONDS = 2.0  # the harness's own overhead, and the run's end


def seconds(plan: Plan) -> float | None:
    """Predicted for the whole plan, from the seconds that each case takes on each backend that does not refuse it unasked; None
    where a study makes no forecast."""
    total = HARNESS_SECONDS + PEAKS_SECONDS[plan.device] * len(plan.peak_dtypes())
    for its in plan.studies:
        found = _of_study(plan, its)
        if found is None:
            return None
        total += found
    return total


def _of_study(plan: Plan, its: Study) -> float | None:
    in_rounds, compiling, standalone, alone, started = 0.0, 0.0, [0.0], 0.0, set[str]()
    for case in plan.cases(its):
        own = its.forecast(case) if its.forecast else None
        if own is None:
            return None
        backends = asked(plan, its, case)
        if its.is_standalone(case) and its.needs_all_processors(case):
            alone += own * len(backends) * its.repetitions_of(case)
        elif its.is_standalone(case):
            standalone += [own] * (len(backends) * its.repetitions_of(case))
        else:
            in_rounds += own * len(backends)
            compiling += sum(COMPILING_SECONDS.get(backend, 0.0) for backend in backends if plan.device == "cuda")
            started |= set(backends)
    side_by_side = plan.device == "cpu"
    starts = START_SECONDS[plan.device] * (min(1, len(started)) if side_by_side else len(started))
    # Standalone cases that are not timed go side by side on a CPU, a processor each (see `bench.harness.run`), and take the
    # time of the longest.
    together = max(sum(standalone) / plan.threads, *standalone) if side_by_side else sum(standalone)
    return plan.replicates * (in_rounds + starts) + compiling + together + alone


def asked(plan: Plan, its: Study, case: Case) -> list[str]:
    """The backends that a case will be put to."""
    return [
        each for each in plan.measured_on(its, case) if each == REFERENCE or not prepare.static_unsupported_reason(case, each)
    ]


def excluded(plan: Plan, its: Study, case: Case) -> dict[str, str]:
    """The backends that a case will not be put to, each with the reason that its file gives; none of them is imported."""
    backends = [each for each in plan.measured_on(its, case) if each != REFERENCE]
    reasons = {each: prepare.static_unsupported_reason(case, each) for each in backends}
    return {each: reason for each, reason in reasons.items() if reason}


def sampling_seconds(plan: Plan) -> float:
    """Of warm-up and rounds alone, at the plan's pace: a lower bound for cases in rounds that nobody forecasts."""
    pace, timed = plan.pace, [(its, case) for its in plan.studies for case in plan.cases(its) if not its.is_standalone(case)]
    a_case = pace.warm_seconds + pace.rounds * pace.turn_seconds
    return plan.replicates * a_case * sum(len(asked(plan, its, case)) for its, case in timed)


def statement(plan: Plan) -> list[str]:
    """One sentence each about time, about memory, and about what will not fit; none where no forecast is made."""
    predicted = seconds(plan)
    if predicted is None:
        return []
    cases = [case for its in plan.studies for case in plan.cases(its)]
    sentences = [f"predicted: about {format_duration(predicted)} for {len(cases)} case{'s'[: len(cases) != 1]}{_shares(plan)}"]
    sentences += [_largest(cases, "host", costs.least_host_bytes, "cpu")]
    if plan.device == "cuda":
        sentences.append(_largest(cases, "device", costs.least_device_bytes, "cuda"))
    return sentences


def _shares(plan: Plan) -> str:
    """How the time of the cases divides among the phases, where there are several."""
    seconds: dict[str, float] = {}
    for its in plan.studies:
        for case in plan.cases(its):
            own = its.forecast(case) if its.forecast else None
            times = its.repetitions_of(case) if its.is_standalone(case) else plan.replicates
            seconds[case.phase] = seconds.get(case.phase, 0.0) + (own or 0.0) * times * len(asked(plan, its, case))
    total = sum(seconds.values())
    if len(seconds) < 2 or not total:
        return ""
    return ": " + ", ".join(f"{phase} {value / total:.0%}" for phase, value in seconds.items())


def _largest(cases: list[Case], where: str, least: Callable[[Case], int], device: str) -> str:
    free = costs.free_bytes(device)
    worst = max(cases, key=least)
    about = f"about {max(map(costs.expected_host_bytes, cases)) / GIGABYTE:.2g} GB, " if where == "host" else ""
    text = f"predicted peak of {where} memory: {about}at least {least(worst) / GIGABYTE:.2g} GB ({worst.key})"
    if free is None:
        return f"{text}; how much is free is not known"
    beyond = sum(least(case) > free for case in cases)
    return f"{text}; {free / GIGABYTE:.3g} GB free" + (f"; {beyond} cases will not fit and are not tried" if beyond else "")
