"""What Linux says of a process in /proc/PID/stat (proc_pid_stat(5))."""

from __future__ import annotations

from pathlib import Path

PARENT, TIMES, STARTED = 1, slice(11, 15), 19  # utime stime cutime cstime; in clock ticks, as the moment it started


def fields(pid: int | str) -> list[str]:
    """The fields after the name of the program, which may hold anything. Raises `OSError` where there is no such process."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
