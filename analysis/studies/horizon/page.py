"""The measured tables of docs/studies/horizon.md."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from analysis.statistics import CONFIDENCE, quantities, seeds
from analysis.studies.beside_pilot import NOT_EXPLAINED, Cell, of, table
from analysis.studies.gradients import inits
from analysis.studies.horizon import statistics as horizon_statistics

EASY_LAG = 10
CELLS = ("rnn", "gru", "lstm")
TASKS = ("recall", "temporal_order", "adding", "copy")
# Successes of five networks at two lags, of a pilot that trained one seed at a time.
PILOT = {
    ("rnn", "pytorch"): {20: 4, 40: 0}, ("rnn", "orthogonal"): {40: 5, 80: 4}, ("lstm", "pytorch"): {10: 5, 20: 0},
    ("lstm", "forget:1"): {20: 5, 40: 2}, ("lstm", "forget:3"): {40: 5, 80: 3}, ("lstm", "chrono:784"): {80: 5},
}  # fmt: skip
PILOT_TRAINED = 5
WHY: dict[tuple[str, str], str] = {}  # of a network whose successes differ by more than chance: why


def _name(cell: str, init: str) -> str:
    return f"{cell.upper()} {inits.name(init)}"


def _networks(series: pd.DataFrame, selection: str) -> list[tuple[str, str]]:
    rows = quantities.select(series, selection)
    found = {(str(cell), str(init)) for cell, init in rows[["cell", "init"]].itertuples(index=False)}
    return sorted(found, key=lambda network: (CELLS.index(network[0]), inits.place(network[1])))


def _at(task: str, cell: str, init: str, truncation: int = 0) -> str:
    return f"probe=learning,task={task},truncation={truncation},cell={cell},init={init}"


def recall(series: pd.DataFrame) -> str:
    """n(10⁻³) and L50 of every network, and the updates that the easy lag took."""
    networks = _networks(series, "probe=learning,task=recall,truncation=0")
    at = [_at("recall", *network) for network in networks]
    rows = [
        (_name(*network), [Cell(of(name, own)) for name in ("horizon", "learnable_lag")])
        for network, own in zip(networks, at, strict=True)
    ]
    lines = table(series, ["network", "n(10⁻³), steps", "L50, steps"], rows).split("\n")
    ends = [f"updates to learn lag {EASY_LAG}", "---", *(_updates(quantities.select(series, own)) for own in at)]
    return "\n".join(f"{line} {end} |" for line, end in zip(lines, ends, strict=True))


def _updates(rows: pd.DataFrame) -> str:
    """Median over the networks of the easy lag, those within the budget counted."""
    lags, updates, learnt = (seeds.metric(rows, name) for name in ("trained_lag", "updates", "learnt"))
    place = np.flatnonzero(lags[0] == EASY_LAG) if lags else []
    if not len(place):
        return "not tried"
    own, done = updates[place[0]], learnt[place[0]] == 1
    return f"{np.median(own[done]):.0f} ({int(done.sum())} of {len(own)})" if done.any() else f"none of {len(own)}"


def tasks(series: pd.DataFrame) -> str:
    """L50 by task of the networks that were trained on all of them."""
    networks = _networks(series, "probe=learning,task=adding,truncation=0")
    rows = [
        (_name(cell, init), [Cell(of("learnable_lag", _at(task, cell, init))) for task in TASKS]) for cell, init in networks
    ]
    return table(series, ["L50, steps", *(task.replace("_", " ") for task in TASKS)], rows)


def truncated(series: pd.DataFrame) -> str:
    rows = []
    for cell, init in (("rnn", "pytorch"), ("lstm", "forget:3")):
        for steps in (5, 10):
            at = _at("recall", cell, init, steps)
            rows.append(
                (
                    f"{_name(cell, init)}, k = {steps}",
                    [Cell(of("learnable_lag", at)), Cell(of("learnable_over_truncation", at))],
                )
            )
        rows.append((f"{_name(cell, init)}, all steps", [Cell(of("learnable_lag", _at("recall", cell, init))), None]))
    return table(series, ["recall", "L50, steps", "L50/k"], rows)


def foretold(series: pd.DataFrame) -> str:
    """Rank correlation on recall, and L50 over n(10⁻³) where both are known, on each task."""
    found = horizon_statistics.rank_correlation(quantities.select(series, "probe=learning,task=recall,truncation=0"))
    lines = [
        f"Rank correlation on recall, {found.seeds} networks: {quantities.spoken('', found)}.",
        "",
        "| L50 over n(10⁻³) | from | to |",
        "| --- | --- | --- |",
    ]
    for task in TASKS:
        rows = quantities.select(series, f"probe=learning,task={task},truncation=0")
        both = [
            (pair.learnable.value / pair.horizon.value, _name(pair.cell, pair.init))
            for pair in horizon_statistics.pairs(rows)
            if pair.learnable.value is not None and pair.horizon.value
        ]
        if both:
            (low, lowest), (high, highest) = min(both), max(both)
            lines.append(f"| {task.replace('_', ' ')} | {low:.2g} ({lowest}) | {high:.2g} ({highest}) |")
    return "\n".join(lines)


def pilot(series: pd.DataFrame) -> str:
    """Successes at the pilot's lags; they agree where Fisher's exact test does not tell them apart."""
    lines = ["| recall, learnt | pilot | here | |", "| --- | --- | --- | --- |"]
    for (cell, init), wanted in PILOT.items():
        trials = horizon_statistics.trials(quantities.select(series, _at("recall", cell, init)))
        for lag, learnt in wanted.items():
            ours, trained = _successes(trials, lag) if trials is not None else (None, 0)
            said = "not measured" if ours is None else f"{ours} of {trained}"
            apart = ours is not None and _told_apart(learnt, ours, trained)
            verdict = "" if ours is None else "agree" if not apart else WHY.get((cell, init), NOT_EXPLAINED)
            lines.append(f"| {_name(cell, init)}, lag {lag} | {learnt} of {PILOT_TRAINED} | {said} | {verdict} |")
    return "\n".join(lines)


def _successes(trials: horizon_statistics.Trials, lag: int) -> tuple[int | None, int]:
    """At a lag, or the nearest half octave to it; none beyond the lag after which the climb ended, none having learnt that."""
    near = int(np.abs(np.log(trials.lags / lag)).argmin())
    if trials.lags[-1] < lag / 1.1:
        return (0 if trials.learnt[-1] == 0 else None), int(trials.trained[-1])
    return int(trials.learnt[near]), int(trials.trained[near])


def _told_apart(pilot_learnt: int, learnt: int, trained: int) -> bool:
    squares = [[pilot_learnt, PILOT_TRAINED - pilot_learnt], [learnt, trained - learnt]]
    return bool(stats.fisher_exact(squares).pvalue < 1 - CONFIDENCE)  # pyright: ignore[reportAttributeAccessIssue]


TABLES = {"recall": recall, "tasks": tasks, "truncated": truncated, "foretold": foretold, "pilot": pilot}
