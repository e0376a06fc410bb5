"""The weights packed for JAX's binding of cuDNN, checked on the CPU against JAX's own reference."""

from __future__ import annotations

import numpy as np
import pytest

from bench.agreement import answer
from bench.case import Case
from impls import LSTMSpec

rnn = pytest.importorskip("jax.experimental.rnn")


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("ragged", [False, True])
def test_packed_weights_mean_the_same_network(layers: int, bidirectional: bool, ragged: bool) -> None:
    from impls.backends import jax_cudnn, numpy

    case = Case(LSTMSpec(3, 4, num_layers=layers, bidirectional=bidirectional), 5, 2, ragged=ragged, initial_state=True)
    spec = case.spec
    params, batch = case.data()
    assert batch.h0 is not None
    assert batch.c0 is not None
    flat = jax_cudnn.pack(spec, params).astype(np.float32)
    assert flat.size == rnn.get_num_params_in_lstm(3, 4, layers, bidirectional)
    weights = rnn.unpack_lstm_weights(flat, 3, 4, layers, bidirectional)
    lengths = np.full(2, 5, np.int32) if batch.lengths is None else batch.lengths.astype(np.int32)
    states = (batch.h0.astype(np.float32), batch.c0.astype(np.float32))
    x = batch.x.swapaxes(0, 1).astype(np.float32)
    y, h_n, c_n = rnn.lstm_ref(x, *states, *weights, lengths, 3, 4, layers, 0.0, bidirectional)
    expected = answer(numpy.load(spec, params, batch), case)
    np.testing.assert_allclose(np.asarray(y).swapaxes(0, 1), expected["outputs"], atol=1e-5)
    np.testing.assert_allclose(h_n, expected["h_n"], atol=1e-5)
    np.testing.assert_allclose(c_n, expected["c_n"], atol=1e-5)


def test_unpacking_is_the_inverse() -> None:
    from impls.backends import jax_cudnn

    case = Case(LSTMSpec(3, 4, num_layers=2, bidirectional=True), 5, 2)
    params, _ = case.data()
    unpacked = jax_cudnn.unpack(case.spec, jax_cudnn.pack(case.spec, params))
    assert set(unpacked) == set(params)
    assert all((unpacked[name] == value).all() for name, value in params.items())
