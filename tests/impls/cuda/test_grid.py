"""The persistent-grid kernels: right under the emulation, wrong without any one of their tags, barriers and buffers."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from bench.worker.agreement import Disagreement
from impls.cuda import runtime
from impls.cuda.emulator import Emulation, RuleBroken
from impls.cuda.runtime import (
    BFLOAT16,
    FLOAT16,
    FOLDER,
    TENSORFLOAT32,
    LaunchFailed,
    Refused,
    Storage,
    raise_if_failed,
    status_of,
)
from impls.cuda.runtime.compile import CompilationFailed, compile_kernel
from impls.cuda.select import DESIGNS, Memory, Plan, choose
from impls.cuda.select.grid import GRID, GRID_BACKWARD, GridShape
from impls.cuda.select.steps import TensorSteps
from impls.cuda.torch import ops, recurrence
from impls.cuda.torch.module import LSTM
from tests.impls.cuda.compiled import compiled
from tests.impls.cuda.emulated import STORAGES, Remembering, Rewritten, case, check, with_headers

HOPPER = (9, 0)
# hidden, steps, batch, cut forward, cut backward; groups count for 16 bits, and twice of them for TF32
CUTS = [
    (51, 5, 11, {"groups": 1, "units": 8}, {"groups": 4, "units": 16}),  # two rounds, an odd H
    (5, 3, 1, {"groups": 1, "units": 4}, {"groups": 1, "units": 16}),
    (60, 6, 19, {"groups": 2, "units": 12, "phases": 2, "copies": 2, "resident": 1, "at_once": 1, "warps": 1},
     {"groups": 4, "units": 16, "tiles": 2, "phases": 2, "resident": 1, "at_once": 2, "buffers": 1}),
    (64, 2, 9, {"groups": 1, "units": 16, "tiles": 2, "buffers": 1}, {"groups": 4, "units": 32, "copies": 2}),
    (64, 33, 3, {"groups": 1, "units": 32}, {"groups": 4, "units": 32, "resident": 0}),
    (100, 1, 2, {"groups": 2, "units": 20}, {"groups": 8, "units": 16}),
]  # fmt: skip


def shape(dtype: str, backward: bool = False, **cut) -> GridShape:
    storage = STORAGES[dtype]
    given = {"warps": 2, **cut, "groups": cut["groups"] * 2 // storage.per_word}
    return GridShape(storage=storage, backward=backward, **given)


def grid_plan(dtype: str, forward: dict, backward: dict, memory: Memory = "saved", **rest) -> Plan:
    return Plan(shape(dtype, **forward), shape(dtype, True, **backward), STORAGES[dtype].dtype, memory, "for a test", **rest)


SMALL = grid_plan("bfloat16", {"groups": 1, "units": 8}, {"groups": 4, "units": 16})
ONE_BUFFER = grid_plan("bfloat16", {"groups": 1, "units": 8, "buffers": 1}, {"groups": 4, "units": 16, "buffers": 1})
UNEVEN = grid_plan("bfloat16", {"groups": 1, "units": 12}, {"groups": 4, "units": 16})


@pytest.mark.parametrize("dtype, cut", [*(("bfloat16", cut) for cut in CUTS), ("float16", CUTS[2]), ("tensorfloat32", CUTS[2]),
                                        ("tensorfloat32", CUTS[3])])  # fmt: skip
def test_a_grid_trains_whatever_the_cut(dtype, cut):
    hidden, steps, batch, forward, backward = cut
    check(case(hidden, steps, batch, dtype, bidirectional=True), grid_plan(dtype, forward, backward))


@pytest.mark.parametrize("dtype", STORAGES)
def test_rebuilt_gates_stacked_and_one_direction_after_the_other(dtype):
    hidden, steps, batch, forward, backward = CUTS[0]
    plan = grid_plan(dtype, forward, backward, "rebuilt", apart=True)
    check(case(hidden, steps, batch, dtype, num_layers=2, bidirectional=True), plan)


def test_without_bias_without_training_and_step_by_step():
    check(case(32, 5, 3, phase="forward", bias=False), SMALL)
    check(case(32, 5, 3, phase="step", num_layers=2), SMALL)
    check(case(64, 5, 3), replace(SMALL, backward=TensorSteps(BFLOAT16, 1)))  # backward by a launch a step


def test_a_long_memory():
    check(case(32, 1024, 2, of=Remembering), SMALL)


@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_threads_and_any_staleness_gives_the_same(seed):
    check(case(64, 7, 9), SMALL, Emulation(seed))


def run(plan: Plan, seed: int = 0, launcher=None, *, where: int | None = None, large: float = 3.0, bare: bool = False):
    """y, h_n and c_n of a layer in two directions by the kernel and by plain PyTorch.

    where: a unit that begins as NaN. bare: without initial states and lengths.
    """
    steps, batch, hidden, lengths = 5, 4, 60, torch.tensor([5, 0, 3, 5], dtype=torch.int32)
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(steps, batch, 4 * hidden, generator=draw).to(plan.dtype)
    weight_hh = (torch.randn(2, 4 * hidden, hidden, generator=draw) / hidden**0.5).to(plan.dtype).unbind()
    h0 = (large * torch.randn(2, batch, hidden, generator=draw)).to(plan.dtype)
    c0 = torch.randn(2, batch, hidden, generator=draw)
    if where is not None:
        c0[0, 0, where] = c0[1, 2, where] = torch.nan
    states, given = ((None, None), None) if bare else ((h0, c0), lengths)
    weight_ih = [torch.eye(4 * hidden, dtype=plan.dtype)] * 2
    y, *last = ops.plain_lstm_layer(x, (weight_ih, weight_hh, []), *states, lengths=given)
    if not bare:
        beyond = torch.arange(steps)[:, None] >= lengths  # where plain PyTorch makes zero times NaN
        y = y.masked_fill(beyond[..., None], 0.0)
    launcher, projected = launcher or Emulation(seed), [x.view(steps * batch, 4 * hidden)] * 2
    weights = recurrence.pack(plan, launcher, weight_hh)
    found = recurrence.forward(plan, launcher, weights, projected, states, steps=steps, lengths=given)
    return (found.y, found.h_n, found.c_n), (y, *last)


@pytest.mark.parametrize("dtype", STORAGES)
def test_without_initial_states_and_lengths(dtype):
    for found, expected in zip(*run(grid_plan(dtype, CUTS[0][3], CUTS[0][4]), bare=True), strict=True):
        torch.testing.assert_close(found.float(), expected.float(), rtol=0.02, atol=0.02)


def test_gradients_without_states_are_those_with_zeros():
    plan, (steps, batch, hidden) = SMALL, (4, 3, 60)
    draw = torch.Generator().manual_seed(0)

    def some(*sizes: int, dtype=torch.float32) -> torch.Tensor:
        return (torch.rand(sizes, generator=draw) - 0.5).to(dtype)

    weights = [some(4 * hidden, hidden, dtype=plan.dtype) for _ in range(2)]
    gates = [some(steps, batch, 4, hidden, dtype=plan.dtype) for _ in range(2)]
    cells, grad_y = some(2, steps, batch, hidden), some(steps, batch, 2 * hidden, dtype=plan.dtype)
    nothing = torch.zeros(2, batch, hidden)
    full = torch.full((batch,), steps, dtype=torch.int32)
    given = [(None, None, (grad_y, None, None)), (nothing, full, (grad_y, nothing, nothing))]
    bare, zeros = (
        recurrence.backward(plan, Emulation(), weights, gates, cells, c0, lengths=lengths, grads=grads)
        for c0, lengths, grads in given
    )
    assert all(torch.equal(*each) for each in zip(bare, zeros, strict=True)) and bare[1].abs().max() > 0


@pytest.mark.parametrize("dtype", STORAGES)
@pytest.mark.parametrize("where", [20, 21, 59])  # an even unit, an odd one, the last
def test_a_nan_reaches_every_unit_at_the_next_step(dtype, where):
    plan = grid_plan(dtype, CUTS[0][3], CUTS[0][4])
    for found, expected in zip(*run(plan, where=where), strict=True):
        assert torch.equal(found.isnan(), expected.isnan()) and found.isnan().any() and not found.isnan().all()


@pytest.mark.parametrize("dtype", STORAGES)
def test_initial_states_have_any_size(dtype):
    plan = grid_plan(dtype, CUTS[0][3], CUTS[0][4])
    for found, expected in zip(*run(plan, large=1000.0), strict=True):
        torch.testing.assert_close(found.float(), expected.float(), rtol=0.02, atol=0.02)


# Mutations. Of each: the source, what it says, what it says instead, and the plan that notices.
ORDERING = re.compile(r"\b\w*barrier\([^;]*\);")
SOURCES = ("grid_forward.cu", "grid_backward.cu")
BROKEN = (RuleBroken, Disagreement, LaunchFailed)
BARRIERS = [(source, number) for source in SOURCES for number in range(2)]
PUBLISHES = "if (valid) {\n                        Word*"
WRONG = [
    # Every one of the four words says for itself whether it has come.
    *(("grid_forward.cu", f"(word.{part} ^ tag)", "0u", SMALL) for part in "xyzw"),
    *(("grid_backward.cu", f"return ((v.{part} ^ tag)", "return (0u", SMALL) for part in "y"),
    ("grid_backward.cu", "(v.y ^ tag) | (v.w ^ tag)) & TAG;\n    else", "(v.y ^ tag)) & TAG;\n    else", SMALL),
    ("grid_forward.cu", "if (!warp_any(late)) break;", "break;", SMALL),
    ("grid_forward.cu", "if (!warp_any(late)) break;", "if (!late) break;", SMALL),
    ("grid_backward.cu", "if (!warp_any(late)) break;", "break;", SMALL),
    ("grid_backward.cu", "if (!warp_any(late)) break;", "if (!late) break;", SMALL),
    # What is written says of which use of its buffer it is.
    ("grid_forward.cu", "is_odd_use(step + 1) ? TAG : 0", "TAG", SMALL),
    ("grid_backward.cu", "is_odd_use(step + 1) ? TAG : 0", "TAG", SMALL),
    ("grid_forward.cu", "((step - 1) >> 1 & 1) == 0", "(step & 1) == 0", SMALL),
    ("grid_forward.cu", "word.y & ~TAG", "word.y", SMALL),
    # Two buffers take turns.
    ("grid_forward.cu", "(step & 1)) * launch.groups", "0) * launch.groups", SMALL),
    ("grid_backward.cu", "(step & 1)) * launch.groups", "0) * launch.groups", SMALL),
    ("grid_forward.cu", "else buffer ^= 1;", "", SMALL),
    ("grid_backward.cu", "else buffer ^= 1;", "", SMALL),
    # A lost publication, and words that nobody computes.
    ("grid_forward.cu", "if (is_there && !(unit & 1)) {", "if (is_there && !(unit & 1) && unit != 6) {", SMALL),
    ("grid_backward.cu", PUBLISHES, PUBLISHES.replace("(valid", "(valid && unit != 6"), SMALL),
    ("grid_forward.cu", "relaxed_write(at + 2, tag);", ";", UNEVEN),
    # Starts, states and ends.
    ("grid_forward.cu", "if (starts) word", "if (false) word", SMALL),
    ("grid_forward.cu", "steps - global_read(d.lengths + n) : 0", "0 : 0", SMALL),
    ("grid_forward.cu", "t == (d.reverse ? 0", "t == (d.reverse ? 1", SMALL),
    ("grid_forward.cu", "if (state.length == 0) {", "if (false) {", SMALL),
    ("grid_backward.cu", "live ? 0.0f : into_h", "0.0f", SMALL),
    ("grid_backward.cu", "if (live) into_h +=", "into_h +=", SMALL),
]  # fmt: skip


def wrong(source: str, change, plan: Plan) -> None:
    """Raises what notices the change, under one of some orders of threads. Whatever is reported is taken back."""
    for seed in range(4):
        try:
            check(case(60, 6, 5, bidirectional=True), plan, Rewritten(source, change, seed))
            found, expected = (run(plan, seed, launcher)[0] for launcher in (Rewritten(source, change, seed), Emulation(seed)))
            if not all(torch.equal(*each) for each in zip(found, expected, strict=True)):
                raise Disagreement("another value than the unchanged kernel's")
        finally:
            status_of(torch.device("cpu")).zero_()


@pytest.mark.parametrize("plan", [SMALL, ONE_BUFFER, UNEVEN], ids=["two buffers", "one buffer", "uneven"])
def test_the_unchanged_sources_are_right(plan):
    for source in SOURCES:
        wrong(source, with_headers, plan)


@pytest.mark.parametrize("source, number", BARRIERS)
def test_without_any_one_barrier_a_rule_is_broken(source, number):
    found = list(ORDERING.finditer((FOLDER / source).read_text()))
    assert len(found) == len(BARRIERS) // len(SOURCES)
    start, end = found[number].span()
    with pytest.raises(RuleBroken):
        wrong(source, lambda text: text[:start] + ";" + text[end:], ONE_BUFFER)


@pytest.mark.parametrize("source, right, other, plan", WRONG)
def test_a_wrong_tag_buffer_or_state_is_noticed(source, right, other, plan):
    def change(text):
        whole = with_headers(text)
        assert right in whole
        return whole.replace(right, other)

    with pytest.raises(BROKEN):
        wrong(source, change, plan)


def test_a_nan_of_an_odd_unit_that_is_not_passed_on_is_noticed():
    launcher = Rewritten("grid_forward.cu", lambda text: with_headers(text).replace("odd != odd ? odd : h", "h"))
    (y, *_), (expected, *_) = run(SMALL, launcher=launcher, where=21)
    assert not torch.equal(y.isnan(), expected.isnan())


@pytest.mark.parametrize("source, right", [("grid_forward.cu", "(is_there && !(unit & 1)"), ("grid_backward.cu", PUBLISHES)])
def test_a_lost_publication_ends_with_a_sentence(source, right):
    """The launch ends, and the sentence is said once; what comes after is as if nothing had been."""
    launcher = Rewritten(source, lambda text: with_headers(text).replace(right, right.replace("(", "(unit != 6 && ", 1)))
    with pytest.raises(LaunchFailed, match=r"block \d+ waited too long"):
        check(case(60, 6, 5), SMALL, launcher)
    raise_if_failed(torch.device("cpu"))
    check(case(32, 3, 2), SMALL)


def test_what_follows_a_lost_publication_is_nan(monkeypatch):
    monkeypatch.setattr(recurrence, "raise_if_failed", lambda device: None)
    right = "(is_there && !(unit & 1)"
    (y, *_), _ = run(
        SMALL, launcher=Rewritten("grid_forward.cu", lambda text: with_headers(text).replace(right, right + " && unit != 6"))
    )
    assert y[:1, 0, :60].isfinite().all() and y[1:, 0, :60].isnan().all()
    with pytest.raises(LaunchFailed):
        raise_if_failed(torch.device("cpu"))


def test_each_device_has_one_status_by_whatever_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    words = {name: torch.zeros(1) for name in ("cuda:0", "cuda:1", "cpu")}
    monkeypatch.setattr(runtime, "_status", lambda device: words[str(device)])
    assert status_of(torch.device("cuda")) is words["cuda:1"] and status_of(torch.device("cuda:0")) is words["cuda:0"]
    assert status_of(torch.device("cpu")) is words["cpu"]


def test_a_failure_of_an_earlier_launch_is_said_by_the_next():
    status_of(torch.device("cpu")).fill_(8)
    with pytest.raises(LaunchFailed, match="block 7 waited"):
        check(case(32, 3, 2), SMALL)
    check(case(32, 3, 2), SMALL)


# What the chooser does where the design is asked for.


@pytest.mark.parametrize("hidden", [1, 300, 512, 670, 768, 1000, 1024, 1150, 1536, 1700, 2048])
@pytest.mark.parametrize("batch, directions", [(1, 1), (1, 2), (8, 1), (64, 2), (300, 1)])
def test_a_grid_takes_every_hidden_size_and_batch_in_16_bits(hidden, batch, directions):
    plan = choose(hidden, batch, directions, torch.bfloat16, HOPPER, design="grid")
    assert plan.design == "grid" and plan.reason.startswith("asked for")
    together = 1 if plan.apart else directions
    for cut in (plan.forward, plan.backward):
        assert isinstance(cut, GridShape) and cut.hidden >= hidden and cut.blocks(hidden) * together <= 132
        spread = cut.spread(hidden, batch)
        assert spread.rounds * cut.copies * cut.phases * spread.columns >= batch and spread.columns <= 8 * cut.tiles
    assert plan.words().startswith("grid, saved: forward Bfloat16")


@pytest.mark.parametrize("resident", [132, 128, 120, 114, 108])
def test_fewer_multiprocessors_get_another_cut_or_a_reason(resident):
    for hidden in (512, 1024, 1536, 2048):
        try:
            plan = choose(hidden, 8, 1, torch.bfloat16, HOPPER, design="grid", resident=lambda kernel: resident)
        except Refused as refused:
            assert re.search(rf"\d+ blocks have to be resident at once, and the GPU holds {resident}", str(refused))
            assert hidden > 1536 and resident < 128
            continue
        assert isinstance(plan.forward, GridShape) and plan.forward.blocks(hidden) <= resident
        if not isinstance(plan.backward, GridShape):
            assert "backward step by step" in plan.reason and hidden > 1536


@pytest.mark.parametrize(
    "hidden, dtype, rest, complaint",
    [
        (2049, torch.bfloat16, {}, "no cut for hidden size 2049"),
        (1024, torch.bfloat16, {"resident": lambda kernel: 20}, "32 blocks have to be resident at once, and the GPU holds 20"),
        (1024, torch.bfloat16, {"shared_limit": 1024}, "a block has 1024 bytes of shared memory here"),
        (1024, torch.float32, {}, "exact float32"),
    ],
)
def test_a_grid_that_cannot_be_is_refused_with_its_reason(hidden, dtype, rest, complaint):
    with pytest.raises(Refused, match=complaint):
        choose(hidden, 8, 1, dtype, HOPPER, design="grid", **rest)


@pytest.mark.parametrize("hidden, design", [(256, "cluster"), (1024, "grid"), (2048, "grid")])
def test_auto_chooses_a_grid_where_it_is_fastest(hidden, design):
    assert choose(hidden, 8, 1, torch.bfloat16, HOPPER).design == design and design in DESIGNS


@pytest.mark.parametrize(
    "cut", [{"groups": 4, "units": 6}, {"groups": 4, "units": 8, "at_once": 3}, {"groups": 4, "units": 8, "buffers": 3}]
)
def test_a_cut_that_does_not_divide_is_refused(cut):
    with pytest.raises(Refused, match="cannot be cut so"):
        shape("bfloat16", **cut)


def test_the_module_runs_on_a_grid_where_it_is_asked_for():
    """Through the operators, with the cut that the chooser takes; gradients too."""
    torch.manual_seed(0)
    module = LSTM(6, 21, bidirectional=True, design="grid", dtype=torch.bfloat16)
    x = torch.randn(4, 3, 6, dtype=torch.bfloat16, requires_grad=True)
    y, (_, c_n) = module(x)
    (y.float().square().sum() + c_n.float().sum()).backward()
    found = [y, c_n, x.grad, module.weight_hh_l0.grad, module.weight_ih_l0_reverse.grad, module.bias_hh_l0.grad]
    plain = module.to_torch().float()
    plain.zero_grad()
    x = x.detach().float().requires_grad_()
    y, (_, c_n) = plain(x)
    (y.square().sum() + c_n.sum()).backward()
    expected = [y, c_n, x.grad, plain.weight_hh_l0.grad, plain.weight_ih_l0_reverse.grad, plain.bias_hh_l0.grad]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours is not None and theirs is not None
        torch.testing.assert_close(ours.float(), theirs, rtol=0.05, atol=0.05)


# Compiled without a GPU.

# Registers a thread takes at most on sm_90a, in steps of 8 as they are given out: by hidden size, units, tiles and phases.
REGISTERS = {
    (BFLOAT16, False): {
        (512, 8, 1, 1): 112, (512, 16, 1, 1): 160, (512, 16, 4, 1): 232, (768, 8, 1, 1): 152, (768, 12, 1, 1): 160,
        (768, 12, 4, 1): 232, (1024, 8, 1, 1): 152, (1024, 16, 1, 1): 216, (1024, 32, 1, 1): 255, (1024, 16, 4, 1): 248,
        (1280, 12, 1, 1): 216, (1280, 20, 1, 1): 255, (1536, 12, 1, 1): 240, (1536, 16, 1, 1): 255, (1536, 12, 2, 1): 255,
        (1792, 16, 1, 1): 255, (2048, 16, 1, 1): 255, (2048, 16, 1, 2): 255, (2048, 20, 1, 1): 255,
    },
    (BFLOAT16, True): {
        (512, 16, 1, 1): 160, (512, 16, 2, 1): 208, (768, 16, 1, 1): 232, (768, 16, 2, 1): 240, (1024, 16, 1, 1): 232,
        (1024, 16, 2, 1): 255, (1536, 16, 1, 1): 255, (1536, 16, 2, 1): 240, (2048, 16, 1, 1): 224, (2048, 16, 2, 1): 208,
    },
    (TENSORFLOAT32, False): {
        (512, 8, 1, 1): 144, (512, 16, 1, 1): 216, (768, 12, 1, 1): 232, (1024, 8, 1, 1): 232, (1024, 16, 1, 1): 255,
        (1536, 12, 1, 1): 248,
    },
    (TENSORFLOAT32, True): {(512, 16, 1, 1): 224, (768, 16, 1, 1): 248, (1024, 16, 1, 1): 248},
}  # fmt: skip


def shipped(storage: Storage, backward: bool) -> list[GridShape]:
    return list((GRID_BACKWARD if backward else GRID)[storage])


# float16 differs from bfloat16 by the product's type and conversions, and is compiled for one target alone. For sm_120, where
# NVRTC spills registers of the backward cuts, the chooser takes none of them.
@pytest.mark.parametrize(
    "target, backward, storages",
    [
        *((target, backward, (BFLOAT16, TENSORFLOAT32)) for target in ("sm_80", "sm_90a", "sm_100") for backward in (0, 1)),
        ("sm_90a", 0, (FLOAT16,)), ("sm_90a", 1, (FLOAT16,)), ("sm_120", 0, (BFLOAT16, TENSORFLOAT32)),
    ],
)  # fmt: skip
def test_shipped_cuts_compile_without_local_memory(target, backward, storages):
    pytest.importorskip("cuda.bindings.nvrtc", reason="NVRTC is not installed: pip install cuda-bindings nvidia-cuda-nvrtc")
    for storage in storages:
        for cut in shipped(storage, backward):
            found = compiled(cut.kernel(), target)
            assert found.spill_bytes == 0 and ".local" not in found.assembly, cut
            assert found.registers * cut.kernel().threads <= 65536, cut
            if target == "sm_90a":
                pinned = REGISTERS[BFLOAT16 if storage is FLOAT16 else storage, backward]
                assert found.registers <= pinned[cut.hidden, cut.units, cut.tiles, cut.phases], cut


def test_a_gpu_whose_compiler_spills_goes_backward_step_by_step():
    plan = choose(1024, 8, 1, torch.bfloat16, (12, 0), design="grid")
    assert plan.design == "grid" and plan.backward.design == "tensor_step" and "registers" in plan.reason
    assert "backward tensor_step" in plan.words()


def test_a_plan_that_disagrees_with_its_kernel_does_not_compile():
    pytest.importorskip("cuda.bindings.nvrtc", reason="NVRTC is not installed: pip install cuda-bindings nvidia-cuda-nvrtc")
    for backward in (False, True):
        kernel = shipped(BFLOAT16, backward)[0].kernel()
        with pytest.raises(CompilationFailed, match="disagree about shared memory"):
            compile_kernel(replace(kernel, shared_bytes=kernel.shared_bytes + 16), "sm_90a")
