"""Kernels are emulated on tensors of the CPU; what a kernel ought to write is NaN before it does."""

from __future__ import annotations

import os
import shutil
import zlib

import pytest
import torch

from impls.cuda.torch import ops


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """PyTorch's threads wait for each other by spinning, and what it computes here is small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def graphs_compiled_anew(tmp_path_factory):
    """The default cache of Inductor, in /tmp, may hold graphs of an operator whose outputs had other shapes."""
    variable = "TORCHINDUCTOR_CACHE_DIR"
    if variable in os.environ:
        yield
        return
    os.environ[variable] = str(tmp_path_factory.mktemp("inductor"))
    yield
    del os.environ[variable]


@pytest.fixture(autouse=True, scope="session")
def compiler():
    if shutil.which("g++") is None:
        pytest.skip("the emulation of the CUDA kernels needs g++")


@pytest.fixture(autouse=True)
def poisoned_outputs():
    """PyTorch then fills every empty floating-point tensor with NaN, so that an element left out is never right by chance."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture(autouse=True)
def emulated_operators(monkeypatch):
    """Operators on tensors of the CPU run emulated here; without this they refuse."""
    monkeypatch.setenv(ops.EMULATE, "1")


@pytest.fixture(autouse=True)
def same_numbers_each_time(request: pytest.FixtureRequest) -> None:
    """What a test draws from PyTorch's own generator is its own and the same in every run."""
    torch.manual_seed(zlib.crc32(request.node.nodeid.encode()))
