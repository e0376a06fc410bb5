"""What launching a call from a CUDA graph saves: each case beside its eager twin, on the same backend."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.report import words
from analysis.report.findings import PHASES, Findings, timings
from analysis.report.tables import Cell, Column, Table, ratio_cell
from analysis.statistics.ratios import Location, Ratio, geometric_mean, locate

TEXT = (
    "Each backend beside itself: the time of an eager call over that of the same call launched from one CUDA graph, geometric "
    "means over the cases that were timed both ways. Host time is what enqueuing a call took; where it is nearly all of the "
    "time, the host bounds the call and not the device. Ratios between backends, everywhere else, compare one launch mode."
)
KEYS = ["study", "backend", "device", "phase", "twin", "replicate_key"]


def table(found: Findings) -> Table:
    """One row per device, phase and backend that has a case in both launch modes; no rows where none has."""
    columns = (
        Column("Phase"), Column("Backend"), Column("Cases", True), Column("Eager over graph", True, "times as fast by a graph"),
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
        ratio = saved(part, found.location)
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


def saved(pairs: pd.DataFrame, location: Location) -> Ratio:
    """How many times as fast the graph is as the eager call, over the cases of some `twins`."""
    logs = [
        np.log(locate(eager, location) / locate(own, location))
        for eager, own in zip(pairs["samples_eager"], pairs["samples"], strict=True)
    ]
    grid = pairs.assign(log_ratio=np.array(logs), cell=pairs["study"] + "\n" + pairs["twin"])
    return geometric_mean(grid.pivot(index="replicate_key", columns="cell", values="log_ratio"), location)


def _host(cases: pd.DataFrame) -> Cell:
    known = cases["host_seconds"].dropna()
    if known.empty:
        return Cell(words.NOT_MEASURED)
    middle = float(known.median())
    return Cell(words.scaled(middle, "s"), middle)


def _bound(cases: pd.DataFrame) -> Cell:
    bound = sum("host_bound" in notes for notes in cases["notes"])
    return Cell(f"{bound} of {len(cases)}", bound / max(1, len(cases)))
