"""The machine and the software a run was made on, and whose commit the code is; found without importing a framework."""

from __future__ import annotations

import hashlib
import hmac
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import git, system

ROOT = Path(__file__).resolve().parents[2]
PROTOCOL = 2  # raised whenever numbers stop being comparable; see docs/measurement.md
PACKAGES = ("numpy", "torch", "triton", "jax", "jaxlib", "flax", "onnxruntime", "lstm-bench")
MEASURED = ("runs", "reference", "comparisons", "certificates", "history", "asv")  # folders of results that hold data
WORKER_PACKAGES = ("impls", "bench", "results")  # what a worker runs
SOURCES = (".py", ".cu", ".cuh", ".cpp", ".hpp", ".h", ".json")
# Of a repository's status: what is measured there, and what Python writes beside the code that it runs.
NOT_CODE = (*(f":!results/{name}" for name in MEASURED), ":(exclude,glob)**/__pycache__/**")
GIT_SECONDS = 60.0  # once a run; `git status` of a large tree on a network disk is slow
SYSCTL_SECONDS = 10.0
HOST_VARIABLE = "LSTM_BENCH_HOST"
DRIVER_DEVICE = Path("/dev/nvidiactl")  # is there where NVIDIA's driver is loaded
# Variables that change speed or results and that people forget they have set.
VARIABLES = re.compile(
    r"^(OMP_|KMP_|GOMP_|MKL_|OPENBLAS_|BLIS_|XLA_|JAX_|TORCH_|TORCHINDUCTOR_|PYTORCH_|CUDA_|CUBLAS_|CUDNN_|NVIDIA_)"
    r"|^TF_(CPP|XLA|ENABLE)_|^LD_PRELOAD$"
)


def describe(threads: int) -> dict[str, Any]:
    """Everything a reader needs to judge or repeat a run; plain values. Raises `UnsupportedSystem` on Windows."""
    if sys.platform == "win32":
        raise system.UnsupportedSystem
    gpus = gpu_list()
    return {
        "cpu": {
            "model": cpu_model(),
            "cores": os.cpu_count(),
            "usable_cores": len(system.usable()),
            "threads": threads,
            "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or "not exposed",
        },
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "os": platform.platform(),
        "python": platform.python_version(),
        "packages": packages(),
        "blas": _blas(),
        "gpus": gpus,
        "host": host(),
        "code": code_hash(),
        "git": git_state(),
        "variables": {name: value for name, value in sorted(os.environ.items()) if VARIABLES.search(name)},
    }


def machine_name(environment: dict[str, Any]) -> str:
    """Short and stable for one kind of machine: readable processor, cores, and a hash of what makes it comparable."""
    cpu, gpus = environment["cpu"], environment["gpus"]
    names = None if gpus is None else [gpu["name"] for gpu in gpus]  # not known is another machine than without one
    identity = [cpu["model"], cpu["cores"], round(environment["memory_bytes"] / 2**30), names]
    digest = hashlib.sha256(repr(identity).encode()).hexdigest()[:6]
    what = gpus[0]["name"] if gpus else f"{cpu['model']}-{cpu['cores']}c" + "-gpus-unknown" * (gpus is None)
    slug = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\(R\)|\(TM\)|processor|cpu|nvidia", "", what, flags=re.IGNORECASE).lower())
    return f"{slug.strip('-')}-{digest}"


def host() -> str | None:
    """Tells apart two hosts of one model, by a keyed hash as machine-id(5) asks for, from which none can be recognised.

    HOST_VARIABLE stands in for the identity where a pool of hosts is to count as one. None where nothing identifies it.
    """
    identity = os.environ.get(HOST_VARIABLE) or _read("/etc/machine-id")
    if not identity:
        return None
    return hmac.digest(b"lstm-bench", f"{identity} {cpu_model()} {os.cpu_count()}".encode(), "sha256").hex()[:8]


def continues(environment: dict[str, Any]) -> dict[str, Any]:
    """What must not have changed for measurements to be continued, as far as the environment says it: software, host, code."""
    return {name: environment.get(name) for name in ("python", "packages", "host", "code")}


def cpu_model() -> str:
    """The processor as the system names it."""
    names = re.findall(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), flags=re.MULTILINE)
    return names[0].strip() if names else _sysctl("machdep.cpu.brand_string") or platform.processor() or platform.machine()


