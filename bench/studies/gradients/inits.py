"""Initialisations as frameworks do them, and networks drawn by them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from bench.harness.case import Case, InvalidCase
from bench.studies.gradients import cells
from impls import Params, Spec, UnknownName
from impls.params import random_params
from impls.specs.recurrent import InvalidSpec, Recurrent, require_recurrent

# Initialisations by name, from the rules of their papers and of the frameworks' documentation.
#
# Every rule gives float64 weights under the names of `torch.nn.LSTM().state_dict()`. Where a framework has one bias, it is
# `bias_ih`, and `bias_hh` is zero. A name may end in a number after a colon: `forget:3`, `gaussian:1.5`, `chrono:784`.

Weights = dict[str, np.ndarray]
Rule = Callable[[Recurrent, np.random.Generator, Weights, float], None]
# A normal distribution cut off at two standard deviations has this one; jax.nn.initializers.lecun_normal gives it back.
_TRUNCATED_AT, _TRUNCATED_DEVIATION = 2.0, 0.87962566103423978
_LSTM_ONLY = ("forget", "chrono", "jozefowicz", "keras", "tensorflow1")
_DEFAULT_NUMBERS = {"gaussian": 1.0, "forget": 1.0, "chrono": 784.0}


def params(spec: Spec, init: str, seed: int) -> Weights:
    """The weights of one seed. Raises `UnknownName` with the choices; `InvalidSpec` where it means nothing for the cell."""
    name, number = parsed(init)
    if spec.cell != "lstm" and name in _LSTM_ONLY:
        raise InvalidSpec(
            f"init {name} is defined for an LSTM, not for {spec.cell}: it concerns gates that has not; choose lstm"
        )
    if spec.cell != "rnn" and name == "irnn":
        raise InvalidSpec(f"init irnn is defined for a vanilla RNN with rectified units, not for {spec.cell}; choose rnn")
    weights = random_params(spec, seed)
    RULES[name](require_recurrent(spec), np.random.default_rng([seed, 3]), weights, number)
    return weights


def parsed(init: str) -> tuple[str, float]:
    """`forget:3` as ("forget", 3.0); a rule that takes a number has a default one."""
    name, colon, text = init.partition(":")
    if name not in RULES:
        raise UnknownName("init", init, [f"{rule}:<number>" if rule in _DEFAULT_NUMBERS else rule for rule in RULES])
    if colon and name not in _DEFAULT_NUMBERS:
        raise UnknownName("init", init, [rule for rule in RULES if rule not in _DEFAULT_NUMBERS])
    try:
        return name, float(text) if colon else _DEFAULT_NUMBERS.get(name, 0.0)
    except ValueError:
        raise UnknownName("init", init, [f"{rule}:<number>" for rule in _DEFAULT_NUMBERS]) from None


def _pytorch(spec: Recurrent, random: np.random.Generator, weights: Weights, number: float) -> None:
    """All of them from U(±1/√H), which `random_params` has drawn (PyTorch documentation of nn.LSTM, *Variables*)."""


def _orthogonal(spec: Recurrent, random: np.random.Generator, weights: Weights, number: float) -> None:
    """Recurrent blocks orthogonal gate by gate, no bias (Saxe et al. 2014); inputs as in PyTorch."""
    for name in _named(weights, "weight_hh"):
        weights[name] = np.concatenate([_orthonormal(random, *block.shape) for block in np.split(weights[name], spec.gates)])
    _zero_biases(weights)


def _gaussian(spec: Recurrent, random: np.random.Generator, weights: Weights, number: float) -> None:
    """Recurrent weights from N(0, g²/H) (Sompolinsky et al. 1988: chaos of the autonomous network from g = 1)."""
    for name in _named(weights, "weight_hh"):
        weights[name] = random.standard_normal(weights[name].shape) * number / math.sqrt(spec.hidden_size)


def _irnn(spec: Recurrent, random: np.random.Generator, weights: Weights, number: float) -> None:
    """Rectified units, recurrent identity, inputs N(0, 0.001²), no bias (Le, Jaitly & Hinton 2015)."""
    for name in _named(weights, "weight_hh"):
        weights[name] = np.eye(*weights[name].shape)
    for name in _named(weights, "weight_ih"):
        weights[name] = random.standard_normal(weights[name].shape) * 1e-3
    _zero_biases(weights)


def _forget(spec: Recurrent, random: np.random.Generator, weights: Weights, number: float) -> None:
    """As PyTorch, with the forget gate's two biases together exactly `number`."""
    for ih, hh in _biases(weights):
        _gate(spec, weights[ih], "f")[:] = number
        _gate(spec, weights[hh], "f")[:] = 0.0


