"""asv's result files read as runs, so that a project's history can be searched here.

Formats 1 (until 2020) and 2 (asv.results.Results.load and update_to_2 of asv 0.6.6 read the same).

A file holds one commit on one machine in one environment. A number in it was taken by another clock and protocol, so every run
read here carries protocol 0 and asv's own names: it never shares a line or a verdict with ours.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import itertools
import json
import math
import statistics
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from results.fields import PARAMETERS, is_amount
from results.pytest_benchmark import HOW_MANY_ZEROS, PROTOCOL, Imported, reason_of, slug
from results.record import Header, Measurement, Record, decode, encode
from results.store import StoreError

STUDY = BACKEND = "asv"
FORMATS = (1, 2)
METADATA = ("machine.json", "benchmarks.json")  # beside the results, which are read with them
TIMED = ("time_", "timeraw_", "Time")  # begin the names of what asv times
QUARTILES = "time_quartiles"  # the metric of what asv keeps of a spread: two values, of as many samples as the count says
REPEAT = "asv_samples"
Values = Mapping[str, Any]


def recognises(values: object) -> bool:
    """Whether a file's JSON is a result of asv, of whatever format."""
    return isinstance(values, dict) and {"commit_hash", "results", "params"} <= values.keys()


def read(path: Path, values: Values, text: str) -> Imported:
    """A file's times as records of one replicate, a record for each combination of parameters.

    asv's samples where it kept them, else its median with its quartiles beside. What is not a time is left out and counted.

    Args:
        path: of the file; `benchmarks.json` of its results says what each benchmark is.
        values, text: of the file, parsed and as it is.

    Raises:
        StoreError: it is of another format, cannot be right, or holds no time.
    """
    if values.get("version") not in FORMATS:
        raise StoreError(f"{path} is of asv's format {values.get('version', 'unknown')}; formats 1 and 2 are read here")
    try:
        rows = _rows(values)
        header = _header(path, values, rows, text)
        decode(encode(header))  # what would be written can be read
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, OSError) as error:
        raise StoreError(f"{path} is no file of asv: {reason_of(error)}") from error
    known = _benchmarks(path)
    records: list[Record] = []
    left_out: list[str] = []
    others: dict[str, int] = {}
    for name, row in rows.items():
        kind = known.get(name, {}).get("type") or ("time" if name.rpartition(".")[2].startswith(TIMED) else "other")
        if kind != "time":
            others[kind] = others.get(kind, 0) + 1
            continue
        try:
            made = list(_records(name, row, known.get(name, {})))
            for record in made:
                decode(encode(record))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            left_out.append(f"{name} of {path}: {reason_of(error)}")
            continue
        records += made
    for kind, count in sorted(others.items()):
        left_out.append(f"{count} benchmark{'s'[: count != 1]} of {path} of the type {kind}, which is no time")
    if not records:
        raise StoreError(f"nothing in {path} can be used: {left_out[0] if left_out else 'it holds no result'}")
    return Imported(header, tuple(records), tuple(left_out))


def standard_error(record: Record) -> tuple[float, int] | None:
    """Of the logarithm of a time that asv measured, over the samples of its one process, and how many they were.

    Of asv's quartiles, as if the logarithms were normal: the median of n of them has a standard error of 1.253 σ/√n, and their
    quartiles lie 1.349 σ apart. None for a record of ours, and of fewer than three samples.
    """
    if record.study != STUDY or record.status != "ok":
        return None
    known = {item.metric: item.samples for item in record.measurements}
    count, bounds = int(record.counts.get(REPEAT, 0)), known.get(QUARTILES)
    if bounds is None and len(known["time"]) >= 3:
        first, _, third = statistics.quantiles(known["time"], method="inclusive")
        bounds, count = (first, third), len(known["time"])
    if bounds is None or count < 3 or not 0 < bounds[0] <= bounds[1]:
        return None
    return 1.253 * math.log(bounds[1] / bounds[0]) / 1.349 / math.sqrt(count), count


def _header(path: Path, values: Values, rows: Mapping[str, Values], text: str) -> Header:
    params = values["params"]
    commit, machine = str(values["commit_hash"]), str(params.get("machine") or path.parent.name)
    if len(commit) != 40:
        raise ValueError(f"it names no commit but {commit!r}")
    committed = _moment(values["date"])
    started = [row["started_at"] for row in rows.values() if row.get("started_at")]
    begun = _moment(min(started)) if started else committed
    cores = str(params.get("num_cpu") or "")
    requirements = {str(name): str(version) for name, version in (values.get("requirements") or {}).items()}
    environment = {
        "cpu": {"model": str(params.get("cpu") or "unknown"), "cores": int(cores) if cores.isdecimal() else None},
        "os": str(params.get("os") or "unknown"),
        "python": str(values.get("python") or ""),
        "packages": {"asv environment": str(values.get("env_name") or "")} | requirements,
        "git": {"commit": commit, "committed": committed.isoformat(), "dirty": False},  # asv measures commits alone
        "node": machine,
    }
    return Header(
        run=f"{begun:%H%M%S}-asv-{hashlib.sha256(text.encode()).hexdigest()[:8]}",
        started=begun.isoformat(timespec="seconds"), protocol=PROTOCOL, machine=f"{slug(machine)}-asv", environment=environment,
        plan={"suite": STUDY},
    )  # fmt: skip


