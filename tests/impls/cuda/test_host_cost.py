"""What a call of the drop-in module asks of the host: operators, copies, launches. Its time: python -m tests.perf.host_cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch

from impls.cuda.runtime import Launch
from impls.cuda.torch.module import LSTM
from tests.perf import host_cost
from tests.perf.host_cost import HIDDEN, INPUTS, Operators, call_of, launching

MOST_FOR_INFERENCE = 12
COPIES = {"aten::stack", "aten::cat", "aten::clone", "aten::copy_", "aten::_to_copy", "aten::contiguous"}
KINDS = [(torch.bfloat16, "auto"), (torch.bfloat16, "tensor_step"), (torch.float32, "auto"), (torch.float64, "auto")]


def watched(call: Callable[[], object]) -> tuple[list[str], list[Launch]]:
    """Operators and launches of a second call: the first may prepare what is fixed."""
    launches: list[Launch] = []
    with launching(launches.append):
        call()
        launches.clear()
        with Operators() as operators:
            call()
    return operators.names, launches


@pytest.mark.parametrize("dtype, design", KINDS, ids=str)
def test_one_layer_at_inference(dtype, design):
    module = LSTM(INPUTS, HIDDEN, dtype=dtype, design=design)
    names, launches = watched(call_of(module, training=False, dtype=dtype))
    assert names[0] == "lstm_bench::lstm_layer" and names.count("lstm_bench::lstm_layer") == 1
    assert len(names) <= MOST_FOR_INFERENCE, names
    assert not COPIES & set(names) and len(launches) == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_two_directions_are_one_operator_and_one_recurrence(dtype):
    """No weights are stacked, nor packed."""
    module = LSTM(INPUTS, HIDDEN, dtype=dtype, bidirectional=True)
    names, launches = watched(call_of(module, training=False, dtype=dtype))
    assert names.count("lstm_bench::lstm_layer") == 1 and not COPIES & set(names) and len(names) <= 16, names
    functions = Counter(launch.kernel.function for launch in launches)
    recurrence = "lstm_cluster_forward" if dtype == torch.bfloat16 else "lstm_step_forward"
    assert functions == {recurrence: 1}
    assert all(2 in launch.grid for launch in launches)


def test_two_directions_train_by_one_launch_each_way():
    module = LSTM(INPUTS, HIDDEN, dtype=torch.bfloat16, bidirectional=True)
    names, launches = watched(call_of(module, training=True))
    assert Counter(launch.kernel.function for launch in launches) == {"lstm_cluster_forward": 1, "lstm_cluster_backward": 1}
    assert names.count("aten::stack") == names.count("aten::cat") == 0


@pytest.mark.parametrize("name, most", [("training", 55), ("training, two directions", 75), ("inference, two layers", 26)])
def test_other_calls(name, most):
    options, training = host_cost.CALLS[name]
    names, _ = watched(call_of(LSTM(INPUTS, HIDDEN, dtype=torch.bfloat16, **options), training))
    assert len(names) <= most, names


def test_the_watch_sees_inside_of_our_operators():
    """Else the counts above would be of nothing."""
    names, _ = watched(call_of(LSTM(INPUTS, HIDDEN, dtype=torch.bfloat16), training=True))
    assert {"lstm_bench::lstm_layer", "aten::addmm", "lstm_bench::lstm_layer_backward", "aten::matmul"} <= set(names)


def test_the_table_of_times():
    def found(operators: int, ours: float, theirs: float) -> host_cost.Found:
        return {"inference": {"operators": operators, "ours": ours, "theirs": theirs}}

    before, after = [found(53, 200e-6, 50e-6), found(53, 220e-6, 50e-6)], [found(12, 50e-6, 50e-6), found(12, 44e-6, 40e-6)]
    row = host_cost.table(before, after)[-1]
    assert row == "| inference | 53 | 12 | 210 | 47 | 45 | 4.20 [4.00, 4.40] | 1.05 [1.00, 1.10] | 4.50 [4.00, 5.00] |"
