"""Which records of a stored run are left out when it is read: `exclusions.json` beside the run, and nothing else.

The file says why record by record, so that what is left out can be looked up and is counted wherever the run is shown. The runs
themselves stay as they were written. `python -m bench.exclusions FOLDER` makes the file by the rule that stands there.

    {"173700-throughput": [{"reason": "invalid_context", "task": ["throughput", "lstm-…", "cuda", 0]}, …]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, cast, get_args

from results.record import Record

FILE = "exclusions.json"

# invalid_context: CUDA refused the call for the state of the process, whatever the case was. allowed_today: the answer was
# rejected, and the error that was recorded is within today's tolerance.
Reason = Literal["invalid_context", "allowed_today"]
Task = tuple[str, str, str, int]


class InvalidExclusions(ValueError):
    """The file of exclusions beside a run cannot be used; the message names it and what is wrong."""


def beside(run: Path) -> dict[Task, Reason]:
    """The records of one run that are left out, by task. Raises `InvalidExclusions`; empty where there is no such file."""
    path = run.with_name(FILE)
    if not path.exists():
        return {}
    try:
        found: dict[Task, Reason] = {}
        for item in json.loads(path.read_text(encoding="utf-8")).get(run.stem, ()):
            study, case, backend, replicate = item["task"]
            if item["reason"] not in get_args(Reason):
                raise ValueError(f"reason must be one of {', '.join(get_args(Reason))}; got {item['reason']!r}")
            found[study, case, backend, replicate] = cast(Reason, item["reason"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidExclusions(f"{path}: {error}; make it again with: python -m bench.exclusions {path.parent}") from error
    return found


def split(run: Path, records: Mapping[Task, Record]) -> tuple[tuple[Record, ...], dict[Task, Reason]]:
    """The records that are kept, and those left out with their reason.

    Raises `InvalidExclusions` where the file names a record that the run has not, or one that did not fail: what was measured
    is never left out.
    """
    excluded = beside(run)
    for task in excluded:
        require_failed(run, task, records.get(task))
    return tuple(record for task, record in records.items() if task not in excluded), excluded


def require_failed(run: Path, task: Task, record: Record | None) -> None:
    """Raise `InvalidExclusions` unless the record that the file names is one that failed."""
    if record is None or record.status != "failed":
        raise InvalidExclusions(
            f"{run.with_name(FILE)}: {task} is no failed record of {run.name}; make it again with: "
            f"python -m bench.exclusions {run.parent}"
        )


def encode(found: Mapping[str, Mapping[Task, Reason]]) -> str:
    """The file's text: runs by name, one record a line."""
    runs = []
    for run, tasks in sorted(found.items()):
        lines = [f"    {json.dumps({'reason': why, 'task': list(task)})}" for task, why in sorted(tasks.items())]
        runs.append(f"  {json.dumps(run)}: [" + ("\n" + ",\n".join(lines) + "\n  " if lines else "") + "]")
    return "{\n" + ",\n".join(runs) + "\n}\n"
