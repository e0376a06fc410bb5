"""Figures of what was timed: ratios, who is fastest, throughput, latency, rooflines."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from analysis.report import words
from analysis.report.drawing import (
    INK,
    PAPER,
    UNDECIDED,
    Drawing,
    blank,
    colour,
    legend,
    log_units,
    log_values,
    look,
    ordered,
    panels,
    style,
)
from analysis.report.load import Sweep, rows_of, sweeps
from analysis.statistics.ratios import Ranking, Ratio, Statistic, log_ratio, over_replicates

# Who is fastest where: batch by hidden size, each cell the fastest backend and its lead over the runner-up.


def draw_heatmap(cases: pd.DataFrame, times: pd.DataFrame, statistic: Statistic) -> Drawing | None:
    """cases: as in `Findings.cases`; times: the series behind them; both of one device."""
    found = {phase: sweeps(cases[cases["phase"] == phase], ["batch", "hidden_size"], 4) for phase in words.PHASES}
    found = {phase: each[0] for phase, each in found.items() if each and each[0].rows["backend"].nunique() > 1}
    if not found:
        return None
    tally: dict[str, int] = {}
    with look():
        tallest = max(sweep.rows["batch"].nunique() for sweep in found.values())
        figure, grid = panels(len(found), 1, 0.9 + 0.46 * tallest, share_y=False)
        for axes, (phase, sweep) in zip(grid[0], found.items(), strict=True):
            for leader in _panel_heatmap(axes, sweep.rows, times, statistic):
                tally[leader] = tally.get(leader, 0) + 1
            axes.set_title(f"{words.PHASES[phase].capitalize()}, {words.format_sizes(sweep.fixed)}".rstrip(", "))
        grid[0][0].set_ylabel("batch size B")
    undecided = tally.pop("", 0)
    parts = [f"{name} in {number}" for name, number in sorted(tally.items(), key=lambda item: -item[1])]
    parts += [f"inconclusive in {undecided}"] if undecided else []
    caption = f"Fastest of {words.format_count(undecided + sum(tally.values()), 'cell')}: {words.join_list(parts)}; "
    caption += "the number is its speedup over "
    return Drawing(
        figure,
        "Fastest backend by batch and hidden size",
        caption + "the second. Inconclusive: the interval of the speedup includes 1, or one replicate gives none.",
    )


def _panel_heatmap(axes: Axes, rows: pd.DataFrame, times: pd.DataFrame, statistic: Statistic) -> list[str]:
    """Draw the cells; returns each cell's leader, or an empty name where it is not decided."""
    batches, hiddens = sorted(rows["batch"].unique()), sorted(rows["hidden_size"].unique())
    leaders = []
    for (batch, hidden), cell in rows.groupby(["batch", "hidden_size"]):
        at = hiddens.index(hidden), batches.index(batch)
        order = cell.sort_values("seconds")["backend"].tolist()
        lead = margin(times[times["case"].isin(cell["case"])], order[0], order[1], statistic) if len(order) > 1 else None
        decided = lead is not None and lead.verdict == "faster"
        if len(order) == 1:
            text = f"only {order[0]}"
        elif decided and lead is not None:
            text = f"{order[0]}\n{words.format_significant(lead.value)}×"
        else:
            text = "inconclusive"
        leaders.append(order[0] if decided or len(order) == 1 else "")
        fill, alpha = (colour(order[0]), 0.28) if leaders[-1] else (UNDECIDED, 1.0)
        axes.add_patch(Rectangle((at[0] - 0.5, at[1] - 0.5), 1, 1, edgecolor=PAPER, linewidth=2, facecolor=fill, alpha=alpha))
        axes.text(*at, text, ha="center", va="center", fontsize=8, color=INK, linespacing=1.25)
    axes.set(xlim=(-0.5, len(hiddens) - 0.5), ylim=(-0.5, len(batches) - 0.5), xlabel="hidden size H")
    axes.set_xticks(range(len(hiddens)), [f"{value:g}" for value in hiddens])
    axes.set_yticks(range(len(batches)), [f"{value:g}" for value in batches])
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[["left", "bottom"]].set_visible(False)
    return leaders


def margin(times: pd.DataFrame, first: str, second: str, statistic: Statistic) -> Ratio | None:
    """Speedup of `first` over `second` in the replicates that have both; None where none has."""
    of = {
        name: part.set_index("replicate_key") for name, part in times[times["backend"].isin((first, second))].groupby("backend")
    }
    if len(of) < 2:
        return None
    shared = [key for key in of[first].index.unique() if key in of[second].index]
    logs = []
    for key in shared:
        ours, theirs = (of[name].loc[[key]].iloc[0] for name in (first, second))
        logs.append(log_ratio(theirs["samples"], ours["samples"], theirs["blocks"], ours["blocks"], statistic))
    return over_replicates(logs, statistic) if logs else None


