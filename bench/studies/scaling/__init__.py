"""Study `scaling`: its cases and what it measures."""
