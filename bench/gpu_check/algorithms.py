"""Which of cuDNN's algorithms `nn.LSTM` takes at each point of the goal grid, by the names of the kernels it ran."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import impls
from bench.gpu_check.items import Found, Part
from bench.gpu_check.station import DeviceContext
from bench.studies.goal import BATCHES, DTYPES, HIDDEN, STEPS
from impls import Batch, LSTMSpec
from impls.frameworks.torch.network import Network
from results.record import Measurement


def parts(station: DeviceContext) -> Iterator[Part]:
    """Small sizes first, since time may run out."""
    for hidden in HIDDEN[: 1 if station.emulated else None]:
        for batch in BATCHES[: 1 if station.emulated else None]:
            for dtype in ("bfloat16",) if station.emulated else DTYPES:
                sizes = {"hidden_size": hidden, "batch": batch, "dtype": dtype, "steps": 4 if station.emulated else STEPS}
                yield Part(f"H{hidden}-B{batch}-{dtype}", sizes)


def measure(station: DeviceContext, key: str) -> Found:
    """Values are zero: no time is taken, and the choice depends on sizes alone."""
    sizes = next(part.parameters for part in parts(station) if part.key == key)
    hidden, batch = sizes["hidden_size"], sizes["batch"]
    spec = LSTMSpec(hidden, hidden, dtype=sizes["dtype"], device="cpu" if station.emulated else "cuda")
    backend = impls.get("torch" if station.emulated else "cudnn")
    if reason := backend.refuses(spec, "forward_backward", False):
        raise impls.Unavailable(reason)
    params = {name: np.zeros(shape) for name, shape in spec.parameter_shapes().items()}
    data = Batch(x=np.zeros((sizes["steps"], batch, hidden)), grad_y=np.zeros((sizes["steps"], batch, hidden)))
    network = backend.load(spec, params, data)
    assert isinstance(network, Network)
    provenance, counts = station.provenance(), []
    for phase in ("forward", "forward_backward"):
        getattr(network, phase)()
        said = network.provenance()
        provenance |= {f"{phase} algorithm": said.get("algorithm", said["ran"]), "cudnn": said.get("cudnn", "none")}
        counts.append(float(len(network.names_run())))
    return Found((Measurement("operations", "operations", tuple(counts)),), provenance)
