"""What a run looks like while it goes on: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

from lstm_bench.duration import spoken
from results.record import Record

SHOWN_BACKENDS = 4


class Display(Protocol):
    """A listener of `bench.run` that has to be opened and closed."""

    def __enter__(self) -> Display: ...
    def __exit__(self, *_: object) -> None: ...
    def expect(self, study: str, records: int) -> None: ...
    def doing(self, text: str) -> None: ...
    def recorded(self, records: Sequence[Record]) -> None: ...


class Forecast:
    """Time to finish, from what records of the same study took so far."""

    def __init__(self) -> None:
        self.left: dict[str, int] = defaultdict(int)
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.done = 0

    def expect(self, study: str, records: int) -> None:
        self.left[study] += records

    def recorded(self, records: Sequence[Record]) -> None:
        for record in records:
            self.seconds[record.study].append(record.seconds)
            if self.left[record.study] > 0:
                self.left[record.study] -= 1
                self.done += 1

    @property
    def total(self) -> int:
        return self.done + sum(self.left.values())

    def remaining(self) -> str:
        """A study nothing is known of yet is taken to cost what the others do."""
        known = [value for values in self.seconds.values() for value in values]
        if self.done < SHOWN_BACKENDS or not known:
            return "estimating"
        mean = {study: statistics.fmean(values) for study, values in self.seconds.items()}
        elsewhere = statistics.fmean(known)
        return "about " + spoken(sum(count * mean.get(study, elsewhere) for study, count in self.left.items())) + " left"


def result(records: Sequence[Record]) -> str:
    """One line for one case: each backend's median, fastest first, and what went wrong. A pair keeps its order."""
    if len(records) > 1 and len({record.task for record in records}) == 1:
        sides = zip(("base", "new"), records, strict=True)
        return "  ".join(
            [records[0].backend, *(f"{side} {result([record]).removeprefix(record.backend + ' ')}" for side, record in sides)]
        )
    found = []
    for record in records:
        if record.status == "ok":
            first = record.measurements[0]
            found.append(
                (statistics.median(first.samples), f"{record.backend} {in_unit(statistics.median(first.samples), first.unit)}")
            )
        elif record.status == "failed":
            found.append((float("inf"), f"{record.backend} failed ({record.kind}): {record.reason[:120]}"))
    skipped = sum(record.status == "skipped" for record in records)
    parts = [text for _, text in sorted(found)] + ([f"{skipped} skipped"] if skipped else [])
    return "  ".join(parts)


def in_unit(value: float, unit: str) -> str:
    """Three digits and a prefix people read: 1.23 ms, 45.6 MB, 280 GFLOP/s."""
    if unit == "s":
        for factor, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
            if value >= factor:
                return f"{value / factor:.3g} {name}"
        return f"{value * 1e9:.3g} ns"
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


class PlainDisplay:
    """One line a case on standard error, for logs and pipes."""

    def __init__(self) -> None:
        self.forecast = Forecast()

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def expect(self, study: str, records: int) -> None:
        self.forecast.expect(study, records)

    def doing(self, text: str) -> None:
        pass

    def recorded(self, records: Sequence[Record]) -> None:
        self.forecast.recorded(records)
        done = f"[{self.forecast.done}/{self.forecast.total}] " if self.forecast.total else ""
        head = f"{done}{records[0].study} {records[0].case} #{records[0].replicate + 1}"
        print(f"{head}  {result(records)}", file=sys.stderr, flush=True)


class LiveDisplay:
    """A bar with an honest time to finish, what runs now and its running result; results scroll above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.table import Column

        self.forecast = Forecast()
        whole = Column(no_wrap=True)  # a narrow terminal cuts what runs now, and never the count or the time to finish
        rest = Column(no_wrap=True, overflow="ellipsis", ratio=1)
        columns = (
            BarColumn(20, table_column=whole),
            MofNCompleteColumn(table_column=whole),
            TimeElapsedColumn(table_column=whole),
            TextColumn("{task.fields[remaining]}", table_column=whole),
            TextColumn("[dim]{task.description}", table_column=rest),
        )
        self.progress = Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False, expand=True)
        self.task = self.progress.add_task("starting", total=None, remaining="estimating")
        self.shown = 0.0

    def __enter__(self) -> LiveDisplay:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def expect(self, study: str, records: int) -> None:
        self.forecast.expect(study, records)

    def doing(self, text: str) -> None:
        from rich.markup import escape

        if time.monotonic() - self.shown > 0.2:  # the display must not cost what is being measured
            self.shown = time.monotonic()
            self.progress.update(self.task, description=escape(text), refresh=True)

    def recorded(self, records: Sequence[Record]) -> None:
        from rich.markup import escape

        self.forecast.recorded(records)
        self.progress.update(
            self.task, completed=self.forecast.done, total=self.forecast.total, remaining=self.forecast.remaining()
        )
        self.progress.console.print(f"[cyan]{escape(records[0].case)}[/] {escape(result(records))}", highlight=False)


def for_terminal() -> Display:
    """A live display where standard error is a terminal that can redraw a line, else plain lines."""
    return LiveDisplay() if sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown") else PlainDisplay()
