"""`python -m lstm_bench`: runs the command line and turns known mistakes into one clear sentence and their exit code."""

from __future__ import annotations

import sys
import traceback

USAGE, UNDECIDED, DEFECT, INTERRUPTED = 2, 3, 70, 130  # 1 is for what was asked: something failed, or is slower


def main() -> None:
    from lstm_bench.app import app

    try:
        app()
    except KeyboardInterrupt:
        print("interrupted; what was measured is on disk. Finish it by the same command with --resume", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception as error:
        if not isinstance(error, _mistakes()):
            traceback.print_exc()
            sys.exit(DEFECT)
        print(f"error: {error}", file=sys.stderr)
        from analysis.comparison import NotComparable

        sys.exit(UNDECIDED if isinstance(error, NotComparable) else USAGE)


def _mistakes() -> tuple[type[Exception], ...]:
    """The errors that tell a user what to do; anything else is a defect and keeps its traceback."""
    import analysis
    import impls
    from bench.case import InvalidCase
    from bench.code import CodeFails
    from bench.filters import InvalidFilter
    from bench.language.text import InvalidCorpus
    from bench.lock import DeviceBusy
    from bench.matching import Unmatched
    from bench.revisions import RevisionError
    from bench.session import NothingToResume
    from impls.spec import InvalidSpec
    from lstm_bench.compare import UnclearSides
    from lstm_bench.duration import InvalidDuration
    from results.store import StoreError

    return (
        impls.UnknownName, impls.Unavailable, InvalidSpec, InvalidCase, InvalidFilter, InvalidDuration, InvalidCorpus,
        DeviceBusy, Unmatched, NothingToResume, CodeFails, RevisionError, UnclearSides, StoreError, analysis.AnalysisError,
    )  # fmt: skip


if __name__ == "__main__":
    main()
