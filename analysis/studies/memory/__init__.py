"""Study `memory`: its statistics and figures."""
