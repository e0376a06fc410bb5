"""`python -m lstm_bench`: runs the command line and turns known mistakes into one clear sentence and exit code 2."""

from __future__ import annotations

import sys

USAGE, INTERRUPTED = 2, 130


def main() -> None:
    from lstm_bench.app import app

    try:
        app()
    except KeyboardInterrupt:
        print("interrupted; what was measured is on disk. Finish it with: lstm-bench run --resume", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception as error:
        if not isinstance(error, _mistakes()):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(USAGE)


def _mistakes() -> tuple[type[Exception], ...]:
    """The errors that tell a user what to do; anything else is a defect and keeps its traceback."""
    import analysis
    import impls
    from bench.case import InvalidCase
    from bench.filters import InvalidFilter
    from bench.lock import DeviceBusy
    from bench.session import NothingToResume
    from impls.spec import InvalidSpec
    from lstm_bench.duration import InvalidDuration
    from results.store import StoreError

    return (
        impls.UnknownName, impls.Unavailable, InvalidSpec, InvalidCase, InvalidFilter, InvalidDuration,
        DeviceBusy, NothingToResume, StoreError, analysis.AnalysisError,
    )  # fmt: skip


if __name__ == "__main__":
    main()
