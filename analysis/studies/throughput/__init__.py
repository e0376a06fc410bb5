"""Study `throughput`: its statistics and figures."""
