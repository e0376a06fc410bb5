"""A machine of a fleet: it holds the device, says what it is, and hands out records as they are made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.fleet.machine import Machine
from bench.fleet.share import HOST
from bench.fleet.shipping import CORPUS, Damaged, Parcel
from bench.harness import plan
from bench.machine import environment
from bench.machine.lock import FOLDER_VARIABLE, DeviceBusy, device_lock
from bench.studies.quality.sources import corpus_name
from impls import Unavailable
from results.record import Record, decode

SMOKE = plan.make("smoke", ["numpy", "null"], threads=1)
ASKED = {"threads": 1, "wait": False}


@pytest.fixture(autouse=True)
def own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))


def test_it_holds_the_device_until_it_ends():
    machine = Machine()
    said = machine.introduce(SMOKE.to_dict(), **ASKED)
    with pytest.raises(DeviceBusy), device_lock("cpu"):
        pass
    with pytest.raises(DeviceBusy):
        Machine().introduce(SMOKE.to_dict(), **ASKED)
    machine.holding.close()
    with device_lock("cpu"):
        pass
    assert said["machine"] == environment.machine_name(said["environment"]) and said["threads"] == 1


def test_one_that_takes_turns_holds_it_for_a_share_alone():
    machine = Machine(takes_turns=True)
    machine.introduce(SMOKE.to_dict(), **ASKED)
    with device_lock("cpu"):
        pass
    share = [(its.name, case.key) for its in SMOKE.studies for case in SMOKE.cases(its)][:2]
    first = list(machine.measure(SMOKE.to_dict(), share[:1], 0, []))
    with device_lock("cpu"):
        pass
    lines = [line for kind, value in first if kind == "records" for line in value]
    made = [line for line in map(decode, lines) if isinstance(line, Record)]
    assert {its.study for its in made} == {"overhead", "throughput"} and all(its.status == "ok" for its in made)
    assert {its.case for its in made if its.study == "throughput"} == {share[0][1]}
    assert len({its.conditions[HOST] for its in made}) == 1
    assert [value > 0 for kind, value in first if kind == "measured"] == [True]
    known = [line for line in lines if '"overhead"' in line]
    again = list(machine.measure(SMOKE.to_dict(), share[1:], 0, known))
    assert '"overhead"' not in str(again), "the harness's overhead is measured once a host"


def test_what_goes_wrong_while_it_measures_is_raised(monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bench.fleet.machine.Writer", full)
    with pytest.raises(OSError, match="No space left"):
        list(Machine().measure(SMOKE.to_dict(), [], 0, []))
    with device_lock("cpu"):
        pass


def test_a_suite_for_a_gpu_is_refused_without_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(environment, "gpu_list", lambda: [])
    with pytest.raises(Unavailable, match="this machine has no NVIDIA GPU"):
        Machine().introduce(plan.make("gpu").to_dict(), **ASKED)


def test_another_or_a_damaged_corpus_is_refused(tmp_path: Path):
    corpus = tmp_path / "text"
    corpus.write_text("a text " * 4000)
    asked = plan.make("quality", ["torch"], ["source=text"], corpus=corpus_name(corpus))
    sent = Parcel.of({CORPUS: corpus.read_bytes()})
    machine = Machine()
    machine.introduce(asked.to_dict(), **ASKED, parcel=sent)
    assert machine.corpus is not None and machine.corpus.read_bytes() == corpus.read_bytes()
    machine.holding.close()
    other = Parcel.of({CORPUS: b"b text " * 4000})
    with pytest.raises(ValueError, match=r"it was sent the corpus .*, and the run's is "):
        Machine().introduce(asked.to_dict(), **ASKED, parcel=other)
    damaged = replace(sent, contents={CORPUS: b"a text" * 4000})
    with pytest.raises(Damaged, match=r"its corpus has the hash .* damaged on the way"):
        Machine().introduce(asked.to_dict(), **ASKED, parcel=damaged)
