"""The kernels' own source on a CPU."""
