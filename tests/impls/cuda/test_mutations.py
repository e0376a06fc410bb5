"""No wait, fence or barrier is there for nothing: without any one of them the emulation complains, whatever the values."""

from __future__ import annotations

import re

import pytest

from impls.cuda.emulator import RuleBroken
from impls.cuda.runtime import FOLDER
from tests.impls.cuda.emulated import Rewritten, case, check, cluster_plan, step_plan, tensor_step_plan

ORDERING = re.compile(
    r"\b(?:warp_barrier|block_barrier|cluster_barrier|named_barrier|transfer_init|transfer_expect|transfer_wait|copy_commit"
    r"|copy_wait<[^>]*>)\([^;]*\);"
)
SOURCES = [f"{design}_{phase}.cu" for design in ("cluster", "tensor_step", "step") for phase in ("forward", "backward")]
PLACES = [
    (source, number, match.span())
    for source in SOURCES
    for number, match in enumerate(ORDERING.finditer((FOLDER / source).read_text()))
]


def plan_of(source: str):
    if source.startswith("cluster"):
        return cluster_plan("bfloat16", 32, 2, split=2, stages=2, row_tiles=4, columns=2)
    return tensor_step_plan("bfloat16") if source.startswith("tensor") else step_plan("bfloat16")


@pytest.mark.parametrize("source", SOURCES)
def test_the_unchanged_source_breaks_no_rule(source):
    check(case(32, 6, 3), plan_of(source), Rewritten(source, lambda text: text))


@pytest.mark.parametrize("source, number, span", PLACES, ids=[f"{source}-{number}" for source, number, _ in PLACES])
def test_without_any_one_of_them_a_rule_is_broken(source, number, span):
    start, end = span
    with pytest.raises(RuleBroken):
        check(case(32, 6, 3), plan_of(source), Rewritten(source, lambda text: text[:start] + ";" + text[end:]))


@pytest.mark.parametrize(
    "source, right, wrong",
    [
        ("cluster_forward.cu", "((step - 1) >> 1) & 1", "(step >> 1) & 1"),  # the other phase
        ("cluster_forward.cu", "(current ^ 1) * H_BYTES", "current * H_BYTES"),  # over what is being read
        ("cluster_forward.cu", "/ STAGES * columns * 16;", "/ STAGES * columns * 8;"),  # waits for half of the bytes
        ("cluster_forward.cu", "slot / (CLUSTER / STAGES)", "0"),  # counts all on the first stage's barrier
        ("cluster_forward.cu", "half = current * SUM_BYTES", "half = 0"),  # one copy of the sums for two steps
        ("cluster_forward.cu", "fetch(step + SLOTS - 1);", "fetch(step + SLOTS);"),  # into the slot that is being read
        ("cluster_forward.cu", "copy_wait<SLOTS - 2>", "copy_wait<SLOTS - 1>"),  # for the step before
        ("cluster_backward.cu", "operand_at[i] + flip * OPERAND_BYTES", "operand_at[i]"),  # one buffer for two
        ("cluster_backward.cu", "(t * 2 + buffer) * PARTIAL_BYTES", "t * 2 * PARTIAL_BYTES"),  # over what may still be read
        ("cluster_backward.cu", "CLUSTER * UNITS / 2 * pairs * 16", "CLUSTER * UNITS / 2 * pairs * 8"),  # half of the bytes
        ("cluster_backward.cu", "fetch(step + SLOTS - 1)", "fetch(step + SLOTS)"),  # into the slot that is being read
        ("cluster_backward.cu", "if (t == TILES - 1) copy_wait<SLOTS - 2>", "if (t == TILES - 1) copy_wait<SLOTS - 1>"),
        ("cluster_backward.cu", "(step >> 1) & 1)", "((step >> 1) + 1) & 1)"),
    ],
)
def test_a_wrong_buffer_or_phase_breaks_a_rule(source, right, wrong):
    def rewrite(text):
        assert text.count(right) == 1
        return text.replace(right, wrong)

    with pytest.raises(RuleBroken):
        check(case(32, 6, 3), plan_of(source), Rewritten(source, rewrite))
