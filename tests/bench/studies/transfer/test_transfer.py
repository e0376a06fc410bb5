"""Study `transfer`: the language's optimum by enumeration, stacks as PyTorch's, taggers judged at their best, forecasts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.harness.case import Case, InvalidCase
from bench.studies import transfer
from bench.studies.transfer import CASES, CLAIMS, STUDY, language, learning, measure
from bench.studies.transfer.language import CLASSES, TOPICS, VOCABULARY, Language
from bench.studies.transfer.learning import Labelled
from impls import LSTMSpec, UnknownName

LANGUAGE, STEPS, WIDTH = Language(), 5, 6


def test_the_best_tagger_is_that_of_all_paths() -> None:
    tokens = LANGUAGE.sample(np.random.default_rng(0), 3, 4).tokens
    states = CLASSES * TOPICS
    found = {tag: np.zeros((3, 4, 4)) for tag in language.TAGS}
    whole, before = np.zeros(4), np.zeros(4)
    for path in itertools.product(range(states), repeat=3):
        likely = LANGUAGE.transition[path[0], path[1]] * LANGUAGE.transition[path[1], path[2]] / states
        until = likely * LANGUAGE.emission[path[0], tokens[0]] * LANGUAGE.emission[path[1], tokens[1]]
        joint = until * LANGUAGE.emission[path[2], tokens[2]]
        whole, before = whole + joint, before + until
        for step, state in enumerate(path):
            found["class"][step, :, state // TOPICS] += joint
            found["topic"][step, :, state % TOPICS] += joint
    for tag, each in found.items():
        np.testing.assert_allclose(LANGUAGE.posterior(tokens, tag), each / whole[:, None], rtol=1e-10)
    first = np.log(LANGUAGE.emission.mean(0)[tokens[0]])  # of the first word, which the optimum leaves out
    assert LANGUAGE.next_word_optimum(tokens) == pytest.approx(-float(np.mean(np.log(whole) - first)) / 2)


def test_sentences_are_drawn_as_the_optimum_takes_them() -> None:
    drawn = LANGUAGE.sample(np.random.default_rng(1), 12, 20_000)
    states = TOPICS * drawn.classes + drawn.topics
    moved = np.zeros_like(LANGUAGE.transition)
    np.add.at(moved, (states[:-1].ravel(), states[1:].ravel()), 1)
    np.testing.assert_allclose(moved / moved.sum(1, keepdims=True), LANGUAGE.transition, atol=0.02)
    said = np.zeros_like(LANGUAGE.emission)
    np.add.at(said, (states.ravel(), drawn.tokens.ravel()), 1)
    np.testing.assert_allclose(said / said.sum(1, keepdims=True), LANGUAGE.emission, atol=0.02)
    np.testing.assert_allclose(LANGUAGE.transition.sum(0), 1)  # so that the uniform distribution is the stationary one
    with pytest.raises(UnknownName, match="tag"):
        drawn.tags("case")


def words(seeds: int, batch: int = 3) -> Tensor:
    return torch.from_numpy(LANGUAGE.sample(np.random.default_rng(2), STEPS, seeds * batch).tokens).view(STEPS, seeds, batch)


def pytorchs(stacks: learning.Stacks, seed: int, direction: int) -> nn.LSTM:
    lstm = nn.LSTM(WIDTH, WIDTH, len(stacks.layers))
    with torch.no_grad():
        for layer, each in enumerate(stacks.layers):
            for name, value in zip(("weight_ih", "weight_hh", "bias_ih"), each, strict=True):
                getattr(lstm, f"{name}_l{layer}").copy_(value[direction, seed].T.squeeze())
            getattr(lstm, f"bias_hh_l{layer}").zero_()
    return lstm


def test_stacks_and_their_gradients_are_those_of_two_plain_lstms() -> None:
    stacks, tokens = learning.Stacks((4, 5), WIDTH, 2, "cpu"), words(2)
    features = stacks.features(tokens)
    weights = torch.randn(features[-1].shape, generator=torch.Generator().manual_seed(0))
    (features[-1] * weights).sum().backward()
    for seed in range(2):
        table = stacks.words[seed].detach().clone().requires_grad_()
        x = table[tokens[:, seed]]
        ahead, back = (pytorchs(stacks, seed, direction) for direction in range(2))
        expected = torch.cat([ahead(x)[0], back(x.flip(0))[0].flip(0)], -1)
        torch.testing.assert_close(features[-1][:, seed], expected, rtol=1e-5, atol=1e-6)
        (expected * weights[:, seed]).sum().backward()
        assert stacks.words.grad is not None
        torch.testing.assert_close(stacks.words.grad[seed], table.grad, rtol=1e-4, atol=1e-5)
        for direction, lstm in enumerate((ahead, back)):
            for layer, own in enumerate(stacks.layers):
                for name, value in zip(("weight_ih", "weight_hh", "bias_ih"), own, strict=True):
                    grad = getattr(lstm, f"{name}_l{layer}").grad
                    grad = grad.T if grad.ndim == 2 else grad[None]
                    assert value.grad is not None
                    torch.testing.assert_close(value.grad[direction, seed], grad, rtol=1e-4, atol=1e-5)


def test_the_language_model_does_not_read_the_word_it_predicts() -> None:
    model, tokens = learning.LanguageModel(CASES["smoke"][0], (0,)), words(1)
    changed = tokens.clone()
    changed[2] = (changed[2] + 1) % VOCABULARY
    one, other = (model.stacks.run(each)[-1] for each in (tokens, changed))
    assert torch.equal(one[:2, 0], other[:2, 0]) and torch.equal(one[:2, 1], other[:2, 1])  # each before it reads word 2
    assert not torch.equal(one[2, 0], other[2, 0])
    assert model.losses(tokens).shape == (2, 1)


def test_each_seeds_gradient_is_clipped_by_itself() -> None:
    value, other = torch.zeros(2, 3, requires_grad=True), torch.zeros(2, 2, 1, requires_grad=True)
    value.grad, other.grad = torch.tensor([[3.0, 0, 0], [0.1, 0, 0]]), torch.tensor([[[4.0], [0.2]], [[0.0], [0.0]]])
    learning.clip([(value, 0), (other, 1)])
    assert value.grad is not None and other.grad is not None
    torch.testing.assert_close(value.grad, torch.tensor([[0.6, 0, 0], [0.1, 0, 0]]))
    torch.testing.assert_close(other.grad, torch.tensor([[[0.8], [0.2]], [[0.0], [0.0]]]))


def made(hidden: int = 4, batch: int = 4, **changed: int) -> Case:
    case = CASES["smoke"][0]
    factors = dict(case.factors) | changed
    return Case(LSTMSpec(hidden, hidden, 2), case.steps, batch, "forward_backward", seed=1, factors=tuple(factors.items()))


def labelled(case: Case, count: int, random: int) -> Labelled:
    drawn = LANGUAGE.sample(np.random.default_rng(random), case.steps, 3 * count)
    return Labelled(*(torch.from_numpy(each).view(case.steps, 3, count) for each in (drawn.tokens, drawn.topics)))


def test_frozen_layers_stay_as_they_are_and_linear_taggers_learn() -> None:
    case = made(hidden=16, batch=16, updates=60)
    model = learning.pretrain(case, LANGUAGE, (0, 1, 2))
    before = [value.detach().clone() for value, _ in model.parameters]
    tagger, train, test = learning.OnFeatures(model, (0, 1, 2)), labelled(case, 400, 3), labelled(case, 200, 4)
    loss, wrong = learning.tag(tagger, train, test, case)
    assert loss.shape == wrong.shape == (3, len(model.stacks.layers) + 2)
    assert loss.max() < np.log(TOPICS) - 0.01 and loss[:, 1].max() < np.log(TOPICS) - 0.06 and wrong.max() < 0.72
    assert all(torch.equal(value, old) for (value, _), old in zip(model.parameters, before, strict=True))


def test_a_tagger_is_judged_at_its_best_and_not_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    case = made(updates=learning.CHECKS)
    tagger, train, test = learning.FromScratch(case, (0, 1, 2)), labelled(case, 40, 5), labelled(case, 200, 6)

    def worse(parameters, loss, updates, rate, after) -> None:
        for update in range(updates):
            after(update)
            with torch.no_grad():
                tagger.weights[..., 0] += 1.0

    monkeypatch.setattr(learning, "descend", worse)
    with torch.no_grad():
        first = learning.losses(tagger, test)[0].numpy()
    np.testing.assert_allclose(learning.tag(tagger, train, test, case)[0], first, rtol=1e-6)


@pytest.mark.parametrize("case", CASES["smoke"], ids=lambda case: case.key)
def test_what_is_measured_is_by_seed_and_never_below_the_least(case: Case) -> None:
    found = {item.metric: item for item in measure("reference", case)}
    assert next(iter(found)) == "transfer_loss"
    assert found["transfer_loss"].blocks == found["scratch_loss"].blocks == (3, 3, 3)
    assert found["layer_loss"].blocks == (case.spec.num_layers + 1,) * 3
    assert found["labelled"].samples == (5.0, 50.0, 500.0)
    for name in ("transfer", "scratch"):
        assert min(found[f"{name}_loss"].samples) >= found["least_loss"].samples[0]
    assert min(found["language_model_loss"].samples) > found["least_language_model_loss"].samples[0]


def test_too_few_labels_are_refused() -> None:
    with pytest.raises(InvalidCase, match="ask for 5 or more"):
        next(iter(measure("reference", made(fewest=4))))


def test_claims_have_their_cases_and_forecasts_fit() -> None:
    assert transfer.TAGS == language.TAGS
    there = {str(case.factor("tag")) for case in CASES["cpu"]}
    for claim in CLAIMS:
        for _, selection in claim.settings:
            named = dict(part.split("=", 1) for part in selection.split(","))
            assert named["study"] == "transfer" and named["tag"] in there
    assert STUDY.forecast is not None
    seconds = {scale: sum(STUDY.forecast(case) or 0 for case in CASES[scale]) for scale in ("smoke", "cpu", "gpu")}
    assert seconds["smoke"] < 6 and seconds["cpu"] / 2 < 90 and 60 < seconds["gpu"] < 540
