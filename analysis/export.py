"""Every sample of some runs in one flat table, for tools that are not ours: one row a sample, Parquet or CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import AnalysisError
from analysis.load import choose, records_frame, series_frame
from analysis.ratios import turns
from results import files
from results.store import ROOT, Run, StoreError, read
from results.text import in_csv

FORMATS = ("parquet", "csv")


def export(paths: Sequence[Path], out: Path, format: str | None = None, root: Path = ROOT) -> Path:
    """Write `out` and return it; the format is that of its suffix unless given. Without paths: the latest run below `root`.

    What was skipped or failed has one row with its status and reason, and no value.
    """
    chosen = format or out.suffix.removeprefix(".")
    if chosen not in FORMATS:
        raise AnalysisError(
            f"cannot export to {out.name} as {chosen or 'a file without suffix'!r}; choose from {', '.join(FORMATS)}"
        )
    table = samples([read(path) for path in choose(paths, root)])
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(out) as part:
            if chosen == "csv":
                _guarded(table).to_csv(part, index=False)
            else:
                table.to_parquet(part, index=False)
    except OSError as error:
        raise StoreError(f"cannot export to {out}: {error.strerror or error}; choose another file") from error
    return out


def samples(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per sample: the columns of a record, then metric, unit, notes, turn, sample (its place) and value."""
    series = series_frame(runs)
    parts = [turns(values, blocks) for values, blocks in zip(series["samples"], series["blocks"], strict=True)]
    turn = [np.repeat(np.arange(len(part)), [len(one) for one in part]) for part in parts]
    places = [np.arange(len(values)) for values in series["samples"]]
    table = series.assign(notes=[" ".join(notes) for notes in series["notes"]], value=series["samples"])
    table["turn"], table["sample"] = pd.Series(turn, dtype=object), pd.Series(places, dtype=object)
    table = table.drop(columns=["samples", "blocks"]).explode(["turn", "sample", "value"], ignore_index=True)
    records = records_frame(runs)
    table = pd.concat([table, records[records["status"] != "ok"]], ignore_index=True)
    return table.infer_objects().convert_dtypes()


def _guarded(table: pd.DataFrame) -> pd.DataFrame:
    """Text that a spreadsheet would take for a formula begins with an apostrophe."""
    texts = table.select_dtypes(include=["object", "string"]).columns
    return table.assign(
        **{name: table[name].map(lambda value: in_csv(value) if isinstance(value, str) else value) for name in texts}
    )
