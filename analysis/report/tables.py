"""The tables of the report as plain cells, so that HTML, Markdown and a terminal show the same numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from analysis.report import words
from analysis.report.findings import PHASES, Findings, machine_name, timings
from analysis.report.load import PRICE, Section, rows_of
from analysis.statistics.rankings import standings
from analysis.statistics.ratios import Ratio, Statistic, aggregate, geometric_mean
from results.record import PRECISION, REDUCED_METRIC


@dataclass(frozen=True, slots=True)
class Cell:
    """text as shown; sort: what orders it, where that is not the text; tone: a verdict; backend: whose colour marks it;
    link: the id in the page that it leads to."""

    text: str
    sort: float | None = None
    tone: str = ""
    backend: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    label: str
    numeric: bool = False
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """name is an identifier, unique in a section. headings: what stands before a row, over it and those that follow."""

    name: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    headings: Mapping[int, str] = field(default_factory=dict)


def ratio_cell(ratio: Ratio | None, is_baseline: bool = False) -> Cell:
    """A ratio with its interval; the baseline's own ratio says that it is one."""
    if is_baseline:
        return Cell("1 (baseline)", 1.0)
    if ratio is None:
        return Cell("not compared")
    return Cell(
        words.format_ratio(ratio), ratio.value, ratio.verdict or ("undecided" if ratio.low is not None else "no-interval")
    )


def backends(found: Findings) -> Table:
    """One row per backend: cases by outcome, and its geometric-mean ratio per device, phase and launch mode."""
    records = found.section.records
    groups = list(found.rankings)
    columns = [Column("Backend")]
    for at in groups:
        ranking = found.rankings[at]
        hint = f"geometric mean over {ranking.shared} of {words.format_count(ranking.total, 'case')}"
        columns.append(Column(words.capitalised(found.named(*at)), True, hint))
    columns += [Column("Measured", True, "of requested"), Column("Skipped", True), Column("Failed", True)]
    rows = []
    for name in found.backends:
        own = records[records["backend"] == name]
        outcome = own.groupby(["study", "case"])["status"].agg(
            lambda statuses: "ok" if "ok" in set(statuses) else statuses.iloc[0]
        )
        tally = outcome.value_counts()
        row = [Cell(name, backend=name), *(_ranked(found, key, name) for key in groups)]
        row.append(Cell(f"{tally.get('ok', 0)} of {len(outcome)}", float(tally.get("ok", 0))))
        row += [Cell(str(tally.get(status, 0)), float(tally.get(status, 0))) for status in ("skipped", "failed")]
        rows.append(tuple(row))
    return Table("backends", tuple(columns), tuple(rows))


def rankings(found: Findings) -> Table:
    """One row per phase and backend: its place, its speed relative to the fastest, and the decision beside the one before."""
    columns = (
        Column("Phase"), Column("Place", True), Column("Backend"), Column("Speed", True, "relative to the fastest"),
        Column("Replicates", True), Column("Beside the one above"),
    )  # fmt: skip
    rows = []
    for at in found.ordered_rankings:
        phase = words.capitalised(found.named(*at))
        for row in standings(found.rankings[at]):
            count = row.speed.replicates
            rows.append((
                Cell(phase), Cell(str(row.place), row.place), Cell(row.backend, backend=row.backend),
                Cell(words.format_ratio(row.speed), row.speed.value), Cell(str(count), count),
                Cell(words.BESIDE_FASTER[row.beside] if row.beside else "fastest"),
            ))  # fmt: skip
    return Table("rankings", columns, tuple(rows) if len(found.backends) > 1 else ())


def _ranked(found: Findings, key: tuple[str, str, str], name: str) -> Cell:
    ranking = found.rankings[key]
    if name in ranking.left_out:
        return Cell(f"only {ranking.left_out[name]} of {words.format_count(ranking.total, 'case')}")
    if name not in ranking.ratios:
        return Cell(words.NOT_MEASURED)
    return ratio_cell(ranking.ratios[name], name == found.baseline)


