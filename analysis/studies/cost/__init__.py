"""Study `cost`: its statistics and figures."""
