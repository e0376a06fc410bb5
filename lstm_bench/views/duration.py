"""Lengths of time as people write them: 90s, 10m, 1h30m."""

from __future__ import annotations

import re

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}
_FORM = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?$")


class InvalidDuration(ValueError):
    """Text that is no positive length of time."""


def seconds(text: str) -> float:
    """Seconds in `text`; a bare number is refused, since nobody agrees on its unit."""
    match = _FORM.match(text.strip().lower())
    total = (
        sum(float(value) * unit for value, unit in zip(match.groups(), _UNITS.values(), strict=True) if value) if match else 0
    )
    if not total:
        raise InvalidDuration(f"cannot read {text!r} as a length of time; write it as 90s, 10m or 1h30m")
    return total
