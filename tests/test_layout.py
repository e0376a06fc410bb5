"""The rules of the layout hold, and each one is noticed where it is broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import layout

ROOT = Path(__file__).parent.parent


def test_the_rules_hold():
    assert list(layout.broken(ROOT)) == []


def crowded(root: Path) -> None:
    for number in range(layout.MOST_FILES + 1):
        (root / "bench" / "crowd").mkdir(parents=True, exist_ok=True)
        add(root / "bench" / "crowd" / f"m{number}.py", "")


def deep(root: Path) -> None:
    for number in range(layout.LONGEST_CHAIN):
        add(root / "analysis" / f"m{number}.py", f"from analysis import m{number + 1}\n")


def circular(root: Path) -> None:
    add(root / "bench" / "a.py", "def later():\n    from bench import b\n")
    add(root / "bench" / "b.py", "from bench.a import later\n")


def private(root: Path) -> None:
    add(root / "bench" / "a.py", "from impls.c import _hidden\n")


def twice(root: Path) -> None:
    add(root / "bench" / "a.py", "LIMIT = 1\nLIMIT = 2\n")


def positional(root: Path) -> None:
    add(root / "bench" / "long.py", "def f(self, a, b, c, d, e, g): ...\ndef many(a, b, c, d, e, f, g): ...\n")


def reads_a_reason(root: Path) -> None:
    add(root / "bench" / "long.py", "def f(record): return record.reason.startswith('not measured')\n")


def compares_a_reason(root: Path) -> None:
    add(root / "bench" / "long.py", "def f(reason): return bool(reason) and 'memory' in reason\n")


def matches_a_sentence(root: Path) -> None:
    add(root / "bench" / "long.py", "import re\ndef f(found): return re.match('no', found.sentence)\n")


def second_builder(root: Path) -> None:
    for name in ("long", "longer"):
        add(root / "bench" / f"{name}.py", "from results.record import Record\nnew = Record()\n")


def short(root: Path) -> None:
    (root / "bench" / "short.py").write_text("")


def long_name(root: Path) -> None:
    (root / "tests").mkdir()
    (root / "tests" / "test_a.py").write_text(f"def test_{'a' * 60}(): ...\n")


def add(path: Path, code: str) -> None:
    """A module that is long enough to stand alone."""
    path.write_text(code + "#\n" * layout.LEAST_LINES)


@pytest.mark.parametrize(("harm", "said"), [
    (crowded, "bench/crowd holds 17 Python files; at most 16"),
    (deep, "9 imports one upon another, at most 8: analysis.m0 → analysis.m1"),
    (circular, "a circle of imports: bench.a → bench.b → bench.a"),
    (private, "bench.a imports _hidden of impls.c, which is private"),
    (twice, "bench.a assigns LIMIT 2 times"),
    (positional, "bench.long.many takes 7 positional parameters"),
    (reads_a_reason, "bench.long, line 1, decides by the wording of a sentence: record.reason.startswith"),
    (compares_a_reason, "bench.long, line 1, decides by the wording of a sentence: 'memory' in reason"),
    (matches_a_sentence, "bench.long, line 2, decides by the wording of a sentence: re.match"),
    (second_builder, "records are built by bench.long and bench.longer"),
    (short, "bench/short.py has less than 40 lines"),
    (long_name, "tests/test_a.py: test_aaaa"),
], ids=lambda value: getattr(value, "__name__", ""))  # fmt: skip
def test_a_broken_rule_is_named(tmp_path: Path, harm, said: str):
    for package in layout.PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
    add(tmp_path / "analysis" / f"m{layout.LONGEST_CHAIN}.py", "")
    add(tmp_path / "impls" / "c.py", "")
    assert list(layout.broken(tmp_path)) == []
    harm(tmp_path)
    (sentence,) = layout.broken(tmp_path)
    assert sentence.startswith(said)
