"""What the backends of PyTorch share."""
