"""A claim and the rule that judges it, as plain data: written in a study's file, stored in every run, read by the analysis.

A rule never sees a single number, only intervals: each test asks whether the interval of a quantity lies within bounds. A
claim is tested in one or more settings (an initialisation, say); in a setting all of its tests must pass.
"""

from __future__ import annotations

import dataclasses
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

INFINITE = 1e300  # stands for no bound: JSON has no infinity

# The one grammar of conditions: of `--where` and of the selections of claims.
COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "<=": operator.le, ">=": operator.ge, "!=": operator.ne, "=": operator.eq, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
_CONDITION = re.compile(r"\s*(\w+)\s*(<=|>=|!=|=|<|>)\s*(.*\S)\s*", re.DOTALL)


def read_condition(text: str) -> tuple[str, str, str] | None:
    """Parameter, comparison and value of a condition such as `hidden_size<=256`; None where it is none."""
    match = _CONDITION.fullmatch(text)
    return None if match is None else (match[1], match[2], match[3])


@dataclass(frozen=True, slots=True)
class Test:
    """The 95 % interval of `quantity` (a name of `analysis.statistics.quantities`) must lie within [low, high].

    effect, spread: the true value that the number of seeds is planned for, and the standard deviation over seeds (or
    replicates) in an earlier run or a pilot, in the quantity's unit; a spread of 0 says that it is found and not estimated.
    None where no run has told the spread, and in rules of earlier versions.
    basis: where the effect comes from: `published`, `as claimed`, `an earlier run`, `a pilot`.
    """

    __test__ = False  # no test of pytest's

    quantity: str
    low: float = -INFINITE
    high: float = INFINITE
    effect: float | None = None
    spread: float | None = None
    basis: str = ""

    def __post_init__(self) -> None:
        if (self.effect is None) != (self.spread is None):
            raise ValueError(f"the rule on {self.quantity} needs effect and spread together, or neither")
        if self.spread is not None and self.spread < 0:
            raise ValueError(f"the rule on {self.quantity} has a spread of {self.spread}; a standard deviation is 0 or more")


@dataclass(frozen=True, slots=True)
class Claim:
    """name: unique, begins with the letter of the claim it belongs to. statement: what is claimed, in a sentence.

    settings: where it is tested; the first is the one whose number stands on the board. Each is a selection of records in the
    form of the command line's filters joined by commas, as `cell=lstm,init=pytorch`, names with alternatives as
    `backend=reference|torch`, and a label.
    published, source: the number in print, and where. study: that asked it, written in when a run begins.
    """

    name: str
    statement: str
    tests: tuple[Test, ...]
    settings: tuple[tuple[str, str], ...]  # (label, selection)
    published: str = ""
    source: str = ""
    figure: str = ""  # name of the figure that shows it
    study: str = ""

    def __post_init__(self) -> None:
        if not self.tests or not self.settings:
            raise ValueError(f"claim {self.name} needs at least one test and one setting")


def claim_from_dict(values: dict[str, Any]) -> Claim:
    """The inverse of `dataclasses.asdict`. Fields a newer schema added are ignored."""
    parts = {name.name for name in dataclasses.fields(Test)}
    tests = tuple(Test(**{name: value for name, value in test.items() if name in parts}) for test in values["tests"])
    settings = tuple((str(label), str(selection)) for label, selection in values["settings"])
    known = {name.name for name in dataclasses.fields(Claim)}
    values = {name: value for name, value in values.items() if name in known}
    return Claim(**(values | {"tests": tests, "settings": settings}))
