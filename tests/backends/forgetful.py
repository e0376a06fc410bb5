"""Launches its work in a thread and does not wait for it."""

import threading
import time

from impls import Batch, Params, Spec
from impls.backends import numpy as right

RUNS = ("numpy",)
refuses = right.refuses


class Network(right.Network):
    running: threading.Thread | None = None

    def forward(self):
        def work():
            time.sleep(0.02)
            super(Network, self).forward()

        self._join()
        self.running = threading.Thread(target=work)
        self.running.start()

    def _join(self):
        if self.running:
            self.running.join()

    def outputs(self):
        self._join()
        return super().outputs()

    def final_state(self):
        self._join()
        return super().final_state()


def load(spec: Spec, params: Params, batch: Batch) -> Network:
    return Network(spec, params, batch)
