"""What frozen features of a language model gain a tagger by the number of labels, and which layer carries a tag; over seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from analysis.statistics import seeds
from analysis.statistics.quantities import Quantity
from analysis.statistics.seeds import NOT_MEASURED, Estimate, exact, of_first
from analysis.studies.pages import estimated, markdown_table

TAGS = ("class", "topic")
LABELS = ("fewest", "ten times as many", "most")
LAYERS = ("the words' vectors", "first layer", "second layer")
SELECTION = "study=transfer,tag={}"


def values(rows: pd.DataFrame, name: str) -> np.ndarray:
    """By seed, of each number of labels or of each layer: [S, 3]; empty where it was not measured."""
    return seeds.together(seeds.metric(rows, name))


def labelled(rows: pd.DataFrame) -> list[int]:
    """How many sentences had tags, fewest first."""
    return [int(each) for own in seeds.metric(rows, "labelled") for each in own]


def _of(names: Sequence[str], of: Callable[..., np.ndarray]) -> Callable[[pd.DataFrame], Estimate]:
    """The mean over seeds of what is computed from metrics [S, 3]."""

    def quantity(rows: pd.DataFrame) -> Estimate:
        found = [values(rows, name) for name in names]
        return seeds.mean(of(*found)) if all(each.size for each in found) else NOT_MEASURED

    return quantity


def _at(name: str, place: int) -> Callable[[pd.DataFrame], Estimate]:
    return _of((name,), lambda found: found[:, place])


BOTH = ("scratch_loss", "transfer_loss")


def gain(place: int) -> Callable[[pd.DataFrame], Estimate]:
    """The loss from scratch less that on frozen features with the same labels, each seed a pair."""
    return _of(BOTH, lambda scratch, transfer: scratch[:, place] - transfer[:, place])


def least_loss(rows: pd.DataFrame) -> Estimate:
    found = of_first(rows, "least_loss")
    return exact(float(found[0])) if len(found) else NOT_MEASURED


QUANTITIES = {
    "transfer_gain_fewest": Quantity(gain(0), "from scratch less on frozen features, fewest labels", "nat"),
    "transfer_gain_more": Quantity(gain(1), "from scratch less on frozen features, ten times the labels", "nat"),
    "transfer_gain_most": Quantity(gain(2), "from scratch less on frozen features, most labels", "nat"),
    "transfer_gain_tenfold": Quantity(
        _of(BOTH, lambda scratch, transfer: scratch[:, 1] - transfer[:, 0]),
        "from scratch with ten times the labels less on frozen features with the fewest", "nat",
    ),
    "second_less_first_layer": Quantity(
        _of(("layer_loss",), lambda found: found[:, 2] - found[:, 1]), "second layer's loss less the first's", "nat"
    ),
    "first_less_second_layer": Quantity(
        _of(("layer_loss",), lambda found: found[:, 1] - found[:, 2]), "first layer's loss less the second's", "nat"
    ),
    "words_less_best_layer": Quantity(
        _of(("layer_loss",), lambda found: found[:, 0] - found[:, 1:].min(1)), "words' vectors less the better layer", "nat"
    ),
    "best_layer_less_mix": Quantity(
        _of(("layer_loss", "transfer_loss"), lambda alone, mix: alone.min(1) - mix[:, 2]), "best layer less the mix", "nat"
    ),
    "tagger_least_loss": Quantity(least_loss, "least possible loss", "nat"),
    **{f"transfer_loss_{place}": Quantity(_at("transfer_loss", place), "loss on frozen features", "nat") for place in range(3)},
    **{f"scratch_loss_{place}": Quantity(_at("scratch_loss", place), "loss from scratch", "nat") for place in range(3)},
    **{f"layer_loss_{place}": Quantity(_at("layer_loss", place), "loss of a linear probe", "nat") for place in range(3)},
    **{f"transfer_error_{place}": Quantity(_at("transfer_error", place), "wrong on frozen features") for place in range(3)},
    **{f"scratch_error_{place}": Quantity(_at("scratch_error", place), "wrong from scratch") for place in range(3)},
    "language_model_loss": Quantity(_at("language_model_loss", 0), "loss of the language model, forwards", "nat"),
    "language_model_least": Quantity(
        lambda rows: exact(float(found[0])) if len(found := of_first(rows, "least_language_model_loss")) else NOT_MEASURED,
        "least possible loss of a language model", "nat",
    ),
}  # fmt: skip


def _by_labels(series: pd.DataFrame) -> str:
    """A row for each tag and number of labels."""
    rows, gains = [], ("fewest", "more", "most")
    for tag in TAGS:
        of = SELECTION.format(tag)
        counts = labelled(series[(series["study"] == "transfer") & (series["tag"] == tag)]) if "tag" in series else []
        for place, count in enumerate(counts):
            names = (
                f"transfer_loss_{place}", f"scratch_loss_{place}", f"transfer_gain_{gains[place]}", f"transfer_error_{place}",
                f"scratch_error_{place}",
            )  # fmt: skip
            rows.append((f"{tag}, {count}", [estimated(name, of) for name in names]))
    head = ("tag, labelled sentences", "frozen features", "from scratch", "gain", "wrong, frozen", "wrong, from scratch")
    return markdown_table(series, head, rows)


def _by_layer(series: pd.DataFrame) -> str:
    """A row a tag."""
    names = (*(f"layer_loss_{place}" for place in range(3)), "transfer_loss_2", "tagger_least_loss")
    rows = [(tag, [estimated(name, SELECTION.format(tag)) for name in names]) for tag in TAGS]
    return markdown_table(series, ("loss, nat a tag", *LAYERS, "learned mix", "least possible"), rows)


def _language_model(series: pd.DataFrame) -> str:
    """Of the frozen model, one row: both cases have trained the same one."""
    rows = [(f"before tagging with {tag}", [estimated(name, SELECTION.format(tag)) for name in (
        "language_model_loss", "language_model_least"
    )]) for tag in TAGS]  # fmt: skip
    return markdown_table(series, ("nat a word", "forward stack", "least possible"), rows)


TABLES = {"labels": _by_labels, "layers": _by_layer, "model": _language_model}
