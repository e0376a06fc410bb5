"""How an architecture looks and what it is called, in every figure that compares language models."""

from __future__ import annotations

from matplotlib.lines import Line2D

from analysis.report.style import INK, PALETTE

NAMES = {"transformer": "Transformer", "lstm_stack": "LSTM", "minlstm": "minLSTM", "ssm": "state space"}
LOOKS = {
    "transformer": (PALETTE[1], "s"), "lstm_stack": (PALETTE[0], "o"), "minlstm": (PALETTE[4], "v"), "ssm": (PALETTE[2], "D"),
}  # fmt: skip


def mark(cell: str) -> Line2D:
    colour, marker = LOOKS[cell]
    return Line2D([], [], color=colour, marker=marker, label=NAMES[cell])


def optimum() -> Line2D:
    return Line2D([], [], color=INK, lw=1.1, linestyle=(0, (4, 2)), label="best possible")


def source(name: str) -> str:
    """`hmm:100` as a reader wants it."""
    rule, _, number = name.partition(":")
    known = {"text": "Text", "hmm": f"Hidden Markov, {number} tokens a state", "copy": f"Copies, lag up to {number}"}
    return known.get(rule, name)