def _sysctl(name: str) -> str:
    """What macOS says of itself under this name; Python's own `platform` calls every processor of Apple's `arm`."""
    if sys.platform != "darwin":
        return ""
    try:
        answer = subprocess.run(["/usr/sbin/sysctl", "-n", name], capture_output=True, encoding="utf-8", timeout=SYSCTL_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip()


def packages() -> dict[str, str]:
    """Installed versions, by package name; absent ones are left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def gpu_list() -> list[dict[str, Any]] | None:
    """GPUs by NVML, with driver and CUDA version; empty where there is no NVIDIA driver.

    None where it is not known: there is a driver, and NVML is not here or does not answer. A single value that NVML does not
    tell is None.
    """
    try:
        import pynvml
    except ImportError:
        return None if DRIVER_DEVICE.exists() else []
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):  # pyright: ignore[reportAttributeAccessIssue]
        return None if DRIVER_DEVICE.exists() else []
    except pynvml.NVMLError:
        return None

    def asked(call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except pynvml.NVMLError:  # as of a card that does not support it
            return None

    found = []
    for handle in handles:
        memory, limit = (
            asked(call, handle) for call in (pynvml.nvmlDeviceGetMemoryInfo, pynvml.nvmlDeviceGetPowerManagementLimit)
        )
        found.append({
            "name": asked(pynvml.nvmlDeviceGetName, handle) or "unknown NVIDIA GPU",
            "memory_bytes": None if memory is None else memory.total,
            "power_limit_watts": None if limit is None else limit / 1e3,
            "driver": asked(pynvml.nvmlSystemGetDriverVersion),
            "cuda": asked(pynvml.nvmlSystemGetCudaDriverVersion),
        })  # fmt: skip
    return found


def git_state(root: Path = ROOT, code: Sequence[Path] | None = None) -> dict[str, Any]:
    """The commit that holds the code below `root`, its date, and whether the code differs from it (measured data aside).

    code: the files that count as the code, relative to `root`, in a repository that is known to be its own; else they are the
    sources of this project, and the repository may be another's.

    None stands for what is not known, and `reason` says why: `commit` where no repository tracks the code, be it that the tree
    was copied into another project's repository or that git refuses to answer; `dirty` where git could not compare.
    """
    sources = {path.as_posix() for path in (code or (path.relative_to(root) for path in _sources(root)))}
    where = WORKER_PACKAGES if code is None else [f":(literal){path}" for path in sorted(sources)]
    listed = git.ask(root, "ls-files", "-z", "--", *where, seconds=GIT_SECONDS)
    tracked, reason = set(listed.text.split("\0")), listed.failure
    if code is None and reason is None and not tracked & sources:
        reason = f"the repository that {root} lies in does not track its code"
    named = git.ask(root, "show", "-s", "--format=%H %cI", "HEAD", seconds=GIT_SECONDS)
    if reason is None:
        reason = named.failure
    if reason is not None:
        return {"commit": None, "committed": None, "dirty": None, "reason": reason}
    commit, committed = named.text.split()
    changes = git.ask(
        root, "status", "--porcelain", "--untracked-files=normal", "--", ".", *NOT_CODE, seconds=GIT_SECONDS,
    )  # fmt: skip
    if sources - tracked:  # also what the repository ignores, which its status does not say
        return {"commit": commit, "committed": committed, "dirty": True}
    if changes.failure is not None:
        return {"commit": commit, "committed": committed, "dirty": None, "reason": changes.failure}
    return {"commit": commit, "committed": committed, "dirty": bool(changes.text)}


def code_hash(root: Path = ROOT) -> str:
    """Of every source that a worker may run, committed or not; what is written about it, and measured by it, does not count."""
    found = hashlib.sha256()
    for path in _sources(root):
        found.update(f"{path.relative_to(root).as_posix()} {path.stat().st_size}\n".encode() + path.read_bytes())
    return found.hexdigest()[:16]


def _sources(root: Path) -> Iterator[Path]:
    for package in WORKER_PACKAGES:
        for path in sorted((root / package).rglob("*")):
            parts = path.relative_to(root).parts
            if path.suffix in SOURCES and not (parts[0] == "results" and parts[1] in MEASURED):
                yield path


def _blas() -> str:
    information = np.show_config(mode="dicts")
    blas = information.get("Build Dependencies", {}).get("blas", {}) if isinstance(information, dict) else {}
    return f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""
