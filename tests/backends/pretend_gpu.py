"""Says that it runs on a GPU and waits 8 ms a call on the CPU: what the harness does on a GPU, without one."""

import time
from dataclasses import replace

from impls import Batch, Params, Spec, refusals
from impls.backends import numpy as right

RUNS = ("numpy", "graph of numpy")
FRAMEWORK = ("pretended",)
DEVICES = ("cuda",)
LAUNCHES = ("eager", "graph")
SECONDS = 8e-3


def refuses(spec: Spec, phase: str, ragged: bool) -> str | None:
    return refusals.device(spec, *DEVICES)


class Network(right.Network):
    seconds = SECONDS
    launched = ""

    def forward(self):
        time.sleep(self.seconds)
        super().forward()

    def capture(self, phase: str):
        self.launched = "graph of "
        return getattr(self, phase)

    def provenance(self):
        found = super().provenance()
        return found | {"ran": self.launched + found["ran"]}


def load(spec: Spec, params: Params, batch: Batch) -> Network:
    return Network(replace(spec, device="cpu"), params, batch)
