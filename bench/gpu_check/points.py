"""Every point of the grid that is to be won over cuDNN: what was measured of cuDNN, what is modelled of our kernels.

    python -m bench.gpu_check.points          renews the tables of docs/cuda.md
    python -m bench.gpu_check.points --check  exits with 1 where they are not up to date

cuDNN's times are measured, of whole layers in CUDA graphs on an H100 (results/reference/2026-11-26-h100); a point without one
is open. Ours are the model's (`impls.cuda.select.model`), since the present kernels have not run on a GPU. A point is won
(modelled) where the bound that nine of ten unseen shapes stayed under, with what a layer does beside its recurrence, is below
cuDNN's time, and every kernel is within the range of what was measured.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch

from impls.cuda.select import choose
from impls.cuda.select.model import Estimate
from results.store import REFERENCE

BATCHES, HIDDENS = (1, 8, 32, 64, 128, 256), (128, 256, 512, 768, 1024, 1536, 2048)
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "TF32": torch.float32}
PHASES = {"forward": "f", "training": "fb"}
HOPPER = (9, 0)
PAGE = Path(__file__).parents[2] / "docs" / "cuda.md"
MEASURED = REFERENCE / "2026-11-26-h100" / "tables" / "layer-grid.json"
PUBLISHED = REFERENCE / "2026-11-26-h100" / "tables" / "published-points.json"
LEGEND = (
    "Of {} points {} are won (modelled), none is won (measured): the present kernels have not run on a GPU. Open: a, cuDNN was "
    "not measured there ({}); b, our kernel is extrapolated beyond what was measured, so that no bound is known ({}); c, the "
    "bound does not beat cuDNN ({}). “≥” is cuDNN's measured time over the bound of ours, “×” without it over what is expected "
    "of ours."
)
BEGIN, END = "<!-- points -->", "<!-- end points -->"


def cudnn() -> Mapping[tuple[str, str, int, int], float]:
    """Measured microseconds a step by (data type, phase, hidden size, batch)."""
    found = {}
    for row in json.loads(MEASURED.read_text(encoding="utf-8")):
        dtype = {"torch.bfloat16": "bf16", "torch.float16": "fp16"}[row["dtype"]]
        for phase, short in PHASES.items():
            found[dtype, phase, row["H"], row["B"]] = row[f"cudnn_{short}"] / row["T"]
    return found


def ours(dtype: str, phase: str, hidden: int, batch: int) -> Estimate:
    """A whole layer with as many inputs as units, one direction: microseconds a step."""
    times = choose(hidden, batch, 1, DTYPES[dtype], HOPPER, tf32=dtype == "TF32").times
    assert times is not None, "each of these data types has kernels whose times are modelled"
    forward, backward = times
    return forward if phase == "forward" else forward + backward


def cell(dtype: str, phase: str, hidden: int, batch: int, measured: Mapping[tuple[str, str, int, int], float]) -> str:
    """won: at least so many times cuDNN's speed. Else open, with the letter of its reason and the expected speedup."""
    own = ours(dtype, phase, hidden, batch)
    opponent = measured.get((dtype, phase, hidden, batch))
    if opponent is None:
        return "open a"
    expected = f"{opponent / own.microseconds:.2g}×"
    if own.origin == "extrapolated":
        return f"open b, {expected}"
    if own.upper < opponent:
        return f"**won (modelled) ≥ {opponent / own.upper:.2g}×**"
    return f"open c, {expected}"


def tables() -> str:
    """In Markdown, one a data type and phase, with a legend and a tally."""
    measured, lines = cudnn(), []
    tally: Counter[str] = Counter()
    for dtype in DTYPES:
        for phase in PHASES:
            lines += [f"**{dtype}, {phase}**", "", "| H \\ B | " + " | ".join(map(str, BATCHES)) + " |"]
            lines += ["|---" * (len(BATCHES) + 1) + "|"]
            for hidden in HIDDENS:
                cells = [cell(dtype, phase, hidden, batch, measured) for batch in BATCHES]
                tally.update(text.strip("*")[: 6 if text.startswith("open") else 3] for text in cells)
                lines.append(f"| {hidden} | " + " | ".join(cells) + " |")
            lines.append("")
    legend = LEGEND.format(sum(tally.values()), *(tally[name] for name in ("won", "open a", "open b", "open c")))
    return "\n".join([legend, "", *lines]).rstrip()


def renewed(page: str) -> str:
    """The page with its tables made anew. Raises `ValueError` where it has no place for them."""
    text, count = re.subn(f"{BEGIN}.*?{END}", lambda _: f"{BEGIN}\n{tables()}\n{END}", page, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"the page must have one place for the tables, between {BEGIN} and {END}; it has {count}")
    return text


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu_check.points", description="Renew the points of docs/cuda.md.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 where the tables are not up to date")
    page = PAGE.read_text(encoding="utf-8")
    if parser.parse_args().check:
        return int(renewed(page) != page)
    PAGE.write_text(renewed(page), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
