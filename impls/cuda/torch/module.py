"""A drop-in for `torch.nn.LSTM`: the same constructor, `state_dict` and call, on the kernels of this folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from impls.cuda.select import Design, Memory
from impls.cuda.torch import layer, ops
from impls.cuda.torch.layer import sum_biases
from impls.cuda.torch.ops import lstm_layer, tf32_for
from impls.cuda.torch.recurrence import Parameters
from impls.cuda.torch.streaming import Layer, Streaming

State = tuple[Tensor, Tensor]
LayerWeights = tuple[Parameters, list[Tensor] | None]  # of each direction; W_hr with `proj_size`
KERNEL_DEVICES = ("cuda", "cpu")  # where the operators run; on any other they refuse, or (meta) give shapes


@dataclass(frozen=True, slots=True)
class _Frozen:
    """Copies of the weights, and the parameters that they were copied from."""

    layers: list[LayerWeights]
    parameters: dict[str, Tensor]


class LSTM(torch.nn.RNNBase):
    """A drop-in for `torch.nn.LSTM` on this project's CUDA kernels; it takes a PackedSequence too, and compiles as one graph.

    Weights are read at every call where they lie, however they were written; `freeze` is for those that stay as they are.
    Float32 is multiplied in TF32 where `torch.backends.cudnn.rnn.fp32_precision` says so, as `torch.nn.LSTM` does on a GPU.

    Args:
        args, kwargs: those of `torch.nn.LSTM`, whose `state_dict` it also has: input_size, hidden_size, num_layers, bias,
            batch_first, dropout, bidirectional, proj_size, device, dtype.
        design: the kernels that its layers run on (`auto`, `cluster`, `grid`, `gemm_step`, `tensor_step`, `step`).
            May be set any time; see `impls.cuda.select`.
        memory: what is kept for the backward pass: `saved` keeps the gates, `rebuilt` computes them again. Likewise.
        wavefront: steps of a chunk of time that stacked layers of one direction hand on at inference, each layer on a stream of
            its own; 0, the default, for layer after layer, as is training, dropout and a sequence of one chunk. Likewise.

    Returns:
        Called as `torch.nn.LSTM` is, with x [T, B, I] ([B, T, I] if batch_first, [T, I] without a batch) and (h0 [L·D, B, R],
        c0 [L·D, B, H]) or None: outputs [T, B, D·R] and (h_n, c_n), shaped as the states.

    Raises:
        RuntimeError: the tensors are not on a CUDA device, which is told when it is called; shapes that do not fit.
        ValueError: arguments that `torch.nn.LSTM` refuses; a wavefront of two directions, of `proj_size`, or with
            persistent-grid kernels, which is told when it is called.

    Example:
        >>> layer = LSTM(256, 512, device="cuda", dtype=torch.bfloat16)  # doctest: +SKIP
        >>> y, (h_n, c_n) = layer(torch.randn(128, 32, 256, device="cuda", dtype=torch.bfloat16))  # doctest: +SKIP
    """

    # Not a subclass of nn.LSTM: torch.compile breaks the graph at those. Nothing in `forward` may be beyond what the oldest
    # PyTorch that is supported traces, and nothing may read a switch of `torch.backends`: the operators do, when they run.

    _frozen: _Frozen | None = None

    def __init__(self, *args, design: Design = "auto", memory: Memory = "saved", wavefront: int = 0, **kwargs) -> None:
        super().__init__("LSTM", *args, **kwargs)
        self.design: Design = design
        self.memory: Memory = memory
        self.wavefront = wavefront

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
        y, (h_n, c_n) = self._layers(x, hx, None)
        if not batched:
            return y.squeeze(1), (h_n.squeeze(1), c_n.squeeze(1))
        return y.transpose(0, 1) if self.batch_first else y, (h_n, c_n)

    def freeze(self) -> Self:
        """Compute with copies of the weights as they are now, until `unfreeze()` or `train()`: for inference.

        A call then has less to do: biases are added once. While frozen, whatever is written into the parameters goes
        unnoticed: by an optimizer, by `copy_`, through `.data` or NumPy, by `load_state_dict`, or into what a parametrization
        computes them from. Call it again to take them anew; `to`, `half` and their like do so by themselves. The copies take
        as much memory as the weights.

        Returns:
            The module itself.

        Raises:
            RuntimeError: the module is in training mode (call `eval()` first). Later, of a call while it is frozen: gradients
                would have to reach its parameters, or it has other ones than those that were copied (`functional_call`, a
                DataParallel replica, a parameter that was assigned).
        """
        if self.training:
            raise RuntimeError("LSTM.freeze: the module is in training mode, where weights change; call eval() first")
        self._frozen = None
        with torch.no_grad():
            layers = [_copied(*self._weights(depth)) for depth in range(self.num_layers)]
        self._frozen = _Frozen(layers, {name: each for name, each in self._parameters.items() if each is not None})
        return self

    def unfreeze(self) -> Self:
        """Read the weights at every call again. Returns the module itself."""
        self._frozen = None
        return self

    def train(self, mode: bool = True) -> Self:
        """As of every module; training mode ends `freeze`."""
        if mode:
            self.unfreeze()
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        return self if self._frozen is None else self.freeze()

    def to_torch(self) -> torch.nn.LSTM:
        """A `torch.nn.LSTM` on these very parameters, for tools that look for one: quantization, ONNX export, `isinstance`."""
        names = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional", "proj_size")
        twin = torch.nn.LSTM(**{name: getattr(self, name) for name in names}, device="meta")
        twin.load_state_dict(self.state_dict(keep_vars=True), assign=True)
        return twin.train(self.training)

    def stream(self, batch: int) -> Streaming:
        """These layers, with the weights as they are now, for input that arrives bit by bit: see streaming.py.

        Time comes first, whatever `batch_first` says. `design` is heeded: `cluster` or `grid` for one launch of all layers so,
        `tensor_step` or `step` layer by layer. Raises a RuntimeError for a bidirectional network, whose first output needs the
        last input, and for one that would drop out.
        """
        if self.bidirectional:
            raise RuntimeError("LSTM.stream: a bidirectional network needs the whole sequence at once; call it instead")
        if self.dropout and self.training and self.num_layers > 1:
            raise RuntimeError("LSTM.stream: there is no dropout in a stream; call eval() first")
        with torch.no_grad():
            layers: list[Layer] = []
            for depth in range(self.num_layers):
                (weight_ih, weight_hh, bias), weight_hr = self._weights(depth)
                projection = weight_hr[0] if weight_hr else None
                layers.append((weight_ih[0], weight_hh[0], sum_biases(bias, 1)[0], projection))
            return Streaming(layers, batch, tf32_for(layers[0][0]), self.design)

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

    def _layers(self, x: Tensor, hx: State | None, lengths: Tensor | None) -> tuple[Tensor, State]:
        directions = 2 if self.bidirectional else 1
        if hx is not None:
            outer = self.num_layers * directions, x.shape[1]
            sizes = (*outer, self.proj_size or self.hidden_size), (*outer, self.hidden_size)
            for index, (state, size) in enumerate(zip(hx, sizes, strict=True)):
                self.check_hidden_size(state, size, f"LSTM: expected hx[{index}] of size {{}}, got {{}}")
        if self._frozen is not None:
            self._check_frozen(self._frozen)
        if self.wavefront and (found := self._waves(x, hx, lengths)) is not None:
            return found
        last_h, last_c = [], []
        layers = len(self._all_weights) // directions  # a constant to torch.compile
        for depth in range(layers):
            h0 = c0 = None
            if hx is not None:
                h0, c0 = (state[depth * directions : (depth + 1) * directions] for state in hx) if layers > 1 else hx
            weights, weight_hr = self._weights(depth)
            choice = self.design, self.memory, None  # TF32 by PyTorch's switch
            x, h_n, c_n = self._layer(x, weights, h0, c0, weight_hr=weight_hr, lengths=lengths, choice=choice)
            last_h.append(h_n)
            last_c.append(c_n)
            if self.dropout and self.training and depth + 1 < layers:
                x = torch.nn.functional.dropout(x, self.dropout)
        if layers == 1:
            return x, (last_h[0], last_c[0])
        return x, (torch.cat(last_h), torch.cat(last_c))

    def _waves(self, x: Tensor, hx: State | None, lengths: Tensor | None) -> tuple[Tensor, State] | None:
        """As `_layers`, as a wavefront; None where that is not what the layers are run as."""
        if self.bidirectional or self.proj_size:
            raise ValueError("LSTM: a wavefront is of layers of one direction without proj_size; set wavefront=0")
        layers = len(self._all_weights)
        drops = self.dropout and self.training
        if layers == 1 or len(x) <= self.wavefront or drops:
            return None
        weights = [self._weights(depth)[0] for depth in range(layers)]
        flat = [each for ih, hh, bias in weights for each in (*ih, *hh, *bias)]
        h0, c0 = (None, None) if hx is None else hx
        given = (x, *flat, h0, c0)
        needs = torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in given)
        if needs or ops.is_transformed(*given):
            return None
        dtype = _autocast_dtype(x)
        if dtype is not None:
            x, flat = _cast(x, dtype), [_cast(each, dtype) for each in flat]
            h0, c0 = (None if state is None else _cast(state, dtype) for state in (h0, c0))
        y, h_n, c_n = ops.lstm_wavefront(x, flat, layers, h0, c0, lengths, self.wavefront, self.design, None)
        return y, (h_n, c_n)

    @staticmethod
    def _layer(x, weights, h0, c0, *, weight_hr, lengths, choice) -> tuple[Tensor, Tensor, Tensor]:
        dtype = _autocast_dtype(x)
        if dtype is not None:
            x, (h0, c0) = _cast(x, dtype), (state if state is None else _cast(state, dtype) for state in (h0, c0))
            weight_ih, weight_hh, bias = ([_cast(weight, dtype) for weight in each] for each in weights)
            weights = weight_ih, weight_hh, bias
            weight_hr = None if weight_hr is None else [_cast(weight, dtype) for weight in weight_hr]
        weight_ih, weight_hh, bias = weights
        given = (x, *weight_ih, *weight_hh, *bias, h0, c0, *(weight_hr or ()))
        if ops.is_transformed(*given):
            ops.warn("transforms of torch.func and forward-mode derivatives")
            return ops.plain_lstm_layer(x, weights, h0, c0, lengths=lengths, weight_hr=weight_hr)
        # By what is used and not by `self.parameters()`: a replica's weights, or those of another network, are none.
        training = torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in given)
        if weight_hr is None:
            return lstm_layer(x, *ops.flat(weights), h0, c0, lengths, training, *choice)[:3]
        x, widened, recurrent = layer.fold(x, weight_ih, weight_hh, weight_hr, h0, lengths)
        m, m_n, c_n, _, _ = lstm_layer(x, *ops.flat((widened, recurrent, bias)), None, c0, lengths, training, *choice)
        y, h_n = layer.unfold(m, m_n, weight_hr, h0, lengths)
        return y, h_n, c_n

    def _weights(self, depth: int) -> LayerWeights:
        """As `lstm_layer` takes them: where they lie now, or as they were frozen."""
        if self._frozen is not None:
            return self._frozen.layers[depth]
        directions = 2 if self.bidirectional else 1
        # The names of each kind: weight_ih, weight_hh, the biases, weight_hr. Not made of numbers, which torch.compile may take
        # for variables.
        kinds = zip(*self._all_weights[depth * directions : (depth + 1) * directions], strict=True)
        weight_ih, weight_hh, *others = [[getattr(self, name) for name in names] for names in kinds]
        weight_hr = others.pop() if self.proj_size else None
        return (weight_ih, weight_hh, [each for kind in others for each in kind]), weight_hr

    def _check_frozen(self, frozen: _Frozen) -> None:
        if any(self._parameters.get(name) is not parameter for name, parameter in frozen.parameters.items()):
            raise RuntimeError(
                "LSTM: frozen, and called with other parameters than were frozen; call unfreeze() before functional_call, "
                "before replicating the module or after assigning a parameter"
            )
        if torch.is_grad_enabled() and any(parameter.requires_grad for parameter in frozen.parameters.values()):
            raise RuntimeError(
                "LSTM: frozen, so that no gradient reaches its parameters; call it under torch.no_grad(), after "
                "requires_grad_(False), or after unfreeze() or train()"
            )


def _copied(weights: Parameters, weight_hr: list[Tensor] | None) -> LayerWeights:
    """Of a layer copies of its weights, its biases added."""

    def copies(tensors: Any) -> list[Tensor]:
        return [tensor.detach().clone(memory_format=torch.contiguous_format) for tensor in tensors]

    weight_ih, weight_hh, bias = weights
    summed = copies(sum_biases(bias, len(weight_ih))) if bias else []
    return (copies(weight_ih), copies(weight_hh), summed), weight_hr and copies(weight_hr)


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


def _autocast_dtype(x: Tensor) -> torch.dtype | None:
    """What autocast would cast tensors to for `torch.nn.LSTM`."""
    kind = x.device.type
    if kind not in KERNEL_DEVICES or not torch.is_autocast_enabled(kind):  # it raises for a device that knows no autocast
        return None
    return torch.get_autocast_dtype(kind)


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """As autocast does: float64 stays as it is."""
    return tensor if tensor.dtype == torch.float64 else tensor.to(dtype)


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """From the host to the device, without waiting for the device."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _permuted(state: State | None, indices: Tensor | None) -> State | None:
    if state is None or indices is None:
        return state
    return state[0].index_select(1, indices), state[1].index_select(1, indices)
