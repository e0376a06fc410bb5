"""Every match of every study at gpu scale: at sizes that a GPU's kernels are made for, and within the tolerance.

`pytest -s` prints the list.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest

from bench.harness import study
from bench.harness.case import Case
from bench.studies import context, decode, matching, quality, scaling
from impls import LSTMStackSpec, MinLSTMSpec, Spec, SSMSpec, TransformerSpec

Pair = tuple[str, Spec, Spec]  # where it stands, the spec, and the one that it is compared with


def _by(cases: tuple[Case, ...], *names: str) -> dict[tuple[object, ...], list[Case]]:
    groups: dict[tuple[object, ...], list[Case]] = {}
    for case in cases:
        groups.setdefault(tuple(case.to_dict().get(name) for name in names), []).append(case)
    return groups


def _beside(name: str, groups: dict[tuple[object, ...], list[Case]], **like: str) -> Iterator[Pair]:
    """Of each group all specs beside the one that `like` picks."""
    for key, cases in groups.items():
        found = {case.spec for case in cases if like.items() <= case.to_dict().items()}
        assert len(found) == 1, f"{name} {key} has {len(found)} to compare with"
        (reference,) = found
        yield from ((f"{name} {'-'.join(map(str, key))}", spec, reference) for spec in {case.spec for case in cases})


def pairs() -> list[Pair]:
    sized = tuple(case for case in scaling.CASES["gpu"] if case.factor("sweep") not in ("newton", "matched"))
    asked = [case for case in scaling.CASES["gpu"] if case.factor("sweep") == "matched" and case.factor("matched") != "time"]
    found = [
        *_beside("scaling", _by(sized, "sweep", "size", "num_layers"), cell="lstm_stack"),
        *((f"scaling matched-{case.factor('matched')}", case.spec, case.spec) for case in asked),
        *_beside("decode", _by(decode.CASES["gpu"], "sweep", "batch"), model="attention"),
        *_beside("quality", _by(quality.CASES["gpu"], "size", "source"), cell="lstm_stack"),
        *_beside("context", _by(context.CASES["gpu"], "probe", "source"), cell="lstm_stack"),
    ]
    return sorted(found, key=lambda pair: (pair[0], pair[1].cell))


def line(name: str, spec: Spec, like: Spec) -> str:
    mismatch = spec.parameter_count() / like.parameter_count() - 1
    heads = ""
    if isinstance(spec, TransformerSpec):
        ratio = spec.inner_size / spec.hidden_size
        heads = f"{spec.num_heads} heads of {spec.head_size}, feed-forward {spec.inner_size} ({ratio:.2f})"
    return f"{name:28} {spec.cell:12} width {spec.hidden_size:5} {heads:42} {spec.parameter_count():>10} {mismatch:+.2%}"


def test_context_is_judged_with_ten_million_parameters() -> None:
    """And the memory span by lags in the hundreds, as the claim is made of."""
    cases = context.CASES["gpu"]
    assert all(9e6 < case.spec.parameter_count() < 11e6 for case in cases)
    assert max(case.steps for case in cases if case.factor("probe") == "recall") > 256


def test_every_match_at_gpu_scale_is_aligned_within_2_percent() -> None:
    listed = pairs()
    print(*(line(*pair) for pair in listed), sep="\n")
    for name, spec, like in listed:
        said = line(name, spec, like)
        assert abs(spec.parameter_count() / like.parameter_count() - 1) <= 0.02, said
        if isinstance(spec, TransformerSpec):
            assert spec.head_size == 64 and spec.hidden_size % 64 == spec.inner_size % 64 == 0, said
            assert 2 <= spec.inner_size / spec.hidden_size <= 6, said
        elif isinstance(spec, MinLSTMSpec | SSMSpec):
            assert spec.hidden_size % 16 == 0, said
        else:
            assert spec.hidden_size % 64 == 0, said


def test_the_list_has_every_architecture_matched_for_a_gpu() -> None:
    listed = {spec for _, spec, _ in pairs()}
    for name in study.names():
        if name == "descendants":  # networks of one width, matched by nothing
            continue
        if name in ("translation", "speech"):  # of more than one network each: their own tests hold the matches
            continue
        for case in study.get(name).cases.get("gpu", ()):
            if isinstance(case.spec, TransformerSpec | MinLSTMSpec | SSMSpec) and case.spec.device == "cuda":
                assert case.spec in listed, f"{name}: {case.key}"


def test_an_lstm_of_equal_cost_on_a_gpu_is_aligned_too() -> None:
    for case in scaling.CASES["gpu"]:
        if case.factor("sweep") == "matched" and case.factor("matched") != "time":
            found = scaling.match_lstm("torch", case)
            assert abs(found.mismatch) <= 0.02 and found.spec.hidden_size % 8 == 0


@pytest.mark.parametrize(
    "spec",
    [
        TransformerSpec(64, 416, num_heads=8, feed_forward_size=1701, device="cuda"),  # what was matched to 1e-4 once
        TransformerSpec(64, 448, num_heads=8, feed_forward_size=1792, device="cuda"),  # heads of 56
        TransformerSpec(64, 512, num_heads=8, feed_forward_size=1100, device="cuda"),
        TransformerSpec(64, 512, num_heads=8, feed_forward_size=3136, device="cuda"),  # 6.1 times as wide
        MinLSTMSpec(64, 722, device="cuda"),
        SSMSpec(64, 460, device="cuda"),
        LSTMStackSpec(64, 500, device="cuda"),
    ],
)
def test_sizes_that_kernels_do_not_like_are_not_allowed(spec: Spec) -> None:
    assert not matching.alignment_of(spec).allows(spec)
    assert matching.alignment_of(replace(spec, device="cpu")).allows(spec), "on a CPU any size may be matched"


@pytest.mark.parametrize("hidden", [128, 384, 512, 768, 1536])
def test_the_match_with_the_most_usual_feed_forward_is_taken(hidden: int) -> None:
    """Against every aligned pair there is, tried one by one."""
    lstm = LSTMStackSpec(64, hidden, device="cuda")

    def mismatch(spec: TransformerSpec) -> float:
        return abs(spec.parameter_count() / lstm.parameter_count() - 1)

    nearest: list[TransformerSpec] = []
    for width in range(128, 2 * hidden, 64):
        inner = [size for size in range(64, 7 * width, 64) if 2 <= size / width <= 6]
        each = [TransformerSpec(64, width, 1, num_heads=width // 64, feed_forward_size=size, device="cuda") for size in inner]
        nearest.append(min(each, key=mismatch))
    within = [spec for spec in nearest if mismatch(spec) <= 0.02]
    usual = min(within, key=lambda spec: abs(math.log(spec.inner_size / spec.hidden_size / 4)))
    assert matching.by_parameters(TransformerSpec(64, 128, device="cuda"), lstm).spec == usual


def test_where_no_aligned_size_is_within_tolerance_that_is_said() -> None:
    with pytest.raises(matching.Unmatched, match=r"no minlstm has \d+ parameters within 2\.0%: the nearest, of width 176"):
        matching.by_parameters(MinLSTMSpec(64, 8, device="cuda"), LSTMStackSpec(64, 128, device="cuda"))
    with pytest.raises(matching.Unmatched, match="no transformer has 1000 parameters within"):
        matching.match(TransformerSpec(8, 64, num_heads=1, device="cuda"), "parameters", lambda of: of.parameter_count(), 1000)
