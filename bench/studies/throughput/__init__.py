"""Study `throughput`: its cases and what it measures."""
