"""Output reaches any terminal: every encoding, no colour where none is wanted, and a reader that leaves early."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lstm_bench import terminal


def lstm_bench(*arguments: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "lstm_bench", *arguments]
    return subprocess.run(command, capture_output=True, timeout=60, env=os.environ | variables)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "cp437", "utf-8"])
@pytest.mark.parametrize("arguments", [("--help",), ("list",), ("compare", "--help"), ("run", "×µ…→\udcff")], ids=" ".join)
def test_a_terminal_of_any_encoding_gets_all_of_it(arguments: tuple[str, ...], encoding: str):
    command = os.fsencode(sys.executable), b"-m", b"lstm_bench", *(os.fsencode(one) for one in arguments)
    answer = subprocess.run(command, capture_output=True, timeout=60, env=os.environ | {"PYTHONIOENCODING": encoding})
    said = answer.stdout.decode(encoding) + answer.stderr.decode(encoding)
    assert answer.returncode == (2 if arguments[0] == "run" else 0) and "Traceback" not in said, said
    assert len(said) > 50


def test_characters_that_an_encoding_lacks_are_written_readably():
    terminal.write_any_encoding()
    assert "3 ±2 % 1.5× 7 µs – é ☃".encode("ascii", terminal.READABLE) == b"3 +-2 % 1.5x 7 us - e ?"


@pytest.mark.parametrize("arguments", [("--help",), ("list",), ("list", "--json"), ("run", "nowhere"), ("run", "--nonsense"),
                                       ("compare", "nowhere", "nowhere", "--nonsense")], ids=" ".join)  # fmt: skip
def test_a_reader_that_has_left_is_no_verdict_and_no_traceback(arguments: tuple[str, ...], tmp_path: Path):
    reading, writing = os.pipe()
    os.close(reading)
    errors = arguments[0] != "list" and arguments != ("--help",)
    with (tmp_path / "said").open("wb") as said:
        streams = {"stdout": said, "stderr": writing} if errors else {"stdout": writing, "stderr": said}
        command = [sys.executable, "-m", "lstm_bench", *arguments]
        answer = subprocess.run(command, timeout=60, **streams)
    os.close(writing)
    assert answer.returncode == 141
    assert (tmp_path / "said").read_text(encoding="utf-8") == ""


def test_another_broken_pipe_is_told_as_a_defect():
    """Typer would make exit code 1 of it, which says that something is slower."""
    program = (
        "import sys; from lstm_bench import __main__; from lstm_bench.commands import command_groups\n"
        "def fail(*_, **__): raise BrokenPipeError(32, 'of a worker')\n"
        "command_groups.TyperGroup.invoke = fail; sys.argv = ['lstm-bench', 'list']; __main__.main()"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert answer.returncode == 70 and "a pipe to another process is broken: [Errno 32] of a worker" in answer.stderr


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_no_colour_where_none_is_wanted(variables: dict[str, str], coloured: bool):
    asked = {"FORCE_COLOR": "1", "COLORTERM": "truecolor", "TERM": "xterm-256color"} | variables
    output = lstm_bench("--help", **asked).stdout
    assert any(code in output for code in (b"\x1b[3", b"\x1b[1;3", b"\x1b[2;3")) is coloured


FULL = Path("/dev/full")
# Python's output is buffered unless this is set, as in many containers; a write then fails at once, and else at a flush.
BUFFERED = {"PYTHONUNBUFFERED": ""}
UNBUFFERED = {"PYTHONUNBUFFERED": "1"}


@pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("variables", [BUFFERED, UNBUFFERED], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize(
    "arguments", [("list", "--json"), ("list",), ("--help",), ("compare", "--help"), ("--version",)], ids=" ".join
)
def test_a_full_disk_behind_standard_output_is_one_line(arguments: tuple[str, ...], variables: dict[str, str]):
    with FULL.open("w") as full:
        command = [sys.executable, "-m", "lstm_bench", *arguments]
        answer = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, env=os.environ | variables)
    assert (answer.returncode, answer.stderr.count("\n")) == (21, 1)
    assert answer.stderr.startswith("error: cannot write: No space left on device; make room")


@pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("variables", [BUFFERED, UNBUFFERED], ids=["buffered", "unbuffered"])
def test_an_error_that_cannot_be_said_keeps_its_code(variables: dict[str, str]):
    with FULL.open("w") as full:
        for arguments, code in (("run", "nowhere"), 2), (("show", "/nowhere.jsonl"), 2):
            command = [sys.executable, "-m", "lstm_bench", *arguments]
            answer = subprocess.run(command, stdout=subprocess.PIPE, stderr=full, timeout=60, env=os.environ | variables)
            assert answer.returncode == code


@pytest.mark.parametrize(("fails", "code", "said"), [
    ("raise ModuleNotFoundError('no such thing', name='ours')", 70, "ModuleNotFoundError"),
    ("raise ImportError('broken library')", 70, "ImportError"),
    ("raise SyntaxError('broken file')", 70, "SyntaxError"),
    ("raise EOFError('short file')", 70, "a file or pipe ended too early: short file"),
    ("raise RecursionError", 70, "RecursionError"),
    ("raise OSError(28, 'No space left on device', 'report.html')", 21, "error: cannot write to report.html: No space left"),
    ("raise GeneratorExit", 70, "GeneratorExit"),
    ("os.kill(os.getpid(), signal.SIGTERM)", 143, "interrupted"),
])  # fmt: skip
@pytest.mark.parametrize("where", ["import", "command"])
def test_what_breaks_at_import_or_in_a_command_is_no_verdict(where: str, fails: str, code: int, said: str):
    """1 says that something is slower, or failed, and Python says 1 of whatever ends it."""
    body = {
        "import": f"def prefer_own(): {fails}\nimport_paths.prefer_own = prefer_own",
        "command": f"def fail(*_, **__): {fails}\ncommand_groups.TyperGroup.invoke = fail",
    }[where]
    program = (
        "import os, signal, sys\nfrom lstm_bench import __main__, import_paths\n"
        "from lstm_bench.commands import command_groups\n"
        f"{body}\nsys.argv = ['lstm-bench', 'list']; __main__.main()"
    )
    if where == "import" and "EOFError" in fails:
        said = "EOFError: short file"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert answer.returncode == code and said in answer.stderr, answer.stderr


def test_sentences_wrap_at_words_and_commands_stay_whole(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "40")
    sentence = "predicted peak of host memory: " + "about " * 20
    command = "finish it with: lstm-bench run --resume --out '/a folder/of results/with a long name'"
    stream = io.StringIO()
    assert terminal.wrapped(f"{sentence}\n{command}", stream) == f"{sentence}\n{command}"
    monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    *lines, last = terminal.wrapped(f"{sentence}\n{command}", stream).splitlines()
    assert last == command and max(map(len, lines)) <= 40 and " ".join(lines).split() == sentence.split()
