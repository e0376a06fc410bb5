"""What cases cost, told before they run."""
