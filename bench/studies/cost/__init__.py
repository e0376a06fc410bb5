"""Study `cost`: its cases and what it measures."""
