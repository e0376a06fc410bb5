"""Which exit code a command ends with after an error, and what is printed of it. The codes are in `results/errors.py`."""

from __future__ import annotations

import errno

from results.errors import ExitCode, UserError


def of(error: BaseException) -> ExitCode:
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
