"""Of which type and range each field of a line of a run is, so that what is read can be relied on; and strict JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

NEVER_NEGATIVE = ("s",)  # a clock that ran backwards, or was replaced, gives times below zero
LARGEST = 1e300  # of whatever unit; an int beyond it is no float either
Check = Callable[[Any], bool]


def from_json(text: str | bytes) -> Any:
    """A value of JSON, which knows neither NaN nor infinity. Raises `ValueError`, or `RecursionError` for endless brackets."""
    return json.loads(text, parse_constant=_refuse)


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


class WrongField(ValueError):
    """A field whose value cannot be right; the message names it."""


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST < value < LARGEST


def is_amount(value: Any) -> bool:
    return is_number(value) and value >= 0


def is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_moment(value: Any) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value) is not None
    except ValueError:
        return False


def is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def is_table(value: Any) -> bool:
    return isinstance(value, dict)


def is_table_of(check: Check) -> Check:
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def is_list_of(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


def is_measurement(value: Any) -> bool:
    if not (isinstance(value, dict) and is_text(value.get("metric")) and is_text(value.get("unit"))):
        return False
    samples, blocks, notes = value.get("samples"), value.get("blocks", []), value.get("notes", [])
    number = is_amount if value["unit"] in NEVER_NEGATIVE else is_number
    if not (is_list_of(number)(samples) and is_list_of(is_count)(blocks) and is_list_of(is_text)(notes)):
        return False
    return not blocks or sum(blocks) == len(value["samples"])


def is_scalar(value: Any) -> bool:
    return value is None or is_text(value) or is_flag(value) or is_number(value)


def is_parameters(value: Any) -> bool:
    return is_table_of(is_scalar)(value) and fits(value, PARAMETERS)


def is_plan(value: Any) -> bool:
    return is_table(value) and fits(value, PLAN)


def is_environment(value: Any) -> bool:
    """The parts that are looked into are tables, where they are there at all."""
    if not is_table(value):
        return False
    tables = ("cpu", "git", "packages", "variables")
    return all(is_table(value.get(name, {})) for name in tables if value.get(name) is not None)


PARAMETERS: Mapping[str, Check] = {
    **dict.fromkeys(("cell", "phase", "launch", "device", "dtype"), is_text),
    **dict.fromkeys(("steps", "batch", "hidden_size", "input_size", "layers"), is_count),
}
PLAN: Mapping[str, Check] = {
    **dict.fromkeys(("suite", "comparison", "side", "corpus"), or_none(is_text)),
    **dict.fromkeys(("studies", "backends", "filters", "sides", "commits"), or_none(is_list_of(is_text))),
    **dict.fromkeys(("replicates", "threads", "seed"), or_none(is_count)),
    "time_budget": or_none(is_amount),
}  # fmt: skip
RECORD: Mapping[str, Check] = {
    **dict.fromkeys(("study", "case", "backend", "status", "reason"), is_text),
    "replicate": is_count, "parameters": is_parameters,
    "kind": or_none(is_text), "skip": or_none(is_text), "measurements": is_list_of(is_measurement),
    "counts": is_table_of(is_number),
    "provenance": is_table_of(is_text), "conditions": is_table, "started": is_amount, "seconds": is_amount,
}  # fmt: skip
HEADER: Mapping[str, Check] = {
    "run": is_text, "started": is_moment, "protocol": is_count, "machine": is_text, "environment": is_environment,
    "plan": is_plan, "schema": is_count, "claims": is_list_of(is_table),
}  # fmt: skip
FOOTER: Mapping[str, Check] = {
    "finished": is_moment, "complete": is_flag, "seconds": is_number, "measuring_seconds": is_number, "note": is_text,
    "warm_up_seconds": or_none(is_number),
}  # fmt: skip


def fits(values: Mapping[str, Any], checks: Mapping[str, Check]) -> bool:
    """Whether every field that is there is right."""
    return all(is_right(values[name]) for name, is_right in checks.items() if name in values)


def check(values: Mapping[str, Any], checks: Mapping[str, Check]) -> None:
    """Raise `WrongField` for the first field that is there and not right."""
    for name, is_right in checks.items():
        if name in values and not is_right(values[name]):
            raise WrongField(f"{name} cannot be {str(values[name])[:60]!r}")