def cases(found: Findings) -> Table:
    """One row per case and backend."""
    table = found.cases
    several = {name: table[name].nunique() > 1 for name in ("device", "dtype", "cell", "study") if name in table}
    network = [_network(row) for row in rows_of(table)]
    various = any(text != "plain" for text in network)
    extra = [name for name in ("study", "cell", "dtype", "device") if several.get(name)]
    extra += ["launch"] * ("graph" in found.launches)
    hosts = bool(table["host_seconds"].notna().any())
    columns = [
        Column("Phase"),
        *(Column(name.capitalize()) for name in extra),
        Column("T", True, "steps"),
        Column("B", True, "batch"),
    ]
    columns += [Column("H", True, "hidden"), *([Column("Network")] * various), Column("Backend"), Column("Time a call", True)]
    columns += [Column("± %", True), *([Column("Host time a call", True)] * hosts)]
    columns += [Column("Speedup", True, f"over {found.baseline}"), Column("Tokens/s", True)]
    columns += [Column("FLOP/s", True), Column("First call", True, "cold")]
    columns += [Column("Cost", True, "of 1 M tokens")] * (PRICE in table) + [Column("Notes")]
    order = {phase: index for index, phase in enumerate(PHASES)}
    names = {name: index for index, name in enumerate(found.backends)}
    listed = table.assign(order=table["phase"].map(order), place=table["backend"].map(names))
    listed = listed.sort_values(["order", *extra, "hidden_size", "steps", "batch", "case", "place"], kind="stable")
    rows = tuple(_case_row(row, extra, various, hosts, found.baseline) for row in rows_of(listed))
    return Table("cases", tuple(columns), rows)


def _case_row(row: dict[str, object], extra: list[str], various: bool, hosts: bool, baseline: str | None) -> tuple[Cell, ...]:
    notes = [words.format_note(str(note)) for note in _sequence(row["notes"])] + (
        ["bimodal"] if row["modes"] is not None else []
    )
    notes += [words.no_interval(row["ratio"])] if isinstance(row["ratio"], Ratio) and row["ratio"].low is None else []
    seconds = _number(row["seconds"]) or 0.0
    low, high = _number(row["low"]), _number(row["high"])
    half = (
        Cell("–")
        if low is None or high is None
        else Cell(words.format_significant(50 * (high - low) / seconds, 2), (high - low) / seconds)
    )
    ratio = row["ratio"] if isinstance(row["ratio"], Ratio) else None
    return (
        Cell(words.PHASES.get(str(row["phase"]), str(row["phase"]))),
        *(Cell(str(row[name])) for name in extra),
        *(_plain(row.get(name)) for name in ("steps", "batch", "hidden_size")),
        *([Cell(_network(row))] * various),
        Cell(str(row["backend"]), backend=str(row["backend"])),
        Cell(words.format_si(seconds, "s"), seconds),
        half,
        *([_scaled(row["host_seconds"], "s")] * hosts),
        ratio_cell(ratio, row["backend"] == baseline),
        _scaled(row.get("tokens_per_second"), ""),
        _scaled(row.get("flops_per_second"), ""),
        _scaled(row.get("first_call"), "s"),
        *([_cost(row)] if PRICE in row else []),
        Cell(", ".join(notes)),
    )


def _cost(row: dict[str, object]) -> Cell:
    """Of a million tokens, at the price of an hour."""
    price, rate = _number(row[PRICE]), _number(row.get("tokens_per_second"))
    if price is None or not rate:
        return Cell("–")
    cost = price / 3600 / rate * 1e6
    return Cell(words.format_number(cost), cost)


def _network(row: dict[str, object]) -> str:
    """What sets a case apart from a plain layer with as many inputs as units."""
    return words.format_sizes(row, ("hidden_size", "steps", "batch", "cell", "launch")) or "plain"


def refusals(section: Section) -> Table:
    """Everything skipped or failed with its reason: one row per backend and reason, with the cases it hit."""
    records = section.records[section.records["status"] != "ok"]
    rows = []
    groups = records.groupby(["backend", "status", "kind", "reason"], sort=True)
    for (name, status, kind, reason), part in groups:
        found = part.drop_duplicates(["study", "case"])
        word = f"{status}: {kind}".replace("_", " ") if kind else str(status)
        number = Cell(words.format_count(len(found), "case"), float(len(found)))
        rows.append(
            (
                Cell(str(name), backend=str(name)),
                Cell(word, tone=str(status)),
                Cell(str(reason)),
                number,
                Cell(str(found["case"].iloc[0])),
            )
        )
    columns = (Column("Backend"), Column("Outcome"), Column("Reason"), Column("Cases", True), Column("For example"))
    return Table("refusals", columns, tuple(rows))


def environment(section: Section) -> Table:
    """Every part of every run's environment, nested names joined by points; where runs differ, each value with its run."""
    values: dict[str, dict[str, list[str]]] = {}
    for run in section.runs:
        for name, text in _definitions(run.header.environment).items():
            values.setdefault(name, {}).setdefault(text, []).append(run.header.run)
    rows = []
    for name, texts in values.items():
        everywhere = len(texts) == 1 and len(next(iter(texts.values()))) == len(section.runs)
        text = next(iter(texts)) if everywhere else "; ".join(f"{text} ({', '.join(runs)})" for text, runs in texts.items())
        rows.append((Cell(name), Cell(text)))
    return Table("environment", (Column("Property"), Column("Value")), tuple(rows))


