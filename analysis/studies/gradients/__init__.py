"""Study `gradients`: its statistics and figures."""
