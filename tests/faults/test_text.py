"""Text from elsewhere is text everywhere: on the terminal, in pages, Markdown, figures and tables."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results import record
from results.output import in_csv, in_markdown, visible

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "results/runs/2026-11-22/intel-xeon-2c-0833fe/111709-quick.jsonl"
NASTY = (
    "[/a]", "[bold]x[/b]", "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "=1+1", "@SUM(A1)", "+cmd|' /C'!A0",
    "\x1b[2J\x07", "\x9b31m", "\u202eabc\u2066", "$\\frac{1}$ $x_", "a|b`c`\nd", "bad\udc80name", "\0nul", "x" * 3000,
    "%s{0}{x}", "'\"&<>", "\r\n- item\n# head", "{{ 7 * 7 }}{% for x in y %}", "&amp;&#60;", "-->", "\u2028line",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run in which every text that is not a number or a key of a case is nasty."""
    lines = [json.loads(line) for line in SOURCE.read_text(encoding="utf-8").splitlines()]
    number = 0
    for line in lines:
        if line["line"] == "run":
            line["environment"]["host"] = NASTY[7]
            line["environment"]["cpu"]["model"] = f"<b>{NASTY[9]}{NASTY[10]}"
            line["environment"]["git"]["commit"] = NASTY[0]
        if line["line"] == "end":
            line["note"] = NASTY[2]
        if line["line"] != "record" or line["backend"] in ("torch", "null", "machine"):
            continue
        nasty, number = NASTY[number % len(NASTY)], number + 1
        if line["backend"] == "torch_loop":
            line["backend"] = "[/a]<i>|\x1b"
        if number % 3 == 0:
            line.update(status="failed", kind="error", reason=nasty, measurements=[])
        elif number % 3 == 1:
            line["provenance"] |= {"ran": nasty, nasty: "a key"}
        else:
            for measurement in line["measurements"]:
                measurement["notes"] = [nasty]
    path = tmp_path_factory.mktemp("runs") / "2026-11-22" / "m" / "120000-quick.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    return path


def command(*arguments: object) -> str:
    answer = subprocess.run(
        [sys.executable, "-m", "lstm_bench", *map(str, arguments)], capture_output=True, cwd=ROOT, timeout=240
    )  # fmt: skip
    assert answer.returncode in (0, 3) and b"Traceback" not in answer.stderr, answer.stderr[-2000:]
    unseen = [byte for byte in answer.stdout + answer.stderr if byte < 32 and byte not in b"\n\t"]
    assert unseen == []
    text = answer.stdout.decode("utf-8")
    assert "\u202e" not in text and "\x9b" not in text
    return text


@pytest.mark.parametrize("arguments", [["show"], ["show", "--json"], ["claims"], ["claims", "--json"]], ids=" ".join)
def test_on_the_terminal(run, arguments):
    said = command(*arguments, run)
    if arguments == ["show"]:
        assert "[/a]" in said and "\\x1b[2J\\x07" in said and "bad\\udc80name" in said
    if "--json" in arguments:
        json.loads(said)


def test_in_a_comparison(run, tmp_path):
    command("compare", run, run, "--markdown", tmp_path / "compared.md")
    assert "<i>" not in (tmp_path / "compared.md").read_text(encoding="utf-8")


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.scripts, self.data = list[str](), list[str]()
        self.tags, self.handlers = set[str](), set[str]()
        self.inside: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "script":
            self.inside = self.data if ("type", "application/json") in attrs else self.scripts
        self.handlers |= {name for name, _ in attrs if name.startswith("on")}

    def handle_data(self, data: str) -> None:
        if self.inside is not None:
            self.inside.append(data)
            self.inside = None


def test_in_the_report(run, tmp_path):
    command("report", run, "--to", tmp_path)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert page.handlers == set() and {"img", "i", "b"}.isdisjoint(page.tags)
    assert not any("alert" in script for script in page.scripts)
    # What the page's script reads is data: it is never run, and is put into the page as text alone.
    assert len(page.data) > 1 and not any("<" in data for data in page.data)
    assert any("alert" in data and "\\x1b" in data for data in page.data)
    ours = [script for script in page.scripts if "var Plot=" not in script]
    ways = ("innerHTML", "insertAdjacentHTML", "document.write", "eval(")
    assert len(ours) == 3 and not any(way in script for way in ways for script in ours)
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert (
        "<script" not in markdown
        and "<img" not in markdown
        and "\x1b" not in text + markdown
        and "\u202e" not in text + markdown
    )
    for figure in tmp_path.glob("*.svg"):
        drawn = figure.read_text(encoding="utf-8")
        assert "<script" not in drawn and "\x1b" not in drawn


def test_in_tables(run, tmp_path):
    for name in ("samples.csv", "samples.parquet"):
        command("export", tmp_path / name, run)
    with (tmp_path / "samples.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert [cell for row in rows for cell in row if cell.startswith(("=", "@", "+", "\t", "\r"))] == []
    stored = set(pd.read_parquet(tmp_path / "samples.parquet")["reason"].dropna())
    assert {"=1+1", "a|b`c`\nd", "\\x00nul"} & stored


@given(st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_nothing_unseen_is_left_of_any_text(text):
    shown = visible(text)
    shown.encode("utf-8")
    assert visible(shown) == shown
    assert all(character in "\n\t" or not (ord(character) < 32 or 0x7F <= ord(character) < 0xA0) for character in shown)
    cell = in_markdown(shown)
    assert "\n" not in cell and "<" not in cell and "|" not in cell.replace("\\|", "")
    assert not in_csv(shown).startswith(("=", "+", "-", "@"))


@given(st.text(max_size=40), st.text(max_size=40))
@settings(max_examples=200, deadline=None)
def test_a_record_of_any_text_is_read_back_as_visible_text(reason, name):
    written = record.Record("throughput", "case", name or "x", 0, "skipped", {name: reason}, reason=reason or "none")
    found = record.decode(record.encode(written))
    assert isinstance(found, record.Record)
    assert (found.backend, found.reason) == (visible(written.backend), visible(written.reason))
    assert found.parameters == {visible(name): visible(reason)}


def test_plain_text_is_left_as_it_is():
    for text in ("37.4 µs, ×2 → 5 [a, b]", "naïve\tcafé\n日本語", "𝛼 ≤ β"):
        assert visible(text) == text
