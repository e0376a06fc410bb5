"""A drop-in for `torch.nn.LSTM`: the same constructor, `state_dict` and call, on the kernels of this folder."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from impls.backends._cuda import projection
from impls.backends._cuda.ops import lstm_layer
from impls.backends._cuda.plan import Design, Memory

State = tuple[Tensor, Tensor]


class LSTM(torch.nn.RNNBase):
    """`torch.nn.LSTM`; it takes a PackedSequence too, and compiles as one graph.

    design, memory   how its layers run; see plan.py. May be set at any time.
    Float32 is multiplied in TF32 where `torch.backends.cudnn.allow_tf32` says so, as `torch.nn.LSTM` does on a GPU.
    """

    # Not a subclass of nn.LSTM: torch.compile breaks the graph at those.

    def __init__(self, *args, design: Design = "auto", memory: Memory = "saved", **kwargs) -> None:
        super().__init__("LSTM", *args, **kwargs)
        self.design, self.memory = design, memory

    def forward(self, input: Tensor | PackedSequence, hx: State | None = None):
        """As `torch.nn.LSTM.forward`."""
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        if input.dim() not in (2, 3):
            raise ValueError(f"LSTM: Expected input to be 2D or 3D, got {input.dim()}D instead")
        batched = input.dim() == 3
        if hx is not None and any(state.dim() != input.dim() for state in hx):
            raise RuntimeError(f"LSTM: expected h_0 and c_0 to be {input.dim()}D like the input; got {[s.dim() for s in hx]}")
        x = input if batched else input.unsqueeze(1)
        if self.batch_first and batched:
            x = x.transpose(0, 1)
        if hx is not None and not batched:
            hx = hx[0].unsqueeze(1), hx[1].unsqueeze(1)
        lengths = torch.full((x.shape[1],), x.shape[0], dtype=torch.int32, device=x.device)
        y, (h_n, c_n) = self._layers(x, hx, lengths)
        if not batched:
            return y.squeeze(1), (h_n.squeeze(1), c_n.squeeze(1))
        return y.transpose(0, 1) if self.batch_first else y, (h_n, c_n)

    def _forward_packed(self, packed: PackedSequence, hx: State | None):
        """Pads and packs with one gather each; the indices come from `batch_sizes`, which lies on the host anyway."""
        data, sizes, sorted_indices, unsorted_indices = packed
        steps, batch = len(sizes), int(sizes[0])
        live = torch.arange(batch) < sizes[:, None]
        places = live.flatten().nonzero().squeeze(1).to(data.device)
        lengths = live.sum(0, dtype=torch.int32).to(data.device)
        x = data.new_zeros(steps * batch, data.shape[1]).index_copy(0, places, data).view(steps, batch, -1)
        y, (h_n, c_n) = self._layers(x, _permuted(hx, sorted_indices), lengths)
        rows = y.flatten(0, 1).index_select(0, places)
        last = _permuted((h_n, c_n), unsorted_indices)
        return PackedSequence(rows, sizes, sorted_indices, unsorted_indices), last

    def _layers(self, x: Tensor, hx: State | None, lengths: Tensor) -> tuple[Tensor, State]:
        directions = 2 if self.bidirectional else 1
        if hx is None:
            states = self.num_layers * directions, x.shape[1]
            hx = x.new_zeros(*states, self.proj_size or self.hidden_size), x.new_zeros(*states, self.hidden_size)
        if any(state.shape[0] != self.num_layers * directions for state in hx):
            raise RuntimeError(
                f"Expected h_0 and c_0 with {self.num_layers * directions} layer-directions; got {[len(state) for state in hx]}"
            )
        training = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *hx, *self.parameters()))
        tf32 = x.is_cuda and torch.backends.cudnn.allow_tf32
        last_h, last_c = [], []
        for depth in range(self.num_layers):
            states = [state[depth * directions : (depth + 1) * directions] for state in hx]
            values = self._autocast(x, *self._weights(depth), *states)
            x, h_n, c_n = self._layer(depth, *values, lengths, training, self.design, self.memory, tf32)
            last_h.append(h_n)
            last_c.append(c_n)
            if self.dropout and self.training and depth + 1 < self.num_layers:
                x = torch.nn.functional.dropout(x, self.dropout)
        return x, (torch.cat(last_h), torch.cat(last_c))

    def _layer(self, depth, x, weight_ih, weight_hh, bias, h0, c0, lengths, *choice) -> tuple[Tensor, Tensor, Tensor]:
        if not self.proj_size:
            return lstm_layer(x, weight_ih, weight_hh, bias, h0, c0, lengths, *choice)[:3]
        weight_hr = self._stacked("weight_hr", depth).to(x.dtype)
        folded = projection.fold(x, weight_ih, weight_hh, weight_hr, h0, lengths)
        m, m_n, c_n, _, _ = lstm_layer(*folded, bias, torch.zeros_like(c0), c0, lengths, *choice)
        y, h_n = projection.unfold(m, m_n, weight_hr, h0, lengths)
        return y, h_n, c_n

    def _weights(self, depth: int) -> tuple[Tensor, Tensor, Tensor | None]:
        bias = self._stacked("bias_ih", depth) + self._stacked("bias_hh", depth) if self.bias else None
        return self._stacked("weight_ih", depth), self._stacked("weight_hh", depth), bias

    def _stacked(self, name: str, depth: int) -> Tensor:
        endings = [f"l{depth}", f"l{depth}_reverse"][: 2 if self.bidirectional else 1]
        return torch.stack([getattr(self, f"{name}_{ending}") for ending in endings])

    @staticmethod
    def _autocast(x: Tensor, *others: Tensor | None) -> list[Tensor | None]:
        kind = x.device.type
        if not torch.is_autocast_enabled(kind):
            return [x, *others]
        dtype = torch.get_autocast_dtype(kind)
        return [None if tensor is None else tensor.to(dtype) for tensor in (x, *others)]


def _permuted(state: State | None, indices: Tensor | None) -> State | None:
    if state is None or indices is None:
        return state
    return state[0].index_select(1, indices), state[1].index_select(1, indices)
