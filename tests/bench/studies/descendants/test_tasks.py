"""The tasks of study `descendants`: their closed forms, a hand-set LSTM that solves parity, and how training is judged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.harness.case import InvalidCase
from bench.studies.descendants import CASES, CLAIMS, STUDY, learning, tasks
from bench.studies.descendants.tasks import GENERATORS, NOT_ASKED, compose, group
from impls import UnknownName
from impls.frameworks.torch import models

LARGE = 10_000.0  # saturates sigmoid and tanh in float64: 0, 1 and −1 to the bit


def draw(name: str, size: int, batch: int = 64) -> tuple[Tensor, Tensor]:
    return tasks.get(name).draw(size, batch, torch.Generator().manual_seed(3))


def parity_lstm() -> nn.LSTM:
    """Two cells that hold x ∧ ¬p and ¬x ∧ p, of the parity p so far and the next bit x: their sum is the next parity."""
    lstm = nn.LSTM(1, 2, dtype=torch.float64)
    with torch.no_grad():
        own = dict(lstm.named_parameters())
        for value in own.values():
            value.zero_()
        # h is 0 or tanh(1) a cell, never both: p = (h_0 + h_1) / tanh(1). Gates i, f, g, o; f = 0, g = o = 1.
        unit = float(np.tanh(1.0))
        own["bias_ih_l0"][0:2] = torch.tensor([-0.5, -0.5]) * LARGE
        own["weight_ih_l0"][0:2, 0] = torch.tensor([1.0, -1.0]) * LARGE
        own["weight_hh_l0"][0:2] = torch.tensor([[-1.0, -1.0], [1.0, 1.0]]) * LARGE / unit
        own["bias_ih_l0"][2:4] = -LARGE
        own["bias_ih_l0"][4:8] = LARGE
    return lstm


def test_an_lstm_set_by_hand_solves_parity_to_the_bit() -> None:
    bits, targets = draw("parity", 1000)
    with torch.no_grad():
        h, _ = parity_lstm()(bits.double())
    unit = torch.tanh(torch.ones((), dtype=torch.float64))
    assert torch.equal(h.sum(-1), targets[..., 0].double() * unit)


def test_a_state_with_a_positive_factor_cannot_alternate() -> None:
    """Grazzi et al. 2025, theorem 1: on ones alone every state of a minLSTM moves one way, while parity alternates."""
    gates = torch.randn(3, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64).repeat(50, 1, 1)
    forget, write, candidate = gates.unbind(1)
    states = models.states(forget, write, candidate, torch.zeros(40, dtype=torch.float64))
    steps = states.diff(dim=0)
    assert ((steps > -1e-12).all(0) | (steps < 1e-12).all(0)).all() and (steps[0].abs() > 1e-9).all()  # but for rounding
    ones = torch.ones(50, 1, 1, dtype=torch.int64).cumsum(0) % 2
    assert (ones.diff(dim=0).abs() == 1).all()


def test_the_group_table_of_s5() -> None:
    every = group()
    identity = (0, 1, 2, 3, 4)
    table = {(one, other): compose(one, other) for one in every for other in every}
    assert len(every) == len(set(every)) == 120 and set(table.values()) == set(every)
    for one in every:
        assert table[one, identity] == table[identity, one] == one
        assert {table[one, other] for other in every} == set(every)  # every row holds every element once
        assert sum(table[one, other] == identity for other in every) == 1  # the inverse
    sample = every[::11]
    assert all(table[table[a, b], c] == table[a, table[b, c]] for a in sample for b in sample for c in sample)
    swap, cycle = GENERATORS
    assert table[swap, cycle] != table[cycle, swap]
    reached = {identity}
    while (more := reached | {table[step, one] for step in GENERATORS for one in reached}) != reached:
        reached = more
    assert reached == set(every)


def test_s5_targets_are_products() -> None:
    tokens, targets = draw("s5", 30, 5)
    for b in range(5):
        now = (0, 1, 2, 3, 4)
        for t in range(30):
            now = compose(GENERATORS[tokens[t, b, 0]], now)
            assert tuple(targets[t, b].tolist()) == now


def test_recall_asks_every_key_once() -> None:
    tokens, targets = draw("recall", 8)
    assert tokens.shape == (16, 64, 2) and (targets[:8] == NOT_ASKED).all()
    for b in range(64):
        pairs = {int(key): int(value) for key, value in tokens[:8, b]}
        assert len(pairs) == 8 and set(tokens[8:, b, 0].tolist()) == set(pairs)
        assert (tokens[8:, b, 1] == tasks.VALUES).all()
        assert [pairs[int(key)] for key in tokens[8:, b, 0]] == targets[8:, b, 0].tolist()


def test_selective_copy_asks_the_symbols_in_order() -> None:
    tokens, targets = draw("selective_copy", 20)
    assert tokens.shape == (24, 64, 1)
    for b in range(64):
        read = tokens[:20, b, 0]
        assert read[read < tasks.SYMBOLS].tolist() == targets[20:, b, 0].tolist()
        assert (targets[:20, b] == NOT_ASKED).all() and (tokens[20:, b] == tasks.SYMBOLS + 1).all()


def test_unknown_tasks_are_refused() -> None:
    with pytest.raises(UnknownName, match="task"):
        tasks.get("sorting")


def test_a_network_without_a_number_is_right_about_nothing() -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, tokens: Tensor) -> Tensor:
            return torch.full((*tokens.shape[:2], 1, 2), torch.nan)

    right, asked = learning.judge(Broken(), tasks.get("parity"), 10)  # pyright: ignore[reportArgumentType]
    assert not right.any() and asked.all()


def test_measured_blocks_are_seeds() -> None:
    for case in CASES["smoke"]:
        found = {item.metric: item for item in learning.measure(case)}
        assert next(iter(found)) == "accuracy" and found["accuracy"].blocks == (1, 1, 1)
        counted = case.factor("network") == "lstm"
        assert counted == (not found["accuracy"].notes)
        assert counted == (found["network_parameters"].samples == (case.spec.parameter_count(),))
        asked = case.steps if case.factor("task") == "parity" else int(case.factor("size"))
        assert found["accuracy_by_step"].blocks == (asked,) * 3
        assert 0 <= min(found["accuracy_by_step"].samples) and max(found["accuracy_by_step"].samples) <= 1


def test_an_lstm_learns_parity_and_a_minlstm_does_not() -> None:
    for network, right in (("lstm", True), ("minlstm", False)):
        case = next(case for case in CASES["cpu"] if dict(case.factors)["network"] == network)
        trained = learning.train(case, tasks.get("parity"), 0, 0.01)
        assert (trained.by_step[16:].mean() > 0.9) == right


def test_bad_cases_are_refused() -> None:
    parity = next(case for case in CASES["smoke"] if case.factor("task") == "parity")
    with pytest.raises(InvalidCase, match="at least 4"):
        list(learning.measure(replace(parity, steps=2)))
    for rates in ("fast", "0", ""):
        factors = tuple((name, rates if name == "rates" else value) for name, value in parity.factors)
        with pytest.raises(InvalidCase, match="positive numbers"):
            learning.read_rates(replace(parity, factors=factors))


def test_every_setting_of_a_claim_has_its_cases() -> None:
    for scale in ("cpu", "gpu"):
        there = {(dict(case.factors)["task"], dict(case.factors)["network"]) for case in CASES[scale]}
        for claim in CLAIMS:
            for _, selection in claim.settings:
                named = dict(part.split("=") for part in selection.split(","))
                assert named.pop("study") == "descendants"
                wanted = {(named["task"], name) for name in named.get("network", "lstm").split("|")}
                assert wanted <= there, (scale, claim.name)


def test_forecasts_fit_their_scales() -> None:
    assert STUDY.forecast is not None
    seconds = {scale: [STUDY.forecast(case) or 0 for case in CASES[scale]] for scale in ("smoke", "cpu", "gpu")}
    assert sum(seconds["smoke"]) < 5 and sum(seconds["cpu"]) / 2 < 90 and sum(seconds["gpu"]) < 540
