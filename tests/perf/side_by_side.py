"""A against A by three instruments in turn: the paired comparison, pytest-benchmark, torch Timer. Prints how far each is off.

    python -m tests.perf.side_by_side [REPETITIONS] [FILTER…]     from the checkout, on an otherwise idle machine

Every repetition is appended to side_by_side.jsonl in the current folder, so that slices of it can be measured at different
times; the table is of all that stand there. One processor for all three.
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
from collections.abc import Callable, Mapping
from pathlib import Path

from analysis.ratios import LOCATIONS
from bench import plan, processors
from bench.code import ROOT
from lstm_bench import compare
from lstm_bench.compare import Options

BACKEND, PAIRS = "torch", 5
NOTES = Path("side_by_side.jsonl")
USUAL = ("hidden_size=512", "phase=forward")
TIMER = """
import json, sys
import torch
from torch.utils.benchmark import Timer
from bench.case import Case
from bench.prepare import prepare
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


class Silent:
    def expect(self, study: str, records: int) -> None: ...
    def doing(self, text: str) -> None: ...
    def recorded(self, records: object) -> None: ...


def paired(asked: plan.Plan) -> dict[str, Times]:
    """new / base of this checkout against itself, by location."""
    with tempfile.TemporaryDirectory() as folder:
        options = Options(memory=False, stages=(PAIRS,), confirming=False)
        names = ("backend:" + BACKEND,) * 2
        outcome = compare.compare(*names, lambda: asked, Path(folder), Silent(), options)
        ratios: dict[str, Times] = {}
        for location in LOCATIONS:
            again = compare.compare(*map(str, outcome.paths), lambda: asked, Path(folder), Silent(),
                                    Options(stages=(PAIRS,), confirming=False, asked_location=location))  # fmt: skip
            times = [row for row in again.rows if row.metric == "time"]
            ratios[f"paired, {location}"] = {row.key.case: row.decision.change or math.nan for row in times}
    return ratios


def by_pytest_benchmark(asked: plan.Plan) -> Times:
    keys = [case.key for case in asked.cases("throughput")]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "times.json"
        one = [sys.executable, "-m", "pytest", "-q", "--benchmark-enable", f"--benchmark-json={file}"]
        chosen = [f"tests/perf/test_throughput.py::test_throughput[{key}/{BACKEND}]" for key in keys]
        alone([*one, *chosen], LSTM_BENCH_SCALE=asked.suite)
        found = json.loads(file.read_text())["benchmarks"]
    return {item["param"].partition("/")[0]: item["stats"]["median"] for item in found}


def by_timer(asked: plan.Plan) -> Times:
    cases = json.dumps([case.to_dict() for case in asked.cases("throughput")])
    return json.loads(alone([sys.executable, "-c", TIMER, cases, BACKEND]).splitlines()[-1])


def alone(command: list[str], **variables: str) -> str:
    """On the processor that the paired comparison uses, with one thread."""
    pinned = ["taskset", "--cpu-list", str(processors.usable()[0]), *command]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    run = subprocess.run(pinned, cwd=ROOT, env=os.environ | threads | variables, capture_output=True, text=True, timeout=300)
    if run.returncode:
        raise RuntimeError(run.stdout[-500:] + run.stderr[-500:])
    return run.stdout


def twice(once: Callable[[plan.Plan], Times], asked: plan.Plan) -> Times:
    first, second = once(asked), once(asked)
    return {key: second[key] / first[key] for key in first}


def repetition(asked: plan.Plan) -> None:
    found: dict[str, Times] = {}
    seconds: dict[str, float] = {}
    instruments: Mapping[str, Callable[[], dict[str, Times]]] = {
        "paired": lambda: paired(asked),
        "pytest-benchmark": lambda: {"pytest-benchmark": twice(by_pytest_benchmark, asked)},
        "torch Timer": lambda: {"torch Timer": twice(by_timer, asked)},
    }
    for name, measure in instruments.items():
        started = time.monotonic()
        found |= measure()
        seconds[name] = (time.monotonic() - started) / len(asked.cases("throughput"))
    with NOTES.open("a") as notes:
        notes.write(json.dumps({"ratios": found, "seconds": seconds}) + "\n")


def summary() -> None:
    lines = [json.loads(line) for line in NOTES.read_text().splitlines()]
    print(f"{'instrument':24} {'ratios':>6} {'typical':>8} {'95 %':>8} {'worst':>8} {'within 3 %':>10} {'s a case':>8}")
    for name in lines[0]["ratios"]:
        off = sorted(abs(math.log(ratio)) for line in lines for ratio in line["ratios"][name].values())
        within = sum(value <= math.log(1.03) for value in off) / len(off)
        cost = statistics.median(line["seconds"][name.partition(",")[0]] for line in lines)
        at_95 = off[math.ceil(0.95 * len(off)) - 1]
        shown = (statistics.median(off), at_95, off[-1])
        print(f"{name:24} {len(off):6}", *(f"{100 * value:6.1f} %" for value in shown), f"{within:10.0%} {cost:8.1f}")


def main() -> None:
    repetitions, *where = sys.argv[1:] or ["5"]
    asked = plan.make("throughput", [BACKEND], where or USUAL, threads=1)
    for number in range(int(repetitions)):
        print(f"repetition {number + 1} of {repetitions}", file=sys.stderr)
        repetition(asked)
    summary()


if __name__ == "__main__":
    main()
