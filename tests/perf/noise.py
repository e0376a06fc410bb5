"""Deliberate noise: processes that come and go on the first processor while a command runs there.

    python -m tests.perf.noise COMMAND…     the exit code is the command's

Three of them compute for 0.02 to 1 s and rest as long, drawn from fixed seeds.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from multiprocessing import get_context

from bench.machine import system

NEIGHBOURS = 3


def disturb(seed: int, cpu: int) -> None:
    """Until it is ended."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cpu})
    drawn = random.Random(seed)
    while True:
        until = time.monotonic() + drawn.uniform(0.02, 1.0)
        while time.monotonic() < until:
            sum(range(1000))
        time.sleep(drawn.uniform(0.02, 1.0))


def main() -> int:
    if not sys.argv[1:]:
        print("name the command to disturb: python -m tests.perf.noise COMMAND…", file=sys.stderr)
        return 2
    cpu = system.usable()[0]
    started = [get_context("spawn").Process(target=disturb, args=(seed, cpu), daemon=True) for seed in range(NEIGHBOURS)]
    for neighbour in started:
        neighbour.start()
    try:
        return subprocess.run(sys.argv[1:]).returncode
    finally:
        for neighbour in started:
            neighbour.kill()


if __name__ == "__main__":
    sys.exit(main())