def _chrono(spec: Recurrent, random: np.random.Generator, weights: Weights, number: float) -> None:
    """Forget bias ln U(1, T_max − 1), input bias its negative (Tallec & Ollivier 2018, equation 16); else as PyTorch."""
    if number <= 2:
        raise InvalidSpec(f"chrono needs a longest time above 2 steps; got {number:g}")
    for ih, hh in _biases(weights):
        bias = np.log(random.uniform(1, number - 1, spec.hidden_size))
        _gate(spec, weights[ih], "f")[:], _gate(spec, weights[ih], "i")[:] = bias, -bias
        _gate(spec, weights[hh], "f")[:], _gate(spec, weights[hh], "i")[:] = 0.0, 0.0


def _keras(spec: Recurrent, random: np.random.Generator, weights: Weights, number: float) -> None:
    """Kernel Glorot uniform over [I, 4H], the whole recurrent kernel [H, 4H] orthogonal, bias 0, forget bias 1.

    Keras documentation of layers.LSTM: glorot_uniform, orthogonal, unit_forget_bias=True. One orthogonal matrix for four gates
    leaves each gate's block with a quarter of the variance an orthogonal block has.
    """
    for name in _named(weights, "weight_ih"):
        rows, inputs = weights[name].shape
        weights[name] = _glorot(random, rows, inputs)
    for name in _named(weights, "weight_hh"):
        weights[name] = _orthonormal(random, *weights[name].shape)
    _zero_biases(weights)
    _add_to_forget_bias(spec, weights, 1.0)


def _flax(spec: Recurrent, random: np.random.Generator, weights: Weights, number: float) -> None:
    """Kernels LeCun normal, recurrent kernels orthogonal gate by gate, bias 0 and no forget bias (Flax documentation of
    linen.LSTMCell: lecun_normal, orthogonal, zeros)."""
    _orthogonal(spec, random, weights, number)
    for name in _named(weights, "weight_ih"):
        rows, inputs = weights[name].shape
        drawn = random.standard_normal((rows, inputs))
        while (beyond := np.abs(drawn) > _TRUNCATED_AT).any():
            drawn[beyond] = random.standard_normal(int(beyond.sum()))
        weights[name] = drawn / (_TRUNCATED_DEVIATION * math.sqrt(inputs))


def _tensorflow1(spec: Recurrent, random: np.random.Generator, weights: Weights, number: float) -> None:
    """One kernel [I + H, 4H], Glorot uniform, bias 0, forget bias 1 (TensorFlow 1.15 documentation of
    nn.rnn_cell.BasicLSTMCell: forget_bias=1.0; initializer=None is tf.get_variable's glorot_uniform_initializer)."""
    for ih, hh in zip(_named(weights, "weight_ih"), _named(weights, "weight_hh"), strict=True):
        rows, inputs = weights[ih].shape
        both = _glorot(random, rows, inputs + weights[hh].shape[1])
        weights[ih], weights[hh] = both[:, :inputs], both[:, inputs:]
    _zero_biases(weights)
    _add_to_forget_bias(spec, weights, 1.0)


def _jozefowicz(spec: Recurrent, random: np.random.Generator, weights: Weights, number: float) -> None:
    """As PyTorch, with 1 added to the forget bias (Jozefowicz, Zaremba & Sutskever 2015, their recommendation)."""
    _add_to_forget_bias(spec, weights, 1.0)


RULES: dict[str, Rule] = {
    "pytorch": _pytorch, "orthogonal": _orthogonal, "gaussian": _gaussian, "irnn": _irnn, "forget": _forget, "chrono": _chrono,
    "keras": _keras, "flax": _flax, "tensorflow1": _tensorflow1, "jozefowicz": _jozefowicz,
}  # fmt: skip


def _named(weights: Weights, start: str) -> list[str]:
    return [name for name in weights if name.startswith(start)]


