"""Noise calibration of a machine by A/A pairs: noise floor and minimum detectable effect by case, false alarms of a suite."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from analysis import AnalysisError
from analysis.regression.comparison import USUAL, Key, Sides
from analysis.report.words import format_percent
from analysis.statistics.decision import ALPHA, FIRST_CONFIRMING, POWER, STAGES, Rule, bounds, decide, detectable, quantile
from analysis.statistics.ratios import STATISTICS, Statistic
from results import fields, output
from results.record import Header

# How often a whole suite would alert though nothing has changed: suites drawn from pairs of a thing with itself.

K = TypeVar("K", bound=Hashable)
SUITES = 2000
CHUNK = 100  # suites drawn at once


@dataclass(frozen=True, slots=True)
class SuiteAlarms:
    """Shares of `suites` drawn suites of `cases` rows, each from `pairs` measured pairs, in which something was called SLOWER.

    looked: by the stages alone, without a calibration. confirmed: after fresh pairs as well, still without a calibration.
    certified: also beyond the calibration's floors.
    """

    cases: int
    pairs: int
    suites: int
    looked: float
    confirmed: float
    certified: float

    @property
    def sentence(self) -> str:
        looked, confirmed, certified = map(format_percent, (self.looked, self.confirmed, self.certified))
        return (
            f"Of {self.suites} suites of {self.cases} rows drawn from {self.pairs} real pairs, {looked} look slower somewhere, "
            f"{confirmed} alert after confirmation, {certified} with this calibration."
        )


def suite_false_alarms(
    by_pair: Mapping[K, Mapping[int, float]], rules: Mapping[K, Rule], suites: int = SUITES
) -> SuiteAlarms | None:
    """Draw comparisons of all cases from ln(A/A) by pair number, and judge each as `decide` would.

    A suite draws pair numbers with replacement, the same for every case, so that what disturbs several cases at once still
    does. In half of the suites A and A change places, all pairs together, so that a lasting difference between them remains
    one. What the pairs scatter about zero counts as such a difference: the shares are rather too high. None where the cases
    have fewer than two pairs in common.
    """
    shared = sorted(set.intersection(*(set(changes) for changes in by_pair.values()))) if by_pair else []
    if len(shared) < 2:
        return None
    values = np.array([[changes[number] for number in shared] for changes in by_pair.values()])
    calibrated = [rules[key] for key in by_pair]
    usual = [replace(rule, floor=None, detectable=None) for rule in calibrated]
    random = np.random.default_rng(0)
    ways = ([replace(rule, confirming=0) for rule in usual], usual, calibrated)
    counts = np.zeros(len(ways), int)
    for first in range(0, suites, CHUNK):
        size = min(CHUNK, suites - first)
        pairs = usual[0].stages[-1] + usual[0].confirming
        drawn = random.integers(len(shared), size=(size, pairs))
        signs = random.choice((-1.0, 1.0), size)
        for suite in range(size):
            chosen = signs[suite] * values[:, drawn[suite]]
            counts += [alarms(chosen, rules).any() for rules in ways]
    return SuiteAlarms(len(values), len(shared), suites, *(float(count) / suites for count in counts))


def alarms(chosen: np.ndarray, rules: Sequence[Rule]) -> np.ndarray:
    """Which comparisons `decide` calls SLOWER: row by row the pairs of the stages, then the confirming ones; all rules have
    the same numbers of them.

    `decide` itself, which takes long, is asked only where a t-interval lies beyond the margin at some stage: elsewhere it
    never says so.
    """
    stages, confirming = rules[0].stages, rules[0].confirming
    margins = np.array([rule.margin for rule in rules])
    might = np.zeros(len(chosen), bool)
    for stage in stages:
        looked = chosen[:, :stage]
        error = looked.std(axis=1, ddof=1) / np.sqrt(stage)
        might |= looked.mean(axis=1) - quantile(ALPHA, stage - 1) * error > margins
    numbers = [*range(stages[-1]), *range(FIRST_CONFIRMING, FIRST_CONFIRMING + confirming)]
    for row in map(int, np.flatnonzero(might)):
        pairs = dict(zip(numbers, chosen[row, : len(numbers)], strict=True))
        might[row] = decide(pairs, rules[row]).verdict == "SLOWER"
    return might


SUFFIX = ".certificate.json"
WANTED = 0.03  # the slow-down whose price is named
COMPARISONS = 400  # resampled comparisons a case, for its rate of false alarms
MOST_PAIRS = 1000
LEAST_PAIRS = 5


class NoCalibration(AnalysisError):
    """Pairs that calibrate nothing."""


@dataclass(frozen=True, slots=True)
class CalibratedCase:
    """One case against itself. Log ratios unless said otherwise.

    spread: standard deviation between pairs; worst: the largest of them. bias: their mean. floor: how far from zero the mean
    may lie at 99.5 %, each way. false_alarms: share of resampled comparisons called SLOWER without and with confirmation.
    detectable: the slow-down found in 95 of 100 comparisons of 20 pairs. pairs_wanted: pairs to find 3 %, None beyond 1000.
    """

    pairs: int
    spread: float
    worst: float
    bias: float
    floor: float
    false_alarms: float
    confirmed_false_alarms: float
    detectable: float
    pairs_wanted: int | None
    seconds_per_pair: float

    @property
    def seconds_wanted(self) -> float | None:
        return None if self.pairs_wanted is None else self.pairs_wanted * self.seconds_per_pair


@dataclass(frozen=True, slots=True)
class Calibration:
    """Of one machine, protocol, number of threads, and suite: another suite samples for longer or shorter, so that its noise
    is another. within: share of A/A ratios of single pairs within 3 %, by statistic. alarms: see `SuiteAlarms`."""

    machine: str
    protocol: int
    threads: int
    suite: str
    made: str
    statistic: Statistic
    within: dict[str, float]
    repeats: dict[str, float]  # median over cases of the root mean square of ln(A/A), by statistic
    cases: dict[Key, CalibratedCase]
    alarms: SuiteAlarms | None = None

    def holds_for(self, header: Header) -> bool:
        """Whether a run was made as this calibration was."""
        threads = header.environment.get("cpu", {}).get("threads")
        said = header.machine, header.protocol, threads, header.plan.get("suite")
        return said == (self.machine, self.protocol, self.threads, self.suite)

    def rule(self, key: Key, usual: Rule = USUAL) -> Rule | None:
        """The usual rule with a row's noise; of two backends the less quiet one counts. None unless all are calibrated."""
        found = [self.cases.get(key._replace(backend=name)) for name in key.backend.split(" → ")]
        known = [case for case in found if case]
        if len(known) < len(found):
            return None
        floored = replace(usual, floor=max(case.floor for case in known))
        spread = max(case.spread for case in known)
        return replace(floored, detectable=detectable(spread, usual.stages[-1], floored))

    @property
    def sentence(self) -> str:
        """What can be detected here, and what the rest would cost."""
        able = [case for case in self.cases.values() if case.detectable <= math.log1p(WANTED)]
        rest = [case for case in self.cases.values() if case.detectable > math.log1p(WANTED)]
        said = f"{format_percent(WANTED)} can be detected on {len(able)} of {len(self.cases)} cases with {STAGES[-1]} pairs"
        if not rest:
            return said + "."
        priced = [(case.pairs_wanted, case.seconds_wanted) for case in rest if case.pairs_wanted]
        if not priced:
            return f"{said}; the rest repeat too badly for any number of pairs."
        minutes = sum(seconds or 0 for _, seconds in priced) / 60
        beyond = f", and {len(rest) - len(priced)} at no price" if len(priced) < len(rest) else ""
        most = max(count or 0 for count, _ in priced)
        return f"{said}; {len(priced)} more would take up to {most} pairs, about {minutes:.0f} min{beyond}."

    def to_dict(self) -> dict[str, object]:
        cases = [{**key._asdict(), **asdict(case)} for key, case in self.cases.items()]
        plain = {name: getattr(self, name) for name in self.__slots__ if name not in ("cases", "alarms", "statistic")}
        return {**plain, "location": self.statistic, "alarms": asdict(self.alarms) if self.alarms else None, "cases": cases}

    def write(self, path: Path) -> Path:
        """Written whole or not at all."""
        output.write_text(path, json.dumps(self.to_dict(), indent=1))
        return path


