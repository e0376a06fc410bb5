"""How it is measured: cases, studies, the validation gate, clocks, memory, isolation, and the suite for asv."""
