"""What a run of `gpu-check` says about the constants that were assumed: measured, by how much off, and what to write instead.

Reads records alone: each part that answers a constant carries its name, file and assumed value in its parameters. What was
measured under the emulation answers nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.report import words
from results.record import NOT_MEASURED, Record

TOLERANCE = 0.1  # nearer than this to what was assumed, a constant may stay
METRICS = ("resident_clusters", "send_latency", "ingress", "grid_exchange", "products", "pointwise")


@dataclass(frozen=True, slots=True)
class Answer:
    """`measured` is None where nothing was; `verdict` is what to do, or why there is no number."""

    constant: str
    written_in: str
    assumed: float
    measured: float | None
    unit: str
    verdict: str


def answers(records: Sequence[Record]) -> list[Answer]:
    """One answer a constant, in the order in which they were asked."""
    by_constant: dict[str, list[Record]] = {}
    for record in records:
        if constant := record.parameters.get("constant"):
            by_constant.setdefault(constant, []).append(record)
    return [_answer(constant, asked) for constant, asked in by_constant.items()]


def emulated(record: Record) -> bool:
    """Whether the record comes from the emulation: it says so itself, or ran on no GPU."""
    return record.provenance.get("emulated") == "true" or record.parameters.get("device") != "cuda"


def _answer(constant: str, asked: Sequence[Record]) -> Answer:
    parameters = asked[0].parameters
    assumed, written_in = float(parameters["assumed"]), str(parameters["written_in"])
    medians, unit = [], ""
    for record in asked:
        for item in record.measurements if record.status == "ok" and not emulated(record) else ():
            if item.metric in METRICS:
                ordered, unit = sorted(item.samples), item.unit
                medians.append(ordered[len(ordered) // 2])
    if not medians:
        return Answer(constant, written_in, assumed, None, unit, _why_not(asked))
    measured = min(medians) if parameters["takes"] == "least" else max(medians)
    near = abs(measured - assumed) <= TOLERANCE * assumed
    verdict = "keep" if near else f"write {words.format_significant(measured).replace(' ', '')} in {written_in}"
    return Answer(constant, written_in, assumed, measured, unit, verdict)


def _why_not(asked: Sequence[Record]) -> str:
    if any(emulated(record) for record in asked):
        return f"{NOT_MEASURED}the emulation is no GPU"
    missed = next((record for record in asked if record.status != "ok"), None)
    if missed is None:
        return f"{NOT_MEASURED}no sample"
    return missed.reason if missed.is_unmeasured else f"{NOT_MEASURED}{missed.reason}"
