"""The emulation catches whoever breaks a rule of device.cuh, and names the rule."""

from __future__ import annotations

import ctypes
import re

import pytest
import torch

from impls.cuda import emulator
from impls.cuda.emulator import RuleBroken
from impls.cuda.runtime import Kernel, Launch

SOURCE = """
#include "storage.cuh"
struct Arguments { float* out; const float* in; };
constexpr unsigned BAR = 512;
KERNEL(probe, Arguments) {
    const int thread = thread_index(), warp = thread / 32;
    const auto peer = [&](unsigned at) { return peer_address(at, 1 - cluster_rank()); };
    %s
}
"""
KERNEL = Kernel("probe.cu", "probe", (), 64, 1024, cluster=2)
ARM = "if (thread == 0) { transfer_init(BAR); transfer_expect(BAR, 16); } cluster_barrier();"
SEND = "if (thread == 0) send(peer(0), peer(BAR), uint4{1, 2, 3, 4});"
RELAXED = "Word* const word = reinterpret_cast<Word*>(launch.out);"
GROUP_OPERAND = "shared_write(thread * 4, 0.5f); block_barrier();"
COPY = "if (thread == 0) { copy_async(0, launch.in); copy_commit(); }"
COPY_OUT = "if (cluster_rank() + thread == 0) { global_write(launch.out, 1.0f); copy_async(0, launch.out); copy_commit(); }"
WAIT = "if (thread == 0) copy_wait<0>();"
MULTIPLY_GROUP = "float d[1][4] = {}; const Word a[4] = {}; multiply_group<GROUP_BFLOAT16, 8>(d, a, 0);"

