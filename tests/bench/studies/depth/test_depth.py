"""Study `depth`: tags of text and posteriors of frames held against what is known, equal parameters, and equal time."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from bench.harness.suites import Scale
from bench.studies.depth import CASES, CLAIMS, LIKE, NETWORKS, STUDY, TASKS, measure, tagging
from bench.studies.direction import MISMATCH
from bench.studies.direction.tagging import filter_states, smooth_states
from bench.studies.quality.sources import STATES, HiddenMarkov
from impls import LSTMSpec, UnknownName

MARKS = dict(zip(" kndsco", range(len(tagging.KINDS)), strict=True))  # a letter for each kind


def test_characters_are_tagged_with_their_kind_of_token() -> None:
    source = 'def f(x):\n    return x1 + 2.5  # é\n\ns = """if\n1"""\r\nif\ts: f"{a}b"\n'
    wanted = "kkk nonoo     kkkkkk nn o ddd  ccc  n o sssssssss  kk no sssssss "
    wanted = wanted.replace("sssssssss", "s" * len('"""if\n1"""'))
    assert [tagging.KINDS[tag] for tag in tagging.tags_of(source)] == [tagging.KINDS[MARKS[mark]] for mark in wanted]


def test_a_nested_f_string_is_a_string_to_its_end() -> None:
    source = "x = f'{f\"{y!r:>{w}}\"} {{if}}' + 'z'\n"
    wanted = "n o " + "s" * len("f'{f\"{y!r:>{w}}\"} {{if}}'") + " o sss "
    assert tagging.tags_of(source).tolist() == [MARKS[mark] for mark in wanted]


def test_text_is_of_the_standard_library_and_held_out_by_module() -> None:
    trained, held_out = tagging.text()
    for characters, tags in (trained, held_out):
        assert len(characters) == len(tags) > 100_000 and 0 <= characters.min() and characters.max() < tagging.CHARACTERS
        shares = np.bincount(tags, minlength=len(tagging.KINDS)) / len(tags)
        assert shares.min() > 0.002 and shares.max() < 0.4
        assert set(characters[tags == tagging.KINDS.index("number")]) <= set(map(ord, "0123456789abcdefABCDEFxXoOjJLl._+-"))
    drawn = tagging.windows(trained, np.random.default_rng(0), 9, 5)
    assert all(each.shape == (9, 5) for each in drawn)


def test_posteriors_of_frames_are_those_of_all_paths() -> None:
    chain, steps = HiddenMarkov(3), 4
    frames = np.random.default_rng(0).standard_normal((steps, 2, tagging.FEATURES))
    density = np.exp(-((frames[:, :, None] - tagging.MEANS) ** 2).sum(-1) / 2)  # [T, N, K]
    likely = tagging.likelihoods(frames)
    for number in range(2):
        joint, ends = np.zeros((steps, STATES)), np.zeros((steps, STATES))
        for length in range(1, steps + 1):
            for path in itertools.product(range(STATES), repeat=length):
                weight = np.prod(density[np.arange(length), number, path]) / STATES
                weight *= np.prod([chain.transition[one, other] for one, other in itertools.pairwise(path)])
                ends[length - 1, path[-1]] += weight
                if length == steps:
                    joint[np.arange(steps), path] += weight
        for posterior, weights in ((filter_states, ends), (smooth_states, joint)):
            found = posterior(chain.transition, likely)[:, number]
            np.testing.assert_allclose(found, weights / weights.sum(1, keepdims=True), rtol=1e-10)


def test_frames_lie_around_the_mean_of_their_state() -> None:
    case = next(case for case in CASES["cpu"] if case.factor("task") == "frames")
    frames, tags = tagging.task_of(replace(case, batch=3000)).draw(np.random.default_rng(0))
    for state in range(STATES):
        own = frames[tags == state]
        np.testing.assert_allclose(own.mean(0), tagging.MEANS[state], atol=0.04)
        np.testing.assert_allclose(own.std(0), 1, atol=0.04)


@pytest.mark.parametrize("scale", ["cpu", "gpu"])
def test_every_network_has_the_parameters_of_its_like(scale: Scale) -> None:
    for case in CASES[scale]:
        like = LSTMSpec(case.spec.input_size, int(case.factor("like")))
        assert case.spec.parameter_count() == pytest.approx(like.parameter_count(), rel=MISMATCH)
    found = {(case.factor("task"), case.factor("direction"), case.spec.num_layers) for case in CASES[scale]}
    assert found == {(task, *network) for task in TASKS for network in NETWORKS}
    assert {case.factor("matched") for case in CASES[scale]} == {LIKE, "parameters", "time"}


def test_equal_time_divides_the_updates_by_the_median_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    case = next(case for case in CASES["smoke"] if case.factor("matched") == "time")
    monkeypatch.setattr(tagging, "time_ratios", lambda case, task: [0.1, 2.0, 50.0])
    found = {item.metric: item for item in measure("reference", case)}
    assert next(iter(found)) == "tagging_loss" and found["tagging_loss"].blocks == (1, 1, 1)
    assert found["updates"].samples == (2.0,) and found["update_time_ratio"].samples == (0.1, 2.0, 50.0)
    assert found["network_parameters"].samples == (case.spec.parameter_count(),)
    assert found["smoother_optimum"].samples[0] < found["filter_optimum"].samples[0] < min(found["tagging_loss"].samples)


def test_time_ratios_are_of_the_case_over_one_layer() -> None:
    case = next(case for case in CASES["smoke"] if case.factor("matched") == "time")
    dear = replace(case, spec=LSTMSpec(16, 46, 3, bidirectional=True))
    same = replace(case, spec=LSTMSpec(16, 46), factors=tuple((dict(case.factors) | {"direction": "one"}).items()))
    ratios = {name: tagging.time_ratios(each, tagging.task_of(each)) for name, each in (("dear", dear), ("same", same))}
    assert all(len(each) == tagging.ROUNDS for each in ratios.values())
    assert np.median(ratios["dear"]) > 1.5 > np.median(ratios["same"])


def test_text_has_no_optimum_and_unknown_tasks_are_refused() -> None:
    case = next(case for case in CASES["smoke"] if case.factor("task") == "text")
    found = {item.metric: item.samples for item in measure("reference", case)}
    assert not {"filter_optimum", "update_time_ratio"} & set(found) and found["updates"] == (4.0,)
    with pytest.raises(UnknownName, match="task"):
        tagging.task_of(replace(case, factors=(("task", "songs"),)))


def test_claims_have_their_cases_and_forecasts_fit() -> None:
    factors = [
        {name: str(value) for name, value in case.factors} | {"num_layers": str(case.spec.num_layers)} for case in CASES["cpu"]
    ]
    for claim in CLAIMS:
        for label, selection in claim.settings:
            named = dict(part.split("=", 1) for part in selection.split(",") if "<=" not in part)
            assert named.pop("study") == "depth"
            picked = [of for of in factors if all(of[name] in value.split("|") for name, value in named.items())]
            assert len(picked) == 2, (claim.name, label)  # what is compared
    assert STUDY.forecast is not None
    seconds = {scale: sum(STUDY.forecast(case) or 0 for case in CASES[scale]) for scale in ("smoke", "cpu", "gpu")}
    assert seconds["smoke"] < 6 and seconds["cpu"] / 2 < 90 and seconds["gpu"] < 540
