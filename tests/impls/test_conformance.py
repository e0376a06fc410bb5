"""Every backend against the float64 oracle: outputs, final states, all gradients, streaming, on awkward sizes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import impls
from bench.harness.case import Case
from bench.worker.agreement import answer, check_against, compare
from impls import Backend, GRUSpec, LSTMSpec, RNNSpec, Spec
from impls.specs.recurrent import DType

pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor"),
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
    # Dynamo looks at .grad of whatever it is given.
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
]
BACKENDS = [name for name in impls.names() if name != "null"]
# Covers, rather than multiplies out: T and B of 1, 2, 31, 33; H of 1, 5, 64, 127; layers, directions, biases, projection.
NETWORKS = [
    Case(LSTMSpec(1, 1), 1, 1),
    Case(LSTMSpec(5, 5, bias=False), 2, 31, ragged=True, initial_state=True),
    Case(LSTMSpec(33, 64, num_layers=2), 31, 2, initial_state=True),
    Case(LSTMSpec(7, 127, bidirectional=True), 33, 1),
    Case(LSTMSpec(5, 64, num_layers=3, bias=False, bidirectional=True), 2, 33, ragged=True),
    Case(LSTMSpec(31, 5, num_layers=2, bidirectional=True), 33, 31, ragged=True, initial_state=True),
    Case(LSTMSpec(5, 64, num_layers=2, bidirectional=True, proj_size=5), 31, 2, ragged=True, initial_state=True),
    Case(LSTMSpec(64, 127, proj_size=31), 2, 1, initial_state=True),
    Case(LSTMSpec(2, 5, num_layers=3), 33, 2),
    Case(GRUSpec(5, 5), 1, 33, initial_state=True),
    Case(GRUSpec(33, 64, num_layers=2, bidirectional=True), 31, 2, ragged=True, initial_state=True),
    Case(GRUSpec(1, 127, bias=False), 33, 1),
    Case(RNNSpec(5, 1, num_layers=3, bias=False), 2, 31),
    Case(RNNSpec(33, 64, num_layers=2, bidirectional=True), 31, 2, ragged=True, initial_state=True),
    Case(RNNSpec(5, 127), 33, 1, initial_state=True),
]
# Inductor compiles for seconds a network: these have every feature between them.
COMPILED = (1, 6, 8)
INFER = ("onnxruntime", "openvino", "torch_int8")
DTYPES = ("float64", "bfloat16", "float16")


def backend_for(name: str, case: Case) -> Backend:
    """The backend, or a skip with its own reason."""
    try:
        backend = impls.get(name)
    except impls.Unavailable as error:
        pytest.skip(str(error))
    if reason := backend.refuses(case.spec, case.phase, case.ragged):
        pytest.skip(reason)
    return backend


def networks(name: str) -> list[Case]:
    return [NETWORKS[index] for index in COMPILED] if name == "torch_compile" else NETWORKS


def by_backend(phase: str, every: int = 1) -> list:
    return [
        pytest.param(name, case, id=f"{name}-{case.key}")
        for name in BACKENDS
        for case in (replace(network, phase=phase) for network in networks(name)[::every])
    ]


@pytest.mark.parametrize(("name", "case"), by_backend("forward_backward"))
def test_trains_as_the_oracle(name: str, case: Case) -> None:
    loaded = backend_for(name, case).load(case.spec, *case.data())
    check_against(answer(loaded, case), case)
    # Gradients of a second call must not be added to those of the first.
    check_against(answer(loaded, case), case)


@pytest.mark.parametrize(
    ("name", "case"), [*by_backend("forward", every=3), *(p for p in by_backend("forward") if p.values[0] in INFER)]
)
def test_infers_as_the_oracle(name: str, case: Case) -> None:
    loaded = backend_for(name, case).load(case.spec, *case.data())
    check_against(answer(loaded, case), case, impls.facts(name).precision)
    check_against(answer(loaded, case), case, impls.facts(name).precision)
    provenance = loaded.provenance()
    assert provenance["ran"] in impls.get(name).RUNS
    assert all(isinstance(value, str) for value in provenance.values())


@pytest.mark.parametrize(("name", "case"), by_backend("step"))
def test_streams_as_the_oracle(name: str, case: Case) -> None:
    if case.spec.bidirectional or case.ragged:
        case = replace(case, spec=replace(case.spec, bidirectional=False), ragged=False)
    backend = backend_for(name, case)
    check_against(answer(backend.load(case.spec, *case.data()), case), case, impls.facts(name).precision)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_stream_reads_x_again_from_its_start(name: str) -> None:
    case = Case(LSTMSpec(3, 4), 2, 2, "step", initial_state=True)
    backend = backend_for(name, case)
    params, batch = case.data()
    twice = replace(case, steps=4)
    loaded = backend.load(case.spec, params, batch)
    found = answer(loaded, twice)
    repeated = replace(batch, x=np.concatenate([batch.x, batch.x]))
    oracle = answer(impls.get("numpy").load(replace(case.spec, dtype="float64"), params, repeated), twice)
    for array, expected in oracle.items():
        compare(array, found[array], expected, 1e-6, impls.facts(name).precision or "float32")


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("given", [("grad_h_n",), ("grad_y", "grad_c_n"), ("grad_y", "grad_h_n", "grad_c_n"), ()])
def test_every_cotangent_is_sent_back(name: str, given: tuple[str, ...]) -> None:
    if name == "torch_compile" and given != ("grad_y", "grad_h_n", "grad_c_n"):
        pytest.skip("Inductor compiles for seconds a network, and torch_loop shares this code")
    case = Case(LSTMSpec(3, 4, num_layers=2, bidirectional=True), 5, 3, "forward_backward", ragged=True)
    backend = backend_for(name, case)
    params, batch = case.data()
    random = np.random.default_rng(5)
    cotangents = {array: random.standard_normal((4, 3, 4)) for array in ("grad_h_n", "grad_c_n")} | {"grad_y": batch.grad_y}
    batch = replace(batch, grad_y=None)
    batch = replace(batch, **{array: cotangents[array] for array in given})
    found = answer(backend.load(case.spec, params, batch), case)
    oracle = answer(impls.get("numpy").load(replace(case.spec, dtype="float64"), params, batch), case)
    for array, expected in oracle.items():
        compare(array, found[array], expected, 1e-6, "float32")


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", [LSTMSpec, GRUSpec])
def test_computes_in_other_dtypes(name: str, dtype: DType, cell: type[Spec]) -> None:
    if name == "torch_compile" and dtype != "bfloat16":
        pytest.skip("Inductor compiles for seconds a network")
    case = Case(cell(33, 64, dtype=dtype), 12, 3, "forward_backward", initial_state=True)
    check_against(answer(backend_for(name, case).load(case.spec, *case.data()), case), case)


@pytest.mark.parametrize("name", BACKENDS)
def test_arrays_belong_to_whoever_asked(name: str) -> None:
    case = Case(LSTMSpec(3, 4), 3, 2, "forward")
    loaded = backend_for(name, case).load(case.spec, *case.data())
    first = answer(loaded, case)
    kept = {array: value.copy() for array, value in first.items()}
    for value in first.values():
        value[...] = np.nan
    for array, value in answer(loaded, case).items():
        np.testing.assert_array_equal(value, kept[array])
