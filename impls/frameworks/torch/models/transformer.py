"""A pre-norm Transformer with rotary positions on `scaled_dot_product_attention`, and its cache of keys and values."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from impls.frameworks.torch.models import parts
from impls.specs.residual import TransformerSpec

ROTARY_BASE = 10_000.0  # Su et al. 2021, section 3.2.2


class Transformer(parts.Residual):
    """See `TransformerSpec`."""

    spec: TransformerSpec

    def __init__(self, spec: TransformerSpec) -> None:
        super().__init__(spec, [Block(spec) for _ in range(spec.num_layers)])

    def forward(self, x: Tensor, state: parts.State = ()) -> tuple[Tensor, parts.State]:
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
        self.norm_attention = parts.norm(width)
        self.weight_qkv = parts.weight(*shapes["weight_qkv"])
        self.weight_out = parts.weight(*shapes["weight_out"])
        self.norm_feed_forward = parts.norm(width)
        self.weight_up = parts.weight(*shapes["weight_up"])
        self.weight_down = parts.weight(*shapes["weight_down"])

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
