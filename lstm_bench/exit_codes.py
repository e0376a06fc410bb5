"""The one table of exit codes: what each means, and which errors end with it. `docs/history.md` and `--help` repeat it."""

from __future__ import annotations

import errno
from typing import NamedTuple

NOTHING, SLOWER, USAGE, UNDECIDED = 0, 1, 2, 3
DOES_NOT_RUN, BUILD_FAILS, CORRUPT, DISK_FULL = 14, 15, 20, 21
DEFECT, INTERRUPTED, OUTPUT_CLOSED = 70, 130, 141


class Kind(NamedTuple):
    """A class of error. errors: `module:Class`, subclasses included unless they have a line of their own."""

    code: int
    meaning: str
    errors: tuple[str, ...]


KINDS = (
    Kind(USAGE, "usage: something is named that is not there, or cannot be written to", (
        "impls:UnknownName", "impls:Unavailable", "impls.specs.residual:InvalidSpec", "bench.harness.case:InvalidCase",
        "bench.harness.case:InvalidFilter", "bench.harness.session:NothingToResume",
        "bench.studies.quality.sources:InvalidCorpus",
        "bench.studies.matching:Unmatched", "bench.harness.plan:InvalidPlan",
        "lstm_bench.commands.compare:UnclearSides", "lstm_bench.views.duration:InvalidDuration",
        "lstm_bench.import_paths:ForeignPackage", "bench.machine.system:UnsupportedSystem",
        "results.store:StoreError", "analysis:AnalysisError", "bench.regression.revisions:RevisionError",
    )),
    Kind(UNDECIDED, "nothing could be decided", ("analysis.regression.comparison:NotComparable",)),
    Kind(10, "not a git repository, or no git", ("bench.regression.revisions:NotARepository",)),
    Kind(11, "unknown revision", ("bench.regression.revisions:UnknownRevision",)),
    Kind(12, "a shallow clone that lacks it", ("bench.regression.revisions:ShallowClone",)),
    Kind(13, "a range without commits, or GOOD does not lie before BAD", ("bench.regression.revisions:NoSpan",)),
    Kind(
        DOES_NOT_RUN, "a revision does not run here",
        ("bench.regression.revisions:DoesNotRun", "bench.processes.code:CodeFails"),
    ),
    Kind(BUILD_FAILS, "a revision cannot be installed", ("bench.regression.revisions:BuildFails",)),
    Kind(16, "other machine, host, protocol or threads", ("analysis.regression.comparison:OtherMachine",)),
    Kind(17, "no case and backend in common", ("analysis.regression.comparison:NothingInCommon",)),
    Kind(CORRUPT, "a corrupt file of results", ("results.store:Corrupt",)),
    Kind(DISK_FULL, "the disk took no more", ("results.store:WriteFailed",)),
    Kind(22, "the clock went backwards", ("bench.harness.session:ClockWentBackwards",)),
    Kind(23, "the device is busy with another run", ("bench.machine.lock:DeviceBusy", "bench.machine.lock:NotOurs")),
)  # fmt: skip
_BY_ERROR = {error: kind.code for kind in KINDS for error in kind.errors}


def of(error: BaseException) -> int:
    """The code of an error that tells a user what to do; `DEFECT` for every other, which keeps its traceback."""
    if _disk_is_full(error):
        return DISK_FULL
    names = (f"{kind.__module__}:{kind.__qualname__}" for kind in type(error).__mro__)
    return next((_BY_ERROR[name] for name in names if name in _BY_ERROR), DEFECT)


def sentence(error: BaseException) -> str:
    """What is said of an error that is no defect."""
    if _disk_is_full(error) and isinstance(error, OSError):
        return f"cannot write{f' to {error.filename}' * bool(error.filename)}: {error.strerror}; make room and run it again"
    return str(error)


def _disk_is_full(error: BaseException) -> bool:
    """Whether the system refused to write, to any file or to standard output."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def epilog() -> str:
    """For `--help`: the codes that are not told by the command itself."""
    kinds = [f"{kind.code} {kind.meaning}" for kind in KINDS if kind.code > UNDECIDED]
    return (
        f"Other exit codes: {'; '.join(kinds)}; {DEFECT} a defect of lstm-bench; {INTERRUPTED} interrupted "
        f"(129, 143: by SIGHUP, SIGTERM); {OUTPUT_CLOSED} nobody reads the output any more."
    )
