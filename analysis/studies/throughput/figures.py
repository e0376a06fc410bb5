"""Figures of what was timed: ratios, who is fastest, throughput, latency, rooflines."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from analysis.report import words
from analysis.report.drawing import (
    INK,
    LEAST_OF_A_LINE,
    PAPER,
    Drawing,
    blank,
    dumbbells,
    legend,
    log_units,
    log_values,
    look,
    ordered,
    panels,
    style,
)
from analysis.report.load import Sweep, rows_of, sweeps
from analysis.statistics.rankings import Ranking
from analysis.statistics.ratios import Ratio

# Streaming: the time of one token, every sample's place shown, for tails matter there as much as the middle.

MOST_PANELS, COLUMNS = 6, 3


def draw_latency(times: pd.DataFrame) -> Drawing | None:
    """times: rows of a section's `series` with metric `time`, of one device; those of phase `step` are drawn."""
    steps = times[times["phase"] == "step"]
    if steps.empty:
        return None
    keys = steps.drop_duplicates("case").sort_values(["batch", "hidden_size", "case"])
    cases = _spread_latency(list(keys["case"]))
    backends = ordered(steps["backend"])
    with look():
        rows = -(-len(cases) // COLUMNS)
        figure, grid = panels(min(len(cases), COLUMNS), rows, 0.9 + 0.32 * len(backends))
        flat = [axes for line in grid for axes in line]
        every = [np.concatenate(list(steps.loc[steps["case"] == case, "samples"])) for case in cases]
        for axes, case, samples in zip(flat, cases, every, strict=False):
            _panel_latency(axes, steps[steps["case"] == case], backends)
            axes.set_xscale("log")
            axes.set_xlim(samples.min() / 1.3, samples.max() * 1.3)
            log_units(axes.xaxis, "s", samples.min(), samples.max())
        blank(flat[len(cases) :])
        for axes in flat[max(len(cases) - len(grid[0]), 0) : len(cases)]:
            axes.set_xlabel("time of one streaming step")
    return Drawing(figure, "Latency of one streaming step", _caption_latency(steps, cases, len(keys)))


def _spread_latency(cases: list[str]) -> list[str]:
    if len(cases) <= MOST_PANELS:
        return cases
    return [cases[place] for place in np.linspace(0, len(cases) - 1, MOST_PANELS).round().astype(int)]


def _panel_latency(axes: Axes, rows: pd.DataFrame, backends: list[str]) -> None:
    pooled = {str(name): np.concatenate(list(part["samples"])) for name, part in rows.groupby("backend")}
    for place, name in enumerate(backends):
        if name not in pooled:
            axes.text(
                0.5, place, words.NOT_MEASURED, transform=axes.get_yaxis_transform(), ha="center", va="center", color=INK,
                alpha=0.6,
            )  # fmt: skip
            continue
        own = style(name)
        seaborn.pointplot(
            x=pooled[name], y=np.full(len(pooled[name]), place), estimator="median", errorbar=("pi", 90), orient="h",
            native_scale=True, color=own.colour, markers=own.marker, markersize=6.5, markeredgecolor=PAPER, markeredgewidth=0.8,
            err_kws={"linewidth": 1.6, "color": own.colour}, ax=axes,
        )  # fmt: skip
        axes.plot(np.quantile(pooled[name], 0.99), place, "|", color=own.colour, ms=7, zorder=3)
    axes.set_yticks(range(len(backends)), backends)
    axes.set_ylim(len(backends) - 0.5, -0.5)
    axes.set(xlabel="", ylabel="", title=words.format_sizes(rows_of(rows[:1])[0]))
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)


def _caption_latency(steps: pd.DataFrame, cases: list[str], every: int) -> str:
    case = cases[0]
    pooled = {str(n): np.concatenate(list(part["samples"])) for n, part in steps[steps["case"] == case].groupby("backend")}
    first = min(pooled, key=lambda name: float(np.median(pooled[name])))
    low, high = (words.format_si(float(np.quantile(pooled[first], share)), "s") for share in (0.5, 0.95))
    row = rows_of(steps[steps["case"] == case][:1])[0]
    text = f"At {words.format_sizes(row)} the smallest median is {first}’s, {low}, with 95 % of its samples within {high}; "
    text += "markers are medians (p50), lines span p5 to p95, ticks are p99."
    return text + (f" Shown: {len(cases)} of {every} cases." if len(cases) < every else "")


