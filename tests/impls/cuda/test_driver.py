"""Launches, and questions to the driver, on two devices that do not exist: a driver that writes down what it is asked."""

from __future__ import annotations

import contextlib
import ctypes
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from impls import Unavailable
from impls.backends._cuda import driver
from impls.backends._cuda.kernels import Kernel, Launch, Refused
from impls.backends._cuda.plan import choose
from impls.backends._cuda.stream import choose_stream

real = pytest.importorskip("cuda.bindings.driver", reason="pip install cuda-bindings")

SUCCESS = real.CUresult.CUDA_SUCCESS
LARGE = Kernel("", "function", (), threads=64, shared_bytes=100_000, cluster=16)


class Arguments(ctypes.Structure):
    _fields_ = [("number", ctypes.c_int)]


class Devices:
    """Two of them. `events` is what happened, with the device that was current then."""

    def __init__(self, tmp_path: Path) -> None:
        self.current, self.events, self.active, self.shared_limit, self.version = 0, [], 6, 227 << 10, 13000
        self.refused: dict[str, str] = {}
        self.bindings = SimpleNamespace(**{name: getattr(real, name) for name in dir(real) if name.startswith("CU")})
        for call in ("cuModuleLoadData", "cuModuleGetFunction", "cuFuncSetAttribute", "cuLaunchKernelEx",
                     "cuOccupancyMaxActiveClusters", "cuDeviceGet", "cuDeviceGetAttribute", "cuDriverGetVersion"):  # fmt: skip
            setattr(self.bindings, call, lambda *arguments, call=call: self.answer(call, arguments))
        self.code = tmp_path / "code.cubin"
        self.code.write_bytes(b"code")

    def answer(self, call: str, arguments: tuple) -> tuple:
        self.events.append((call, self.current, *arguments))
        if call in self.refused:
            return (getattr(real.CUresult, self.refused[call]),)
        function = real.CUfunction(50 + self.current)
        given = {
            "cuModuleLoadData": (self.current,), "cuModuleGetFunction": (function,), "cuDeviceGet": (self.current,),
            "cuOccupancyMaxActiveClusters": (self.active,), "cuDeviceGetAttribute": (self.shared_limit,),
            "cuDriverGetVersion": (self.version,),
        }  # fmt: skip
        return SUCCESS, *given.get(call, ())

    @contextlib.contextmanager
    def device(self, device: torch.device) -> Iterator[None]:
        before, self.current = self.current, torch.device(device).index
        yield
        self.current = before

    def launches(self) -> list[tuple[int, int, int]]:
        """Of each: the device that was current, the function, the stream."""
        return [(at, int(function), int(config.hStream)) for call, at, config, function, *_ in
                (event for event in self.events if event[0] == "cuLaunchKernelEx")]  # fmt: skip

    def count(self, call: str) -> int:
        return sum(event[0] == call for event in self.events)


@pytest.fixture
def devices(monkeypatch, tmp_path) -> Devices:
    made = Devices(tmp_path)
    for cached in (driver._function, driver.occupancy, driver.shared_limit):
        cached.cache_clear()
    monkeypatch.setattr(driver, "bindings", lambda: made.bindings)
    monkeypatch.setattr(driver, "cubin", lambda kernel, target: made.code)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device", made.device)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: made.current)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=100 + device.index))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=0: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(multi_processor_count=78))
    yield made
    for cached in (driver._function, driver.occupancy, driver.shared_limit):
        cached.cache_clear()


def launch_on(index: int, kernel: Kernel = LARGE) -> Launch:
    return Launch(kernel, (32, 2, 1), Arguments(7), [], [SimpleNamespace(device=torch.device("cuda", index))])  # type: ignore


def test_a_launch_runs_on_its_tensors_device_and_that_devices_stream(devices):
    launcher = driver.Driver()
    for index in (1, 0, 1, 1):
        launcher(launch_on(index))
        assert devices.current == 0
    assert devices.launches() == [(1, 51, 101), (0, 50, 100), (1, 51, 101), (1, 51, 101)]
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


def test_the_driver_is_asked_how_many_clusters_run_at_once(devices):
    plan = choose(256, 8, 1, torch.bfloat16, (9, 0), **driver.room())
    asked = [config for call, _, _, config in (e for e in devices.events if e[0] == "cuOccupancyMaxActiveClusters")]
    assert {config.attrs[0].value.clusterDim.x for config in asked} == {4, 8, 16}
    assert "asked of the driver" in plan.reason
    assert driver.resident_clusters(Kernel("", "", (), 64, 0)) == 78


@pytest.mark.parametrize("call, name", [
    ("cuOccupancyMaxActiveClusters", "CUDA_ERROR_INVALID_CLUSTER_SIZE"),
    ("cuFuncSetAttribute", "CUDA_ERROR_INVALID_VALUE"),
])  # fmt: skip
def test_a_cluster_that_the_device_does_not_have_has_no_room_and_another_design_runs(devices, call, name):
    devices.refused[call] = name
    assert driver.resident_clusters(LARGE) == 0
    plan = choose(768, 8, 1, torch.bfloat16, (12, 0), **driver.room())  # C = 16 alone
    assert plan.design == "tensor_step" and "no room" in plan.reason


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
    assert driver.resident_clusters(Kernel("", "", (), 64, 100 << 10)) == 0
    for hidden in (64, 256, 512, 768):
        plan = choose(hidden, 8, 1, torch.bfloat16, (12, 0), **driver.room())
        for shape in (plan.forward, plan.backward):
            kernels = [] if shape is None else [shape.forward_kernel(), shape.backward_kernel()]
            assert all(kernel.shared_bytes <= 99 << 10 for kernel in kernels)
        assert plan.design == ("tensor_step" if hidden == 768 else "cluster")
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
