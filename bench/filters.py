"""Choosing cases by their parameters: `hidden_size=256`, `batch<=8`, `phase=step`; by their whole key: `case=KEY`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

from bench.case import Case
from impls import UnknownName

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_FORM = re.compile(r"^\s*(\w+)\s*(<=|>=|!=|=|<|>)\s*(\S+)\s*$")


class InvalidFilter(ValueError):
    """A filter that cannot be read, or that no case passes."""


def choose(cases: Sequence[Case], filters: Sequence[str]) -> tuple[Case, ...]:
    """The cases that pass every filter. Raises `InvalidFilter`, or `UnknownName` for a parameter no case has."""
    values = {case: {"case": case.key} | case.to_dict() for case in cases}
    known = {name for one in values.values() for name in one}
    return tuple(case for case in cases if all(_passes(values[case], text, known) for text in filters))


def alternatives(cases: Sequence[Case], filters: Sequence[str]) -> str:
    """For each filter `name=value` whose value no case has, those the cases do have: " (init is one of chrono:784, …)"."""
    said = []
    for match in (match for text in filters if (match := _FORM.match(text)) and match[2] == "=" and match[1] != "case"):
        there = [value for case in cases if (value := case.to_dict().get(match[1])) is not None]
        if match[3].lower() not in {str(value).lower() for value in there}:
            known = sorted(set(there), key=lambda value: (isinstance(value, str), value))
            said.append(f"{match[1]} is one of {', '.join(map(str, known))}")
    return f" ({'; '.join(said)})" if said else ""


def _passes(values: dict[str, Any], text: str, known: set[str]) -> bool:
    match = _FORM.match(text)
    if not match:
        raise InvalidFilter(f"cannot read the filter {text!r}; write it as hidden_size=256, batch<=8 or phase=step")
    name, symbol, wanted = match.groups()
    if name not in known:
        raise UnknownName("parameter", name, known)
    if name not in values:
        return False
    return _OPERATORS[symbol](values[name], _like(values[name], wanted, text))


def _like(value: object, wanted: str, text: str) -> object:
    """`wanted` read as the type of `value`."""
    if isinstance(value, bool):
        if wanted.lower() not in ("true", "false"):
            raise InvalidFilter(f"filter {text!r}: expected true or false; got {wanted!r}")
        return wanted.lower() == "true"
    if isinstance(value, int):
        try:
            return int(wanted)
        except ValueError:
            raise InvalidFilter(f"filter {text!r}: expected a whole number; got {wanted!r}") from None
    return wanted
