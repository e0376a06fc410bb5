"""`--where`: booleans, whole and decimal numbers and words, over all studies that are asked, by one grammar."""

from __future__ import annotations

import functools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.harness import case as harness_case
from bench.harness import plan, study
from bench.harness.case import Case, InvalidFilter
from bench.harness.suites import SUITES
from impls import UnknownName


@functools.cache
def asked() -> list[tuple[str, str, tuple[Case, ...]]]:
    """Every study at the scale of every suite that has cases of it."""
    found = {}
    for name in study.names():
        for suite in SUITES:
            if (cases := study.get(name).cases.get(SUITES[suite].scale)) and (name, SUITES[suite].scale) not in found:
                found[name, SUITES[suite].scale] = (name, suite, cases)
    return list(found.values())


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_every_parameter_selects_its_case_as_list_prints_it(data: st.DataObject):
    name, suite, cases = data.draw(st.sampled_from(asked()))
    case = data.draw(st.sampled_from(cases))
    parameter, value = data.draw(st.sampled_from(sorted(({"case": case.key} | case.to_dict()).items())))
    written = data.draw(st.sampled_from([str(value), json.dumps(value).strip('"')]))
    chosen = plan.make(name, where=[f"{parameter}={written}"], scale=suite)
    (its,) = chosen.studies
    assert case in chosen.cases(its)
    assert all(({"case": one.key} | one.to_dict())[parameter] == value for one in chosen.cases(its))
    others = plan.dataclasses.replace(chosen, filters=(f"{parameter}!={written}",)).cases(its)
    having = {one for one in cases if parameter == "case" or parameter in one.to_dict()}
    assert set(others) | set(chosen.cases(its)) == having and not set(others) & set(chosen.cases(its))


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(["<=", ">=", "<", ">"]))
def test_a_comparison_parts_the_cases_as_their_numbers_do(data: st.DataObject, symbol: str):
    name, suite, cases = data.draw(st.sampled_from(asked()))
    case = data.draw(st.sampled_from(cases))
    numbers = {key: value for key, value in case.to_dict().items() if type(value) in (int, float)}
    parameter, value = data.draw(st.sampled_from(sorted(numbers.items())))
    compare = {"<=": float.__le__, ">=": float.__ge__, "<": float.__lt__, ">": float.__gt__}[symbol]
    wanted = [one for one in cases if parameter in one.to_dict() and compare(float(one.to_dict()[parameter]), float(value))]
    if wanted:
        made = plan.make(name, where=[f"{parameter}{symbol}{value}"], scale=suite)
        assert list(made.cases(made.studies[0])) == wanted
    else:
        with pytest.raises(InvalidFilter, match=f"no case of {name} passes"):
            plan.make(name, where=[f"{parameter}{symbol}{value}"], scale=suite)


def decimals() -> tuple[Case, Case, Case]:
    base = study.get("throughput").cases["quick"][0]
    made = [plan.dataclasses.replace(base, factors=(("mismatch", value),)) for value in (-0.00044, 0.001, 0)]
    return made[0], made[1], made[2]


@pytest.mark.parametrize(("text", "places"), [
    ("mismatch<=0.01", (0, 1, 2)), ("mismatch=-0.00044", (0,)), ("mismatch=1e-3", (1,)), ("mismatch=1E-03", (1,)),
    ("mismatch=-4.4e-4", (0,)), ("mismatch<0", (0,)), ("mismatch=0.0", (2,)), ("mismatch!=.001", (0, 2)),
    (" mismatch >= +0 ", (1, 2)),
    ("mismatch<inf", (0, 1, 2)), ("bias=true", (0, 1, 2)), ("bias=TRUE", (0, 1, 2)), ("bias=false", ()),
    ("bias!=False", (0, 1, 2)),
    ("hidden_size>=1.5", (0, 1, 2)), ("phase!=nothing", (0, 1, 2)),
])  # fmt: skip
def test_numbers_and_booleans_are_read_as_what_they_are(text: str, places: tuple[int, ...]):
    cases = decimals()
    assert harness_case.choose(cases, [text]) == tuple(cases[place] for place in places)


@pytest.mark.parametrize(("text", "message"), [
    ("mismatch=small", "mismatch is a number, and 'small' is not; write it as mismatch=-0.00044"),
    ("mismatch==1", "mismatch is a number, and '=1' is not"), ("mismatch=1_0", "'1_0' is not"),
    ("mismatch=nan", "'nan' is not"),
    ("mismatch=0x1", "'0x1' is not"), ("bias=1", "bias is true or false, and '1' is not; write it as bias=true"),
    ("bias<true", "bias is true or false, which has no order; choose by = or !=, as bias=true"),
    ("phase<=step", "phase is a word, which has no order"), ("mismatch", "cannot read the filter 'mismatch'"),
    ("=3", "cannot read the filter '=3'"), ("mismatch=", "cannot read the filter 'mismatch='"),
    ("", "cannot read the filter ''"),
])  # fmt: skip
def test_an_unreadable_filter_says_what_to_write(text: str, message: str):
    with pytest.raises(InvalidFilter) as caught:
        harness_case.choose(decimals(), [text])
    assert message in str(caught.value)


def test_a_studys_factor_is_a_parameter_of_its_suites():
    suite = "every" if "every" in SUITES else "cpu"
    chosen = plan.make(suite)
    names = {its: {key for case in chosen.cases(its) for key in case.to_dict()} for its in chosen.studies}
    everywhere = set.intersection(*(one for one in names.values() if one))
    own = [(its, key) for its, keys in names.items() for key in keys - everywhere]
    assert own
    for its, key in own:
        value = next(case.to_dict()[key] for case in chosen.cases(its) if key in case.to_dict())
        found = plan.make(suite, where=[f"{key}={value}"])
        assert found.cases(its) and not [other for other in chosen.studies if key not in names[other] and found.cases(other)]
    with pytest.raises(UnknownName, match="no parameter 'hiden_size'"):
        plan.make(suite, where=["hiden_size=3"])


def test_a_parameter_may_be_a_number_here_and_a_word_there():
    base = study.get("throughput").cases["quick"][0]
    one, two, three = (plan.dataclasses.replace(base, factors=(("length", value),)) for value in (8, "natural", True))
    cases = (one, two, three)
    assert harness_case.choose(cases, ["length=8"]) == (one,) and harness_case.choose(cases, ["length=natural"]) == (two,)
    assert harness_case.choose(cases, ["length=true"]) == (three,) and harness_case.choose(cases, ["length!=8"]) == (two, three)
    assert harness_case.choose(cases, ["length<=8"]) == (one,)
