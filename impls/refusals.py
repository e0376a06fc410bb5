"""The sentences in which backends refuse. Each returns one with its remedy, or None."""

from __future__ import annotations

from impls.interface import Launch, Phase
from impls.specs.recurrent import Recurrent, Spec


def first(*reasons: str | None) -> str | None:
    """The first reason that applies."""
    return next((reason for reason in reasons if reason), None)


def in_principle(spec: Spec, phase: Phase, ragged: bool) -> str | None:
    """What no backend can do."""
    if phase == "step" and spec.bidirectional:
        return "a bidirectional network cannot stream: its output at t needs the inputs after t; ask for bidirectional=False"
    if phase == "step" and ragged:
        return "lengths mean nothing to a single streaming step; ask for full lengths"
    if ragged and not isinstance(spec, Recurrent):
        return f"a {spec.cell} takes sequences of full length here; ask for ragged=False"
    if spec.dtype == "tensorfloat32" and spec.device != "cuda":
        return "TF32 is how a GPU's tensor cores multiply float32; ask for device=cuda, or for dtype=float32"
    return None


def cell(spec: Spec, *supported: str) -> str | None:
    if spec.cell in supported:
        return None
    return f"this backend runs {', '.join(supported)} and no {spec.cell}; the backends numpy and torch run every network"


def phase(asked: str, *supported: str) -> str | None:
    if asked in supported:
        return None
    return f"this backend runs {', '.join(supported)} and no {asked}; ask for phase={supported[0]}"


def launch(spec: Spec, asked: Launch, supported: tuple[Launch, ...]) -> str | None:
    """`supported`: by the backend, on CUDA."""
    if asked == "eager":
        return None
    if spec.device != "cuda":
        return f"a CUDA graph is launched on a GPU, and this case is on {spec.device}; ask for device=cuda, or for launch=eager"
    if asked not in supported:
        return "this backend's calls cannot be captured in a CUDA graph by the caller; ask for launch=eager"
    return None


def dtype(spec: Spec, *supported: str) -> str | None:
    if spec.dtype in supported:
        return None
    return f"this backend computes in {', '.join(supported)}, not in {spec.dtype}; ask for one of those"


def device(spec: Spec, *supported: str) -> str | None:
    if spec.device in supported:
        return None
    return f"this backend runs on {', '.join(supported)}, not on {spec.device}; ask for device={supported[0]}"


def no_cuda(spec: Spec, framework: str, found: bool) -> str | None:
    """For a backend that runs on CUDA in principle: `found` says whether its framework sees a CUDA device here."""
    if spec.device != "cuda" or found:
        return None
    return (
        f"{framework} finds no CUDA device here; run on a machine with an NVIDIA GPU and a {framework} built for CUDA, "
        "or ask for device=cpu"
    )


def bias(spec: Spec, what: str) -> str | None:
    """`what` is the part that cannot do without: "Flax's OptimizedLSTMCell"."""
    return None if getattr(spec, "bias", True) else f"{what} always has a bias; ask for bias=True, or use the backend jax"


def projection(spec: Spec) -> str | None:
    if not getattr(spec, "proj_size", 0):
        return None
    return "this backend has no projection; ask for proj_size=0, or use the backends numpy or torch"


def one_plain_layer(spec: Spec, ragged: bool, what: str) -> str | None:
    """For a kernel of one layer, one direction and full lengths. `what` is its name: "FlashRNN"."""
    return first(
        None if spec.num_layers == 1 else f"{what} runs a single layer; ask for num_layers=1, or use the backend cudnn",
        None if not spec.bidirectional else f"{what} has one direction; ask for bidirectional=False, or use the backend cudnn",
        None if not ragged else f"{what} knows no lengths; ask for full lengths, or use the backend cuda",
    )
