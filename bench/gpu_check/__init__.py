"""What a GPU must answer about our kernels' assumptions, in items; `lstm-bench gpu-check` measures them. Runs in workers."""
