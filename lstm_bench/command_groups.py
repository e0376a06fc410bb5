"""How the commands are grouped in `--help`, and how they end."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

from lstm_bench import terminal


class Commands(TyperGroup):
    """All commands; Ctrl-C and a closed pipe pass through it as exceptions, to be told by `lstm_bench.__main__`."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with terminal.passed_through_typer():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        with terminal.passed_through_typer():
            return super().invoke(ctx)
