"""The networks of study `translation`: attention, the order of the source, greedy decoding, parameters; and their training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bench.harness.case import Case, InvalidCase
from bench.studies.matching import alignment_of
from bench.studies.translation import CASES, CLAIMS, MATCHED, NAMES, ORDERS, STUDY, learning, networks, parameters, tasks
from bench.studies.translation.networks import LSTMTranslator, Translator
from impls import LSTMSpec, Spec, TransformerSpec

COPY = tasks.get("copy")


def spec_of(network: str, layers: int = 2) -> Spec:
    return TransformerSpec(16, 16, layers, num_heads=2) if network == "transformer" else LSTMSpec(16, 16, layers)


def built(network: str, backwards: bool = False, layers: int = 2) -> Translator:
    return networks.build(network, spec_of(network, layers), COPY, backwards, seed=4).double()


def lstm(network: str, backwards: bool = False, layers: int = 2) -> LSTMTranslator:
    found = built(network, backwards, layers)
    assert isinstance(found, LSTMTranslator)
    return found


def pair(length: int = 6, batch: int = 5) -> tuple[Tensor, Tensor]:
    return COPY.draw(length, batch, torch.Generator().manual_seed(length))


@pytest.mark.parametrize("network", ["lstm", "attention"])
def test_reading_backwards_is_reading_the_flipped_source(network: str) -> None:
    source, target = pair()
    forwards, backwards = built(network), built(network, backwards=True)
    before = learning.before(target)
    assert torch.equal(backwards(source, before), forwards(source.flip(0), before))
    assert not torch.equal(backwards(source, before), forwards(source, before))


def test_attention_sums_to_one_and_looks_by_its_score() -> None:
    model, (source, target) = lstm("attention"), pair()
    memory, state = model.encode(source)
    states, _ = model.decoder(model.of_target(learning.before(target)), state)
    weights = model.weights(states, memory)
    assert weights.shape == (5, 7, 6) and (weights > 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(5, 7, dtype=torch.float64), rtol=0, atol=1e-14)
    scores = torch.stack([states[2, 1] @ model.score.weight @ memory[s, 1] for s in range(6)])
    torch.testing.assert_close(weights[1, 2], scores.softmax(-1))


def test_with_one_word_attention_has_no_choice() -> None:
    """Its weight is 1 whatever its score, and the network one without attention whose readout sees the word's state."""
    model, (source, target) = lstm("attention"), pair(length=1)
    before = learning.before(target)
    found = model(source, before)
    memory, state = model.encode(source)
    states, _ = model.decoder(model.of_target(before), state)
    seen = torch.cat([memory.expand_as(states), states], -1)
    torch.testing.assert_close(found, model.readout(torch.tanh(model.combine(seen))), rtol=0, atol=1e-14)
    with torch.no_grad():
        model.score.weight.mul_(-7.0)
    assert torch.equal(model(source, before), found)
    longer, more = pair()
    held = model(longer, learning.before(more))
    with torch.no_grad():
        model.score.weight.mul_(2.0)
    assert not torch.equal(model(longer, learning.before(more)), held)


@pytest.mark.parametrize("network", NAMES)
def test_steps_give_what_the_whole_target_gives(network: str) -> None:
    model, (source, target) = built(network), pair()
    whole, start = model(source, learning.before(target)), model.encode(source)
    for place, word in enumerate(learning.before(target)):
        logits, start = model.step(word, start)
        torch.testing.assert_close(logits, whole[place], rtol=0, atol=1e-12)
    changed = learning.before(target).clone()
    changed[4:] = 3
    torch.testing.assert_close(model(source, changed)[:4], whole[:4], rtol=0, atol=1e-12)  # no word depends on later ones


@pytest.mark.parametrize("network", NAMES)
def test_a_sequence_alone_is_translated_as_among_others(network: str) -> None:
    model, (source, target) = built(network), pair()
    whole = model(source, learning.before(target))
    for number in range(5):
        own = model(source[:, number, None], learning.before(target)[:, number, None])
        torch.testing.assert_close(own[:, 0], whole[:, number], rtol=0, atol=1e-12)


@pytest.mark.parametrize("network", NAMES)
def test_greedy_is_exact_where_every_word_is_most_likely(network: str) -> None:
    """With the right words given: the first wrong word is wrong either way."""
    case = trained_case(network, updates=60)
    model = learning.train(case, COPY, 0).model
    source, target = pair(4, 200)
    with torch.no_grad():
        given = (model(source, learning.before(target)).argmax(-1) == target).all(0)
    exact = (networks.greedy(model, source, 5) == target).all(0)
    assert torch.equal(exact, given) and 0 < int(exact.sum()) < 200


