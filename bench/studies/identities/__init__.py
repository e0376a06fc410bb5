"""Study `identities`: its cases and what it measures."""