def _definitions(values: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in values.items():
        label = f"{prefix}{name}".replace("_", " ") if not prefix else f"{prefix}{name}"
        if isinstance(value, Mapping):
            found |= _definitions(value, f"{label} › ")
        elif isinstance(value, list | tuple) and value and all(isinstance(item, Mapping) for item in value):
            for index, item in enumerate(value):
                found |= _definitions(item, f"{label} {index} › ")
        elif str(name).endswith("_bytes") and isinstance(value, int | float):
            found[label.removesuffix("_bytes").removesuffix(" bytes")] = words.format_si(float(value), "B")
        else:
            found[label] = (
                value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) if value not in ([], {}) else "none"
            )
    return found


def ceilings(section: Section) -> Table:
    """The measured peaks of this machine."""
    rows = []
    series = section.series[section.series["backend"] == "machine"]
    for (metric, unit, device, dtype), part in series.groupby(["metric", "unit", "device", "dtype"], sort=False, dropna=False):
        best = max(float(samples.max()) for samples in part["samples"])
        rows.append((Cell(str(metric)), Cell(str(device)), Cell(str(dtype)), Cell(words.format_si(best, str(unit)), best)))
    return Table("ceilings", (Column("Peak"), Column("Device"), Column("Type"), Column("Best measured", True)), tuple(rows))


REDUCED_TEXT = (
    "Backends that compute these cases in less than the data type asked for. Their results are not equal within its tolerance, "
    "so they are ranked with no other backend. Errors are of the outputs against float64, relative to the largest of them."
)


def reduced(section: Section) -> Table:
    """What backends of lower precision took and by how much they are off, beside the fastest that computes what was asked."""
    rows, series = [], section.series
    for (case, backend), own in _reduced_rows(series).groupby(["case", "backend"], sort=False):
        first = own.iloc[0]
        exact = series[(series["case"] == case) & (series["metric"] == "time") & (series["backend"] != "null")]
        medians = {str(name): _median(times["samples"]) for name, times in exact.groupby("backend")}
        best = min(medians, key=lambda name: medians[name], default=None)
        errors = [_error(series, case, name, "error") for name in medians]
        seconds = _median(own["samples"])
        rows.append((
            Cell(str(case)), Cell(str(backend), backend=str(backend)), Cell(str(first[PRECISION])),
            Cell(words.format_si(seconds, "s"), seconds), _error_cell(_error(series, case, backend, REDUCED_METRIC + "error")),
            Cell("–") if best is None else Cell(f"{words.format_si(medians[best], 's')} ({best})", medians[best]),
            _error_cell(max((error for error in errors if error is not None), default=None)),
        ))  # fmt: skip
    columns = (
        Column("Case"), Column("Backend"), Column("Computes in"), Column("Time", True), Column("Error", True),
        Column("Fastest as asked", True), Column("Error as asked", True, "largest of those backends"),
    )  # fmt: skip
    return Table("reduced", columns, tuple(rows))


def reduced_note(rows: pd.DataFrame, series: pd.DataFrame) -> str:
    """Of one backend on one case: that it computes in less than was asked, and its error; nothing of another backend."""
    own = _reduced_rows(rows)
    if own.empty:
        return ""
    first = own.iloc[0]
    error = _error(series, first["case"], first["backend"], REDUCED_METRIC + "error")
    off = "error not measured" if error is None else f"off by {words.format_percent(error)} of the largest output"
    return f"computes in {first[PRECISION]}, not ranked, {off}"


def _reduced_rows(series: pd.DataFrame) -> pd.DataFrame:
    return series[series["metric"] == REDUCED_METRIC + "time"]


def _median(samples: pd.Series) -> float:
    return float(np.median([np.median(each) for each in samples]))


def _error(series: pd.DataFrame, case: object, backend: object, metric: str) -> float | None:
    rows = series[(series["case"] == case) & (series["backend"] == backend) & (series["metric"] == metric)]
    return None if rows.empty else max(float(samples.max()) for samples in rows["samples"])


def _error_cell(error: float | None) -> Cell:
    return Cell("–") if error is None else Cell(f"{error:.2g}", error)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not pd.isna(value) else None


def _plain(value: object) -> Cell:
    number = _number(value)
    return Cell("–") if number is None else Cell(f"{number:g}", number)


