"""`torch.nn.LSTM` and the drop-in module with the same float64 weights."""

from __future__ import annotations

import torch
from torch import nn

from impls.cuda.torch.module import LSTM


def modules(**options) -> tuple[nn.LSTM, LSTM]:
    torch.manual_seed(0)
    theirs = nn.LSTM(4, 7, dtype=torch.float64, **options)
    ours = LSTM(4, 7, dtype=torch.float64, **options)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours
