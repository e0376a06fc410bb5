"""What the backends of JAX share."""
