"""Study `scaling`: its statistics and figures."""
