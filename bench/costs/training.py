"""What training and judging a language model takes, told before it starts. Imports no framework.

CPU: rounded from the stored runs of `quality` and `context` on one core of an AMD EPYC. CUDA, in bfloat16 by autocast: a
worker's start and an LSTM's step are an H100's (19 µs at H = 768, B = 64 by our kernels; 2026-11-26), the rest is estimated, no
GPU has run it.
"""

from __future__ import annotations

from bench.harness.case import Case
from impls import Spec

VOCABULARIES = {"text": 256}  # the generated sources have 16 tokens
GENERATED = 16
RATE = {"cpu": 8e10, "cuda": 2.5e13}  # FLOP/s of products in float32; on a GPU in bfloat16, casts and small sizes in it
SECONDS_A_STEP = {"cpu": 1.7e-5, "cuda": 2.5e-5}  # of one layer of an LSTM, both ways
SECONDS_A_TOKEN = {"cpu": 5e-6, "cuda": 1.5e-8}  # of one layer of a Transformer, both ways, beside its products
SECONDS_A_LOGIT = {"cpu": 7e-9, "cuda": 3e-11}
START_SECONDS = {"cpu": 2.0, "cuda": 10.0}
ONE_WAY = {"cpu": 0.6, "cuda": 1 / 3}  # of both ways; on a CPU pieces of so many tokens leave the caches
UPDATE_SECONDS = {"cpu": 5e-4, "cuda": 4e-3}  # optimiser, clipping, drawing windows
TOKENS_AT_ONCE = 16_384  # on which a model is judged
POINTS = 6  # of the curve of held-out loss, each at twice the updates of the one before, the last at the end


def vocabulary(case: Case) -> int:
    return VOCABULARIES.get(str(case.factor("source")), GENERATED)


def flops_per_token(spec: Spec, vocabulary: int, steps: int) -> int:
    """Operations of training on one token of a window of `steps`, the head's product included (see `impls.specs.model`)."""
    return spec.sequence_flops(steps, backward=True) // steps + 6 * vocabulary * spec.hidden_size


def update_seconds(case: Case, steps: int, batch: int) -> float:
    """One update on `batch` windows of `steps` tokens."""
    spec, device, tokens = case.spec, case.spec.device, steps * batch
    found = UPDATE_SECONDS[device] + tokens * flops_per_token(spec, vocabulary(case), steps) / RATE[device]
    found += tokens * vocabulary(case) * SECONDS_A_LOGIT[device]
    if spec.cell == "transformer":
        return found + tokens * spec.num_layers * SECONDS_A_TOKEN[device]
    return found + steps * spec.num_layers * SECONDS_A_STEP[device]


def judging_seconds(case: Case, steps: int, windows: int) -> float:
    """One pass over so many windows without gradients, in pieces of `TOKENS_AT_ONCE`."""
    at_once = max(1, min(windows, TOKENS_AT_ONCE // steps))
    return windows / at_once * ONE_WAY[case.spec.device] * update_seconds(case, steps, at_once)
