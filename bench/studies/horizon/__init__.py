"""Study `horizon`: its cases and what it measures."""
