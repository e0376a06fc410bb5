"""Study `quality`: its statistics and figures."""
