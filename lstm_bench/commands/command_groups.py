"""How the commands are grouped in `--help`, how they end, and the names that they had before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

from typer.core import TyperGroup

from lstm_bench import terminal

# Each command with what `--help` says of it in a line, and an example; what most need stands first.
GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "Start here": {
        "run": ("Measure a suite or a study.", "lstm-bench run quick"),
        "report": ("Write the newest run as a page to read.", "lstm-bench report"),
        "compare": ("Is one backend, revision or run slower than another?", "lstm-bench compare backend:torch backend:jax"),
    },
    "Look": {
        "advise": ("How to run my LSTM here, with the code.", "lstm-bench advise --workload vad"),
        "show": ("Show a run's results in the terminal.", "lstm-bench show"),
        "list": ("List suites, studies and backends, or cases.", "lstm-bench list quick"),
        "doctor": ("Say what runs here, what does not and why.", "lstm-bench doctor"),
        "claims": ("Show the claims that runs tested.", "lstm-bench claims"),
    },
    "Track over commits": {
        "track": ("Measure commits into the history.", "lstm-bench track HEAD~5..HEAD"),
        "history": ("Show what changed over commits.", "lstm-bench history"),
        "bisect": ("Find the first slow commit.", "lstm-bench bisect HEAD~20 HEAD"),
        "calibrate": ("A/A test: the effects this machine can detect.", "lstm-bench calibrate --pairs 20"),
    },
    "GPU": {"gpu-check": ("Check our CUDA kernels.", "lstm-bench gpu-check")},
    "Tools": {
        "export": ("Write every sample to one table.", "lstm-bench export samples.csv"),
        "import": ("Take pytest-benchmark's files into the history.", "lstm-bench import .benchmarks"),
    },
}


# Names of version 0.1, accepted with a warning until 0.3.
RENAMED_COMMANDS = {"certify": "calibrate"}
RENAMED_OPTIONS = {
    "--location": "--statistic", "--certificates": "--calibrations", "--most-pairs": "--max-pairs", "--item": "--check",
}  # fmt: skip


def current_names(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """A command line with today's names of its command and options, and a warning for each that was renamed."""
    words, warnings, options = [], [], True
    for position, word in enumerate(arguments):
        options = options and word != "--"
        name, equals, value = word.partition("=")
        renamed = RENAMED_COMMANDS if position == 0 else RENAMED_OPTIONS if options else {}
        if name in renamed:
            word = renamed[name] + equals + value
            warnings.append(f"{name} is now {renamed[name]}; the old name goes with version 0.3")
        words.append(word)
    return words, warnings


class Place(TypedDict):
    """Arguments of `Typer.command`."""

    name: str
    rich_help_panel: str
    short_help: str
    epilog: str


def placed(name: str, epilog: str = "") -> Place:
    """How a command is added: its name, its group and line in `lstm-bench --help`, and what stands below its own help."""
    group = next(title for title, commands in GROUPS.items() if name in commands)
    short, example = GROUPS[group][name]
    return {
        "name": name,
        "rich_help_panel": group,
        "short_help": f"{short} Example: {example}",
        "epilog": f"Example: {example}\n\n{epilog}".strip(),
    }


class Commands(TyperGroup):
    """All commands; Ctrl-C and a closed pipe pass through it as exceptions, to be told by `lstm_bench.__main__`."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order of the groups, which `--help` follows."""
        order = [name for commands in GROUPS.values() for name in commands]
        return sorted(super().list_commands(ctx), key=order.index)

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with terminal.passed_through_typer():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        with terminal.passed_through_typer():
            return super().invoke(ctx)
