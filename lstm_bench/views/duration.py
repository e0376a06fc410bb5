"""Lengths of time as people write them: 90s, 10m, 1h30m."""

from __future__ import annotations

import re

from results.errors import UserError

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}
_FORM = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?$")


class InvalidDuration(UserError, ValueError):
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


def spoken(value: float) -> str:
    """A length of time in two units at most: 45 s, 3 min 20 s, 1 h 5 min."""
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest and minutes < 10 else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
