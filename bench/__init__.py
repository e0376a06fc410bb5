"""HOW it is measured: cases, studies, the one door, the clock, memory, isolation, and the suites for asv and pytest-benchmark."""
