"""`run --fleet`: a suite or study on the machines of a Ray cluster."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lstm_bench.errors import ExitCode, UserError

if TYPE_CHECKING:
    from bench.fleet.head import Listener
    from results.record import Footer

HELP = "Measure on the machines of a Ray cluster: its address, auto, or local:3 for three nodes on this machine (a test)."
INSTALL = "pip install 'lstm-bench[fleet]'"


Address = Annotated[str, typer.Option("--fleet", help=HELP)]


class NoRay(UserError, RuntimeError):
    """Ray is not installed."""


class StoppedFleet(KeyboardInterrupt):
    """Ctrl-C while a fleet measured; what it had measured is kept in these files, one a fingerprint."""

    def __init__(self, paths: Sequence[Path]) -> None:
        super().__init__(f"interrupted: {' '.join(map(str, paths))}")
        self.paths = paths


class NotOnAFleet(UserError, ValueError):
    """An option that a fleet does not have."""


def run(
    address: str,
    what: str,
    listener: Listener,
    say: Callable[[str], None],
    *,
    backends: Sequence[str] = (),
    where: Sequence[str] = (),
    out: Path | None = None,
    resume: bool = False,
    threads: int | None = None,
    replicates: int | None = None,
    scale: str | None = None,
    seed: int = 0,
    corpus: Path | None = None,
    wait: bool = False,
) -> list[tuple[Path, Footer]]:
    """Measure a suite or a study on a fleet.

    Args:
        address: of the Ray cluster, or local:N.
        listener: hears how far the fleet is.
        say: is told of machines that are refused or lost.
        resume: go on with the newest unfinished run of this plan on a fleet.
        The others are those of `lstm_bench.run`; a corpus is sent to every machine.

    Returns:
        The files, one a fingerprint, each with its last line.

    Raises:
        NoRay: Ray is not installed.
        bench.fleet.head.FleetError: no machine can measure, or there is nothing to go on with.
        StoppedFleet: Ctrl-C; what was measured is kept.
        And what `bench.harness.plan.make` raises.
    """
    require_ray()
    from bench.fleet.cluster import Fleet, connected
    from bench.fleet.head import Head
    from bench.fleet.machine import Machine
    from bench.fleet.shipping import CORPUS, Parcel
    from bench.harness import plan
    from bench.harness.session import require_corpus
    from bench.studies.quality.sources import corpus_name
    from results import store

    chosen = plan.make(
        what, backends, where, threads=threads, replicates=replicates, scale=scale, seed=seed,
        corpus=corpus_name(corpus) if corpus else "",
    )  # fmt: skip
    if corpus is not None:
        require_corpus(chosen, corpus)
    parcel = Parcel.of({CORPUS: corpus.read_bytes()} if corpus else {})
    introduce = {"values": chosen.to_dict(), "threads": threads, "wait": wait}
    head = Head(chosen, out or store.ROOT, listener)
    if resume:
        head.resume()
    note = "ended by an error"
    ended: list[tuple[Path, Footer]] = []
    try:
        with connected(address) as local:
            head.local, head.address = local, address if local else "auto"
            Fleet(head, Machine, introduce, say, parcel).run()
            note = ""
    except KeyboardInterrupt as stop:
        note = "interrupted"
        ended = head.close(note)
        if not ended:
            raise
        raise StoppedFleet([path for path, _ in ended]) from stop
    finally:
        ended = ended or head.close(note)
    return ended


def require_ray() -> None:
    """Raise `NoRay` where it is not installed; nothing is imported to find out."""
    if importlib.util.find_spec("ray") is None:
        raise NoRay(f"--fleet needs Ray, which is not installed here; install it, on every machine, with: {INSTALL}")


def command(
    address: str,
    what: str,
    out: Path | None,
    budget: str,
    copy_to: str,
    *,
    backends: Sequence[str],
    where: Sequence[str],
    resume: bool,
    threads: int | None,
    replicates: int | None,
    scale: str | None,
    seed: int,
    corpus: Path | None,
    wait: bool,
) -> None:
    """Carry out `run --fleet`, and end the process as `run` does."""
    from lstm_bench import terminal
    from lstm_bench.views import progress, run_summary
    from results import store

    if budget:
        raise NotOnAFleet("--time-budget is of one machine; on a fleet choose --replicates, or fewer cases with --where")
    require_copy(copy_to)
    try:
        with progress.for_terminal() as display:
            ended = run(
                address, what, display, terminal.say, backends=backends, where=where, out=out, resume=resume, threads=threads,
                replicates=replicates, scale=scale, seed=seed, corpus=corpus, wait=wait,
            )  # fmt: skip
    except StoppedFleet as stop:
        copy(stop.paths, out, copy_to)
        words = [word for word in sys.argv[1:] if word != "--resume"]
        for path in stop.paths:
            print(f"interrupted; {run_summary.kept(path)}", file=sys.stderr)
        print(f"finish it with: {shlex.join(['lstm-bench', *words, '--resume'])}", file=sys.stderr)
        sys.exit(ExitCode.INTERRUPTED)
    failed = False
    for path, footer in ended:
        measured = store.read(path)
        print(path)
        for line in run_summary.lines(measured, footer):
            terminal.say(line)
        failed = failed or any(record.status == "failed" for record in measured.records)
    copy([path for path, _ in ended], out, copy_to)
    if failed:
        sys.exit(1)


def require_copy(url: str) -> None:
    """Raise `results.store.StoreError` where an address is given and nothing can be copied to it."""
    if url:
        from results import object_storage

        object_storage.require(url)


def copy(paths: Sequence[Path], out: Path | None, url: str) -> None:
    """Copy runs to an address, where one is given, and say where they are."""
    if url:
        from lstm_bench import terminal
        from results import object_storage, store

        for address in object_storage.send(paths, out or store.ROOT, url):
            terminal.say(f"copied to {address}")
