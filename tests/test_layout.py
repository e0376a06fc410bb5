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
        (root / "bench" / "crowd" / f"m{number}.py").write_text("")


def deep(root: Path) -> None:
    for number in range(layout.LONGEST_CHAIN):
        (root / "analysis" / f"m{number}.py").write_text(f"from analysis import m{number + 1}\n")


def circular(root: Path) -> None:
    (root / "bench" / "a.py").write_text("def later():\n    from bench import b\n")
    (root / "bench" / "b.py").write_text("from bench.a import later\n")


def private(root: Path) -> None:
    (root / "bench" / "a.py").write_text("from impls.c import _hidden\n")


def twice(root: Path) -> None:
    (root / "bench" / "a.py").write_text("LIMIT = 1\nLIMIT = 2\n")


@pytest.mark.parametrize(("harm", "said"), [
    (crowded, "bench/crowd holds 17 Python files; at most 16"),
    (deep, "9 imports one upon another, at most 8: analysis.m0 → analysis.m1"),
    (circular, "a circle of imports: bench.a → bench.b → bench.a"),
    (private, "bench.a imports _hidden of impls.c, which is private"),
    (twice, "bench.a assigns LIMIT 2 times"),
], ids=lambda value: getattr(value, "__name__", ""))  # fmt: skip
def test_a_broken_rule_is_named(tmp_path: Path, harm, said: str):
    for package in layout.PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
    (tmp_path / "analysis" / f"m{layout.LONGEST_CHAIN}.py").write_text("")
    (tmp_path / "impls" / "c.py").write_text("")
    assert list(layout.broken(tmp_path)) == []
    harm(tmp_path)
    (sentence,) = layout.broken(tmp_path)
    assert sentence.startswith(said)
