"""`pretend_gpu` with 5 % more to do."""

from dataclasses import replace

from impls import Batch, Params, Spec
from impls.backends import pretend_gpu

RUNS, refuses = pretend_gpu.RUNS, pretend_gpu.refuses
FRAMEWORK = ("pretended",)
DEVICES = ("cuda",)
LAUNCHES = ("eager", "graph")


class Network(pretend_gpu.Network):
    seconds = 1.05 * pretend_gpu.SECONDS


def load(spec: Spec, params: Params, batch: Batch) -> Network:
    return Network(replace(spec, device="cpu"), params, batch)
