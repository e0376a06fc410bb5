"""`compare --fleet` and `track --fleet`: commits measured on the machines of a Ray cluster, a comparison within one machine."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.fleet.shipping import COMMITS, Parcel
from bench.fleet.tasks import Done, Head, Kind, Tasks
from bench.harness.plan import Plan
from bench.harness.run import Interrupted, Listener
from bench.machine import environment
from bench.regression import user_repository
from bench.regression.comparison import SIDES
from bench.regression.revisions import Repository, packed
from bench.regression.user_repository import known_backends
from lstm_bench.commands import compare as comparing
from lstm_bench.commands import tracking
from lstm_bench.commands.compare import BACKEND, HERE, UnclearSides
from lstm_bench.commands.fleet_jobs import Asked, Compare, Failed, Track, named_by, options_of
from lstm_bench.errors import ExitCode, UserError
from lstm_bench.terminal import say
from lstm_bench.views.comparisons import Compared
from results import store

if TYPE_CHECKING:
    from analysis.regression.calibration import Calibration

NOT_LEFT = "no machine of this kind was left in the fleet, or it ended every machine that tried"


class NothingToResume(UserError, RuntimeError):
    """No comparison on a fleet that could be gone on with."""


def _carry_out(
    address: str, tasks: Tasks, plan: Plan, parcel: Parcel, listener: Listener, on_done: Callable[[Done], object],
    *, threads: int | None, wait: bool, id: str = "",
) -> None:  # fmt: skip
    """Have the tasks carried out. Raises `Interrupted` on Ctrl-C; what is measured is kept."""
    from bench.fleet.cluster import Fleet, connected
    from bench.fleet.machine import Machine

    head = Head(tasks, listener, on_done, id=id)
    try:
        with connected(address) as local:
            head.local = local
            Fleet(head, Machine, {"values": plan.to_dict(), "threads": threads, "wait": wait}, say, parcel).run()
        if len(head.kinds) > 1:
            kinds = ", ".join(f"{kind.machine} ({kind.fingerprint})" for kind in head.kinds.values())
            say(f"{len(head.kinds)} kinds of machines, each measured everything and has series of its own: {kinds}")
    except KeyboardInterrupt:
        unfinished = head.close("interrupted")
        paths = [*unfinished, *(path for done in head.done_tasks for path in done.paths.values())]
        if not paths:
            raise
        raise Interrupted(paths[0]) from None
    finally:
        head.close("ended by an error")


def _parcel(meant: Repository, commits: Sequence[str]) -> Parcel:
    return Parcel.of({COMMITS: packed(meant, commits)} if commits else {})


@contextmanager
def _known(meant: Repository, asked: Asked, revisions: Sequence[str], named: Sequence[str]) -> Iterator[Plan]:
    """The plan as the head sees it: without this machine's device, which need not be there."""
    with known_backends(meant, revisions) as own:
        yield asked.plan(own, named, measuring=False)


def compare(
    address: str, base: str, new: str, listener: Listener, asked: Asked, *, out: Path | None = None, resume: bool = False,
    calibrations: Path | None = None, repository: Path | None = None, wait: bool = False,
) -> list[Compared]:  # fmt: skip
    """Compare on a fleet: two commits or backends, or of a range each commit with the one before it.

    Args:
        address: of the Ray cluster, or local:N.
        base: a revision, `backend:NAME`, or a range as v1..main.
        new: the other side; without one, or as `.`, HEAD, where nothing is uncommitted. None of a range.
        listener: hears how far the fleet is.
        asked: the options.
        out: folder of comparisons.
        resume: go on with the newest comparisons on a fleet that asked the same.
        calibrations: folder of calibrations; each kind of machine has its own.
        repository: of the revisions.
        wait: wait for machines that are busy.

    Returns:
        One for each comparison and kind of machine. Raises `UnclearSides` for sides that a fleet cannot compare.
    """
    from lstm_bench.commands import fleet

    fleet.require_ray()
    root = out or store.COMPARISONS
    meant, pairs = _pairs(base, new, repository, asked.backends_path)
    commits = [side for pair in pairs for side in pair if not side.startswith(BACKEND)]
    asked = replace(asked, backends_path=os.pathsep.join(meant.backends) or None)
    sides = comparing.trees(*dict.fromkeys(side for pair in pairs for side in reversed(pair)))
    key = hashlib.sha256(repr((asked, pairs)).encode()).hexdigest()[:12]
    id = _newest_fleet(root, key) if resume else uuid.uuid4().hex[:8]
    outcomes: list[Compared] = []

    def calibration(kind: Kind) -> Calibration | None:
        from analysis.regression.calibration import newest
        from bench.harness.plan import suite_of

        folder = calibrations or store.CERTIFICATES
        return newest(folder, kind.machine, environment.PROTOCOL, kind.threads, suite_of(asked.suite, asked.scale))

    def finished(kind: Kind) -> dict[int, list[Path]]:
        found = _comparisons(root, id, kind) if resume else {}
        complete = {pair: paths for pair, paths in found.items() if all(store.read(path).finished for path in paths)}
        return {number: complete[pair] for number, pair in enumerate(pairs) if pair in complete}

    def begun(kind: Kind, host: str, pair: tuple[str, str]) -> list[Path]:
        return _comparisons(root, id, kind, host).get(pair, [])

    def on_done(done: Done) -> None:
        pair = pairs[done.number]
        shown = [side if side.startswith(BACKEND) else meant.short(side) for side in pair]
        failed = done.result if isinstance(done.result, Failed) else None
        outcome = None
        if len(done.paths) == len(SIDES) and failed is None:
            old, young = sorted(done.paths.values(), key=lambda path: store.header_of(path).plan["side"])
            outcome = comparing.stored(str(old), str(young), options_of(meant, asked, calibration(done.kind)))
            names, fleet = store.header_of(old).plan["sides"], store.header_of(old).environment["fleet"]
            remarks = [*outcome.remarks, *([f"Measured by {fleet['remark']}."] if "remark" in fleet else [])]
            outcome = replace(outcome, base=names[0], new=names[1], remarks=remarks)
        elif failed is None:
            failed = Failed(NOT_LEFT, ExitCode.UNDECIDED)
        outcomes.append(Compared((shown[0], shown[1]), done.kind.machine, outcome, failed))
        say(f"{outcomes[-1].title}: {failed.reason if failed else 'compared'}")

    with _known(meant, asked, sides, named_by(pairs[0])) as plan:
        tasks = Tasks(Compare(asked), pairs, plan.device, root, asked=key, given=calibration, begun=begun, finished=finished)
        _carry_out(address, tasks, plan, _parcel(meant, commits), listener, on_done, threads=asked.threads, wait=wait, id=id)
    place = {(meant.short(old), meant.short(commit)): number for number, (old, commit) in enumerate(pairs) if commits}
    return sorted(outcomes, key=lambda one: (place.get(one.pair, 0), one.machine))