# Streaming: the time of one token, every sample's place shown, for tails matter there as much as the middle.

MOST_PANELS, COLUMNS, MOST_POINTS = 6, 3, 120


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
    thinned = {
        name: np.quantile(samples, np.linspace(0, 1, min(len(samples), MOST_POINTS))) for name, samples in pooled.items()
    }
    points = pd.DataFrame(
        [(name, value) for name, values in thinned.items() for value in values], columns=["backend", "seconds"]
    )
    palette = {name: colour(name) for name in pooled}
    seaborn.stripplot(
        points, x="seconds", y="backend", hue="backend", order=backends, palette=palette, ax=axes, size=2.6, alpha=0.35,
        jitter=0.22, legend=False, zorder=2,
    )  # fmt: skip
    for place, name in enumerate(backends):
        if name not in pooled:
            axes.text(
                0.5,
                place,
                words.NOT_MEASURED,
                transform=axes.get_yaxis_transform(),
                ha="center",
                va="center",
                color=INK,
                alpha=0.6,
            )
            continue
        low, middle, high = np.quantile(pooled[name], (0.05, 0.5, 0.95))
        axes.plot([low, high], [place, place], color=palette[name], lw=1.4, zorder=3)
        axes.plot(middle, place, style(name).marker, color=palette[name], ms=7, mec=PAPER, mew=0.8, zorder=4)
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
    text += "dots are samples, lines span the 5th to the 95th percentile, markers are medians."
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
    return (
        f"Marker: geometric mean over the cases that all ranked backends share, {interval}; ticks: single cases. "
        f"Right of 1 is faster than {baseline} (hollow); bold: the interval excludes 1.{how}"
    )


# Achieved FLOP/s over arithmetic intensity under this machine's own ceilings (Williams, Waterman & Patterson 2009).


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
    points = points.assign(bound=np.minimum(roof["gemm"], points["intensity"] * roof["copy"]))
    points = points.assign(share=points["flops_per_second"] / points["bound"])
    phases = [phase for phase in words.PHASES if (points["phase"] == phase).any()]
    with look():
        figure, grid = panels(len(phases))
        span = points["intensity"].min() / 2, max(points["intensity"].max(), roof["gemm"] / roof["copy"]) * 2
        low, high = points["flops_per_second"].min() / 2, max(roof["gemm"], points["flops_per_second"].max()) * 1.8
        for axes, phase in zip(grid[0], phases, strict=True):
            _panel_roofline(axes, points[points["phase"] == phase], roof, span)
            axes.set_title(words.PHASES[phase].capitalize())
            axes.set_ylim(low, high)
            log_units(axes.yaxis, "", low, high)
        grid[0][0].set_ylabel("achieved FLOP/s")
        legend(figure, points["backend"].unique(), [Line2D([], [], color=INK, lw=1.2, label="measured peaks")])
    return Drawing(figure, "Roofline", _caption_roofline(points, roof, phases))


def _panel_roofline(axes: Axes, points: pd.DataFrame, roof: dict[str, float], span: tuple[float, float]) -> None:
    ridge = roof["gemm"] / roof["copy"]
    axes.plot([span[0], ridge, span[1]], [span[0] * roof["copy"], roof["gemm"], roof["gemm"]], color=INK, lw=1.2, zorder=1)
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
    ceilings = (
        f"{words.format_si(roof['gemm'], 'FLOP/s')} of matrix products and {words.format_si(roof['copy'], 'B/s')} of copying"
    )
    text = f"Highest % of peak ({ceilings}): {words.join_list(said)}."
    if (points["share"] > 1).any():
        above = int((points["share"] > 1).sum())
        text += f" {words.format_count(above, 'point')} above the roof: what stays in cache need not cross memory, "
        text += "or the peaks were measured low."
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
    title = f"Throughput over {LABELS[over]}"
    return Drawing(figure, title, _caption_throughput(phases, shown, over))


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
    text = f"Highest throughput: {words.join_list(best)}; vertical bars are 95 % intervals "
    drawn = pd.concat([sweep.rows for found in shown.values() for sweep in found])
    text += "over replicates." if (drawn["replicates"] > 1).all() else "(of the samples’ median where there is one replicate)."
    every, here = (sum(len(found) for found in each.values()) for each in (phases, shown))
    return text + (f" Shown: {here} of {every} sweeps; all are in the table of cases." if here < every else "")
