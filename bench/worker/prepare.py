"""The validation gate: nothing is timed whose answer was not checked.

`prepare` skips a case with a reason, and checks the backend against the float64 reference: the loaded case itself where that is
cheap to compute (see `validated_in_full`), else the reduced case first. Then it checks of the loaded case what ran, that
nothing is NaN, that a prefix of the outputs is right, and that `wait` waits.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

import impls
from bench import costs
from bench.harness.case import Case
from bench.worker import agreement
from impls import Batch, Loaded, Params, SupportsPrefill, frameworks, refusals
from impls.interface import allowed_runs
from impls.specs.residual import Device
from results.record import NOT_MEASURED, PRECISION, SkipKind

NULL = "null"  # the no-op baseline, which times the harness itself: the only backend whose answers are not checked
PREFIX_STEPS, PREFIX_BATCH = 12, 3
# A wait that returned early leaves work for `outputs`; anything shorter than this cannot be told from noise.
UNFINISHED_SECONDS = 2e-3
UNFINISHED_SHARE = 0.5
# NumPy computes so many floating-point operations in float64 and again in float32 within a second or two, once a run.
IN_FULL_FLOPS = 2e10


class Skip(Exception):
    """A backend that cannot or will not run a case; the message is the reason."""

    kind: SkipKind = "unsupported"


class Missing(Skip):
    """A backend whose package or device is not here."""

    kind: SkipKind = "unavailable"


class NotMeasured(Skip):
    """What could run and was not measured: a tool or a kind of device is missing, or there was no time."""

    kind: SkipKind = "not_measured"

    def __init__(self, reason: str) -> None:
        super().__init__(NOT_MEASURED + reason)


class Rejected(Exception):
    """A backend that gave a wrong answer, ran something else than it says, or did not wait."""


@dataclass(slots=True)
class Prepared:
    """A case loaded and called once. `call` launches one timed call, `wait` returns when it is done.

    data: the weights and inputs it was given.
    error: of the first outputs against the float64 reference, relative to the largest of them; of all outputs of the case or
        its reduced one where the first are not compared; None where nothing was.
    """

    case: Case
    backend: str
    data: tuple[Params, Batch]
    loaded: Loaded
    call: Callable[[], None]
    wait: Callable[[], None]
    load_seconds: float
    first_call_seconds: float
    provenance: dict[str, str]
    error: float | None = None


def prepare(case: Case, backend: str) -> Prepared:
    """Raises `Skip` with the reason, or `Rejected`; whatever the backend itself raises passes through."""
    in_full = validated_in_full(case)
    error = validate_backend(case, backend, check_answers=not in_full)
    return verify(load(case, backend), in_full, error)


def validated_in_full(case: Case) -> bool:
    """Whether the loaded case itself is compared with the float64 reference: outputs, final state and every gradient.

    That spares compiling the reduced case, and checks the very program that is timed. Not in 16 bits and TF32, whose naive
    implementation NumPy computes slowly; nor where a stream starts behind a context.
    """
    cheap = case.counts()["flops"] * (case.steps if case.phase == "step" else 1) <= IN_FULL_FLOPS
    return cheap and case.spec.dtype in ("float32", "float64") and not case.remembers


def static_unsupported_reason(case: Case, backend: str) -> str | None:
    """Why the backend cannot run the case, where that is known without importing it; else None."""
    reason = refusals.in_principle(case.spec, case.phase, case.ragged)
    facts = impls.facts(backend)
    reason = reason or refusals.device(case.spec, *facts.devices)
    reason = reason or refusals.cell(case.spec, *facts.cells)
    reason = reason or refusals.phase(case.phase, *facts.phases)
    reason = reason or refusals.dtype(case.spec, *facts.dtypes)
    return reason or refusals.launch(case.spec, case.launch, facts.launches)


def validate_backend(case: Case, backend: str, check_answers: bool = True) -> float | None:
    """The gate before a case is loaded.

    Args:
        case: what is asked for.
        backend: of whom.
        check_answers: also compare its answer to the reduced case with the float64 reference.

    Returns: the error of the outputs then, relative to the largest of them; None where they were not compared.

    Raises:
        Skip: the backend is not available or refuses the case.
        Rejected: its answer is wrong.
    """
    try:
        module = impls.get(backend)
    except impls.Unavailable as reason:
        raise Missing(str(reason)) from reason
    reason = refusals.in_principle(case.spec, case.phase, case.ragged) or module.refuses(case.spec, case.phase, case.ragged)
    reason = reason or refusals.launch(case.spec, case.launch, impls.facts(backend).launches)
    if reason:
        raise Skip(reason)
    if check_answers and backend != NULL:
        try:
            return agreement.check(module, case.reduced_for_validation())
        except agreement.Disagreement as error:
            raise Rejected(str(error)) from error
    return None


def require_device(device: Device) -> None:
    """For what is computed here by PyTorch itself, with no backend that would refuse. Raises `Skip` where there is no such
    device."""
    if device == "cuda":
        import torch  # in a worker alone

        if reason := refusals.no_cuda(impls.LSTMSpec(1, 1, device=device), "torch", torch.cuda.is_available()):
            raise Skip(reason)


def load(case: Case, backend: str, data: tuple[Params, Batch] | None = None) -> Prepared:
    """Put the real case on the device and call it once; nothing is checked yet.

    data: the case's, where it has been drawn already. A stream whose cost grows with what it remembers starts after the T
    tokens of the batch. Raises `costs.DoesNotFit`.
    """
    costs.require(case)
    params, batch = data = data or case.data()
    started = time.perf_counter()
    loaded = impls.get(backend).load(case.spec, params, batch)
    if case.phase == "step" and case.remembers:
        cast(SupportsPrefill, loaded).prefill()
    loaded.wait()
    ready = time.perf_counter()
    call = agreement.call_of(loaded, case)
    call()
    loaded.wait()
    return Prepared(case, backend, data, loaded, call, loaded.wait, ready - started, time.perf_counter() - ready, {})


def verify(prepared: Prepared, in_full: bool = False, error: float | None = None) -> Prepared:
    """Check the loaded case itself, `in_full` with all that its first call computed. Raises `Rejected`.

    error: of the reduced case, which stands for that of a case whose own outputs are not compared.
    """
    case, backend = prepared.case, prepared.backend
    prepared.error = error
    if in_full and backend != NULL:
        prepared.error = _check_in_full(prepared)  # first, since whatever asks what ran calls it again
    with frameworks.kept_profiles(os.environ.get(agreement.REFERENCES), f"{backend} {case.key}"):
        provenance = prepared.loaded.provenance()
    runs = allowed_runs(impls.get(backend), case.launch)
    if provenance.get("ran") not in runs:
        allowed = " or ".join(runs)
        raise Rejected(f"{backend} fell back: {provenance.get('ran')!r} ran where it promises {allowed}")
    precision = impls.facts(backend).precision
    prepared.provenance = provenance | ({PRECISION: precision} if precision else {})
    if backend == NULL:
        return prepared
    _check_wait(prepared)
    found = prepared.loaded.outputs()
    _require_finite(backend, found)
    if case.phase != "step" and not case.spec.bidirectional:
        prepared.error = _check_prefix(found, prepared)
    return prepared


def _require_finite(backend: str, outputs: np.ndarray) -> None:
    if not np.isfinite(outputs).all():
        raise Rejected(f"{backend} returned {int((~np.isfinite(outputs)).sum())} outputs that are NaN or infinite")


def _check_in_full(prepared: Prepared) -> float:
    found = agreement.answer(prepared.loaded, prepared.case, prepared.call)
    _require_finite(prepared.backend, found["outputs"])
    try:
        return agreement.validate(found, prepared.case, impls.facts(prepared.backend).precision)
    except agreement.Disagreement as error:
        raise Rejected(f"{prepared.backend}, {error}") from error


def _check_wait(prepared: Prepared) -> None:
    """The first read of the outputs after `wait` must cost no more than the second: else the work was not done.

    Work left undone is most of the call; judged by the best of five tries, since a busy machine only ever adds time.
    """
    unfinished, shares = [], []
    prepared.loaded.outputs()  # whatever an earlier call left running ends here
    for _ in range(5):
        moments = [time.perf_counter()]
        prepared.call()
        prepared.wait()
        moments.append(time.perf_counter())
        for _ in range(2):
            prepared.loaded.outputs()
            moments.append(time.perf_counter())
        called, first, second = np.diff(moments)
        unfinished.append(first - second)
        shares.append((first - second) / (called + first))
        if unfinished[-1] <= UNFINISHED_SECONDS or shares[-1] <= UNFINISHED_SHARE:
            return
    raise Rejected(
        f"{prepared.backend} does not wait: reading the outputs after wait() took {min(unfinished) * 1e3:.1f} ms longer "
        f"than reading them again ({min(shares):.0%} of the call), so work was still running"
    )


def _check_prefix(found: np.ndarray, prepared: Prepared) -> float:
    """The relative error of the first outputs; `Rejected` if it is too large.

    A causal network's first outputs depend on the first inputs alone, so the reference need not run the whole case.
    """
    case, backend, (params, full) = prepared.case, prepared.backend, prepared.data
    steps, batch = min(case.steps, PREFIX_STEPS), min(case.batch, PREFIX_BATCH)
    prefix = replace(
        full,
        x=full.x[:steps, :batch],
        h0=None if full.h0 is None else full.h0[:, :batch],
        c0=None if full.c0 is None else full.c0[:, :batch],
        lengths=None if full.lengths is None else np.minimum(full.lengths[:batch], steps),
        grad_y=None,
    )

    def outputs(dtype: str) -> np.ndarray:
        computed, rounded = agreement.computed_in(dtype)
        spec = replace(case.spec, dtype=computed, device="cpu")
        on_cpu = replace(case, spec=spec, launch="eager")

        def compute() -> agreement.Answer:
            network = impls.get("numpy").load(spec, rounded(params), prefix)
            network.forward()
            return {"outputs": network.outputs()}

        name = f"the first outputs of {on_cpu.key}" + (f" in {dtype}" if dtype != computed else "")
        return agreement.remembered(name, compute)["outputs"].astype(np.float64)

    exact = outputs("float64")
    dtype = impls.facts(backend).precision or case.spec.dtype
    first, depth = found[:steps, :batch], agreement.depth(case, "outputs")
    if agreement.surely_within(first, exact, dtype, depth):
        return agreement.relative_error(first, exact)
    errors = agreement.naive_errors_of(dtype, lambda dtype: {"outputs": outputs(dtype)}, {"outputs": exact})
    try:
        agreement.compare(f"{case.key}: the first outputs", first, exact, errors["outputs"], dtype, depth)
    except agreement.Disagreement as error:
        raise Rejected(f"{backend}, {error}") from error
    return agreement.relative_error(first, exact)
