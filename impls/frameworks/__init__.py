"""What the backends of one framework share."""
