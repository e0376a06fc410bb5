"""Study `stream`: its statistics."""
