"""`reading`, in a process from which everything is taken that Windows does not have."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import reading
import taken_away


def main() -> int:
    # Third parties choose by the platform when they are imported, and some only when they are used.
    if wrong := reading.import_all():
        raise SystemExit("\n".join(wrong))
    with tempfile.TemporaryDirectory() as scratch:
        reading.called("report", reading.RUN, "--to", scratch)
        reading.called("export", str(Path(scratch) / "samples.parquet"), reading.RUN)
    for name in [name for name in sys.modules if name.partition(".")[0] in reading.OURS]:
        del sys.modules[name]
    taken_away.as_on_windows()
    return reading.main()


if __name__ == "__main__":
    sys.exit(main())
