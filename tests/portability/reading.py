"""What works wherever lstm-bench is installed, on Windows too: its modules are imported and stored runs are read.

    python tests/portability/reading.py        in the root of a checkout, with an interpreter that has lstm-bench

Prints what was tried and ends with 1 where something did not work. Where nothing is measured, every command that measures has
to say so.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import pkgutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

OURS = ("impls", "bench", "results", "analysis", "lstm_bench")
# What a backend or a tool of development may import at its top, and what need not be installed.
OPTIONAL = ("torch", "jax", "jaxlib", "flax", "onnx", "onnxruntime", "openvino", "triton", "cuda", "asv", "asv_runner", "otava",
            "ray", "fsspec")  # fmt: skip
RUN = "results/runs/2026-11-22/intel-xeon-2c-0833fe/111709-quick.jsonl"
OTHER_RUN = "results/runs/2026-11-22/intel-xeon-2c-0833fe/111352-quick.jsonl"
STUDIES = "results/runs/2026-11-25/amd-epyc-2c-5acf79"
USE_WSL2 = "use WSL2"
MEASURING = (
    ("run", "smoke"), ("run", "gpu"), ("run", "--resume"), ("track", "HEAD"), ("bisect", "HEAD~1", "HEAD"), ("calibrate",),
    ("compare", "HEAD~1", "HEAD"), ("compare", "backend:numpy", "backend:torch"), ("compare", RUN, "HEAD"), ("gpu-check",),
    ("gpu-check", "--emulate"), ("gpu-check", "--resume"),
)  # fmt: skip


def modules() -> Iterator[str]:
    """The name of every module of ours."""
    for name in OURS:
        yield name
        yield from (found.name for found in pkgutil.walk_packages(importlib.import_module(name).__path__, f"{name}."))


def import_all() -> list[str]:
    """Import every module; what did not work, in a sentence each. A framework that is not installed may be missing."""
    wrong, count = [], 0
    for name in modules():
        count += 1
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in OPTIONAL:
                wrong.append(f"{name} does not import: {error}")
        except Exception as error:
            wrong.append(f"{name} does not import: {type(error).__name__}: {error}")
    print(f"{count} modules imported, {len(wrong)} failed")
    return wrong


def called(*arguments: str) -> tuple[int, str, str]:
    """A command's exit code, standard output and standard error; the command runs in this process."""
    from lstm_bench.__main__ import main

    out, errors = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["lstm-bench", *arguments]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            main()
    except SystemExit as stop:
        return int(stop.code or 0), out.getvalue(), errors.getvalue()
    finally:
        sys.argv = before
    return 0, out.getvalue(), errors.getvalue()


def read_stored_runs(scratch: Path) -> list[str]:
    """Every command that reads; what did not work, in a sentence each."""
    wrong = []
    for codes, wanted, *arguments in (
        ((0,), "compare", "--help"),
        ((0,), "throughput", "list"),
        ((0,), "lstm-I", "list", "quick"),
        ((0,), "torch", "show", RUN),
        ((0,), '"backend"', "show", RUN, "--json"),
        ((0,), "report.html", "report", RUN, "--to", str(scratch / "report")),
        ((0,), "Transformer", "claims", STUDIES),
        ((0,), "samples.csv", "export", str(scratch / "samples.csv"), RUN),
        ((0,), "samples.parquet", "export", str(scratch / "samples.parquet"), RUN),
        ((0, 1, 3), "torch", "compare", OTHER_RUN, RUN, "--markdown", str(scratch / "comparison.md")),
        ((0,), "numpy", "doctor"),
        ((0,), "noise", "doctor", "--json"),
    ):
        code, out, errors = called(*arguments)
        print(f"{' '.join(arguments)}: exit code {code}")
        if code not in codes or wanted not in out:
            wrong.append(
                f"{' '.join(arguments)} ended with {code}, {wanted!r} wanted in what it says: {out[-500:]}{errors[-2000:]}"
            )
    files = [scratch / "report/report.html", scratch / "report/report.md", scratch / "samples.csv", scratch / "comparison.md"]
    return wrong + [f"{path} is not there, or empty" for path in files if not path.is_file() or not path.stat().st_size]


def measuring_refused() -> list[str]:
    """Every command that measures; those that do not refuse with one line and exit code 2."""
    wrong = []
    for arguments in MEASURING:
        code, out, errors = called(*arguments)
        print(f"{' '.join(arguments)}: exit code {code}, {errors.strip()}")
        if code != 2 or out or USE_WSL2 not in errors or errors.count("\n") != 1:
            wrong.append(f"{' '.join(arguments)} ended with {code} and did not refuse in a line: {out}{errors[-2000:]}")
    return wrong


def main() -> int:
    wrong = import_all()
    with tempfile.TemporaryDirectory() as scratch:
        wrong += read_stored_runs(Path(scratch))
    if sys.platform == "win32":
        wrong += measuring_refused()
    print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
