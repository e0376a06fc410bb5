"""In what precision, and on whose kernels, a language model computes on its device.

On a CPU float32 by PyTorch's own modules. On a GPU as language models are trained there: float32 weights, residual stream and
loss, products in bfloat16 by autocast; LSTMs on our own kernels, attention by flash or cuDNN's kernel and by no other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from impls import Spec, Unavailable
from impls.frameworks.torch.models import Layer

FAST_ATTENTION = [SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION]


def layer_for(spec: Spec) -> Layer:
    """What computes an LSTM of the stack. Raises `Unavailable` where a GPU cannot run our kernels."""
    if spec.device != "cuda":
        return nn.LSTM
    from impls.cuda.runtime import driver  # a tenth of a second that a CPU need not spend
    from impls.cuda.torch.residual import CachedLSTM

    if spec.cell == "lstm_stack" and (reason := driver.missing()):
        raise Unavailable(f"a language model's LSTM runs on the backend cuda on a GPU: {reason}")
    return CachedLSTM


def notes(spec: Spec) -> tuple[str, ...]:
    """What a record says of it; nothing on a CPU."""
    if spec.device != "cuda":
        return ()
    kernels = {"lstm_stack": ("LSTM by cuda",), "transformer": ("attention by flash or cuDNN",)}
    return ("bfloat16 by autocast", *kernels.get(spec.cell, ()))


@contextmanager
def products(like: Tensor) -> Iterator[None]:
    """As above for a model with such weights; float64 weights compute in float64 wherever they are."""
    if like.device.type != "cuda" or like.dtype != torch.float32:
        yield
        return
    with in_bfloat16(like.device.type):
        yield


@contextmanager
def in_bfloat16(device: str) -> Iterator[None]:
    """Raises PyTorch's RuntimeError, "No available kernel", from attention that no fast kernel runs."""
    with torch.autocast(device, torch.bfloat16), sdpa_kernel(FAST_ATTENTION):
        yield
