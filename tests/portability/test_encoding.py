"""No file and no program's output is read or written in whatever encoding the machine has: UTF-8 is said each time."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.processes.code import ROOT
from tests.portability.reading import OURS

SOURCES = [ROOT / "install.py", *(path for name in OURS for path in sorted((ROOT / name).rglob("*.py")))]
SUBPROCESS = ("run", "Popen", "check_output", "check_call")
TEMPORARY = ("NamedTemporaryFile", "TemporaryFile", "SpooledTemporaryFile")


def unnamed(source: str) -> Iterator[str]:
    """Calls that read or write text and do not say its encoding."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and writes_or_reads_text(node) and "encoding" not in {word.arg for word in node.keywords}:
            yield f"line {node.lineno}: {ast.unparse(node)}"


def writes_or_reads_text(call: ast.Call) -> bool:
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    owner = ast.unparse(function.value) if isinstance(function, ast.Attribute) else ""
    words = {word.arg: word.value for word in call.keywords}
    if name in ("read_text", "write_text"):
        return len(call.args) < (1 if name == "read_text" else 2)
    if name in SUBPROCESS:
        return any(
            isinstance(value := words.get(word), ast.Constant) and value.value for word in ("text", "universal_newlines")
        )
    if name in TEMPORARY:
        return not binary(words.get("mode", call.args[0] if call.args else None), default="w+b")
    if name == "fdopen" or (name == "open" and owner in ("", "io")):
        return not binary(words.get("mode", call.args[1] if len(call.args) > 1 else None))
    if name == "open" and owner != "os":  # a path's; something else's takes other arguments
        mode = words.get("mode", call.args[0] if call.args else None)
        return (mode is None or isinstance(mode, ast.Constant)) and not binary(mode)
    return False


def binary(mode: ast.expr | None, default: str = "r") -> bool:
    return "b" in (default if mode is None else mode.value if isinstance(mode, ast.Constant) else "")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_text_has_its_encoding_named(path: Path):
    assert not list(unnamed(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("call", [
    "open(path)", "open(path, 'w')", "io.open(path, mode='a')", "path.open()", "path.open('a')", "path.read_text()",
    "path.write_text(text)", "subprocess.run(command, text=True)", "Popen(command, universal_newlines=True)",
    "NamedTemporaryFile('w')", "tempfile.TemporaryFile(mode='w+')", "os.fdopen(number, 'w')",
])  # fmt: skip
def test_a_call_that_does_not_name_it_is_found(call: str):
    assert len(list(unnamed(call))) == 1
    assert not list(unnamed(f"{call[:-1]}{', ' * (call[-2] != '(')}encoding='utf-8')"))


LEFT_ALONE = """open(path, 'rb')
path.open('wb')
os.open(path, os.O_RDWR)
pairs.open(question, number)
path.read_text('utf-8')
subprocess.run(command)
subprocess.run(command, text=False)
TemporaryFile()
os.fdopen(number, 'wb')"""


@pytest.mark.parametrize("call", LEFT_ALONE.splitlines())
def test_what_is_no_text_is_left_alone(call: str):
    assert not list(unnamed(call))