def calibrate(sides: Sides, machine: str, protocol: int, threads: int, suite: str, made: str) -> Calibration:
    """Noise calibration (A/A test) of a machine from pairs of identical sides.

    Args:
        sides: base and new, which ran the same code.
        machine, protocol, threads, suite: what the calibration holds for.
        made: moment, in ISO 8601.

    Returns:
        The minimum detectable effect of each case, and the statistic under which A/A ratios of single pairs scatter least.

    Raises:
        NoCertificate: no case has enough pairs.
    """
    changes = {statistic: _changes(replace(sides, statistic=statistic)) for statistic in STATISTICS}
    if not any(changes.values()):
        raise NoCalibration(f"no case was measured in {LEAST_PAIRS} pairs or more, so nothing can be calibrated")
    repeats = {
        statistic: statistics.median(math.sqrt(float(np.mean(values**2))) for values in found.values())
        for statistic, found in changes.items()
    }
    within = {
        statistic: float(np.mean(np.abs(np.concatenate(list(found.values()))) <= math.log1p(WANTED)))
        for statistic, found in changes.items()
    }
    best = min(STATISTICS, key=lambda statistic: repeats[statistic])
    cases = {key: _case(values, _seconds(sides, key)) for key, values in changes[best].items()}
    made_so = Calibration(machine, protocol, threads, suite, made, best, within, repeats, cases)
    measured = replace(sides, statistic=best)
    by_pair = {key: measured.log_changes(key) for key in cases}
    return replace(made_so, alarms=suite_false_alarms(by_pair, {key: made_so.rule(key) or Rule() for key in cases}))


