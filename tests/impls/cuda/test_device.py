"""Both bodies of device.cuh offer the same functions, and the PTX body keeps the promises of order that no emulation sees."""

from __future__ import annotations

import re

import pytest

from impls.cuda.emulator import EMULATOR
from impls.cuda.runtime import FOLDER

PTX, HOST = (FOLDER / "device_ptx.cuh").read_text(), (EMULATOR / "device_host.hpp").read_text()
# PTX manual, "Memory consistency model", "mbarrier", "barrier.cluster" and "st.async": what each promise takes.
ORDER = {
    "cluster_barrier": ("barrier.cluster.arrive.release", "barrier.cluster.wait.acquire"),
    "transfer_wait": ("mbarrier.try_wait.parity.acquire.cluster", "while (!done)"),
    "transfer_expect": ("mbarrier.arrive.expect_tx.shared::cta",),
    "send": ("st.async", ".mbarrier::complete_tx::bytes"),
    "named_barrier": ("bar.sync",),
    "copy_async": ("cp.async.cg.shared.global [%0], [%1], 16", "cp.async.ca.shared.global [%0], [%1], %2"),
    "copy_commit": ("cp.async.commit_group",),
    "copy_wait": ("cp.async.wait_group %0",),
    "grid_fence": ("fence.sc.gpu",),
    "counter_release": ("red.release.gpu",),
    "counter_acquire": ("ld.acquire.gpu",),
    "relaxed_read": ("ld.relaxed.gpu",),
    "relaxed_write": ("st.relaxed.gpu",),
    "report": ("st.relaxed.sys",),
    "group_begin": ("fence.proxy.async.shared::cta", "wgmma.fence.sync.aligned"),
    "group_end": ("wgmma.commit_group.sync.aligned", "wgmma.wait_group.sync.aligned 0"),
}


def bodies(name: str) -> list[str]:
    """The text of every definition of a function in the PTX body."""
    start = rf"^(?:template <[\w ]*> )?DEVICE [\w ]*\b{name}\("
    return re.findall(rf"{start}[^\n]*\}}$|{start}.*?^\}}$", PTX, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", ORDER)
def test_the_ptx_body_orders_memory_as_promised(name: str):
    found = bodies(name)
    assert found, f"{name} is not in device_ptx.cuh"
    for body in found:
        for promise in ORDER[name]:
            assert promise in body, f"{name} lost {promise}"
        assert '"memory"' in body, f"the compiler may move memory accesses across {name}"


def test_both_bodies_offer_the_same_functions():
    defined = set(re.findall(r"^(?:template .*)?DEVICE [\w ]+?\b(\w+)\(", PTX, flags=re.MULTILINE))
    defined |= set(re.findall(r"^MULTIPLY\((\w+),", PTX, flags=re.MULTILINE))
    own = {"shared_address", "group_operand", "name"}  # of the PTX body itself
    offered = set(re.findall(r"^(?:template .*?)?inline [\w ]+?\b(\w+)\(", HOST, flags=re.MULTILINE))
    offered |= set(re.findall(r"^template <.*?> \w+ (\w+)\(", HOST, flags=re.MULTILINE))
    offered |= set(re.findall(r"^using emulation::(\w+);", HOST, flags=re.MULTILINE))
    assert defined - own == offered - {"round_bfloat16"}