def _scaled(value: object, unit: str) -> Cell:
    number = _number(value)
    return Cell(words.NOT_MEASURED) if number is None else Cell(words.format_si(number, unit).rstrip(), number)


def _sequence(value: object) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else ()


# Speedup of launching a call from a CUDA graph: each case and its eager counterpart, on the same backend.

TEXT = (
    "Speedup of each backend’s CUDA graph over its own eager call: geometric means over the cases that were timed both ways. "
    "Host time is the time to enqueue a call; where it is nearly all of the time, the call is host-bound. All other speedups "
    "in this report compare equal launch modes."
)
KEYS = ["study", "backend", "device", "phase", "twin", "replicate_key"]


def table(found: Findings) -> Table:
    """One row per device, phase and backend that has a case in both launch modes; no rows where none has."""
    columns = (
        Column("Phase"), Column("Backend"), Column("Cases", True), Column("Speedup", True, "graph over eager"),
        Column("Host time, eager", True, "median over cases"), Column("Host time, CUDA graph", True, "median over cases"),
        Column("Host bound, eager", True, "cases"), Column("Host bound, CUDA graph", True, "cases"),
    )  # fmt: skip
    pairs = twins(found)
    places = {name: place for place, name in enumerate(found.backends)}
    parts = pairs.groupby(["device", "phase", "backend"], sort=False)
    groups = [((str(device), str(phase), str(backend)), part) for (device, phase, backend), part in parts]
    groups.sort(key=lambda group: (group[0][0], PHASES.index(group[0][1]), places[group[0][2]]))
    devices = pairs["device"].nunique()
    rows = []
    for (device, phase, backend), part in groups:
        where = f" on {device}" if devices > 1 else ""
        ratio = saved(part, found.statistic)
        cases = found.cases[(found.cases["backend"] == backend) & (found.cases["device"] == device)]
        eager, graph = (cases[cases["case"].isin(part[name])] for name in ("twin", "case"))
        rows.append(
            (
                Cell(words.PHASES.get(phase, phase) + where),
                Cell(backend, backend=backend),
                Cell(str(ratio.cases), float(ratio.cases)),
                ratio_cell(ratio),
                *(_host(each) for each in (eager, graph)),
                *(_bound(each) for each in (eager, graph)),
            )
        )
    return Table("launches", columns, tuple(rows))


def twins(found: Findings) -> pd.DataFrame:
    """Timings of cases launched from a graph beside those of the same replicate's eager case, `samples_eager`; `twin` is the
    eager case's key."""
    times = timings(found.section)
    graph = times[times["launch"] == "graph"]
    keys = [
        str(case).replace(f"-{device}-graph", f"-{device}", 1)
        for case, device in zip(graph["case"], graph["device"], strict=True)
    ]
    graph = graph.assign(twin=np.array(keys, dtype=object))
    eager = times.loc[times["launch"] == "eager"].rename(columns={"case": "twin"})
    return graph.merge(eager[[*KEYS, "samples"]], on=KEYS, suffixes=("", "_eager"))


def saved(pairs: pd.DataFrame, statistic: Statistic) -> Ratio:
    """Speedup of the graph over the eager call, over the cases of some `twins`."""
    logs = [
        np.log(aggregate(eager, statistic) / aggregate(own, statistic))
        for eager, own in zip(pairs["samples_eager"], pairs["samples"], strict=True)
    ]
    grid = pairs.assign(log_ratio=np.array(logs), cell=pairs["study"] + "\n" + pairs["twin"])
    return geometric_mean(grid.pivot(index="replicate_key", columns="cell", values="log_ratio"), statistic)


def _host(cases: pd.DataFrame) -> Cell:
    known = cases["host_seconds"].dropna()
    if known.empty:
        return Cell(words.NOT_MEASURED)
    middle = float(known.median())
    return Cell(words.format_si(middle, "s"), middle)


def _bound(cases: pd.DataFrame) -> Cell:
    bound = sum("host_bound" in notes for notes in cases["notes"])
    return Cell(f"{bound} of {len(cases)}", bound / max(1, len(cases)))


# Machines beside each other: which of them for an LSTM, by speed, price and energy.


