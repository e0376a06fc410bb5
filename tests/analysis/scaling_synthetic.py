"""Records of the study `scaling` whose times follow a law that the test chooses; counts are the cases' own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.report.load import series_frame
from bench.harness.case import Case
from bench.harness.study import Scale
from bench.studies import scaling
from results.record import Header, Measurement, Record
from results.store import Run


def series(law: Callable[[Case], float], scale: Scale = "cpu", ceiling: float = 0.0, noise: float = 0.01) -> pd.DataFrame:
    """Three replicates of every case that takes turns; with a ceiling in FLOP/s also that of the machine."""
    return _frame(_timed(law, scale, noise), ceiling)


def alone(law: Callable[[Case], float], metric: str, unit: str, scale: Scale = "cpu", noise: float = 0.01) -> pd.DataFrame:
    """One sample of every case of the sweep `memory`, as often as the study measures it."""
    random, made = np.random.default_rng(5), []
    for case in scaling.CASES[scale]:
        for replicate in range(scaling.repetitions(case) if case.factor("sweep") == "memory" else 0):
            measured = (Measurement(metric, unit, (float(law(case) * np.exp(noise * random.standard_normal())),)),)
            made.append(
                Record(
                    "scaling", case.key, "torch", replicate, "ok", case.to_dict(), measurements=measured, counts=case.counts()
                )
            )
    return _frame(made)


def _timed(law: Callable[[Case], float], scale: Scale, noise: float) -> list[Record]:
    random, made = np.random.default_rng(4), []
    for case in scaling.CASES[scale]:
        for replicate in range(0 if scaling.is_standalone(case) else 3):
            samples = tuple(float(law(case) * np.exp(noise * each)) for each in random.standard_normal(3))
            measured = (Measurement("time", "s", samples),)
            made.append(
                Record(
                    "scaling", case.key, "torch", replicate, "ok", case.to_dict(), measurements=measured, counts=case.counts()
                )
            )
    return made


def _frame(made: list[Record], ceiling: float = 0.0) -> pd.DataFrame:
    if ceiling:
        parameters = {"dtype": made[0].parameters["dtype"], "device": "cpu"}
        gemm = (Measurement("gemm", "FLOP/s", (0.9 * ceiling, ceiling)),)
        made.append(Record("ceilings", "float32-cpu", "machine", 0, "ok", parameters, measurements=gemm))
    header = Header("r", "2026-11-20T12:00:00Z", 1, "imaginary", {}, {}, claims=scaling.CLAIMS)
    return series_frame([Run(Path("r.jsonl"), header, tuple(made), None)])
