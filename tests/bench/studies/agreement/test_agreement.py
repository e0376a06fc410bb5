"""Study `agreement`: optima by enumeration, sentences read back, LSTMs as PyTorch's, and the units of a network set by hand."""

from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np
import pytest
import torch

from bench.harness.case import Case, InvalidCase
from bench.studies import agreement
from bench.studies.agreement import CASES, CLAIMS, STUDY, languages, learning, measure
from bench.studies.agreement.languages import LANGUAGES, MOST_ATTRACTORS, UNMARKED, Language
from bench.studies.horizon.tasks import Task
from bench.studies.horizon.training import Networks
from impls import LSTMSpec, UnknownName

STEPS = 21
SMALL = Language("small", 0.3, 0.8)
MET = range(MOST_ATTRACTORS + 1)


def enumerated(language: Language, attractors: int) -> dict[tuple[int, ...], np.ndarray]:
    """What subject and attractors show, with its probability under either form: every case there is."""
    found: dict[tuple[int, ...], np.ndarray] = defaultdict(lambda: np.zeros(2))
    for form, *others in itertools.product((0, 1), repeat=1 + attractors):
        for showing in itertools.product((False, True), repeat=1 + attractors):
            likely = 0.5
            for other in others:
                likely *= language.alike if other == form else 1 - language.alike
            for shows in showing:
                likely *= 1 - language.unmarked if shows else language.unmarked
            shown = tuple(own if shows else UNMARKED for own, shows in zip((form, *others), showing, strict=True))
            found[shown][form] += likely
    return found


@pytest.mark.parametrize("language", [*LANGUAGES.values(), SMALL], ids=lambda each: each.name)
@pytest.mark.parametrize("attractors", MET)
def test_the_optimum_is_that_of_all_cases(language: Language, attractors: int) -> None:
    cases = enumerated(language, attractors)
    assert sum(likely.sum() for likely in cases.values()) == pytest.approx(1)
    assert language.best_accuracy(attractors) == pytest.approx(sum(likely.max() for likely in cases.values()), abs=1e-12)
    for (subject, *others), likely in cases.items():
        if likely.sum():
            balance = sum(each == 1 for each in others) - sum(each == 0 for each in others)
            found = language.posterior(np.array([subject]), np.array([balance]))[0]
            assert found == pytest.approx(likely[1] / likely.sum(), abs=1e-12)


