"""The residual models as plain `torch.nn.Module`s, which a study may train as well as a backend run.

`build(spec)` gives the module; parameters are named as `spec.parameter_shapes()` names them. Every module is called as
`y, state = module(x, state)` with x [T, B, I] and y [T, B, H]; the state is a tuple of tensors as `spec.state_shapes` has
them, zeros if left out. The Transformer's is empty: it streams through a cache (see `Cache`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from impls.params import Params, check_params
from impls.specs.recurrent import Residual
from impls.specs.residual import LSTMStackSpec, MinLSTMSpec, ModelSpec, SSMSpec, TransformerSpec

State = tuple[Tensor, ...]


def weight(*shape: int) -> nn.Parameter:
    """A parameter whose values are to be loaded."""
    return nn.Parameter(torch.zeros(shape))


def norm(width: int) -> nn.LayerNorm:
    return nn.LayerNorm(width, bias=False)


class ResidualStack(nn.Module):
    """x, projected to the width H where it has another; the blocks, each adding to the stream; a normalisation."""

    def __init__(self, spec: ModelSpec, blocks: Iterable[nn.Module]) -> None:
        super().__init__()
        width = spec.hidden_size
        self.spec = spec
        self.weight_in = weight(width, spec.input_size) if spec.input_size != width else None
        self.layers = nn.ModuleList(blocks)
        self.norm = norm(width)

    def enter(self, x: Tensor) -> Tensor:
        return x if self.weight_in is None else functional.linear(x, self.weight_in)

    def zeros(self, batch: int) -> State:
        """The state before the first step."""
        like = self.norm.weight
        return tuple(
            torch.zeros(shape, dtype=like.dtype, device=like.device) for shape in self.spec.state_shapes(batch).values()
        )


class Recurrent(ResidualStack):
    """A stack whose blocks map x [T, B, H] and a state, tensors [B, ·], to what they add and the state after the last step."""

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """x [T, B, I] to y [T, B, H]; state: tensors [L, B, ·], zeros if left out."""
        before = zip(*(value.unbind(0) for value in state or self.zeros(x.shape[1])), strict=True)
        stream, after = self.enter(x), []
        for block, of_layer in zip(self.layers, before, strict=True):
            added, last = block(stream, of_layer)
            stream = stream + added
            after.append(last)
        return self.norm(stream), tuple(torch.stack(values) for values in zip(*after, strict=True))


# The linear recurrence h_t = a_t·h_{t−1} + b_t over the first axis: in parallel, or step by step.
#
# (a, b) ∘ (a', b') = (a'a, a'b + b') is associative, so that T steps take 2·log2 T rounds (Blelloch 1990, section 1.4): pairs
# are combined, half as many are scanned, and every second result follows from the one before it. About 2T combinations, where
# the plain recurrence takes T.


def sequential(a: Tensor, b: Tensor, h: Tensor) -> Tensor:
    """h_1 … h_T, [T, …], from a and b [T, …] and h_0 […]: the definition."""
    states = []
    for decay, new in zip(a.unbind(0), b.unbind(0), strict=True):
        h = decay * h + new
        states.append(h)
    return torch.stack(states)


def parallel(a: Tensor, b: Tensor, h: Tensor) -> Tensor:
    """The same in 2·log2 T rounds, and its gradient likewise."""
    states = _Scan.apply(a, b, h)
    assert isinstance(states, Tensor)
    return states


class _Scan(torch.autograd.Function):
    """The gradient of a scan is a scan in reverse: with g_t = dL/dh_t + a_{t+1}·g_{t+1}, db_t = g_t and da_t = g_t·h_{t−1}."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, h: Tensor) -> Tensor:
        first = torch.addcmul(b[:1], a[:1], h[None])
        states = _prefixes(a, torch.cat([first, b[1:]]))
        ctx.save_for_backward(a, h, states)
        return states

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, h, states = ctx.saved_tensors
        (grad,) = grads
        following = torch.cat([a[1:], torch.zeros_like(a[:1])])
        new = _prefixes(following.flip(0), grad.flip(0)).flip(0)
        before = torch.cat([h[None], states[:-1]])
        return new * before, new, new[0] * a[0]


def _prefixes(a: Tensor, b: Tensor) -> Tensor:
    """h_1 … h_T from h_0 = 0."""
    steps = len(a)
    if steps == 1:
        return b
    pairs = steps // 2
    odd_a, odd_b = a[1::2], b[1::2]
    even_a, even_b = a[0::2], b[0::2]
    halved = _prefixes(odd_a * even_a[:pairs], torch.addcmul(odd_b, odd_a, even_b[:pairs]))  # h_2, h_4, …
    states = torch.empty_like(b)
    states[0] = b[0]
    states[1::2] = halved
    rest = len(even_a) - 1  # h_3, h_5, …
    states[2::2] = torch.addcmul(even_b[1:], even_a[1:], halved[:rest])
    return states


