"""Every number of a GPU that README and docs quote, and README's figure of it, from the reference runs and tables.

    python -m analysis.gpu_check.pages          renews them
    python -m analysis.gpu_check.pages --check  says which are not what the reference says

A page marks a number by its name: `<!-- h100: forward.all -->2.18×<!-- end -->`; what lies between is replaced.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.report import drawing as report_drawing
from analysis.report import words
from analysis.report.drawing import Drawing
from analysis.studies.throughput import maps
from analysis.studies.throughput.maps import Speedup
from results.record import Record
from results.store import REFERENCE, read

# Speedup of the CUDA kernels over cuDNN by hidden size and batch size, from the table of whole layers.

PHASES = {"f": "Forward", "fb": "Forward and backward"}


def draw(rows: Sequence[Mapping[str, float]], where: str) -> Drawing:
    """rows: H, B and for each phase microseconds a call, `ours_f`, `cudnn_f` and so on. where: the conditions they share."""
    found = {title: {(row["H"], row["B"]): Speedup(speedup(row, phase)) for row in rows} for phase, title in PHASES.items()}
    parts = [maps.summary(title.lower(), [each.value for each in cells.values()]) for title, cells in found.items()]
    caption = f"Speedup of backend cuda over cudnn, {where}; geometric means: {words.join_list(parts)}."
    return maps.draw_map(found, maps.OURS, maps.BASELINE, caption)


def speedup(row: Mapping[str, float], phase: str) -> float:
    return row[f"cudnn_{phase}"] / row[f"ours_{phase}"]


def geometric_mean(rows: Sequence[Mapping[str, float]], phase: str) -> float:
    return maps.geometric_mean([speedup(row, phase) for row in rows])


# The numbers by name.

ROOT = Path(__file__).parents[2]
H100 = REFERENCE / "2026-11-26-h100"
PAGES = (
    "README.md",
    "docs/backends.md",
    "docs/measured.md",
    "docs/cuda.md",
    "docs/kernel-log.md",
    "docs/studies/scaling.md",
    "docs/measurement.md",
)
FIGURE = Path("docs/figures/h100-speedup.svg")
BFLOAT16, FLOAT16 = "torch.bfloat16", "torch.float16"
_MARK = re.compile(r"(<!-- h100: ([\w.-]+) -->)(.*?)(<!-- end -->)", re.DOTALL)
Rows = Sequence[Mapping[str, Any]]


@functools.cache
def table(name: str, folder: Path = H100) -> Rows:
    return json.loads((folder / "tables" / f"{name}.json").read_text(encoding="utf-8"))


@functools.cache
def records(run: str, folder: Path = H100) -> tuple[Record, ...]:
    return read(folder / f"{run}.jsonl").records


def grid(dtype: str = BFLOAT16, least: int = 0, most: int = 1 << 30) -> Rows:
    """Whole layers of hidden sizes from `least` to `most`, both sides from CUDA graphs, T = 128."""
    return [row for row in table("layer-grid") if row["dtype"] == dtype and least <= row["H"] <= most]


def one(rows: Rows, **wanted: object) -> Mapping[str, Any]:
    """The only row with these values."""
    (found,) = [row for row in rows if all(row.get(name) == value for name, value in wanted.items())]
    return found


def values() -> dict[str, str]:
    """Every number by the name under which pages quote it."""
    return _grids() | _points() | _module() | _kernels() | _probes() | _scaling()


def _grids() -> dict[str, str]:
    found: dict[str, str] = {}
    for start, dtype in (("", BFLOAT16), ("fp16.", FLOAT16)):
        for name, phase in (("forward", "f"), ("training", "fb")):
            rows = grid(dtype)
            found[f"{start}{name}.won"] = f"{sum(speedup(row, phase) > 1 for row in rows)} of {len(rows)}"
            ranges = {"all": (0, 1 << 30), "up-to-512": (0, 512), "768": (768, 768), "from-1024": (1024, 1 << 30)}
            for size, (least, most) in ranges.items():
                mean = geometric_mean(grid(dtype, least, most), phase)
                found[f"{start}{name}.{size}"] = f"{words.format_significant(mean, 2 if mean < 1 else 3)}×"
    row = one(grid(), H=256, B=1)
    found["kernels.256.1.32-steps"] = _microseconds(32 * row["ours_f"] / row["T"])
    found["grid.error"] = words.format_significant(max(row["err"] for row in grid()), 2)
    found["grid.error-cudnn"] = words.format_significant(max(row["err_cudnn"] for row in grid()), 2)
    found["grid.forward-table"], found["grid.training-table"] = _layers("f"), _layers("fb")
    for hidden in (512, 1024):
        for batch in (1, 8, 32):
            row = one(grid(), H=hidden, B=batch)
            found[f"layer.{hidden}.{batch}"] = _step(row["ours_f"], row["T"])
            found[f"layer.{hidden}.{batch}.cudnn"] = _step(row["cudnn_f"], row["T"])
            found[f"layer.{hidden}.{batch}.speedup"] = f"{words.format_significant(speedup(row, 'f'))}×"
    return found


def _layers(phase: str) -> str:
    """µs a step, ours / cuDNN's, by hidden and batch size."""
    batches = sorted({row["B"] for row in grid()})
    lines = ["| H \\ B | " + " | ".join(map(str, batches)) + " |", "|---" * (len(batches) + 1) + "|"]
    for hidden in sorted({row["H"] for row in grid()}):
        rows = [one(grid(), H=hidden, B=batch) for batch in batches]
        cells = [f"{_step(row[f'ours_{phase}'], row['T'])} / {_step(row[f'cudnn_{phase}'], row['T'])}" for row in rows]
        lines.append(f"| {hidden} | " + " | ".join(cells) + " |")
    return "\n" + "\n".join(lines) + "\n"


