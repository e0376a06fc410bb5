"""Phone error rates of study `speech`, how soon a phone is said, and what that costs on a CPU core; over seeds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from analysis.statistics import seeds
from analysis.statistics.quantities import Quantity
from analysis.statistics.seeds import NOT_MEASURED, Estimate, less, of_first

NAMES = {
    "streaming": "LSTM, one direction", "bidirectional": "LSTM, both directions", "convolution": "convolution",
    "transformer": "Transformer",
}  # fmt: skip


def of(rows: pd.DataFrame, network: str) -> pd.DataFrame:
    return rows[rows["network"] == network]


def _difference(metric: str, rows: pd.DataFrame, one: pd.DataFrame) -> Estimate:
    """A metric of one network less that of the LSTM in both directions, the k-th seeds of the two a pair."""
    return less(of_first(one, metric), of_first(of(rows, "bidirectional"), metric))


def phone_error(rows: pd.DataFrame) -> Estimate:
    return seeds.first(rows, "phone_error")


def phone_error_gain(rows: pd.DataFrame) -> Estimate:
    """Phone errors of one direction less those of both."""
    return _difference("phone_error", rows, of(rows, "streaming"))


def lead_in_phone_error(rows: pd.DataFrame) -> Estimate:
    """Phone errors of the other network less those of the LSTM in both directions."""
    return _difference("phone_error", rows, rows[rows["network"] != "bidirectional"])


def delay_saved(rows: pd.DataFrame) -> Estimate:
    """Seconds that one direction says a phone earlier than both, in the mean over phones."""
    one, both = (of_first(of(rows, name), "output_delay") for name in ("streaming", "bidirectional"))
    return less(both, one)


def over_seeds(metric: str, reduce: Callable[[np.ndarray], np.floating]) -> Callable[[pd.DataFrame], Estimate]:
    """A quantity: of each seed its samples of a metric, reduced to one number."""

    def quantity(rows: pd.DataFrame) -> Estimate:
        found = [float(reduce(own)) if len(own) else np.nan for own in seeds.metric(rows, metric)]
        return seeds.mean(np.array(found)) if found else NOT_MEASURED

    return quantity


def bytes_of(rows: pd.DataFrame, metric: str) -> tuple[float, float] | None:
    """What is allocated for an utterance and for one eight times as long, the largest over seeds; None if not measured."""
    found = seeds.together(seeds.metric(rows, metric))
    return (float(found[:, 0].max()), float(found[:, 1].max())) if found.size else None


QUANTITIES = {
    "phone_error_rate": Quantity(phone_error, "phone errors"),
    "phone_error_gain": Quantity(phone_error_gain, "one direction less both", compares_cases=True),
    "lead_in_phone_error": Quantity(lead_in_phone_error, "the other network less the LSTM", compares_cases=True),
    "streaming_real_time_factor": Quantity(
        over_seeds("streaming_real_time_factor", np.mean), "seconds a second of audio, step by step"
    ),
    "whole_real_time_factor": Quantity(
        over_seeds("whole_real_time_factor", np.mean), "seconds a second of audio, whole utterances"
    ),
    "slowest_step": Quantity(over_seeds("slowest_step_seconds", np.max), "slowest step", "s"),
    "output_delay": Quantity(lambda rows: seeds.first(rows, "output_delay"), "from a phone's beginning until it is said", "s"),
    "delay_saved": Quantity(delay_saved, "earlier by", "s", compares_cases=True),
}


def _text(quantity: str, rows: pd.DataFrame) -> str:
    return QUANTITIES[quantity].format(QUANTITIES[quantity].estimate(rows), with_unit=False).replace("-", "−")


def _errors(series: pd.DataFrame) -> str:
    """Phone errors, delay and cost of whole utterances, a row a network."""
    own, rows = series[series["study"] == "speech"], []
    for name, label in NAMES.items():
        part = of(own, name)
        if phone_error(part).measured:
            weights = f"{of_first(part, 'network_parameters')[0]:,.0f}"
            cells = [_text(each, part) for each in ("phone_error_rate", "output_delay", "whole_real_time_factor")]
            rows.append([label, weights, *cells, _bytes(part, "whole_bytes")])
    head = ["network", "parameters", "phone errors", "delay, s", "real-time factor, whole", "memory, utterance / 8 × as long"]
    return _table(head, rows)


def _streaming(series: pd.DataFrame) -> str:
    """The LSTM in one direction, whole and step by step."""
    part = of(series[series["study"] == "speech"], "streaming")
    state = of_first(part, "state_bytes")
    rows = [
        ["whole utterance", _text("whole_real_time_factor", part), "", _bytes(part, "whole_bytes"), ""],
        [
            "step by step", _text("streaming_real_time_factor", part), _text("slowest_step", part),
            _bytes(part, "streaming_bytes"), f"{state[0]:,.0f} B" if len(state) else "",
        ],
    ]  # fmt: skip
    return _table(
        ["LSTM, one direction", "real-time factor", "slowest step, s", "memory, utterance / 8 × as long", "state"], rows
    )


def _bytes(part: pd.DataFrame, metric: str) -> str:
    found = bytes_of(part, metric)
    return "" if found is None else " / ".join(f"{each / 1000:,.0f} kB" for each in found)


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows))


TABLES = {"errors": _errors, "streaming": _streaming}
