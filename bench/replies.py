"""What a worker may answer: one JSON object a line, of bounded size, whose fields are of the types that the parent reads.

A worker runs foreign code, which may write to any of its pipes; what comes from there is read as if somebody wished us ill.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, get_args

from results.record import HOST_PEAK, FailureKind, Status

LIMIT_BYTES = 32 << 20  # a million samples with their digits take 20 MB
NEVER_NEGATIVE = ("s",)
TEXT_CHARACTERS = 1 << 16  # of a reason or of one entry of a provenance


class InvalidReply(ValueError):
    """A line that is no reply; the message says why."""


def parsed(line: bytes) -> dict[str, Any]:
    """The reply of a line. Raises `InvalidReply`."""
    try:
        reply = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InvalidReply(f"not a line of JSON ({str(error)[:100]}): {line[:60]!r}") from None
    if not isinstance(reply, dict):
        raise InvalidReply(f"expected a JSON object, got {line[:60]!r}")
    for name, is_right in _FIELDS.items():
        if name in reply and not is_right(reply[name]):
            raise InvalidReply(f"field {name} cannot be {str(reply[name])[:60]!r}")
    if "status" not in reply:
        raise InvalidReply(f"no field status in {line[:60]!r}")
    if reply["status"] == "failed" and reply.get("kind") is None:
        raise InvalidReply("failed without a kind of failure")
    if reply["status"] != "ok" and not reply.get("reason"):
        raise InvalidReply(f"{reply['status']} without a reason")
    return reply


def _refuse(name: str) -> None:
    raise InvalidReply(f"{name} is no number of JSON")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_amount(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= TEXT_CHARACTERS


def _is_table_of_text(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value.values()))


def _is_measurement(value: Any) -> bool:
    if not isinstance(value, dict) or not all(_is_text(value.get(name)) for name in ("metric", "unit")):
        return False
    samples, blocks, notes = (value.get(name, ()) for name in ("samples", "blocks", "notes"))
    if not all(isinstance(items, list | tuple) for items in (samples, blocks, notes)):
        return False
    # A clock that ran backwards, or was replaced, gives times below zero.
    is_right = _is_amount if value["unit"] in NEVER_NEGATIVE else _is_number
    return all(map(is_right, samples)) and all(map(_is_amount, blocks)) and all(map(_is_text, notes))


def _is_list_of(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(is_right, value))


_FIELDS: Mapping[str, Callable[[Any], bool]] = {
    "status": lambda value: value in get_args(Status),
    "kind": lambda value: value is None or value in get_args(FailureKind),
    "reason": _is_text,
    "provenance": _is_table_of_text,
    "measurements": _is_list_of(_is_measurement),
    "seconds": _is_amount, "busy_seconds": _is_amount, "warm_up_seconds": _is_amount, "first_call_seconds": _is_amount,
    "load_seconds": _is_amount, HOST_PEAK: _is_amount, "latest": _is_amount,
    "finished": lambda value: isinstance(value, bool),
}  # fmt: skip
