"""Computes by NumPy, and launches on a pretended GPU whose kernel fails for one hidden size, with an error that CUDA keeps.

LSTM_BENCH_FAULT: how it fails (launch, late or abort), that size, CUDA's number of the error and the pretended driver's path.
"""

import ctypes
import os

from impls import Batch, Params, Spec
from impls.backends import numpy as right

RUNS = ("numpy",)
TEXTS = {700: "an illegal memory access was encountered", 715: "an illegal instruction was encountered"}
refuses = right.refuses


class Network(right.Network):
    def forward(self):
        how, hidden, error, library = os.environ["LSTM_BENCH_FAULT"].split(",")
        driver = ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
        status = driver.fake_launch(int(error) * (self.spec.hidden_size == int(hidden)), how == "late")
        if status and how == "abort":
            os.write(2, f"terminate called after throwing 'c10::Error': CUDA error: {TEXTS[status]}\n".encode())
            os.abort()
        if status:
            raise RuntimeError(f"CUDA error: {TEXTS[status]}\nCUDA kernel errors might be asynchronously reported at some call")
        super().forward()


def load(spec: Spec, params: Params, batch: Batch) -> Network:
    return Network(spec, params, batch)