# Residual blocks of `torch.nn.LSTM`, so that the LSTM inside is PyTorch's fastest, oneDNN or cuDNN; or of a drop-in for it.

# From input and hidden size to a module of one layer, called and named as `torch.nn.LSTM`.
Layer = Callable[[int, int], nn.Module]


class LSTMStack(Recurrent):
    """See `LSTMStackSpec`. layer: what computes the LSTM of each block."""

    def __init__(self, spec: LSTMStackSpec, layer: Layer = nn.LSTM) -> None:
        super().__init__(spec, [LSTMStackBlock(spec.hidden_size, layer) for _ in range(spec.num_layers)])

    def blocks(self) -> Iterator[LSTMStackBlock]:
        for block in self.layers:
            assert isinstance(block, LSTMStackBlock)
            yield block


class LSTMStackBlock(nn.Module):
    def __init__(self, width: int, layer: Layer) -> None:
        super().__init__()
        self.norm = norm(width)
        self.lstm = layer(width, width)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """x [T, B, H]; state h and c, [B, H] each."""
        h, c = state
        y, (h, c) = self.lstm(self.norm(x), (h[None], c[None]))
        return y, (h[0], c[0])


# minLSTM: gates from the input alone, the state by a parallel scan.


class MinLSTM(Recurrent):
    """See `MinLSTMSpec`."""

    def __init__(self, spec: MinLSTMSpec) -> None:
        super().__init__(spec, [MinLSTMBlock(spec.hidden_size) for _ in range(spec.num_layers)])


class MinLSTMBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = norm(width)
        self.weight_gates = weight(3 * width, width)
        self.bias_gates = weight(3 * width)
        self.weight_out = weight(width, width)
        self.states: States = states

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """x [T, B, H]; state h [B, H]."""
        forget, write, candidate = functional.linear(self.norm(x), self.weight_gates, self.bias_gates).chunk(3, dim=-1)
        h = self.states(forget, write, candidate, state[0])
        return functional.linear(h, self.weight_out), (h[-1],)


# The states [T, B, H] from the gates before their sigmoids, forget, write and candidate [T, B, H], and the first state [B, H].
States = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def states(forget: Tensor, write: Tensor, candidate: Tensor, h: Tensor) -> Tensor:
    return parallel(*minlstm_recurrence(forget, write, candidate), h)


def minlstm_recurrence(forget: Tensor, write: Tensor, candidate: Tensor) -> tuple[Tensor, Tensor]:
    """a and b of h' = a·h + b from the gates before their sigmoids: f/(f+i) and i/(f+i)·g."""
    keep = kept(forget, write)
    return keep.sigmoid(), (-keep).sigmoid() * candidate


def kept(forget: Tensor, write: Tensor) -> Tensor:
    """σ(f)/(σ(f)+σ(i)) before its sigmoid: softplus(−i) − softplus(−f), which no gate near zero divides by zero."""
    return functional.softplus(-write) - functional.softplus(-forget)


# A diagonal selective state-space model by a parallel scan. Its states [T, B, N, E] are kept, as no fused kernel is used.


class SSM(Recurrent):
    """See `SSMSpec`."""

    def __init__(self, spec: SSMSpec) -> None:
        super().__init__(spec, [SSMBlock(spec) for _ in range(spec.num_layers)])


class SSMBlock(nn.Module):
    def __init__(self, spec: SSMSpec) -> None:
        super().__init__()
        width, channels, states = spec.hidden_size, spec.channels, spec.state_size
        self.norm = norm(width)
        self.weight_in = weight(2 * channels, width)
        self.weight_step = weight(channels, channels)
        self.bias_step = weight(channels)
        self.weight_bc = weight(2 * states, channels)
        self.log_decay = weight(states, channels)
        self.skip = weight(channels)
        self.weight_out = weight(width, channels)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """x [T, B, H]; state h [B, N·E]."""
        v, z = functional.linear(self.norm(x), self.weight_in).chunk(2, dim=-1)
        step = functional.softplus(functional.linear(v, self.weight_step, self.bias_step))
        write, read = functional.linear(v, self.weight_bc).chunk(2, dim=-1)
        before = state[0].unflatten(-1, self.log_decay.shape)
        h = parallel(*ssm_recurrence(v, step, -self.log_decay.exp(), write), before)
        y = (read[..., None] * h).sum(-2) + self.skip * v
        return functional.linear(y * functional.silu(z), self.weight_out), (h[-1].flatten(-2),)


