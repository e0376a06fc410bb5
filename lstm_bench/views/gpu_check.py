"""What `gpu-check` found, as one plain table of at most 80 columns that can be pasted into an issue."""

from __future__ import annotations

import statistics
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from analysis.gpu_check import answers
from analysis.report import words
from results.record import EMULATED_METRIC, NOT_MEASURED, Record
from results.store import Run

WIDTH = 80
FORM = "{:<32} {:>12} {:>8} {:>8} {:>9} {:>6}"
HEADS = (("", "", "ours", "cuDNN", "speedup", "error"), ("", "", "us/step", "us/step", "in graphs", "share"))
OURS, BASELINE, ITEM, STUDY = "cuda", "cudnn", "gpu_", "goal"
NONE = "-"
PHASES = {"forward": "forward", "forward_backward": "training"}
REASON_LINES = 4


@dataclass(frozen=True, slots=True)
class Row:
    what: str
    result: str
    ours: str = NONE
    baseline: str = NONE
    speedup: str = NONE
    share: str = NONE

    def line(self) -> str:
        what = self.what if len(self.what) <= 32 else self.what[:31] + "~"
        return FORM.format(what, self.result, self.ours, self.baseline, self.speedup, self.share).rstrip()


def lines(run: Run) -> Iterator[str]:
    """The table, then what failed with its reason, what was not measured, and the assumed constants with what to change."""
    records = [record for record in run.records if record.study == STUDY or record.study.startswith(ITEM)]
    yield from _title(run)
    yield ""
    yield from (FORM.format(*head).rstrip() for head in HEADS)
    yield from (row.line() for row in rows(records))
    yield from _reasons(records)
    yield from _constants(records)


def rows(records: Sequence[Record]) -> Iterator[Row]:
    """Configurations by kernel and data type, each way to call the module, the grid case by case, the probes by item."""
    by_study: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_study[record.study].append(record)
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in by_study.pop("gpu_correctness", []):
        kernel = " ".join(str(record.parameters[name]) for name in ("design", "dtype") if name in record.parameters)
        groups[f"kernel {kernel or record.case}"].append(record)
    for record in by_study.pop("gpu_operators", []):
        groups[f"module {record.case.replace('-', ', ')}"].append(record)
    for name, group in groups.items():
        yield Row(name, _counted(group), share=_largest_share(group))
    yield from _grid(by_study.pop(STUDY, []))
    for study, group in by_study.items():
        yield Row(f"probe {study.removeprefix(ITEM)}", _counted(group))


def _grid(records: Sequence[Record]) -> Iterator[Row]:
    """A row for each case that both sides were asked; those that time did not reach, in one row."""
    cases: dict[str, dict[str, Record]] = defaultdict(dict)
    for record in records:
        cases[record.case][record.backend] = record
    unreached = [case for case, sides in cases.items() if all(record.is_unmeasured for record in sides.values())]
    for case, sides in sorted(cases.items(), key=lambda item: _place(next(iter(item[1].values())))):
        if case not in unreached:
            yield _case_row(sides)
    if unreached:
        yield Row("cases that time did not reach", f"{len(unreached)} unmeasured")


def _case_row(sides: dict[str, Record]) -> Row:
    record = next(iter(sides.values()))
    asked = record.parameters
    name = f"H {asked['hidden_size']:<4} B {asked['batch']:<3} {PHASES[asked['phase']]:<8} {asked['dtype']}"
    times = {side: _step_seconds(sides[side]) for side in (OURS, BASELINE) if side in sides}
    ours, baseline = times.get(OURS), times.get(BASELINE)
    speedup = f"{baseline / ours:.2f}x" if ours and baseline else NONE
    troubles = {f"{'ours' if side == OURS else side} {_state(one)}" for side, one in sides.items() if one.status != "ok"}
    states = {_state(one) for one in sides.values()}
    result = next(iter(states)) if len(states) == 1 else min(troubles, key=len)
    return Row(name, result[:12], _microseconds(ours), _microseconds(baseline), speedup)


