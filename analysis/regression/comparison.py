"""Two runs of the same cases, compared pair by pair, as rows and as text."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from analysis import AnalysisError
from analysis.report.words import format_si, format_significant
from analysis.statistics.decision import Decision, Rule, decide, mean_rule, over_cases, unpaired
from analysis.statistics.ratios import NOT_COMPARED, Statistic, aggregate
from lstm_bench.errors import ExitCode
from results.record import Measurement, Record
from results.store import Run

# Two sides, base and new: their times, first calls, memory and errors as rows with a verdict each.
#
# The unit of `change` is new over base: above 1 the new one is slower, larger or less accurate. (Backends are ranked by the
# inverse, the speedup, in `analysis.statistics.ratios`.)

CLOCK_TOLERANCE = 0.01  # median SM clocks of two sides may differ by so much
# A single call a pair is rough by nature: a difference is shown from a tenth on, and alerts nobody.
FIRST_CALL = Rule(noticed=math.log(1.10), tolerated=math.log(1.25), floor=0.0, detectable=0.0)
USUAL = Rule()
LEAST_BYTES = 2 * 2**20  # smaller differences of memory are the allocator's
LEAST_SHARE = 0.01
WORSE_ERROR = 2.0  # times the error of the other side
UNSTABLE = "unstable"  # the kind of a failed block in which the machine was disturbed, not the backend


class NotComparable(AnalysisError):
    """Two runs that share nothing that could be compared."""

    exit_code = ExitCode.UNDECIDED


class OtherMachine(NotComparable):
    """Two runs of different machines, protocols or numbers of threads."""

    exit_code = ExitCode.OTHER_MACHINE


class NothingInCommon(NotComparable):
    """Two runs without a case and backend in common."""

    exit_code = ExitCode.NOTHING_IN_COMMON


class Key(NamedTuple):
    """What a row is about; `backend` names both where the two sides run different ones."""

    study: str
    case: str
    backend: str


@dataclass(frozen=True, slots=True)
class Row:
    """base and new are typical values in `unit`; None where one was not measured."""

    key: Key
    metric: str
    unit: str
    base: float | None
    new: float | None
    decision: Decision


@dataclass(frozen=True, slots=True)
class Sides:
    """The outcomes of both sides by row and replicate, and whether replicates with the same number were measured in turns."""

    base: Mapping[Key, Mapping[int, Record]]
    new: Mapping[Key, Mapping[int, Record]]
    paired: bool
    statistic: Statistic = "median"
    rules: Mapping[Key, Rule] = field(default_factory=dict)
    usual: Rule = USUAL  # for rows without a rule of their own

    def rule(self, key: Key) -> Rule:
        return self.rules.get(key, self.usual)

    def keys(self) -> list[Key]:
        """Every row that at least one side could run."""
        return [
            key
            for key in dict.fromkeys([*self.base, *self.new])
            if any(record.status != "skipped" for side in (self.base, self.new) for record in side.get(key, {}).values())
        ]

    def log_changes(self, key: Key) -> dict[int, float]:
        """ln(new / base) of the time, by pair."""
        base, new = (self._times(side.get(key, {})) for side in (self.base, self.new))
        return {number: math.log(new[number] / base[number]) for number in base.keys() & new.keys()}

    def time(self, key: Key) -> Decision:
        """The verdict on the time; UNCOMPARABLE with the reason where the two cannot be compared."""
        reason = self._obstacle(key)
        if reason:
            return Decision("UNCOMPARABLE", reason=reason)
        rule = self.rule(key)
        if self.paired:
            found = decide(self.log_changes(key), rule)
            return replace(found, reason="; ".join(filter(None, [found.reason, self._left_out(key)]))) if found.next else found
        base, new = ([math.log(value) for value in self._times(side[key]).values()] for side in (self.base, self.new))
        return unpaired(base, new, rule)

    def rows(self) -> list[Row]:
        return [row for key in self.keys() for row in self._rows_of(key)]

    def overall(self) -> Decision | None:
        """The geometric mean of the change in time over all cases that were compared; None where none was timed."""
        keys = [key for key in self.keys() if not self._obstacle(key)]
        if self.paired:
            changes = {key: found for key in keys if (found := self.log_changes(key))}
            return over_cases(list(changes.values()), mean_rule([self.rule(key) for key in changes]))
        times = [[self._times(side[key]) for side in (self.base, self.new)] for key in keys]
        base, new = (_means([sides[which] for sides in times if all(sides)]) for which in (0, 1))
        return unpaired(base, new) if base and new else None

    def _rows_of(self, key: Key) -> Iterable[Row]:
        reason = self._obstacle(key)
        if reason:
            yield Row(key, "time", "s", None, None, Decision("UNCOMPARABLE", reason=reason))
            return
        records = [side[key] for side in (self.base, self.new)]
        if self.paired:
            shared = set.intersection(
                *({number for number, record in side.items() if record.status == "ok"} for side in records)
            )
            records = [{number: record for number, record in side.items() if number in shared} for side in records]
        base, new = map(_metrics, records)
        for metric in [name for name in base if name in new]:
            unit = base[metric][0].unit
            before, after = (statistics.median(map(self._typical, items[metric])) for items in (base, new))
            yield Row(key, metric, unit, before, after, self._decision(key, metric, unit, base[metric], new[metric]))

    def _decision(self, key: Key, metric: str, unit: str, base: list[Measurement], new: list[Measurement]) -> Decision:
        if metric == "time":
            return self.time(key)
        values = [[value for item in items for value in item.samples] for items in (base, new)]
        if unit == "B":
            return memory(*values)
        if metric == "error":
            return accuracy(max(values[0]), max(values[1]))
        if self.paired:
            return _at_a_glance(np.log(values[1]) - np.log(values[0]))
        return unpaired([math.log(value) for value in values[0]], [math.log(value) for value in values[1]], FIRST_CALL)

    def _times(self, records: Mapping[int, Record]) -> dict[int, float]:
        found = {number: _metrics({number: record}).get("time") for number, record in records.items() if record.status == "ok"}
        return {number: self._typical(items[0]) for number, items in found.items() if items and min(items[0].samples) > 0}

    def _typical(self, measurement: Measurement) -> float:
        return aggregate(np.asarray(measurement.samples), self.statistic)

    def _obstacle(self, key: Key) -> str:
        for name, side in (("base", self.base), ("new", self.new)):
            records = side.get(key, {}).values()
            if not records:
                return f"{name} has not measured it"
            counted = any(record.status == "ok" for record in records)
            for record in records:
                # One disturbed block says nothing against the others.
                if record.status != "ok" and not (counted and record.kind == UNSTABLE):
                    kind = f" ({record.kind})" if record.kind else ""
                    return f"{name} {record.status}{kind}: {record.reason}"
        clocks = [_clock(side[key].values()) for side in (self.base, self.new)]
        if clocks[0] and clocks[1] and abs(clocks[1] / clocks[0] - 1) > CLOCK_TOLERANCE:
            return f"the GPU ran at {clocks[0]:.0f} MHz for base and {clocks[1]:.0f} MHz for new"
        return ""

    def _left_out(self, key: Key) -> str:
        """Which pair was disturbed whenever it was measured, so that the verdict waits for it."""
        disturbed = {
            number: record.reason
            for side in (self.base, self.new)
            for number, record in side[key].items()
            if record.kind == UNSTABLE
        }
        return "".join(f"pair {number + 1} does not count: {disturbed[number]}" for number in sorted(disturbed)[:1])


def from_runs(base: Run, new: Run, statistic: Statistic = "median") -> Sides:
    """Two stored runs as the two sides of a comparison.

    Args:
        base, new: the runs; replicates are paired where both come from one interleaved comparison.
        statistic: statistic of a call's samples.

    Raises:
        OtherMachine: the runs are of different machines, protocols or numbers of threads.
        NothingInCommon: no case and backend is in both.
    """
    for name, values in _preconditions(base, new).items():
        if values[0] != values[1]:
            raise OtherMachine(f"{base.path} and {new.path} do not compare: {name} {values[0]} against {values[1]}")
    plans = base.header.plan, new.header.plan
    paired = "comparison" in plans[0] and plans[0]["comparison"] == plans[1].get("comparison")
    named: dict[Any, str | None] = dict(zip(("base", "new"), plans[0]["sides_backends"], strict=True)) if paired else {}
    others = [named.get(plan.get("side")) or "" for plan in reversed(plans)]
    sides = Sides(by_key(base.records, others[0], last=True), by_key(new.records, others[1]), paired, statistic)
    if not sides.base.keys() & sides.new.keys():
        raise NothingInCommon(f"{base.path} and {new.path} have no case and backend in common")
    return sides


def by_key(records: Iterable[Record], other: str = "", last: bool = False) -> dict[Key, dict[int, Record]]:
    """Records by row and replicate. `other` is the other side's backend where it differs, named `last` or first."""
    found: dict[Key, dict[int, Record]] = {}
    for record in records:
        if record.backend in NOT_COMPARED:
            continue
        both = (record.backend, other) if last else (other, record.backend)
        name = " → ".join(both) if other and other != record.backend else record.backend
        found.setdefault(Key(record.study, record.case, name), {})[record.replicate] = record
    return found


