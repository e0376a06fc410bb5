"""One board over all runs: the newest counts that measured anything; machines stay apart; every link leads somewhere."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.report import claims, load
from analysis.report.page import build
from analysis.studies.gradients import tables
from results.claims import Claim, Test, claim_from_dict
from results.record import Footer, Header, Record
from results.store import Writer, new_path
from tests.analysis.learning_synthetic import learnt
from tests.analysis.learning_synthetic import record as learning
from tests.analysis.statistics.test_verdicts import rows

TEN = Claim("x-ten", "It is gone after ten steps.", (Test("horizon", 5.0, 20.0),), (("A", "init=a"),), figure="attenuation")
LONG = replace(TEN, name="y-long", statement="It lasts.", tests=(Test("horizon", low=100.0),))


def store(root: Path, name: str, *records: Record, tested: tuple[Claim, ...] = (TEN,), study: str = "gradients",
          suite: str = "cpu", machine: str = "imaginary", commit: str = "a" * 40) -> Path:  # fmt: skip
    """A run whose name begins with the time of day at which it started."""
    started = f"2026-11-20T{name[:2]}:00:00Z"
    environment = {"git": {"commit": commit}, "python": "3.12"}
    header = Header(name, started, 1, machine, environment, {"suite": suite, "studies": [study]},
                    claims=tuple(replace(claim, study=study) for claim in tested))  # fmt: skip
    writer = Writer(new_path(root, header))
    writer.append(header, *records, Footer(started, True, 1.0, 1.0))
    writer.close()
    return writer.path


def told(*paths: Path) -> list[tuple[str, str, str]]:
    return [(row["claim"], row["verdict"], row["run"]) for row in claims.rows(paths)]


def test_a_claim_of_two_sections_is_shown_once_by_the_newest(tmp_path):
    old = store(tmp_path, "08-old", *rows(a=-0.6), tested=(TEN, LONG))
    new = store(tmp_path, "09-new", *rows(a=-0.05), commit="b" * 40)
    expected = [
        ("x-ten", "refuted", "2026-11-20 09-new; newer than 2026-11-20 08-old"),
        ("y-long", "refuted", "2026-11-20 08-old"),
    ]
    assert told(old, new) == told(new, old) == expected


def test_a_newer_run_without_the_measurement_hides_no_verdict(tmp_path):
    old, new = store(tmp_path, "08-old", *rows(a=-0.6)), store(tmp_path, "09-new", *rows(b=-0.6), commit="b" * 40)
    assert told(old, new)[0][1] == "supported"


def test_a_smoke_run_counts_only_where_there_is_no_other(tmp_path):
    old, smoke = (
        store(tmp_path, "08-old", *rows(a=-0.6)),
        store(tmp_path, "09-smoke", *rows(a=-0.05), suite="smoke", commit="b"),
    )
    assert told(old, smoke)[0][1] == "supported" and told(smoke)[0][1] == "refuted"
    assert load.newest_of_each_study(tmp_path) == [old]


def test_within_a_section_the_newest_measurement_counts(tmp_path):
    old, new = store(tmp_path, "08-old", *rows(a=-0.6)), store(tmp_path, "09-new", *rows(a=-0.05))
    assert told(new, old) == [("x-ten", "refuted", "2026-11-20 09-new, read with 2026-11-20 08-old")]


def test_machines_have_rows_of_their_own(tmp_path):
    one, two = store(tmp_path, "08-one", *rows(a=-0.6)), store(tmp_path, "09-two", *rows(a=-0.05), machine="other")
    assert [(row["machine"], row["verdict"]) for row in claims.rows([one, two])] == [
        ("imaginary", "supported"), ("other", "refuted"),
    ]  # fmt: skip
    report = build([one, two], tmp_path / "out")
    newest, older = (path.with_suffix(".md").read_text() for path in (report.html, *report.others))
    assert "| 2026-11-20 09-two |" in newest and "| 2026-11-20 08-one |" in older and "08-one |" not in newest


def test_without_paths_each_study_has_its_newest_run(tmp_path):
    store(tmp_path, "06-other", *rows(a=-0.6), machine="other")
    store(tmp_path, "07-gradients", *rows(a=-0.05))
    kept = store(tmp_path, "08-gradients", *rows(a=-0.6))
    both = store(tmp_path, "09-horizon", *rows(b=-0.6), tested=(LONG,), study="horizon")
    store(tmp_path, "10-plain", *rows(a=-0.6), tested=())
    (tmp_path / "no-run.jsonl").write_text("not a line of a run\n")
    assert load.newest_of_each_study(tmp_path) == [kept, both]
    assert [(row["study"], row["claim"]) for row in claims.rows(root=tmp_path)] == [
        ("gradients", "x-ten"),
        ("horizon", "y-long"),
    ]


def test_the_page_has_one_board_and_every_link_resolves(tmp_path):
    paths = (
        store(tmp_path, "08-a", *rows(a=-0.6)),
        store(tmp_path, "09-b", *rows(a=-0.6), tested=(LONG,), study="b", commit="b"),
    )
    report = build(paths, tmp_path / "out")
    page = report.html.read_text()
    assert page.count(">Claims</h2>") == 1
    assert "2 claims: 1 supported and 1 refuted." in page
    ids = set(re.findall(r'id="([^"]+)"', page))
    board = page[page.index('<ul class="board">') : page.index("Show all claims")]
    assert re.findall(r'<li id="([^"]+)" data-verdict="([^"]+)"', board) == [
        ("claim-x-ten", "supported"), ("claim-y-long", "refuted"),
    ]  # fmt: skip
    links = re.findall(r'href="#([^"]+)"', board)
    assert set(links) <= ids and links == ["figure-attenuation"] * 2
    assert report.markdown.read_text().count("## Claims\n") == 1


def test_a_run_that_times_nothing_is_not_asked_for_speed(tmp_path):
    text = build([store(tmp_path, "08-a", *rows(a=-0.6))], tmp_path / "out").markdown.read_text()
    assert text.count("No backend was timed in this run: its studies measure other quantities.") == 1
    for absent in ("Throughput", "Latency", "Roofline", "Peak performance", "All cases", "replicate of the", "more replicates"):
        assert absent not in text.partition("## imaginary")[2], absent


def test_the_audit_joins_gradients_and_learning_of_two_runs(tmp_path):
    def faded(rate: float) -> list[Record]:
        return [replace(each, parameters=each.parameters | {"cell": "lstm"}) for each in rows(pytorch=rate)]

    learns = learning("lstm", "pytorch", learnt(17, 40.0, 8, 3), 12.0)
    paths = [store(tmp_path, "07-old", *faded(-0.1)), store(tmp_path, "08-gradients", *faded(-0.6))]
    paths.append(store(tmp_path, "09-horizon", learns, study="horizon", commit="b"))
    table = tables.of_machine(load.load(paths))
    texts = dict(zip((column.label for column in table.columns), (cell.text for cell in table.rows[0]), strict=True))
    assert texts["Decay length (10⁻³)"].startswith("12 [") and texts["Memory span (L50)"].startswith(("16", "17"))
    assert texts["Source"] == "PyTorch, torch.nn.LSTM, Variables"
    hints = {column.label: column.hint for column in table.columns}
    assert hints["Decay length (10⁻³)"] == "steps, H = 64" and hints["Memory span (L50)"] == "steps, H = 32"
    page = build(paths, tmp_path / "out").html.read_text()
    assert page.count('id="initialisations"') == 1


def test_sections_of_one_machine_are_told_apart_in_one_note(tmp_path):
    paths = [store(tmp_path, f"0{number}-x", *rows(a=-0.6), commit=str(number) * 40) for number in (1, 2, 3)]
    first = load.load(paths)[0]
    (note,) = [remark for remark in first.remarks if "kept apart" in remark]
    assert note.endswith("kept apart: git.commit 1111111 here, 2222222 or 3333333 there.") and "2 other sections hold" in note


@pytest.mark.parametrize("more", [{}, {"written_later": 1}])
def test_a_claim_is_read_whatever_a_later_version_added(more):
    values = {"name": "x", "statement": "s", "tests": [{"quantity": "horizon"}], "settings": [["A", "init=a"]]}
    assert claim_from_dict(values | more).study == ""