RULES = {
    "that nobody wrote": "shared_read<float>(0);",
    "no wait or barrier ordered": "if (thread == 0) shared_write(0, 1.0f); shared_read<float>(0); ",
    "may not have read yet": "if (thread == 0) shared_write(0, 1.0f); block_barrier();"
    "if (thread == 40) shared_read<float>(0); if (thread == 0) shared_write(0, 2.0f);",
    "over a write": "shared_write(0, 1.0f);",
    "misaligned": "shared_read<float>(2);",
    "outside of what was launched": "shared_write(1024, 1.0f);",
    "outside of every output": "global_write(launch.out + 64, 1.0f);",
    "outside of every array": "global_read(launch.in - 1);",
    "while others of its group": "if (thread % 2) warp_barrier(); else shuffle(1.0f, 0);",
    "waits for ever in block_barrier": "if (thread > 0) block_barrier();",
    "waits for ever in named_barrier": "if (warp == 0) named_barrier(1, 64);",
    "waits for ever in transfer_wait": ARM + "transfer_wait(BAR, 0);",
    "before anyone created it": "transfer_wait(BAR, 0);",
    "no barrier published": "if (thread == 0) transfer_init(BAR); if (thread == 63) transfer_expect(BAR, 16);",
    "a second time in one phase": ARM + "if (thread == 0) transfer_expect(BAR, 16);",
    "landed after that block had ended": ARM + SEND,
    "not in the cluster": ARM + "if (thread == 0) send(peer_address(0, 2), peer_address(BAR, 2), uint4{});",
    "misaligned or outside": ARM + "if (thread == 0) send(peer(8), peer(BAR), uint4{});",
    "sends over a value that thread": "shared_write(thread * 4, 1.0f);" + ARM + "shared_read<float>(thread * 4);" + SEND
    + "transfer_wait(BAR, 0);",
    "writes global memory at .* over a write": "global_write(launch.out, 1.0f);",
    "global memory at .* may not have read": "if (cluster_rank() + thread == 0) global_write(launch.out, 1.0f);"
    "cluster_barrier();"
    "if (thread == 40) global_read(launch.out); if (cluster_rank() + thread == 0) global_write(launch.out, 2.0f);",
    "reads global memory at .* ordered": "if (cluster_rank() + thread == 0) global_write(launch.out, 1.0f);"
    "block_barrier(); global_read(launch.out);",
    "another cluster of the launch writes": "if (cluster_rank() + thread == 0) global_write(launch.out, 1.0f);",
    "another cluster of the launch reads": "if (cluster_index() == 1 && cluster_rank() + thread == 0)"
    "global_write(launch.out, 1.0f); else if (cluster_index() == 0) global_read(launch.out);",
    "as a group outside of": GROUP_OPERAND + MULTIPLY_GROUP,
    "as a group what was written after": "group_begin();" + GROUP_OPERAND + MULTIPLY_GROUP + "group_end();",
    "ends between group_begin and group_end": GROUP_OPERAND + "group_begin();" + MULTIPLY_GROUP,
    "calls group_begin a second time": "group_begin(); group_begin();",
    "calls group_end without": "group_end();",
    "reads shared memory at 0 that a copy": COPY + "if (thread == 0) shared_read<float>(0);" + WAIT,
    "writes shared memory at 0 that a copy": COPY + "if (thread == 0) shared_write(0, 1.0f);" + WAIT,
    # A copy is waited for only in a group that was closed, and only in one of those the wait names.
    "reads shared memory at 4 that a copy": COPY + "if (thread == 0) { copy_async(4, launch.in); copy_wait<0>();"
    "shared_read<float>(4); }",
    "reads shared memory at 8 that a copy": COPY + "if (thread == 0) { copy_async(8, launch.in); copy_commit(); copy_wait<1>();"
    "shared_read<float>(0); shared_read<float>(8); }",
    "writes shared memory at 0 that another thread": "if (thread == 40) shared_write(0, 1.0f); block_barrier();"
    "if (thread == 40) shared_read<float>(0);" + COPY + WAIT,
    "reads shared memory at 0 whose write no wait or barrier": COPY + WAIT + "if (thread == 40) shared_read<float>(0);",
    # The barrier has to come after the wait.
    "thread 41: reads shared memory at 0 ": COPY + "block_barrier();" + WAIT + "if (thread == 41) shared_read<float>(0);",
    "writes global memory at .* read yet": COPY_OUT + "if (cluster_rank() + thread == 0)"
    "global_write(launch.out, 2.0f);" + WAIT,
    "ends before it has waited for its copies": COPY,
    "touches shared memory misaligned": "if (thread == 0) copy_async(8, reinterpret_cast<const uint4*>(launch.in));",
    "touches global memory misaligned": "if (thread == 0) copy_async(0, reinterpret_cast<const uint4*>(launch.in + 1));",
    "in another size than before": "if (cluster_rank() + thread == 0) {" + RELAXED + "relaxed_write(word, 1); "
    "relaxed_write(reinterpret_cast<Pair*>(word), 1); }",
    "as if it were ordered": "if (cluster_rank() + thread == 0) {" + RELAXED + "relaxed_write(word, 1);"
    "global_read(launch.out); }",
    "writes a relaxed word over a write": RELAXED + "relaxed_write(word, 1);",
    "reads relaxed what no block writes": "relaxed_read(reinterpret_cast<const uint4*>(launch.in));",
    "in warp_any": "if (thread % 2) warp_any(true); else shuffle(1.0f, 0);",
    "sends over a value whose write": ARM + "shared_write(thread * 4, 1.0f);" + SEND + "transfer_wait(BAR, 0);",
}  # fmt: skip


def run(body: str, seed: int, clusters: int = 1) -> torch.Tensor:
    class Arguments(ctypes.Structure):
        _fields_ = [("out", ctypes.c_void_p), ("input", ctypes.c_void_p)]

    out, given = torch.full((64,), torch.nan), torch.arange(64.0)
    launch = Launch(KERNEL, (2 * clusters, 1, 1), Arguments(out.data_ptr(), given.data_ptr()), [given], [out])
    emulator.run(launch, emulator.library(SOURCE % body, ("-Wno-unused",)), seed)
    return out


@pytest.mark.parametrize("complaint", RULES)
def test_a_broken_rule_is_named(complaint):
    said = set()
    for seed in range(20):  # which of two unordered accesses comes first is chance, and some sends land in time
        try:
            run(RULES[complaint], seed, 1 + ("another cluster" in complaint))
        except RuleBroken as broken:
            said.add(str(broken))
    assert any(re.search(complaint, text) for text in said), said


@pytest.mark.parametrize("seed", range(5))
def test_a_send_that_was_waited_for_may_be_read(seed):
    body = (
        ARM
        + SEND
        + "transfer_wait(BAR, 0);"
        + "if (cluster_rank() == 0 && thread < 4)"
        + "global_write(launch.out + thread, bits_to_float(shared_read<Word>(thread * 4)));"
    )
    assert run(body, seed)[:4].view(torch.int32).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("piece", ["float", "float2", "uint4"])
