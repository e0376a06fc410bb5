"""Python imports this when it starts a worker of tests/bench/worker/test_cuda_errors.py; makes the item
beside this file known."""

from pathlib import Path

import bench.gpu_check

bench.gpu_check.__path__.append(str(Path(__file__).parent))
