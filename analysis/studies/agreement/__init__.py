"""Agreement against what the language allows, accuracy lost without one unit, and the gates of that unit; over seeds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from analysis.statistics import seeds
from analysis.statistics.quantities import Quantity
from analysis.statistics.seeds import NOT_MEASURED, Estimate, missing, of_first, within_unit
from analysis.studies.pages import estimated, markdown_table

LANGUAGES = ("number", "gender")
OBJECTIVES = {"next_token": "language model", "form": "asked for the verb's form"}
SETTINGS = {(language, objective): f"{language}, {label}" for objective, label in OBJECTIVES.items() for language in LANGUAGES}


def accuracy(rows: pd.DataFrame) -> Estimate:
    return within_unit(seeds.first(rows, "accuracy"))


def best_accuracy(rows: pd.DataFrame) -> Estimate:
    """Of who knows the language, on the sentences of the test."""
    found = of_first(rows, "best_accuracy")
    return seeds.exact(float(found[0])) if len(found) else NOT_MEASURED


def below_best(rows: pd.DataFrame) -> Estimate:
    best = best_accuracy(rows).value
    return NOT_MEASURED if best is None else seeds.mean(best - of_first(rows, "accuracy"))


def by_attractors(rows: pd.DataFrame, name: str = "accuracy_by_distance") -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """By the number of attractors: distances [D], and accuracy of each seed at each, [S, D]."""
    found = seeds.together(seeds.metric(rows, name))
    if not found.size:
        return {}
    distances, attractors = (seeds.metric(rows, f"tested_{name}")[0] for name in ("distance", "attractors"))
    return {int(count): (distances[attractors == count], found[:, attractors == count]) for count in np.unique(attractors)}


def attractor_cost(rows: pd.DataFrame, name: str = "accuracy_by_distance") -> Estimate:
    """Accuracy without attractors less that with the most of them, over the distances at which so many fit."""
    grid = by_attractors(rows, name)
    if not grid:
        return NOT_MEASURED
    if len(grid) < 2:
        return missing("tested without attractors alone")
    distances, most = grid[max(grid)]
    there, none = grid[0]
    return seeds.mean((none[:, np.isin(there, distances)] - most).mean(1))


# The unit of each seed without which most is lost on sentences that choose it; judged on others.

CHOSEN_BY = {"far": "choosing", "near": "choosing", "far_alone": "choosing_alone"}


def losses(rows: pd.DataFrame, condition: str) -> np.ndarray:
    """Accuracy lost without each unit, [S, H]."""
    return seeds.together(seeds.metric(rows, f"unit_loss_{condition}"))


def of_chosen(rows: pd.DataFrame, condition: str) -> np.ndarray:
    """Of the unit that a condition judges, [S]."""
    choosing, found = losses(rows, CHOSEN_BY[condition]), losses(rows, condition)
    if not choosing.size or not found.size:
        return np.empty(0)
    return np.take_along_axis(found, choosing.argmax(1)[:, None], 1)[:, 0]


def beyond_null(rows: pd.DataFrame, condition: str) -> np.ndarray:
    """What that unit costs more than any of interchangeable ones would, [S]."""
    return of_chosen(rows, condition) - of_first(rows, f"null_loss_{condition}")


def _mean(of: Callable[[pd.DataFrame], np.ndarray]) -> Callable[[pd.DataFrame], Estimate]:
    def quantity(rows: pd.DataFrame) -> Estimate:
        found = of(rows)
        return seeds.mean(found) if len(found) else NOT_MEASURED

    return quantity


def _share(condition: str) -> Callable[[pd.DataFrame], Estimate]:
    """Of seeds whose unit costs more than the null allows."""

    def quantity(rows: pd.DataFrame) -> Estimate:
        found = beyond_null(rows, condition)
        return seeds.share(found > 0) if len(found) else NOT_MEASURED

    return quantity


def _of_stores(of: Callable[[pd.DataFrame], np.ndarray]) -> Callable[[pd.DataFrame], Estimate]:
    """The mean over the seeds that have a unit which stores."""

    def quantity(rows: pd.DataFrame) -> Estimate:
        found, stores = of(rows), beyond_null(rows, "far_alone") > 0
        if not len(found):
            return NOT_MEASURED
        if stores.sum() < seeds.FEWEST_SEEDS:
            return seeds.too_few(int(stores.sum()), "network", "with a unit that stores")
        return seeds.mean(found[stores])

    return quantity


def gate_contrast(rows: pd.DataFrame) -> np.ndarray:
    """The input gate at the subject less that at attractors, [S]."""
    return of_first(rows, "write_at_subject") - of_first(rows, "write_at_attractor")


MUCH = 0.25  # half of what separates knowing from guessing


def costly_units(rows: pd.DataFrame) -> np.ndarray:
    """How many units cost much over a long distance without attractors, each by itself, [S]."""
    return (losses(rows, "far_alone") > MUCH).sum(1) if len(of_first(rows, "unit_loss_far_alone")) else np.empty(0)


QUANTITIES = {
    "agreement_accuracy": Quantity(accuracy, "accuracy"),
    "agreement_best": Quantity(best_accuracy, "best possible accuracy"),
    "accuracy_below_best": Quantity(below_best, "below the best possible accuracy by"),
    "attractor_cost": Quantity(attractor_cost, "accuracy that three attractors cost"),
    "attractor_cost_halfway": Quantity(
        lambda rows: attractor_cost(rows, "accuracy_by_distance_halfway"), "accuracy that three attractors cost halfway"
    ),
    "unit_loss_far": Quantity(_mean(lambda rows: of_chosen(rows, "far")), "lost without the unit, far, with attractors"),
    "unit_loss_near": Quantity(_mean(lambda rows: of_chosen(rows, "near")), "lost without the unit, near"),
    "unit_loss_null": Quantity(_mean(lambda rows: of_first(rows, "null_loss_far")), "largest loss of interchangeable units"),
    "unit_loss_beyond_null": Quantity(_mean(lambda rows: beyond_null(rows, "far")), "lost without the unit beyond the null"),
    "networks_with_unit": Quantity(_share("far"), "share of networks with such a unit"),
    "store_loss": Quantity(_mean(lambda rows: of_chosen(rows, "far_alone")), "lost without the storing unit, no attractors"),
    "store_loss_beyond_null": Quantity(
        _mean(lambda rows: beyond_null(rows, "far_alone")), "lost without the storing unit beyond the null"
    ),
    "networks_with_store": Quantity(_share("far_alone"), "share of networks with a unit that stores"),
    "costly_units": Quantity(_mean(costly_units), "units that cost more than 0.25"),
    "input_gate_contrast": Quantity(_of_stores(gate_contrast), "input gate at the subject less at attractors"),
    "forget_gate_between": Quantity(_of_stores(lambda rows: of_first(rows, "kept_between")), "forget gate between"),
}


def _table(columns: dict[str, str]) -> Callable[[pd.DataFrame], str]:
    """A row a setting. columns: head by quantity."""

    def table(series: pd.DataFrame) -> str:
        rows = [
            (label, [estimated(name, f"study=agreement,language={language},objective={objective}") for name in columns])
            for (language, objective), label in SETTINGS.items()
        ]
        return markdown_table(series, ("setting", *columns.values()), rows)

    return table


TABLES = {
    "accuracy": _table(
        {
            "agreement_accuracy": "accuracy",
            "agreement_best": "best possible",
            "accuracy_below_best": "below it by",
            "attractor_cost_halfway": "three attractors cost halfway",
            "attractor_cost": "… at the end",
        }
    ),
    "units": _table(
        {
            "unit_loss_far": "lost far, with attractors",
            "unit_loss_null": "null",
            "unit_loss_near": "lost near",
            "networks_with_unit": "networks with such a unit",
        }
    ),
    "stores": _table(
        {
            "store_loss": "lost far, no attractors",
            "networks_with_store": "networks with such a unit",
            "costly_units": "units of 32 that cost over 0.25",
            "input_gate_contrast": "input gate, subject less attractors",
            "forget_gate_between": "forget gate between",
        }
    ),
}
