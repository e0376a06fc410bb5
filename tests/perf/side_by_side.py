"""A against A by three instruments in turn: the paired comparison, pytest-benchmark, torch Timer. Prints how far each is off.

    python -m tests.perf.side_by_side [REPETITIONS] [FILTER…]     from the checkout, on an otherwise idle machine

Every repetition is appended to tests/perf/side_by_side.jsonl, with the machine and its software, so that slices of it can be
measured at different times; the table is of all that stand there, and of them alone with 0 REPETITIONS. One processor for all
three. Ten repetitions of the six cases are 60 ratios: with 59 and no miss, "95 % within 3 %" is shown.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scipy import stats

from analysis.statistics.ratios import STATISTICS
from bench.harness import plan, study
from bench.machine import environment, system
from bench.processes.code import ROOT
from lstm_bench.commands import compare
from lstm_bench.commands.compare import Options

BACKEND, PAIRS = "torch", 5
NOTES = ROOT / "tests" / "perf" / "side_by_side.jsonl"
WITHIN = math.log(1.03)
TIMER = """
import json, sys
import torch
from torch.utils.benchmark import Timer
from bench.harness.case import Case
from bench.worker.prepare import prepare
torch.set_num_threads(1)
found = {}
for values in json.loads(sys.argv[1]):
    case = Case.from_dict(values)
    prepared = prepare(case, sys.argv[2])
    timer = Timer("call(); wait()", globals={"call": prepared.call, "wait": prepared.wait}, num_threads=1)
    found[case.key] = timer.blocked_autorange(min_run_time=1.0).median
print(json.dumps(found))
"""
Times = dict[str, float]  # seconds, by the case's key
Ratios = dict[str, float | None]  # second over first, None where it came to nothing


class Silent:
    def on_planned(self, study: str, records: int) -> None: ...
    def on_status(self, text: str) -> None: ...
    def on_records(self, records: object) -> None: ...


def paired(asked: plan.Plan) -> dict[str, Ratios]:
    """new / base of this checkout against itself, by statistic."""
    with tempfile.TemporaryDirectory() as folder:
        options = Options(memory=False, stages=(PAIRS,), confirming=False)
        names = ("backend:" + BACKEND,) * 2
        outcome = compare.compare(*names, lambda: asked, Path(folder), Silent(), options)
        ratios: dict[str, Ratios] = {}
        for statistic in STATISTICS:
            again = compare.compare(*map(str, outcome.paths), lambda: asked, Path(folder), Silent(),
                                    Options(stages=(PAIRS,), confirming=False, asked_location=statistic))  # fmt: skip
            times = [row for row in again.rows if row.metric == "time"]
            ratios[f"paired, {statistic}"] = {row.key.case: row.decision.change for row in times}
    return ratios


def by_pytest_benchmark(asked: plan.Plan) -> Times:
    keys = [case.key for case in asked.cases(study.get("throughput"))]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "times.json"
        one = [sys.executable, "-m", "pytest", "-q", "--benchmark-enable", f"--benchmark-json={file}"]
        chosen = [f"tests/perf/test_throughput.py::test_throughput[{key}/{BACKEND}]" for key in keys]
        alone([*one, *chosen], LSTM_BENCH_SCALE=asked.suite)
        found = json.loads(file.read_text())["benchmarks"]
    return {item["param"].partition("/")[0]: item["stats"]["median"] for item in found}


def by_timer(asked: plan.Plan) -> Times:
    cases = json.dumps([case.to_dict() for case in asked.cases(study.get("throughput"))])
    return json.loads(alone([sys.executable, "-c", TIMER, cases, BACKEND]).splitlines()[-1])


def alone(command: list[str], **variables: str) -> str:
    """On the processor that the paired comparison uses, with one thread."""
    pinned = ["taskset", "--cpu-list", str(system.usable()[0]), *command]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    run = subprocess.run(pinned, cwd=ROOT, env=os.environ | threads | variables, capture_output=True, text=True, timeout=300)
    if run.returncode:
        raise RuntimeError(run.stdout[-500:] + run.stderr[-500:])
    return run.stdout


def twice(once: Callable[[plan.Plan], Times], asked: plan.Plan) -> Ratios:
    first, second = once(asked), once(asked)
    return {key: second[key] / first[key] for key in first}


def repetition(asked: plan.Plan) -> None:
    found: dict[str, Ratios] = {}
    seconds: dict[str, float] = {}
    instruments: Mapping[str, Callable[[], dict[str, Ratios]]] = {
        "paired": lambda: paired(asked),
        "pytest-benchmark": lambda: {"pytest-benchmark": twice(by_pytest_benchmark, asked)},
        "torch Timer": lambda: {"torch Timer": twice(by_timer, asked)},
    }
    for name, measure in instruments.items():
        started = time.monotonic()
        found |= measure()
        seconds[name] = (time.monotonic() - started) / len(asked.cases(study.get("throughput")))
    described = environment.describe(asked.threads)
    here = {"machine": environment.machine_name(described), "protocol": environment.PROTOCOL}
    here |= {name: described[name] for name in ("cpu", "os", "python", "packages", "git")}
    made = datetime.now(UTC).isoformat(timespec="seconds")
    with NOTES.open("a") as notes:
        notes.write(json.dumps({"made": made, "ratios": found, "seconds": seconds, **here}) + "\n")


def rows(lines: Sequence[Mapping[str, Any]]) -> list[tuple[str, int, int, float, list[float], float]]:
    """By instrument: ratios, those off by more than 3 %, the share within that is shown at 95 %, |ln ratio| in order, and the
    median of the seconds a case took. Of 59 ratios none may miss for a share of 95 % to be shown (Clopper and Pearson 1934)."""
    found = []
    for name in lines[0]["ratios"]:
        ratios = [ratio for line in lines for ratio in line["ratios"][name].values()]
        off = sorted(math.inf if ratio is None else abs(math.log(ratio)) for ratio in ratios)
        misses = sum(value > WITHIN for value in off)
        share = float(stats.beta.ppf(0.05, len(off) - misses, misses + 1)) if misses < len(off) else 0.0
        cost = statistics.median(line["seconds"][name.partition(",")[0]] for line in lines)
        found.append((name, len(off), misses, share, off, cost))
    return found


def summary() -> None:
    lines = [json.loads(line) for line in NOTES.read_text().splitlines()]
    for machine in dict.fromkeys(line["machine"] for line in lines):
        own = [line for line in lines if line["machine"] == machine]
        print(f"{machine}, {own[0]['made'][:10]} to {own[-1]['made'][:10]}, {len(own)} repetitions")
        print("| instrument | ratios | typical | 95 % | worst | within 3 % | shown at 95 % | seconds a case |")
        print("|---|---|---|---|---|---|---|---|")
        for name, count, misses, share, off, cost in rows(own):
            sizes = (statistics.median(off), off[math.ceil(0.95 * count) - 1], off[-1])
            shown = " | ".join(f"{100 * math.expm1(value):.1f} %" for value in sizes)
            print(f"| {name} | {count} | {shown} | {count - misses} of {count} | {share:.1%} | {cost:.0f} |")


def main() -> None:
    repetitions, *where = sys.argv[1:] or ["10"]
    asked = plan.make("throughput", [BACKEND], where, threads=1)
    for number in range(int(repetitions)):
        print(f"repetition {number + 1} of {repetitions}", file=sys.stderr)
        repetition(asked)
    summary()


if __name__ == "__main__":
    main()