def beside(founds: Sequence[Findings]) -> Table:
    """Of each phase one row a machine, over the cases that all of them measured; no row where there is one machine.

    On each case a machine stands with its fastest backend. Cost is there where a price is, energy where records hold it.
    """
    rows: list[tuple[Cell, ...]] = []
    priced = any(PRICE in found.cases for found in founds)
    for phase in PHASES if len(founds) > 1 else ():
        best = {number: _fastest(found, phase) for number, found in enumerate(founds)}
        best = {number: table for number, table in best.items() if len(table)}
        shared = sorted(set.intersection(*(set(table.index) for table in best.values()))) if len(best) > 1 else []
        joules = {number: _joules(founds[number], phase) for number in best}
        known = [set(each) for each in joules.values() if each]
        same = sorted(set.intersection(*known)) if known else []
        if not shared:
            continue
        first = best[min(best)].loc[shared]
        for number, table in best.items():
            found, own = founds[number], table.loc[shared]
            rate = float(np.exp(np.log(own["tokens_per_second"].to_numpy(float)).mean()))
            leaders = own["backend"].value_counts()
            price = float(found.cases[PRICE].iloc[0]) if PRICE in found.cases else None
            energy = [joules[number][key] for key in same if key in joules[number]]
            rows.append((
                Cell(words.capitalised(words.PHASES[phase])), Cell(machine_label(found, founds)),
                Cell(f"{leaders.index[0]} ({leaders.iloc[0]} of {words.format_count(len(shared), 'case')})"),
                Cell(words.format_si(rate, ""), rate),
                Cell("1 (the first)", 1.0) if number == min(best) else ratio_cell(_over(first, own, found.statistic)),
                *((_amount(price), _amount(None if price is None else price / 3600 / rate * 1e6)) if priced else ()),
                Cell(words.NOT_MEASURED) if not energy else _joule_cell(energy),
            ))  # fmt: skip
    columns = [Column("Phase"), Column("Machine"), Column("Fastest backend", hint="of most cases")]
    columns += [Column("Tokens/s", True, "geometric mean"), Column("Speedup", True, "over the first machine")]
    columns += [Column("Price", True, "an hour"), Column("Cost", True, "of 1 M tokens")] * priced
    return Table("machines", (*columns, Column("Energy", True, "of 1 M tokens")), tuple(rows))


def machine_label(found: Findings, founds: Sequence[Findings]) -> str:
    """As a reader knows the machine; with the name that records give it where two are known by the same."""
    name = machine_name(found.section)
    alike = [other.section for other in founds if machine_name(other.section) == name]
    if len(alike) < 2:
        return name
    if sum(other.title == found.section.title for other in alike) < 2:
        return f"{name} ({found.section.title})"
    environment = found.section.runs[-1].header.environment
    return f"{name} ({found.section.title}, {(environment.get('fleet') or {}).get('fingerprint', 'not of a fleet')})"


def _fastest(found: Findings, phase: str) -> pd.DataFrame:
    """The fastest backend of each case of a phase, by study and case."""
    cases = found.cases[(found.cases["phase"] == phase) & (found.cases["tokens_per_second"] > 0)]
    fastest = cases.sort_values("seconds").drop_duplicates(["study", "case"])
    return fastest.assign(key=fastest["study"] + "\n" + fastest["case"]).set_index("key")


def _over(first: pd.DataFrame, own: pd.DataFrame, statistic: Statistic) -> Ratio:
    """Speedup of a machine over the first. Its interval takes what the cases are off by as common to all of them."""
    value = float(np.exp(np.log(first["seconds"].to_numpy(float) / own["seconds"].to_numpy(float)).mean()))
    halves = [
        np.log(table["high"].to_numpy(float) / table["low"].to_numpy(float)) / 2 for table in (first, own)
    ]  # NaN where there is no interval  # fmt: skip
    half = float(np.hypot(*halves).mean())
    if not np.isfinite(half):
        return Ratio(value, None, None, 1, statistic, len(own))
    return Ratio(value, value * float(np.exp(-half)), value * float(np.exp(half)), 0, statistic, len(own))


def _joules(found: Findings, phase: str) -> dict[str, float]:
    """Joules of a token by study and case, on the backend that took least."""
    series = found.section.series
    rows = series[(series["metric"] == "energy") & (series["phase"] == phase)]
    least: dict[str, float] = {}
    if "count_tokens" not in rows:
        return least
    for study, case, samples, tokens in zip(
        *(rows[name] for name in ("study", "case", "samples", "count_tokens")), strict=True
    ):
        if tokens > 0:
            key = f"{study}\n{case}"
            least[key] = min(least.get(key, np.inf), float(np.median(samples)) / float(tokens))
    return least


def _joule_cell(of_a_token: Sequence[float]) -> Cell:
    joules = 1e6 * float(np.exp(np.log(of_a_token).mean()))
    return Cell(words.format_si(joules, "J"), joules)


def _amount(value: float | None) -> Cell:
    return Cell("not given") if value is None else Cell(words.format_number(value), value)