# The forest plot: speedup over the baseline, per backend, with its interval and every case behind it.


def draw_ratio(cases: pd.DataFrame, rankings: dict[str, Ranking], baseline: str) -> Drawing | None:
    """All backends against the baseline, a panel a phase on one scale.

    cases: as in `Findings.cases`, of one device. rankings: phase → ranking. Needs a backend beside the baseline.
    """
    rankings = {phase: ranking for phase, ranking in rankings.items() if len(ranking.ratios) > 1}
    if not rankings:
        return None
    best: dict[str, float] = {}
    for ranking in rankings.values():
        for name, ratio in ranking.ratios.items():
            best[name] = max(best.get(name, 0.0), ratio.value)
    backends = sorted(best, key=lambda name: best[name])
    single = {(str(phase), str(name)): _ratios_of(part) for (phase, name), part in cases.groupby(["phase", "backend"])}
    values = [ratio for (phase, _), ratios in single.items() if phase in rankings for ratio in ratios]
    values += [ratio.value for ranking in rankings.values() for ratio in ranking.ratios.values()]
    with look():
        figure, grid = panels(len(rankings), 1, 0.95 + 0.3 * len(backends))
        for axes, (phase, ranking) in zip(grid[0], rankings.items(), strict=True):
            axes.set_xscale("log")
            axes.set_xlim(min(values) / 1.3, max(values) * 1.3)
            for place, name in enumerate(backends):
                _row_ratio(axes, place, name, ranking.ratios.get(name), single.get((phase, name), []), name == baseline)
            _axis_ratio(axes, baseline)
            axes.set_title(f"{words.PHASES[phase].capitalize()}, {words.format_count(ranking.shared, 'case')}")
        grid[0][0].set_yticks(range(len(backends)), backends)
        grid[0][0].set_ylim(-0.6, len(backends) - 0.4)
    return Drawing(figure, f"Speedup over {baseline}", _caption_ratio(rankings, baseline))


def _ratios_of(cases: pd.DataFrame) -> list[float]:
    return [ratio.value for ratio in cases["ratio"] if isinstance(ratio, Ratio)]


def _row_ratio(
    axes: Axes, place: int, name: str, ratio: Ratio | None, single: list[float], is_baseline: bool
) -> None:  # fmt: skip
    """A backend's mean with its interval, cut with an arrowhead where it leaves the panel; ticks for its cases."""
    own, right = style(name), axes.get_yaxis_transform()
    if ratio is None:
        if not single:
            axes.text(0.03, place, words.NOT_MEASURED, transform=right, va="center", fontsize=8, alpha=0.7)
        axes.plot(single, [place] * len(single), "|", color=own.colour, ms=6)
        return
    if is_baseline:
        axes.plot(1, place, own.marker, mfc=PAPER, mec=own.colour, mew=1.4, ms=7, zorder=4)
        axes.text(1.02, place, "1", transform=right, va="center", fontsize=8)
        return
    axes.plot(single, [place - 0.26] * len(single), "|", color=own.colour, ms=4, alpha=0.7)
    least, most = axes.get_xlim()
    if ratio.low is not None and ratio.high is not None:
        low, high = max(ratio.low, least), min(ratio.high, most)
        axes.plot([low, high], [place, place], color=own.colour, lw=1.6, solid_capstyle="butt")
        for end, bound, arrow in ((low, ratio.low, "<"), (high, ratio.high, ">")):
            axes.plot(end, place, "|" if end == bound else arrow, color=own.colour, ms=7 if end == bound else 5, clip_on=False)
    axes.plot(ratio.value, place, own.marker, color=own.colour, ms=7.5, mec=PAPER, mew=0.8, zorder=4)
    weight = "normal" if ratio.verdict is None else "bold"
    text = words.format_significant(ratio.value)
    axes.text(1.02, place, text, transform=right, va="center", fontsize=8, fontweight=weight)