def _pairs(base: str, new: str, folder: Path | None, backends_path: str | None) -> tuple[Repository, list[tuple[str, str]]]:
    """The repository that is meant, and the full hashes of each two commits, or the names of two backends."""
    if ".." in base and comparing.kind(base) == "revision":
        if new != HERE:
            raise UnclearSides(f"{base} is a range, whose commits are compared each with the one before it; leave out {new}")
        meant = user_repository.find(folder, backends_path, revisions=True)
        commits = meant.between(base)
        before = [_parent(meant, commits[0]), *commits[:-1]]
        return meant, [(old, commit) for old, commit in zip(before, commits, strict=True) if old]
    kind = comparing.kind_of_both(base, new)
    if kind == "run":
        raise UnclearSides("two runs on disk are compared without measuring: leave out --fleet")
    meant = comparing.repository_of(base, new, folder, backends_path)
    if kind == "backend":
        return meant, [(base, new)]
    return meant, [(_commit(meant, base), _commit(meant, new))]


def _parent(repository: Repository, commit: str) -> str:
    """The first parent; empty of a first commit."""
    return repository.git("rev-list", "--first-parent", "--max-count=1", "--skip=1", commit)


def _commit(repository: Repository, name: str) -> str:
    """The full hash; of the checkout as it is that of HEAD. Raises `UnclearSides` where that has uncommitted changes."""
    if name == HERE and repository.git("status", "--porcelain", "--", ".", *environment.NOT_CODE):
        raise UnclearSides(
            "this checkout has uncommitted changes, and a fleet measures commits, which every machine gets by their hash; "
            "commit them, name a commit in place of the checkout, or compare on this machine without --fleet"
        )
    return repository.resolve("HEAD" if name == HERE else name)


def _newest_fleet(root: Path, asked: str) -> str:
    """The id of the newest fleet that compared the same. Raises `NothingToResume`."""
    for path in reversed(store.find(root)):
        fleet = store.header_of(path).environment.get("fleet", {})
        if fleet.get("asked") == asked:
            return fleet["id"]
    raise NothingToResume(f"no comparison on a fleet below {root} asked the same; start one without --resume")


def _comparisons(root: Path, id: str, kind: Kind, host: str | None = None) -> dict[tuple[str, str], list[Path]]:
    """The runs of comparisons that machines of a kind, or one host, have begun for a fleet, by what they compare."""
    found: dict[tuple[str, str], dict[str, list[Path]]] = {}
    for path in store.find(root) if root.is_dir() else ():
        header = store.header_of(path)
        fleet, plan = header.environment.get("fleet", {}), header.plan
        if (fleet.get("id"), fleet.get("fingerprint")) != (id, kind.fingerprint) or "comparison" not in plan:
            continue
        if host is None or header.environment["host"] == host:
            pair = tuple(
                f"{BACKEND}{backend}" if backend else commit
                for backend, commit in zip(plan["sides_backends"], plan["commits"], strict=True)
            )
            found.setdefault((pair[0], pair[1]), {}).setdefault(plan["comparison"], []).append(path)
    # Of several the newest that has both of its runs; one that a lost machine has begun on another host stays as it is.
    whole = {pair: [paths for paths in begun.values() if len(paths) == len(SIDES)] for pair, begun in found.items()}
    return {pair: _best(begun) for pair, begun in whole.items() if begun}


