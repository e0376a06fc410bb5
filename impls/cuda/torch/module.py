"""A drop-in for `torch.nn.LSTM`: the same constructor, `state_dict` and call, on the kernels of this folder."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from impls.cuda.select import Design, Memory
from impls.cuda.torch import layer, ops
from impls.cuda.torch.ops import lstm_layer, sum_biases, tf32_for
from impls.cuda.torch.streaming import Layer, Streaming

State = tuple[Tensor, Tensor]
KERNEL_DEVICES = ("cuda", "cpu")  # where the operators run; on any other they refuse, or (meta) give shapes


class LSTM(torch.nn.RNNBase):
    """A drop-in for `torch.nn.LSTM` on this project's CUDA kernels; it takes a PackedSequence too, and compiles as one graph.

    Float32 is multiplied in TF32 where `torch.backends.cudnn.rnn.fp32_precision` says so, as `torch.nn.LSTM` does on a GPU.

    Args:
        args, kwargs: those of `torch.nn.LSTM`, whose `state_dict` it also has: input_size, hidden_size, num_layers, bias,
            batch_first, dropout, bidirectional, proj_size, device, dtype.
        design: the kernels that its layers run on (`auto`, `cluster`, `grid`, `tensor_step`, `step`).
            May be set any time; see `impls.cuda.select`.
        memory: what is kept for the backward pass: `saved` keeps the gates, `rebuilt` computes them again. Likewise.

    Returns:
        Called as `torch.nn.LSTM` is, with x [T, B, I] ([B, T, I] if batch_first, [T, I] without a batch) and (h0 [L·D, B, R],
        c0 [L·D, B, H]) or None: outputs [T, B, D·R] and (h_n, c_n), shaped as the states.

    Raises:
        RuntimeError: the tensors are not on a CUDA device, which is told when it is called; shapes that do not fit.
        ValueError: arguments that `torch.nn.LSTM` refuses.

    Example:
        >>> layer = LSTM(256, 512, device="cuda", dtype=torch.bfloat16)  # doctest: +SKIP
        >>> y, (h_n, c_n) = layer(torch.randn(128, 32, 256, device="cuda", dtype=torch.bfloat16))  # doctest: +SKIP
    """

    # Not a subclass of nn.LSTM: torch.compile breaks the graph at those. Nothing in `forward` may be beyond what the oldest
    # PyTorch that is supported traces, and nothing may read a switch of `torch.backends`: the operators do, when they run.

    def __init__(self, *args, design: Design = "auto", memory: Memory = "saved", **kwargs) -> None:
        super().__init__("LSTM", *args, **kwargs)
        self.design, self.memory = design, memory

    def forward(self, input: Tensor | PackedSequence, hx: State | None = None):
        """As `torch.nn.LSTM.forward`, with its kinds of errors."""
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        if input.dim() not in (2, 3):
            raise ValueError(f"LSTM: Expected input to be 2D or 3D, got {input.dim()}D instead")
        batched = input.dim() == 3
        hx = _pair(hx, batched)
        if hx is not None and any(state.dim() != input.dim() for state in hx):
            raise RuntimeError(f"LSTM: expected h_0 and c_0 to be {input.dim()}D like the input; got {[s.dim() for s in hx]}")
        x = input if batched else input.unsqueeze(1)
        if self.batch_first and batched:
            x = x.transpose(0, 1)
        self.check_input(x, None)
        if hx is not None and not batched:
            hx = hx[0].unsqueeze(1), hx[1].unsqueeze(1)
        lengths = torch.full((x.shape[1],), x.shape[0], dtype=torch.int32, device=x.device)
        y, (h_n, c_n) = self._layers(x, hx, lengths)
        if not batched:
            return y.squeeze(1), (h_n.squeeze(1), c_n.squeeze(1))
        return y.transpose(0, 1) if self.batch_first else y, (h_n, c_n)

    def to_torch(self) -> torch.nn.LSTM:
        """A `torch.nn.LSTM` on these very parameters, for tools that look for one: quantization, ONNX export, `isinstance`."""
        names = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional", "proj_size")
        twin = torch.nn.LSTM(**{name: getattr(self, name) for name in names}, device="meta")
        twin.load_state_dict(self.state_dict(keep_vars=True), assign=True)
        return twin.train(self.training)

    def stream(self, batch: int) -> Streaming:
        """These layers, with the weights as they are now, for input that arrives bit by bit: see streaming.py.

        Time comes first, whatever `batch_first` says. Raises a RuntimeError for a bidirectional network, whose first output
        needs the last input, and for one that would drop out.
        """
        if self.bidirectional:
            raise RuntimeError("LSTM.stream: a bidirectional network needs the whole sequence at once; call it instead")
        if self.dropout and self.training and self.num_layers > 1:
            raise RuntimeError("LSTM.stream: there is no dropout in a stream; call eval() first")
        with torch.no_grad():
            layers: list[Layer] = [(*self._weights(depth), self._projection(depth)) for depth in range(self.num_layers)]
            return Streaming(layers, batch, tf32_for(layers[0][0]))

    def _forward_packed(self, packed: PackedSequence, hx: State | None):
        """Pads and packs with one gather each; the indices come from `batch_sizes`, which lies on the host anyway."""
        data, sizes, sorted_indices, unsorted_indices = packed
        self.check_input(data, sizes)
        steps, batch = len(sizes), int(sizes[0])
        live = torch.arange(batch, device=sizes.device) < sizes[:, None]
        places = _sent(live.flatten().nonzero().squeeze(1), data.device)
        lengths = _sent(live.sum(0, dtype=torch.int32), data.device)
        x = data.new_zeros(steps * batch, data.shape[1]).index_copy(0, places, data).view(steps, batch, -1)
        y, (h_n, c_n) = self._layers(x, _permuted(_pair(hx, True), sorted_indices), lengths)
        rows = y.flatten(0, 1).index_select(0, places)
        last = _permuted((h_n, c_n), unsorted_indices)
        return PackedSequence(rows, sizes, sorted_indices, unsorted_indices), last

    def _layers(self, x: Tensor, hx: State | None, lengths: Tensor) -> tuple[Tensor, State]:
        directions = 2 if self.bidirectional else 1
        outer = self.num_layers * directions, x.shape[1]
        sizes = (*outer, self.proj_size or self.hidden_size), (*outer, self.hidden_size)
        if hx is None:
            hx = x.new_zeros(sizes[0]), x.new_zeros(sizes[1])
        for index, (state, size) in enumerate(zip(hx, sizes, strict=True)):
            self.check_hidden_size(state, size, f"LSTM: expected hx[{index}] of size {{}}, got {{}}")
        last_h, last_c = [], []
        for depth in range(self.num_layers):
            states = [state[depth * directions : (depth + 1) * directions] for state in hx]
            *values, weight_hr = _autocast(x, *self._weights(depth), *states, self._projection(depth))
            choice = self.design, self.memory, None  # TF32 by PyTorch's switch
            x, h_n, c_n = self._layer(*values, weight_hr=weight_hr, lengths=lengths, choice=choice)
            last_h.append(h_n)
            last_c.append(c_n)
            if self.dropout and self.training and depth + 1 < self.num_layers:
                x = torch.nn.functional.dropout(x, self.dropout)
        return x, (torch.cat(last_h), torch.cat(last_c))

    @staticmethod
    def _layer(x, weight_ih, weight_hh, bias, h0, c0, *, weight_hr, lengths, choice) -> tuple[Tensor, Tensor, Tensor]:
        given = (x, weight_ih, weight_hh, bias, h0, c0, weight_hr)
        if ops.is_transformed(*given):
            ops.warn("transforms of torch.func and forward-mode derivatives")
            return ops.plain_lstm_layer(*given[:-1], lengths=lengths, weight_hr=weight_hr)
        # By what is used and not by `self.parameters()`: a replica's weights, or those of another network, are none.
        training = torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in given)
        if weight_hr is None:
            return lstm_layer(x, weight_ih, weight_hh, bias, h0, c0, lengths, training, *choice)[:3]
        folded = layer.fold(x, weight_ih, weight_hh, weight_hr, h0, lengths)
        m, m_n, c_n, _, _ = lstm_layer(*folded, bias, torch.zeros_like(c0), c0, lengths, training, *choice)
        y, h_n = layer.unfold(m, m_n, weight_hr, h0, lengths)
        return y, h_n, c_n

    def _weights(self, depth: int) -> tuple[Tensor, Tensor, Tensor | None]:
        bias = _sum_of(self._stacked("bias_ih", depth), self._stacked("bias_hh", depth)) if self.bias else None
        return self._stacked("weight_ih", depth), self._stacked("weight_hh", depth), bias

    def _projection(self, depth: int) -> Tensor | None:
        return self._stacked("weight_hr", depth) if self.proj_size else None

    def _stacked(self, name: str, depth: int) -> Tensor:
        endings = [f"l{depth}", f"l{depth}_reverse"][: 2 if self.bidirectional else 1]
        return torch.stack([getattr(self, f"{name}_{ending}") for ending in endings])


def _sum_of(bias_ih: Tensor, bias_hh: Tensor) -> Tensor:
    return bias_ih + bias_hh if ops.is_transformed(bias_ih, bias_hh) else sum_biases(bias_ih, bias_hh)


def _pair(hx, batched: bool) -> State | None:
    """h_0 and c_0 of a tuple or list, or of one tensor where PyTorch takes that; with PyTorch's kinds of errors."""
    if hx is None:
        return None
    if len(hx) < 2:
        raise IndexError(f"LSTM: expected hx to be a pair (h_0, c_0); got {len(hx)} of them")
    if isinstance(hx, Tensor) and batched:
        raise TypeError("LSTM: expected hx to be a pair (h_0, c_0); got one tensor: give (hx[0], hx[1])")
    if len(hx) > 2:
        raise RuntimeError(f"LSTM: expected hx to be a pair (h_0, c_0); got {len(hx)} tensors")
    return hx[0], hx[1]


def _autocast(x: Tensor, *others: Tensor | None) -> list[Tensor | None]:
    """As autocast would cast them for `torch.nn.LSTM`: float64 stays as it is."""
    kind = x.device.type
    if kind not in KERNEL_DEVICES or not torch.is_autocast_enabled(kind):  # it raises for a device that knows no autocast
        return [x, *others]
    dtype = torch.get_autocast_dtype(kind)
    return [t if t is None or t.dtype == torch.float64 else t.to(dtype) for t in (x, *others)]


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """From the host to the device, without waiting for the device."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _permuted(state: State | None, indices: Tensor | None) -> State | None:
    if state is None or indices is None:
        return state
    return state[0].index_select(1, indices), state[1].index_select(1, indices)
