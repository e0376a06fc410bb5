"""Study `context`: its statistics and figures."""
