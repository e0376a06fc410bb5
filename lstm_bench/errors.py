"""The base class of errors that a user can mend, and the exit codes of the command line.

Imported by every package; it imports none of them.
"""

from __future__ import annotations

import errno
from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """How a command ended. `meaning` is what `--help` and docs/commands.md say of it.

    From 10 on the surroundings are at fault and not the question, so that a script can react: complete a shallow clone on 12,
    wait on 23.
    """

    meaning: str

    NOTHING = 0, "done, and nothing is slower"
    SLOWER = 1, "something is slower, or a case failed"
    USAGE = 2, "usage: something is named that is not there, or cannot be written to"
    UNDECIDED = 3, "nothing could be decided"
    NO_REPOSITORY = 10, "not a git repository, or no git"
    UNKNOWN_REVISION = 11, "unknown revision"
    SHALLOW_CLONE = 12, "a shallow clone that lacks it"
    EMPTY_RANGE = 13, "a range without commits, or GOOD does not lie before BAD"
    DOES_NOT_RUN = 14, "a revision does not run here"
    BUILD_FAILS = 15, "a revision cannot be installed"
    OTHER_MACHINE = 16, "other machine, host, protocol or threads"
    NOTHING_IN_COMMON = 17, "no case and backend in common"
    CORRUPT = 20, "a corrupt file of results"
    DISK_FULL = 21, "the disk took no more"
    CLOCK = 22, "the clock went backwards"
    DEVICE_BUSY = 23, "the device is busy with another run"
    DEFECT = 70, "a defect of lstm-bench"
    INTERRUPTED = 130, "interrupted (129, 143: by SIGHUP, SIGTERM)"
    OUTPUT_CLOSED = 141, "nobody reads the output any more"

    def __new__(cls, value: int, meaning: str) -> ExitCode:
        code = int.__new__(cls, value)
        code._value_, code.meaning = value, meaning
        return code


class UserError(Exception):
    """Base of every error that its message tells a user how to mend.

    A command that ends with one prints the message without a traceback and exits with `exit_code`.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.USAGE


def exit_code_of(error: BaseException) -> ExitCode:
    """The code of an error that tells a user what to do; `DEFECT` for every other, which is printed with its traceback."""
    if _disk_is_full(error):
        return ExitCode.DISK_FULL
    return error.exit_code if isinstance(error, UserError) else ExitCode.DEFECT


def sentence(error: BaseException) -> str:
    """What is printed of an error that is no defect."""
    if _disk_is_full(error) and isinstance(error, OSError):
        return f"cannot write{f' to {error.filename}' * bool(error.filename)}: {error.strerror}; make room and run it again"
    return str(error)


def _disk_is_full(error: BaseException) -> bool:
    """Whether the system refused to write, to any file or to standard output."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def epilog() -> str:
    """For `--help`: the codes that are not told by the command itself."""
    codes = [f"{code} {code.meaning}" for code in ExitCode if code > ExitCode.UNDECIDED]
    return f"Other exit codes: {'; '.join(codes)}."
