"""Study `goal`: its cases and what it measures."""