def newest_for(root: Path, header: Header) -> Calibration | None:
    """The latest calibration below `root` that holds for a run."""
    cpu, suite = header.environment.get("cpu", {}), header.plan.get("suite")
    return newest(root, header.machine, header.protocol, cpu.get("threads"), suite)


def newest(root: Path, machine: str, protocol: int, threads: int | None, suite: str | None) -> Calibration | None:
    """The latest calibration that holds for a machine, protocol, number of threads and suite; None where there is none.

    Args:
        root: folder of calibrations, searched recursively.
        machine, protocol, threads, suite: as in a run's header.
    """
    for path in sorted(root.rglob(f"*{SUFFIX}"), key=lambda path: (path.parts[-3:-1], path.name), reverse=True):
        found = read(path)
        if (found.machine, found.protocol, found.threads, found.suite) == (machine, protocol, threads, suite):
            return found
    return None


def read(path: Path) -> Calibration:
    """Raises `AnalysisError` for a file that is none."""
    try:
        values = fields.from_json(path.read_text(encoding="utf-8"))
        fields.check(values, FIELDS)
        cases = {}
        for case in values.pop("cases"):
            key = Key(case.pop("study"), case.pop("case"), case.pop("backend"))
            cases[key] = CalibratedCase(**case)
        counted, statistic = values.pop("alarms"), values.pop("location")  # its name on disk
        return Calibration(**values, statistic=statistic, cases=cases, alarms=SuiteAlarms(**counted) if counted else None)
    except OSError as error:
        raise AnalysisError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise AnalysisError(
            f"{path} is no calibration: {error}; delete it, and make another with: lstm-bench calibrate"
        ) from error


def _is_case(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    numbers = {name: item for name, item in value.items() if name not in _TEXTS}
    return all(map(fields.is_text, map(value.get, _TEXTS))) and all(map(fields.or_none(fields.is_number), numbers.values()))


_TEXTS = ("study", "case", "backend")
FIELDS: dict[str, fields.Check] = {
    "machine": fields.is_text, "protocol": fields.is_count, "threads": fields.is_count, "suite": fields.is_text,
    "made": fields.is_moment, "location": lambda value: value in STATISTICS, "within": fields.is_table_of(fields.is_number),
    "repeats": fields.is_table_of(fields.is_number), "cases": fields.is_list_of(_is_case),
    "alarms": fields.or_none(fields.is_table_of(fields.is_number)),
}  # fmt: skip


def _changes(sides: Sides) -> dict[Key, np.ndarray]:
    return dict(_enough(sides))


def _enough(sides: Sides) -> Iterator[tuple[Key, np.ndarray]]:
    for key in sides.keys():
        changes = sides.log_changes(key)
        if len(changes) >= LEAST_PAIRS:
            yield key, np.array([changes[number] for number in sorted(changes)])


def _case(values: np.ndarray, seconds_per_pair: float) -> CalibratedCase:
    spread = float(values.std(ddof=1))
    bias, low, high = bounds(values, ALPHA)
    floor = max(-low, high)
    rule = Rule(floor=floor)
    false = _false_alarms(values, rule)
    return CalibratedCase(
        pairs=len(values), spread=spread, worst=float(np.max(np.abs(values))), bias=bias, floor=floor,
        false_alarms=false[0], confirmed_false_alarms=false[1], detectable=detectable(spread, STAGES[-1], rule, POWER),
        pairs_wanted=_pairs_wanted(spread, rule), seconds_per_pair=seconds_per_pair,
    )  # fmt: skip


def _false_alarms(values: np.ndarray, rule: Rule) -> tuple[float, float]:
    """Comparisons drawn from these pairs with replacement, each pair either way round, since A and A may change places."""
    random = np.random.default_rng(0)
    shape = COMPARISONS, rule.stages[-1] + rule.confirming
    drawn = random.choice(values, shape) * random.choice((-1.0, 1.0), shape)
    before, after = (alarms(drawn, [one] * COMPARISONS).mean() for one in (replace(rule, confirming=0), rule))
    return float(before), float(after)


def _pairs_wanted(spread: float, rule: Rule) -> int | None:
    count = LEAST_PAIRS
    while count <= MOST_PAIRS:
        if detectable(spread, count, rule, POWER) <= math.log1p(WANTED):
            return count
        count = max(count + 1, int(count * 1.05))
    return None


def _seconds(sides: Sides, key: Key) -> float:
    """What a pair of this case took, both sides together."""
    return 2 * statistics.fmean(record.seconds for side in (sides.base, sides.new) for record in side[key].values())
