"""Every command line that a message, a docstring or a page of the documentation names is one that the program understands."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from bench.harness import plan, study
from bench.processes.code import ROOT
from lstm_bench.commands.app import app

PACKAGES = ("impls", "bench", "results", "analysis", "lstm_bench")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SCRIPTS = [ROOT / "Makefile", *sorted((ROOT / ".github").rglob("*.yml"))]
TEMPLATES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.j2"))]
PLACEHOLDER = "1"  # for what is known only when the message is made: a path, a number, a revision
# Sentences about the program itself. A command of one of these names would have to go from here.
SENTENCES = {"needs", "runs", "from", "into", "does", "is", "and", "measures", "are", "has", "says", "that"}
END = re.compile(r"\n|`|;|\)|\"|\||&&| > |,(?:\s|$)|:(?:\s|$)|\.(?:\s|$)|\s#|\s{2,}")
# A command known only then, with a test of its own; the version of lstm-bench.
MADE = {
    "lstm_bench/views/run_summary.py", "lstm_bench/commands/app.py", "lstm_bench/commands/compare.py",
    "lstm_bench/commands/tracking.py", "lstm_bench/commands/fleet.py",
}  # fmt: skip


def hints(text: str) -> Iterator[list[str]]:
    """The words after each `lstm-bench` in a text, up to where the command line must end."""
    for part in re.split(r"(?<![\w.=-])lstm-bench(?= (?:[a-z1]|COMMAND|--))", text)[1:]:
        line = re.sub(r"\[/?(?:bold)?\]", "", part[1:])  # rich's markup
        end = END.search(line)
        line = line[: end.start()] if end else line
        try:
            words = shlex.split(line)
        except ValueError:  # an apostrophe of the sentence that it stands in
            words = line.split()
        if words and words[0] not in SENTENCES:
            yield words


def of_python(path: Path) -> Iterator[list[str]]:
    """Hints in the strings of a file, with a placeholder for each value that is put into them."""
    tree = ast.parse(path.read_text())
    inner = {
        id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node) if part is not node
    }
    for node in ast.walk(tree):
        if id(node) in inner:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = (str(part.value) if isinstance(part, ast.Constant) else PLACEHOLDER for part in node.values)
            yield from hints("".join(parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from hints(node.value)


def of_page(text: str) -> Iterator[list[str]]:
    """Hints in the code of a page: fenced or indented blocks and spans, which may go on in the next line."""
    fenced = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^(?: {4}|\t)(.*)$", rest, re.MULTILINE)
    spans = [re.sub(r"\s+", " ", span) for span in re.findall(r"`([^`]+)`", rest)]
    for code in (*fenced, *indented, *spans):
        yield from hints(of_shell(code))


def of_shell(text: str) -> str:
    """A script with its lines joined, and a placeholder for its variables; a bare one may stand for several words or none."""
    joined = re.sub(r"\s*\\\n\s*", " ", text)
    return re.sub(
        r"\$\{?\w+\}?", PLACEHOLDER, re.sub(r"(?<= )\$[A-Z]+(?= |$|\n)", "", re.sub(r'"(\$\w+)"', PLACEHOLDER, joined))
    )


def found() -> list[tuple[str, list[str]]]:
    every = [
        (path, words) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")) for words in of_python(path)
    ]
    every += [(path, words) for path in PAGES for words in of_page(path.read_text())]
    every += [(path, words) for path in SCRIPTS for words in hints(of_shell(path.read_text()))]
    every += [(path, words) for path in TEMPLATES for words in hints(path.read_text())]
    return [(path.relative_to(ROOT).as_posix(), words) for path, words in every]


def understood(words: list[str]) -> None:
    """Parse a command line as the program would, and carry nothing out."""
    if words[0] in ("--help", "--version") or words == ["COMMAND", "--help"]:
        return
    group = typer.main.get_group(app)
    name, *arguments = words
    if name not in group.commands:
        raise AssertionError(f"there is no command {name}")
    command = group.commands[name]
    required = [each for each in command.params if each.required and each.param_type_name == "argument"]
    if required and not arguments:  # the command itself is spoken of
        arguments = [PLACEHOLDER] * len(required)
    with command.make_context(name, list(arguments), resilient_parsing=False) as context:
        asked = context.params
    for value in (asked.get("what"), asked.get("suite"), asked.get("scale")):
        if value and value != PLACEHOLDER:
            assert value in plan.SUITES or value in study.names(), f"there is no suite or study {value}"


HINTS = found()


def test_hints_are_found_in_messages_pages_and_scripts():
    sources = {path for path, _ in HINTS}
    assert {
        "bench/harness/session.py",
        "results/store.py",
        "lstm_bench/views/doctor.py",
        "README.md",
        "docs/history.md",
        "Makefile",
    } <= sources
    assert len(HINTS) > 100
    assert {path for path, words in HINTS if words[0] == PLACEHOLDER} <= MADE


@pytest.mark.parametrize(("path", "words"), HINTS, ids=[f"{path}: {' '.join(words)}" for path, words in HINTS])
def test_every_hint_names_a_command_that_is_understood(path: str, words: list[str]):
    if words[0] != PLACEHOLDER:
        understood(words)


@pytest.mark.parametrize("line", [
    "go on with: lstm-bench continue", "measure with: lstm-bench run nowhere", "lstm-bench run quick --finish",
    "lstm-bench calibrate --pairs many", "lstm-bench run quick slow", "lstm-bench compare HEAD --suite nowhere",
])  # fmt: skip
def test_a_hint_that_does_not_work_is_found_out(line: str):
    (words,) = hints(line)
    usage_error = typer.BadParameter.__mro__[1]  # of the click that typer brings
    with pytest.raises((AssertionError, usage_error)):
        understood(words)


def test_a_hint_ends_where_its_sentence_goes_on():
    assert list(hints("finish them with: lstm-bench track, and the same options")) == [["track"]]
    assert list(hints("see: lstm-bench list.")) == [["list"]]
    assert list(hints("(all of it: lstm-bench show)")) == [["show"]]
    assert list(hints("lstm-bench run quick --where 'batch<=8'    the cases")) == [["run", "quick", "--where", "batch<=8"]]
    assert list(hints("lstm-bench needs Python 3.11")) == []
