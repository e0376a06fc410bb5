"""Figures, cards and the table of workloads."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.report import words
from analysis.report.drawing import PAPER, Drawing, legend, log_values, look, panels, style
from analysis.report.overview import Card
from analysis.report.tables import Cell, Column, Table
from analysis.studies import of_series
from analysis.studies.workloads import AUDIO, Call, measured

_SINGULAR = {AUDIO: AUDIO.replace("s of", "second of"), "series": "series"}  # of units whose singular has another end


def speed(call: Call) -> str:
    """`41.2× real time`, `1.23 M samples/s`."""
    if call.system.unit == AUDIO:
        return f"{words.format_significant(call.rate)}× real time"
    return f"{words.format_si(call.rate, '').rstrip()} {call.system.unit}/s"


def shape(call: Call) -> str:
    """`training, T80 B32, bfloat16`, and whether it is smaller than the system's own."""
    own = call.shape
    sizes = f"B{own.batch}" if own.phase == "step" else f"T{own.steps} B{own.batch}"
    text = f"{words.PHASES[own.phase]}, {sizes}" + ("" if own.dtype == "float32" else f", {own.dtype}")
    return text + (", smaller than its own" if own.scaled else "")


def cost(call: Call) -> str:
    """`0.0123 for a million tokens, at 2.5 an hour`; of audio for an hour of it. Nothing without a price."""
    if call.cost is None or call.price is None:
        return ""
    what = "an hour of audio" if call.system.unit == AUDIO else f"a million {call.system.unit}"
    return f"{words.format_number(call.cost)} for {what}, at {words.format_number(call.price)} an hour"


def energy(call: Call) -> str:
    """`3.20 mJ/s of audio`; that it was not measured, where it was not."""
    if call.energy is None:
        return "not measured"
    return f"{words.format_si(call.energy, 'J')} a {_SINGULAR.get(call.system.unit, call.system.unit.removesuffix('s'))}"


def _why_no_energy(calls: Sequence[Call]) -> str:
    """What the energy is of; or, where none was measured, why."""
    reasons = list(dict.fromkeys(call.no_energy for call in calls if call.no_energy))
    return f"not measured: {'; '.join(reasons)}" if reasons else "of the whole processor package or GPU"


def _name(call: Call) -> str:
    return call.system.title + (f", {call.part.label}" if call.part.label else "")


def _lead(call: Call) -> tuple[str, bool | None]:
    """The speedup of the fastest over the second, and whether it is decided; None where there is one backend."""
    if call.lead is None:
        return "the only backend measured", None
    interval = "" if call.lead.low is not None else ", one replicate: no interval"
    return f"{words.format_ratio(call.lead)} {call.timings[1].backend}{interval}", call.lead.verdict == "faster"


def cards(series: pd.DataFrame) -> list[Card]:
    """One a call: the fastest backend, its speed in the system's unit, the published one."""
    made = []
    for call in measured(series):
        lead, clear = _lead(call)
        seconds = words.format_si(call.timings[0].seconds, "s")
        budget, share = call.system.budget, call.budget_share
        notes = [f"{words.format_percent(share)} of {budget[1]}"] if share and budget else []
        notes += [cost(call)] * (call.cost is not None)
        notes += [f"energy {energy(call)}"] * (call.energy is not None)
        notes += [f"Published: {each.text}" for each in call.published]
        detail = f"{speed(call)}: {seconds} a call ({shape(call)}), {lead}"
        made.append(Card(_name(call), call.timings[0].backend, "", detail, clear, "; ".join(notes)))
    return made


def table(series: pd.DataFrame) -> Table:
    """One row a call."""
    calls = measured(series)
    priced = any(call.price is not None for call in calls)
    columns = (
        Column("System"), Column("Domain"), Column("Call"), Column("Fastest"), Column("Time a call", True),
        Column("First call", True, "cold"), Column("Speed", True),
        Column("Energy", True, _why_no_energy(calls)), *([Column("Cost", True)] * priced),
        Column("Budget", True, "share a call takes"), Column("Published", hint="mostly of whole models"), Column("Source"),
        Column("Note"),
    )  # fmt: skip
    rows = []
    for call in calls:
        first, share = call.timings[0], call.budget_share
        rows.append((
            Cell(_name(call)), Cell(call.system.domain), Cell(shape(call)), Cell(first.backend, backend=first.backend),
            Cell(words.format_si(first.seconds, "s"), first.seconds),
            Cell("–") if call.first_call is None else Cell(words.format_si(call.first_call, "s"), call.first_call),
            Cell(speed(call), call.rate), Cell(energy(call), call.energy), *([Cell(cost(call), call.cost)] * priced),
            Cell("–") if share is None else Cell(words.format_percent(share), share),
            Cell("; ".join(each.text for each in call.published) or "none known"), Cell(call.system.source),
            Cell(call.system.note),
        ))  # fmt: skip
    return Table("workloads", columns, tuple(rows))


TEXT = "Speeds are those of the LSTM alone; published ones are mostly of whole models and bound the LSTM’s time from above."


def draw(series: pd.DataFrame) -> Drawing | None:
    """A row a call: each backend's time over that of the fastest."""
    calls = [call for call in measured(series) if len(call.timings) > 1]
    if not calls:
        return None
    with look():
        figure, grid = panels(1, 1, 0.9 + 0.24 * len(calls))
        figure.set_figwidth(8.2)
        axes = grid[0][0]
        for place, call in enumerate(calls):
            fastest = call.timings[0].seconds
            for each in call.timings:
                own = style(each.backend)
                if each.low is not None and each.high is not None:
                    axes.plot([each.low / fastest, each.high / fastest], [place, place], color=own.colour, lw=1)
                axes.plot(
                    each.seconds / fastest,
                    place,
                    own.marker,
                    color=own.colour,
                    ms=6,
                    mec=PAPER,
                    mew=0.6,
                    linestyle="",
                    zorder=3,
                )
        most = max(call.timings[-1].seconds / call.timings[0].seconds for call in calls)
        axes.set(xscale="log", xlim=(0.9, most * 1.3), ylim=(len(calls) - 0.4, -0.6), xlabel="time over that of the fastest")
        log_values(axes.xaxis, [value for value in (1, 2, 3, 5, 10, 20, 30, 50, 100, 300, 1000) if value <= most * 1.3])
        axes.set_yticks(range(len(calls)), [f"{_name(call)} ({shape(call).partition(',')[0]})" for call in calls])
        axes.tick_params(axis="y", length=0)
        legend(figure, {each.backend for call in calls for each in call.timings})
    ahead: dict[str, int] = {}
    for call in calls:
        ahead[call.timings[0].backend] = ahead.get(call.timings[0].backend, 0) + 1
    said = [f"{name} in {number}" for name, number in sorted(ahead.items(), key=lambda item: -item[1])]
    caption = f"Least time of {words.format_count(len(calls), 'call')}: {words.join_list(said)}; bars are 95 % intervals."
    return Drawing(figure, "Backends on the LSTMs of systems in use", caption)


SECTION = ("workloads", "Workloads")
TABLE = (table, TEXT)
CARDS = cards
FIGURES = of_series({"workloads": draw})
