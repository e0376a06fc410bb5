"""What a worker may answer: one JSON object a line, of bounded size, whose fields are of the types that the parent reads.

A worker runs foreign code, which may write to any of its pipes: nothing that comes from there is trusted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from results.fields import Check, from_json, is_amount, is_flag, is_list_of, is_measurement, is_table_of
from results.record import HOST_PEAK, FailureKind, Status

LIMIT_BYTES = 32 << 20  # a million samples with their digits take 20 MB
TEXT_CHARACTERS = 1 << 16  # of a reason or of one entry of a provenance


class InvalidReply(ValueError):
    """A line that is no reply; the message says why."""


def parsed(line: bytes) -> dict[str, Any]:
    """The reply of a line. Raises `InvalidReply`."""
    try:
        reply = from_json(line)
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


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= TEXT_CHARACTERS


_FIELDS: Mapping[str, Check] = {
    "status": lambda value: value in get_args(Status),
    "kind": lambda value: value is None or value in get_args(FailureKind),
    "reason": _is_text, "provenance": is_table_of(_is_text), "measurements": is_list_of(is_measurement), "finished": is_flag,
    "seconds": is_amount, "busy_seconds": is_amount, "warm_up_seconds": is_amount, "first_call_seconds": is_amount,
    "load_seconds": is_amount, HOST_PEAK: is_amount, "latest": is_amount,
}  # fmt: skip
