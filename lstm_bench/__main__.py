"""`python -m lstm_bench`: runs the command line and turns known mistakes into one clear sentence and their exit code."""

from __future__ import annotations

import importlib.util
import sys
import traceback
import warnings
from typing import TextIO

from lstm_bench import exit_codes

GO_ON = {"track": "", "bisect": ""} | dict.fromkeys(("run", "gpu-check", "compare", "certify"), " with --resume")


# What pyproject.toml makes every installation bring, by the name to import, for a checkout that runs without an installation.
REQUIRED = {
    "jinja2": "jinja2", "ml_dtypes": "ml-dtypes", "numpy": "numpy", "pynvml": "nvidia-ml-py", "pandas": "pandas",
    "pyarrow": "pyarrow", "rich": "rich", "scipy": "scipy", "seaborn": "seaborn", "typer": "typer",
}  # fmt: skip


def main() -> None:
    warnings.showwarning = _show
    try:
        from lstm_bench.app import app

        app()
    except KeyboardInterrupt:
        how = GO_ON.get("".join(sys.argv[1:2]))
        said = "" if how is None else f"; what was measured is on disk. Finish it by the same command{how}"
        print(f"interrupted{said}", file=sys.stderr)
        sys.exit(exit_codes.INTERRUPTED)
    except ModuleNotFoundError as error:
        if error.name is None or (said := _missing(error.name.partition(".")[0])) is None:
            raise
        print(f"error: {said}", file=sys.stderr)
        sys.exit(exit_codes.USAGE)
    except Exception as error:
        code = exit_codes.of(error)
        if code == exit_codes.DEFECT:
            traceback.print_exc()
        else:
            print(f"error: {error}", file=sys.stderr)
        sys.exit(code)


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