def test_a_copy_is_for_all_after_its_wait_and_a_barrier(piece):
    body = f"""constexpr int N = sizeof({piece}) / 4;
    if (thread < 16 / N) copy_async(thread * 4 * N, reinterpret_cast<const {piece}*>(launch.in) + thread);
    copy_commit();
    if (thread < 16 / N) copy_async(64 + thread * 4 * N, reinterpret_cast<const {piece}*>(launch.in + 16) + thread);
    copy_commit();
    copy_wait<1>();
    block_barrier();
    if (cluster_rank() == 0 && thread < 16) global_write(launch.out + thread, shared_read<float>(thread * 4));
    copy_wait<0>();
    block_barrier();
    if (cluster_rank() == 0 && thread < 16) global_write(launch.out + 16 + thread, shared_read<float>(64 + thread * 4));"""
    for seed in range(5):
        assert run(body, seed)[:32].tolist() == list(range(32))


def test_a_source_may_change_once_its_copy_was_waited_for():
    body = COPY_OUT + "if (cluster_rank() + thread == 0) { copy_wait<0>(); global_write(launch.out, 2.0f);"
    assert run(body + "global_write(launch.out + 1, shared_read<float>(0)); }", 0)[:2].tolist() == [2.0, 1.0]


def test_what_was_not_written_stays_poisoned():
    assert (
        run("if (cluster_rank() == 0 && thread > 0) global_write(launch.out + thread, global_read(launch.in + thread));", 0)
        .isnan()
        .tolist()
        == [True] + [False] * 63
    )


def look(body: str) -> set[tuple[int, int]]:
    """What thread 0 of block 1 found under some orders of threads in `first` and `second`, where that of block 0 wrote."""
    begin = RELAXED + "auto at = [&](int i) { return relaxed_read(reinterpret_cast<const uint4*>(word + i)).x; };"
    begin += "const bool writes = cluster_rank() + thread == 0, reads = cluster_rank() == 1 && thread == 0;"
    begin += "Word first = 0, second = 0;"
    begin += "const auto keep = [&](int i, Word value) { global_write(launch.out + 32 + i, bits_to_float(value)); };"
    end = "if (reads) { keep(0, first); keep(1, second); }"
    found = (run(begin + body + end, seed)[32:34].view(torch.int32) for seed in range(40))
    return {(int(first), int(second)) for first, second in found}


WRITE = "if (writes) { relaxed_write(word, 1); relaxed_write(word, 2); relaxed_write(word + 4, 2); }"
POISON = torch.tensor(torch.nan).view(torch.int32).item()


def test_a_relaxed_read_may_be_late_but_never_goes_back():
    found = look(WRITE + "if (reads) { first = at(0); second = at(0); }")
    order = [POISON, 1, 2]
    assert {first for first, _ in found} == set(order), "any value that the word has had"
    assert all(order.index(second) >= order.index(first) for first, second in found)
    assert (1, 2) in found and (1, 1) in found


def test_relaxed_words_are_ordered_for_nobody_but_by_a_barrier():
    assert (2, POISON) in look(WRITE + "if (reads) { first = at(4); second = at(0); }")
    assert look(WRITE + "cluster_barrier(); if (reads) { first = at(4); second = at(0); }") == {(2, 2)}


def test_what_another_was_known_to_have_read_does_not_go_back():
    """Thread 32 reads, a barrier, then thread 0 reads: never what was there before."""
    body = "if (cluster_rank() == 1 && thread == 32) shared_write(0, at(0)); block_barrier();"
    found = look(WRITE + body + "if (reads) { first = shared_read<Word>(0); second = at(0); }")
    order = [POISON, 1, 2]
    assert len(found) > 3 and all(order.index(second) >= order.index(first) for first, second in found)


def test_a_source_that_does_not_compile_says_why():
    with pytest.raises(RuntimeError, match="could not build"):
        run("no such thing;", 0)


HALVES = [0.0, -0.0, 1.0, -2.5, 65504.0, 65520.0, 1e6, 6e-8, 2.9e-8, 5.96e-8, 6.1e-5, 0.1, float("inf"), float("nan")]


@pytest.mark.parametrize("value", HALVES)
def test_float16_is_rounded_as_everywhere(value):
    literal = repr(value).replace("inf", "INFINITY").replace("nan", "NAN")
    found = run(
        f"if (cluster_rank() == 0) global_write(launch.out + thread, float16_to_float(pack_float16({literal}, 0) & 0xffff));", 0
    )
    assert found[0].item() == pytest.approx(torch.tensor(value).half().float().item(), rel=0, abs=0, nan_ok=True)
