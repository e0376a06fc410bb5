"""HOW it is measured: cases, studies, the one door, the clock, memory, isolation, and the suite for asv."""
