"""What a worker may answer, what becomes of an answer, and the record that is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, get_args

from bench.harness.case import Case
from results.fields import Check, from_json, is_amount, is_flag, is_list_of, is_measurement, is_table_of
from results.record import (
    EMULATED_METRIC,
    HOST_PEAK,
    NO_ENERGY,
    NOT_MEASURED,
    PRECISION,
    REDUCED_METRIC,
    FailureKind,
    Measurement,
    Record,
    SkipKind,
    Status,
    measurement_from_dict,
)

# One JSON object a line, of bounded size, whose fields are of the types that the parent reads. A worker runs foreign code,
# which may write to any of its pipes: nothing that comes from there is trusted.

LIMIT_BYTES = 32 << 20  # a million samples with their digits take 20 MB
TEXT_CHARACTERS = 1 << 16  # of a reason or of one entry of a provenance

Reply = dict[str, Any]  # a line as it was parsed and checked


class InvalidReply(ValueError):
    """A line that is no reply; the message says why."""


class WorkerFailed(RuntimeError):
    """A worker that died or did not answer in time."""

    def __init__(self, kind: FailureKind, reason: str) -> None:
        super().__init__(reason)
        self.kind: FailureKind = kind


def parse_reply(line: bytes) -> Reply:
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
    "skip": lambda value: value is None or value in get_args(SkipKind),
    NO_ENERGY: _is_text,
    "reason": _is_text, "provenance": is_table_of(_is_text), "measurements": is_list_of(is_measurement), "finished": is_flag,
    "seconds": is_amount, "busy_seconds": is_amount, "warm_up_seconds": is_amount, "first_call_seconds": is_amount,
    "load_seconds": is_amount, HOST_PEAK: is_amount, "latest": is_amount,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class WorkerResponse:
    """The outcome of what a worker was asked.

    Attributes:
        died: the worker is gone, and the next request needs another.
        error: of the first outputs against the float64 reference, relative to the largest of them.
        first_call_notes: of the measurement of the first call.
        host_peak: bytes that the worker has held at most.
        no_energy: why no energy was measured; None where it was, or was not asked for.
        checks: what a group of `gpu-check` has to measure.
    """

    status: Status
    reason: str = ""
    kind: FailureKind | None = None
    skip: SkipKind | None = None
    died: bool = False
    measurements: tuple[Measurement, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    busy_seconds: float = 0.0
    warm_up_seconds: float = 0.0
    load_seconds: float | None = None
    first_call_seconds: float | None = None
    first_call_notes: tuple[str, ...] = ()
    error: float | None = None
    host_peak: int | None = None
    no_energy: str | None = None
    checks: tuple[dict[str, Any], ...] = ()

    @staticmethod
    def from_reply(reply: Reply) -> WorkerResponse:
        """Of a reply, or of several about one case, put together."""
        return WorkerResponse(
            status=reply["status"], reason=reply.get("reason", ""), kind=reply.get("kind"),
            skip=reply.get("skip"), died=bool(reply.get("died")),
            measurements=tuple(map(measurement_from_dict, reply.get("measurements", ()))),
            provenance=reply.get("provenance", {}), busy_seconds=reply.get("busy_seconds", 0.0),
            warm_up_seconds=reply.get("warm_up_seconds", 0.0), load_seconds=reply.get("load_seconds"),
            first_call_seconds=reply.get("first_call_seconds"), first_call_notes=tuple(reply.get("first_call_notes", ())),
            no_energy=reply.get(NO_ENERGY), error=reply.get("error"), host_peak=reply.get(HOST_PEAK),
            checks=tuple(reply.get("parts", ())),
        )  # fmt: skip

    @staticmethod
    def of_failure(failure: WorkerFailed) -> WorkerResponse:
        """Of a worker that is gone."""
        return WorkerResponse("failed", str(failure), failure.kind, died=True)

    @staticmethod
    def unsupported(reason: str) -> WorkerResponse:
        """Of what a backend, or the code that runs it, does not support."""
        return WorkerResponse("skipped", reason, skip="unsupported")

    @staticmethod
    def not_measured(reason: str) -> WorkerResponse:
        """Of what there was no time for; the one place where the parent makes that sentence."""
        return WorkerResponse("skipped", NOT_MEASURED + reason, skip="not_measured")

    def unless_unstable(self, reason: str | None) -> WorkerResponse:
        """This response, or, where the machine disturbed it for a reason, a failure that says so."""
        return WorkerResponse("failed", reason, "unstable") if reason and self.status == "ok" else self


class Subject(NamedTuple):
    """What a record is about. parameters, counts: the case's, as plain values."""

    study: str
    case: str
    backend: str
    replicate: int
    parameters: dict[str, Any]
    counts: Mapping[str, float] = {}

    @staticmethod
    def of_case(study: str, case: Case, backend: str, replicate: int) -> Subject:
        """The subject of a record about a case."""
        return Subject(study, case.key, backend, replicate, case.to_dict(), case.counts())


class Observed(NamedTuple):
    """What went on meanwhile (see `bench.machine.conditions.Watch`), when it began in seconds since the epoch, and how long it
    took in seconds."""

    conditions: Mapping[str, Any]
    started: float
    seconds: float


def build_record(
    subject: Subject,
    response: WorkerResponse,
    observed: Observed,
    marks: Mapping[str, str] | None = None,
    first_call: bool = False,
    error: bool = False,
) -> Record:
    """The one way to a record.

    Args:
        marks: added to the provenance, whatever the status. Of an emulated run no metric keeps its name, nor of a backend that
            computes in less than the case's data type.
        first_call: whether the seconds of the first call are a measurement of this record.
        error: whether the error of the first outputs is.
    """
    marks = dict(marks or {})
    measurements = list(response.measurements)
    if first_call and response.first_call_seconds is not None:
        measurements.append(Measurement("first_call", "s", (response.first_call_seconds,), notes=response.first_call_notes))
    if error and response.error is not None:
        measurements.append(Measurement("error", "1", (response.error,)))
    if PRECISION in response.provenance:
        measurements = [replace(one, metric=REDUCED_METRIC + one.metric) for one in measurements]
    if "emulated" in marks:
        measurements = [replace(one, metric=EMULATED_METRIC + one.metric.removeprefix(EMULATED_METRIC)) for one in measurements]
    told = {HOST_PEAK: response.host_peak, NO_ENERGY: response.no_energy}
    own = {name: value for name, value in told.items() if value is not None}
    return Record(
        study=subject.study, case=subject.case, backend=subject.backend, replicate=subject.replicate, status=response.status,
        parameters=subject.parameters, reason=response.reason, kind=response.kind, skip=response.skip,
        measurements=tuple(measurements),
        counts=dict(subject.counts), provenance={**response.provenance, **marks}, conditions={**observed.conditions, **own},
        started=observed.started, seconds=observed.seconds,
    )  # fmt: skip
