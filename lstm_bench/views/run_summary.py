"""What is printed at the end of a run, and lengths of time as people write them: 90s, 10m, 1h30m."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from analysis.report.words import format_percent
from lstm_bench.errors import UserError
from results import store
from results.output import format_duration
from results.record import HOST_PEAK, Footer
from results.store import Run

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}
_FORM = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?$")


class InvalidDuration(UserError, ValueError):
    """Text that is no positive length of time."""


def seconds(text: str) -> float:
    """Seconds in `text`; a bare number is refused, since nobody agrees on its unit."""
    match = _FORM.match(text.strip().lower())
    total = (
        sum(float(value) * unit for value, unit in zip(match.groups(), _UNITS.values(), strict=True) if value) if match else 0
    )
    if not total:
        raise InvalidDuration(f"cannot read {text!r} as a length of time; write it as 90s, 10m or 1h30m")
    return total


def lines(run: Run, footer: Footer) -> Iterator[str]:
    """How many outcomes of each kind, and why nothing was measured where nothing was."""
    from bench.machine import noise  # it imports NumPy, which tables of names need not

    outcomes = Counter(record.status for record in run.records)
    note = f"; {footer.note}" if footer.note else ""
    counted = f"{outcomes['ok']} measured, {outcomes['skipped']} skipped, {outcomes['failed']} failed"
    yield f"{counted} in {format_duration(footer.seconds)}{note}"
    if run.header.plan["studies"] and footer.warm_up_seconds is not None and footer.seconds:
        warming = footer.warm_up_seconds / footer.seconds
        sampling = footer.measuring_seconds / footer.seconds - warming
        rest = 1 - sampling - warming
        shares = [format_percent(share) for share in (sampling, warming, rest)]
        yield f"time: {shares[0]} sampling, {shares[1]} warm-up, {shares[2]} starting, compiling and validating"
    if peaks := [record for record in run.records if HOST_PEAK in record.conditions]:
        worst = max(peaks, key=lambda record: record.conditions[HOST_PEAK])
        gigabytes = worst.conditions[HOST_PEAK] / 1e9
        yield f"largest host memory of a worker: {gigabytes:.2g} GB ({worst.study} {worst.case}, {worst.backend})"
    if said := noise.sentence_after(run.records):
        yield said
    of_studies = [record for record in run.records if record.study in run.header.plan["studies"]]
    if of_studies and all(record.status == "skipped" for record in of_studies):
        reasons = Counter(record.reason for record in of_studies)
        (reason, _), *others = reasons.most_common()
        more = f" ({len(others)} other reasons: lstm-bench show {shlex.quote(str(run.path))})" if others else ""
        yield f"no case was measured: {reason}{more}"


def rankings(run: Run) -> Iterator[str]:
    """Which backend is fastest, where several were timed in several replicates."""
    again = [record for record in run.records if record.replicate and record.status == "ok"]
    timed = {record.backend for record in again if any(one.metric == "time" for one in record.measurements)}
    if len(timed) > 1:
        from lstm_bench.views import tables  # pandas, which a run that ranks nothing need not wait for

        yield from tables.rankings([run.path], run.path.parent)


def interrupted(path: Path, command: str, **options: Path | None) -> str:
    """What an interrupted run has kept, and the command that finishes it. options: those it needs to find it again."""
    given = "".join(f" --{name} {shlex.quote(str(value))}" for name, value in options.items() if value is not None)
    return f"interrupted; {kept(path)}\nfinish it with: lstm-bench {command} --resume{given}"


def kept(path: Path) -> str:
    """How much of a run is on disk."""
    outcomes = len(store.read(path).records)
    return f"{outcomes} outcome{'s'[: outcomes != 1]} kept in {path}" if outcomes else f"no outcome yet in {path}"
