"""Every label is what the sequence says, the lag is where it is said to be, and nothing but the marked steps decides."""

from __future__ import annotations

import pytest
import torch

from bench.studies.horizon import tasks
from bench.studies.horizon.learning import sample_batch
from bench.studies.horizon.tasks import ALPHABET, COPIED
from impls import UnknownName

LAGS = (4, 5, 9, 10, 33)


def drawn(name: str, lag: int, seed: int = 0):
    task = tasks.get(name)
    x, target = sample_batch(task, lag, 3, 50, torch.Generator().manual_seed(seed))
    assert x.shape == (task.steps(lag), 3, 50, task.inputs) and target.shape == (task.answers, 3, 50)
    return x, target


@pytest.mark.parametrize("lag", LAGS)
def test_recall_says_the_first_symbol_and_no_other_like_it_comes(lag):
    x, target = drawn("recall", lag)
    symbols = x.argmax(-1)
    assert len(x) - 1 == lag and (symbols[0] == target[0]).all() and set(target.unique().tolist()) == {0, 1}
    assert symbols[1:].min() >= 2 and (x.sum(-1) == 1).all()


@pytest.mark.parametrize("lag", LAGS)
def test_adding_sums_the_two_marked_numbers_one_in_each_half(lag):
    x, target = drawn("adding", lag)
    numbers, marks = x.unbind(-1)
    half = len(x) // 2
    assert (marks[:half].sum(0) == 1).all() and (marks[half:].sum(0) == 1).all()
    assert torch.allclose((numbers * marks).sum(0), target[0])
    assert marks[0].any()  # the first mark may lie at the lag itself


@pytest.mark.parametrize("lag", LAGS)
def test_copy_asks_for_each_symbol_exactly_a_lag_after_it_came(lag):
    x, target = drawn("copy", lag)
    symbols = x.argmax(-1)
    assert (symbols[:COPIED] == target).all() and target.max() < ALPHABET and len(x) - COPIED == lag
    assert (symbols[lag - 1] == ALPHABET + 1).all() and (symbols[lag:] == ALPHABET).all()
    assert (symbols[COPIED : lag - 1] == ALPHABET).all()


@pytest.mark.parametrize("lag", LAGS)
def test_temporal_order_has_x_or_y_twice_and_names_their_order(lag):
    x, target = drawn("temporal_order", lag)
    symbols = x.argmax(-1)
    assert (symbols[0] == 6).all() and (symbols[-1] == 7).all()
    earliest = len(x)
    for seed in range(3):
        for column in range(50):
            at = [t for t in range(len(x)) if symbols[t, seed, column] in (4, 5)]
            first, second = (int(symbols[t, seed, column]) - 4 for t in at)
            assert target[0, seed, column] == 2 * first + second
            earliest = min(earliest, at[0])
    assert len(x) - 1 - earliest == lag


def test_networks_and_draws_differ_and_a_seed_repeats_them():
    x, _ = drawn("recall", 9)
    again, _ = drawn("recall", 9)
    other, _ = drawn("recall", 9, seed=1)
    assert torch.equal(x, again) and not torch.equal(x, other) and not torch.equal(x[:, 0], x[:, 1])


def test_an_unknown_task_names_the_choices():
    with pytest.raises(UnknownName, match=r"no task 'recal' .*choose from adding, copy, recall, temporal_order"):
        tasks.get("recal")
