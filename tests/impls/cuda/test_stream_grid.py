"""Streaming over all multiprocessors: right under the emulation, wrong without any one of its waits, tags and buffers."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.harness.case import Case
from bench.worker import agreement
from impls.cuda.emulator import Emulation, RuleBroken
from impls.cuda.runtime import FOLDER, LaunchFailed, Refused, raise_if_failed, status_of
from impls.cuda.torch.module import LSTM
from impls.cuda.torch.stream import GRID_STORAGE, GRID_UNITS, GridStream, Stream, choose_stream
from impls.frameworks.numpy import arithmetic
from tests.impls.cuda.compiled import compiled
from tests.impls.cuda.emulated import Rewritten, case, with_headers
from tests.impls.cuda.test_module import close, pair
from tests.impls.cuda.test_stream import run

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "tensorfloat32": torch.float32}


def cut(dtype: str, hidden: int, layers: int, units: int, warps: int = 2, **rest) -> GridStream:
    tf32 = dtype == "tensorfloat32"
    return GridStream(DTYPES[dtype], 5, hidden, layers, units, warps=warps, tf32=tf32, **rest)


SIZES = [  # hidden, layers, batch, tokens, tokens a launch, units, warps
    (20, 1, 1, 1, 1, 4, 2), (33, 2, 2, 7, 1, 4, 2), (51, 3, 8, 7, 7, 12, 2), (21, 3, 5, 7, 2, 24, 1), (64, 1, 3, 2, 2, 8, 8),
    (7, 2, 1, 2, 1, 24, 1), (70, 3, 8, 1, 1, 12, 2),
]  # fmt: skip


@pytest.mark.parametrize("hidden, layers, batch, tokens, together, units, warps", SIZES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_size_answers_as_the_oracle(dtype, hidden, layers, batch, tokens, together, units, warps):
    whole = case(hidden, tokens, batch, dtype, phase="step", num_layers=layers)
    agreement.check_against(run(whole, cut(dtype, hidden, layers, units, warps), Emulation(tokens), together), whole)


PASSING = [  # hidden, layers, units, warps, bytes of shared memory: weights that pass through it, wholly or but for a part
    (140, 2, 8, 1, 16 << 10), (140, 3, 24, 1, 99 << 10), (300, 1, 24, 1, 64 << 10),
]  # fmt: skip


@pytest.mark.parametrize("dtype, sizes", [*(("bfloat16", sizes) for sizes in PASSING), ("tensorfloat32", PASSING[0])], ids=str)
def test_weights_that_pass_are_those_that_stay(dtype, sizes):
    hidden, layers, units, warps, limit = sizes
    whole = case(hidden, 7, 3, dtype, phase="step", num_layers=layers)
    stay = cut(dtype, hidden, layers, units, warps)
    passes = replace(stay, shared_limit=limit)
    assert passes.slots < stay.slots and passes.kept < min(stay.kept, passes.pieces)
    kept, passed, pieces = (run(whole, each, Emulation(), count) for each, count in ((stay, 7), (passes, 7), (passes, 3)))
    agreement.check_against(kept, whole)
    for name in kept:
        np.testing.assert_array_equal(kept[name], passed[name])
        np.testing.assert_array_equal(kept[name], pieces[name])


@pytest.mark.parametrize("seed", range(4))
def test_any_order_of_threads_and_any_staleness_gives_the_same(seed):
    whole, shape = case(33, 7, 3, phase="step", num_layers=2), cut("bfloat16", 33, 2, 4)
    expected = run(whole, shape, Emulation(99), 7)
    for together in (7, 1):  # also: tokens one by one and together are the same
        found = run(whole, shape, Emulation(seed), together)
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name])


def steps(launcher, dtype: str, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor, layers: int = 2):
    """y, h and c after all tokens in one launch; weights of a fixed draw."""
    draw, hidden = torch.Generator().manual_seed(0), h.shape[2]
    shape = cut(dtype, hidden, layers, 4)
    some = lambda *sizes: (torch.randn(*sizes, generator=draw) / hidden**0.5).to(shape.dtype)  # noqa: E731
    weights = [(some(4 * hidden, hidden if layer else 5), some(4 * hidden, hidden), None) for layer in range(layers)]
    h, c = h.to(shape.dtype, copy=True), c.clone()
    y = shape.advance(launcher, shape.pack(weights), x.to(shape.dtype), h, c)
    reference, state = x.to(shape.dtype).double(), (h, c)
    return y, state, (weights, reference)


def as_multiplied(values: torch.Tensor, dtype: str) -> torch.Tensor:
    """In float64, as tensor cores read them."""
    plain = values.detach().numpy().astype(np.float32) if dtype == "tensorfloat32" else values.double().numpy()
    return torch.from_numpy((arithmetic.rounded(plain) if dtype == "tensorfloat32" else plain).astype(np.float64))


@pytest.mark.parametrize("dtype", DTYPES)
def test_states_of_any_size_start(dtype):
    draw = torch.Generator().manual_seed(0)
    x, h, c = (torch.randn(*sizes, generator=draw) for sizes in ((3, 2, 5), (2, 2, 21), (2, 2, 21)))
    h *= 1000  # so that operands rounded otherwise would be far off
    y, (h_n, c_n), (weights, reference) = steps(Emulation(), dtype, x, h, c)
    theirs = torch.nn.LSTM(5, 21, 2, bias=False, dtype=torch.float64)
    for layer, (weight_ih, weight_hh, _) in enumerate(weights):
        theirs.get_parameter(f"weight_ih_l{layer}").data.copy_(as_multiplied(weight_ih, dtype))
        theirs.get_parameter(f"weight_hh_l{layer}").data.copy_(as_multiplied(weight_hh, dtype))
    first = as_multiplied(h.to(DTYPES[dtype]), dtype)
    expected, state = theirs(as_multiplied(reference, dtype), (first, c.double()))
    for found, right in zip((y, h_n, c_n), (expected, *state), strict=True):
        torch.testing.assert_close(found.double(), right, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("unit", [6, 7])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_nan_reaches_every_unit_of_its_column_alone(dtype, unit):
    h, c = torch.zeros(2, 3, 21), torch.zeros(2, 3, 21)
    c[0, 1, unit] = torch.nan
    y, (h_n, c_n), _ = steps(Emulation(), dtype, torch.randn(3, 3, 5), h, c)
    assert y[:, 1].isnan().all() and h_n[:, 1].isnan().all() and c_n[:, 1].isnan().all()
    for state in (y, h_n, c_n):
        assert state[:, [0, 2]].isfinite().all()


def test_a_launch_replayed_as_by_a_graph_goes_on():
    """With the same arguments each time: nothing of the host decides which area of the exchange it uses."""
    launches, hidden = [], 20
    x, h, c = torch.randn(7, 1, 5), torch.zeros(2, 1, hidden), torch.zeros(2, 1, hidden)
    shape, weights = cut("bfloat16", hidden, 2, 4), []
    for layer in range(2):
        weights.append((torch.randn(4 * hidden, hidden if layer else 5), torch.randn(4 * hidden, hidden), None))
    weights = [(ih.bfloat16(), hh.bfloat16(), None) for ih, hh, _ in weights]
    fixed, (h, c) = x[:1].bfloat16(), (h.bfloat16(), c)
    y = shape.advance(lambda launch: launches.append(launch) or Emulation()(launch), shape.pack(weights), fixed, h, c)
    found = [y.clone()]
    for token in x[1:]:
        fixed.copy_(token)
        Emulation()(launches[0])
        found.append(y.clone())
    h, c = torch.zeros_like(h), torch.zeros_like(c)
    expected = shape.advance(Emulation(), shape.pack(weights), x.bfloat16(), h, c)
    assert len(launches) == 1 and torch.equal(torch.cat(found), expected)


# Mutations. Of each what the source says, what it says instead, and the cut that notices.

SOURCE = "stream_grid.cu"
STAYS, DEEP = cut("bfloat16", 36, 2, 4), cut("bfloat16", 140, 3, 24, 1)
PASSES = replace(DEEP, shared_limit=99 << 10)
BROKEN = (RuleBroken, agreement.Disagreement, LaunchFailed)
ORDERING = re.compile(r"\b(?:block_barrier|copy_commit|copy_wait<\d+>|counter_release)\([^;]*\);")
PLACES = list(enumerate(ORDERING.finditer((FOLDER / SOURCE).read_text())))
ASCENDING = (
    "for (int low = lowest(step), layer = low < 0 && highest(step) >= 0 ? 0 : low; layer > -2;"
    " layer = layer == -1 ? -2 : layer < highest(step) ? layer + 1 : low < 0 ? -1 : -2)"
)
WRONG = [
    # Every one of the four words says for itself whether it has come, and the warp agrees.
    *((f"(word.{part} ^ tag)", "0u", STAYS) for part in "xyzw"),
    ("if (!warp_any(late)) break;", "break;", STAYS),
    ("if (!warp_any(late)) break;", "if (!late) break;", STAYS),
    # What is written says of which use of its buffer it is, and is read without that.
    ("is_odd_use(token + 1) ? TAG_OF_H<S> : 0;", "TAG_OF_H<S>;", STAYS),
    ("((step - 1) >> 1 & 1) == 0", "(step & 1) == 0", STAYS),
    ("word.y & ~TAG", "word.y", STAYS),
    ("column < batch && word < depth * GROUP_WORDS", "column < batch && word < depth * GROUP_WORDS && unit != 6", STAYS),
    ("column < batch && word < depth * GROUP_WORDS", "column < batch", cut("bfloat16", 51, 2, 12)),
    # Two buffers, and two areas that launches leave clean for one another.
    ("(layer * 2 + (token & 1))", "(layer * 2)", STAYS),
    ("+ block) & 1;", "+ block) & 0;", STAYS),
    ("global_write(other_area + i, uint4{});", ";", STAYS),
    ("buffer ^= 1;", "", STAYS),
    # h is replaced once every block has read it.
    ("counter_acquire(", "counter_read(", STAYS),
    ("token == 0 && layer == layers - 1)", "token == 0 && layer == 0)", STAYS),
    ("unsigned(launched + 1)", "unsigned(launched)", STAYS),
    # Weights are waited for, and not overwritten before they were used.
    ("loaded - 1 - used", "loaded - used", PASSES),
    ("kept + loaded - 1 - piece", "kept + loaded - piece", DEEP),
    ("i < launch.ring; ++i) load_ahead();", "i < launch.ring + 1; ++i) load_ahead();", PASSES),
    ("if (++use_slot == slots) use_slot = kept;", "if (++use_slot == slots) use_slot = 0;", PASSES),
    ("ahead = kept_here > 0 ? kept_here : 0;", "ahead = 0;", PASSES),
]  # fmt: skip


def streamed(shape: GridStream) -> Case:
    return case(shape.hidden, 6 if shape == STAYS else 2, 2, phase="step", num_layers=shape.layers)


@cache
def unchanged(shape: GridStream) -> dict[str, np.ndarray]:
    return run(streamed(shape), shape, Emulation(), 6)


def wrong(change, shape: GridStream) -> None:
    """Raises what notices the change, under one of some orders of threads. Whatever is reported is taken back."""
    whole, right = streamed(shape), unchanged(shape)
    for seed in range(3):
        for together in (1, 6):
            try:
                found = run(whole, shape, Rewritten(SOURCE, change, seed), together)
            finally:
                status_of(torch.device("cpu")).zero_()
            if not all(np.array_equal(found[name], right[name]) for name in right):
                raise agreement.Disagreement("another value than the unchanged kernel's")


@pytest.mark.parametrize("shape", [STAYS, DEEP, PASSES], ids=["stays", "deep", "passes"])
def test_the_unchanged_source_is_right(shape):
    wrong(with_headers, shape)


@pytest.mark.parametrize("number, place", PLACES, ids=[f"{number}" for number, _ in PLACES])
def test_without_any_one_wait_or_barrier_it_is_noticed(number, place):
    with pytest.raises((RuleBroken, LaunchFailed)):
        wrong(lambda text: text[: place.start()] + ";" + text[place.end() :], DEEP)


@pytest.mark.parametrize("right, other, shape", WRONG)
def test_a_wrong_tag_buffer_or_order_is_noticed(right, other, shape):
    def change(text):
        whole = with_headers(text)
        assert whole.count(right) == 1
        return whole.replace(right, other)

    with pytest.raises(BROKEN):
        wrong(change, shape)


@pytest.mark.parametrize("descending", [True, False])
def test_a_layer_is_read_by_the_one_above_before_it_goes_on(descending):
    """Where one block is late: the upper layers first, or a block may find that the next value but one is there already."""
    stage, late = (
        "const int token = step - layer, groups = count(layer);",
        " if (block == 0) for (int i = 0; i < 500; ++i) warp_any(false);",
    )
    loop = "for (int layer = highest(step); layer >= lowest(step); --layer)"

    def change(text):
        assert text.count(stage) == text.count(loop) == 1
        text = text.replace(stage, stage + late)
        return text if descending else text.replace(loop, ASCENDING)

    if descending:
        return wrong(change, STAYS)
    with pytest.raises(LaunchFailed):
        wrong(change, STAYS)


def test_a_nan_of_an_odd_unit_that_is_not_passed_on_is_noticed():
    launcher = Rewritten(SOURCE, lambda text: with_headers(text).replace("odd != odd ? odd : h", "h"))
    with pytest.raises(AssertionError):
        h, c = torch.zeros(2, 3, 21), torch.zeros(2, 3, 21)
        c[0, 1, 7] = torch.nan
        assert steps(launcher, "bfloat16", torch.randn(3, 3, 5), h, c)[0][1:, 1].isnan().all()


@pytest.mark.parametrize("right, layers", [("(is_there && !(unit & 1)", 2), ("launch.arrived, 1)", 1)])
def test_a_lost_publication_ends_with_a_sentence_and_nan(right, layers, monkeypatch):
    """Of h, and of having read h before: the launch ends, and what it writes from there on is NaN."""
    lost = right.replace("!(unit & 1)", "!(unit & 1) && unit != 6").replace("arrived, 1", "arrived, block != 1")
    launcher = Rewritten(SOURCE, lambda text: with_headers(text).replace(right, lost))
    x, states = torch.randn(1, 1, 5), (torch.zeros(layers, 1, 21), torch.zeros(layers, 1, 21))
    with pytest.raises(LaunchFailed, match=r"block \d+ waited too long"):
        steps(launcher, "bfloat16", x, *states, layers=layers)
    raise_if_failed(torch.device("cpu"))
    monkeypatch.setattr("impls.cuda.torch.stream.raise_if_failed", lambda device: None)
    y, (h_n, c_n), _ = steps(launcher, "bfloat16", x, *states, layers=layers)
    status_of(torch.device("cpu")).zero_()
    assert h_n[-1].isnan().all() and c_n[-1].isnan().all() and (layers == 1 or y.isnan().all())


# What is chosen.


def test_the_grid_streams_large_stacks_and_a_cluster_small_ones():
    chosen = [
        choose_stream(torch.bfloat16, hidden, hidden, 1, 1, (9, 0)) for hidden in (64, 256, 512, 768, 1024, 1536, 2048, 3072)
    ]
    assert [isinstance(each, GridStream) and each.units for each in chosen] == [False, 4, 4, 8, 8, 12, 16, 24]
    assert isinstance(choose_stream(torch.bfloat16, 512, 512, 1, 9, (9, 0)), Stream)
    assert isinstance(choose_stream(torch.float32, 512, 512, 1, 1, (9, 0)), Stream)  # exactly
    assert isinstance(choose_stream(torch.float32, 512, 512, 1, 1, (9, 0), tf32=True), GridStream)
    ampere = choose_stream(torch.bfloat16, 1024, 1024, 2, 8, (8, 0), resident=lambda kernel: 108, shared_limit=163 << 10)
    assert isinstance(ampere, GridStream) and ampere.units == 12 and ampere.kernel().shared_bytes <= 163 << 10


def test_the_modelled_times_are_near_those_that_were_measured():
    """Of a cluster; a stream over the grid is modelled within twice its floor, and below the cluster that it replaces."""
    table = Path("results/reference/2026-11-26-h100/tables/module-and-stream.json").read_text(encoding="utf-8")
    rows = [json.loads(line.rstrip(",")) for line in table.splitlines() if line.startswith('{"stream": true')]
    assert len(rows) == 5
    for row in rows:
        sizes, columns = (torch.bfloat16, row["H"], row["H"], row["L"]), 1 if row["B"] == 1 else 4
        assert Stream(*sizes, 16, columns).estimate(row["B"]).microseconds == pytest.approx(row["ours"], rel=0.06)
        chosen = choose_stream(*sizes, row["B"], (9, 0))
        floor = 2 + 8 * row["H"] ** 2 * 2 * row["L"] / 3e6
        assert isinstance(chosen, GridStream) and chosen.estimate(row["B"]).upper < min(2 * floor, row["ours"])


@pytest.mark.parametrize(
    "hidden, batch, rest, complaint",
    [
        (512, 9, {}, "8 sequences stream at once, not 9"),
        (512, 1, {"capability": (7, 5)}, r"compute capability 8\.0"),
        (1024, 1, {"resident": lambda kernel: 20}, "43 blocks have to be resident at once, and the GPU holds 20"),
        (1024, 1, {"dtype": torch.float32}, "exact float32"),
        (1024, 1, {"shared_limit": 1 << 10}, "a block has 1024 bytes of shared memory here"),
        (1024, 1, {"design": "step"}, "asked for step"),
    ],
)  # fmt: skip
def test_what_cannot_stream_over_the_grid_is_told_why(hidden, batch, rest, complaint):
    given = {"dtype": torch.bfloat16, "capability": (9, 0), "design": "grid"} | rest
    with pytest.raises(Refused, match=complaint):
        choose_stream(inputs=hidden, hidden=hidden, layers=1, batch=batch, **given)


def test_a_module_streams_over_the_grid_where_it_is_asked_for():
    theirs, _ = pair(num_layers=2)
    ours = LSTM(theirs.input_size, theirs.hidden_size, 2, design="grid", dtype=torch.bfloat16)
    ours.load_state_dict(theirs.state_dict())
    streaming = ours.eval().stream(3)
    x = torch.randn(6, 3, theirs.input_size)
    y = torch.cat([streaming.advance(part.bfloat16()) for part in x.split([1, 2, 3])])
    torch.testing.assert_close(y.float(), theirs(x)[0], rtol=0.03, atol=0.03)
    said = streaming.provenance()
    assert said["ran"] == "stream" and "over" in said["plan"] and "modelled" in said["chosen_because"]


def test_a_module_whose_design_is_a_launch_a_layer_streams_so():
    _, ours = pair(num_layers=2)
    ours.design = "step"
    x = torch.randn(4, 3, ours.input_size)
    streaming = ours.stream(3)
    close(streaming.advance(x), ours(x)[0])
    assert streaming.provenance()["ran"] == "step" and "asked for step" in streaming.provenance()["chosen_because"]


# Compiled without a GPU.

REGISTERS = {4: 152, 8: 144, 12: 144, 16: 160, 24: 184}  # a thread, on sm_90a, in steps of 8 as they are given out


@pytest.mark.parametrize("target, limit", [("sm_80", 163), ("sm_90a", 227), ("sm_100", 227), ("sm_120", 99)])
def test_shipped_cuts_compile_without_local_memory(target, limit):
    """float16 differs from bfloat16 by the product's type and conversions; one cut of it is compiled. More than 12 units a
    block are refused where a block has 99 KB."""
    pytest.importorskip("cuda.bindings.nvrtc", reason="NVRTC is not installed: pip install cuda-bindings nvidia-cuda-nvrtc")
    shapes = [
        (dtype, units) for dtype in (torch.bfloat16, torch.float32) for units in GRID_UNITS if limit > 99 or units <= 12
    ] + [(torch.float16, 8)] * (target == "sm_90a")
    for dtype, units in shapes:
        kernel = GridStream(dtype, 512, 512, 4, units, shared_limit=limit << 10, tf32=True).kernel()
        found = compiled(kernel, target)
        assert found.spill_bytes == 0 and ".local" not in found.assembly, (kernel, target)
        assert found.registers * kernel.threads <= 65536
        assert target != "sm_90a" or found.registers <= REGISTERS[units], kernel
    assert GRID_STORAGE.keys() == {torch.bfloat16, torch.float16, torch.float32}
