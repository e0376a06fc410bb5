"""Study `memory`: its cases and what it measures."""
