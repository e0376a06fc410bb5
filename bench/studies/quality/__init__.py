"""Study `quality`: its cases and what it measures."""
