"""Study `decode`: its cases and what it measures."""
