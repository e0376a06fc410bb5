"""Study `gradients`: its cases and what it measures."""
