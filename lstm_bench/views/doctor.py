"""What `lstm-bench doctor` prints: what runs here, what is missing and how to get it, and how noisy this machine is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from analysis.report.words import format_percent
from lstm_bench import terminal
from lstm_bench.views import tables

if TYPE_CHECKING:
    from bench.machine.doctor import Finding
    from bench.machine.noise import Reading

READING_SECONDS = 1.0


def doctor(as_json: bool, thorough: bool) -> None:
    """Examine the backends and the machine, and print what was found."""
    from bench.machine import doctor, environment, noise, system

    with _working(f"importing the backends{' and validating their outputs' * thorough}"):
        findings = [finding for finding in doctor.examine(thorough=thorough) if finding.backend != "null"]
        reading = noise.read(READING_SECONDS)
    machine = {
        "cpu": environment.cpu_model(), "processors": len(system.usable()), "gpus": environment.gpu_list(),
        "packages": environment.packages(),
    }  # fmt: skip
    calibrated = _calibration()
    if as_json:
        rows = [asdict(finding) | {"install": finding.install} for finding in findings]
        noisiness = asdict(reading) | {"level": reading.level, "reasons": reading.reasons(), "limits": asdict(noise.LIMITS)}
        return tables.print_json(
            {"machine": machine, "thorough": thorough, "backends": rows, "noise": noisiness, "certificate": calibrated}
        )
    screen = tables.console()
    gpus = "GPUs unknown (there is a driver, and NVML does not answer)"
    if machine["gpus"] is not None:
        gpus = ", ".join(gpu["name"] for gpu in machine["gpus"]) or "no NVIDIA GPU"
    count = machine["processors"]
    screen.print(escape(f"{machine['cpu']}, {count} processor{'s'[: count != 1]}, {gpus}"))
    _show_running(screen, [one for one in findings if one.runs], thorough)
    _show_missing(screen, [one for one in findings if not one.runs], machine["gpus"] != [])
    _show_noise(screen, reading, calibrated)


def _show_running(screen: Console, findings: Sequence[Finding], thorough: bool) -> None:
    _heading(screen, "What runs here")
    if not findings:
        screen.print("no backend")
        return
    if thorough:
        rows = [(one.backend, one.device, one.dtype, one.detail) for one in findings]
        tables.table(("backend", "on", "validated in", "what ran"), rows)
        return
    devices: dict[tuple[str, str], list[str]] = {}
    for one in findings:
        devices.setdefault((one.backend, one.detail), []).append(one.device)
    tables.table(("backend", "on", "with"), [(name, ", ".join(on), detail) for (name, detail), on in devices.items()])
    screen.print("Each was imported. To compute a small network and validate its outputs too:")
    screen.print("   [bold]lstm-bench doctor --thorough[/]")


def _show_missing(screen: Console, findings: Sequence[Finding], has_gpu: bool) -> None:
    _heading(screen, "What is missing, and how to get it")
    if not findings:
        screen.print("nothing")
    failed = [one for one in findings if one.failed]
    not_installed = [one for one in findings if one.absent is not None and not one.failed]
    others = [one for one in findings if one.absent is None and not one.failed]
    for title, of in (("failed", failed), ("not supported here", others)):
        if title != "failed" and not has_gpu:
            without = [one for one in of if one.device == "cuda"]
            of = [one for one in of if one.device != "cuda"]
            if without:
                screen.print(f"[bold]an NVIDIA GPU[/], which {_who(without)} need{'s'[: len(without) == 1]}")
                _indented(screen, "use a machine with one (NVML lists none here)")
        for reason, those in _by_reason(of).items():
            screen.print(f"[bold]{_who(those)}[/]: {title}")
            _indented(screen, reason)
    for reason, those in _by_reason(not_installed).items():
        screen.print(f"[bold]{those[0].absent}[/], which {_who(those)} need{'s'[: len(those) == 1]}")
        if those[0].install:
            _indented(screen, f"[bold]{escape(those[0].install)}[/]", markup=True)
        for_gpu = not has_gpu and all(one.device == "cuda" for one in those)
        _indented(screen, f"{reason}; it also needs an NVIDIA GPU, and there is none here" if for_gpu else reason)


def _by_reason(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for one in findings:
        found.setdefault(one.detail, []).append(one)
    return found


def _who(findings: Sequence[Finding]) -> str:
    """Backends by device: torch and jax on cuda."""
    devices: dict[str, list[str]] = {}
    for one in findings:
        devices.setdefault(one.device, []).append(one.backend)
    return "; ".join(f"{', '.join(names)} on {device}" for device, names in devices.items())


def _indented(screen: Console, text: str, markup: bool = False) -> None:
    screen.print(Padding(text if markup else escape(text), (0, 0, 0, 3), expand=False))


def _show_noise(screen: Console, reading: Reading, calibrated: str | None) -> None:
    _heading(screen, "How noisy this machine is")
    reasons = f": {' and '.join(reading.reasons())}" * bool(reading.reasons())
    load = "" if reading.load_average is None else f"; load average {reading.load_average:.1f}"
    screen.print(f"[bold]{reading.level.capitalize()}[/]{escape(reasons)}.")
    screen.print(
        f"Fixed work took {reading.median_over_fastest:.2f}× its fastest time at the median, "
        f"{reading.p90_over_fastest:.2f}× at p90{load}."
    )
    if reading.detectable is not None:
        screen.print(
            f"Differences from {format_percent(reading.detectable)} on can be told apart by 20 pairs within one process; "
            "between processes, which comparisons use, only larger ones can."
        )
    if reading.others_share is None:
        screen.print("What other processes take of the processors is not known here.")
    if calibrated:
        screen.print(f"Noise calibration of suite quick: {calibrated}")
    else:
        screen.print("The minimum detectable effect on your cases is not measured. Measure it with:")
        screen.print("   [bold]lstm-bench calibrate[/]")
    if reading.level == "quiet":
        return
    screen.print(
        "What to do: close other programs, plug a laptop in, and measure again. Until then trust speedups with their "
        "intervals, not absolute times of different runs. This measures two backends in pairs, which noise hits alike:"
    )
    screen.print("   [bold]lstm-bench compare backend:numpy backend:torch[/]")


def _heading(screen: Console, text: str) -> None:
    screen.print(f"\n[bold underline]{text}[/]")


def _calibration() -> str | None:
    """What the newest calibration of this machine says of suite quick, with all processors; None where there is none."""
    from bench.machine import system

    if not system.MEASURES:
        return None
    from bench.machine import system
    from lstm_bench.commands import compare
    from results import store

    found = compare.here(store.CERTIFICATES, len(system.usable()), "quick")
    return None if found is None else f"{found.sentence} ({found.made[:10]})"


@contextlib.contextmanager
def _working(text: str) -> Iterator[Any]:
    """A line that says what takes time, on a terminal that can take it away again."""
    if not terminal.redraws():
        yield
        return
    with Console(stderr=True).status(f"{text} ...") as status:
        yield status
