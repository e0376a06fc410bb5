"""`python -m lstm_bench`: runs the command line and turns known mistakes into one clear sentence and their exit code."""

from __future__ import annotations

import sys
import traceback
import warnings
from typing import TextIO

from lstm_bench import exit_codes

GO_ON = {"track": "", "bisect": ""} | dict.fromkeys(("run", "gpu-check", "compare", "certify"), " with --resume")


def main() -> None:
    from lstm_bench.app import app

    warnings.showwarning = _show
    try:
        app()
    except KeyboardInterrupt:
        how = GO_ON.get("".join(sys.argv[1:2]))
        said = "" if how is None else f"; what was measured is on disk. Finish it by the same command{how}"
        print(f"interrupted{said}", file=sys.stderr)
        sys.exit(exit_codes.INTERRUPTED)
    except Exception as error:
        code = exit_codes.of(error)
        if code == exit_codes.DEFECT:
            traceback.print_exc()
        else:
            print(f"error: {error}", file=sys.stderr)
        sys.exit(code)


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
