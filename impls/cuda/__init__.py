"""This project's own CUDA kernels: sources, their loader, their emulation, and what PyTorch sees of them. See docs/cuda.md."""
