"""What the models are built of. Weights are transposed, [in, out]; what 16 bits would lose is computed in float32."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

Weights = dict[str, Array]  # of one block, or of the whole model


def enter(weights: Weights, x: Array) -> Array:
    """x [T, B, I], projected to the width H where it has another."""
    return x @ weights["weight_in"] if "weight_in" in weights else x


def of_block(weights: Weights, layer: int) -> Weights:
    prefix = f"layers.{layer}."
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def wide(x: Array) -> Array:
    """As float32 where it has fewer bits."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def norm(x: Array, weight: Array) -> Array:
    """Over the last axis, with a weight and no bias (Ba et al. 2016)."""
    values = wide(x)
    centred = values - values.mean(-1, keepdims=True)
    unit = centred * jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-5)
    return (unit * wide(weight)).astype(x.dtype)


def gelu(x: Array) -> Array:
    return jax.nn.gelu(wide(x), approximate=True).astype(x.dtype)
