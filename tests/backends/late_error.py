"""Right for the first 12 steps and wrong after them: neither the reduced case nor the first outputs show it."""

from impls import Batch, Params, Spec
from impls.backends import numpy as right

RUNS = ("numpy",)
FIRST_WRONG = 12
refuses = right.refuses


class Network(right.Network):
    steps = 0

    def step(self):
        super().step()
        self.steps += 1

    def outputs(self):
        found = super().outputs().copy()
        found[FIRST_WRONG if not self.steps else (0 if self.steps > FIRST_WRONG else 1) :] *= 1.001
        return found


def load(spec: Spec, params: Params, batch: Batch) -> Network:
    return Network(spec, params, batch)
