"""Colours can be told apart by everyone, on white and on near-black; a backend looks the same everywhere."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from analysis.report.drawing import PALETTE, ordered, style

# Machado, Oliveira & Fernandes 2009, severity 1.0, on linear RGB.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
# Okabe and Ito's six usable colours come within 0.076 of one another in the same measure.
LEAST_DISTANCE = 0.12
LEAST_CONTRAST = 2.3


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def oklab(rgb: np.ndarray) -> np.ndarray:
    """Source: Ottosson 2020."""
    to_cones = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.array(to_lab) @ np.cbrt(np.array(to_cones) @ np.clip(rgb, 0, 1))


@pytest.mark.parametrize("sight", SIGHT)
def test_every_two_colours_differ_to_every_eye(sight: str) -> None:
    seen = {colour: oklab(np.array(SIGHT[sight]) @ linear(colour)) for colour in PALETTE}
    closest = min((float(np.linalg.norm(seen[a] - seen[b])), a, b) for a, b in itertools.combinations(PALETTE, 2))
    assert closest[0] >= LEAST_DISTANCE, closest


@pytest.mark.parametrize("colour", PALETTE)
def test_colours_stand_out_on_both_papers(colour: str) -> None:
    own, white, dark = (float(linear(each) @ [0.2126, 0.7152, 0.0722]) for each in (colour, "#fdfdfc", "#14161a"))
    assert (white + 0.05) / (own + 0.05) >= LEAST_CONTRAST
    assert (own + 0.05) / (dark + 0.05) >= LEAST_CONTRAST


def test_every_known_backend_has_a_style_of_its_own() -> None:
    names = ["torch", "jax", "onnxruntime", "cuda", "flax", "torch_compile", "torch_loop", "numpy", "cudnn", "jax_cudnn"]
    assert len({(style(name).colour, style(name).marker) for name in names}) == len(names)
    assert style("a new backend") == style("a new backend")
    together = [name for name in names if name not in ("cudnn", "jax_cudnn")]
    assert len({style(name).colour for name in together}) == len(together)
    assert ordered(["zeta", "numpy", "torch", "alpha", "torch"]) == ["torch", "numpy", "alpha", "zeta"]
    assert style("a new backend").dash != style("torch").dash
