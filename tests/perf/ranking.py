"""Proof of the rankings of `run quick`: the whole adaptive procedure on drawn suites, and repeated runs beside each other.

    python -m tests.perf.ranking simulate [SUITES]     200 suites at each true ratio, from stored runs
    python -m tests.perf.ranking runs FILE…            runs of `quick` on one machine

`simulate` draws suites of seven backends in three phases from real processes: the logarithms of their times about their mean,
of all cases together, so that what disturbs several cases of a replicate at once still does. A replicate is drawn without
replacement and its deviations get a common random sign, so that a case's mean is known to be zero. Half of the backends then
take longer by the true ratio. Exit code 1 where less than 93 % of the intervals hold the truth.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from analysis.report.findings import find_out
from analysis.report.load import load
from analysis.report.words import format_percent
from analysis.statistics.rankings import At, Pair, Part, Ranking, further_replicates, rank_grids
from bench.harness.suites import SUITES
from bench.processes.code import ROOT
from results import store

TRUE_RATIOS = (1.0, 1.03, 1.05, 1.2)
LEAST_COVERAGE = 0.93
BACKENDS = 7
CASES = {"forward": 4, "forward_backward": 1, "step": 1}  # as in quick
SECONDS_A_CASE, SECONDS_LEFT = 2.4, 40.0  # on a backend in a further replicate, and for all of these, as in quick
LEAST_REPLICATES = 5  # of a run that suites are drawn from
SOURCES = ("results/certificates", "results/runs/2026-11-24", "results/runs/2026-11-22")


def processes(sources: Sequence[str] = SOURCES) -> list[np.ndarray]:
    """Of each stored run with enough replicates [cases and backends, replicates], deviations of ln(time) from their mean."""
    found = []
    for folder in sources:
        for path in store.find(ROOT / folder):
            logs: dict[tuple[str, ...], dict[int, float]] = {}
            for record in store.read(path).records:
                for measured in record.measurements:
                    if measured.metric == "time" and record.status == "ok" and record.backend != "null":
                        value = math.log(float(np.quantile(measured.samples, 0.25)))
                        logs.setdefault((record.study, record.case, record.backend), {})[record.replicate] = value
            replicates = max((len(own) for own in logs.values()), default=0)
            rows = [list(own.values()) for own in logs.values() if len(own) == replicates]
            if replicates >= LEAST_REPLICATES:
                values = np.array(rows)
                found.append((values - values.mean(axis=1, keepdims=True)) * math.sqrt(replicates / (replicates - 1)))
    return found


@dataclass(frozen=True, slots=True)
class Drawn:
    """Pairs at a true ratio, in all phases of all suites: how many, and of how many the interval held it, the ranking was
    decided, the wrong one was called faster (at a ratio of 1: any), two that differ by more were called within 5 %, and the
    right one was called faster."""

    pairs: int
    covered: int
    decided: int
    flipped: int
    alike: int
    right: int
    further: float

    @property
    def flips(self) -> float:
        """Share of pairs that two such runs would rank in opposite ways; at a ratio of 1 one way is as likely as the other."""
        ways = (self.right, self.flipped) if self.right else (self.flipped / 2, self.flipped / 2)
        return 2 * ways[0] * ways[1] / self.pairs**2

    @property
    def coverage(self) -> float:
        return self.covered / self.pairs


def adaptive(logs: Mapping[At, np.ndarray], fixed: int, seconds: float = SECONDS_LEFT) -> tuple[dict[At, Ranking], int]:
    """The rankings of `run quick`: fixed replicates, one look, and further ones where it is open. Also how many of these.

    logs: of each phase [backends, replicates, cases], of which as many are read as are measured.
    """
    names = [str(number) for number in range(next(iter(logs.values())).shape[0])]
    most = next(iter(logs.values())).shape[1]
    first = {at: rank_grids(dict(zip(names, own[:, :fixed], strict=True)), names[0], fixed=fixed) for at, own in logs.items()}
    cases = {at: [(at[1], str(case)) for case in range(own.shape[2])] for at, own in logs.items()}
    seconds_of = {(*key, name): SECONDS_A_CASE for keys in cases.values() for key in keys for name in names}
    chosen: list[set[Part]] = [parts for parts, _ in further_replicates(first, cases, seconds_of, seconds)][: most - fixed]
    if not chosen:
        return first, 0
    measured = {at: own[:, : fixed + len(chosen)].copy() for at, own in logs.items()}
    for number, parts in enumerate(chosen, fixed):
        for at, own in measured.items():
            for place, name in enumerate(names):
                if (*cases[at][0], name) not in parts:
                    own[place, number] = np.nan
    last = {at: rank_grids(dict(zip(names, own, strict=True)), names[0], fixed=fixed) for at, own in measured.items()}
    return last, len(chosen)


def simulate(sources: Sequence[np.ndarray], ratio: float, suites: int, seed: int = 0) -> Drawn:
    """The whole procedure on drawn suites in which every second backend takes `ratio` times as long."""
    random = np.random.default_rng(seed)
    fixed = SUITES["quick"].replicates
    truth = np.log(ratio) * (np.arange(BACKENDS) % 2)
    counts, further = np.zeros(6, int), 0
    for number in range(suites):
        source = sources[number % len(sources)]
        replicates = random.permutation(source.shape[1])
        signs = random.choice((-1.0, 1.0), len(replicates))
        logs = {}
        for phase, count in CASES.items():
            rows = random.integers(len(source), size=(BACKENDS, count))
            drawn = source[rows][:, :, replicates] * signs
            logs["cpu", phase, "eager"] = drawn.transpose(0, 2, 1) + truth[:, None, None]
        rankings, more = adaptive(logs, fixed)
        further += more
        for (first, second), pair in (each for ranking in rankings.values() for each in ranking.pairs.items()):
            difference = truth[int(second)] - truth[int(first)]
            if difference or ratio == 1:
                counts += _counted(pair, float(difference))
    return Drawn(*map(int, counts), further / suites)


def _counted(pair: Pair, difference: float) -> np.ndarray:
    low, high = pair.speedup.low, pair.speedup.high
    covered = low is not None and high is not None and math.log(low) <= difference <= math.log(high)
    said = {"faster": 1, "slower": -1}.get(pair.verdict, 0)
    flipped = said != 0 and said != np.sign(difference)
    alike = pair.verdict == "within" and abs(difference) > math.log(1.05) + 1e-9
    return np.array([1, covered, pair.verdict != "open", flipped, alike, said != 0 and not flipped])


# Repeated runs.


@dataclass(frozen=True, slots=True)
class Repeated:
    """decided: of each run, the share of pairs that are ranked or within 5 %. flips: of `compared` times that two runs call
    one of two backends faster, how often not the same. covered of `intervals`: those that hold the mean of the other runs."""

    decided: tuple[float, ...]
    pairs: int
    flips: int
    compared: int
    covered: int
    intervals: int


def repeated(runs: Sequence[Mapping[tuple[At, str, str], Pair]]) -> Repeated:
    """Compare runs by the pairs that all of them have."""
    common = sorted(set.intersection(*(set(run) for run in runs)))
    flips = compared = covered = intervals = 0
    for key in common:
        pairs = [run[key] for run in runs]
        ranked = [{"faster": 1, "slower": -1}.get(pair.verdict, 0) for pair in pairs]
        compared += sum(bool(one and other) for one, other in itertools.combinations(ranked, 2))
        flips += sum(one * other < 0 for one, other in itertools.combinations(ranked, 2))
        logs = [math.log(pair.speedup.value) for pair in pairs]
        for pair, own in zip(pairs, logs, strict=True):
            if pair.speedup.low is not None and pair.speedup.high is not None:
                others = (sum(logs) - own) / (len(logs) - 1)
                covered += math.log(pair.speedup.low) <= others <= math.log(pair.speedup.high)
                intervals += 1
    decided = tuple(sum(run[key].verdict != "open" for key in common) / len(common) for run in runs)
    return Repeated(decided, len(common), flips, compared, covered, intervals)


def sound_share(runs: int) -> float:
    """How many 95 % intervals of one run hold the mean of the others, which has an error of its own, if all are sound."""
    return float(2 * stats.norm.cdf(stats.norm.ppf(0.975) / math.sqrt(1 + 1 / (runs - 1))) - 1)


def pairs_of(path: Path) -> dict[tuple[At, str, str], Pair]:
    """Every pair of a run, its backends in alphabetical order."""
    rankings = find_out(load([path])[0]).rankings
    return {
        (at, *sorted(names)): ranking.pair(*sorted(names)) for at, ranking in rankings.items() for names in ranking.pairs
    }  # fmt: skip


def compare_runs(paths: Sequence[Path]) -> Iterator[str]:
    runs = [pairs_of(path) for path in paths]
    found = repeated(runs)
    yield "| run | seconds | sampling | not sampling | replicates | ranked or within 5 % |"
    yield "|---|---|---|---|---|---|"
    for path, run, share in zip(paths, runs, found.decided, strict=True):
        footer = store.read(path).footer
        most = max(pair.speedup.replicates for pair in run.values())
        times = "| | |"
        if footer is not None and footer.seconds:
            other = 1 - footer.measuring_seconds / footer.seconds
            sampling = (footer.measuring_seconds - (footer.warm_up_seconds or 0.0)) / footer.seconds
            times = f"{footer.seconds:.0f} | {format_percent(sampling)} | {format_percent(other)}"
        yield f"| {path.name} | {times} | {most} | {format_percent(share)} of {found.pairs} |"
    yield f"ranked or within 5 %, mean of the runs: {format_percent(sum(found.decided) / len(found.decided))}"
    if found.compared:
        share = format_percent(found.flips / found.compared)
        yield f"rankings that flip between two runs: {found.flips} of {found.compared} ({share})"
    if found.intervals:
        share, sound = format_percent(found.covered / found.intervals, 3), format_percent(sound_share(len(runs)), 3)
        yield f"intervals that hold the mean of the other runs: {found.covered} of {found.intervals} ({share}; sound: {sound})"


def main(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["simulate"]:
        suites, sources, least = int(arguments[1]) if len(arguments) > 1 else 200, processes(), 1.0
        print("| true ratio | pairs | coverage | ranked or within 5 % | wrong way | flips | wrongly within 5 % | further |")
        print("|---|---|---|---|---|---|---|---|")
        for ratio in TRUE_RATIOS:
            drawn = simulate(sources, ratio, suites)
            shares = [drawn.decided / drawn.pairs, drawn.flipped / drawn.pairs, drawn.flips, drawn.alike / drawn.pairs]
            told = " | ".join([format_percent(drawn.coverage, 3), *map(format_percent, shares)])
            print(f"| {ratio:g} | {drawn.pairs} | {told} | {drawn.further:.1f} |", flush=True)
            least = min(least, drawn.coverage)
        return int(least < LEAST_COVERAGE)
    if arguments[:1] == ["runs"] and len(arguments) > 2:
        print(*compare_runs([Path(each) for each in arguments[1:]]), sep="\n")
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