def memory(base: list[float], new: list[float]) -> Decision:
    """Peaks hardly vary: worse is what lies beyond 1 % and 2 MiB in every repeat."""
    change, low, high = (
        (statistics.median(new) + 1) / (statistics.median(base) + 1),
        (min(new) + 1) / (max(base) + 1),
        (max(new) + 1) / (min(base) + 1),
    )  # a peak of no bytes is possible
    more = min(new) - max(base) > max(LEAST_BYTES, LEAST_SHARE * max(base))
    less = min(base) - max(new) > max(LEAST_BYTES, LEAST_SHARE * max(new))
    verdict = "SLOWER" if more else "FASTER" if less else "SAME"
    return Decision(verdict, change, low, high, min(len(base), len(new)))


def accuracy(base: float, new: float) -> Decision:
    """Errors are those of the same inputs, so they repeat: worse is more than twice the error."""
    if base == new:
        return Decision("SAME", 1.0, pairs=1)
    verdict = "SLOWER" if new > WORSE_ERROR * base else "FASTER" if base > WORSE_ERROR * new else "SAME"
    return Decision(verdict, new / base if base else None, pairs=1)  # an error from nothing has no factor


def exit_code(decisions: Iterable[Decision]) -> int:
    """The exit code of verdicts on time: 1 something is slower, 0 nothing is, 3 nothing could be decided."""
    verdicts = {decision.verdict for decision in decisions}
    if "SLOWER" in verdicts:
        return 1
    return 0 if verdicts & {"SAME", "FASTER"} else 3


