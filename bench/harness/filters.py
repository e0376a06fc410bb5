"""Choosing cases by their parameters: `hidden_size=256`, `mismatch<=0.01`, `bias=false`, `phase=step`; or `case=KEY`.

The one grammar of `--where`: NAME, one of = != < <= > >=, VALUE. A value is read as the parameter's own kind: true or false, a
number (whole or decimal, 1e-3 too), or a word, which knows = and != alone.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.harness.case import Case
from impls import UnknownName

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_FORM = re.compile(r"\s*(\w+)\s*(<=|>=|!=|=|<|>)\s*(.*\S)\s*", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]?inf")
_EQUALITY = ("=", "!=")
MOST_VALUES = 24  # of a parameter, told where another one was asked for

Known = Mapping[str, Sequence[Any]]  # of each parameter the values that cases have


class InvalidFilter(ValueError):
    """A filter that cannot be read, or that no case passes."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter as it was read."""

    text: str
    name: str
    symbol: str
    wanted: str

    def passes(self, values: Mapping[str, Any]) -> bool:
        """Whether a case of these parameters passes; one without the parameter, or with one of another kind, does not."""
        if self.name not in values:
            return False
        value = values[self.name]
        wanted = _read(value, self.wanted)
        if wanted is None:  # a word, where this case has a number
            return self.symbol == "!="
        return _OPERATORS[self.symbol](value, wanted)

    def check(self, known: Known) -> None:
        """Raise `UnknownName` for a parameter that no case has, `InvalidFilter` for a value of a kind that none has."""
        if self.name not in known:
            raise UnknownName("parameter", self.name, known)
        there = known[self.name]
        fitting = [value for value in there if _read(value, self.wanted) is not None]
        if not fitting:
            kinds = " or ".join(sorted({_kind(value) for value in there}))
            raise InvalidFilter(
                f"filter {self.text!r}: {self.name} is {kinds}, and {self.wanted!r} is not; "
                f"write it as {self.name}={_shown(min(there, key=_order))}"
            )
        if self.symbol not in _EQUALITY and not any(_is_number(value) for value in fitting):
            raise InvalidFilter(
                f"filter {self.text!r}: {self.name} is {_kind(fitting[0])}, which has no order; "
                f"choose by = or !=, as {self.name}={_shown(min(there, key=_order))}"
            )


def read(text: str) -> Filter:
    """Raises `InvalidFilter`."""
    match = _FORM.fullmatch(text)
    if not match:
        raise InvalidFilter(
            f"cannot read the filter {text!r}; write a parameter, one of = != < <= > >=, and a value, as hidden_size=256, "
            "mismatch<=0.01, bias=false or phase=step"
        )
    return Filter(text, *match.groups())


def parameters(cases: Iterable[Case]) -> Known:
    """Every parameter of these cases with its values: what filters may name."""
    found: dict[str, dict[str, Any]] = {}
    for case in cases:
        for name, value in _values(case).items():
            found.setdefault(name, {})[repr(value)] = value  # 1 and true are equal, and two values
    return {name: tuple(values.values()) for name, values in found.items()}


def choose(cases: Sequence[Case], filters: Sequence[str], known: Known | None = None) -> tuple[Case, ...]:
    """The cases that pass every filter.

    Args:
        cases: of one study.
        filters: as `read` takes them.
        known: the parameters of all cases that are asked, of other studies too; those of `cases` if None.

    Raises:
        InvalidFilter: one cannot be read, or its value is of another kind than the parameter's.
        UnknownName: no case that is asked has such a parameter.
    """
    if not filters:
        return tuple(cases)
    asked = [read(text) for text in filters]
    known = parameters(cases) if known is None else known
    for one in asked:
        one.check(known)
    return tuple(case for case in cases if all(one.passes(_values(case)) for one in asked))


def alternatives(cases: Sequence[Case], filters: Sequence[str]) -> str:
    """For each filter `name=value` whose value no case has, those the cases do have: " (init is one of chrono:784, …)"."""
    said, known = [], parameters(cases)
    for one in (one for text in filters if (one := read(text)).symbol == "=" and one.name not in ("case",)):
        if not any(one.passes({one.name: value}) for value in known[one.name]):
            there = sorted(known[one.name], key=_order)
            more = f" and {len(there) - MOST_VALUES} more" if len(there) > MOST_VALUES else ""
            said.append(f"{one.name} is one of {', '.join(map(_shown, there[:MOST_VALUES]))}{more}")
    return f" ({'; '.join(said)})" if said else ""


def _values(case: Case) -> dict[str, Any]:
    return {"case": case.key} | case.to_dict()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _read(value: object, wanted: str) -> bool | float | str | None:
    """`wanted` as the kind of `value`; None where it is none of that kind."""
    if isinstance(value, bool):
        return {"true": True, "false": False}.get(wanted.lower())
    if not _is_number(value):
        return wanted
    if not _NUMBER.fullmatch(wanted):
        return None
    return int(wanted) if re.fullmatch(r"[+-]?\d+", wanted) else float(wanted)


def _kind(value: object) -> str:
    return "true or false" if isinstance(value, bool) else "a number" if _is_number(value) else "a word"


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _order(value: Any) -> tuple[bool, float, str]:
    return (False, value, "") if _is_number(value) else (True, 0.0, str(value))
