"""Runs as tidy frames, in sections: one per machine, protocol version and comparable environment; nothing else is merged."""

from __future__ import annotations

import shlex
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import AnalysisError
from analysis.report import words
from analysis.statistics import hosts
from analysis.statistics.hosts import HOST
from results.exclusions import Reason
from results.record import NO_ENERGY, PRECISION, Header, Record
from results.store import ROOT, DamagedLine, Run, at, find, newest, read, read_header, readable

MOST_DIFFERENCES = 4  # told of two environments
SHORT_HASH = 7
# Parts of the environment that change what is measured. Load, uptime, variables and the like are shown, not compared.
# harness: of a run in a repository of the user's, lstm-bench's own version and code, which no commit there tells.
COMPARABLE = ("python", "packages", "blas", "cuda", "cudnn", "gpus", "cpu", "host", "git.commit", "harness")
# Of `results.exclusions`: what is counted, and what is said behind it.
LEFT_OUT: dict[Reason, tuple[str, str]] = {
    "invalid_context": ("outcome", " of an invalid CUDA context"),
    "allowed_today": ("rejection", " that today's tolerance reverses"),
}


class InvalidPrice(AnalysisError):
    """A price that nothing can have."""


@dataclass(frozen=True, slots=True)
class Section:
    """Runs that may be read together. `replicate_key` in both frames names one fresh worker process: `identity` and replicate.

    records: one row per outcome; the case's parameters under their own names, its counts as `count_<name>`.
    series: one row per measured metric of an ok record, `samples` an array in `unit`; else the columns of `records`.
    remarks: what a reader must know about how the runs were put together.
    """

    machine: str
    protocol: int
    runs: tuple[Run, ...]
    records: pd.DataFrame
    series: pd.DataFrame
    remarks: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return self.machine or "unnamed machine"


def choose(paths: Sequence[Path] = (), root: Path = ROOT) -> list[Path]:
    """The runs meant by `paths` (files or folders), without files that are no runs; the latest below `root` where empty."""
    if not paths:
        return [newest(root)]
    chosen: dict[Path, None] = {}
    for path in paths:
        chosen |= dict.fromkeys(at(Path(path)))
    return _without_copies(readable(list(chosen)))


def _without_copies(headers: Mapping[Path, Header]) -> list[Path]:
    """One file a run: of copies the largest, since the run may have gone on after it was copied. Warns of the others."""
    kept: dict[str, Path] = {}
    for path in sorted(headers, key=lambda path: path.stat().st_size, reverse=True):
        if (first := kept.setdefault(identity(headers[path]), path)) is not path:
            warnings.warn(
                f"left out: {path} is a copy of {first}, whose replicates would count twice", DamagedLine, stacklevel=2
            )
    return [path for path in headers if path in kept.values()]


def newest_of_each_study(root: Path = ROOT) -> list[Path]:
    """Of each study that tests claims its newest run on the machine whose run is the newest; a smoke run, whose numbers mean
    little, only where there is no other. Without any such run: as `choose` without paths."""
    headers = {path: header for path in find(root) if (header := read_header(path)) is not None and header.claims}
    if not headers:
        return choose((), root)
    machine = max(headers.values(), key=lambda header: header.started).machine
    newest: dict[str, Path] = {}
    for path, header in sorted(headers.items(), key=lambda item: (weight(item[1]), item[1].started)):
        if header.machine == machine:
            newest |= dict.fromkeys(studies_with_claims(header), path)
    return [path for path in headers if path in newest.values()]


def studies_with_claims(header: Header) -> list[str]:
    """Early runs did not say which claim is which study's, but had one study each."""
    return list(dict.fromkeys(claim.study for claim in header.claims if claim.study)) or list(header.plan.get("studies", ()))


def weight(header: Header) -> int:
    """What a run's numbers count for beside newer or older ones."""
    return int(header.plan.get("suite") not in ("smoke", "every"))


def load(paths: Sequence[Path] = (), root: Path = ROOT) -> list[Section]:
    """Read runs and part them into sections, in the order in which they first appear."""
    runs = [read(path) for path in choose(paths, root)]
    groups: dict[tuple[str, int, str], list[Run]] = {}
    for run in runs:
        key = (run.header.machine, run.header.protocol, repr(sorted(comparable(run).items())))
        groups.setdefault(key, []).append(run)
    for group in groups.values():
        group.sort(key=lambda run: run.header.started)  # the last is the newest
    environments = [comparable(group[0]) for group in groups.values()]
    sections = []
    for index, ((machine, protocol, _), group) in enumerate(groups.items()):
        others = [other for other, (its, *_) in enumerate(groups) if other != index and its == machine]
        protocols = [its for other, (_, its, _) in enumerate(groups) if other in others and its != protocol]
        alike = [environments[other] for other, (_, its, _) in enumerate(groups) if other in others and its == protocol]
        remarks = _remarks(group) + _other_protocols(protocol, protocols) + _why_apart(environments[index], alike)
        records = records_frame(group)
        sections.append(Section(machine, protocol, tuple(group), records, series_frame(group), tuple(remarks)))
    return sections


