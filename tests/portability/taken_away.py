"""Takes from this process what another operating system does not have: code that needs it fails here as it would there.

What third parties have imported before stays theirs. Files of Linux, such as those below /proc, are not there any more.
"""

from __future__ import annotations

import builtins
import importlib.abc
import io
import mmap
import os
import select
import signal
import sys
import sysconfig
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

FILES_OF_LINUX = ("/proc", "/sys", "/etc/machine-id")
NOT_ON_MACOS = {
    "os": "eventfd memfd_create pidfd_open pipe2 posix_fadvise sched_getaffinity sched_setaffinity".split(),
    "select": ["epoll"],
}
MODULES_NOT_ON_WINDOWS = ("fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty")
SIGNALS_ON_WINDOWS = ("SIGABRT", "SIGBREAK", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM", "SIG_DFL", "SIG_IGN")
# Names of `os` by how they begin, from the functions that Python's documentation calls "Availability: Unix".
NOT_ON_WINDOWS = tuple(
    """CLD_ EX_ F_ GRND_ NGROUPS_MAX O_ASYNC O_CLOEXEC O_DIRECT O_DSYNC O_NDELAY O_NOATIME O_NOCTTY O_NOFOLLOW O_NONBLOCK O_PATH
    O_RSYNC O_SYNC O_TMPFILE POSIX_ PRIO_ P_ALL P_PGID P_PID RTLD_ SCHED_ SEEK_DATA SEEK_HOLE ST_ WCONTINUED WCOREDUMP WEXIT WIF
    WNO WSTOP WTERM WUNTRACED XATTR_ chown chroot confstr copy_file_range ctermid eventfd fchdir fchown fdatasync fork fpathconf
    fstatvfs getegid geteuid getgid getgroups getloadavg getpgid getpgrp getpriority getrandom getresgid getresuid getsid getuid
    getxattr initgroups killpg lchown listxattr lockf major makedev memfd_create minor mkfifo mknod nice openpty pathconf
    pidfd_open pipe2 posix_ pread preadv pwrite pwritev readv removexattr sched_ sendfile setegid seteuid setgid setgroups
    setpgid setpriority setregid setresgid setresuid setreuid setsid setuid setxattr splice statvfs sync sysconf
    tcgetpgrp tcsetpgrp ttyname uname wait writev""".split()
)
KEPT = ("F_OK", "waitpid", "waitstatus_to_exitcode")  # on Windows too


def as_on_macos() -> None:
    """Leave what macOS has. To be called before anything is measured, in every process."""
    sysconfig.get_config_vars()  # of this Python, from a file that is named by the platform
    sys.platform = "darwin"
    for module, names in NOT_ON_MACOS.items():
        _without(sys.modules[module], lambda name, names=names: name in names)
    _hide_files(FILES_OF_LINUX)


def as_on_windows() -> None:
    """Leave what Windows has. To be called when every third party's module is imported, since they choose by the platform.

    `os.name` stays, by which the standard library chooses how paths are written.
    """
    sys.platform = "win32"
    for name in MODULES_NOT_ON_WINDOWS:
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, Absent(MODULES_NOT_ON_WINDOWS))
    _without(os, lambda name: name.startswith(NOT_ON_WINDOWS) and name not in KEPT)
    _without(signal, lambda name: name.startswith("SIG") and name not in SIGNALS_ON_WINDOWS)
    _without(select, lambda name: name.startswith(("poll", "POLL", "epoll", "EPOLL")))
    _without(mmap, lambda name: name.startswith(("PROT_", "MAP_")))
    _hide_files((*FILES_OF_LINUX, "/etc", "/dev/shm"))


class Absent(importlib.abc.MetaPathFinder):
    """Says of some modules that they are not there."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname in self.names:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return None


def _without(module: ModuleType, absent: Callable[[str], bool]) -> None:
    for name in [name for name in vars(module) if absent(name)]:
        delattr(module, name)


def _hide_files(hidden: tuple[str, ...]) -> None:
    def guarded(usual: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any = ".", *arguments: Any, **options: Any) -> Any:
            if isinstance(path, str | bytes | os.PathLike):
                name = os.fsdecode(path)
                if any(name == one or name.startswith(f"{one}/") for one in hidden):
                    raise FileNotFoundError(2, "No such file or directory", name)
            return usual(path, *arguments, **options)

        return call

    for name in ("open", "stat", "lstat", "listdir", "scandir", "access"):
        setattr(os, name, guarded(getattr(os, name)))
    io.open = builtins.open = guarded(io.open)
