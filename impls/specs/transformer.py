"""A Transformer's sizes, and what they cost: parameters, operations by context, and the bytes of keys and values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from impls.specs.model import InvalidSpec, ModelSpec, Shapes, require_sizes


@dataclass(frozen=True, slots=True)
class TransformerSpec(ModelSpec):
    """Pre-norm blocks of attention and feed-forward (Vaswani et al. 2017; Xiong et al. 2020), without biases.

    Queries and keys are rotated by position (Su et al. 2021); the feed-forward is W_down gelu(W_up x), GELU by tanh.

    num_kv_heads        heads of keys and values, each shared by num_heads / num_kv_heads queries (Ainslie et al. 2023);
                        0 for as many as there are heads
    feed_forward_size   F; 0 for 4H
    window              tokens that each attends to, its own included (Beltagy et al. 2020); 0 for all before it
    bidirectional       attends to what comes after as well: an encoder, which cannot stream
    """

    num_heads: int = 4
    num_kv_heads: int = 0
    feed_forward_size: int = 0
    window: int = 0
    bidirectional: bool = False

    cell: ClassVar[str] = "transformer"

    def __post_init__(self) -> None:
        # Named explicitly: a slotted dataclass is rebuilt, which breaks the zero-argument super().
        ModelSpec.__post_init__(self)
        require_sizes(self, "num_heads")
        require_sizes(self, "num_kv_heads", "feed_forward_size", "window", at_least=0)
        self.require_divisible("hidden_size", self.hidden_size, "num_heads", self.num_heads)
        self.require_divisible("num_heads", self.num_heads, "num_kv_heads", self.kv_heads)
        if self.head_size % 2:
            raise InvalidSpec(
                f"hidden_size / num_heads must be even, since rotation takes features in pairs; got {self.head_size}"
            )
        if self.bidirectional and self.window:
            raise InvalidSpec(f"a window of {self.window} tokens looks back; ask for window=0, or bidirectional=False")

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def kv_heads(self) -> int:
        return self.num_kv_heads or self.num_heads

    @property
    def inner_size(self) -> int:
        return self.feed_forward_size or 4 * self.hidden_size

    def block_shapes(self) -> Shapes:
        width, inner = self.hidden_size, self.inner_size
        return {
            "norm_attention.weight": (width,),
            "weight_qkv": ((self.num_heads + 2 * self.kv_heads) * self.head_size, width),
            "weight_out": (width, width),
            "norm_feed_forward.weight": (width,),
            "weight_up": (inner, width),
            "weight_down": (width, inner),
        }

    def context_flops(self, context: int) -> int:
        """4 H a layer and remembered token: q·k and its share of v (Kaplan et al. 2020, table 1)."""
        return 4 * self.num_layers * self.hidden_size * context

    def contexts(self, steps: int) -> int:
        if self.bidirectional:
            return steps * steps
        full = min(steps, self.window or steps)
        return full * (full + 1) // 2 + (steps - full) * full

    def capacity(self, steps: int) -> int:
        """Tokens that a cache for `steps` tokens keeps: all of them, or those in the window."""
        return min(steps, self.window or steps)

    def state_bytes(self, batch: int = 1, context: int = 1) -> int:
        """Keys and values: 2·L·n_kv·d_head a remembered token (Shazeer 2019, section 2.4; Pope et al. 2022)."""
        values = 2 * self.num_layers * self.kv_heads * self.head_size * self.capacity(context)
        return values * batch * self.item_bytes

    def block_values(self) -> int:
        """Two normalised streams, q, k and v, the attended values, F twice; attention's own weights are recomputed from the
        logarithm of their sum, one value a head (Dao et al. 2022)."""
        qkv = (self.num_heads + 2 * self.kv_heads) * self.head_size
        return 4 * self.hidden_size + qkv + self.num_heads + 2 * self.inner_size

    def key_parts(self) -> list[str]:
        parts = [*ModelSpec.key_parts(self), f"heads{self.num_heads}"]
        parts += [f"kv{self.num_kv_heads}"] if self.num_kv_heads else []
        parts += [f"F{self.feed_forward_size}"] if self.feed_forward_size else []
        return parts + ([f"window{self.window}"] if self.window else []) + ["bi"] * self.bidirectional