def _moment(milliseconds: float) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1e3, UTC)


def _rows(values: Values) -> dict[str, dict[str, Any]]:
    """What is stored of each benchmark, by the names of format 2's columns, of which null ones at the end may lack."""
    if values["version"] == 2:
        return {str(name): dict(zip(values["result_columns"], row, strict=False)) for name, row in values["results"].items()}
    found = {}
    for name, stored in values["results"].items():
        row = stored if isinstance(stored, dict) else {"result": stored}
        result, stats = (value if isinstance(value, list) or value is None else [value] for value in map(row.get, _OLD))
        kept = {f"stats_{key}": [one and one.get(key) for one in stats] for key in _STATS} if stats else {}
        own = {key: (values.get(_OLD_TABLES[key]) or {}).get(name) for key in _OLD_TABLES}
        samples = row.get("samples")
        found[str(name)] = {"result": result, "params": row.get("params") or [], "samples": samples} | kept | own
    return found


_OLD, _STATS = ("result", "stats"), ("q_25", "q_75", "repeat")
_OLD_TABLES = {"started_at": "started_at", "version": "benchmark_version"}  # of format 1, by benchmark


def _benchmarks(path: Path) -> dict[str, dict[str, Any]]:
    """What `benchmarks.json` of the file's results says of each benchmark; nothing where there is none."""
    beside = path.parent.parent / "benchmarks.json"
    return _parsed(beside, beside.stat().st_mtime_ns) if beside.is_file() else {}


@functools.lru_cache(maxsize=4)
def _parsed(path: Path, modified: int) -> dict[str, dict[str, Any]]:
    """As the file was at that time."""
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
        return {name: value for name, value in values.items() if isinstance(value, dict)}
    except (OSError, ValueError, RecursionError, AttributeError) as error:
        raise StoreError(f"{path} is damaged or no JSON ({error})") from error


def _records(name: str, row: Values, known: Values) -> Iterator[Record]:
    """One for each combination of parameters. asv stores null for what failed and NaN for what skipped itself."""
    values: list[list[str]] = row.get("params") or []
    combinations = list(itertools.product(*values))
    results = row["result"] if row["result"] is not None else [None] * len(combinations)
    if len(results) != len(combinations):
        raise ValueError(f"it has {len(results)} results for {len(combinations)} combinations of parameters")
    # asv begins a new series whenever a benchmark's own code changes.
    version = row.get("version")
    changed = f" #{version[:8]}" if version is not None and version != known.get("version") else ""
    names = known.get("param_names") or []
    names = names if len(names) == len(values) else [f"parameter {place + 1}" for place in range(len(values))]
    for place, (combination, result) in enumerate(zip(combinations, results, strict=True)):
        of_one = {column: row[column][place] for column in row if column in _LISTS and row[column] is not None}
        case = f"{name}({', '.join(combination)})" if combination else name
        parameters = dict(zip(names, map(_value, combination), strict=True))
        yield _record(case + changed, {_own(key): value for key, value in parameters.items()}, result, of_one)


_LISTS = ("samples", "stats_q_25", "stats_q_75", "stats_repeat")


def _record(case: str, parameters: dict[str, Any], result: float | None, of_one: Values) -> Record:
    def of(status: Any, **more: Any) -> Record:
        return Record(study=STUDY, case=case, backend=BACKEND, replicate=0, status=status, parameters=parameters, **more)

    if result is None:
        return of("failed", kind="error", reason="asv stored null: the benchmark failed")
    if isinstance(result, float) and math.isnan(result):
        return of("skipped", skip="unsupported", reason="asv stored NaN: the benchmark skipped itself")
    samples = of_one.get("samples") or [result]
    if not all(map(is_amount, samples)):
        raise ValueError(f"{case} has a time of {next(value for value in samples if not is_amount(value))!r} s")
    usable = tuple(float(value) for value in samples if value)
    if not usable:
        raise ValueError(f"{case} has no time above 0 s")
    notes = [HOW_MANY_ZEROS.format(len(samples) - len(usable))] if len(usable) < len(samples) else []
    if of_one.get("samples"):
        return of("ok", measurements=(Measurement("time", "s", usable, notes=tuple(notes)),))
    repeat, quartiles = of_one.get("stats_repeat"), (of_one.get("stats_q_25"), of_one.get("stats_q_75"))
    told = f"the median of {repeat} samples" if repeat else "a median"
    measured = [Measurement("time", "s", usable, notes=(f"asv stored {told} and no sample", *notes))]
    if repeat and all(map(is_amount, quartiles)):
        bounds = tuple(float(value) for value in quartiles if value is not None)
        measured.append(Measurement(QUARTILES, "s", bounds, notes=("as asv stored them",)))
    return of("ok", measurements=tuple(measured), counts={REPEAT: float(repeat)} if repeat else {})


def _value(text: str) -> str | int | float:
    """A parameter as asv writes it, by its `repr`."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return value if isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)) else text


def _own(name: str) -> str:
    """A parameter's name, changed where our own records have one of that name."""
    return f"{name} of asv" if name in PARAMETERS else name
