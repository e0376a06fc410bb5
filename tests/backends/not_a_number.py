"""Right on short sequences; NaN from step 20 on, which only the full case shows."""

import numpy as np

from impls import Batch, Params, Spec
from impls.backends import numpy as right

RUNS = ("numpy",)
refuses = right.refuses


class Network(right.Network):
    def outputs(self):
        found = super().outputs()
        found[20:] = np.nan
        return found


def load(spec: Spec, params: Params, batch: Batch) -> Network:
    return Network(spec, params, batch)
