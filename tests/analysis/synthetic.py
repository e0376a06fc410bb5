"""Runs as the engine writes them, drawn from a seed: known speeds, known noise, refusals, failures; no framework needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from results.record import Footer, Header, Measurement, Record
from results.store import Writer, new_path

SPEED = {"torch": 1.0, "jax": 0.7, "onnxruntime": 1.4, "numpy": 0.15, "cuda": 2.2}
ENVIRONMENT: dict[str, Any] = {
    "cpu": {"model": "Imaginary 9000", "cores": 2, "threads": 4, "governor": "performance"},
    "memory_bytes": 8 * 2**30,
    "os": "Linux 6.1",
    "python": "3.12.4",
    "packages": {"torch": "2.9.0", "jax": "0.8.0", "numpy": "2.3.1", "onnxruntime": "1.23.0"},
    "blas": "OpenBLAS 0.3.29",
    "gpus": [],
    "git": {"commit": "d6ad839", "dirty": False},
    "variables": {"OMP_NUM_THREADS": "2"},
}


@dataclass
class Synthetic:
    """What a synthetic run holds. `noise` is the relative spread within a turn, `between` that of whole replicates."""

    machine: str = "imaginary-cpu"
    run: str = "20261120-120000-abcd"
    backends: tuple[str, ...] = ("torch", "jax", "onnxruntime", "numpy")
    batches: tuple[int, ...] = (1, 8, 32, 128)
    hiddens: tuple[int, ...] = (64, 256, 1024)
    lengths: tuple[int, ...] = (16, 64, 256)
    phases: tuple[str, ...] = ("forward", "forward_backward", "step")
    replicates: int = 3
    noise: float = 0.02
    between: float = 0.01
    samples: int = 12
    turns: int = 3
    device: str = "cpu"
    launches: tuple[str, ...] = ()  # () as records were before there were launch modes
    protocol: int = 1
    started: str = "2026-11-20T12:00:00Z"
    seed: int = 0
    memory: bool = True
    ceilings: bool = True
    overhead: bool = True
    refusals: bool = True
    environment: dict[str, Any] = field(default_factory=lambda: dict(ENVIRONMENT))


def parameters(steps: int, batch: int, hidden: int, phase: str, device: str) -> dict[str, Any]:
    return {
        "cell": "lstm", "input_size": hidden, "hidden_size": hidden, "num_layers": 1, "bias": True, "bidirectional": False,
        "dtype": "float32", "device": device, "proj_size": 0, "steps": steps, "batch": batch, "phase": phase,
        "ragged": False, "initial_state": False, "seed": 0,
    }  # fmt: skip


def counts(values: dict[str, Any]) -> dict[str, float]:
    hidden, batch, steps, training = (
        values["hidden_size"],
        values["batch"],
        values["steps"],
        values["phase"] == "forward_backward",
    )
    tokens = batch if values["phase"] == "step" else steps * batch
    weights = 4 * hidden * 2 * hidden + 8 * hidden
    return {
        "tokens": tokens, "flops": tokens * 16 * hidden**2 * (3 if training else 1), "parameters": weights,
        "parameter_bytes": 4 * weights, "state_bytes": 8 * hidden * batch,
        "least_bytes": (2 if training else 1) * (4 * weights + tokens * 8 * hidden),
        "model_bytes": 4 * weights + tokens * hidden * (36 if training else 12),
    }  # fmt: skip


def case_key(values: dict[str, Any]) -> str:
    sizes = "lstm-I{input_size}-H{hidden_size}-T{steps}-B{batch}-{phase}-{dtype}-{device}"
    return sizes.format(**values) + ("-graph" if values.get("launch") == "graph" else "")


def seconds(values: dict[str, Any], backend: str) -> float:
    """A believable time a call: so many GFLOP/s at full batch, a price a step, and a price a call."""
    flops, speed = counts(values)["flops"], SPEED.get(backend, 1.0)
    steps = 1 if values["phase"] == "step" else values["steps"]
    rate = 6e10 * min(1.0, (values["batch"] + 2) / 34)
    launch = {"jax": 3e-5, "numpy": 6e-6}.get(backend, 1e-5)
    launch = {"graph": 0.0, "eager": 2e-3}.get(values.get("launch", ""), launch)
    return (flops / rate + steps * 2e-6) / speed + launch


def cases(what: Synthetic) -> list[dict[str, Any]]:
    middle_batch, middle_hidden = what.batches[len(what.batches) // 2], what.hiddens[len(what.hiddens) // 2]
    grid = [(64, batch, hidden) for batch in what.batches for hidden in what.hiddens]
    grid += [(steps, middle_batch, middle_hidden) for steps in what.lengths if steps != 64]
    found = []
    for phase in what.phases:
        sizes = [(1, batch, hidden) for batch in (1, 8) for hidden in what.hiddens] if phase == "step" else grid
        found += [parameters(steps, batch, hidden, phase, what.device) for steps, batch, hidden in sizes]
    return [values | {"launch": launch} for launch in what.launches for values in found] or found


def records(what: Synthetic) -> list[Record]:
    random = np.random.default_rng(what.seed)
    made: list[Record] = []
    for replicate in range(what.replicates):
        for values in cases(what):
            drift = random.normal(0, 2 * what.between)
            made += [_timed(what, values, backend, replicate, drift, random) for backend in what.backends]
        if what.memory:
            made += (
                [_memory(what, values, backend) for values in cases(what) for backend in what.backends] if not replicate else []
            )
        made += _machine(what, replicate, random)
    return made


def _timed(what: Synthetic, values: dict[str, Any], backend: str, replicate: int, drift: float, random: Any) -> Record:
    common: dict[str, Any] = {
        "study": "throughput", "case": case_key(values), "backend": backend, "replicate": replicate, "parameters": values,
    }  # fmt: skip
    if what.refusals and backend == "onnxruntime" and values["phase"] == "forward_backward":
        return Record(**common, status="skipped", reason="onnxruntime has no backward pass; choose phase forward or step")
    if what.refusals and backend == "numpy" and values["hidden_size"] >= 1024 and values["batch"] >= 128:
        return Record(**common, status="failed", kind="timeout", reason="no answer within 60 s; choose smaller sizes")
    typical = seconds(values, backend) * np.exp(drift + random.normal(0, what.between))
    samples = typical * np.exp(np.abs(random.normal(0, what.noise, what.samples)))
    per_turn = (what.samples // what.turns,) * what.turns
    notes = ("no_steady_state",) if random.random() < 0.03 else ()
    notes += ("host_bound",) if values.get("launch") == "eager" else ()
    measurements = [
        Measurement("time", "s", tuple(samples), per_turn if sum(per_turn) == what.samples else (), notes),
        Measurement("first_call", "s", (typical * 3 + (0.4 if backend == "jax" else 0.01),)),
    ]
    if what.device == "cuda":
        share = 0.95 if values.get("launch") == "eager" else 0.4
        measurements.append(Measurement("host_time", "s", tuple(samples * share)))
    return Record(
        **common, status="ok", measurements=tuple(measurements), counts=counts(values), provenance={"kernel": backend}
    )


def _memory(what: Synthetic, values: dict[str, Any], backend: str) -> Record:
    model, metric = counts(values)["model_bytes"], "device_peak" if what.device == "cuda" else "rss_peak"
    used = 6e6 + model * {"jax": 1.6, "numpy": 2.4}.get(backend, 1.2)
    return Record(
        "memory",
        case_key(values),
        backend,
        0,
        "ok",
        values,
        counts=counts(values),
        measurements=(Measurement(metric, "B", (used,)),),
    )


def _machine(what: Synthetic, replicate: int, random: Any) -> list[Record]:
    at = {"dtype": "float32", "device": what.device}
    rates = (Measurement("gemm", "FLOP/s", tuple(9e10 * random.normal(1, 0.01, 5))),
             Measurement("copy", "B/s", tuple(1.4e10 * random.normal(1, 0.01, 5))))  # fmt: skip
    made = [Record("ceilings", f"ceilings-float32-{what.device}", "machine", replicate, "ok", at, measurements=rates)]
    nothing = Measurement("time", "s", tuple(2.1e-7 * random.normal(1, 0.02, 20)))
    price = Record("overhead", "overhead", "null", replicate, "ok", {"device": what.device}, measurements=(nothing,))
    return made * what.ceilings + [price] * what.overhead


def write(what: Synthetic, root: Path, complete: bool = True) -> Path:
    """Store the run below `root` and return its file."""
    plan = {
        "suite": "quick", "studies": ["throughput", "memory", "ceilings", "overhead"], "backends": list(what.backends),
        "replicates": what.replicates,
    }  # fmt: skip
    header = Header(what.run, what.started, what.protocol, what.machine, what.environment, plan)
    path = new_path(root, header)
    writer = Writer(path)
    text = [header, *records(what), Footer("2026-11-20T12:02:41Z", complete, 161.0, 97.0)]
    for line in text:
        writer.append(line)
    writer.close()
    return path
