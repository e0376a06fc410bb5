"""What `make` installs with: picks the build of PyTorch, says how large the download is, then runs pip.

`python install.py PIP` installs this checkout with what running needs, `python install.py PIP dev` adds the tools of
development. With an NVIDIA driver, and on macOS, PyTorch comes from the configured index (PyPI's build for Linux is the one
with CUDA); without a driver from PyTorch's index of CPU builds; where that does not answer, from the configured index.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
INDEX_VARIABLE = "TORCH_CPU_INDEX"  # a mirror of PyTorch's index, for networks that have one
ANSWER_SECONDS = 5.0
EXTRAS = ("torch", "jax", "baselines")
# Against the metadata of what asks for others, so after it and without dependencies. PyTorch's CUDA build asks for NVRTC
# 13.0.88, which spills registers in 8 configurations of our cluster kernels (sm_90a and sm_100); 13.5.37 does not and has the
# same library name, so that PyTorch uses it too. Apache Otava asks for older NumPy and SciPy and does not need them.
NVRTC = "nvidia-cuda-nvrtc==13.5.37"
OTAVA = "apache-otava==0.8.0"
# Sizes of the wheels by PyPI's metadata for Python 3.12, 2026-11, everything pinned: 3.0 GB on x86-64, 3.2 GB on aarch64, of
# which torch, triton and nvidia-* are 2.7 and 2.9 GB; on macOS 350 MB, of which torch is 111 MB. The CPU build of torch for
# x86-64 has 192 MB.
CUDA_BUILD = "about 3 GB to download in all"
CPU_BUILD = "about 200 MB, 500 MB to download in all"
MAC_BUILD = "about 110 MB, 350 MB to download in all"
_ASK = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=float(sys.argv[2])).close()"


def has_nvidia_driver() -> bool:
    """Whether an NVIDIA driver is installed: its tool is on PATH or its library loads."""
    if shutil.which("nvidia-smi"):
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def answers(index: str) -> bool:
    """Whether an index serves its page of torch within `ANSWER_SECONDS`, the time to resolve its name included."""
    command = [sys.executable, "-c", _ASK, f"{index}/torch/", str(ANSWER_SECONDS)]
    try:
        return subprocess.run(command, capture_output=True, timeout=ANSWER_SECONDS).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def choose(index: str) -> tuple[str, list[list[str]]]:
    """Pick the build of PyTorch.

    Returns: a sentence that says which it is and how large, and the arguments of each call of `pip install`.
    """
    everything = ["--editable", f".[{','.join(EXTRAS)}]"]
    if sys.platform == "darwin":
        return f"PyTorch for macOS from the configured index: {MAC_BUILD}.", [everything]
    if has_nvidia_driver():
        with_cuda = ["--editable", f".[{','.join((*EXTRAS, 'cuda'))}]"]
        return f"An NVIDIA driver is here: PyTorch from the configured index, on PyPI with CUDA: {CUDA_BUILD}.", [
            with_cuda,
            _alone(NVRTC),
        ]
    if answers(index):
        # Without dependencies, lest they come from there too: that index has few versions of them.
        cpu_build = ["--no-deps", "--index-url", index, "torch"]
        return f"No NVIDIA driver is here: PyTorch's CPU build from {index}: {CPU_BUILD}.", [cpu_build, everything]
    return (
        f"No NVIDIA driver is here, and {index} did not answer within {ANSWER_SECONDS:.0f} s: PyTorch from the configured "
        f"index. A CPU build, if it has one, is {CPU_BUILD}; PyPI's for Linux has CUDA: {CUDA_BUILD}."
    ), [everything]


def _alone(package: str) -> list[str]:
    return ["--no-deps", package]


def tools() -> list[list[str]]:
    """The arguments of each call of `pip install` that adds the tools of development, and what tests compile kernels with."""
    everything = ["--editable", f".[{','.join((*EXTRAS, 'cuda', 'fleet', 'dev'))}]"]
    return [everything, _alone(OTAVA), *([_alone(NVRTC)] if sys.platform == "linux" else [])]


def main(pip: str, what: str = "running") -> int:
    """Install with this pip. Returns its exit status."""
    if what == "dev":
        calls = tools()
    else:
        said, calls = choose((os.environ.get(INDEX_VARIABLE) or CPU_INDEX).rstrip("/"))
        print(f"{said}\nInstalling takes a few minutes, most of it the download.", flush=True)
    for arguments in calls:
        limits = [] if arguments in (_alone(OTAVA), _alone(NVRTC)) else ["--constraint", "constraints.txt"]
        status = subprocess.run([pip, "install", "--quiet", *limits, *arguments]).returncode
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
