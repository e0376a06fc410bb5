"""What memory a control group leaves to this process: a container is killed at its own limit, whatever the machine has free."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

# Of the unified hierarchy and of the older one: limit, use, and the line of memory.stat that can be taken back (cgroups(7)).
UNIFIED = ("memory.max", "memory.current", "inactive_file")
OLDER = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def free_bytes(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """The least that this process's group or one above it leaves; None where no group has a limit."""
    return min((left for folder, names in _groups(root, own) if (left := _left(folder, *names)) is not None), default=None)


def _groups(root: Path, own: Path) -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """Folders of this process's groups that account for memory, and of those above them."""
    for line in own.read_text(encoding="utf-8").splitlines() if own.exists() else ():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, names = (root / "memory", OLDER) if controllers else (root, UNIFIED)
        folder = top / path.lstrip("/")
        yield folder, names
        yield from ((above, names) for above in folder.parents if above.is_relative_to(top))


def _left(folder: Path, limit: str, used: str, reclaimable: str) -> int | None:
    try:
        allowed, taken = _text(folder / limit), int(_text(folder / used))
        stat = dict(line.split() for line in _text(folder / "memory.stat").splitlines())
    except OSError:  # the root has no such files, and a group need not account for memory
        return None
    return None if allowed == "max" else max(0, int(allowed) - taken + int(stat.get(reclaimable, 0)))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()
