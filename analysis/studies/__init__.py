"""A folder a study: its statistics and figures."""
