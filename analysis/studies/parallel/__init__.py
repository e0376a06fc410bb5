"""Rounds of Newton's method, what they cost by count, and its seconds beside stepping: each over seeds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from analysis.statistics import seeds
from analysis.statistics.quantities import Quantity
from analysis.statistics.seeds import NOT_MEASURED, Estimate, exact, missing
from analysis.studies.pages import estimated, markdown_table

KIND_NAMES = {  # by weights and Jacobian
    ("full", "full"): "LSTM, full Jacobian",
    ("full", "blocks"): "LSTM, 2 × 2 blocks",
    ("full", "quasi"): "LSTM, diagonal of the Jacobian",
    ("diagonal", "blocks"): "diagonal cell, exact",
}
UNPAIRED = Estimate(None, why="not measured for both", measured=False)


def of_each_seed(rows: pd.DataFrame, name: str) -> np.ndarray:
    """One value a seed, [S]; of the newest run."""
    found = seeds.together(seeds.metric(rows, name))
    return found[:, 0] if found.size else np.empty(0)


def converged(rows: pd.DataFrame) -> bool:
    """Whether every seed's rounds sufficed in all of these cases."""
    return not any(len(notes) for notes in rows.loc[rows["metric"] == "rounds", "notes"])


def counted(name: str, scale: Callable[[pd.DataFrame], float] = lambda rows: 1.0) -> Callable[[pd.DataFrame], Estimate]:
    """The mean over seeds of what follows from the rounds; a lower bound where a seed stood at their limit."""

    def quantity(rows: pd.DataFrame) -> Estimate:
        found = of_each_seed(rows, name)
        if not len(found):
            return NOT_MEASURED
        found = found * scale(rows)
        if not converged(rows):
            return Estimate(None, low=float(found.min()), seeds=len(found), beyond=float(found.max()))
        return exact(found[0], len(found)) if (found == found[0]).all() else seeds.mean(found)

    return quantity


def _over_width(rows: pd.DataFrame) -> float:
    return 1.0 / float(rows["hidden_size"].iloc[-1])


def _over_log(rows: pd.DataFrame) -> float:
    return 1.0 / (2.0 * float(np.log2(rows["steps"].iloc[-1])))


def path_exponent(rows: pd.DataFrame) -> Estimate:
    """d ln (critical path) / d ln T, the slope over all lengths of each seed; at least that where a seed had not converged."""
    paths = {float(str(steps)): of_each_seed(part, "newton_path") for steps, part in rows.groupby("steps")}
    paths = {steps: values for steps, values in paths.items() if len(values)}
    if len(paths) < 2:
        return missing("one length alone was measured") if paths else NOT_MEASURED
    lengths = np.log(list(paths))
    table = np.log(seeds.together(list(paths.values())))  # [T, S]
    slopes = np.polyfit(lengths, table, 1)[0]
    if not converged(rows):
        return Estimate(None, low=float(slopes.min()), seeds=len(slopes), beyond=float(slopes.max()))
    return seeds.mean(slopes)


def rounds_ratio(rows: pd.DataFrame) -> Estimate:
    """Rounds of the harder of two initialisations, or gains, over those of the other, in pairs of seeds."""
    own = rows[rows["metric"] == "rounds"]
    order = own.assign(bias=[float(str(init).partition(":")[2] or 0) for init in own["init"]]).sort_values(["bias", "gain"])
    cases = list(dict.fromkeys(order["case"]))
    if len(cases) != 2:
        return UNPAIRED
    easy, hard = (rows[rows["case"] == case] for case in cases)
    one, other = of_each_seed(easy, "rounds"), of_each_seed(hard, "rounds")
    count = min(len(one), len(other))
    ratios = other[:count] / one[:count]
    if not converged(easy):
        return missing("the easier of the two had not converged")
    if not converged(hard):
        return Estimate(None, low=float(ratios.min()), seeds=count, beyond=float(ratios.max()))
    return seeds.geometric_mean(np.log(ratios))


def ratio(slow: str, fast: str) -> Callable[[pd.DataFrame], Estimate]:
    """Seconds of one way over those of another, each seed's medians a pair."""

    def quantity(rows: pd.DataFrame) -> Estimate:
        one, other = of_each_seed(rows, slow), of_each_seed(rows, fast)
        if not len(one) or len(one) != len(other):
            return NOT_MEASURED
        return seeds.geometric_mean(np.log(one / other))

    return quantity


def seconds(name: str) -> Callable[[pd.DataFrame], Estimate]:
    """The geometric mean over seeds, in milliseconds."""

    def quantity(rows: pd.DataFrame) -> Estimate:
        found = of_each_seed(rows, name)
        return seeds.geometric_mean(np.log(1e3 * found)) if len(found) else NOT_MEASURED

    return quantity


def largest(name: str) -> Callable[[pd.DataFrame], Estimate]:
    """The largest over seeds: found, not estimated."""

    def quantity(rows: pd.DataFrame) -> Estimate:
        found = of_each_seed(rows, name)
        return exact(float(found.max()), len(found)) if len(found) else NOT_MEASURED

    return quantity