def _axis_ratio(axes: Axes, baseline: str) -> None:
    axes.axvline(1, color=INK, lw=1, zorder=1)
    least, most = axes.get_xlim()
    subs = (1, 3) if most / least > 16 else (1, 2, 5) if most / least > 4 else (1, 1.5, 2, 3, 4, 6, 8)
    axes.xaxis.set_major_locator(LogLocator(10, subs=subs))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"speedup over {baseline}")
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)


def _caption_ratio(rankings: dict[str, Ranking], baseline: str) -> str:
    ratios = [ratio for ranking in rankings.values() for name, ratio in ranking.ratios.items() if name != baseline]
    without = {words.no_interval(ratio) for ratio in ratios} - {""}
    interval = f"({words.join_list(sorted(without))})" if without else "with its 95 % interval over replicates"
    statistic = ratios[0].statistic
    how = "" if statistic == "median" else f" Statistic: {words.STATISTICS[statistic]}."
    counts = {ratio.replicates for ratio in ratios}
    # Then the ratio of two speedups is not quite the speedup of the one over the other, which has other replicates.
    uneven = (
        f" Backends have {min(counts)} to {max(counts)} replicates; each is compared over those that {baseline} has too."
        if len(counts) > 1
        else ""
    )
    return (
        f"Marker: geometric mean over the cases that all ranked backends share, {interval}; ticks: single cases. "
        f"Right of 1 is faster than {baseline} (hollow); bold: the interval excludes 1.{uneven}{how}"
    )


# Achieved FLOP/s over arithmetic intensity under this machine's own peaks (Williams, Waterman & Patterson 2009). What a case
# reads and writes may stay in a cache between calls: each point has the roof of the memory that holds it all.

MEMORIES = {"copy_l2": "L2", "copy_l3": "L3", "copy": "memory"}  # from the smallest
# Bytes up to which a case is taken to stay in a cache: what the copy that measured it used (`bench/worker/peaks.py`).
HELD = {"cpu": {"copy_l2": 512 << 10, "copy_l3": 8 << 20}, "cuda": {"copy_l2": 16 << 20}}


def draw_roofline(cases: pd.DataFrame, ceilings: pd.DataFrame) -> Drawing | None:
    """cases: as in `Findings.cases`; ceilings: rows of `series` of backend `machine`; both of one device and data type."""
    roof = {
        str(metric): max(float(samples.max()) for samples in part["samples"]) for metric, part in ceilings.groupby("metric")
    }
    if "gemm" not in roof or "copy" not in roof or not {"count_flops", "count_least_bytes"} <= set(cases):
        return None
    points = cases.assign(intensity=cases["count_flops"] / cases["count_least_bytes"])
    points = points[points["phase"].isin(words.PHASES) & (points["intensity"] > 0) & (points["flops_per_second"] > 0)]
    if points.empty:
        return None
    points = points.assign(memory=[_held_in(row, roof) for row in rows_of(points)])
    rates = points["memory"].map(roof)
    points = points.assign(bound=np.minimum(roof["gemm"], points["intensity"] * rates))
    points = points.assign(share=points["flops_per_second"] / points["bound"])
    phases = [phase for phase in words.PHASES if (points["phase"] == phase).any()]
    with look():
        figure, grid = panels(len(phases))
        ridge = roof["gemm"] / roof["copy"]
        span = points["intensity"].min() / 2, max(points["intensity"].max(), ridge) * 2
        low, high = points["flops_per_second"].min() / 2, max(roof["gemm"], points["flops_per_second"].max()) * 1.8
        for axes, phase in zip(grid[0], phases, strict=True):
            _panel_roofline(axes, points[points["phase"] == phase], roof, span)
            axes.set_title(words.PHASES[phase].capitalize())
            axes.set_ylim(low, high)
            log_units(axes.yaxis, "", low, high)
        grid[0][0].set_ylabel("achieved FLOP/s")
        roofs = [Line2D([], [], color=INK, lw=1.2, label="measured peaks")]
        legend(figure, points["backend"].unique(), roofs)
    return Drawing(figure, "Roofline", _caption_roofline(points, roof, phases))