def _best(begun: list[list[Path]]) -> list[Path]:
    return max(begun, key=lambda paths: (all(store.read(path).finished for path in paths), paths[0].stem))


def exit_code(compared: Sequence[Compared]) -> int:
    """Of a comparison as by hand; of several 1 where something is slower, else why the first was not measured."""
    from analysis.regression.comparison import exit_code as of_decisions

    rows = [row for one in compared if one.outcome for row in one.outcome.rows if row.metric == "time"]
    decided = of_decisions(row.decision for row in rows)
    failed = next((one.failed.exit_code for one in compared if one.failed), None)
    return decided if decided == ExitCode.SLOWER or failed is None else failed


def track(
    address: str, revisions: str, listener: Listener, asked: Asked, *, out: Path | None = None,
    repository: Path | None = None, wait: bool = False,
) -> list[tracking.Tracked]:  # fmt: skip
    """Measure commits into the history on a fleet; each kind of machine measures all of them.

    The machines of a fingerprint count as one host: the points of its series lie on any of them, and their scatter holds what
    the machines differ by.

    Args:
        address: of the Ray cluster, or local:N.
        revisions: a revision or a range.
        listener: hears how far the fleet is.
        asked: the options.
        out: folder of the history.
        repository: of the revisions.
        wait: wait for machines that are busy.

    Returns:
        What became of each commit on each kind of machine.
    """
    from lstm_bench.commands import fleet

    fleet.require_ray()
    root = out or store.HISTORY
    meant = user_repository.find(repository, asked.backends_path, revisions=True)
    commits = meant.between(revisions)
    newest_first = list(reversed(commits)) if meant.backends else []
    asked = replace(asked, backends_path=os.pathsep.join(meant.backends) or None, revisions=tuple(newest_first))
    done: list[tracking.Tracked] = []

    def begun(kind: Kind, host: str, commit: str) -> list[Path]:
        return [
            path
            for path in (store.find(root) if root.is_dir() else ())
            if (header := store.header_of(path)).environment.get("fleet", {}).get("fingerprint") == kind.fingerprint
            and header.environment["git"]["commit"] == commit
        ]

    def on_done(one: Done) -> None:
        found = one.result
        if found is None:
            found = tracking.Tracked(commits[one.number], "not measured", NOT_LEFT)
        elif found.path is not None:
            found = replace(found, path=one.paths[found.path.as_posix()])
        done.append(found)
        say(f"{meant.short(found.commit)}  {found.sentence}  ({one.kind.machine})")

    with _known(meant, asked, newest_first, ()) as plan:
        tasks = Tasks(Track(asked), commits, plan.device, root, pooled=True, begun=begun)
        _carry_out(address, tasks, plan, _parcel(meant, commits), listener, on_done, threads=asked.threads, wait=wait)
    return sorted(done, key=lambda one: commits.index(one.commit))


# The commands.


def compare_command(
    address: str, base: str, new: str, *, backend: list[str] | None, where: list[str] | None, out: Path | None, resume: bool,
    calibrations: Path | None, repository: Path | None, wait: bool, as_json: bool, markdown: Path | None, **options: Any,
) -> None:  # fmt: skip
    """`compare --fleet`: as `compare`, once for each kind of machine and, of a range, each of its commits."""
    from lstm_bench.views import comparisons, progress
    from results import output

    asked = Asked(backends=tuple(backend or ()), where=tuple(where or ()), **options)
    with progress.for_terminal() as display:
        done = compare(
            address, base, new, display, asked, out=out, resume=resume, calibrations=calibrations, repository=repository,
            wait=wait,
        )  # fmt: skip
    if markdown:
        output.write_text(markdown, comparisons.all_as_markdown(done, markdown))
    if as_json:
        print(json.dumps(comparisons.values_of_all(done), indent=2))
    else:
        comparisons.show_all(done)
    sys.exit(exit_code(done))


def track_command(
    address: str, revisions: str, *, backend: list[str] | None, where: list[str] | None, out: Path | None,
    repository: Path | None, wait: bool, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """`track --fleet`: as `track`, on each kind of machine."""
    from lstm_bench import device_policy
    from lstm_bench.views import progress

    asked = Asked(backends=tuple(backend or ()), where=tuple(where or ()), **options)
    with progress.for_terminal() as display:
        done = track(address, revisions, display, asked, out=out, repository=repository, wait=wait)
    device_policy.say_noise_of([one.path for one in done if one.path and one.result in ("measured", "resumed")])
    if as_json:
        print(json.dumps(tracking.values(done), indent=2))
    sys.exit(tracking.exit_code(done))