PRICE = "price_an_hour"  # the column of a price that the user gave


Prices = float | Mapping[str, float] | None  # of an hour of every machine, or of those named


def priced(sections: Sequence[Section], price: Prices) -> list[Section]:
    """The sections with a price of an hour of their machine, in the user's currency, or as they are without one.

    Args:
        sections: all that a page is made of.
        price: of every machine; or of each by its name, or a part of it or of its processor or GPU, as `H100`. The name ""
            stands for all that are not named.

    Raises:
        InvalidPrice: it is not above zero, or a name is no machine's, or two names are the same machine's.
    """
    by_name = price if isinstance(price, Mapping) else {} if price is None else {"": price}
    for amount in by_name.values():
        if not 0 < amount < float("inf"):
            raise InvalidPrice(f"a price of an hour must be a number above 0; got {amount:g}")
    known = [_names_of(section) for section in sections]
    for name in filter(None, by_name):
        if not any(name.lower() in names for names in known):
            machines = words.join_list(dict.fromkeys(section.title for section in sections))
            raise InvalidPrice(f"no machine named {name!r}, to have a price; name one of {machines}, or a part of its name")
    found = []
    for section, names in zip(sections, known, strict=True):
        own = [name for name in by_name if name and name.lower() in names]
        if len(own) > 1:
            raise InvalidPrice(f"{section.title} has two prices, by the names {words.join_list(own)}; give it one")
        amount = by_name[own[0]] if own else by_name.get("")
        found.append(section if amount is None else replace(section, series=section.series.assign(**{PRICE: amount})))
    return found


def _names_of(section: Section) -> str:
    """What a machine goes by, in lower case."""
    environment = section.runs[-1].header.environment
    gpus = [str(gpu.get("name", "")) for gpu in environment.get("gpus") or () if isinstance(gpu, Mapping)]
    cpu = environment.get("cpu")
    return "\n".join([section.title, *gpus, str(cpu.get("model", "")) if isinstance(cpu, Mapping) else ""]).lower()


def comparable(run: Run) -> dict[str, str]:
    """The comparable part of a run's environment, flat: `packages.torch` → version. What was not recorded is left out."""
    flat = flatten(run.header.environment)
    return {
        name: text for name, text in flat.items() if any(name == part or name.startswith(part + ".") for part in COMPARABLE)
    }


