"""The networks of study `descendants` against the recurrences in their papers, step by step in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bench.studies.descendants import EVERY, _spec
from bench.studies.descendants import networks as descendants
from bench.studies.descendants.networks import NETWORKS, TokenModel, state_values
from impls import UnknownName
from impls.specs.residual import LSTMStackSpec, SSMSpec

STEPS, BATCH, CLOSE = 13, 3, 1e-12


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def test_the_selective_scan_is_mambas_recurrence() -> None:
    """Gu & Dao 2023, algorithm 2 with the published code's B̄ = ΔB: one loop over steps, channels and states."""
    channels, states = 5, 4
    v, step = drawn(STEPS, BATCH, channels), drawn(STEPS, BATCH, channels).exp()
    rate, write, read = -drawn(states, channels).exp(), drawn(STEPS, BATCH, states), drawn(STEPS + 1, BATCH, states)[1:]
    expected = torch.zeros(STEPS, BATCH, channels, dtype=torch.float64)
    for b in range(BATCH):
        for e in range(channels):
            h = [0.0] * states
            for t in range(STEPS):
                for n in range(states):
                    kept = float(torch.exp(step[t, b, e] * rate[n, e]))
                    h[n] = kept * h[n] + float(step[t, b, e] * write[t, b, n] * v[t, b, e])
                    expected[t, b, e] += float(read[t, b, n]) * h[n]
    found = descendants.selective_scan(v, step, rate, write, read)
    assert (found - expected).abs().max() < CLOSE
    held = torch.expm1(step[..., None, :] * rate) / rate  # the zero-order hold, which the published code does not use, differs
    assert (held - step[..., None, :]).abs().max() > 1e-2


def test_s4d_convolves_what_its_recurrence_steps_through() -> None:
    block = descendants.S4D(SSMSpec(4, 4, state_size=6)).double()
    x = drawn(STEPS, BATCH, 4)
    with torch.no_grad():
        rate = block.rates()
        kept = (block.log_step.exp()[:, None] * rate).exp()
        read, h, found = torch.view_as_complex(block.read), torch.zeros(BATCH, *rate.shape, dtype=rate.dtype), []
        for now in x:
            h = kept * h + (kept - 1) / rate * now[..., None]
            found.append(2 * (read * h).sum(-1).real + block.skip * now)
        assert (block.mix(x) - torch.stack(found)).abs().max() < CLOSE


def test_mlstm_in_parallel_is_its_recurrence() -> None:
    """Beck et al. 2024, equations 19 to 27 without the stabiliser, which cancels."""
    size = 4
    query, key, value = (drawn(STEPS, BATCH, size + more)[..., :size] for more in range(3))
    write, forget = drawn(STEPS, BATCH), drawn(STEPS, BATCH, 1)[..., 0]
    memory, n = torch.zeros(BATCH, size, size, dtype=torch.float64), torch.zeros(BATCH, size, dtype=torch.float64)
    found = []
    for t in range(STEPS):
        i, f, k = write[t].exp()[:, None], forget[t].sigmoid()[:, None], key[t] / size**0.5
        memory = f[..., None] * memory + i[..., None] * value[t][:, :, None] * k[:, None]
        n = f * n + i * k
        read = (n * query[t]).sum(-1, keepdim=True).abs().clamp(min=1)
        found.append((memory @ query[t][..., None])[..., 0] / read)
    assert (descendants.matrix_memory(query, key, value, write, forget) - torch.stack(found)).abs().max() < CLOSE


def test_slstm_is_its_recurrence_without_the_stabiliser() -> None:
    """Beck et al. 2024, equations 8 to 14: m scales c and n alike and cancels in c/n."""
    block = descendants.SLSTM(LSTMStackSpec(4, 4)).double()
    x = drawn(STEPS, BATCH, 4)
    with torch.no_grad():
        h = c = torch.zeros(BATCH, 4, dtype=torch.float64)
        n, found = torch.zeros_like(c), []
        for now in x:
            i, f, z, o = (block.of_input(now) + block.of_state(h)).chunk(4, -1)
            c, n = f.sigmoid() * c + i.exp() * z.tanh(), f.sigmoid() * n + i.exp()
            h = o.sigmoid() * c / n
            found.append(h)
        assert (block(x) - torch.stack(found)).abs().max() < CLOSE


@pytest.mark.parametrize("network", EVERY)
def test_each_is_causal_and_learns_from_every_weight(network: str) -> None:
    model = TokenModel(network, _spec(network, 8, 1, "cpu"), (5,), (2, 3), seed=1)
    tokens = torch.randint(5, (9, 2, 1), generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[6:] = (changed[6:] + 1) % 5
    before, after = model(tokens), model(changed)
    assert before.shape == (9, 2, 2, 3)
    assert torch.allclose(before[:6], after[:6], atol=1e-5) and not torch.allclose(before[6:], after[6:], atol=1e-3)
    before.square().sum().backward()
    assert all(value.grad is not None and value.grad.abs().max() > 0 for value in model.parameters())


def test_weights_come_from_the_seed_alone() -> None:
    for network in NETWORKS:
        one, same, other = (TokenModel(network, _spec(network, 8, 1, "cpu"), (3,), (1, 2), seed) for seed in (1, 1, 2))
        pairs = list(zip(one.parameters(), same.parameters(), other.parameters(), strict=True))
        assert all(torch.equal(own, its) for own, its, _ in pairs) and any(not torch.equal(own, its) for own, _, its in pairs)


@pytest.mark.parametrize(
    ("network", "values"),
    [("lstm", 2 * 8), ("minlstm", 8), ("slstm", 4 * 8), ("mlstm", 8 * 8 + 8 + 1), ("s4d", 8 * 8), ("mamba", 16 * (8 + 3)),
     ("transformer", 2 * 8 * 10)],
)  # fmt: skip
def test_states_are_counted(network: str, values: int) -> None:
    assert state_values(network, _spec(network, 8, 1, "cpu"), context=10) == values
    assert state_values(network, _spec(network, 8, 2, "cpu"), context=10) == 2 * values


def test_unknown_networks_are_refused() -> None:
    with pytest.raises(UnknownName, match="network"):
        TokenModel("hyena", _spec("lstm", 8, 1, "cpu"), (3,), (1, 2), seed=0)