QUANTITIES = {
    "path_exponent": Quantity(path_exponent, "scaling exponent of the critical path over T", compares_cases=True),
    "rounds_ratio": Quantity(rounds_ratio, "rounds", "×", compares_cases=True),
    "path_ratio": Quantity(counted("path_ratio"), "critical path, stepping over Newton", "×"),
    "work_ratio": Quantity(counted("work_ratio"), "operations, Newton over stepping", "×"),
    "memory_ratio": Quantity(counted("memory_ratio"), "values kept, Newton over stepping", "×"),
    "work_over_width": Quantity(counted("work_ratio", _over_width), "operations, Newton over H times stepping", "×"),
    "work_over_log": Quantity(counted("work_ratio", _over_log), "operations, Newton over 2 log₂ T times stepping", "×"),
    "processors": Quantity(counted("processors"), "processors from which on Newton is faster, by count"),
    "state_error": Quantity(largest("state_error"), "states differ by"),
    "gradient_error": Quantity(largest("gradient_error"), "gradients differ by, relative"),
    "state_error_float32": Quantity(largest("state_error_float32"), "states differ by, float32"),
    "gradient_error_float32": Quantity(largest("gradient_error_float32"), "gradients differ by, relative, float32"),
    "newton_speedup": Quantity(ratio("sequential_time", "newton_time"), "speedup over the fastest backend", "×"),
    "newton_slowdown": Quantity(ratio("newton_time", "sequential_time"), "time over that of the fastest backend", "×"),
    "newton_loop_speedup": Quantity(ratio("loop_time", "newton_time"), "speedup over a loop", "×"),
    "newton_milliseconds": Quantity(seconds("newton_time"), "Newton", "ms"),
    "sequential_milliseconds": Quantity(seconds("sequential_time"), "stepping", "ms"),
    "loop_milliseconds": Quantity(seconds("loop_time"), "loop", "ms"),
}


# Tables of the page.

INITS = (("pytorch", "PyTorch"), ("forget:1", "forget bias 1"), ("forget:5", "forget bias 5"))
BASE = "hidden_size=16"


def _where(kind: tuple[str, str], probe: str, more: str) -> str:
    return f"study=parallel,probe={probe},weights={kind[0]},jacobian={kind[1]},{more}"


def _rounds(series: pd.DataFrame) -> str:
    lengths = (64, 256, 1024, 4096)
    rows = [
        (f"{label}, {name}", [estimated("newton_rounds", _where(kind, "rounds", f"init={init},gain=1,{BASE},steps={steps}"))
                              for steps in lengths])
        for kind, label in KIND_NAMES.items()
        for init, name in INITS
    ]  # fmt: skip
    return markdown_table(series, ("rounds", *(f"T = {steps}" for steps in lengths)), _measured(series, rows))


def _paths(series: pd.DataFrame) -> str:
    rows = [
        (
            label,
            [estimated("path_exponent", _where(kind, "rounds", f"init={init},gain=1,{BASE},steps<=1024")) for init, _ in INITS],
        )
        for kind, label in KIND_NAMES.items()
    ]
    return markdown_table(series, ("exponent of the path over T", *(name for _, name in INITS)), _measured(series, rows))


def _gains(series: pd.DataFrame) -> str:
    gains = (1, 2, 4, 8)
    rows = [
        (
            label,
            [
                estimated("newton_rounds", _where(kind, "rounds", f"init=pytorch,gain={gain},{BASE},steps=256"))
                for gain in gains
            ],
        )
        for kind, label in KIND_NAMES.items()
    ]
    return markdown_table(series, ("rounds, T = 256", *(f"gain {gain}" for gain in gains)), _measured(series, rows))


def _counts(series: pd.DataFrame) -> str:
    names = ("newton_rounds", "work_ratio", "path_ratio", "memory_ratio", "processors")
    rows = [
        (f"{label}, H = {hidden}",
         [estimated(name, _where(kind, "rounds", f"init=pytorch,gain=1,steps=256,hidden_size={hidden}")) for name in names])
        for kind, label in KIND_NAMES.items()
        for hidden in (8, 16, 32, 64)
    ]  # fmt: skip
    head = ("T = 256", "rounds", "operations", "critical path", "memory", "processors")
    return markdown_table(series, head, _measured(series, rows))


def _errors(series: pd.DataFrame) -> str:
    names = ("state_error", "gradient_error", "state_error_float32", "gradient_error_float32")
    rows = [(label, [estimated(name, _where(kind, "agreement", BASE)) for name in names]) for kind, label in KIND_NAMES.items()]
    head = ("largest difference", "states", "gradients", "states, float32", "gradients, float32")
    return markdown_table(series, head, _measured(series, rows))


def _times(series: pd.DataFrame) -> str:
    names = ("newton_milliseconds", "sequential_milliseconds", "loop_milliseconds", "newton_slowdown", "newton_loop_speedup")
    phases = (("forward", ""), ("forward_backward", ", training"))
    rows = [
        (f"{label}{said}, T = {steps}",
         [estimated(name, _where(kind, "time", f"steps={steps},phase={phase},device=cpu")) for name in names])
        for kind, label in KIND_NAMES.items()
        for phase, said in phases
        for steps in (64, 256, 1024, 4096)
    ]  # fmt: skip
    head = ("milliseconds", "Newton", "fastest backend", "loop", "Newton / backend", "loop / Newton")
    return markdown_table(series, head, _measured(series, rows))


def _measured(series: pd.DataFrame, rows: list) -> list:  # type: ignore[type-arg]
    """Without the cells, and the rows, of which nothing was measured."""
    kept = [(label, [cell if cell(series).measured else None for cell in cells]) for label, cells in rows]
    return [(label, cells) for label, cells in kept if any(cells)]


TABLES = {"rounds": _rounds, "paths": _paths, "gains": _gains, "counts": _counts, "errors": _errors, "times": _times}
