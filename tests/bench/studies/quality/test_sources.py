"""The known optima are optima, and a corpus that will not do says so."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bench.harness import study
from bench.harness.case import Case, InvalidCase
from bench.studies.quality import sources
from bench.studies.quality.sources import NOISE, STATES, VOCABULARY_COPYING, Copies, HiddenMarkov
from impls import LSTMSpec, UnknownName


def case(**factors: str) -> Case:
    return Case(LSTMSpec(4, 4), 8, 2, factors=tuple(factors.items()))


def test_the_forward_algorithm_is_the_sum_over_all_paths():
    source = HiddenMarkov(5)
    window = source.windows(np.random.default_rng(0), 5, 1)
    total = 0.0
    for path in itertools.product(range(STATES), repeat=5):
        chance = 1 / STATES
        for step, state in enumerate(path):
            chance *= source.emission[state, window[step, 0]] * (source.transition[path[step - 1], state] if step else 1.0)
        total += chance
    assert source.optimum(window).sum() == pytest.approx(-np.log(total), rel=1e-12)


@pytest.mark.parametrize("source", [HiddenMarkov(20), Copies(16)])
def test_the_optimum_is_calibrated_and_improves_with_context(source):
    windows = source.windows(np.random.default_rng(1), 65, 2000)
    found = source.optimum(windows)
    assert found[0].mean() == pytest.approx(np.log(16), abs=1e-9)
    assert found[-8:].mean() < found[:4].mean() - 0.05
    other = type(source)(64).optimum(windows)  # the right kind of model with the wrong parameter knows less
    assert found.mean() < other.mean()


def test_copies_are_noisy_and_the_optimum_finds_their_lag():
    source = Copies(4)
    windows = source.windows(np.random.default_rng(2), 40, 4000)
    same = (windows[4:] == windows[:-4]).mean()
    assert same == pytest.approx(1 - NOISE + NOISE / VOCABULARY_COPYING, abs=0.005)
    right, wrong = 1 - NOISE + NOISE / VOCABULARY_COPYING, NOISE / VOCABULARY_COPYING
    entropy = -right * np.log(right) - (VOCABULARY_COPYING - 1) * wrong * np.log(wrong)
    assert source.optimum(windows)[4:].mean() == pytest.approx(entropy, abs=0.02)


def test_the_standard_library_is_there_and_always_the_same():
    first, second = sources.of_standard_library(128), sources.of_standard_library(256)
    assert first.digest == second.digest and len(first.digest) == 64 and first.size > 1e6
    window = first.held_out(np.random.default_rng(3), 64, 5)
    assert window.shape == (64, 5) and window.dtype == np.int64 and window.max() < 256


def test_what_is_held_out_is_never_trained_on():
    source = sources.Text(bytes(range(10)) * 20, "it", 20)  # blocks of 20 bytes; the tenth is held out
    assert len(source._train) == 180 and len(source._held_out) == 20


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot read corpus .*No such file"), (b"", "is empty"), (b"short", "has 5 bytes.*too few for one window of 33")],
)
def test_a_corpus_that_will_not_do_says_so(tmp_path, content, message):
    path = tmp_path / "corpus"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(sources.InvalidCorpus, match=message):
        sources.of_file(path, 33)


def test_a_corpus_need_not_be_text_and_is_known_by_its_hash(tmp_path, monkeypatch):
    path = tmp_path / "corpus"
    path.write_bytes(np.random.default_rng(4).bytes(5000))
    monkeypatch.setattr(study, "_paths", study.RunPaths(corpus=path))
    asked = case(source="text", corpus=sources.corpus_name(path))
    assert sources.of_case(asked, 100).digest.startswith(sources.corpus_name(path))
    path.write_bytes(b"another" * 1000)
    with pytest.raises(sources.InvalidCorpus, match=r"has the hash .*name the file it was"):
        sources.of_case(asked, 100)
    monkeypatch.setattr(study, "_paths", study.RunPaths())
    with pytest.raises(sources.InvalidCorpus, match="name it with --corpus FILE"):
        sources.of_case(asked, 100)


def test_sources_are_named_with_their_numbers():
    assert sources.of_case(case(source="hmm:30"), 9).name == "hmm:30"
    assert sources.of_case(case(source="copy:32"), 9).name == "copy:32"
    for wrong in ("hmm", "hmm:x", "copy:2"):
        with pytest.raises(InvalidCase, match="needs a whole number of at least"):
            sources.of_case(case(source=wrong), 9)
    with pytest.raises(UnknownName, match="no source 'poem'; choose from"):
        sources.of_case(case(source="poem"), 9)