def _place(record: Record) -> tuple[str, str, int, int]:
    asked = record.parameters
    return asked["dtype"], asked["phase"], asked["hidden_size"], asked["batch"]


def _step_seconds(record: Record) -> float | None:
    """Median seconds a time step; None where none were measured on a GPU."""
    for item in record.measurements if record.status == "ok" else ():
        if item.metric == "time" and item.samples:
            return statistics.median(item.samples) / record.parameters["steps"]
    return None


def _microseconds(seconds: float | None) -> str:
    if seconds is None:
        return NONE
    value = 1e6 * seconds
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _largest_share(records: Iterable[Record]) -> str:
    shares = [
        max(item.samples)
        for record in records
        for item in record.measurements
        if item.metric.removeprefix(EMULATED_METRIC) == "error_share"
    ]
    return f"{max(shares):.2f}" if shares else NONE


def _state(record: Record) -> str:
    return "unmeasured" if record.is_unmeasured else record.status


def _counted(records: Iterable[Record]) -> str:
    """What is worst first: `2 failed/56`, `3 skipped/8`, else `56 ok`."""
    counted = Counter(map(_state, records))
    for state in ("failed", "skipped", "unmeasured"):
        if counted[state]:
            return f"{counted[state]} {state}" + (f"/{counted.total()}" if counted[state] < counted.total() else "")
    return f"{counted['ok']} ok"


def _title(run: Run) -> Iterator[str]:
    environment, footer = run.header.environment, run.footer
    if run.header.plan.get("emulated"):
        yield "EMULATED on a CPU: nothing here is a number of a GPU."
    else:
        gpu = (environment.get("gpus") or [{}])[0]
        software = f"driver {gpu.get('driver', 'unknown')}, torch {environment.get('packages', {}).get('torch', 'none')}"
        yield from _wrapped(f"{gpu.get('name', 'no GPU')}, {software}", "")
    git = environment.get("git", {})
    commit = "commit unknown"
    if git.get("commit"):
        commit = git["commit"][:12] + {True: " with changes", False: ""}.get(git.get("dirty"), " (changes unknown)")
    said = ["lstm-bench gpu-check", commit, run.header.started[:16].replace("T", " ") + " UTC"]
    said += ["interrupted"] if footer is None else [f"{footer.seconds:.0f} s", *filter(None, [footer.note])]
    yield from _wrapped(", ".join(said), "")


def _reasons(records: Sequence[Record]) -> Iterator[str]:
    """Every failure with its reason; skips once for each reason."""
    failed = [record for record in records if record.status == "failed"]
    if failed:
        yield from ("", f"Failed: {len(failed)}")
    for record in failed:
        name = f"{record.study.removeprefix(ITEM)} {record.case}" + (f" on {record.backend}" if record.study == STUDY else "")
        yield from _wrapped(f"{name}: {record.kind}: {record.reason}")
    skipped = Counter((record.study.removeprefix(ITEM), record.reason) for record in records if record.status == "skipped")
    if skipped:
        yield from ("", f"Not measured: {skipped.total()}")
    for (study, reason), count in skipped.items():
        yield from _wrapped(f"{study}, {words.format_count(count, 'part')}: {reason.removeprefix(NOT_MEASURED)}")


def _constants(records: Sequence[Record]) -> Iterator[str]:
    found = answers(records)
    if not found:
        return
    answered = sum(answer.measured is not None for answer in found)
    yield from ("", f"Assumed constants: {answered} of {len(found)} measured")
    for answer in found if answered else ():
        measured = "" if answer.measured is None else f", measured {answer.measured:.4g} {answer.unit}"
        yield from _wrapped(f"{answer.constant}: assumed {answer.assumed:.4g}{measured}: {answer.verdict}")


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    """The beginning of a text in lines that fit, those after the first indented further."""
    made = textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ")
    return made if len(made) <= REASON_LINES else [*made[: REASON_LINES - 1], "    ... (all of it: lstm-bench show)"]