def flatten(values: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Nested dicts and lists as dotted names and texts."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        dotted = f"{prefix}{name}"
        if isinstance(value, Mapping):
            flat |= flatten(value, dotted + ".")
        elif isinstance(value, list | tuple):
            flat |= flatten({str(index): item for index, item in enumerate(value)}, dotted + ".")
        else:
            flat[dotted] = str(value)
    return flat


def records_frame(runs: Iterable[Run]) -> pd.DataFrame:
    """One row per record. Columns every record has come first and are there even when there is no record."""
    rows = [row(run.header, record) for run in runs for record in run.records]
    return pd.DataFrame(rows, columns=_columns(rows, RECORD_COLUMNS))


def series_frame(runs: Iterable[Run]) -> pd.DataFrame:
    """One row per metric of an ok record that has samples."""
    rows = [
        row(run.header, record)
        | {
            "metric": measurement.metric,
            "unit": measurement.unit,
            "samples": np.asarray(measurement.samples, dtype=float),
            "blocks": measurement.blocks,
            "notes": measurement.notes,
        }
        for run in runs
        for record in run.records
        if record.status == "ok"
        for measurement in record.measurements
        if measurement.samples
    ]
    return pd.DataFrame(rows, columns=_columns(rows, (*RECORD_COLUMNS, "metric", "unit", "samples", "blocks", "notes")))


RECORD_COLUMNS = (
    "run",
    "machine",
    "protocol",
    "study",
    "case",
    "backend",
    "replicate",
    "run_key",
    "replicate_key",
    "status",
    "kind",
    "reason",
    "cell",
    "phase",
    "launch",
    "device",
    "dtype",
    "steps",
    "batch",
    "hidden_size",
)


def identity(header: Header) -> str:
    """What no two runs share: moment, machine, host and name. A name alone is a time of some day."""
    host = header.environment.get("host") or header.environment.get("node") or ""
    return "/".join((header.started, header.machine, str(host), header.run))


def commit_of(header: Header) -> str:
    """The first digits of the commit that was measured; empty where it is not known."""
    git = header.environment.get("git")
    return str(git["commit"])[:SHORT_HASH] if isinstance(git, Mapping) and git.get("commit") else ""


def run_name(header: Header) -> str:
    """`2026-11-24 173926-gradients`, as readers find it among the stored runs."""
    git = header.environment.get("git")
    unknown = isinstance(git, Mapping) and git.get("commit") is None  # such a run is no point of a history of commits
    return f"{header.started[:10]} {header.run}" + (" (commit unknown)" if unknown else "")


def command(plan: Mapping[str, object], fleet: object = None) -> str:
    """The command line of a plan. fleet: what a run over several machines says of them; records hold no address, and `auto` is
    the cluster that runs there."""
    suite, studies = str(plan.get("suite") or "quick"), _names(plan, "studies")
    parts = ["lstm-bench", "run", *((studies[0], "--scale", suite) if len(studies) == 1 else (suite,))]
    for option, name in (("--backend", "backends"), ("--where", "filters")):
        parts += [part for value in _names(plan, name) for part in (option, value)]
    for option, name in (("--threads", "threads"), ("--replicates", "replicates"), ("--seed", "seed")):
        value = plan.get(name)
        parts += [option, str(value)] if isinstance(value, int) and value else []
    budget = plan.get("time_budget")
    parts += ["--time-budget", f"{budget:g}s"] if isinstance(budget, int | float) else []
    parts += ["--fleet", str(fleet.get("address") or "auto")] if isinstance(fleet, Mapping) else []
    return shlex.join(parts)


def _names(plan: Mapping[str, object], name: str) -> list[str]:
    values = plan.get(name)
    return [str(value) for value in values] if isinstance(values, list | tuple) else []


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A frame's rows as plain dicts: where pandas' untyped cells become values again."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _columns(rows: list[dict[str, object]], first: Sequence[str]) -> list[str]:
    return list(dict.fromkeys([*first, *(name for row in rows for name in row)]))


def row(header: Header, record: Record) -> dict[str, object]:
    """The columns of one record, without its measurements."""
    own = {
        "run": header.run,
        "machine": header.machine,
        "protocol": header.protocol,
        "study": record.study,
        "case": record.case,
        "backend": record.backend,
        "replicate": record.replicate,
        "run_key": identity(header),
        "replicate_key": f"{identity(header)}/{record.replicate}",
        "status": record.status,
        "kind": record.kind or "",
        "reason": record.reason,
    }
    # Records from before there were launch modes are eager.
    parameters = {"launch": "eager"} | {name: value for name, value in record.parameters.items() if name not in own}
    own |= {HOST: record.conditions[HOST]} if HOST in record.conditions else {}  # of a fleet
    counts: dict[str, object] = {f"count_{name}": value for name, value in record.counts.items()}
    told: dict[str, object] = {NO_ENERGY: record.conditions[NO_ENERGY]} if NO_ENERGY in record.conditions else {}
    told |= {PRECISION: record.provenance[PRECISION]} if PRECISION in record.provenance else {}
    return {**own, **parameters, **counts, **told}


def _remarks(runs: Sequence[Run]) -> list[str]:
    said: dict[tuple[str, str, str], list[str]] = {}  # of which runs: the verb for one and for several, and the rest
    for run in runs:
        for sentence in _said_of(run):
            said.setdefault(sentence, []).append(run.header.run)
    remarks = [
        f"Run {names[0]} {one} {rest}." if len(names) == 1 else f"Runs {words.join_list(names)} {several} {rest}."
        for (one, several, rest), names in said.items()
    ]
    if len(runs) > 1:
        remarks.append(f"{len(runs)} runs of the same protocol and environment are read together as further replicates.")
    return [*remarks, *left_out(runs)]


def _said_of(run: Run) -> Iterator[tuple[str, str, str]]:
    if run.footer is None:
        yield "has", "have", "no last line: interrupted, or still going"
    elif not run.footer.complete:
        yield "ended", "ended", "before everything asked was measured" + (f" ({run.footer.note})" if run.footer.note else "")
    yield from _of_fleet(run)
    git = run.header.environment.get("git")
    if isinstance(git, Mapping) and (git.get("commit") is None or "reason" in git):
        yield "is", "are", "not known to be the code of a commit" + (f": {git['reason']}" if git.get("reason") else "")
    elif isinstance(git, Mapping) and git.get("dirty") is None:
        yield "is", "are", "not known to be measured without uncommitted changes"
    elif isinstance(git, Mapping) and git["dirty"]:
        yield "was", "were", "measured with uncommitted changes in the working tree"


def _of_fleet(run: Run) -> Iterator[tuple[str, str, str]]:
    """What a run over several machines is, and how far its hosts lie apart where they measured the same."""
    fleet = run.header.environment.get("fleet")
    if not isinstance(fleet, Mapping):
        return
    studies = run.header.plan.get("studies", ())
    count, spread = hosts.count(run.records), hosts.spread(record for record in run.records if record.study in studies)
    measured = f"measured by a fleet of {words.format_count(count, 'host')}"
    yield "was", "were", measured + (f" ({fleet['remark']})" if fleet.get("remark") else "")
    if spread is not None:
        rest = f"hosts whose times of the same case differ by {words.format_percent(spread.relative)} (standard deviation"
        yield "has", "have", f"{rest}, {words.format_count(spread.cases, 'case and backend', 'cases and backends')})"


def left_out(runs: Iterable[Run]) -> list[str]:
    """How many outcomes of the runs were left out as they were read, and why; empty where none were."""
    counted = Counter(reason for run in runs for reason in run.left_out.values())
    number = sum(counted.values())
    parts = [words.format_count(counted[reason], noun) + rest for reason, (noun, rest) in LEFT_OUT.items() if counted[reason]]
    return (
        [f"{words.join_list(parts)} {'is' if number == 1 else 'are'} left out, listed in exclusions.json beside the runs."]
        if parts
        else []
    )


def _other_protocols(own: int, others: Sequence[int]) -> list[str]:
    if not others:
        return []
    named = words.join_list(str(protocol) for protocol in dict.fromkeys(others))
    return [f"Measured with protocol {own}; runs of protocol {named} are kept apart in a section of their own."]


def _why_apart(own: dict[str, str], others: Sequence[dict[str, str]]) -> list[str]:
    """One sentence for all sections of the same machine whose environments differ."""
    if not others:
        return []
    keys = own.keys() | {name for other in others for name in other}
    names = sorted(name for name in keys if any(own.get(name) != other.get(name) for other in others))
    shown = []
    for name in names[:MOST_DIFFERENCES]:
        there = dict.fromkeys(_short(name, other.get(name)) for other in others if other.get(name) != own.get(name))
        shown.append(f"{name} {_short(name, own.get(name))} here, {words.join_list(there, 'or')} there")
    more = f" and {len(names) - MOST_DIFFERENCES} more" if len(names) > MOST_DIFFERENCES else ""
    apart = "Another section holds" if len(others) == 1 else f"{len(others)} other sections hold"
    return [f"{apart} runs of the same machine in another environment, kept apart: {'; '.join(shown)}{more}."]


def _short(name: str, value: str | None) -> str:
    if value is None:
        return "not recorded"
    return value[:SHORT_HASH] if name == "git.commit" else value


# Which cases differ in one size only: what a curve may join.

PARAMETERS = (
    "cell", "input_size", "hidden_size", "num_layers", "bias", "bidirectional", "dtype", "device", "proj_size", "steps",
    "batch", "phase", "launch", "ragged", "initial_state", "seed",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sweep:
    """Rows that agree in every parameter but those swept. fixed: what they agree in."""

    fixed: dict[str, object]
    rows: pd.DataFrame


def sweeps(cases: pd.DataFrame, over: Sequence[str], least: int = 2) -> list[Sweep]:
    """Every group of cases that differ only in `over`, with at least `least` points, the largest group first.

    Where hidden_size is swept, an input_size that equals it is swept along.
    """
    if cases.empty or any(name not in cases for name in over):
        return []
    table = cases.copy()
    present = [name for name in PARAMETERS if name in table and name not in over]
    if "hidden_size" in over and "input_size" in table:
        table["input_size"] = table["input_size"].where(table["input_size"] != table["hidden_size"], other=-1)
    found = []
    keys = table[present].astype(object).where(table[present].notna(), None)
    for values, rows in cases.groupby([keys[name] for name in present], sort=False, dropna=False):
        points = rows.drop_duplicates(list(over))
        if len(points) >= least and all(points[name].nunique() >= 2 for name in over):
            fixed: dict[str, object] = dict(zip(present, values, strict=True))
            if fixed.get("input_size") == -1:
                del fixed["input_size"]
            found.append(Sweep(fixed, rows))
    return sorted(found, key=lambda sweep: -len(sweep.rows.drop_duplicates(list(over))))
