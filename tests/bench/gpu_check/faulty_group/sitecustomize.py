"""Python imports this when it starts a worker of tests/bench/worker/test_cuda_errors.py; makes the group `faulty` of the module
beside this file known."""

from pathlib import Path

import bench.gpu_check
from bench.gpu_check.groups import GROUPS, CheckGroup

bench.gpu_check.__path__.append(str(Path(__file__).parent))
GROUPS["faulty"] = CheckGroup("does a kernel fail?", 1, "modelled", 60, "faulty")