def _biases(weights: Weights) -> list[tuple[str, str]]:
    return list(zip(_named(weights, "bias_ih"), _named(weights, "bias_hh"), strict=True))


def _zero_biases(weights: Weights) -> None:
    for name in _named(weights, "bias_"):
        weights[name][:] = 0.0


def _add_to_forget_bias(spec: Recurrent, weights: Weights, value: float) -> None:
    for name in _named(weights, "bias_ih"):
        _gate(spec, weights[name], "f")[:] += value


def _gate(spec: Recurrent, rows: np.ndarray, letter: str) -> np.ndarray:
    """A view of one gate's rows; gate order i, f, g, o."""
    place = "ifgo".index(letter) * spec.hidden_size
    return rows[place : place + spec.hidden_size]


def _glorot(random: np.random.Generator, fan_out: int, fan_in: int) -> np.ndarray:
    """Uniform with variance 2 / (fan_in + fan_out) (Glorot & Bengio 2010); [fan_out, fan_in]."""
    bound = math.sqrt(6.0 / (fan_in + fan_out))
    return random.uniform(-bound, bound, (fan_out, fan_in))


def _orthonormal(random: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Uniformly distributed [rows, columns] with orthonormal columns, or rows where those are fewer (Mezzadri 2007)."""
    q, r = np.linalg.qr(random.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diag(r))
    return q if rows >= columns else q.T


# What a case means to the gradient studies: its seeds' weights, inputs, cotangents, and the lags that are kept.

DENSE_LAGS, LAGS_PER_OCTAVE = 64, 16  # every lag up to the first, then so many per doubling


def weights(spec: Spec, init: str, seeds: int) -> list[Params]:
    return [params(spec, init, seed) for seed in range(seeds)]


def inputs(case: Case, seed: int) -> np.ndarray:
    """Normal inputs of one seed, [T, B, I]."""
    return np.random.default_rng([seed, 4]).standard_normal((case.steps, case.batch, case.spec.input_size))


def readout(case: Case, seed: int) -> np.ndarray:
    """A random unit cotangent of the last output for each sequence of one seed, [B, D·R]."""
    drawn = np.random.default_rng([seed, 5]).standard_normal((case.batch, case.spec.output_size))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def path(case: Case, dtype: torch.dtype = torch.float64) -> tuple[cells.Path, cells.State]:
    """All seeds' trajectories, and the cotangent of their last states: u for h, nothing for c."""
    if case.spec.num_layers > 1 or case.spec.bidirectional:
        raise InvalidCase("the sweep over states is of one layer in one direction; ask for the probe `inputs` instead")
    seeds = range(int(case.factor("seeds")))
    init = str(case.factor("init"))
    x = torch.from_numpy(np.stack([inputs(case, seed) for seed in seeds], 1)).to(case.spec.device, dtype)
    walked = cells.run(case.spec, init, weights(case.spec, init, len(seeds)), x)
    u = torch.from_numpy(np.stack([readout(case, seed) for seed in seeds])).to(x)
    return walked, (u, *(torch.zeros_like(u) for _ in range(walked.parts - 1)))


def lags(steps: int) -> np.ndarray:
    """The lags that are kept of T steps: 0 … T − 1, thinned evenly in the logarithm beyond `DENSE_LAGS`."""
    dense = np.arange(min(steps, DENSE_LAGS))
    octaves = np.log2(max(steps - 1, DENSE_LAGS) / DENSE_LAGS)
    sparse = np.round(DENSE_LAGS * 2 ** np.linspace(0, octaves, int(np.ceil(octaves * LAGS_PER_OCTAVE)) + 1)).astype(int)
    return np.unique(np.concatenate([dense, sparse[sparse < steps]]))


def require_lag(lag: int, case: Case) -> None:
    """Raise `InvalidCase` where a lag lies beyond the sequence."""
    if not 0 <= lag < case.steps:
        raise InvalidCase(f"lag {lag} lies beyond the {case.steps} steps of {case.key}; ask for a lag below T or more steps")


def by_seed(values: Tensor) -> list[np.ndarray]:
    """[K, S, ...] as one array per seed."""
    return [np.array(each) for each in np.moveaxis(values.cpu().numpy(), 1, 0)]
