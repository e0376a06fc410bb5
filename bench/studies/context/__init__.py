"""Study `context`: its cases and what it measures."""
