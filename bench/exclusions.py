"""Which failures of stored runs say nothing about their case, by rule; `results.exclusions` reads the answer.

    python -m bench.exclusions FOLDER     writes exclusions.json for the runs of the folder

For runs kept as a reference, whose code had defects that were repaired since. The file is written for a folder on purpose and
checked by a test; no run is judged by this rule merely because it is read.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from bench.harness.case import Case
from bench.worker import agreement
from bench.worker.cuda_errors import named_in
from results import exclusions, store
from results.exclusions import Reason, Task
from results.record import Record

# Errors of the process's state: CUDA had no valid context, so it refused the call before it looked at it (CUDA 13, CUresult).
INVALID_CONTEXT = frozenset(
    {
        "CUDA_ERROR_INVALID_CONTEXT", "CUDA_ERROR_CONTEXT_IS_DESTROYED",
        "cudaErrorDeviceUninitialized", "cudaErrorContextIsDestroyed",
    }
)  # fmt: skip
_REJECTED = re.compile(r": (?P<array>[\w ]+) is off by (?P<error>[\d.e+-]+), allowed [\d.e+-]+ \(float32\)")


def of(records: Mapping[Task, Record]) -> dict[Task, Reason]:
    """The failures of one run, in the order in which they were written, that are to be left out."""
    found: dict[Task, Reason] = {}
    corrupted: dict[tuple[str, int], str] = {}  # by worker, that is by backend and replicate: the sticky error it had
    for task, record in records.items():
        if record.status != "failed":
            continue
        worker, sticky = (record.backend, record.replicate), named_in(record.reason)
        if INVALID_CONTEXT & set(re.findall(r"\w+", record.reason)):
            found[task] = "invalid_context"
        elif sticky and record.kind != "crash" and corrupted.get(worker) == sticky:
            found[task] = "invalid_context"  # the worker went on after it; since then it is replaced, and the kind is crash
        elif sticky:
            corrupted[worker] = sticky
        elif record.kind == "wrong" and _allowed_today(record):
            found[task] = "allowed_today"
    return found


def _allowed_today(record: Record) -> bool:
    """Whether the recorded error of a rejected float32 answer is within today's bound for that array."""
    rejection = _REJECTED.search(record.reason)
    if rejection is None:
        return False
    case = Case.from_dict(record.parameters)
    exact = agreement.reference(case, "float64")
    if (array := rejection["array"]) not in exact:
        return False
    naive = agreement.naive_errors(case, exact)[array]
    return float(rejection["error"]) <= agreement.bound(exact[array], naive, "float32", agreement.depth(case, array))


def of_folder(folder: Path) -> dict[str, dict[Task, Reason]]:
    """For each run of a folder what is left out of it; of the runs as they were written."""
    return {path.stem: of(store.written(path)) for path in store.find(folder)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.exclusions", description="Write exclusions.json for a folder.")
    parser.add_argument("folder", type=Path, help="folder that holds the runs themselves")
    folder = parser.parse_args().folder
    found = of_folder(folder)
    (folder / exclusions.FILE).write_text(exclusions.encode(found), encoding="utf-8")
    for run, tasks in found.items():
        print(f"{run}: {len(tasks)} left out")
    return 0


if __name__ == "__main__":
    sys.exit(main())
