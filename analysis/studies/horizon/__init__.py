"""Study `horizon`: its statistics and figures."""
