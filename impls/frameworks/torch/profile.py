"""What a call runs, by PyTorch's profiler."""

from __future__ import annotations

from collections.abc import Callable

import torch

from impls import profiles


def names_of(call: Callable[[], None], device: torch.device) -> list[str]:
    """Every operator, call of CUDA's runtime and kernel of one call; the call may have been seen by another process of the run
    (see `impls.profiles`)."""
    return profiles.names(lambda: _seen(call, device))


def _seen(call: Callable[[], None], device: torch.device) -> list[str]:
    if device.type != "cuda":
        # `torch.profiler` would import 800 modules on first use, among them Dynamo: more than a second a process.
        profile = torch.autograd.profiler.profile()
        with profile:
            call()
        return [event.name for event in profile.function_events or ()]
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        call()
        torch.cuda.synchronize(device)
    return [event.name for event in profile.events() or ()]
