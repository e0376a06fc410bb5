"""The parent's side of workers: starting, asking, rounds, and how they end."""
