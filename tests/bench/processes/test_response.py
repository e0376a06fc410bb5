"""A worker's response is typed, and the record made of it says the same after a trip to disk."""

from __future__ import annotations

import pytest

import impls
from bench.harness.case import Case
from bench.processes.response import InvalidReply, Observed, Subject, WorkerFailed, WorkerResponse, build_record, parse_reply
from bench.worker import __main__ as worker
from bench.worker import prepare
from results.record import HOST_PEAK, InvalidRecord, Measurement, Record, decode, encode

TIME = Measurement("time", "s", (1.0, 2.0))
OBSERVED = Observed({"load_average": 0.5}, 10.0, 2.0)


def raises(error: Exception):
    def operation() -> dict[str, object]:
        raise error

    return operation


@pytest.mark.parametrize("error, skip, reason", [
    (prepare.Skip("no gates"), "unsupported", "no gates"),
    (prepare.Missing("no torch"), "unavailable", "no torch"),
    (prepare.NotMeasured("no tool"), "not_measured", "not measured: no tool"),
    (impls.Unavailable("no GPU"), "unavailable", "no GPU"),
])  # fmt: skip
def test_why_a_case_was_skipped_is_a_type_down_to_the_record(case: Case, error, skip, reason):
    reply, _ = worker._answer(raises(error), {})
    response = WorkerResponse.from_reply(reply)
    record = build_record(Subject.of_case("throughput", case, "torch", 0), response, OBSERVED)
    kept = decode(encode(record))
    assert isinstance(kept, Record) and (kept.status, kept.skip, kept.reason) == ("skipped", skip, reason)
    assert kept.is_unmeasured == (skip == "not_measured")


def test_a_worker_cannot_invent_a_kind_of_skipping():
    with pytest.raises(InvalidReply, match="field skip cannot be"):
        parse_reply(b'{"status": "skipped", "skip": "lazy", "reason": "x"}')


def test_only_what_was_skipped_has_a_kind_of_skipping():
    with pytest.raises(InvalidRecord, match="cannot have been skipped"):
        Record("s", "c", "b", 0, "ok", {}, skip="unsupported")


@pytest.mark.parametrize("reason, unmeasured", [("not measured: no time", True), ("unsupported: GRU", False)])
def test_older_records_tell_by_their_reason(reason, unmeasured):
    line = encode(Record("gpu_sends", "a", "probe", 0, "skipped", {}, reason))
    assert '"skip"' not in line
    kept = decode(line)
    assert isinstance(kept, Record) and kept.is_unmeasured == unmeasured


def test_a_record_has_what_its_kind_asks_for(case: Case):
    response = WorkerResponse("ok", measurements=(TIME,), first_call_seconds=3.0, error=1e-7, host_peak=5)
    subject = Subject.of_case("throughput", case, "torch", 1)
    assert [one.metric for one in build_record(subject, response, OBSERVED).measurements] == ["time"]
    full = build_record(subject, response, OBSERVED, first_call=True, error=True)
    assert [(one.metric, one.unit) for one in full.measurements] == [("time", "s"), ("first_call", "s"), ("error", "1")]
    assert full.conditions == {"load_average": 0.5, HOST_PEAK: 5} and (full.started, full.seconds) == (10.0, 2.0)
    emulated = build_record(subject, response, OBSERVED, {"emulated": "true"}, first_call=True)
    assert {one.metric for one in emulated.measurements} == {"emulated_time", "emulated_first_call"}
    assert emulated.provenance == {"emulated": "true"}


def test_a_disturbance_changes_no_failure():
    good, died = WorkerResponse("ok", measurements=(TIME,)), WorkerResponse.of_failure(WorkerFailed("crash", "gone"))
    assert good.unless_unstable(None) is good and died.unless_unstable("hot") is died and died.died
    disturbed = good.unless_unstable("hot")
    assert (disturbed.status, disturbed.kind, disturbed.reason, disturbed.measurements) == ("failed", "unstable", "hot", ())
