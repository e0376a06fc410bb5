"""`lstm-bench compare` and `calibrate`: two sides, or this checkout twice, measured in pairs until the rule has decided.

The only place where measuring and deciding meet: `bench` measures the pairs that `analysis` asks for.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import impls
from analysis.regression import calibration, history
from analysis.regression.calibration import Calibration
from analysis.regression.comparison import Key, OtherMachine, Row, Sides, by_key, exit_code, from_runs
from analysis.statistics.decision import CONFIRMING, STAGES, Decision, Rule, decide
from analysis.statistics.ratios import Statistic
from bench.harness.plan import Plan
from bench.harness.run import Listener
from bench.machine import environment
from bench.processes.code import ROOT, Code, CodeFails, SourceInfo
from bench.regression import comparison, user_repository
from bench.regression.comparison import ComparisonSide, PairedCase, Pairs, Side
from bench.regression.revisions import DoesNotRun, Repository, code_of, working_tree
from lstm_bench.errors import UserError
from results import store

BACKEND = "backend:"
HERE = user_repository.WORKING_TREE  # the checkout as it is, with whatever is not committed


class UnclearSides(UserError, ValueError):
    """Two sides that cannot be compared as asked; the message says how to ask."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to compare. `statistic` is the requested one, else the calibration's, else the median."""

    repository: Repository = field(default_factory=Repository)
    build: bool = False
    memory: bool = True
    stages: tuple[int, ...] = STAGES
    confirming: bool = True
    requested_statistic: Statistic | None = None
    calibration: Calibration | None = None
    tolerated: float = Rule().tolerated  # see `Rule`, as is `hidden`
    hidden: float = Rule().hidden
    only: Key | None = None  # compare this row and no other

    @property
    def statistic(self) -> Statistic:
        return self.requested_statistic or (self.calibration.statistic if self.calibration else "median")

    @property
    def calibrated(self) -> Calibration | None:
        """The calibration if its floors hold: those of one statistic say nothing of another."""
        return self.calibration if self.calibration and self.statistic == self.calibration.statistic else None

    def judged(self, sides: Sides) -> Sides:
        """The sides under the rules that hold here: this machine's noise floor, these stages."""
        confirming = CONFIRMING if self.confirming else 0
        usual = Rule(tolerated=self.tolerated, hidden=self.hidden, stages=self.stages, confirming=confirming)
        calibrated = {key: self.calibrated.rule(key, usual) for key in sides.keys()} if self.calibrated else {}
        return replace(sides, rules={key: rule for key, rule in calibrated.items() if rule}, usual=usual)

    def remarks(self, rows: Sequence[Row]) -> list[str]:
        """Which statistic of a side is compared, and what is known of this machine's noise."""
        said = [f"Each side of a pair is its {self.statistic.replace('_', ' ')}."]
        if self.calibration is None:
            paths = os.pathsep.join(self.repository.backends)
            command = shlex.join(["lstm-bench", "calibrate", *([user_repository.OPTION, paths] if paths else [])])
            return [*said, f"Not calibrated: the minimum detectable effect here is not known. Measure it with: {command}"]
        if not self.calibrated:
            return [
                *said,
                f"The calibration is of the {self.calibration.statistic.replace('_', ' ')}, so nothing is calibrated here.",
            ]
        times = [row.key for row in rows if row.metric == "time"]
        lacking = sum(self.calibration.rule(key) is None for key in times)
        said.append(f"Calibration of {self.calibration.made[:10]}: {self.calibration.sentence}")
        return [*said, f"{lacking} of {len(times)} cases are not in the calibration."] if lacking else said


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was found, how the sides are called, and where it is stored."""

    base: str
    new: str
    rows: list[Row]
    overall: Decision | None
    remarks: list[str]
    paths: list[Path]

    @property
    def exit_code(self) -> int:
        return exit_code(row.decision for row in self.rows if row.metric == "time")


def compare(
    base: str, new: str, plan: Callable[[], Plan], root: Path, listener: Listener, options: Options, *, resume: bool = False
) -> Outcome:
    """Compare two runs on disk, or measure two revisions or two backends against each other below `root`."""
    if kind_of_both(base, new) == "run":
        return stored(base, new, options)
    chosen = plan()
    with comparison_sides({"base": base, "new": new}, chosen.threads, options) as sides:
        return measured(sides, chosen, root, listener, options, resume)


def measured(
    sides: Mapping[Side, ComparisonSide], plan: Plan, root: Path, listener: Listener, options: Options, resume: bool = False
) -> Outcome:
    """Measure pairs until every case is decided or has had all its pairs."""
    same_protocol(sides)
    questions, asked = _asked(plan, sides, options)
    with comparison.opened(plan, sides, root, listener, asked, resume) as opened:
        measure_until_decided(opened.pairs, questions, lambda: current_results(opened.pairs, sides, options))
        final = current_results(opened.pairs, sides, options)
        paths = list(opened.paths.values())
    rows = final.rows()
    remarks = [*options.remarks(rows), *_remarks(sides)]
    return Outcome(sides["base"].shown, sides["new"].shown, rows, final.overall(), remarks, paths)


def measured_once(
    sides: Mapping[Side, ComparisonSide], plan: Plan, root: Path, listener: Listener, options: Options
) -> Outcome:
    """As `measured`, but what was compared before is read, and what was interrupted is finished."""
    same_protocol(sides)
    _, asked = _asked(plan, sides, options)
    earlier = comparison.earlier(plan, sides, root, asked)
    if earlier is None or not all(run.finished for run in earlier.values()):
        return measured(sides, plan, root, listener, options, resume=earlier is not None)
    return stored(str(earlier["base"].path), str(earlier["new"].path), options)


def same_protocol(sides: Mapping[Side, ComparisonSide]) -> None:
    said = sides["base"].introduction, sides["new"].introduction
    if said[0].protocol != said[1].protocol:
        raise OtherMachine(
            f"{sides['base'].label} measures by protocol {said[0].protocol}, {sides['new'].label} by protocol "
            f"{said[1].protocol}: their numbers mean different things"
        )


def _asked(plan: Plan, sides: Mapping[Side, ComparisonSide], options: Options) -> tuple[list[PairedCase], dict[str, Any]]:
    """What to measure, and what of the options two comparisons must share for one to continue the other."""
    questions = comparison.questions(plan, sides, options.memory)
    asked: dict[str, Any] = {"stages": list(options.stages), "confirming": options.confirming, "memory": options.memory}
    if options.only:
        questions = [question for question in questions if row_key(question) == options.only]
        asked |= {"only": list(options.only), "tolerated": options.tolerated}
    return questions, asked


def measure_until_decided(pairs: Pairs, questions: Sequence[PairedCase], now: Callable[[], Sides]) -> None:
    """Measure what the decisions ask for next, until they ask for nothing more."""
    while True:
        sides = now()
        wanted = {question: _next(question, pairs, sides) for question in questions if not pairs.out(question)}
        wanted = {
            question: left
            for question, numbers in wanted.items()
            if (left := [number for number in numbers if pairs.open(question, number)])
        }
        if not wanted:
            return
        pairs.measure(wanted)


def _next(question: PairedCase, pairs: Pairs, sides: Sides) -> tuple[int, ...]:
    if question.study.is_standalone(question.case):
        return tuple(number for number in range(comparison.MEMORY_PAIRS) if pairs.open(question, number))
    key = row_key(question)
    measured = key in sides.base and key in sides.new
    return sides.time(key).next if measured else decide({}, sides.rule(key)).next


def row_key(question: PairedCase) -> Key:
    backend = question.base if question.base == question.new else f"{question.base} → {question.new}"
    return Key(question.study.name, question.case.key, backend)


def current_results(pairs: Pairs, sides: Mapping[Side, ComparisonSide], options: Options) -> Sides:
    """What the pairs measured so far say."""
    base = by_key(pairs.records["base"].values(), sides["new"].backend or "", last=True)
    new = by_key(pairs.records["new"].values(), sides["base"].backend or "")
    return options.judged(Sides(base, new, True, options.statistic))


def stored(base: str, new: str, options: Options) -> Outcome:
    """What two runs on disk say of each other; a calibration that is not of their machine and protocol is left aside."""
    paths = [store.only(Path(base)), store.only(Path(new))]
    runs = [store.read(path) for path in paths]
    if options.calibration and not options.calibration.holds_for(runs[0].header):
        options = replace(options, calibration=None)
    sides = options.judged(from_runs(runs[0], runs[1], options.statistic))
    rows = sides.rows()
    remarks = options.remarks(rows)
    if not sides.paired:
        commits = [
            (run.header.environment.get("git", {}).get("commit") or name)[:12]
            for name, run in zip((base, new), runs, strict=True)
        ]
        remarks.append(
            "The two were not measured side by side; what looks slower is confirmed by: "
            + shlex.join(["lstm-bench", "compare", *commits, *_given_backends_path(runs)])
        )
    for name, run in zip((base, new), runs, strict=True):
        git = run.header.environment.get("git", {})
        if git.get("dirty"):
            remarks.append(f"{name} was measured with uncommitted changes in the working tree.")
        elif "reason" in git:
            remarks.append(f"{name} is not known to be the code of a commit: {git['reason']}.")
        elif git.get("dirty") is None:
            remarks.append(f"{name} is not known to be measured without uncommitted changes.")
    harnesses = [history.harness_of(run.header.environment) for run in runs]
    if harnesses[0] != harnesses[1]:
        by = " and ".join(f"lstm-bench {name}" if name else "the harness of its own commit" for name in harnesses)
        remarks.append(f"The two runs were measured by {by}, so that a difference may be the harness's.")
    here, there = (run.header.environment.get("packages") for run in runs)
    if here != there:
        remarks.append(f"The two runs used different packages: {here} and {there}.")
    return Outcome(base, new, rows, sides.overall(), remarks, paths)


def _given_backends_path(runs: Sequence[store.Run]) -> list[str]:
    paths = {run.header.environment.get("backends_path") for run in runs} - {None}
    return [user_repository.OPTION, str(paths.pop())] if len(paths) == 1 else []


def kind_of_both(base: str, new: str) -> str:
    """What both sides are: backend, run or revision. Raises `UnclearSides` where they differ."""
    if kind(base) != kind(new):
        raise UnclearSides(
            f"cannot compare {base} with {new}: name two revisions, two runs on disk or two backends (as backend:torch)"
        )
    for name in (side.removeprefix(BACKEND) for side in (base, new) if kind(side) == "backend"):
        if name in impls.names() and (precision := impls.facts(name).precision):
            raise UnclearSides(
                f"{name} computes in {precision}, less than its cases ask for, so no verdict compares it with another backend; "
                f"see its time and error with: lstm-bench run quick --backend torch --backend {name}"
            )
    return kind(base)


def kind(name: str) -> str:
    if name.startswith(BACKEND):
        return "backend"
    path = Path(name)
    is_run = path.suffix == ".jsonl" or (name != HERE and path.is_dir() and any(path.rglob("*.jsonl")))
    return "run" if is_run else "revision"


def repository_of(base: str, new: str, folder: Path | None, backends_path: str | None) -> Repository:
    """The repository that two sides are of; of two runs on disk none is asked for."""
    kinds = {kind(base), kind(new)}
    if kinds == {"run"}:
        return Repository()
    return user_repository.find(folder, backends_path, revisions="revision" in kinds or folder is not None)


def trees(*names: str) -> list[str]:
    """The revisions, or `HERE`, whose backends are measured."""
    return [HERE if name.startswith(BACKEND) else name for name in names]


@contextmanager
def comparison_sides(names: Mapping[Side, str], threads: int, options: Options) -> Iterator[dict[Side, ComparisonSide]]:
    """Both sides checked out, built if asked, and introduced. Raises `DoesNotRun` for one that does not."""
    with ExitStack() as stack:
        codes: dict[str, Code] = {}
        met: dict[Code, SourceInfo] = {}
        yield {side: _comparison_side(name, threads, options, stack, codes, met) for side, name in names.items()}


@contextmanager
def comparison_side(name: str, threads: int, options: Options) -> Iterator[ComparisonSide]:
    """One side by itself."""
    with ExitStack() as stack:
        yield _comparison_side(name, threads, options, stack, {}, {})


def _comparison_side(
    name: str, threads: int, options: Options, stack: ExitStack, codes: dict[str, Code], met: dict[Code, SourceInfo]
) -> ComparisonSide:
    """`codes` by commit (or `HERE`) and what each said of itself are kept, so that nothing is built or asked twice."""
    label, code = _code(name, options, stack, codes)
    try:
        said = met[code] = met.get(code) or code.describe_source(threads)
    except CodeFails as failure:
        raise DoesNotRun(f"{label} does not run here: {failure}") from failure
    return ComparisonSide(label, code, said, name.removeprefix(BACKEND) if name.startswith(BACKEND) else None)


def _code(name: str, options: Options, stack: ExitStack, codes: dict[str, Code]) -> tuple[str, Code]:
    repository = options.repository
    if name.startswith(BACKEND) or name == HERE:
        if HERE not in codes:
            here = stack.enter_context(working_tree(repository)) if repository.backends else Code(root_of(repository))
            codes[HERE] = here
        return ("this checkout" if name == HERE else name), codes[HERE]
    commit = repository.resolve(name)
    if commit not in codes:
        codes[commit] = stack.enter_context(code_of(repository, commit, options.build))
    short = repository.short(commit)
    return (short if commit.startswith(name) else f"{name} ({short})"), codes[commit]


def root_of(repository: Repository) -> Path:
    """The folder that holds the checkout's code; this program's own where it runs outside git."""
    return ROOT if repository.folder == ROOT else repository.top()


def _remarks(sides: Mapping[Side, ComparisonSide]) -> list[str]:
    packages = [side.introduction.environment.get("packages") for side in sides.values()]
    return [] if packages[0] == packages[1] else [f"The two sides use different packages: {packages[0]} and {packages[1]}."]


def calibrate(
    plan: Plan, pairs: int, root: Path, listener: Listener, options: Options, resume: bool = False
) -> tuple[Calibration, Path]:
    """Measure so many pairs of every case, whatever they show, and calibrate what they tell apart."""
    options = replace(options, memory=False, stages=(pairs,), confirming=False)
    with comparison_sides({"base": HERE, "new": HERE}, plan.threads, options) as sides:
        questions = comparison.questions(plan, sides, memory=False)
        with comparison.opened(plan, sides, root, listener, {"certify": pairs}, resume) as opened:
            measure_until_decided(opened.pairs, questions, lambda: current_results(opened.pairs, sides, options))
            results = current_results(opened.pairs, sides, options)
            path = opened.paths["base"]
        now = datetime.now(UTC).isoformat(timespec="seconds")
        said = sides["base"].introduction
        made = calibration.calibrate(results, said.machine, said.protocol, plan.threads, plan.suite, now)
    return made, made.write(path.with_name(path.stem.removesuffix("-base") + calibration.SUFFIX))


def here(root: Path, threads: int, suite: str) -> Calibration | None:
    """This machine's newest calibration for the suite."""
    described = environment.describe(threads)
    return calibration.newest(root, environment.machine_name(described), environment.PROTOCOL, threads, suite)
