"""Study `decode`: its statistics and figures."""
