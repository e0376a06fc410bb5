"""The kernels as PyTorch operators, modules and a backend's network."""
