"""Study `stream`: its cases and what it measures."""
