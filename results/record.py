"""The record: one line of JSON for what one backend did with one case in one replicate.

History of the schema (field `schema` of every run's first line):

1   2026-11  run header; records of status ok, skipped, failed with their measurements, counts and provenance; footer.
            Later the header's `claims`, empty where a run has none

Frozen dataclasses with checks of their own (`results.fields`) instead of pydantic: workers run from a checkout on images that
others built, so dependencies stay few.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from results import fields
from results.claims import Claim, claim_from_dict
from results.output import SUSPECT, visible_in

SCHEMA = 1

EMULATED_METRIC = "emulated_"  # what the metrics of an emulated run begin with, so that none is taken for a GPU's

# In the provenance of a backend that computes in less than its case's data type, as in int8: in what. Its metrics begin with
# the second, so that none is ranked with those of backends that compute what was asked.
PRECISION = "precision"
REDUCED_METRIC = "reduced_"

NO_ENERGY = "energy_not_measured"  # among the conditions: why, where the machine did not tell
HOST_PEAK = "host_peak_bytes"  # among the conditions: the most memory that the worker has held in its life until then

Status = Literal["ok", "skipped", "failed"]
FailureKind = Literal["error", "out_of_memory", "timeout", "crash", "wrong", "unstable"]
SkipKind = Literal["unsupported", "unavailable", "not_measured"]
NOT_MEASURED = "not measured: "  # the reason of what was not reached, or what measures it is not here, begins so


class InvalidRecord(ValueError):
    """A line that is no record of this schema; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """Raw samples of one metric in an SI base unit: nothing averaged, nothing dropped.

    blocks: for each turn the backend had, how many of the samples fell into it (in order); empty if turns were not taken.
    notes: labels such as `no_steady_state`, `host_bound`.
    """

    metric: str
    unit: str
    samples: tuple[float, ...]
    blocks: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """One outcome. `case` is the readable key, `parameters` the same case as plain values (see `Case.to_dict`).

    counts: closed-form numbers (tokens, flops, bytes …), so that rates need nothing but the record.
    provenance: what really ran. conditions: load, clocks and the like, sampled beside the measurement.
    """

    study: str
    case: str
    backend: str
    replicate: int
    status: Status
    parameters: dict[str, Any]
    reason: str = ""
    kind: FailureKind | None = None
    measurements: tuple[Measurement, ...] = ()
    counts: dict[str, float] = field(default_factory=dict)
    provenance: dict[str, str] = field(default_factory=dict)
    conditions: dict[str, Any] = field(default_factory=dict)
    started: float = 0.0  # seconds since the epoch
    seconds: float = 0.0  # wall time spent on this record, everything included
    skip: SkipKind | None = None  # of a skipped record; None in those from before it was kept

    def __post_init__(self) -> None:
        if self.status not in get_args(Status):
            raise InvalidRecord(f"status must be one of {', '.join(get_args(Status))}; got {self.status!r}")
        if self.status == "failed" and self.kind not in get_args(FailureKind):
            raise InvalidRecord(f"a failed record needs a kind of {', '.join(get_args(FailureKind))}; got {self.kind!r}")
        if self.status != "ok" and not self.reason:
            raise InvalidRecord(f"a {self.status} record needs a reason")
        if self.skip is not None and (self.status != "skipped" or self.skip not in get_args(SkipKind)):
            raise InvalidRecord(f"a {self.status} record cannot have been skipped as {self.skip!r}")

    @property
    def is_unmeasured(self) -> bool:
        """Whether it was skipped since it was not reached, or since what measures it is not here.

        Of records from before the kind was kept their reason says it.
        """
        told = self.status == "skipped" and self.skip is None and self.reason.startswith(NOT_MEASURED)
        return told or self.skip == "not_measured"

    @property
    def task(self) -> tuple[str, str, str, int]:
        """What was asked: no two records of a run share it."""
        return self.study, self.case, self.backend, self.replicate


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of a run: what was asked, and on what. `plan` is all that is needed to finish the run later."""

    run: str
    started: str  # ISO 8601, UTC
    protocol: int
    machine: str  # short name of the fingerprint; runs of different machines are never merged
    environment: dict[str, Any]
    plan: dict[str, Any]
    schema: int = SCHEMA
    claims: tuple[Claim, ...] = ()  # the rules by which this run's numbers are judged, as they stood before it


@dataclass(frozen=True, slots=True)
class Footer:
    """The last line of a run. `complete` is False where Ctrl-C or an error ended it and `--resume` has work left."""

    finished: str  # ISO 8601, UTC
    complete: bool
    seconds: float
    measuring_seconds: float  # of those, spent inside warm-up and timed samples
    note: str = ""
    warm_up_seconds: float | None = None  # of those; None in runs before protocol 2


Line = Header | Record | Footer
_TYPES: dict[str, type[Header] | type[Record] | type[Footer]] = {"run": Header, "record": Record, "end": Footer}
_CHECKS = {Header: fields.HEADER, Record: fields.RECORD, Footer: fields.FOOTER}
_NAMES = {kind: name for name, kind in _TYPES.items()}


def encode(line: Line) -> str:
    """One line of JSON without its newline. NaN and infinity are refused: JSON has no such numbers."""
    values = {"line": _NAMES[type(line)]} | dataclasses.asdict(line)
    if isinstance(line, Record) and line.skip is None:
        del values["skip"]
    try:
        return json.dumps(values, separators=(",", ":"), allow_nan=False)
    except ValueError as error:
        raise InvalidRecord(f"{line.task if isinstance(line, Record) else type(line).__name__}: {error}") from error


def decode(text: str) -> Line:
    """The inverse of `encode`. Fields a newer schema added are ignored; a missing one raises `InvalidRecord`."""
    try:
        values = fields.from_json(text)
        if SUSPECT.search(text):
            values = visible_in(values)
        kind = _TYPES[values.pop("line")]
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise InvalidRecord(f"not a line of a run: {text[:60]!r}") from error
    known = {name.name for name in dataclasses.fields(kind)}
    values = {name: value for name, value in values.items() if name in known}
    try:
        fields.check(values, _CHECKS[kind])
        if kind is Record:
            values["measurements"] = tuple(measurement_from_dict(item) for item in values.get("measurements", ()))
        if kind is Header:
            values["claims"] = tuple(claim_from_dict(item) for item in values.get("claims", ()))
        return kind(**values)
    except (TypeError, KeyError, fields.WrongField) as error:
        raise InvalidRecord(f"a {_NAMES[kind]} line does not fit schema {SCHEMA}: {error}") from error


def torn(text: str) -> bool:
    """Whether this is the beginning of a line that was never finished, as a kill leaves it: it is cut off, and else right."""
    begin = '{"line":"'
    if not (text.startswith(begin) or begin.startswith(text)):
        return False
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return error.pos >= len(text) or not text.endswith("}")
    return False


def measurement_from_dict(values: dict[str, Any]) -> Measurement:
    return Measurement(
        metric=values["metric"],
        unit=values["unit"],
        samples=tuple(values["samples"]),
        blocks=tuple(values.get("blocks", ())),
        notes=tuple(values.get("notes", ())),
    )
