"""Study `direction`: exact leakage, ELMo's stacks against plain LSTMs, generation refused, and optima by enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from bench.harness.case import Case
from bench.studies.direction import CASES, CLAIMS, MISMATCH, STUDY, measure, networks, parameters, tagging
from bench.studies.direction.networks import CannotGenerate, Direction, NextToken, TwoStacks
from bench.studies.quality.sources import STATES, HiddenMarkov
from impls import LSTMSpec, UnknownName

LAST_BIT = 2.0**-52


def leakages(case: Case) -> dict[str, tuple[float, ...]]:
    return {item.metric: item.samples for item in networks.measure_leakage(case)}


@pytest.mark.parametrize(
    "case", [case for case in CASES["cpu"] if case.factor("probe") == "leakage"], ids=lambda case: case.key
)
def test_leakage_is_zero_exactly_where_a_network_is_causal(case: Case) -> None:
    found = leakages(case)
    kind, read = case.factor("direction"), case.factor("read")
    causal = kind == "one" or (read == "forward" and (kind == "two_stacks" or case.spec.num_layers == 1))
    future = found["leakage_by_offset"][case.steps :]
    assert len(future) == case.steps - 1 and max(found["future_leakage"]) == max(future)
    assert (max(future) == 0.0) if causal else min(future) > 1e-9
    assert min(found["leakage_by_offset"][: case.steps]) > 0  # the past is read at every distance


def test_the_jacobian_is_that_of_finite_differences() -> None:
    torch.manual_seed(0)
    network, x = Direction("both", LSTMSpec(3, 4, bidirectional=True)).double(), torch.randn(5, 3, dtype=torch.float64)
    expected, step = np.zeros((5, 5)), 1e-6
    with torch.no_grad():
        for s, feature in itertools.product(range(5), range(3)):
            moved = x.clone()
            moved[s, feature] += step
            slopes = (network(moved[:, None]) - network(x[:, None])).abs()[:, 0].amax(1) / step
            expected[:, s] = np.maximum(expected[:, s], slopes.numpy())
    np.testing.assert_allclose(networks.jacobian(network, x).numpy(), expected, rtol=1e-3)


def test_elmos_stacks_are_two_plain_lstms_to_the_bit() -> None:
    torch.manual_seed(1)
    stacks, x = TwoStacks(5, 8, 2), torch.randn(20, 3, 5)
    with torch.no_grad():
        found, ahead, back = stacks(x), stacks.ahead(x)[0], stacks.back(x.flip(0))[0].flip(0)
    assert torch.equal(found[..., :8], ahead) and torch.equal(found[..., 8:], back)


@pytest.mark.parametrize(("identity", "layers"), [("one_layer", 1), ("two_stacks", 2), ("two_stacks", 3)])
def test_both_directions_cut_apart_are_elmos_stacks(identity: str, layers: int) -> None:
    spec = LSTMSpec(5, 16, layers, bidirectional=True, dtype="float64")
    case = Case(spec, 20, 3, factors=(("probe", "identity"), ("identity", identity), ("seeds", 3)))
    found = {item.metric: item.samples for item in measure("reference", case)}
    assert max(found["identity_error"]) <= LAST_BIT and min(found["identity_contrast"]) > 1e-2


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(UnknownName, match="kind"):
        Direction("sideways", LSTMSpec(3, 4))


@pytest.mark.parametrize("kind", networks.KINDS)
def test_only_one_direction_generates(kind: str) -> None:
    spec = LSTMSpec(4, 6, bidirectional=kind == "both")
    model, prefix = NextToken(kind, spec, 16, seed=0), torch.randint(16, (3, 2), generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    if kind != "one":
        with pytest.raises(CannotGenerate, match=f"of kind {kind}.*generate with an LSTM in one direction"):
            model.generate(prefix, 5, generator)
        return
    found = model.generate(prefix, 5, generator)
    assert found.shape == (8, 2) and torch.equal(found[:3], prefix) and 0 <= int(found.min()) and int(found.max()) < 16
    assert torch.equal(found, model.generate(prefix, 5, torch.Generator().manual_seed(1)))


def test_posteriors_are_those_of_all_paths() -> None:
    source, steps = HiddenMarkov(3), 4
    tokens = np.random.default_rng(0).integers(0, 16, (steps, 2))
    for number in range(2):
        own = tokens[:, number]
        joint = np.zeros((steps, STATES))
        ends = np.zeros((steps, STATES))
        for length in range(1, steps + 1):
            for path in itertools.product(range(STATES), repeat=length):
                weight = source.emission[path[0], own[0]] / STATES
                for step in range(1, length):
                    weight *= source.transition[path[step - 1], path[step]] * source.emission[path[step], own[step]]
                ends[length - 1, path[-1]] += weight
                if length == steps:
                    joint[np.arange(steps), path] += weight
        np.testing.assert_allclose(tagging.filtered(source, tokens)[:, number], ends / ends.sum(1, keepdims=True), rtol=1e-12)
        np.testing.assert_allclose(tagging.smoothed(source, tokens)[:, number], joint / joint.sum(1, keepdims=True), rtol=1e-12)


def test_windows_are_the_sources() -> None:
    source = HiddenMarkov(5)
    drawn = tagging.sample(source, np.random.default_rng(0), 400, 400)
    stayed = (drawn.tags[1:] == drawn.tags[:-1]).mean()
    assert stayed == pytest.approx(1 - 1 / 5, abs=0.01)
    for state in range(STATES):
        shares = np.bincount(drawn.tokens[drawn.tags == state], minlength=16) / (drawn.tags == state).sum()
        np.testing.assert_allclose(shares, source.emission[state], atol=0.01)


def test_every_network_has_as_many_parameters() -> None:
    for scale in ("cpu", "gpu"):
        trained = [case for case in CASES[scale] if case.factor("probe") in ("tagging", "generation")]
        like = next(case.spec for case in trained if case.factor("direction") == "one" and case.spec.num_layers == 1)
        for case in trained:
            assert parameters(str(case.factor("direction")), case.spec) == pytest.approx(like.parameter_count(), rel=MISMATCH)


def test_training_counts_what_was_matched() -> None:
    case = next(case for case in CASES["smoke"] if case.factor("probe") == "tagging")
    found = {item.metric: item for item in measure("reference", case)}
    assert next(iter(found)) == "tagging_loss" and found["tagging_loss"].blocks == (1, 1, 1)
    assert found["network_parameters"].samples == (case.spec.parameter_count(),)
    assert found["smoother_optimum"].samples[0] < found["filter_optimum"].samples[0] < min(found["tagging_loss"].samples)


def test_next_tokens_are_judged_by_the_same_optimum() -> None:
    case = next(case for case in CASES["smoke"] if case.factor("probe") == "generation")
    found = {item.metric: item.samples for item in measure("reference", case)}
    assert found["next_token_optimum"][0] < min(found["next_token_loss"]) and len(found["prefix_loss"]) == 3


def test_claims_have_their_cases_and_forecasts_fit() -> None:
    probes = {case.factor("probe") for case in CASES["cpu"]}
    for claim in CLAIMS:
        for _, selection in claim.settings:
            named = dict(part.split("=", 1) for part in selection.split(",") if "<=" not in part)
            assert named["study"] == "direction" and named["probe"] in probes, claim.name
    assert STUDY.forecast is not None
    seconds = {scale: sum(STUDY.forecast(case) or 0 for case in CASES[scale]) for scale in ("smoke", "cpu", "gpu")}
    assert seconds["smoke"] < 6 and seconds["cpu"] / 2 < 90 and seconds["gpu"] < 540
