"""Launches, and questions to the driver, on two devices that do not exist (fake_driver.py)."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from impls import Unavailable
from impls.cuda.runtime import Kernel, Launch, Refused, driver
from impls.cuda.select import choose
from impls.cuda.select.grid import GridShape
from impls.cuda.select.steps import TensorSteps
from impls.cuda.torch.streaming import choose_stream
from tests.impls.cuda.fake_driver import SUCCESS, Devices, install, real

LARGE = Kernel("code", "function", (), threads=64, shared_bytes=100_000, cluster=16)


class Arguments(ctypes.Structure):
    _fields_ = [("number", ctypes.c_int)]


@pytest.fixture
def devices(monkeypatch, tmp_path) -> Iterator[Devices]:
    yield from install(monkeypatch, tmp_path)


def launch_on(index: int, kernel: Kernel = LARGE) -> Launch:
    return Launch(kernel, (32, 2, 1), Arguments(7), [], [SimpleNamespace(device=torch.device("cuda", index))])  # type: ignore


def test_a_launch_runs_on_its_tensors_device_and_stream(devices):
    launcher = driver.Driver()
    for index in (1, 0, 1, 1):
        launcher(launch_on(index))
        assert devices.current == 0
    assert devices.launches() == [(1, 1, 101), (0, 0, 100), (1, 1, 101), (1, 1, 101)]
    loads = [event[:3] for event in devices.events if event[0] == "cuModuleLoadData"]
    assert loads == [("cuModuleLoadData", 1, b"code"), ("cuModuleLoadData", 0, b"code")]  # once a device, and kept


def test_a_launch_tells_the_driver_its_sizes_and_cluster(devices):
    driver.Driver()(launch_on(1))
    names = real.CUfunction_attribute
    assert [event[3:] for event in devices.events if event[0] == "cuFuncSetAttribute"] == [
        (names.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 100_000),
        (names.CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1),
    ]
    _, _, config, _, parameters, extra = devices.events[-1]
    assert (config.gridDimX, config.gridDimY, config.gridDimZ) == (32, 2, 1)
    assert (config.blockDimX, config.blockDimY, config.sharedMemBytes) == (64, 1, 100_000)
    assert (config.numAttrs, config.attrs[0].value.clusterDim.x, extra) == (1, 16, 0)
    assert parameters > 0


def cluster_sizes(config) -> list[int]:
    kinds = real.CUlaunchAttributeID
    found = config.attrs[: config.numAttrs] if config.numAttrs else []
    return [one.value.clusterDim.x for one in found if one.id == kinds.CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION]


@pytest.mark.parametrize("cluster, said", [(None, []), (1, [1]), (4, [4])])
@pytest.mark.parametrize("cooperative", [False, True])
def test_a_launch_says_its_cluster_also_of_one_block(cluster, said, cooperative):
    kernel = Kernel("code", "function", (), 64, 0, cluster, cooperative)
    config = driver.configuration(kernel, (8, 1, 1), 0)
    assert cluster_sizes(config) == said and config.numAttrs == len(said) + cooperative
    found = config.attrs[: config.numAttrs] if config.numAttrs else []
    kinds = real.CUlaunchAttributeID
    assert [one.value.cooperative for one in found if one.id == kinds.CU_LAUNCH_ATTRIBUTE_COOPERATIVE] == [1] * cooperative


def test_cluster_instructions_without_a_cluster_are_fatal(devices):
    """What the fake driver refuses, and that it refuses everything from then on, as the real one did."""
    launcher, right = driver.Driver(), Kernel("barrier.cluster", "function", (), 64, 0, 1)
    launcher(launch_on(0, right))
    with pytest.raises(driver.DriverError, match="cuLaunchKernelEx failed: CUDA_ERROR_ILLEGAL_INSTRUCTION"):
        launcher(launch_on(0, replace(right, cluster=None)))
    with pytest.raises(driver.DriverError, match="cuLaunchKernelEx failed: CUDA_ERROR_ILLEGAL_INSTRUCTION"):
        launcher(launch_on(0, right))


def test_a_grid_of_no_whole_number_of_clusters_is_refused(devices):
    with pytest.raises(ValueError, match="a grid of 1 blocks along x is no whole number of clusters of 16"):
        replace(launch_on(0), grid=(1, 1, 1))
    launcher = driver.Driver()
    launcher(launch_on(0))
    config, function = driver.configuration(LARGE, (1, 1, 1), 0), driver._function(LARGE, 0)
    with pytest.raises(driver.DriverError, match="CUDA_ERROR_INVALID_CLUSTER_SIZE"):
        driver.require("cuLaunchKernelEx", devices.bindings.cuLaunchKernelEx(config, function, 0, 0))
    launcher(launch_on(0))  # that error is not sticky


@pytest.mark.parametrize("first", [
    lambda: driver.Driver()(launch_on(0)), lambda: driver.Driver()(launch_on(1)),
    lambda: driver.resident_clusters(LARGE), lambda: driver.occupancy(LARGE, torch.device("cuda", 0)),
    lambda: driver.occupancy(replace(LARGE, cluster=None), torch.device("cuda", 0)),
    lambda: choose(256, 8, 1, torch.bfloat16, (9, 0), **driver.room()),
    lambda: choose_stream(torch.float32, 64, 256, 2, 1, (9, 0), **driver.room()),
], ids=["launch", "launch on another device", "resident", "occupancy", "blocks", "plan", "stream"])  # fmt: skip
def test_the_first_use_of_a_process_makes_the_primary_context(devices, first):
    assert not devices.contexts
    first()
    assert devices.contexts and devices.current == 0


def test_without_a_context_the_fake_driver_loads_nothing(devices, monkeypatch):
    monkeypatch.setattr(driver, "enter_context", lambda device: None)
    with pytest.raises(driver.DriverError, match="cuModuleLoadData failed: CUDA_ERROR_INVALID_CONTEXT"):
        driver.Driver()(launch_on(0))
    with pytest.raises(driver.DriverError, match="cuModuleLoadData failed: CUDA_ERROR_INVALID_CONTEXT"):
        driver.resident_clusters(LARGE)


def test_every_thread_enters_the_one_context(devices):
    """Autograd and JAX call from threads of their own, where a kernel that is loaded already has no context."""
    launcher = driver.Driver()
    launcher(launch_on(0))
    with ThreadPoolExecutor(1) as pool:
        for _ in range(2):
            pool.submit(launcher, launch_on(0)).result()
    calls = [event[0] for event in devices.events]
    assert (calls.count("cuDevicePrimaryCtxRetain"), calls.count("cuCtxSetCurrent"), calls.count("cuModuleLoadData")) == (
        1,
        2,
        1,
    )


def test_the_driver_is_asked_how_many_clusters_run_at_once(devices):
    plan = choose(256, 8, 1, torch.bfloat16, (9, 0), **driver.room())
    asked = [config for call, _, _, config in (e for e in devices.events if e[0] == "cuOccupancyMaxActiveClusters")]
    assert {config.attrs[0].value.clusterDim.x for config in asked} == {4, 8, 16}
    assert "asked of the driver" in plan.reason
    assert driver.resident_clusters(Kernel("code", "", (), 64, 0)) == 78


def test_the_driver_is_asked_how_many_blocks_a_grid_may_have(devices):
    plan = choose(1024, 8, 1, torch.bfloat16, (9, 0), design="grid", **driver.room())
    assert isinstance(plan.forward, GridShape) and "resident blocks asked of the driver" in plan.reason
    kernel = plan.forward.kernel()
    assert driver.resident_clusters(kernel) == 2 * 78  # two a multiprocessor, as the driver says
    asked = [event for event in devices.events if event[0] == "cuOccupancyMaxActiveBlocksPerMultiprocessor"]
    assert any(event[3:] == (kernel.threads, kernel.shared_bytes) for event in asked)
    assert driver.configuration(kernel, (128, 1, 1), 0).attrs[0].value.cooperative == 1


@pytest.mark.parametrize("call, name", [
    ("cuOccupancyMaxActiveClusters", "CUDA_ERROR_INVALID_CLUSTER_SIZE"),
    ("cuFuncSetAttribute", "CUDA_ERROR_INVALID_VALUE"),
])  # fmt: skip
def test_without_room_for_a_cluster_another_kernel_runs(devices, call, name):
    devices.refused[call] = name
    assert driver.resident_clusters(LARGE) == 0
    plan = choose(768, 8, 1, torch.bfloat16, (12, 0), **driver.room())  # C = 16 alone
    assert plan.backward.design == "tensor_step" and "no room" in plan.reason


@pytest.mark.parametrize("call, name", [
    ("cuOccupancyMaxActiveClusters", "CUDA_ERROR_ILLEGAL_ADDRESS"), ("cuModuleLoadData", "CUDA_ERROR_INVALID_VALUE"),
])  # fmt: skip
def test_any_other_error_is_not_taken_for_a_lack_of_room(devices, call, name):
    devices.refused[call] = name
    with pytest.raises(driver.DriverError, match=f"{call} failed: {name}"):
        driver.resident_clusters(LARGE)


def test_a_device_with_less_shared_memory_gets_what_fits_it(devices):
    devices.shared_limit = 99 << 10
    assert driver.resident_clusters(LARGE) == 6
    assert driver.resident_clusters(Kernel("code", "", (), 64, 100 << 10)) == 0
    for hidden in (64, 256, 512, 768):
        plan = choose(hidden, 8, 1, torch.bfloat16, (12, 0), **driver.room())
        for shape in (plan.forward, plan.backward):
            assert isinstance(shape, TensorSteps) or shape.kernel().shared_bytes <= 99 << 10
        assert plan.backward.design == ("tensor_step" if hidden == 768 else "cluster")
    assert "shared memory" in plan.reason
    with pytest.raises(Refused, match="101376 bytes of shared memory"):
        choose(768, 8, 1, torch.bfloat16, (12, 0), design="cluster", **driver.room())
    with pytest.raises(Refused, match="a block has 101376 on this GPU"):
        choose_stream(torch.float32, 64, 1024, 4, 16, (12, 0), **driver.room())


@pytest.mark.parametrize("supported, said", [(12080, "supports CUDA 12.8, and nvrtc 13.*driver for CUDA 13"), (13000, None),
                                             (14010, None)])  # fmt: skip
def test_a_driver_too_old_for_the_compiler_is_told_so(devices, monkeypatch, supported, said):
    monkeypatch.setattr(driver, "compiler_version", lambda: "nvrtc 13.5")
    devices.version = supported
    reason = driver.missing()
    assert reason is None if said is None else re.search(said, reason or "")


def test_a_driver_or_compiler_that_does_not_answer_is_missing(devices, monkeypatch):
    devices.refused["cuDriverGetVersion"] = "CUDA_ERROR_UNKNOWN"
    assert "needs NVIDIA's driver: cuDriverGetVersion failed" in (driver.missing() or "")

    def no_library():
        raise Unavailable("needs NVRTC's library")

    devices.refused.clear()
    monkeypatch.setattr(driver, "compiler_version", no_library)
    assert driver.missing() == "needs NVRTC's library"


def test_errors_of_the_driver_are_pytorchs_own_or_say_the_call():
    assert driver.require("cuCall", (SUCCESS, 3)) == 3
    with pytest.raises(torch.OutOfMemoryError, match="cuCall"):
        driver.require("cuCall", (real.CUresult.CUDA_ERROR_OUT_OF_MEMORY,))
    with pytest.raises(driver.DriverError, match="cuCall failed: CUDA_ERROR_INVALID_VALUE"):
        driver.require("cuCall", (real.CUresult.CUDA_ERROR_INVALID_VALUE,))
