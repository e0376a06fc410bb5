"""Values drawn by position: the same on the host and on any device, in any part, and fit to be timed on."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from bench.harness.case import Case
from bench.worker import agreement
from impls import LSTMSpec
from impls.batch import Draw, keyed
from impls.frameworks.jax import network as jax_network
from impls.frameworks.torch import network as torch_network

SHAPE = (40, 30, 70)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_host_pytorch_and_jax_draw_the_same_bits(dtype, monkeypatch):
    draw = Draw(SHAPE, keyed(3, 2))
    on_host = torch.tensor(np.asarray(draw)).to(getattr(torch, dtype))
    monkeypatch.setattr(torch_network, "DRAWN_AT_ONCE", 1 << 10)  # many pieces, the last one shorter
    assert torch.equal(torch_network.drawn(draw, getattr(torch, dtype), torch.device("cpu")), on_host)
    by_jax = jax_network.on_device(LSTMSpec(4, 5, dtype=dtype), draw)  # type: ignore[arg-type]
    assert np.array_equal(np.asarray(by_jax.astype(jnp.float32)), on_host.float().numpy())


def test_a_part_is_read_without_the_rest():
    draw = Draw((1000, 1000, 2000), keyed(0, 2))  # 16 GB in float64
    part = draw[5:8, :3]
    assert part.shape == (3, 3, 2000)
    assert np.array_equal(part, draw[5:9][:3, :3])
    assert np.array_equal(np.asarray(Draw((8, 9, 7), 1))[2:4, 1:, 3], Draw((8, 9, 7), 1)[2:4, 1:, 3:4][..., 0])


def test_values_are_nearly_normal_and_differ_by_seed_and_stream():
    streams = [np.asarray(Draw(SHAPE, keyed(seed, stream))).ravel() for seed in (0, 1) for stream in (2, 3)]
    for values in streams:
        assert abs(values.mean()) < 0.02 and abs(values.std() - 1) < 0.01 and np.abs(values).max() < 3
        assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.02
    assert np.abs(np.corrcoef(streams) - np.eye(4)).max() < 0.02


def test_neighbouring_keys_do_not_permute_the_same_values():
    first, second = (np.sort(np.asarray(Draw((64, 64), key)), axis=1) for key in (5, 5 ^ 64))
    assert not set(map(bytes, first)) & set(map(bytes, second))


def test_device_and_reference_draw_the_same_sequences():
    case = Case(LSTMSpec(6, 5, device="cuda"), 9, 4, "forward_backward", initial_state=True)
    _, batch = case.data()
    assert isinstance(batch.x, Draw) and isinstance(batch.grad_y, Draw) and isinstance(batch.h0, np.ndarray)
    assert batch.steps == 9 and batch.batch == 4
    params, _ = case.data()
    network = agreement.impls.get("numpy").load(LSTMSpec(6, 5, dtype="float64"), params, batch)
    found = agreement.answer(network, case)
    assert all(np.array_equal(found[name], expected) for name, expected in agreement.reference(case, "float64").items())


def test_more_values_than_positions_are_refused():
    with pytest.raises(ValueError, match="at most 2147483648 values can be drawn"):
        Draw((1 << 20, 1 << 12), 0)