def _held_in(row: dict[str, object], roof: dict[str, float]) -> str:
    """The metric of the fastest memory that was measured and holds all that a case reads and writes at least."""
    held = HELD.get(str(row["device"]), {})
    fits = [
        metric for metric in MEMORIES if metric in roof and float(str(row["count_least_bytes"])) <= held.get(metric, np.inf)
    ]
    return fits[0]


def _memories(roof: dict[str, float]) -> list[str]:
    """The metrics of the memories that were measured, the fastest first."""
    return sorted((metric for metric in MEMORIES if metric in roof), key=lambda metric: -roof[metric])


def _panel_roofline(axes: Axes, points: pd.DataFrame, roof: dict[str, float], span: tuple[float, float]) -> None:
    for metric in _memories(roof):
        ridge = roof["gemm"] / roof[metric]
        at = [span[0], max(ridge, span[0]), span[1]]
        axes.plot(at, [min(roof["gemm"], each * roof[metric]) for each in at], color=INK, lw=1.2, zorder=1)
    for backend, rows in points.groupby("backend", sort=False):
        own = style(str(backend))
        axes.plot(
            rows["intensity"], rows["flops_per_second"], own.marker, color=own.colour, mec=PAPER, mew=0.6, alpha=0.9, zorder=3
        )
    axes.set(xscale="log", yscale="log", xlim=span, xlabel="arithmetic intensity, FLOP/B")
    axes.tick_params(labelleft=True)
    log_values(
        axes.xaxis, [10.0**power for power in range(int(np.floor(np.log10(span[0]))), int(np.ceil(np.log10(span[1]))) + 1)]
    )
    axes.set_xlim(span)


def _caption_roofline(points: pd.DataFrame, roof: dict[str, float], phases: list[str]) -> str:
    said = []
    for phase in phases:
        rows = points[points["phase"] == phase]
        row = rows_of(rows.nlargest(1, "share"))[0]
        said.append(
            f"{words.format_percent(row['share'])} in {words.PHASES[phase]} ({row['backend']}, {words.format_sizes(row)})"
        )
    # Not beside the lines: the roofs of two caches may lie closer to each other than a line of text is high.
    memories = [MEMORIES[metric] for metric in _memories(roof)]
    text = f"Slopes from above: {words.join_list(memories)}. " if len(memories) > 1 else ""
    text += f"Highest % of peak: {words.join_list(said)}; each case against the memory that holds what it reads and writes."
    if above := int((points["share"] > 1).sum()):
        why = "the caches were not measured" if len(roof) == 2 else "the peaks were measured low"
        text += f" {words.format_count(above, 'point')} above the roof: {why}."
    return text


# Tokens a second over batch, hidden size or length: small multiples by phase, both axes logarithmic.

Over = Literal["batch", "hidden_size", "steps"]
LABELS: dict[Over, str] = {"batch": "batch size B", "hidden_size": "hidden size H", "steps": "length T, steps"}
LETTERS: dict[Over, str] = {"batch": "B", "hidden_size": "H", "steps": "T"}
MOST_ROWS = 2
ROOM = 2.0  # beyond the outermost points: an interval that is wider runs out of the panel


def draw_throughput(cases: pd.DataFrame, over: Over) -> Drawing | None:
    """Curves of every backend over one size. cases: as in `Findings.cases`, of one device; without a rate they are left out."""
    rates = cases["tokens_per_second"].astype(float)
    cases = cases[(rates > 0) & np.isfinite(rates)]
    phases = {phase: sweeps(cases[cases["phase"] == phase], [over]) for phase in words.PHASES}
    phases = {phase: found for phase, found in phases.items() if found}
    if not phases:
        return None
    shown = {phase: _spread_throughput(found) for phase, found in phases.items()}
    title = f"Throughput over {LABELS[over]}"
    if all(sweep.rows[over].nunique() < LEAST_OF_A_LINE for found in shown.values() for sweep in found):
        marks = f"Hollow: the smaller {LETTERS[over]}. "
        return Drawing(_draw_ends(shown, over), title, marks + _caption_throughput(phases, shown, over))
    with look():
        figure, grid = panels(len(shown), max(len(found) for found in shown.values()))
        for column, (phase, found) in enumerate(shown.items()):
            for row, sweep in enumerate(found):
                _panel_throughput(grid[row][column], sweep, over, phase)
            blank(line[column] for line in grid[len(found) :])
        for line in grid:
            line[0].set_ylabel("tokens/s")
        drawn = pd.concat([sweep.rows for found in shown.values() for sweep in found])
        rates = drawn["tokens_per_second"]
        grid[0][0].set_ylim(rates.min() / ROOM, rates.max() * ROOM)
        log_units(grid[0][0].yaxis, "", rates.min(), rates.max())
        legend(figure, drawn["backend"].unique())
    bars = "Vertical bars are 95 % intervals "
    bars += (
        "over replicates. " if (drawn["replicates"] > 1).all() else "(of the samples’ median where there is one replicate). "
    )
    return Drawing(figure, title, bars + _caption_throughput(phases, shown, over))