def _means(cases: list[dict[int, float]]) -> list[float]:
    """ln of the geometric mean over cases, by the replicates that all of them have."""
    shared = sorted(set.intersection(*map(set, cases))) if cases else []
    return [statistics.fmean(math.log(times[number]) for times in cases) for number in shared]


def _at_a_glance(log_changes: np.ndarray) -> Decision:
    """All pairs at once, for what is shown and raises no alarm."""
    count = len(log_changes)
    if count < 2:
        return Decision("UNDECIDED", reason="too few pairs", pairs=count)
    whole = replace(FIRST_CALL, stages=(count,), confirming=0)
    return decide(dict(enumerate(log_changes)), whole)


def _metrics(records: Mapping[int, Record]) -> dict[str, list[Measurement]]:
    found: dict[str, list[Measurement]] = {}
    for _, record in sorted(records.items()):
        for item in record.measurements:
            if item.samples and item.metric != "host_time":
                found.setdefault(item.metric, []).append(item)
    return found


def _clock(records: Iterable[Record]) -> float | None:
    measured = [record.conditions for record in records if record.status == "ok"]
    clocks = [conditions["sm_clock_mhz"] for conditions in measured if conditions.get("sm_clock_mhz") is not None]
    return statistics.median(clocks) if clocks else None


def _preconditions(base: Run, new: Run) -> dict[str, tuple[Any, Any]]:
    headers = base.header, new.header
    threads = tuple(header.environment.get("cpu", {}).get("threads") for header in headers)
    hosts = [header.environment.get("host") for header in headers]
    return {
        "machine": (headers[0].machine, headers[1].machine),
        "host": (hosts[0], hosts[1]) if all(hosts) else (None, None),  # older runs do not say
        "protocol": (headers[0].protocol, headers[1].protocol),
        "threads": (threads[0], threads[1]),
    }


# A comparison as people and programs read it: rows of text, Markdown for a pull request, plain values for JSON.