def trained_case(network: str, updates: int) -> Case:
    case = next(case for case in CASES["smoke"] if case.factor("network") == network)
    own = {"updates": updates, "size": 4, "order": "forwards", "rate": 0.02, "task": "copy"}
    spec = LSTMSpec(32, 32) if network == "lstm" else case.spec
    return replace(
        case, spec=spec, steps=4, batch=32, factors=tuple((name, own.get(name, value)) for name, value in case.factors)
    )


def test_parameters_are_those_of_the_networks() -> None:
    cases = {scale: list(CASES[scale]) for scale in ("smoke", "cpu", "gpu")}
    for case in (case for each in cases.values() for case in each):
        network, spec = str(case.factor("network")), replace(case.spec, device="cpu")
        model = networks.build(network, spec, tasks.get(str(case.factor("task"))), False, 0)
        assert networks.parameter_count(model) == parameters(network, spec), case.key
    for scale in ("cpu", "gpu"):
        compared = [case for case in cases[scale] if case.factor("probe") == "tasks"]
        like = next(case.spec for case in compared if case.factor("network") == "lstm")
        for case in compared:
            found = parameters(str(case.factor("network")), case.spec)
            assert found == pytest.approx(parameters("lstm", like), rel=MATCHED[case.spec.device]), case.key
            assert alignment_of(case.spec).allows(case.spec)


def test_every_network_is_trained_on_the_same_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[Tensor]] = {}
    for network in NAMES:
        drawn = seen[network] = []

        def draw(length: int, batch: int, generator: torch.Generator, drawn: list[Tensor] = drawn) -> tuple[Tensor, Tensor]:
            drawn.append(COPY.draw(length, batch, generator)[0])
            return drawn[-1], tasks.closed(drawn[-1] + 1)

        learning.train(trained_case(network, updates=5), replace(COPY, draw=draw), 1)
    lstm, attention, transformer = seen.values()
    assert len(lstm) > 5 and all(map(torch.equal, lstm, attention)) and all(map(torch.equal, lstm, transformer))


def test_measured_blocks_are_seeds() -> None:
    for case in CASES["smoke"]:
        found = {item.metric: item for item in learning.measure(case)}
        assert next(iter(found)) == "translation_loss" and found["translation_loss"].blocks == (1, 1, 1)
        assert found["exact_by_length"].blocks == found["loss_by_length"].blocks == (case.steps - tasks.SHORTEST + 1,) * 3
        assert 0 <= min(found["exact_by_length"].samples) and max(found["exact_by_length"].samples) <= 1
        within = found["loss_by_length"].samples[:2]  # lengths 4 and 5 of the first seed
        assert found["translation_loss"].samples[0] == pytest.approx(sum(within) / 2, rel=1e-6)
        assert len(set(found["translation_loss"].samples)) == 3


def test_bad_sizes_are_refused() -> None:
    case = CASES["smoke"][0]
    for steps, size in ((4, 5), (6, 3)):
        factors = tuple((name, size if name == "size" else value) for name, value in case.factors)
        with pytest.raises(InvalidCase, match="size of at least 4"):
            list(learning.measure(replace(case, steps=steps, factors=factors)))


def test_claims_have_their_cases_and_forecasts_fit() -> None:
    names = ("probe", "task", "network", "order")
    for scale in ("cpu", "gpu"):
        there = [{name: str(case.factor(name)) for name in names} for case in CASES[scale]]
        for claim in CLAIMS:
            for _, selection in claim.settings:
                named = dict(part.split("=") for part in selection.split(",") if "num_layers" not in part)
                assert named.pop("study") == "translation"
                for network in named.pop("network", "lstm").split("|"):
                    wanted = (named | {"network": network}).items()
                    assert any(wanted <= case.items() for case in there), (scale, claim.name, selection)
    assert {str(case.factor("order")) for case in CASES["cpu"]} == set(ORDERS) and set(NAMES) == set(networks.NETWORKS)
    assert STUDY.forecast is not None
    seconds = {scale: sum(STUDY.forecast(case) or 0 for case in CASES[scale]) for scale in ("smoke", "cpu", "gpu")}
    assert seconds["smoke"] < 5 and seconds["cpu"] / 2 < 90 and seconds["gpu"] < 540