def ssm_recurrence(v: Tensor, step: Tensor, rate: Tensor, write: Tensor) -> tuple[Tensor, Tensor]:
    """a and b [T, B, N, E] of h' = a·h + b: the zero-order hold of dh/dt = A h + B v over a time Δ (Gu & Dao 2023, eq. 4).

    v, step Δ [T, B, E]; rate A [N, E], below zero; write B [T, B, N].
    """
    exponent = step[..., None, :] * rate
    return exponent.exp(), torch.expm1(exponent) / rate * write[..., None] * v[..., None, :]


# A pre-norm Transformer with rotary positions on `scaled_dot_product_attention`, and its cache of keys and values.

ROTARY_BASE = 10_000.0  # Su et al. 2021, section 3.2.2


class Transformer(ResidualStack):
    """See `TransformerSpec`."""

    spec: TransformerSpec

    def __init__(self, spec: TransformerSpec) -> None:
        super().__init__(spec, [Block(spec) for _ in range(spec.num_layers)])

    def forward(self, x: Tensor, state: State = ()) -> tuple[Tensor, State]:
        """x [T, B, I] to y [T, B, H]; there is no state."""
        turn = rotation(torch.arange(len(x), device=x.device), self.spec.head_size, x.dtype)
        stream = self.enter(x)
        for block in self.layers:
            assert isinstance(block, Block)
            stream = block(stream, turn)
        return self.norm(stream), ()

    def prefill(self, x: Tensor, cache: Cache) -> Tensor:
        """As `forward`, leaving in the empty cache the keys and values of the last tokens it holds."""
        steps = len(x)
        turn = rotation(torch.arange(steps, device=x.device), self.spec.head_size, x.dtype)
        kept = torch.arange(max(0, steps - cache.capacity), steps, device=x.device)
        stream = self.enter(x)
        for block, keys, values in zip(self.layers, cache.keys, cache.values, strict=True):
            assert isinstance(block, Block)
            query, key, value = block.qkv(stream, turn)
            keys.index_copy_(2, kept % cache.capacity, key[:, :, kept])
            values.index_copy_(2, kept % cache.capacity, value[:, :, kept])
            stream = block.after_attention(stream, block.attend(query, key, value))
        cache.pass_by(steps)
        return self.norm(stream)

    def step(self, x: Tensor, cache: Cache) -> Tensor:
        """One token, x [1, B, I] to y [1, B, H]; its keys and values take the place of the oldest in a full cache."""
        turn = rotation(cache.position, self.spec.head_size, x.dtype)
        place, used = cache.position % cache.capacity, min(cache.passed + 1, cache.capacity)
        stream = self.enter(x)
        for block, keys, values in zip(self.layers, cache.keys, cache.values, strict=True):
            assert isinstance(block, Block)
            query, key, value = block.qkv(stream, turn)
            keys.index_copy_(2, place, key)
            values.index_copy_(2, place, value)
            stream = block.after_attention(stream, attend(query, keys[:, :, :used], values[:, :, :used], causal=False))
        cache.pass_by(1)
        return self.norm(stream)


class Cache:
    """Keys, rotated, and values of the last `capacity` tokens, [B, n_kv, capacity, d] a layer, as a ring.

    Its memory is fixed; a step reads what is filled of it. Once it is full, a step's shapes are all fixed, and where it writes
    and how far it rotates stand in `position` [1] on the device, so that a CUDA graph can repeat it.
    """

    def __init__(self, spec: TransformerSpec, batch: int, steps: int, like: Tensor) -> None:
        """For `steps` tokens or the spec's window, whichever is less; of the dtype and on the device of `like`."""
        self.capacity = spec.capacity(steps)
        shape = (spec.num_layers, batch, spec.kv_heads, self.capacity, spec.head_size)
        self.keys, self.values = (torch.zeros(shape, dtype=like.dtype, device=like.device) for _ in range(2))
        self.position = torch.zeros(1, dtype=torch.int64, device=like.device)
        self.passed = 0

    def pass_by(self, steps: int) -> None:
        self.position += steps
        self.passed += steps

    @property
    def nbytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes


