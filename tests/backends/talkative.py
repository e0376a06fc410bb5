"""Prints on the channel that carries replies."""

import os

from impls import Batch, Params, Spec
from impls.backends import numpy as right

RUNS = ("numpy",)
refuses = right.refuses


class Network(right.Network):
    def forward(self):
        print('{"status": "ok"}', flush=True)
        os.write(1, b"not a reply\n")
        super().forward()


def load(spec: Spec, params: Params, batch: Batch) -> Network:
    return Network(spec, params, batch)
