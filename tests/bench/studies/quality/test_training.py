"""A training that stopped and went on gives the same bits; a checkpoint that is not its own is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.harness.case import InvalidCase
from bench.studies.quality import training
from bench.studies.quality.sources import HiddenMarkov
from bench.studies.quality.training import Diverged, LanguageModel, Settings, Training
from impls import LSTMSpec
from impls.specs.residual import LSTMStackSpec, MinLSTMSpec, SSMSpec, TransformerSpec

SETTINGS = Settings(steps=12, batch=3, updates=14, learning_rate=3e-3, seed=1, judged=4)
MODELS = (LSTMStackSpec(8, 8, 2), TransformerSpec(8, 8, 1, num_heads=2), MinLSTMSpec(8, 8), SSMSpec(8, 8, state_size=2))


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def trained(spec, settings=SETTINGS) -> Training:
    return Training(spec, HiddenMarkov(10), settings)


def bits(of: Training) -> list[bytes]:
    moments = [value for state in of.optimiser.state.values() for value in state.values()]
    return [value.detach().numpy().tobytes() for value in [*of.model.parameters(), *moments]]


@pytest.mark.parametrize("spec", MODELS, ids=lambda spec: spec.cell)
def test_interrupted_and_resumed_is_the_same_to_the_bit(tmp_path: Path, spec):
    kept, whole = tmp_path / "kept.pt", trained(spec)
    whole.run()
    trained(spec).run(kept, until=5)
    resumed = trained(spec)
    resumed.run(kept)
    assert resumed.done == SETTINGS.updates and bits(resumed) == bits(whole)
    assert [(point.updates, point.loss) for point in resumed.curve] == [(p.updates, p.loss) for p in whole.curve]
    assert not [path for path in tmp_path.iterdir() if path != kept]


def test_another_seed_gives_other_bits():
    one, other = trained(MODELS[0]), trained(MODELS[0], replace(SETTINGS, seed=2))
    one.run(until=2), other.run(until=2)
    assert bits(one) != bits(other)


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path):
    kept = tmp_path / "kept.pt"
    trained(MODELS[0]).run(kept, until=2)
    with pytest.raises(training.BadCheckpoint, match=r"of another training: batch 3, here 4; delete it"):
        trained(MODELS[0], replace(SETTINGS, batch=4)).run(kept)


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"nonsense" * 9])
def test_a_half_written_checkpoint_is_refused(tmp_path: Path, damage):
    kept = tmp_path / "kept.pt"
    trained(MODELS[0]).run(kept, until=2)
    kept.write_bytes(damage(kept.read_bytes()))
    with pytest.raises(training.BadCheckpoint, match="half written or damaged"):
        trained(MODELS[0]).run(kept)


def test_a_kill_while_writing_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kept, own = tmp_path / "kept.pt", trained(MODELS[0])
    own.run(kept, until=2)
    before = kept.read_bytes()

    def dies(values: object, file) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        own.run(kept, until=3)
    assert kept.read_bytes() == before


def test_a_loss_that_is_no_number_names_seed_and_update():
    own = trained(MODELS[0])
    own.run(until=3)
    with torch.no_grad():
        own.model.head[0, 0] = torch.nan
    with pytest.raises(Diverged, match=r"the loss is nan .* at update 3 with seed 1 and learning rate 0.003"):
        own.update()


def test_training_learns_what_there_is_to_learn():
    own = trained(LSTMStackSpec(16, 16), replace(SETTINGS, steps=48, batch=16, updates=120, learning_rate=1e-2, judged=64))
    own.run()
    held_out = own.source.held_out(np.random.default_rng(9), 49, 64)
    best = own.source.optimum(held_out)
    assert best is not None
    found = own.losses(64)
    assert found.shape == (48, 64) and best[1:].mean() < found.mean() < np.log(16) - 0.03
    assert own.curve[-1].loss == pytest.approx(found.mean())


def test_the_rate_warms_up_and_ends_at_a_tenth():
    of = replace(SETTINGS, updates=100)
    rates = [of.rate(update) for update in range(100)]
    assert rates[0] == pytest.approx(3e-4) and max(rates) == rates[9] == rates[10] == 3e-3
    assert rates[-1] == pytest.approx(3e-4, rel=0.01) and of.points == [3, 6, 12, 25, 50, 100]


def test_only_causal_residual_models_are_language_models():
    for wrong in (LSTMSpec(8, 8), LSTMStackSpec(4, 8), TransformerSpec(8, 8, num_heads=2, bidirectional=True)):
        with pytest.raises(InvalidCase, match="a language model here is a causal"):
            LanguageModel(wrong, 16, 0)
