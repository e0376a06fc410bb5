"""What a run looks like while it goes on: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from lstm_bench import terminal
from results.output import format_duration, format_si
from results.record import PRECISION, Record

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

SHOWN_BACKENDS = 4
LEAST_BAR = 10  # columns
ROOM_FOR_ELAPSED = 60  # columns of a terminal from which on the time so far is shown too
KEPT_OF_THE_END = 30  # characters of what runs now


class Display(Protocol):
    """A listener of `bench.harness.run` that has to be opened and closed."""

    def __enter__(self) -> Display: ...
    def __exit__(self, *_: object) -> None: ...
    def on_planned(self, study: str, records: int) -> None: ...
    def on_status(self, text: str) -> None: ...
    def on_records(self, records: Sequence[Record]) -> None: ...


class Forecast:
    """Time to finish, from what records of the same study took so far."""

    def __init__(self) -> None:
        self.left: dict[str, int] = defaultdict(int)
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.done = 0

    def on_planned(self, study: str, records: int) -> None:
        self.left[study] += records

    def on_records(self, records: Sequence[Record]) -> None:
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
        return (
            "about " + format_duration(sum(count * mean.get(study, elsewhere) for study, count in self.left.items())) + " left"
        )


def result(records: Sequence[Record]) -> str:
    """One line for one case: each backend's median, fastest first, and what went wrong. A pair keeps its order.

    What computes in less than was asked comes after the others.
    """
    if len(records) > 1 and len({record.task for record in records}) == 1:
        sides = zip(("base", "new"), records, strict=True)
        return "  ".join(
            [records[0].backend, *(f"{side} {result([record]).removeprefix(record.backend + ' ')}" for side, record in sides)]
        )
    found = []
    for record in records:
        if record.status == "ok":
            first = record.measurements[0]
            precision = record.provenance.get(PRECISION)
            name = f"{record.backend} ({precision})" if precision else record.backend
            median = statistics.median(first.samples)
            found.append((precision is not None, median, f"{name} {format_si(median, first.unit)}"))
        elif record.status == "failed":
            found.append((True, float("inf"), f"{record.backend} failed ({record.kind}): {record.reason[:120]}"))
    skipped = sum(record.status == "skipped" for record in records)
    parts = [text for *_, text in sorted(found)] + ([f"{skipped} skipped"] if skipped else [])
    return "  ".join(parts)


class PlainDisplay:
    """One line a case on standard error, for logs and pipes."""

    def __init__(self) -> None:
        self.forecast = Forecast()

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def on_planned(self, study: str, records: int) -> None:
        self.forecast.on_planned(study, records)

    def on_status(self, text: str) -> None:
        pass

    def on_records(self, records: Sequence[Record]) -> None:
        self.forecast.on_records(records)
        done = f"[{self.forecast.done}/{self.forecast.total}] " if self.forecast.total else ""
        head = f"{done}{records[0].study} {records[0].case} #{records[0].replicate + 1}"
        print(f"{head}  {result(records)}", file=sys.stderr, flush=True)


class LiveDisplay:
    """A bar with its count and the time to finish, and below it what runs now; results scroll above.

    screen: where to draw; standard error if None.
    """

    def __init__(self, screen: Console | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.table import Column

        self.forecast = Forecast()
        self.screen = screen or Console(stderr=True)
        whole = Column(no_wrap=True)
        columns = [BarColumn(None, table_column=Column(ratio=1, min_width=LEAST_BAR)), MofNCompleteColumn(table_column=whole)]
        if self.screen.width >= ROOM_FOR_ELAPSED:
            columns.append(TimeElapsedColumn(table_column=whole))
        columns.append(TextColumn("{task.fields[remaining]}", table_column=whole))
        display = self

        class TwoLines(Progress):
            """The bar's line, and below it what runs now, shortened to one line."""

            def get_renderables(self) -> Iterator[RenderableType]:
                from rich.text import Text

                yield from super().get_renderables()
                yield Text(shortened(display.now, display.screen.width), style="dim", no_wrap=True)

        self.now = "starting"
        self.progress = TwoLines(*columns, console=self.screen, transient=True, auto_refresh=False, expand=True)
        self.task = self.progress.add_task("", total=None, remaining="estimating")
        self.shown = 0.0
        self.cases = 0

    def __enter__(self) -> LiveDisplay:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def on_planned(self, study: str, records: int) -> None:
        self.forecast.on_planned(study, records)

    def on_status(self, text: str) -> None:
        self.now = text
        if time.monotonic() - self.shown > 0.2:  # the display must not cost what is being measured
            self.shown = time.monotonic()
            self.progress.refresh()

    def on_records(self, records: Sequence[Record]) -> None:
        from rich.console import Group
        from rich.padding import Padding
        from rich.text import Text

        self.forecast.on_records(records)
        self.cases += 1
        done, total, remaining = self.forecast.done, self.forecast.total or None, self.forecast.remaining()
        if total is None:  # pairs are measured until their cases are decided, and nobody knows how many that takes
            done, remaining = self.cases, "until decided"
        elif self.screen.width < ROOM_FOR_ELAPSED:
            remaining = remaining.removeprefix("about ")
        self.progress.update(self.task, completed=done, total=total, remaining=remaining)
        self.screen.print(
            Group(
                Text(records[0].case, style="cyan"),
                Padding(Text(packed(result(records), self.screen.width - 2)), (0, 0, 0, 2), expand=False),
            )
        )


def packed(text: str, width: int) -> str:
    """Text of parts that two spaces keep apart, in lines of so many columns that break between parts where they can."""
    lines = [""]
    for part in text.split("  "):
        longer = f"{lines[-1]}  {part}" if lines[-1] else part
        lines = [*lines[:-1], longer] if len(longer) <= width or not lines[-1] else [*lines, part]
    return "\n".join(lines)


def shortened(text: str, width: int) -> str:
    """Text on one line of so many columns: its middle, the end of a case's name, gives way to an ellipsis."""
    if len(text) <= width:
        return text
    tail = min(KEPT_OF_THE_END, (width - 1) // 2)  # the backend and its running result
    return f"{text[: width - 1 - tail].rstrip()}…{text[-tail:].lstrip()}"


def for_terminal() -> Display:
    """A live display where standard error is a terminal that can redraw a line, else plain lines."""
    return LiveDisplay() if terminal.redraws() else PlainDisplay()
