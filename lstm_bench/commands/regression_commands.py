"""The commands on performance over commits: compare, calibrate, bisect, track, import, history. Imports happen as they run."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lstm_bench import terminal
from lstm_bench.commands import fleet
from lstm_bench.device_policy import DryRun, Wait
from lstm_bench.errors import ExitCode

if TYPE_CHECKING:
    from analysis.regression.calibration import Calibration
    from bench.harness.plan import Plan
    from bench.harness.run import Listener
    from bench.regression.revisions import Repository
    from lstm_bench.commands.compare import Options, Outcome

Suite = Annotated[str, typer.Option("--suite", help="Suite or study whose cases to compare; see: lstm-bench list.")]
Backends = Annotated[list[str] | None, typer.Option("--backend", help="Only this backend; repeat for more.")]
Where = Annotated[list[str] | None, typer.Option("--where", help="Only cases like hidden_size=256 or batch<=8.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Processors every backend may use (default: all).")]
Scale = Annotated[str | None, typer.Option(help="For a study: the suite whose scale to use (default: quick).")]
Statistic = Annotated[
    str | None,
    typer.Option(help="Of a side's samples in a pair: median, p25 or min (default: the calibration's)."),
]
Calibrations = Annotated[Path | None, typer.Option(help="Folder of calibrations (default: ./results/certificates).")]
RepositoryFolder = Annotated[
    Path | None, typer.Option("--repository", help="Git repository of the revisions (default: the current folder's).")
]
BackendsPath = Annotated[
    str | None,
    typer.Option(
        "--backends-path",
        help="In a repository of your own: the file or folder of backends, relative to its root, that is taken from each "
        "revision (default: LSTM_BENCH_BACKENDS).",
    ),
]
Build = Annotated[
    bool, typer.Option("--build-environments", help="Install each revision with pip into an environment of its own.")
]


def compare(
    base: Annotated[str, typer.Argument(help="A git revision, a run on disk, or backend:NAME.")],
    new: Annotated[str, typer.Argument(help="The same; default: this checkout as it is.")] = ".",
    *,
    suite: Suite = "quick",
    backend: Backends = None,
    where: Where = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of comparisons (default: ./results/comparisons).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Finish the same comparison where it was interrupted.")] = False,
    markdown: Annotated[
        Path | None, typer.Option(help="Also write Markdown for a pull request to this file, and its chart beside it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")] = False,
    memory: Annotated[bool, typer.Option(help="Compare peak memory too.")] = True,
    statistic: Statistic = None,
    calibrations: Calibrations = None,
    threads: Threads = None,
    scale: Scale = None,
    seed: Annotated[int, typer.Option(help="Seed of the order in which cases run.")] = 0,
    repository: RepositoryFolder = None,
    backends_path: BackendsPath = None,
    build_environments: Build = False,
    dry_run: DryRun = False,
    wait: Wait = False,
    on_fleet: fleet.Address = "",
) -> None:
    """Is NEW slower than BASE? Exit code 0: nothing is, 1: something is, 2: usage, 3: nothing was decided.

    With --fleet BASE may be a range as v1..main: each of its commits is compared with the one before it.
    """
    from lstm_bench import device_policy
    from lstm_bench.commands import compare as comparing
    from lstm_bench.views import comparisons, progress
    from results import output, store

    if dry_run and on_fleet:
        raise fleet.NotOnAFleet("--dry-run of compare is of this machine; leave out --fleet, or it")
    if dry_run:
        return _compare_dry(
            base, new, suite=suite, backend=backend, where=where, memory=memory, calibrations=calibrations,
            repository=repository, backends_path=backends_path, as_json=as_json, threads=threads, scale=scale, seed=seed,
        )  # fmt: skip
    if markdown:
        store.check_writable(markdown)
    if on_fleet:
        from lstm_bench.commands import fleet_tasks

        return fleet_tasks.compare_command(
            on_fleet, base, new, suite=suite, backend=backend, where=where, out=out, resume=resume, memory=memory,
            statistic=statistic, calibrations=calibrations, threads=threads, scale=scale, seed=seed, repository=repository,
            backends_path=backends_path, build=build_environments, wait=wait, as_json=as_json, markdown=markdown,
        )  # fmt: skip
    with progress.for_terminal() as display, device_policy.announced(wait):
        outcome = compared(
            base, new, display,
            suite=suite, backend=backend, where=where, out=out, resume=resume, memory=memory, statistic=statistic,
            calibrations=calibrations, threads=threads, scale=scale, seed=seed, repository=repository,
            backends_path=backends_path, build_environments=build_environments,
        )  # fmt: skip
    if comparing.kind(base) != "run":
        device_policy.say_noise_of(outcome.paths)
    if markdown:
        output.write_text(markdown, comparisons.as_markdown(outcome, markdown.with_suffix(".png")))
    if as_json:
        print(json.dumps(comparisons.values(outcome), indent=2))
    else:
        comparisons.show(outcome)
    sys.exit(outcome.exit_code)


def _compare_dry(
    base: str, new: str, *, suite: str, backend: list[str] | None, where: list[str] | None, memory: bool,
    calibrations: Path | None, repository: Path | None, backends_path: str | None, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """What `compare --dry-run` shows; the options are those of the command."""
    from bench.regression.user_repository import known_backends
    from lstm_bench.commands import compare as comparing
    from lstm_bench.views import dry_run, tables

    meant = comparing.repository_of(base, new, repository, backends_path)
    if comparing.kind_of_both(base, new) == "run":
        found = dry_run.stored(base, new)
    else:
        calibration = _calibration(calibrations, options["threads"], suite, options["scale"], base)
        with known_backends(meant, comparing.trees(new, base)) as own:
            chosen = _plan(suite, backend or _named(base, new) or own, where, measuring=False, **options)
            found = dry_run.compared(base, new, chosen, meant, memory, calibration.sentence if calibration else None)
    tables.print_json(found) if as_json else dry_run.show(found)


def compared(
    base: str, new: str, listener: Listener, *, suite: str = "quick", backend: list[str] | None = None,
    where: list[str] | None = None, out: Path | None = None, resume: bool = False, memory: bool = True,
    statistic: str | None = None, calibrations: Path | None = None, threads: int | None = None, scale: str | None = None,
    seed: int = 0, repository: Path | None = None, backends_path: str | None = None, build_environments: bool = False,
) -> Outcome:  # fmt: skip
    """What `compare` shows; its options are those of the command."""
    from bench.machine import system
    from bench.regression.user_repository import known_backends
    from lstm_bench.commands import compare as comparing
    from results import store

    if {comparing.kind(base), comparing.kind(new)} != {"run"}:
        system.require_measuring()
    calibration = _calibration(calibrations, threads, suite, scale, base)
    meant = comparing.repository_of(base, new, repository, backends_path)
    options = _options(meant, build_environments, memory, statistic, calibration)
    with known_backends(meant, comparing.trees(new, base)) as own:
        return comparing.compare(
            base, new,
            lambda: _plan(suite, backend or _named(base, new) or own, where, threads=threads, scale=scale, seed=seed),
            out or store.COMPARISONS, listener, options, resume=resume,
        )  # fmt: skip


def calibrate(
    *,
    pairs: Annotated[int, typer.Option(min=5, help="Pairs of every case.")] = 20,
    suite: Suite = "quick",
    backend: Backends = None,
    where: Where = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of calibrations (default: ./results/certificates).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Finish the same calibration where it was interrupted.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")] = False,
    threads: Threads = None,
    scale: Scale = None,
    repository: RepositoryFolder = None,
    backends_path: BackendsPath = None,
    wait: Wait = False,
) -> None:
    """Compare this checkout with itself (A/A test): noise, minimum detectable effect, and pairs needed to detect 3 %."""
    from bench.machine import system
    from bench.regression.user_repository import WORKING_TREE, find
    from lstm_bench.commands import compare as comparing
    from lstm_bench.views import tables
    from results import store

    system.require_measuring()
    meant = find(repository, backends_path, revisions=repository is not None)
    with _measuring(
        meant, [WORKING_TREE], suite, backends=backend, where=where, threads=threads, scale=scale, wait=wait,
    ) as (chosen, display):  # fmt: skip
        options = comparing.Options(meant)
        made, path = comparing.calibrate(chosen, pairs, out or store.CERTIFICATES, display, options, resume)
    if as_json:
        print(json.dumps(made.to_dict(), indent=2))
    else:
        tables.calibration(made)
        print(path)


def bisect(
    good: Annotated[str, typer.Argument(help="A revision that is fast enough.")],
    bad: Annotated[str, typer.Argument(help="A later one that is slower.")] = "HEAD",
    *,
    suite: Suite = "quick",
    backend: Backends = None,
    where: Where = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of comparisons (default: ./results/comparisons).")] = None,
    max_pairs: Annotated[int, typer.Option(help="Pairs after which an undecided commit is skipped.")] = 80,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")] = False,
    statistic: Statistic = None,
    calibrations: Calibrations = None,
    threads: Threads = None,
    scale: Scale = None,
    repository: RepositoryFolder = None,
    backends_path: BackendsPath = None,
    build_environments: Build = False,
    wait: Wait = False,
) -> None:
    """Find the first slow commit. Exit code 0: found, 1: BAD is not slower, 2: usage, 3: undecided.

    A search that was interrupted goes on by the same command.
    """
    from bench.machine import system
    from bench.regression.user_repository import find
    from lstm_bench.commands import bisecting
    from results import store

    system.require_measuring()
    calibration = _calibration(calibrations, threads, suite, scale)
    meant = find(repository, backends_path, revisions=True)
    options = _options(meant, build_environments, False, statistic, calibration)
    with _measuring(
        meant, [bad, good], suite, backends=backend, where=where, threads=threads, scale=scale, wait=wait,
    ) as (chosen, display):  # fmt: skip
        found = bisecting.bisect(good, bad, chosen, out or store.COMPARISONS, display, options, max_pairs=max_pairs)
    if as_json:
        print(json.dumps(bisecting.values(found), indent=2))
    else:
        print("\n".join(bisecting.sentences(found, options.repository)))
    sys.exit(found.exit_code)


@contextmanager
def _measuring(
    meant: Repository, revisions: Sequence[str], suite: str, *, backends: list[str] | None, where: list[str] | None,
    threads: int | None, scale: str | None, wait: bool,
) -> Iterator[tuple[Plan, Listener]]:  # fmt: skip
    """What will be measured of these revisions, whose own backends are known meanwhile, and who shows how far it is."""
    from bench.regression.user_repository import known_backends
    from lstm_bench import device_policy
    from lstm_bench.views import progress

    with known_backends(meant, revisions) as own:
        chosen = _plan(suite, backends or own, where, threads=threads, scale=scale)
        with progress.for_terminal() as display, device_policy.announced(wait):
            yield chosen, display


def _plan(what: str, backends: list[str], where: list[str] | None, *, measuring: bool = True, **options: Any) -> Plan:
    """The plan for what will be measured here.

    Raises, if `measuring`: `UnsupportedSystem` on Windows, `Unavailable` where it needs a GPU and there is none.
    """
    from bench.harness import plan
    from bench.machine import system

    if measuring:
        system.require_measuring()
    chosen = plan.make(what, backends, where or [], **options)
    if measuring:
        plan.require_device(chosen)
    return chosen


def _calibration(folder: Path | None, threads: int | None, what: str, scale: str | None, base: str = "") -> Calibration | None:
    """The one for what will be measured here or, where `base` is a run on disk, for what was measured then."""
    from analysis.regression import calibration
    from bench.harness import plan
    from bench.machine import system
    from lstm_bench.commands import compare
    from lstm_bench.commands import compare as comparing
    from results import store

    root, usable = folder or store.CERTIFICATES, len(system.usable())
    if base and compare.kind(base) == "run":
        return calibration.newest_for(root, store.read(store.only(Path(base))).header)
    return comparing.here(root, min(threads or usable, usable), plan.suite_of(what, scale))


def _options(
    repository: Repository, build: bool, memory: bool, statistic: str | None, calibration: Calibration | None
) -> Options:
    from analysis.statistics.ratios import statistic_named
    from lstm_bench.commands.compare import Options

    requested = None if statistic is None else statistic_named(statistic)
    return Options(repository, build, memory, requested_statistic=requested, calibration=calibration)


def _named(*names: str) -> list[str]:
    """Backends that the sides themselves name."""
    from lstm_bench.commands.compare import BACKEND

    return [name.removeprefix(BACKEND) for name in names if name.startswith(BACKEND)]


REPORT = Path("report")  # as of `report`
HistoryFolder = Annotated[Path | None, typer.Option("--out", help="Folder of the history (default: ./results/history).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]


def track(
    revisions: Annotated[str, typer.Argument(help="A revision, or a range as v1..main.")] = "HEAD",
    *,
    suite: Suite = "quick",
    backend: Backends = None,
    where: Where = None,
    out: HistoryFolder = None,
    again: Annotated[bool, typer.Option("--again", help="Measure also what is already there, as further replicates.")] = False,
    threads: Threads = None,
    scale: Scale = None,
    repository: RepositoryFolder = None,
    backends_path: BackendsPath = None,
    build_environments: Build = False,
    dry_run: DryRun = False,
    wait: Wait = False,
    on_fleet: fleet.Address = "",
    as_json: AsJson = False,
) -> None:
    """Measure commits into the history, oldest first; finished ones are not measured twice, interrupted ones are finished.

    Exit code 0: every one is in the history, 2: usage, 3: git gives a commit out changed, 14: one does not run, 15: one cannot
    be installed.
    """
    from bench.machine import system
    from bench.regression.user_repository import find, known_backends
    from lstm_bench import device_policy
    from lstm_bench.commands import tracking
    from lstm_bench.views import dry_run as dry_runs
    from lstm_bench.views import tables
    from results import store

    if on_fleet and not dry_run:
        from lstm_bench.commands import fleet_tasks

        return fleet_tasks.track_command(
            on_fleet, revisions, backend=backend, where=where, out=out, repository=repository, wait=wait, as_json=as_json,
            suite=suite, again=again, threads=threads, scale=scale, backends_path=backends_path, build=build_environments,
        )  # fmt: skip
    if not dry_run:
        system.require_measuring()
    meant = find(repository, backends_path, revisions=True)
    newest_first = list(reversed(meant.between(revisions))) if meant.backends else []
    if dry_run:
        with known_backends(meant, newest_first) as own:
            chosen = _plan(suite, backend or own, where, measuring=False, threads=threads, scale=scale)
            found = dry_runs.tracked(chosen, meant, meant.between(revisions), out or store.HISTORY)
        return tables.print_json(found) if as_json else dry_runs.show_commits(found)
    with _measuring(
        meant, newest_first, suite, backends=backend, where=where, threads=threads, scale=scale, wait=wait,
    ) as (chosen, display):  # fmt: skip
        done = tracking.track(
            revisions, chosen, out or store.HISTORY, display, meant, missing_only=not again, build=build_environments
        )
    device_policy.say_noise_of([one.path for one in done if one.path and one.result in ("measured", "resumed")])
    if as_json:
        print(json.dumps(tracking.values(done), indent=2))
    sys.exit(tracking.exit_code(done))


def import_(
    files: Annotated[list[Path], typer.Argument(help="Files or folders of pytest-benchmark or asv.")],
    out: HistoryFolder = None,
) -> None:
    """Import pytest-benchmark's or asv's files into the history, as points of their commits, apart from our own numbers."""
    from lstm_bench.commands import tracking
    from results import store

    taken = tracking.take_in(files, out or store.HISTORY)
    for path, stored, problem, left_out in taken:
        for sentence in (*left_out, *filter(None, [problem])):
            print(f"left out: {sentence}", file=sys.stderr)
        if problem is None and stored is None:
            print(f"{path}: already there", file=sys.stderr)
        elif stored is not None:
            print(stored)
            if store.read(stored).header.environment["git"]["dirty"] is not False:
                print(
                    f"{path}: measured with uncommitted changes, or not known to be without, so it is kept and is no point",
                    file=sys.stderr,
                )
    if any(one.problem for one in taken):
        sys.exit(ExitCode.CORRUPT)


def history(
    *,
    out: HistoryFolder = None,
    as_json: AsJson = False,
    to_asv: Annotated[Path | None, typer.Option("--to-asv", help="Also write asv's result files to this folder.")] = None,
    html: Annotated[Path | None, typer.Option(help="Have asv publish draw its site in this folder.")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="Folder to write history.html to, the page of the series.")] = None,
    show: Annotated[bool, typer.Option("--open", help="Write the page (to ./report) and open it in the web browser.")] = False,
    comparisons: Annotated[
        Path | None, typer.Option(help="Folder of the comparisons that judge changes (default: ./results/comparisons).")
    ] = None,
    statistic: Statistic = None,
    calibrations: Calibrations = None,
    repository: RepositoryFolder = None,
) -> None:
    """Show series over commits with their changes, the author of each, and the comparison that would confirm it.

    With --to also as a page, where each change has the paired comparison that confirmed or refuted it.

    Without Apache Otava and asv the series are shown and changes are not searched. Exit code 0, also where something has
    changed; 2: usage, 20: a file is corrupt.
    """
    from analysis.regression import changes
    from bench.regression.user_repository import of_history
    from lstm_bench.commands import tracking
    from lstm_bench.views import history as views_history
    from results import store

    root, source = out or store.HISTORY, of_history(repository)
    aggregate = tracking.statistic_for(calibrations or store.CERTIFICATES, statistic)
    read = tracking.read(root, source, aggregate)
    not_searched = None
    try:
        changes.require_detectors()
        found = tracking.findings(read.series, repository)
    except changes.NoDetector as missing:
        found, not_searched = [], str(missing)
    series, suspected = read.series, tracking.suspicions(read.series, repository)
    print("\n".join(read.left_out), end="\n" * bool(read.left_out), file=sys.stderr)
    if to_asv or html:
        site = views_history.export_and_publish(root, source, to_asv, html, aggregate)
        print(site or "", end="\n" * bool(site), file=sys.stderr)
    page = None
    if to or show:
        folders = comparisons or store.COMPARISONS, calibrations or store.CERTIFICATES, source.order()
        judged, beyond = (tracking.judged(some, *folders) for some in (found, suspected))
        page = views_history.write_page(series, judged, beyond, source, to or REPORT, [not_searched, *read.left_out])
    if as_json:
        print(json.dumps(views_history.values(series, found, suspected, read.left_out, not_searched), indent=2))
    else:
        views_history.show(series, found, suspected, source, not_searched)
    if page:
        print(page, file=sys.stderr if as_json else sys.stdout)
        if show:
            terminal.open_page(page.resolve().as_uri(), str(page))
    if read.corrupt:
        sys.exit(ExitCode.CORRUPT)