def _step(microseconds: float, steps: int) -> str:
    return words.format_significant(microseconds / steps)


def _points() -> dict[str, str]:
    found: dict[str, str] = {}
    for hidden, batch, dtype in ((768, 16, FLOAT16), (768, 16, BFLOAT16), (512, 16, BFLOAT16), (1024, 16, FLOAT16)):
        row = one(table("published-points"), H=hidden, B=batch, dtype=dtype)
        name = f"point.{hidden}.{ {FLOAT16: 'fp16', BFLOAT16: 'bf16'}[dtype] }"
        found |= {name: _step(row["ours_f"], row["T"]), f"{name}.cudnn": _step(row["cudnn_f"], row["T"])}
    key = "lstm-I768-H768-T256-B16-forward-bfloat16-cuda"
    (eager,) = [record for record in records("173700-throughput") if (record.case, record.backend) == (key, "cudnn")]
    found["eager.768.bf16.cudnn"] = words.format_significant(1e6 * statistics.median(eager.measurements[0].samples) / 256)
    more = [row["ours_fb_rebuilt"] / row["ours_fb"] - 1 for row in table("published-points")]
    found["rebuilt.least"], found["rebuilt.most"] = words.format_percent(min(more)), words.format_percent(max(more))
    return found


def _module() -> dict[str, str]:
    found: dict[str, str] = {}
    for row in table("module-and-stream"):
        if "stream" in row:
            name = f"stream.{row['H']}.{row['L']}.{row['B']}"
            found |= {name: words.format_significant(row["ours"]), f"{name}.64": words.format_significant(row["ours_64"])}
            found[f"{name}.cudnn"] = words.format_significant(row["cudnn_graph"])
            continue
        for way in ("inference", "training", "packed"):
            for side in ("ours", "cudnn"):
                if f"{side} {way}" in row:
                    wall, host = row[f"{side} {way}"]
                    name = f"module.{row['H']}.{row['L']}.{way}.{side}"
                    found |= {name: _microseconds(wall), f"{name}.host": _microseconds(host)}
    return found


def _microseconds(value: float) -> str:
    return words.format_si(value / 1e6, "s")


def _kernels() -> dict[str, str]:
    cuts, found = table("shipped-cuts"), {}
    for name, phase in (("forward", "f"), ("backward", "b")):
        for hidden, batch in ((512, 32), (256, 32), (768, 32)):
            row = one(cuts, phase=phase, H=hidden, C=16, N=8, B=batch)
            found[f"kernel.{name}.{hidden}"] = words.format_significant(row["us"])
            if (hidden, batch) != (768, 32):
                without = one(table("ablation"), phase=phase, H=hidden, C=16, B=batch)
                for piece in ("base", "no exchange", "no mma", "no gates", "no global"):
                    if piece in without:
                        found[f"ablation.{name}.{hidden}.{piece.replace(' ', '-')}"] = words.format_significant(without[piece])
    correct = [record for record in records("173615-gpu-check") if record.study == "gpu_correctness"]
    shares = [measurement.samples[0] for record in correct for measurement in record.measurements]
    found["correct"] = f"{sum(record.status == 'ok' for record in correct)} of {len(correct)}"
    found["correct.share"] = words.format_significant(max(shares), 2)
    footer = read(H100 / "173615-gpu-check.jsonl").footer
    assert footer is not None
    found["correct.seconds"] = words.format_si(footer.seconds, "s")
    return found


