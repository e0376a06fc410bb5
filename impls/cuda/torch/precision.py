"""How float32 is multiplied: exactly or in TF32, by one rule for the recurrence and for the products around it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

ONE_AT_A_TIME = threading.RLock()


def tf32_for(x: Tensor, asked: bool | None = None) -> bool:
    """Whether `x` is multiplied in TF32: as asked, or where nothing is, on a GPU where `torch.nn.LSTM` would.

    Not for code that torch.compile traces: a switch that is read there is a constant of the graph, if it can be read at all.
    """
    return asked if asked is not None else x.is_cuda and tf32_allowed()


def tf32_allowed() -> bool:
    """PyTorch's switch for LSTMs on a GPU, whether it was set as `torch.backends.cudnn.rnn.fp32_precision`, as
    `torch.backends.fp32_precision` or as the older `torch.backends.cudnn.allow_tf32`, which after the others cannot be read."""
    return torch.backends.cudnn.rnn.fp32_precision == "tf32"  # type: ignore (a property that type checkers miss)


@contextmanager
def products(tf32: bool) -> Iterator[None]:
    """PyTorch's float32 products on a GPU are TF32, or exact, inside.

    Their switch belongs to the process: where it stands otherwise it is turned and turned back, by one thread at a time,
    and products that other threads enqueue meanwhile follow it.
    """
    switch = torch.backends.cuda.matmul
    with ONE_AT_A_TIME:
        before = switch.fp32_precision
        if (before == "tf32") == tf32:
            yield
            return
        switch.fp32_precision = "tf32" if tf32 else "ieee"
        try:
            yield
        finally:
            switch.fp32_precision = "none"  # inherits again, if it had inherited
            if switch.fp32_precision != before:
                switch.fp32_precision = before