class Block(nn.Module):
    def __init__(self, spec: TransformerSpec) -> None:
        super().__init__()
        self.spec = spec
        width, shapes = spec.hidden_size, spec.block_shapes()
        self.norm_attention = norm(width)
        self.weight_qkv = weight(*shapes["weight_qkv"])
        self.weight_out = weight(*shapes["weight_out"])
        self.norm_feed_forward = norm(width)
        self.weight_up = weight(*shapes["weight_up"])
        self.weight_down = weight(*shapes["weight_down"])

    def forward(self, stream: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        """The stream [T, B, H] after this block."""
        return self.after_attention(stream, self.attend(*self.qkv(stream, turn)))

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Of a whole sequence, as the spec says."""
        if self.spec.window and self.spec.window < query.shape[2]:
            return attend_in_window(query, key, value, self.spec.window)
        return attend(query, key, value, causal=not self.spec.bidirectional)

    def qkv(self, stream: Tensor, turn: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [B, n_q, T, d], keys and values [B, n_kv, T, d] of a stream [T, B, H]; the first two rotated."""
        spec = self.spec
        heads = functional.linear(self.norm_attention(stream), self.weight_qkv).unflatten(-1, (-1, spec.head_size))
        query, key, value = heads.permute(1, 2, 0, 3).split((spec.num_heads, spec.kv_heads, spec.kv_heads), dim=1)
        return rotate(query, turn), rotate(key, turn), value

    def after_attention(self, stream: Tensor, attended: Tensor) -> Tensor:
        """stream [T, B, H], attended [B, n_q, T, d]; to the stream with the attention's output and the feed-forward's."""
        stream = stream + functional.linear(attended.permute(2, 0, 1, 3).flatten(2), self.weight_out)
        inner = functional.gelu(functional.linear(self.norm_feed_forward(stream), self.weight_up), approximate="tanh")
        return stream + functional.linear(inner, self.weight_down)


def attend(query: Tensor, key: Tensor, value: Tensor, causal: bool, mask: Tensor | None = None) -> Tensor:
    grouped = query.shape[1] != key.shape[1]
    return functional.scaled_dot_product_attention(query, key, value, mask, is_causal=causal, enable_gqa=grouped)


def attend_in_window(query: Tensor, key: Tensor, value: Tensor, window: int) -> Tensor:
    """Each to the last `window` tokens: in blocks of W queries, each with the keys of its own block and of the one before it,
    so that the work is 2·T·W and not T² (Beltagy et al. 2020, section 3.1)."""
    batch, _, steps, _ = query.shape
    blocks = -(-steps // window)

    def folded(x: Tensor, before: int) -> Tensor:
        """[B, n, T, d] to [B · blocks, n, W or 2W, d], `before` blocks back included, zeros where there is none."""
        padded = functional.pad(x, (0, 0, before * window, blocks * window - steps))
        return padded.unfold(2, (1 + before) * window, window).permute(0, 2, 1, 4, 3).flatten(0, 1)

    behind = torch.arange(window, 2 * window, device=query.device)[:, None] - torch.arange(2 * window, device=query.device)
    mask = ((behind >= 0) & (behind < window)).repeat(blocks, 1, 1)
    mask[0, :, :window] = False
    mask = mask.repeat(batch, 1, 1)[:, None]
    attended = attend(folded(query, 0), folded(key, 1), folded(value, 1), causal=False, mask=mask)
    return attended.unflatten(0, (batch, blocks)).permute(0, 2, 1, 3, 4).flatten(2, 3)[:, :, :steps]


def rotation(positions: Tensor, head_size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines [T, d/2] of each position's angles, which float32 could not tell apart at the millionth token."""
    frequencies = ROTARY_BASE ** (-torch.arange(0, head_size, 2, dtype=torch.float64, device=positions.device) / head_size)
    angles = positions.to(torch.float64)[:, None] * frequencies
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """x [B, n, T, d] with feature i and feature i + d/2 as a pair."""
    cos, sin = turn
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


Model = Transformer | LSTMStack | MinLSTM | SSM


def build(spec: Residual, params: Params | None = None, layer: Layer = nn.LSTM) -> Model:
    """The model on the spec's device in its dtype, with these weights (`impls.params.random_params`), else zeros.

    layer: what computes each LSTM of a stack of them.
    """
    match spec:
        case TransformerSpec():
            model = Transformer(spec)
        case LSTMStackSpec():
            model = LSTMStack(spec, layer)
        case MinLSTMSpec():
            model = MinLSTM(spec)
        case _:
            model = SSM(spec)
    model = model.to(device=spec.device, dtype=getattr(torch, spec.stored_dtype))
    if params is not None:
        check_params(spec, params)
        model.load_state_dict({name: torch.from_numpy(value) for name, value in params.items()})
    return model