def parsed(tokens: np.ndarray) -> tuple[int, int, list[int]]:
    """Of one sentence, read word by word: distance of the subject to the verb, what it shows, what the attractors show."""
    nouns = [place for place, word in enumerate(tokens) if word < languages.PREPOSITION]
    free = [p for p in nouns if p == 0 or not languages.PREPOSITION <= tokens[p - 1] < languages.FILLER]
    assert len(free) == 1
    others = [int(tokens[place] // languages.NOUNS) for place in nouns if place != free[0]]
    return len(tokens) - free[0], int(tokens[free[0]] // languages.NOUNS), others


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=lambda each: each.name)
def test_sentences_say_what_they_are_drawn_as(language: Language) -> None:
    drawn = languages.sample(language, np.random.default_rng(0), STEPS, 400)
    for number, tokens in enumerate(drawn.tokens.T):
        distance, shown, others = parsed(tokens)
        assert (distance, shown, len(others)) == (drawn.distance[number], drawn.shown[number], drawn.attractors[number])
        assert drawn.balance[number] == others.count(1) - others.count(0)
        assert shown in (drawn.form[number], UNMARKED)
    assert set(drawn.distance) == set(range(1, STEPS)) and set(drawn.attractors) == set(MET)


def test_drawn_sentences_have_the_languages_optimum() -> None:
    drawn = languages.sample(SMALL, np.random.default_rng(1), STEPS, 200_000)
    likely = SMALL.posterior(drawn.shown, drawn.balance)
    guess = likely > 0.5
    for attractors in MET:
        there = drawn.attractors == attractors
        best = SMALL.best_accuracy(attractors)
        assert np.maximum(likely, 1 - likely)[there].mean() == pytest.approx(best, abs=0.004)
        assert (np.where(likely == 0.5, 0.5, guess == drawn.form))[there].mean() == pytest.approx(best, abs=0.01)


def test_opposed_sentences_mislead_and_places_are_the_same() -> None:
    random = np.random.default_rng(2)
    distance, attractors = np.array([1, 7, 20, 20]), np.array([0, 3, 3, 1])
    made = languages.opposed(random, STEPS, distance, attractors)
    for number, tokens in enumerate(made.tokens.T):
        assert parsed(tokens) == (distance[number], made.form[number], [1 - made.form[number]] * attractors[number])
    words, tokens = languages.in_places(random, STEPS, 6)
    for number, own in enumerate(tokens.T):
        assert parsed(own) == (STEPS - 1, number % 2, [1 - number % 2] * MOST_ATTRACTORS)
    subject = np.flatnonzero(words == languages.SUBJECT)
    assert list(subject) == [1] and (words == languages.ATTRACTOR).sum() == MOST_ATTRACTORS


def test_unknown_names_and_short_sentences_are_refused() -> None:
    with pytest.raises(UnknownName, match="language"):
        languages.get("case")
    case = CASES["smoke"][0]
    with pytest.raises(InvalidCase, match="11 steps or more"):
        next(iter(measure("reference", Case(case.spec, 10, 2, factors=case.factors))))
    with pytest.raises(UnknownName, match="objective"):
        factors = tuple((dict(case.factors) | {"objective": "tree"}).items())
        next(iter(measure("reference", Case(case.spec, 11, 2, factors=factors))))


def networks(hidden: int, seeds: int = 1) -> Networks:
    task = Task("agreement", languages.VOCABULARY, 2, 1, 1, lambda lag: lag + 1)
    return Networks(LSTMSpec(languages.VOCABULARY, hidden), "pytorch", range(seeds), task, 0.01)


def test_sentences_are_read_as_by_pytorchs_lstm() -> None:
    own = networks(6, seeds=2)
    tokens = languages.sample(LANGUAGES["gender"], np.random.default_rng(3), STEPS, 5).tokens
    states = torch.stack([h for *_, h in learning.Reader(own, tokens).run()], 1)
    torch.testing.assert_close(learning.read(own, tokens, "form")[1], states.mean((1, 2)), rtol=1e-5, atol=1e-6)
    for seed in range(2):
        lstm = torch.nn.LSTM(languages.VOCABULARY, 6)
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        lstm.load_state_dict({name: each[seed].T.squeeze() for name, each in zip(names, own.parameters, strict=False)})
        with torch.no_grad():
            expected = lstm(torch.eye(languages.VOCABULARY)[torch.from_numpy(tokens)])[0]
        torch.testing.assert_close(states[seed], expected, rtol=1e-5, atol=1e-6)


def test_a_unit_that_is_held_is_a_constant_to_the_others() -> None:
    own, value = networks(5), torch.tensor([0.3])
    reader = learning.Reader(own, languages.sample(LANGUAGES["number"], np.random.default_rng(4), STEPS, 4).tokens)
    held = [h for *_, h in reader.run(2, value)]
    reader.of_words = reader.of_words + value * reader.w_h[:, [2]]
    reader.w_h = reader.w_h.clone()
    reader.w_h[:, 2] = 0
    for one, other in zip(held, (h for *_, h in reader.run()), strict=True):
        torch.testing.assert_close(one[..., [0, 1, 3, 4]], other[..., [0, 1, 3, 4]], rtol=1e-5, atol=1e-6)
        assert (one[..., 2] == value).all()


STORE, SHIELD = 2, 1  # units of the network below


def set_by_hand() -> Networks:
    """Four units: one says that the last word was a preposition, one keeps the feature of a noun unless the first says so."""
    own = networks(4)
    for each in own.parameters:
        each.zero_()
    w_x, w_h, b_x, _, w_y, _ = (each[0] for each in own.parameters)
    i, f, g, o = (4 * gate for gate in range(4))
    noun, preposition = slice(0, 2 * languages.NOUNS), slice(languages.PREPOSITION, languages.FILLER)
    b_x[0, [o + SHIELD, i + SHIELD, o + STORE, f + STORE]] = 40.0
    b_x[0, f + SHIELD] = -40.0
    w_x[preposition, g + SHIELD] = 40.0
    b_x[0, i + STORE] = -20.0
    w_x[noun, i + STORE] = 60.0
    w_h[SHIELD, i + STORE] = -80.0  # times tanh(1)
    w_x[: languages.NOUNS, g + STORE], w_x[languages.NOUNS : 2 * languages.NOUNS, g + STORE] = -40.0, 40.0
    w_y[STORE, 0], w_y[STORE, 1] = -1.0, 1.0
    return own


def test_ablation_finds_the_units_of_a_network_set_by_hand() -> None:
    own, random = set_by_hand(), np.random.default_rng(5)
    drawn = languages.sample(LANGUAGES["number"], random, STEPS, learning.AT_ONCE + 88)
    answers, means = learning.read(own, drawn.tokens, "form")
    assert (answers == drawn.form).all()  # the best accuracy of the language, 1, is an LSTM's too
    found = learning.ablate(own, "form", means, random, STEPS)
    # Without the shield every attractor is stored on top of the subject, and three outvote it; without the store all is lost.
    assert found.chosen("far") == [SHIELD] and found.of_chosen("far") == [1.0] and found.of_chosen("near") == [0.0]
    assert found.chosen("far_alone") == [STORE] and found.of_chosen("far_alone") == pytest.approx([0.5])
    assert found.losses["far_alone"][0, SHIELD] == 0.0 and found.losses["far"][0, [0, 3]].max() == 0.0
    least = 1 / (1 + learning.PERMUTATIONS)
    assert found.p_value("far") == found.p_value("far_alone") == pytest.approx([least])
    measured = {item.metric: item for item in learning.traces(own, found, random, STEPS)}
    assert measured["trace_seed_unit"].samples == (0.0, STORE)
    assert measured["write_at_subject"].samples[0] > 0.999 > 0.001 > measured["write_at_attractor"].samples[0]
    assert measured["kept_between"].samples[0] > 0.999
    cell = np.array(measured["trace"].samples).reshape(2, 4, STEPS)[:, 3]
    assert (np.abs(cell[:, 1:] - [[-1], [1]]) < 1e-3).all()  # the subject's feature, from its word to the verb


def test_the_null_is_that_of_interchangeable_units() -> None:
    random = np.random.default_rng(6)
    scattered = np.eye(16, dtype=int)[random.integers(0, 16, 200)]  # each sentence is lost without one unit, any of them
    level = np.quantile(learning.null(scattered, random), 0.95)
    assert scattered.mean(0).max() <= level < 0.2
    planted = np.eye(16, dtype=int)[np.where(random.random(200) < 0.4, 3, random.integers(0, 16, 200))]
    assert planted.mean(0).max() > np.quantile(learning.null(planted, random), 0.95) + 0.1


@pytest.mark.parametrize("case", CASES["smoke"], ids=lambda case: case.key)
def test_what_is_measured_is_accuracy_first_a_block_a_seed(case: Case) -> None:
    found = {item.metric: item for item in measure("reference", case)}
    assert next(iter(found)) == "accuracy" and found["accuracy"].blocks == (1, 1, 1)
    assert max(found["accuracy"].samples) <= found["best_accuracy"].samples[0] <= 1
    assert found["unit_loss_far"].blocks == (case.spec.hidden_size,) * 3
    grid = len(found["tested_distance"].samples)
    assert found["accuracy_by_distance"].blocks == found["accuracy_by_distance_halfway"].blocks == (grid,) * 3
    assert found["trace"].blocks == (4 * case.steps,) * 2


def test_claims_have_their_cases_and_forecasts_fit() -> None:
    assert agreement.VOCABULARY == languages.VOCABULARY and set(agreement.OBJECTIVES) == set(learning.OBJECTIVES)
    there = {(case.factor("language"), case.factor("objective")) for case in CASES["cpu"]}
    for claim in CLAIMS:
        for _, selection in claim.settings:
            named = dict(part.split("=", 1) for part in selection.split(","))
            assert named["study"] == "agreement" and (named["language"], named["objective"]) in there
    assert STUDY.forecast is not None
    seconds = {scale: sum(STUDY.forecast(case) or 0 for case in CASES[scale]) for scale in ("smoke", "cpu", "gpu")}
    assert seconds["smoke"] < 6 and seconds["cpu"] / 2 < 90 and seconds["gpu"] < 540