def _draw_ends(shown: dict[str, list[Sweep]], over: Over) -> Figure:
    """Each backend's rate at two sizes."""
    backends = max(sweep.rows["backend"].nunique() for found in shown.values() for sweep in found)
    with look():
        figure, grid = panels(len(shown), max(len(found) for found in shown.values()), 0.9 + 0.3 * backends, False)
        for column, (phase, found) in enumerate(shown.items()):
            for row, sweep in enumerate(found):
                rates = sweep.rows.set_index(["backend", over])["tokens_per_second"].sort_index()
                names = [name for name in ordered(sweep.rows["backend"]) if len(rates[name]) > 1]
                ends = {name: (float(rates[name].iloc[0]), float(rates[name].iloc[-1])) for name in names}
                axes = grid[row][column]
                dumbbells(axes, ends, {name: style(name) for name in names}, "")
                sizes = sorted(sweep.rows[over].unique())
                where = f"{LETTERS[over]}{sizes[0]:g} → {sizes[-1]:g}"
                axes.set_title(f"{words.PHASES[phase].capitalize()}, {words.format_sizes(sweep.fixed)}, {where}")
                axes.set_xlabel("tokens/s")
            blank(line[column] for line in grid[len(found) :])
    return figure


def _spread_throughput(found: list[Sweep]) -> list[Sweep]:
    """The few to show of sweeps with as many points as the largest: the one in the middle and the last."""
    most = len(found[0].rows["case"].unique())
    full = [sweep for sweep in found if len(sweep.rows["case"].unique()) == most]
    picked = {len(full) // 2: full[len(full) // 2], len(full) - 1: full[-1]}
    return list(picked.values())[:MOST_ROWS]


def _panel_throughput(axes: Axes, sweep: Sweep, over: Over, phase: str) -> None:
    for backend, rows in sweep.rows.groupby("backend", sort=False):
        own, rows = style(str(backend)), rows.sort_values(over)
        axes.plot(
            rows[over], rows["tokens_per_second"], color=own.colour, marker=own.marker, linestyle=own.dash,
            markeredgecolor=PAPER, markeredgewidth=0.6, zorder=3,
        )  # fmt: skip
        bounded = rows[rows["low"].notna() & rows["high"].notna()]
        tokens = bounded["tokens_per_second"] * bounded["seconds"]
        axes.vlines(
            bounded[over], tokens / bounded["high"].astype(float), tokens / bounded["low"].astype(float), color=own.colour, lw=1
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    log_values(axes.xaxis, sweep.rows[over])
    axes.tick_params(labelleft=True)
    axes.set_xlabel(LABELS[over])
    axes.set_title(f"{words.PHASES[phase].capitalize()}, {words.format_sizes(sweep.fixed)}")


def _caption_throughput(phases: dict[str, list[Sweep]], shown: dict[str, list[Sweep]], over: Over) -> str:
    best = []
    for phase, found in shown.items():
        rows = pd.concat([sweep.rows for sweep in found])
        row = rows_of(rows.nlargest(1, "tokens_per_second"))[0]
        where = f"{LETTERS[over]}{row[over]:g}"
        best.append(
            f"{words.format_rate(float(row['tokens_per_second']))} in {words.PHASES[phase]} ({row['backend']}, {where})"
        )
    text = f"Highest throughput: {words.join_list(best)}."
    every, here = (sum(len(found) for found in each.values()) for each in (phases, shown))
    return text + (f" Shown: {here} of {every} sweeps; all are in the table of cases." if here < every else "")