def _probes() -> dict[str, str]:
    """Medians of the probes' five samples; of a range the ends."""
    found: dict[str, str] = {}
    medians = {
        (record.study, record.case): statistics.median(record.measurements[0].samples)
        for record in records("182447-gpu-check")
        if record.measurements
    }
    for (_, case), value in medians.items():
        found[f"probe.{case}"] = words.format_significant(value)
    for name, start in (("sends", "latency"), ("exchange.16", ("barrier-16B", "counter-16B", "letters-16B"))):
        chosen = [value for (_, case), value in medians.items() if case.startswith(start)]
        found[f"probe.{name}"] = f"{words.format_significant(min(chosen))} to {words.format_significant(max(chosen))}"
    for name, end in (("ingress.large", "-32768B"), ("ingress.small", "-2048B")):
        chosen = [value for (_, case), value in medians.items() if case.startswith("ingress") and case.endswith(end)]
        found[f"probe.{name}"] = f"{words.format_significant(min(chosen))} to {words.format_significant(max(chosen))}"
    chosen = [value for (study, _), value in medians.items() if study == "gpu_exchange"]
    found["probe.exchange"] = f"{words.format_significant(min(chosen), 4)} to {words.format_significant(max(chosen), 4)}"
    return found


def _scaling() -> dict[str, str]:
    """Milliseconds a training step of 65 536 tokens: the median over replicates of the samples' median."""
    found: dict[str, str] = {}
    for name, run, backend in (("lstm", "182516-scaling", "cudnn"), ("transformer", "182611-scaling", "torch")):
        times: dict[int, list[float]] = {}
        for record in records(run):
            if record.backend == backend and record.status == "ok":
                (time,) = [item for item in record.measurements if item.metric == "time"]
                times.setdefault(record.parameters["steps"], []).append(statistics.median(time.samples))
        for steps, replicates in times.items():
            found[f"scaling.{name}.{steps}"] = words.format_significant(1e3 * statistics.median(replicates))
            found[f"scaling.{name}.{steps}.replicates"] = str(len(replicates))
    return found


def figure() -> str:
    """README's figure as an SVG file of its own."""
    drawing = draw(grid(), "bf16, T = 128, both in CUDA graphs")
    return report_drawing.alone(report_drawing.inline(drawing.figure, "h100", drawing.title)) + "\n"


def renewed(page: str, named: Callable[[str], str] | None = None) -> str:
    """The page's text with its numbers replaced. Raises `KeyError` for a name that nobody knows."""
    lookup = named or values().__getitem__
    return _MARK.sub(lambda found: f"{found[1]}{lookup(found[2])}{found[4]}", page)


def stale(root: Path = ROOT) -> list[str]:
    """A sentence for each page or figure that is not what the reference says."""
    renew = "renew it with: python -m analysis.gpu_check.pages"
    lookup = values().__getitem__
    said = []
    for name in PAGES:
        text = (root / name).read_text(encoding="utf-8")
        if renewed(text, lookup) != text:
            said.append(f"{name} is not what the reference runs say; {renew}")
    drawn = root / FIGURE
    if not drawn.exists() or _texts(drawn.read_text(encoding="utf-8")) != _texts(figure()):
        said.append(f"{FIGURE} is not what the reference tables say; {renew}")
    return said


def _texts(drawn: str) -> list[str]:
    """The words and numbers of an SVG: its lines are Matplotlib's matter and change with its version."""
    return re.findall(r">([^<>]+)</text>", drawn)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m analysis.gpu_check.pages", description="Renew the numbers of a GPU in the pages."
    )
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 where something is not up to date")
    if not parser.parse_args().check:
        lookup = values().__getitem__
        for name in PAGES:
            page = ROOT / name
            page.write_text(renewed(page.read_text(encoding="utf-8"), lookup), encoding="utf-8")
        (ROOT / FIGURE).write_text(figure(), encoding="utf-8")
    said = stale()
    print("\n".join(said) or "every page is what the reference runs say", file=sys.stderr if said else sys.stdout)
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