MARKS = {"SLOWER": "🔴", "FASTER": "🟢", "SAME": "⚪", "UNDECIDED": "🟡", "UNCOMPARABLE": "⚫"}
# A verdict is about time; the other metrics have words of their own.
WORDS = {
    "B": {"SLOWER": "MORE", "FASTER": "LESS"},
    "1": {"SLOWER": "LESS ACCURATE", "FASTER": "MORE ACCURATE"},
}
NAMES = {"first_call": "first call", "rss_peak": "peak resident memory", "device_peak": "peak device memory"}


def change(value: float | None) -> str:
    """New over base as people say it: +3.1 %, −12 %, or a factor from twice on."""
    if value is None or math.isnan(value):
        return ""
    if value >= 2 or value <= 0.5:
        return f"×{format_significant(value)}"
    share = 100 * (value - 1)
    return f"{'−' if share < 0 else '+'}{format_significant(abs(share), 2) if abs(share) >= 0.005 else '0'} %"


def interval(decision: Decision) -> str:
    """A decision's change with its interval, as `+3.1 % [+2.0 %, +4.2 %]`; without one where there is none."""
    if decision.low is None or decision.high is None:
        return change(decision.change)
    return f"{change(decision.change)} [{change(decision.low)}, {change(decision.high)}]"


def verdict(row: Row) -> str:
    return WORDS.get(row.unit, {}).get(row.decision.verdict, row.decision.verdict)


def note(decision: Decision) -> str:
    """Why, and what it would take."""
    needed = ""
    if decision.verdict == "UNDECIDED" and not decision.next:
        needed = f"about {decision.needed} pairs would decide" if decision.needed else ""
    return "; ".join(filter(None, [decision.reason, needed]))


def texts(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Time in full; of the other metrics what got better or worse."""
    shown = [row for row in rows if row.metric == "time" or row.decision.verdict in ("SLOWER", "FASTER")]
    order = {name: index for index, name in enumerate(MARKS)}
    return [_text(row) for row in sorted(shown, key=lambda row: (row.metric != "time", order[row.decision.verdict]))]


def _text(row: Row) -> dict[str, str]:
    return {
        "case": row.key.case,
        "backend": row.key.backend,
        "metric": NAMES.get(row.metric, row.metric),
        "base": "" if row.base is None else _value(row.base, row.unit),
        "new": "" if row.new is None else _value(row.new, row.unit),
        "change": interval(row.decision),
        "pairs": str(row.decision.pairs or ""),
        "verdict": verdict(row),
        "note": note(row.decision),
    }


def _value(value: float, unit: str) -> str:
    return f"{value:.2g}" if unit == "1" else format_si(value, unit)


def headline(rows: Sequence[Row], overall: Decision | None) -> str:
    """One sentence: how many of each verdict on time, and the geometric mean."""
    mean = f" Geometric mean of the time: {interval(overall)}." if overall is not None and timed_rows(rows) > 1 else ""
    return f"{counted_verdicts(rows)}.{mean}"


def counted_verdicts(rows: Sequence[Row]) -> str:
    """How many of each verdict on time."""
    counted = Counter(row.decision.verdict for row in rows if row.metric == "time")
    return ", ".join(f"{count} {name}" for name in MARKS if (count := counted.get(name))) or "nothing was compared"


def timed_rows(rows: Sequence[Row]) -> int:
    """How many rows are about time."""
    return sum(row.metric == "time" for row in rows)


def values(base: str, new: str, rows: Sequence[Row], overall: Decision | None, remarks: Sequence[str]) -> dict[str, Any]:
    """A comparison for a program, as `compare --json` prints it.

    Args:
        base, new: names of the two sides.
        rows: of `Sides.rows`.
        overall: the geometric mean over cases, or None.
        remarks: sentences on how the runs were read.

    Returns:
        Values in SI units; `change`, `low` and `high` are new over base, so above 1 the new side is slower or larger.
    """
    return {
        "base": base,
        "new": new,
        "overall": None if overall is None else _decision(overall),
        "rows": [
            {**row.key._asdict(), "metric": row.metric, "unit": row.unit, "base": row.base, "new": row.new}
            | _decision(row.decision) | {"verdict": verdict(row)}
            for row in rows
        ],
        "remarks": list(remarks),
    }  # fmt: skip


def _decision(decision: Decision) -> dict[str, Any]:
    return {name: value for name, value in asdict(decision).items() if name != "next"}
