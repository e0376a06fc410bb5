"""Kernels that measure what the device does in itself."""
