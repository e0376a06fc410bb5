"""Right but for one gradient, which is 0.1 % too large."""

from impls import Batch, Params, Spec
from impls.backends import numpy as right

RUNS = ("numpy",)
refuses = right.refuses


class Network(right.Network):
    def gradients(self):
        found = super().gradients()
        found["weight_hh_l0"] = found["weight_hh_l0"] * 1.001
        return found


def load(spec: Spec, params: Params, batch: Batch) -> Network:
    return Network(spec, params, batch)
