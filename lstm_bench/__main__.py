"""`python -m lstm_bench`: runs the command line and turns known mistakes into one clear sentence and their exit code."""

from __future__ import annotations

import importlib.util
import shlex
import signal
import sys
import traceback
import warnings
from typing import TextIO

from lstm_bench import errors, import_paths, terminal
from lstm_bench.errors import ExitCode

# Commands that measure. What they add to go on where a run was interrupted: some go on by the same command.
GO_ON = {"run": "--resume", "gpu-check": "--resume", "compare": "--resume", "calibrate": "--resume", "track": "", "bisect": ""}


MEASURING = ("run", "advise", "compare", "track", "bisect", "calibrate", "gpu-check")

# What pyproject.toml makes every installation bring, by the name to import, for a checkout that runs without an installation.
REQUIRED = {
    "jinja2": "jinja2", "ml_dtypes": "ml-dtypes", "numpy": "numpy", "pynvml": "nvidia-ml-py", "pandas": "pandas",
    "pyarrow": "pyarrow", "rich": "rich", "scipy": "scipy", "seaborn": "seaborn", "typer": "typer",
}  # fmt: skip


_ended_by: list[int] = []  # the signal that asks this process to end


def main() -> None:
    terminal.write_any_encoding()
    warnings.showwarning = _show
    _end_as_ctrl_c_does()
    try:
        with terminal.closed_output_told():
            try:
                code = _carry_out()
                _flush()
            except (BrokenPipeError, terminal.OutputClosed):
                raise
            except BaseException as error:  # as where the disk behind standard output is full; Python's code is 1, a verdict
                code = _told(error)
    except terminal.OutputClosed:
        code = ExitCode.OUTPUT_CLOSED
    terminal.discard_unwritten()
    sys.exit(128 + _ended_by[0] if _ended_by else code)


def _end_as_ctrl_c_does() -> None:
    """Where SIGTERM, or the SIGHUP of a closed terminal, would end the process at once: a run is ended as by Ctrl-C instead."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _interrupt)


def _interrupt(number: int, _: object) -> None:
    if not _ended_by:  # once: the second one would stop what cleans up
        _ended_by.append(number)
        raise KeyboardInterrupt


def _told(error: BaseException) -> int:
    """The code of an error, once it is said on standard error, if that can be written to."""
    code = errors.exit_code_of(error)
    try:
        if code == ExitCode.DEFECT:
            traceback.print_exception(error)
        else:
            print(f"error: {errors.sentence(error)}", file=sys.stderr, flush=True)
    except BrokenPipeError:
        raise
    except OSError:  # the code alone says it
        pass
    terminal.discard_unwritten()  # lest what could not be written fails once more, and is told again
    return code


def _carry_out() -> int | str | None:
    """The command's exit code, with what is said of an error on standard error."""
    try:
        import_paths.prefer_own()
        from lstm_bench.commands import command_groups
        from lstm_bench.commands.app import app

        sys.argv[1:], renamed = command_groups.current_names(sys.argv[1:])
        for sentence in renamed:
            print(f"warning: {sentence}", file=sys.stderr)

        if sys.argv[1:2] and sys.argv[1] in MEASURING:
            from bench.processes import scratch

            for place in scratch.sweep():
                print(f"removed {place}, which a run that was killed had left behind", file=sys.stderr)
        with terminal.closed_output_told():
            app()
    except SystemExit as stop:
        return stop.code
    except (KeyboardInterrupt, terminal.Interrupted) as stop:
        print(_interrupted(stop), file=sys.stderr)
        return ExitCode.INTERRUPTED
    except (BrokenPipeError, terminal.OutputClosed):
        raise
    except ModuleNotFoundError as error:
        if error.name is None or (said := _missing(error.name.partition(".")[0])) is None:
            raise
        print(f"error: {said}", file=sys.stderr)
        return ExitCode.USAGE
    except Exception as error:
        return _told(error)
    return ExitCode.NOTHING


def _interrupted(stop: BaseException) -> str:
    """What was kept, and the command that goes on."""
    how = GO_ON.get("".join(sys.argv[1:2]))
    if how is None:
        return "interrupted"
    path = getattr(stop.__cause__ or stop, "path", None)  # of `bench.harness.run.Interrupted`, where a run had begun
    given = shlex.join(["lstm-bench", *sys.argv[1:]])
    if path is None and how:
        return f"interrupted before anything was measured\nstart again with: {given}"
    if path is None:
        return f"interrupted; what was measured before is kept\ngo on with: {given}"
    from lstm_bench.views import run_summary

    return f"interrupted; {run_summary.kept(path)}\nfinish it with: {given}{f' {how}' * (bool(how) and how not in sys.argv)}"


def _flush() -> None:
    """Write out here what is left, while an error of it is still ours to tell: Python's own code for it is 120."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()


def _missing(module: str) -> str | None:
    """A sentence on a required package that is not installed, and what to install with it; None of any other module."""
    if module not in REQUIRED:
        return None
    absent = [package for name, package in REQUIRED.items() if name == module or importlib.util.find_spec(name) is None]
    return f"lstm-bench needs {REQUIRED[module]}, which is not installed here; install with: pip install {' '.join(absent)}"


_show_usually = warnings.showwarning


def _show(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """What concerns a user's file is a sentence, and shows no source."""
    if category.__name__ == "DamagedLine":
        print(f"warning: {message}", file=sys.stderr)
    else:
        _show_usually(message, category, filename, lineno, file, line)


if __name__ == "__main__":
    main()
